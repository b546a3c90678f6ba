"""Validates a config before anything is built; see `check`.

Keys and types are compared with the defaults, values with the rules below, and names and options
with the registries, whose entries validate their own options.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.config import (
    DURATION_REQUIREMENT,
    SPEC_KEYS,
    Config,
    defaults,
    is_duration,
    stage_values,
    to_dict,
)
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.paths import LOCAL_FOLDER_REQUIREMENT, is_local
from affect_jax.core.registry import (
    MAX_OPTION,
    Registry,
    describe_unknown_name,
    import_modules,
    matches_type,
    suggest_name,
)

FREE_KEYS = ("data.options", "data.label_noise")
"""Keys of mappings whose content depends on a registered entry, which checks it."""

ScoreNameValidator = Callable[[str, Sequence[str], Sequence[str]], str | None]
"""(score name, heads, classes) -> why a model with these heads has no such score, or None."""


def check(
    config: Config,
    *,
    registries: Mapping[str, Registry],
    validate_score_name: ScoreNameValidator = lambda *_: None,
    num_devices: int = 1,
    name: str = "config",
) -> None:
    """Imports the modules of `config.imports`; checks a config before data are read or written.

    **Arguments:**

    - `registries`: kind -> registry, see `experiment.load_registries`; other kinds are not checked.
    - `validate_score_name`: validates the name of a score, see `protocol.validate_score_name`.
    - `num_devices`: devices of all processes, over which a training batch is split.
    - `name`: name of the config in the message, usually its file.

    **Raises:** `UserError` with all problems, one per line.
    """
    values = to_dict(config)
    configs = {"": values}
    if _are_stages(values.get("stages")):
        configs |= {f"stages[{i}].": stage for i, stage in enumerate(stage_values(values))}
    problems: list[str] = []
    for prefix, stage in configs.items():
        stage_problems = list(_find_key_problems(stage, to_dict(defaults()), ""))
        # Ranges and options can be checked only for keys that exist and have the right type.
        if not stage_problems:
            import_modules(config.imports)
            stage_problems += _find_value_problems(stage, num_devices)
            stage_problems += _find_registry_problems(stage, registries, num_devices)
            heads_are_valid = not any(text.startswith("heads") for text in stage_problems)
            if heads_are_valid:  # they name the scores
                stage_problems += _find_evaluation_problems(stage, validate_score_name)
        problems += [prefix + text for text in stage_problems if text not in problems]
    if len(problems) == 1:
        raise UserError(f"{name}: {problems[0]}")
    if problems:
        raise UserError(f"{name} has {len(problems)} problems", problems)


def _find_key_problems(values: dict, default_values: dict, prefix: str) -> Iterator[str]:
    """Yields unknown keys, missing keys and wrong types."""
    for key in sorted(set(values) - set(default_values)):
        yield f"{prefix}{key} = {values[key]!r}: no such key; {suggest_name(key, default_values)}"
    for key in sorted(set(default_values) - set(values)):
        yield f"{prefix}{key}: missing"
    for key in sorted(set(default_values) & set(values)):
        value, default, path = values[key], default_values[key], prefix + key
        if not matches_type(value, type(default)):
            expected = type(default).__name__
            yield f"{path} = {value!r}: must be {expected}, not {type(value).__name__}"
        elif isinstance(default, dict) and path not in (*SPEC_KEYS, *FREE_KEYS):
            optional = {"epochs": 0.0, "steps": 0} if set(default) == {"epochs", "steps"} else {}
            yield from _find_key_problems({**optional, **value}, default, f"{path}.")


def _at_least(minimum: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: minimum <= value < 2**31, f"{minimum} or more, and below 2^31"


def _one_of(*choices: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in choices, f"one of {', '.join(choices)}"


def _are_unique(items: list) -> bool:
    """Whether no head, or pair of a loss term and its head, is repeated.

    Types are checked elsewhere, so an item may be anything.
    """
    names = [
        str([item.get("name"), item.get("head")] if isinstance(item, dict) else item)
        for item in items
    ]
    return len(set(names)) == len(names) > 0


def _are_stages(stages: Any) -> bool:
    return isinstance(stages, list) and all(
        isinstance(changes, dict) and not {"imports", "init_from", "stages"} & set(changes)
        for changes in stages
    )


def _are_names(names: list) -> bool:
    return not names or (_are_unique(names) and all(n and isinstance(n, str) for n in names))


_DURATION = (is_duration, DURATION_REQUIREMENT)

VALUE_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda seed: 0 <= seed < 2**32, "in [0, 2^32)"),
    "data.manual_dir": (is_local, LOCAL_FOLDER_REQUIREMENT),
    "data.image_size": (lambda size: 16 <= size <= 1024, "between 16 and 1024"),
    "data.crop_size": _at_least(16),
    "data.num_classes": _at_least(2),
    "data.action_units": _one_of("annotated", "estimated", "auto"),
    "data.cache": _one_of("none", "host", "device", "auto"),
    "data.num_workers": (lambda count: 0 <= count <= 256, "between 0 and 256"),
    "data.prefetch": _at_least(1),
    "heads": (_are_unique, "one or more heads, each once"),
    "losses": (_are_unique, "one or more terms, each once for a head"),
    "init_outputs": (_are_names, "(), or names, each once"),
    "stages": (_are_stages, "mappings of keys to values; without imports, init_from and stages"),
    "dtype": _one_of("float32", "bfloat16"),
    "batch_size": _at_least(1),
    "duration": _DURATION,
    "stop_after": (
        lambda value: not any(value.values()) or is_duration(value),
        f"0, or {DURATION_REQUIREMENT}",
    ),
    "learning_rate": (lambda rate: 0 < rate < MAX_OPTION, "positive, and finite"),
    "ema_decay": (lambda decay: 0 <= decay < 1, "in [0, 1)"),
    "evaluate_every": _DURATION,
    "evaluation.batch_size": _at_least(1),
    "evaluation.draws": (lambda count: 1 <= count <= 100_000, "between 1 and 100,000"),
    "checkpoint.every": _DURATION,
    "checkpoint.keep_last": _at_least(1),
    "log_every": _at_least(1),
    "loggers": (_are_names, "(), or names, each once"),
    "skip_nonfinite": _at_least(0),
    "images_every": _DURATION,
}
"""Key -> condition, and what must hold."""

BUILT_IN_DATASETS = ("affectnet", "synthetic_faces")
"""Datasets whose splits and classes are known before they are prepared."""


def _find_value_problems(values: dict, num_devices: int) -> Iterator[str]:
    for key, (is_valid, requirement) in VALUE_RULES.items():
        value = functools.reduce(operator.getitem, key.split("."), values)
        if not is_valid(value):
            yield f"{key} = {value!r}: must be {requirement}"
    data, batch_size = values["data"], values["batch_size"]
    if data["name"] == "affectnet" and data["num_classes"] not in (7, 8):
        yield f"data.num_classes = {data['num_classes']}: must be 7 or 8 on AffectNet"
    if any(values["stop_after"].values()) and not values["checkpoint"]["best"]:
        yield "stop_after: needs checkpoint.best, the score that must improve"
    if data["crop_size"] > data["image_size"]:
        yield f"data.crop_size = {data['crop_size']}: must be at most data.image_size"
    if batch_size > 0 and batch_size % num_devices:
        nearest = num_devices * max(1, round(batch_size / num_devices))
        yield (
            f"batch_size = {batch_size}: must be a multiple of {num_devices} devices; the "
            f"nearest is {nearest}"
        )


SUPPLIED_ARGUMENTS: dict[str, dict[str, Any]] = {
    "dataset": {"manual_dir": "", "data_dir": "", "image_size": 256},
    "sampling": {},
    "augmentation": {"num_classes": 8},
    "label_noise": {"num_classes": 8},
    "trunk": {"dtype": "float32"},
    "loss": {"class_counts": np.ones(8), "unit_frequencies": np.full(1, 0.5)},
    "schedule": {"learning_rate": 0.1, "steps_per_epoch": 1, "total_steps": 10**9},
    "optimizer": {"schedule": lambda step: 0.1, "trunk": None},
    "logger": {"folder": "", "start": 0},
}
"""Keyword arguments that code supplies and a spec may not set, by kind of registry. Their values
are placeholders with which an entry is created to validate its options."""


def _find_registry_problems(
    values: dict, registries: Mapping[str, Registry], num_devices: int
) -> Iterator[str]:
    """Yields unknown names and invalid options of specs and heads."""
    specs = [(key, key, values[key]) for key in SPEC_KEYS]
    specs += [(f"losses[{i}]", "loss", term) for i, term in enumerate(values["losses"])]
    augment = values["data"]["augment"]
    specs += [(f"data.augment[{i}]", "augmentation", spec) for i, spec in enumerate(augment)]
    specs += [("data", "dataset", {**values["data"]["options"], "name": values["data"]["name"]})]
    if noise := dict(values["data"]["label_noise"]):
        specs += [("data.label_noise", "label_noise", {"name": noise.pop("kind", ""), **noise})]
    created: dict[str, Any] = {}
    for path, kind, spec in specs:
        if kind not in registries:
            continue
        supplied = SUPPLIED_ARGUMENTS[kind]
        if "num_classes" in supplied:
            supplied = {"num_classes": values["data"]["num_classes"]}
        if kind == "optimizer":
            supplied = {**supplied, "trunk": created.get("trunk")}
        problems = registries[kind].find_problems(spec, supplied)
        if not problems and kind != "dataset":  # creating a dataset checks its options later
            try:
                created[kind] = registries[kind].create(spec, **supplied)
            except UserError as error:
                problems = [str(error)]
        for problem in problems:
            if kind == "label_noise":  # its name has another key
                problem = problem.replace("name =", "kind =")
            yield f"{path}.{problem.removeprefix(f'{kind}.')}"
        if kind == "augmentation" and not problems and registries[kind][spec["name"]].uses_pairs:
            if values["batch_size"] % (2 * num_devices):  # partners would be on two devices
                yield f"{path}: needs a batch_size that is a multiple of {2 * num_devices}"
        if kind == "loss" and not problems and spec["head"] not in values["heads"]:
            yield f"{path}.head = {spec['head']!r}: not among heads {tuple(values['heads'])}"
    for key, kind in (("heads", "head"), ("loggers", "logger")):
        for name in values[key] if kind in registries else ():
            if name not in registries[kind]:
                yield f"{key}: {registries[kind].describe_unknown(name)}"


def _find_evaluation_problems(
    values: dict, validate_score_name: ScoreNameValidator
) -> Iterator[str]:
    """Checks the evaluation split and the checkpoint score of the built-in datasets."""
    if values["data"]["name"] not in BUILT_IN_DATASETS:
        return
    split, best = values["evaluation"]["split"], values["checkpoint"]["best"]
    if split not in labels.SPLITS:
        yield f"evaluation.split = {describe_unknown_name(split, labels.SPLITS)}"
    classes = labels.classes(values["data"]["num_classes"])
    problem = validate_score_name(best, values["heads"], classes) if best and classes else None
    if problem:
        yield f"checkpoint.best = {problem}"

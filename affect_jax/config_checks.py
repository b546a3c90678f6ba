"""Validates a config before anything is built; see `check`.

Keys and types are compared with the defaults, values with the rules below, and names and options
with the registries, whose entries validate their own options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.config import SPEC_KEYS, Config, defaults, find_duration_problem, flatten, to_dict
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.paths import LOCAL_FOLDER_REQUIREMENT, is_local
from affect_jax.core.registry import Registry, describe_unknown_name, matches_type, suggest_name

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
    """Checks a config before any data are read or written.

    **Arguments:**

    - `registries`: kind -> registry, see `experiment.load_registries`; other kinds are not checked.
    - `validate_score_name`: validates the name of a score, see `protocol.validate_score_name`.
    - `num_devices`: devices of all processes, over which a training batch is split.
    - `name`: name of the config in the message, usually its file.

    **Raises:** `UserError` with all problems, one per line.
    """
    problems = list(_find_key_problems(to_dict(config), to_dict(defaults()), ""))
    if not problems:  # ranges can be checked only for values that exist and have the right type
        problems = list(_find_value_problems(config, num_devices))
        problems += list(_find_registry_problems(config, registries, validate_score_name))
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
            expected_type = {dict: "a mapping", list: "a tuple"}.get(
                type(default), type(default).__name__
            )
            yield f"{path} = {value!r}: must be {expected_type}, not {type(value).__name__}"
        elif isinstance(default, dict) and key not in SPEC_KEYS and path != "data.options":
            optional = {"epochs": 0.0, "steps": 0} if set(default) == {"epochs", "steps"} else {}
            yield from _find_key_problems({**optional, **value}, default, f"{path}.")


_AT_LEAST_0 = (lambda v: v >= 0, "0 or more")
_AT_LEAST_1 = (lambda v: v >= 1, "1 or more")

VALUE_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data.manual_dir": (is_local, LOCAL_FOLDER_REQUIREMENT),
    "seed": (lambda v: 0 <= v < 2**32, "0 <= seed < 2^32"),
    "data.image_size": (lambda v: 16 <= v <= 1024, "between 16 and 1024"),
    "data.num_classes": (lambda v: v >= 2, "at least 2"),
    "data.num_workers": _AT_LEAST_0,
    "data.prefetch": _AT_LEAST_1,
    "learning_rate": (lambda v: 0 < v < math.inf, "positive, and finite"),
    "ema_decay": (lambda v: 0 <= v < 1, "in [0, 1)"),
    "batch_size": _AT_LEAST_1,
    "evaluation.batch_size": _AT_LEAST_1,
    "evaluation.draws": _AT_LEAST_1,
    "checkpoint.keep_last": _AT_LEAST_1,
    "log_every": _AT_LEAST_1,
    "skip_nonfinite": _AT_LEAST_0,
}
"""Key -> condition, and what must hold."""

ALLOWED_VALUES = {
    "dtype": ("float32", "bfloat16"),
    "data.action_units": ("annotated", "estimated", "auto"),
    "data.cache": ("none", "host", "device", "auto"),
}
BUILT_IN_DATASETS = ("affectnet", "synthetic_faces")
"""Datasets whose splits and classes are known before they are prepared."""


def _find_value_problems(config: Config, num_devices: int) -> Iterator[str]:
    flat = flatten(config)
    for key, (is_valid, requirement) in VALUE_RULES.items():
        if not is_valid(flat[key]):
            yield f"{key} = {flat[key]!r}: must be {requirement}"
    for key, choices in ALLOWED_VALUES.items():
        if flat[key] not in choices:
            yield f"{key} = {describe_unknown_name(flat[key], choices)}"
    if config.data.name == "affectnet" and config.data.num_classes not in labels.CLASS_COUNTS:
        yield f"data.num_classes = {config.data.num_classes}: must be 7 or 8 on AffectNet"
    if not 16 <= config.data.crop_size <= config.data.image_size:
        limit = config.data.image_size
        yield f"data.crop_size = {config.data.crop_size}: must be between 16 and image_size {limit}"
    durations = {
        "duration": config.duration,
        "evaluate_every": config.evaluate_every,
        "checkpoint.every": config.checkpoint.every,
        "images_every": config.images_every,
    }
    for key, duration in durations.items():
        problem = find_duration_problem(duration)
        if problem:
            yield f"{key}: {problem}"
    problem = config.batch_size > 0 and find_division_problem(config.batch_size, num_devices)
    if problem:
        yield f"batch_size = {config.batch_size}: {problem}"


def find_division_problem(batch_size: int, num_devices: int) -> str | None:
    """Returns None if the devices divide the batch, else the problem with the nearest sizes."""
    if batch_size % num_devices == 0:
        return None
    below = batch_size - batch_size % num_devices
    nearest_sizes = [str(size) for size in (below, below + num_devices) if size > 0]
    nearest = "nearest are" if len(nearest_sizes) == 2 else "nearest is"
    return f"must be a multiple of {num_devices} devices; {nearest} {' and '.join(nearest_sizes)}"


SUPPLIED_ARGUMENTS: dict[str, dict[str, Any]] = {
    "dataset": {"manual_dir": "", "data_dir": "", "image_size": 256},
    "sampling": {},
    "trunk": {"dtype": "float32"},
    "loss": {"class_counts": np.ones(8), "unit_frequencies": np.full(1, 0.5)},
    "schedule": {"learning_rate": 0.1, "steps_per_epoch": 1, "total_steps": 10**9},
    "optimizer": {"schedule": lambda step: 0.1},
}
"""Keyword arguments that code supplies and a spec may not set, by kind of registry. Their values
are placeholders with which an entry is created to validate its options."""


def _find_registry_problems(
    config: Config, registries: Mapping[str, Registry], validate_score_name: ScoreNameValidator
) -> Iterator[str]:
    specs = [(key, key, to_dict(config[key])) for key in SPEC_KEYS]
    specs += [(f"losses[{i}]", "loss", to_dict(term)) for i, term in enumerate(config.losses)]
    dataset = {"name": config.data.name, **to_dict(config.data.options)}
    for path, kind, spec in [*specs, ("data", "dataset", dataset)]:
        if kind in registries:
            for problem in _find_spec_problems(registries[kind], kind, spec):
                yield f"{path}.{problem.removeprefix(f'{kind}.')}"
    problems = list(_find_head_problems(config.heads, config.losses, registries["head"]))
    yield from problems or _find_evaluation_problems(config, validate_score_name)


def _find_spec_problems(registry: Registry, kind: str, spec: dict) -> list[str]:
    supplied = SUPPLIED_ARGUMENTS[kind]
    problems = registry.find_problems(spec, supplied) or registry.find_type_problems(spec)
    if problems or kind == "dataset":  # creating a dataset checks its options and prepares it
        return problems
    try:
        registry.create(spec, **supplied)
    except UserError as error:
        return [str(error)]
    return []


def _find_head_problems(
    heads: Sequence[str], terms: Sequence[Config], registry: Registry
) -> Iterator[str]:
    if not heads:
        yield f"heads = (): set at least one of {', '.join(registry.names())}"
    if len(set(heads)) < len(heads):
        yield f"heads = {tuple(heads)}: a head is listed twice"
    for head in heads:
        if head not in registry:
            yield f"heads: {describe_unknown_name(head, registry.names())}"
    if not terms:
        yield "losses = (): a run needs at least one term"
    for i, term in enumerate(terms):
        if "head" in term and term["head"] not in heads:
            yield f"losses[{i}].head = {term['head']!r}: not among heads {tuple(heads)}"


def _find_evaluation_problems(
    config: Config, validate_score_name: ScoreNameValidator
) -> Iterator[str]:
    """Checks the evaluation split and the checkpoint score of the built-in datasets."""
    if config.data.name not in BUILT_IN_DATASETS:
        return
    if config.evaluation.split not in labels.SPLITS:
        yield f"evaluation.split = {describe_unknown_name(config.evaluation.split, labels.SPLITS)}"
    best, classes = config.checkpoint.best, labels.classes(config.data.num_classes)
    problem = validate_score_name(best, config.heads, classes) if best else None
    if problem:
        yield f"checkpoint.best = {problem}"

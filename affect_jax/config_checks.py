"""Validates a config before anything is built; see `check`.

Keys and types are compared with the defaults, values with the rules below, and names and options
with the registries, whose entries validate their own options.
"""

from __future__ import annotations

import functools
import math
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
    to_dict,
)
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
            expected = type(default).__name__
            yield f"{path} = {value!r}: must be {expected}, not {type(value).__name__}"
        elif isinstance(default, dict) and key not in SPEC_KEYS and path != "data.options":
            optional = {"epochs": 0.0, "steps": 0} if set(default) == {"epochs", "steps"} else {}
            yield from _find_key_problems({**optional, **value}, default, f"{path}.")


def _at_least(minimum: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value >= minimum, f"{minimum} or more"


def _one_of(*choices: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in choices, f"one of {', '.join(choices)}"


_DURATION = (is_duration, DURATION_REQUIREMENT)

VALUE_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda seed: 0 <= seed < 2**32, "in [0, 2^32)"),
    "data.manual_dir": (is_local, LOCAL_FOLDER_REQUIREMENT),
    "data.image_size": (lambda size: 16 <= size <= 1024, "between 16 and 1024"),
    "data.crop_size": _at_least(16),
    "data.num_classes": _at_least(2),
    "data.action_units": _one_of("annotated", "estimated", "auto"),
    "data.cache": _one_of("none", "host", "device", "auto"),
    "data.num_workers": _at_least(0),
    "data.prefetch": _at_least(1),
    "heads": (lambda heads: len(set(heads)) == len(heads) > 0, "one or more heads, each once"),
    "losses": (lambda terms: len(terms) > 0, "one or more terms"),
    "dtype": _one_of("float32", "bfloat16"),
    "batch_size": _at_least(1),
    "duration": _DURATION,
    "learning_rate": (lambda rate: 0 < rate < math.inf, "positive, and finite"),
    "ema_decay": (lambda decay: 0 <= decay < 1, "in [0, 1)"),
    "evaluate_every": _DURATION,
    "evaluation.batch_size": _at_least(1),
    "evaluation.draws": _at_least(1),
    "checkpoint.every": _DURATION,
    "checkpoint.keep_last": _at_least(1),
    "log_every": _at_least(1),
    "skip_nonfinite": _at_least(0),
    "images_every": _DURATION,
}
"""Key -> condition, and what must hold."""

BUILT_IN_DATASETS = ("affectnet", "synthetic_faces")
"""Datasets whose splits and classes are known before they are prepared."""


def _find_value_problems(config: Config, num_devices: int) -> Iterator[str]:
    for key, (is_valid, requirement) in VALUE_RULES.items():
        value = to_dict(functools.reduce(operator.getitem, key.split("."), config))
        if not is_valid(value):
            yield f"{key} = {value!r}: must be {requirement}"
    if config.data.name == "affectnet" and config.data.num_classes not in (7, 8):
        yield f"data.num_classes = {config.data.num_classes}: must be 7 or 8 on AffectNet"
    if config.data.crop_size > config.data.image_size:
        yield f"data.crop_size = {config.data.crop_size}: must be at most data.image_size"
    if config.batch_size > 0 and config.batch_size % num_devices:
        nearest = num_devices * max(1, round(config.batch_size / num_devices))
        yield (
            f"batch_size = {config.batch_size}: must be a multiple of {num_devices} devices; the "
            f"nearest is {nearest}"
        )


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
        if kind not in registries:
            continue
        supplied = SUPPLIED_ARGUMENTS[kind]
        problems = registries[kind].find_problems(spec, supplied)
        if not problems and kind != "dataset":  # creating a dataset checks its options later
            try:
                registries[kind].create(spec, **supplied)
            except UserError as error:
                problems = [str(error)]
        for problem in problems:
            yield f"{path}.{problem.removeprefix(f'{kind}.')}"
    problems = list(_find_head_problems(config.heads, config.losses, registries["head"]))
    yield from problems or _find_evaluation_problems(config, validate_score_name)


def _find_head_problems(
    heads: Sequence[str], terms: Sequence[Config], registry: Registry
) -> Iterator[str]:
    for head in heads:
        if head not in registry:
            yield f"heads: {describe_unknown_name(head, registry.names())}"
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

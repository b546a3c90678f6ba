"""Whether a config can be run, told before anything is built: `check`.

Keys and their types by the defaults, values by the rules below, names and options by the
registries, whose entries judge their own options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.config import SPECS, Config, defaults, duration_problem, flatten, to_dict
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.paths import MOUNT, is_local
from affect_jax.core.registry import Registry, fits, nearest, unknown

ScoreProblem = Callable[[str, Sequence[str], Sequence[str]], str | None]
"""(name of a score, heads, classes) -> why a model with these heads has no such score, or None."""


def check(
    config: Config,
    *,
    registries: Mapping[str, Registry],
    score_problem: ScoreProblem = lambda *_: None,
    num_devices: int = 1,
    name: str = "config",
) -> None:
    """Checks a config before any device, data or file is touched.

    **Arguments:**

    - `registries`: what can be named, see `experiment.all_registries`; kinds that are not there are
      not checked.
    - `score_problem`: judges the name of a score, see `protocol.name_problem`.
    - `num_devices`: devices of all processes, over which a training batch is split.
    - `name`: what the message calls the config: its file's name.

    **Raises:** `UserError` with every problem found, one a line.
    """
    problems = list(_shape_problems(to_dict(config), to_dict(defaults()), ""))
    if not problems:  # ranges make sense only of values that are there and of the right type
        problems = list(_value_problems(config, num_devices))
        problems += list(_registry_problems(config, registries, score_problem))
    if len(problems) == 1:
        raise UserError(f"{name}: {problems[0]}")
    if problems:
        raise UserError(f"{name} has {len(problems)} problems", problems)


def _shape_problems(given: dict, known: dict, prefix: str) -> Iterator[str]:
    """Unknown and missing keys, and wrong types."""
    for key in sorted(set(given) - set(known)):
        yield f"{prefix}{key} = {given[key]!r}: no such key; {nearest(key, known)}"
    for key in sorted(set(known) - set(given)):
        yield f"{prefix}{key}: missing"
    for key in sorted(set(known) & set(given)):
        value, default, path = given[key], known[key], prefix + key
        if not fits(value, type(default)):
            wanted = {dict: "a mapping", list: "a tuple"}.get(type(default), type(default).__name__)
            yield f"{path} = {value!r}: must be {wanted}, not {type(value).__name__}"
        elif isinstance(default, dict) and key not in SPECS and path != "data.options":
            optional = {"epochs": 0.0, "steps": 0} if set(default) == {"epochs", "steps"} else {}
            yield from _shape_problems({**optional, **value}, default, f"{path}.")


# Each rule: key, condition, what must hold.
RULES = (
    ("data.manual_dir", is_local, MOUNT),
    ("seed", lambda v: 0 <= v < 2**32, "0 <= seed < 2^32"),
    ("data.image_size", lambda v: 16 <= v <= 1024, "between 16 and 1024"),
    ("data.num_classes", lambda v: v >= 2, "at least 2"),
    ("data.num_workers", lambda v: v >= 0, "0 or more"),
    ("data.prefetch", lambda v: v >= 1, "1 or more"),
    ("learning_rate", lambda v: 0 < v < math.inf, "positive, and finite"),
    ("ema_decay", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("batch_size", lambda v: v >= 1, "1 or more"),
    ("evaluation.batch_size", lambda v: v >= 1, "1 or more"),
    ("evaluation.draws", lambda v: v >= 1, "1 or more"),
    ("checkpoint.keep_last", lambda v: v >= 1, "1 or more"),
    ("log_every", lambda v: v >= 1, "1 or more"),
    ("skip_nonfinite", lambda v: v >= 0, "0 or more"),
)
CHOICES = (
    ("dtype", ("float32", "bfloat16")),
    ("data.action_units", ("annotated", "estimated", "auto")),
    ("data.cache", ("none", "host", "device", "auto")),
)
OWN = ("affectnet", "synthetic_faces")
"""Data sets whose splits and classes are known before they are prepared."""
DURATIONS = ("duration", "evaluate_every", "checkpoint.every", "images_every")


def _value_problems(config: Config, num_devices: int) -> Iterator[str]:
    flat = flatten(config)
    for key, holds, wanted in RULES:
        if not holds(flat[key]):
            yield f"{key} = {flat[key]!r}: must be {wanted}"
    for key, choices in CHOICES:
        if flat[key] not in choices:
            yield f"{key} = {unknown(flat[key], choices)}"
    if config.data.name == "affectnet" and config.data.num_classes not in labels.CLASS_COUNTS:
        yield f"data.num_classes = {config.data.num_classes}: must be 7 or 8 on AffectNet"
    if not 16 <= config.data.crop_size <= config.data.image_size:
        limit = config.data.image_size
        yield f"data.crop_size = {config.data.crop_size}: must be between 16 and image_size {limit}"
    for path in DURATIONS:
        duration: Any = config
        for key in path.split("."):
            duration = duration[key]
        found = duration_problem(duration)
        if found:
            yield f"{path}: {found}"
    found = config.batch_size > 0 and division_problem(config.batch_size, num_devices)
    if found:
        yield f"batch_size = {config.batch_size}: {found}"


def division_problem(batch_size: int, num_devices: int) -> str | None:
    """Why a batch cannot be split evenly, with the nearest sizes that can; or None."""
    if batch_size % num_devices == 0:
        return None
    below = batch_size - batch_size % num_devices
    near = [str(size) for size in (below, below + num_devices) if size > 0]
    are = "nearest are" if len(near) == 2 else "nearest is"
    return f"must be a multiple of {num_devices} devices; {are} {' and '.join(near)}"


SUPPLIED: dict[str, dict[str, Any]] = {
    "dataset": {"manual_dir": "", "data_dir": "", "image_size": 256},
    "sampling": {},
    "trunk": {"dtype": "float32"},
    "loss": {"class_counts": np.ones(8), "unit_frequencies": np.full(1, 0.5)},
    "schedule": {"learning_rate": 0.1, "steps_per_epoch": 1, "total_steps": 10**9},
    "optimizer": {"schedule": lambda step: 0.1},
}
"""Keyword arguments that code supplies and a spec may not, by kind of registry; with values that
serve to see whether the others can be."""


def _registry_problems(
    config: Config, registries: Mapping[str, Registry], score_problem: ScoreProblem
) -> Iterator[str]:
    specs = [(key, key, to_dict(config[key])) for key in SPECS]
    specs += [(f"losses[{i}]", "loss", to_dict(term)) for i, term in enumerate(config.losses)]
    dataset = {"name": config.data.name, **to_dict(config.data.options)}
    for path, kind, spec in [*specs, ("data", "dataset", dataset)]:
        if kind not in registries:
            continue
        known = registries[kind]
        found = known.problems(spec, SUPPLIED[kind]) or known.mistyped(spec)
        if not found and kind != "dataset":  # that one would be prepared; it looks before it does
            found = _option_problems(known, spec, SUPPLIED[kind])
        yield from (f"{path}.{problem.removeprefix(f'{kind}.')}" for problem in found)
    found = list(_head_problems(config.heads, config.losses, registries["head"]))
    yield from found or _evaluation_problems(config, score_problem)


def _option_problems(known: Registry, spec: dict, supplied: dict[str, Any]) -> list[str]:
    """What an entry itself says to its options."""
    try:
        known.create(spec, **supplied)
    except UserError as error:
        return [str(error)]
    return []


def _head_problems(heads: Sequence[str], terms: Sequence[Config], known: Registry) -> Iterator[str]:
    if not heads:
        yield f"heads = (): name at least one of {', '.join(known.names())}"
    if len(set(heads)) < len(heads):
        yield f"heads = {tuple(heads)}: one is named twice"
    for head in heads:
        if head not in known:
            yield f"heads: {unknown(head, known.names())}"
    if not terms:
        yield "losses = (): a run needs at least one term"
    for i, term in enumerate(terms):
        if "head" in term and term["head"] not in heads:
            yield f"losses[{i}].head = {term['head']!r}: not among heads {tuple(heads)}"


def _evaluation_problems(config: Config, score_problem: ScoreProblem) -> Iterator[str]:
    """What is evaluated and what is kept, as far as no data are needed to know."""
    if config.data.name not in OWN:
        return
    if config.evaluation.split not in labels.SPLITS:
        yield f"evaluation.split = {unknown(config.evaluation.split, labels.SPLITS)}"
    best, classes = config.checkpoint.best, labels.EXPRESSIONS[: config.data.num_classes]
    problem = score_problem(best, config.heads, classes) if best else None
    if problem:
        yield f"checkpoint.best = {problem}"

"""Every key of a run, with its default and its meaning.

A config file starts from `defaults()` and changes a few lines. Nothing is computed in a config:
what depends on the data or the devices (steps an epoch, class weights) is derived in code.
A *spec* is a mapping with a `name` from a registry; its other keys are that entry's options.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from affect_jax.core.errors import UserError
from affect_jax.core.paths import is_local
from affect_jax.core.registry import unknown

Config: TypeAlias = Any
"""A `ConfigDict`; its fields are declared while the program runs, so type checkers see anything."""

SPECS = ("sampling", "trunk", "schedule", "optimizer")
"""Keys whose value is a spec: one registry entry and its options."""

PLACES = ("data_dir", "manual_dir")
"""Of `data`: where files lie, which says nothing of what is in them."""

MAY_CHANGE = (
    "checkpoint.keep_last",
    "data.cache",
    "data.data_dir",
    "data.manual_dir",
    "data.num_workers",
    "data.prefetch",
    "duration",
    "images_every",
    "log_every",
    "profile",
    "skip_nonfinite",
)
"""Keys that may differ when a run goes on: they change no number that the run computes, but that a
cosine schedule ends where the run does."""


def defaults() -> Config:
    """The protocol's AlexNet on AffectNet as it is (Mollahosseini et al. 2017, section 5.1)."""
    config: Config = ConfigDict()
    config.seed = 0  # of initialisation, order, augmentation and dropout

    config.data = ConfigDict()
    config.data.name = "affectnet"  # registry `data.DATASETS`
    config.data.manual_dir = ""  # where the licensed release lies; embedded sets need none
    config.data.data_dir = "data"  # where prepared records are written, once; or gs://..., s3://...
    config.data.options = ConfigDict()  # the data set's own options, see its docstring
    config.data.image_size = 256  # side of the stored faces, pixels
    config.data.crop_size = 224  # side of the network's input, pixels
    config.data.num_classes = 8  # 8, or 7 for the protocol without contempt
    config.data.action_units = "auto"  # annotated; estimated from landmarks; auto: the one there is
    config.data.mirror = True  # random horizontal mirroring in training
    config.data.cache = "auto"  # none: decode each epoch; else once, into host or device memory
    config.data.num_workers = 0  # processes that decode; 0: threads of the main process
    config.data.prefetch = 2  # batches put on the devices ahead of the step

    config.sampling = ConfigDict({"name": "natural"})  # registry `sampling.SAMPLERS`

    config.trunk = ConfigDict({"name": "alexnet"})  # registry `models.TRUNKS`
    config.heads = ("expression",)  # registry `models.HEADS`
    # Weights to start from: a .safetensors or .pth file (torchvision's AlexNet and ResNet18, timm's
    # ResNet18, our own), hf://owner/name[@revision][/file], or the folder of a run; "": none.
    config.init_from = ""
    config.dtype = "float32"  # of the network's arithmetic; parameters and losses are float32

    # The objective: weighted sum of terms of the registry `losses.LOSSES`.
    config.losses = (ConfigDict({"name": "cross_entropy", "head": "expression"}),)

    config.batch_size = 256  # of the whole run, whatever the number of devices
    config.duration = ConfigDict({"epochs": 20.0, "steps": 0})  # exactly one is not 0
    config.learning_rate = 0.01
    # The paper divides the rate by 10 every 10,000 steps; the 2018 summary writes "drops 10%",
    # which to the letter is decay 0.9. The default follows the paper.
    config.schedule = ConfigDict({"name": "step", "decay": 0.1, "interval": {"steps": 10_000}})
    config.optimizer = ConfigDict({"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4})
    config.ema_decay = 0.0  # of the parameters' moving average, used in evaluation; 0: none

    config.evaluate_every = ConfigDict({"epochs": 1.0, "steps": 0})
    config.evaluation = ConfigDict()
    config.evaluation.split = "validation"
    config.evaluation.batch_size = 256  # rounded up to what the devices divide
    config.evaluation.mirror = False  # average each face's prediction with its mirror image's
    config.evaluation.draws = 200  # of the skew-normalised scores

    config.checkpoint = ConfigDict()
    config.checkpoint.every = ConfigDict({"epochs": 1.0, "steps": 0})
    config.checkpoint.keep_last = 2
    # The score whose best checkpoint is kept: any name in scores.json; `-` in front: smaller is
    # better (`-dimensional.mean.rmse`).
    config.checkpoint.best = "categorical.top1.original.f1.macro"

    config.log_every = 50  # steps between lines of the log
    config.skip_nonfinite = 0  # steps without a finite loss and gradient that a run may leave out
    config.images_every = ConfigDict({"epochs": 1.0, "steps": 0})  # faces to TensorBoard
    config.profile = False  # write a profile of steps 10 to 20, for TensorBoard
    return config


def variant(config: Config, dataset: str) -> Config:
    """The same experiment on another data set: what `configs/file.py:dataset` gives.

    **Arguments:**

    - `dataset`: `affectnet`, or `synthetic_faces`: rendered faces at 128 pixels and a schedule of
      minutes on two cores.

    **Raises:** `UserError` for another name.
    """
    known = ("affectnet", "synthetic_faces")
    if dataset not in known:
        raise UserError(f"config variant {unknown(dataset, known)}")
    config.data.name = dataset
    if dataset == "synthetic_faces":
        _for_minutes(config)
    return config


def _for_minutes(config: Config) -> None:
    """Rendered faces, and what a network learns from them on two cores while one waits."""
    # Of 8,000 faces with AffectNet's skew 104 would show contempt: too few for minutes.
    sizes = {"num_training": 8_000, "num_validation": 1_000}
    config.data.options = {**sizes, "skew": "balanced"}
    config.data.image_size, config.data.crop_size = 128, 112
    config.schedule = {"name": "cosine", "warmup": {"epochs": 0.5}}
    if config.trunk.name == "alexnet":
        # As published it stays at chance for hours: eight layers without normalisation.
        small = {"initialisation": "he", "width": 1024, "dropout": 0.2}
        config.trunk = {"name": "alexnet", **small}
        config.optimizer, config.learning_rate = {"name": "adam"}, 3e-4
        config.batch_size, config.duration = 32, {"epochs": 3.5, "steps": 0}
    else:
        config.trunk = {"name": config.trunk.name, "width": 32}  # half of the published one
        config.optimizer, config.learning_rate = {"name": "adam"}, 1e-3
        config.batch_size, config.duration = 64, {"epochs": 7.0, "steps": 0}


def to_dict(value: Any) -> Any:
    """The config as dictionaries, lists and scalars: what JSON can hold."""
    if isinstance(value, (Mapping, ConfigDict)):
        return {key: to_dict(value[key]) for key in sorted(value)}
    if isinstance(value, (tuple, list)):
        return [to_dict(item) for item in value]
    return value


def with_absolute_paths(config: Config) -> Config:
    """The same config with absolute paths: its run is scored and goes on from any folder."""
    found = copy.deepcopy(config)
    for key in [key for key in PLACES if config.data[key] and is_local(config.data[key])]:
        found.data[key] = os.path.abspath(os.path.expanduser(config.data[key]))
    return found


def config_digest(config: Config) -> str:
    """Twelve hexadecimal digits that change with any value of the config, but for `PLACES`."""
    values = {
        key: v for key, v in flatten(config).items() if key.removeprefix("data.") not in PLACES
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """`{"data.name": "affectnet", ...}`: one entry a leaf; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in to_dict(config).items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def from_dict(values: Mapping[str, Any]) -> Config:
    """A config from the JSON that a workdir holds: `plain`'s inverse.

    Keys that a run of an earlier version does not have get their default: what it did then. Heads
    and losses that are no lists stay what they are, for `checks.check` to name.
    """
    config: Config = ConfigDict(fill_defaults(values))
    if isinstance(config.heads, (list, tuple)):
        config.heads = tuple(config.heads)
    if isinstance(config.losses, (list, tuple)):
        config.losses = tuple(
            ConfigDict(term) if isinstance(term, Mapping) else term for term in config.losses
        )
    return config


def fill_defaults(
    values: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A saved config with the keys that it lacks, at their defaults; specs stay as they are."""
    everything: Mapping[str, Any] = to_dict(defaults()) if known is None else known
    result = {**everything, **values}
    for key, default in everything.items():
        nested = isinstance(default, Mapping) and isinstance(result[key], Mapping)
        if nested and key not in (*SPECS, "options") and set(default) != {"epochs", "steps"}:
            result[key] = fill_defaults(result[key], default)
    return result


def to_steps(duration: Config, steps_per_epoch: int) -> int:
    """`{"epochs": 2.0, "steps": 0}` in optimizer steps, at least 1.

    **Raises:** `UserError` unless exactly one of the two is positive.
    """
    found = duration_problem(duration)
    if found:
        raise UserError(found)
    steps = to_dict(duration).get("steps")
    return int(steps) if steps else max(1, round(duration["epochs"] * steps_per_epoch))


def duration_problem(duration: Any) -> str | None:
    """What is wrong with a duration, or None."""
    if not isinstance(duration, (Mapping, ConfigDict)):
        return f"{duration!r}: must be {{'epochs': n}} or {{'steps': n}}"
    strange = sorted(set(duration) - {"epochs", "steps"})
    if strange:
        return f"{strange[0]}: no such key; a duration has 'epochs' or 'steps'"
    given = {key: value for key, value in to_dict(duration).items() if value}
    if len(given) != 1:
        return "give exactly one of epochs and steps (0 stands for not given)"
    (key, value) = next(iter(given.items()))
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        return f"{key} = {value!r}: must be a positive number"
    if key == "steps" and value != int(value):
        return f"steps = {value}: must be a whole number"
    return None

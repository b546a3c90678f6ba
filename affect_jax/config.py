"""Every config key of a run, with its default and its meaning.

A config file starts from `defaults()` and changes a few lines. Nothing is computed in a config:
values that depend on the data or the devices (steps per epoch, class weights) are derived in code.
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

from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import is_local
from affect_jax.core.registry import describe_unknown_name

Config: TypeAlias = Any
"""A `ConfigDict`. Its fields are declared at run time, so type checkers treat it as `Any`."""

SPEC_KEYS = ("sampling", "trunk", "schedule", "optimizer")
"""Keys whose value is a spec: one registry entry and its options."""

PATH_KEYS = ("data_dir", "ignore", "manual_dir", "relabel")
"""Keys of `data` that hold paths. The digest ignores them; the data have fingerprints."""

MUTABLE_KEYS = (
    "checkpoint.keep_last",
    "data.cache",
    "data.data_dir",
    "data.manual_dir",
    "data.num_workers",
    "data.prefetch",
    "duration",
    "images_every",
    "imports",
    "log_every",
    "loggers",
    "profile",
    "skip_nonfinite",
    "stop_after",
)
"""Keys that may change when a run resumes. They do not change the numbers that the run computes,
with one exception: a cosine schedule ends at the new `duration`."""


PROCESS_KEYS = ("data.data_dir", "data.manual_dir", "data.num_workers", "data.prefetch", "profile")
"""Keys that may differ between the processes of a run."""


def defaults() -> Config:
    """AlexNet on AffectNet without resampling (Mollahosseini et al. 2017, section 5.1)."""
    config: Config = ConfigDict()
    config.seed = 0  # seeds initialisation, data order, augmentation and dropout
    config.imports = ()  # modules of your own trunks, losses, ...: ("my_package.trunks",)

    config.data = _data_defaults()
    config.sampling = ConfigDict({"name": "natural"})  # no resampling; registry `sampling.SAMPLERS`
    config.trunk = ConfigDict({"name": "alexnet"})  # registry `models.TRUNKS`
    config.heads = ("expression",)  # registry `models.HEADS`
    # Initial weights: a .safetensors or .pth file, `hf://owner/name[@revision][/file]`, or a run
    config.init_from = ""  # "": random; "ready": the model in the package
    config.init_outputs = ()  # names of the file's outputs in order; (): our classes in our order
    config.stages = ()  # earlier stages of a recipe, see `create_stages`
    config.dtype = "float32"  # or bfloat16: compute dtype; parameters and losses are float32

    # The objective: a weighted sum of loss terms from the registry `losses.LOSSES`.
    config.losses = (ConfigDict({"name": "cross_entropy", "head": "expression"}),)

    config.batch_size = 256  # global batch size, over all devices
    config.duration = ConfigDict({"epochs": 20.0, "steps": 0})  # exactly one is not 0
    # Ends training at the first evaluation that is this long after the best `checkpoint.best`.
    config.stop_after = ConfigDict({"epochs": 0.0, "steps": 0})  # 0: never
    config.learning_rate = 0.01  # base rate, which the schedule changes
    # Registry `schedules.SCHEDULES`; the default is the paper's. The 2018 summary writes
    # "drops 10%", which taken literally is decay 0.9.
    config.schedule = ConfigDict({"name": "step", "decay": 0.1, "interval": {"steps": 10_000}})
    # Registry `optimizers.OPTIMIZERS`.
    config.optimizer = ConfigDict({"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4})
    config.ema_decay = 0.0  # exponential moving average of the parameters, for evaluation; 0: none

    config.evaluate_every = ConfigDict({"epochs": 1.0, "steps": 0})  # of the evaluation split
    config.evaluation = ConfigDict()
    config.evaluation.split = "validation"  # the split that is scored
    config.evaluation.batch_size = 256  # rounded up to a multiple of the number of devices
    config.evaluation.mirror = False  # average the predictions of a face and its mirror image
    config.evaluation.draws = 200  # random subsets over which skew-normalised scores are averaged

    config.checkpoint = ConfigDict()
    config.checkpoint.every = ConfigDict({"epochs": 1.0, "steps": 0})  # between checkpoints
    config.checkpoint.keep_last = 2  # newest checkpoints to keep
    # The score that selects the best checkpoint, which is kept too: any name in scores.json. A
    # leading `-` means that smaller is better (`-dimensional.mean.rmse`); "": none.
    config.checkpoint.best = "categorical.top1.original.f1.macro"

    config.log_every = 50  # steps between log lines
    config.loggers = ("tensorboard",)  # registry `log_writers.LOGGERS`: also "wandb", "mlflow"
    config.skip_nonfinite = 0  # maximum number of steps with a non-finite loss or gradient
    config.images_every = ConfigDict({"epochs": 1.0, "steps": 0})  # of example faces in TensorBoard
    config.profile = False  # trace steps 10 to 20 of this process for TensorBoard
    return config


def _data_defaults() -> Config:
    """The faces of AffectNet as in the paper, with random mirroring."""
    data: Config = ConfigDict()
    data.name = "affectnet"  # registry `data.DATASETS`
    data.manual_dir = ""  # folder of the licensed release; synthetic_faces needs none
    data.data_dir = "data"  # folder of the prepared records; or gs://..., s3://...
    data.options = ConfigDict()  # options of the dataset, see its docstring
    data.image_size = 256  # side of the stored faces, pixels
    data.crop_size = 224  # side of the network's input, pixels
    data.num_classes = 8  # 8, or 7 for the protocol without contempt
    data.ignore = ""  # CSV of the ids of faces without labels, in every split
    data.relabel = ""  # CSV of id and label, new classes of faces in every split
    # Noise on training labels: {"kind": "symmetric", "rate": 0.2, "seed": 0}, or {"kind":
    # "confusion", "matrix": rows of probabilities}; see `data.label_edits`
    data.label_noise = ConfigDict()
    # Train on distributions over the classes (fer_plus, affectnet_plus) instead of single classes.
    data.soft_labels = False
    # "annotated", "estimated" from landmarks, or "auto": estimated for faces without annotation.
    data.action_units = "auto"
    data.mirror = True  # random horizontal flip in training
    data.augment = ()  # specs of the registry `augment.AUGMENTATIONS`; applied in order
    data.cache = "auto"  # decoded faces: none (decode every epoch), host, device or auto
    data.num_workers = 0  # worker processes that decode; 0: threads of the main process
    data.prefetch = 2  # batches copied to the devices ahead of the step
    return data


def variant(config: Config, dataset: str) -> Config:
    """Returns the config for a dataset; `configs/file.py:dataset` calls it.

    **Arguments:** `dataset`: `affectnet`, or `synthetic_faces`: rendered faces of 128 pixels and a
    run that takes minutes on two cores.

    **Raises:** `UserError` if `dataset` is another name.
    """
    datasets = ("affectnet", "synthetic_faces")
    if dataset not in datasets:
        raise UserError(f"config variant {describe_unknown_name(dataset, datasets)}")
    config.data.name = dataset
    if dataset == "synthetic_faces":
        _shrink_for_synthetic_faces(config)
    return config


def _shrink_for_synthetic_faces(config: Config) -> None:
    """Sets rendered faces, a small network and a duration of minutes on two cores."""
    # With AffectNet's skew, only 104 of 8,000 faces would show contempt: too few to learn from.
    sizes = {"num_training": 8_000, "num_validation": 1_000}
    config.data.options = {**sizes, "skew": "balanced"}
    config.data.image_size, config.data.crop_size = 128, 112
    config.schedule = {"name": "cosine", "warmup": {"epochs": 0.5}}
    if config.trunk.name == "alexnet":
        # The published AlexNet stays at chance for hours: eight layers, no batch norm.
        small_alexnet = {"initialisation": "he", "width": 1024, "dropout": 0.2}
        config.trunk = {"name": "alexnet", **small_alexnet}
        config.optimizer, config.learning_rate = {"name": "adam"}, 3e-4
        config.batch_size, config.duration = 32, {"epochs": 3.5, "steps": 0}
    else:
        config.trunk = {"name": config.trunk.name, "width": 32}  # half the published width
        config.optimizer, config.learning_rate = {"name": "adam"}, 1e-3
        config.batch_size, config.duration = 64, {"epochs": 7.0, "steps": 0}


def to_dict(value: Any) -> Any:
    """Converts a config to dictionaries, lists and scalars that JSON can store.

    **Raises:** `UserError` if a key of a mapping is not a string.
    """
    if isinstance(value, (Mapping, ConfigDict)):
        try:
            keys = sorted(value)
            are_strings = all(isinstance(key, str) for key in keys)
        except TypeError:  # keys of several types have no order
            keys, are_strings = [], False
        if not are_strings:
            raise UserError("all keys of a config must be strings")
        return {key: to_dict(value[key]) for key in keys}
    if isinstance(value, (tuple, list)):
        return [to_dict(item) for item in value]
    return value


def with_absolute_paths(config: Config) -> Config:
    """Returns a copy with absolute paths, so that the run can be used from any folder.

    In `init_from` only `~` is replaced, as it may be the address of a file on a hub.
    """
    resolved = copy.deepcopy(config)
    for holder, key in find_paths(resolved.data):
        if holder[key] and is_local(holder[key]):
            holder[key] = os.path.abspath(os.path.expanduser(holder[key]))
    resolved.init_from = os.path.expanduser(config.init_from)
    return resolved


def find_paths(data: Any) -> list[tuple[Any, str]]:
    """Finds the paths in the value of `data`: mappings and their keys, also of a mixture."""
    parts = data["options"]["parts"].values() if data["name"] == "mixture" else ()
    return [(data, key) for key in PATH_KEYS] + [
        (part, "manual_dir") for part in parts if "manual_dir" in part
    ]


def create_stages(config: Config) -> list[Config]:
    """Returns the configs of the stages of a checked config; the last is the config itself.

    `config.stages` lists the changes of each earlier stage: `{"data.name": "synthetic_faces",
    "optimizer": {...}}` replaces two values of the config. Stage k is a run in WORKDIR/stageK. The
    first starts from `init_from`, each other from the last checkpoint of the one before.
    """
    stages = map(from_dict, stage_values(to_dict(config))) if config.stages else ()
    return [*map(with_absolute_paths, stages), config]


def stage_values(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the values of each earlier stage, also of keys that do not exist.

    **Arguments:** `values`: those of the run's config, see `to_dict`.
    """
    stages = [copy.deepcopy({**values, "stages": []}) for _ in values["stages"]]
    for stage, changes in zip(stages, values["stages"], strict=True):
        for key, value in changes.items():
            *path, last = key.split(".")
            target = stage
            for part in path:
                if not isinstance(target.get(part), dict):
                    target[part] = {}
                target = target[part]
            target[last] = value
    return stages


def config_digest(config: Config) -> str:
    """Returns 12 hexadecimal digits that depend on every config value except paths of data."""
    values = to_dict(config)
    for holder, key in find_paths(values["data"]):
        holder.pop(key, None)
    values = flatten(values)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """Returns `{"data.name": "affectnet", ...}`: one entry per leaf; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in to_dict(config).items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def from_dict(values: Mapping[str, Any]) -> Config:
    """Builds a config from the JSON in a workdir; the inverse of `to_dict`.

    Keys that an earlier version did not have get their default, which is the earlier behaviour.

    **Raises:** `UserError` for values that are no config.
    """
    try:
        filled = fill_defaults(values)  # a tuple that replaces a list in a config becomes a list
        filled |= {key: tuple(filled[key]) for key in ("heads", "imports", "loggers")}
        config: Config = ConfigDict(filled)
        config.losses = tuple(ConfigDict(term) for term in config.losses)
        config.data.augment = tuple(ConfigDict(spec) for spec in config.data.augment)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"the saved config is damaged: {first_line(error)}") from error
    return config


def fill_defaults(
    values: Mapping[str, Any], default_values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Adds missing keys with their defaults to a saved config; specs are left unchanged."""
    template: Mapping[str, Any] = to_dict(defaults()) if default_values is None else default_values
    filled = {**template, **values}
    for key, default in template.items():
        nested = isinstance(default, Mapping) and isinstance(filled[key], Mapping)
        if nested and key not in (*SPEC_KEYS, "options") and set(default) != {"epochs", "steps"}:
            filled[key] = fill_defaults(filled[key], default)
    return filled


DURATION_REQUIREMENT = (
    "{'epochs': n} or {'steps': n}, with exactly one positive number, at most 1e9"
)


def to_steps(duration: Config, steps_per_epoch: int, key: str = "duration") -> int:
    """Converts a duration such as `{"epochs": 2.0, "steps": 0}` to optimizer steps, at least 1.

    **Raises:** `UserError`, which names `key`, unless exactly one of the two is positive.
    """
    if not is_duration(duration):
        raise UserError(f"{key} = {to_dict(duration)}: must be {DURATION_REQUIREMENT}")
    values = {"epochs": 0, "steps": 0, **to_dict(duration)}
    return values["steps"] or max(1, round(values["epochs"] * steps_per_epoch))


def is_duration(value: Any) -> bool:
    """Whether a mapping has a positive number of epochs or a positive whole number of steps."""
    match {key: number for key, number in to_dict(value).items() if number}:
        case {"epochs": int() | float() as count, **others} | {"steps": int() as count, **others}:
            return 0 < count <= 1e9 and not others
    return False

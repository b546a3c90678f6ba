"""Config checks report all problems at once, with the nearest valid name or value."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax import config_checks
from affect_jax.config import ConfigDict, defaults, to_dict
from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol
from affect_jax.train.experiment import load_registries


@pytest.fixture(scope="module")
def registries():
    return load_registries()


def check(config, registries, **options) -> None:
    config_checks.check(
        config, registries=registries, validate_score_name=protocol.validate_score_name, **options
    )


def error_message(config, registries, **options) -> str:
    with pytest.raises(UserError) as caught:
        check(config, registries, **options)
    return str(caught.value)


def test_defaults_are_valid(registries):
    check(defaults(), registries)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rat", 0.1, "learning_rat = 0.1: no such key; did you mean 'learning_rate'?"),
        ("batch_size", "64", "batch_size = '64': must be int, not str"),
        ("batch_size", 0, "batch_size = 0: must be 1 or more"),
        ("learning_rate", -1.0, "learning_rate = -1.0: must be positive, and finite"),
        ("learning_rate", float("inf"), "learning_rate = inf: must be positive, and finite"),
        ("seed", -1, "seed = -1: must be in [0, 2^32)"),
        ("ema_decay", 1.0, "ema_decay = 1.0: must be in [0, 1)"),
        ("dtype", "float16", "dtype = 'float16': must be one of float32, bfloat16"),
        ("data.cache", "hots", "data.cache = 'hots': must be one of none, host, device, auto"),
        ("data.crop_size", 300, "data.crop_size = 300: must be at most data.image_size"),
        ("data.num_classes", 9, "data.num_classes = 9: must be 7 or 8 on AffectNet"),
        (
            "data.manual_dir",
            "gs://b/faces",
            "data.manual_dir = 'gs://b/faces': must be a folder of",
        ),
        ("data.mirror", 1, "data.mirror = 1: must be bool, not int"),
        (
            "data.augment",
            ({"name": "affine", "probability": 1.2},),
            "data.augment[0].probability = 1.2: must be in [0, 1]",
        ),
        (
            "data.augment",
            ({"name": "grey"}, {"name": "affine", "degree": 3}),
            "data.augment[1].degree: affine has no such option; did you mean 'degrees'?",
        ),
        ("data.augment", ({"name": "afine"},), "data.augment[0].name = 'afine': unknown; did you"),
        (
            "data.augment",
            ({"name": "affine", "scale": (1.1, 0.9)},),
            "data.augment[0].scale = [1.1, 0.9]: must be two ascending numbers in [0.1, 10]",
        ),
        (
            "data.augment",
            ({"name": "rand_augment", "count": 11},),
            "count = 11: must be in [1, 10]",
        ),
        ("data.augment", ({"name": "mixup", "num_classes": 3},), "data.augment[0].num_classes"),
        ("data.augment", (5,), "data.augment[0].name: missing; 5 must be {'name': ..., option"),
        ("data.augment", ("grey",), "data.augment[0].name: missing; 'grey' must be {'name': ..."),
        ("evaluation.split", "validaton", "unknown; did you mean 'validation'?"),
        ("checkpoint.best", "f1", "checkpoint.best = 'f1': unknown; "),
        (
            "checkpoint.best",
            "-dimensional.mean.rmse",
            "unknown; ",
        ),  # a score of a head that is not in the config
        ("data.name", "afectnet", "data.name = 'afectnet': unknown; did you mean 'affectnet'?"),
        ("data.label_noise", {"rate": 0.2}, "data.label_noise.kind = '': unknown; Known: "),
        ("data.label_noise", {"kind": "symetric"}, "did you mean 'symmetric'?"),
        ("data.label_noise", {"kind": "symmetric"}, "data.label_noise.rate: missing"),
        (
            "data.label_noise",
            {"kind": "symmetric", "rate": 1.5},
            "data.label_noise.rate = 1.5: must be in [0, 1]",
        ),
        (
            "data.label_noise",
            {"kind": "confusion", "matrix": ((1.0, 0.0), (0.0, 1.0))},
            "data.label_noise.matrix: must be 8 rows of 8 probabilities with sum 1",
        ),
        ("data.options", {"marign": 0.1}, "data.marign: affectnet has no such option"),
        ("trunk", {"name": "alexnt"}, "trunk.name = 'alexnt': unknown; did you mean 'alexnet'?"),
        ("trunk", {"name": "resnet18", "widht": 8}, "trunk.widht: resnet18 has no such option"),
        ("sampling", {"name": "donw"}, "sampling.name = 'donw': unknown; did you mean 'down'?"),
        ("optimizer", {"name": "sdg"}, "optimizer.name = 'sdg': unknown; did you mean 'sgd'?"),
        ("schedule", {"name": "cosin"}, "schedule.name = 'cosin': unknown; did you mean 'cosine'"),
        ("data.options", {"margin": "abc"}, "data.margin = 'abc': must be float"),
        ("trunk", {"name": "resnet18", "width": -4}, "trunk.width = -4: must be 1 or more"),
        ("trunk", {"name": "resnet18", "width": "8"}, "trunk.width = '8': must be int"),
        ("sampling", {"name": "down", "cap": 0}, "sampling.cap = 0: must be"),
        ("optimizer", {"name": "sgd", "momentum": 2}, "optimizer.momentum = 2: must be in [0, 1)"),
        (
            "optimizer",
            {"name": "sgd", "rates": 5},
            "optimizer.rates = 5: must be Mapping[str, float] | None",
        ),
        ("schedule", {"name": "step", "decay": -1.0}, "schedule.decay = -1.0: must be in (0, 1]"),
        (
            "losses",
            ({"name": "focal", "head": "expression", "gamma": -1.0},),
            "losses[0].gamma = -1.0: must be",
        ),
        (
            "losses",
            ({"name": "ccc", "head": "expression"},),
            "losses[0].head = 'expression': unknown",
        ),
        (
            "stages",
            ({"optimzer": {"name": "sgd"}},),
            "stages[0].optimzer = {'name': 'sgd'}: no such",
        ),
        ("stages", ({}, {"data.nam": "x"}), "stages[1].data.nam = 'x': no such key; did you mean"),
        ("stages", ({"seed.x": 1},), "stages[0].seed = {'x': 1}: must be int, not dict"),
        ("stages", ({"batch_size": 0},), "stages[0].batch_size = 0: must be 1 or more"),
        ("stages", ({"trunk": {"name": "alexnt"}},), "stages[0].trunk.name = 'alexnt': unknown"),
        ("stages", (5,), "stages = [5]: must be mappings of keys to values"),
        ("stages", ({"stages": ()},), "must be mappings of keys to values; without imports, init_"),
        ("stages", {"seed": 1}, "stages = {'seed': 1}: must be list, not dict"),
        (
            "optimizer",
            {"name": "sam", "base": {"name": "accumulate", "base": {"name": "sgd"}, "steps": 2}},
            "optimizer.base.name = 'accumulate': must be neither sam nor accumulate",
        ),
        (
            "optimizer",
            {"name": "adamw", "layer_decay": 0.65},
            "optimizer.layer_decay = 0.65: AlexNet does not list its layers; use optimizer.rates",
        ),
        ("optimizer", {"name": "sgd", "layer_decay": 1.5}, "optimizer.layer_decay = 1.5: must be"),
        ("heads", ("expresion",), "did you mean 'expression'?"),
        ("heads", (), "heads = []: must be one or more heads, each once"),
        ("losses", (), "losses = []: must be one or more terms"),
        ("losses", ({"name": "focal"}, {"name": "focal"}), "must be one or more terms, each once"),
        ("losses", ({"name": "wieghted_cross_entropy"},), "did you mean 'weighted_cross_entropy'"),
        (
            "duration",
            {"epochs": 1.0, "steps": 5},
            "'steps': 5}: must be {'epochs': n} or {'steps': n}, with exactly one",
        ),
        ("duration", {"epoch": 1.0}, "duration.epoch = 1.0: no such key; did you mean 'epochs'?"),
        ("stop_after", {"steps": -5}, "'steps': -5}: must be 0, or {'epochs': n} or {'steps': n}"),
        ("duration", {"steps": -5}, "'steps': -5}: must be {'epochs': n} or {'steps': n}"),
        *(("duration", {"epochs": n}, "positive number, at most 1e9") for n in (1e308, inf, nan)),
        ("duration", {"steps": 10**400}, "positive number, at most 1e9"),
        ("batch_size", 10**400, "must be 1 or more, and below 2^31"),
        ("optimizer", {"name": "sgd", "weight_decay": 10**400}, "must be 0 or more"),
        ("trunk", {"name": "resnet18", "width": 10**400}, "must be 1 or more"),
        ("trunk", {"name": ["resnet18"]}, "trunk.name = ['resnet18']: unknown"),
        ("data.num_classes", 0, "data.num_classes = 0: must be 2 or more"),
        ("heads", ([1],), "heads: [1]: unknown"),
        ("losses", (1,), "losses[0].name: missing; 1 must be {'name': ..., option"),
        ("losses", ("cross_entropy",), "losses[0].name: missing; 'cross_entropy' must be"),
        (
            "losses",
            ({"name": "ccc", "head": ["expression"]},),
            "losses[0].head = ['expression']: must",
        ),
        ("evaluate_every", {"steps": 2.5}, "evaluate_every.steps = 2.5: must be int, not float"),
    ],
)
def test_invalid_value_is_reported_with_a_suggestion(registries, key, value, message):
    config = ConfigDict(to_dict(defaults()), type_safe=False)
    *path, last = key.split(".")
    target = config
    for name in path:
        target = target[name]
    with target.unlocked():
        target[last] = value
    assert message in error_message(config, registries)


NAMES = [name for registry in load_registries().values() for name in registry.names()]
LEAVES = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    st.sampled_from([*NAMES, "learned", 10**400, -(10**400), 1e308, 1e-320]),
)
KEYS = st.sampled_from(["name", "head", "weight", "steps", "epochs", "width"]) | st.text(
    "abc", min_size=1
)
VALUES = st.recursive(
    LEAVES,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(KEYS, values, max_size=3),
    max_leaves=8,
)


def find_places(values, path=()):
    """Yields the path of every value in nested dictionaries and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from find_places(value, (*path, key))


def find_options():
    """Yields (key of the config, spec) with one option of an entry, whose value is still None."""
    for kind, registry in load_registries().items():
        for name in registry.names() if kind in config_checks.SUPPLIED_ARGUMENTS else ():
            supplied = {"parent", "name", *config_checks.SUPPLIED_ARGUMENTS[kind]}
            for option in set(inspect.signature(registry[name]).parameters) - supplied:
                spec = {"name": name, "head": "expression"} if kind == "loss" else {"name": name}
                spec[option] = None
                yield kind, option, spec


PLACES, OPTIONS = list(find_places(to_dict(defaults()))), sorted(find_options(), key=str)


@st.composite
def damaged_configs(draw):
    """The default config with one value, or the options of one entry, replaced by anything."""
    config = to_dict(defaults())
    if draw(st.booleans()):
        *path, key = draw(st.sampled_from(PLACES))
        functools.reduce(operator.getitem, path, config)[key] = draw(VALUES)
    else:
        kind, option, spec = draw(st.sampled_from(OPTIONS))
        spec = {**spec, option: draw(VALUES)}
        if kind == "dataset":
            config["data"] |= {"name": spec.pop("name"), "options": spec}
        elif kind == "augmentation":
            config["data"]["augment"] = [spec]
        elif kind == "label_noise":
            config["data"]["label_noise"] = {"kind": spec.pop("name"), **spec}
        else:
            config |= {"losses": [spec]} if kind == "loss" else {kind: spec}
    return config


@given(values=damaged_configs())
@settings(max_examples=200)
def test_any_config_is_valid_or_a_user_error(registries, values):
    config = ConfigDict(values, type_safe=False)
    with contextlib.suppress(UserError):
        check(config, registries)


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", sorted(config_checks.SUPPLIED_ARGUMENTS))
def test_option_of_a_wrong_type_is_reported_for_every_entry(registries, kind):
    """Sets each option of each registered entry to a set, which is no valid option type."""
    for name in registries[kind].names():
        parameters = inspect.signature(registries[kind][name]).parameters.values()
        supplied = {"self", "parent", "name", *config_checks.SUPPLIED_ARGUMENTS[kind]}
        for parameter in [p for p in parameters if p.name not in supplied]:
            config = ConfigDict(to_dict(defaults()), type_safe=False)
            spec = {"name": name} | ({"head": "expression"} if kind == "loss" else {})
            spec[parameter.name] = {1, 2}
            if kind == "dataset":
                config.data.name = spec.pop("name")
                config.data.options = spec
            elif kind == "augmentation":
                config.data.augment = (spec,)
            elif kind == "label_noise":
                config.data.label_noise = {"kind": spec.pop("name"), **spec}
            else:
                config["losses" if kind == "loss" else kind] = (spec,) if kind == "loss" else spec
            message = error_message(config, registries)
            assert f"{parameter.name} = {{1, 2}}" in message and "must be" in message


def test_any_score_of_the_heads_can_select_the_best_checkpoint(registries):
    config = defaults()
    config.heads = ("expression", "valence_arousal", "action_units")
    for name in ("-dimensional.mean.rmse", "action_units.AU12.auc", "multitask"):
        config.checkpoint.best = name
        check(config, registries)
    config.data.name, config.checkpoint.best = "csv_faces", "categorical.top1.original.f1.smile"
    check(config, registries)  # its classes are read from its table later


def test_all_problems_are_reported_together(registries):
    config = defaults()
    config.learning_rate = -1.0
    config.batch_size = 100
    config.trunk = {"name": "vgg"}
    message = error_message(config, registries, num_devices=8, name="configs/mine.py")
    assert message.startswith("configs/mine.py has 3 problems\n  ")
    assert "batch_size = 100: must be a multiple of 8 devices; the nearest is 96" in message


def test_problems_of_the_config_are_not_repeated_for_its_stages(registries):
    config = defaults()
    config.batch_size, config.stages = 0, ({"seed": -1}, {"seed": 1})
    message = error_message(config, registries)
    assert "has 2 problems" in message and "stages[0].seed = -1: must be in" in message


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_pairs_of_faces_are_not_split_over_devices(registries, name):
    config = defaults()
    config.data.augment, config.batch_size = ({"name": name},), 12
    check(config, registries, num_devices=3)
    message = error_message(config, registries, num_devices=4)
    assert message == "config: data.augment[0]: needs a batch_size that is a multiple of 8"
    config.data.augment = ({"name": "grey"},)
    check(config, registries, num_devices=4)


def test_config_cannot_set_supplied_arguments(registries):
    config = defaults()
    config.losses = ({"name": "weighted_cross_entropy", "head": "expression", "class_counts": 3},)
    assert "losses[0].class_counts" in error_message(config, registries)

"""Config: defaults, conversion, digest, durations and variants."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax import config_checks
from affect_jax.config import (
    MUTABLE_KEYS,
    PATH_KEYS,
    config_digest,
    defaults,
    flatten,
    from_dict,
    to_dict,
    to_steps,
    variant,
    with_absolute_paths,
)
from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol
from affect_jax.train.experiment import load_registries


@pytest.fixture(scope="module")
def registries():
    return load_registries()


def test_defaults_are_those_of_the_protocol():
    config = defaults()
    assert (config.batch_size, config.learning_rate, config.duration.epochs) == (256, 0.01, 20)
    assert config.optimizer.momentum == 0.9
    assert (config.schedule.decay, config.schedule.interval.steps) == (0.1, 10_000)
    assert (config.data.image_size, config.data.crop_size) == (256, 224)


def test_with_absolute_paths_resolves_folders_and_keeps_the_digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = defaults()
    config.data.manual_dir = "../release"
    resolved = with_absolute_paths(config)
    assert resolved.data.data_dir == str(tmp_path / "data")
    assert resolved.data.manual_dir == str(tmp_path.parent / "release")
    assert config.data.data_dir == "data" and config_digest(resolved) == config_digest(config)
    config.data.manual_dir = ""
    assert with_absolute_paths(config).data.manual_dir == ""


def test_from_dict_fills_missing_keys_with_defaults():
    config = defaults()
    config.trunk, config.learning_rate = {"name": "resnet18"}, 0.5
    saved = to_dict(config)
    del saved["ema_decay"], saved["data"]["cache"]
    assert to_dict(from_dict(saved)) == to_dict(config)


@given(st.floats(0.01, 100), st.integers(1, 2000))
def test_durations_are_rounded_to_steps(epochs, steps_per_epoch):
    steps = to_steps({"epochs": epochs, "steps": 0}, steps_per_epoch)
    assert steps == max(1, round(epochs * steps_per_epoch))
    assert to_steps({"steps": 7}, steps_per_epoch) == 7


def test_config_survives_a_round_trip_through_json(registries):
    config = defaults()
    saved = json.loads(json.dumps(to_dict(config)))
    loaded = from_dict(saved)
    config_checks.check(
        loaded, registries=registries, validate_score_name=protocol.validate_score_name
    )
    assert to_dict(loaded) == to_dict(config)
    assert config_digest(loaded) == config_digest(config)


@pytest.mark.parametrize("key", sorted(flatten(defaults())))
def test_digest_depends_on_every_key_except_paths(key):
    values = to_dict(defaults())
    target = values
    *path, last = key.split(".")
    for name in path:
        target = target[name]
    target[last] = "something else"
    unchanged = config_digest(values) == config_digest(defaults())
    assert unchanged == (key.removeprefix("data.") in PATH_KEYS)


def test_mutable_keys_exist():
    keys = flatten(defaults())
    for prefix in MUTABLE_KEYS:
        assert any(key == prefix or key.startswith(f"{prefix}.") for key in keys), prefix


def test_unknown_variant_is_an_error():
    with pytest.raises(UserError, match="did you mean 'synthetic_faces'"):
        variant(defaults(), "synthetic_face")


@pytest.mark.parametrize("options", [{1: "a"}, {1: "a", "b": "c"}])
def test_keys_must_be_strings(options):
    config = defaults()
    config.data.options = options
    with pytest.raises(UserError, match="all keys of a config must be strings"):
        to_dict(config)

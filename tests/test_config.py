from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax import config_checks
from affect_jax.config import (
    MAY_CHANGE,
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
from affect_jax.train.experiment import all_registries


@pytest.fixture(scope="module")
def registries():
    return all_registries()


def test_the_protocols_numbers_are_the_defaults():
    config = defaults()
    assert (config.batch_size, config.learning_rate, config.duration.epochs) == (256, 0.01, 20)
    assert config.optimizer.momentum == 0.9
    assert (config.schedule.decay, config.schedule.interval.steps) == (0.1, 10_000)
    assert (config.data.image_size, config.data.crop_size) == (256, 224)


def test_a_run_knows_its_files_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = defaults()
    config.data.manual_dir = "../release"
    found = with_absolute_paths(config)
    assert found.data.data_dir == str(tmp_path / "data")
    assert found.data.manual_dir == str(tmp_path.parent / "release")
    assert config.data.data_dir == "data" and config_digest(found) == config_digest(config)
    config.data.manual_dir = ""
    assert with_absolute_paths(config).data.manual_dir == ""


def test_a_config_of_an_earlier_version_gets_the_defaults_of_newer_keys():
    config = defaults()
    config.trunk, config.learning_rate = {"name": "resnet18"}, 0.5
    saved = to_dict(config)
    del saved["ema_decay"], saved["data"]["cache"]
    assert to_dict(from_dict(saved)) == to_dict(config)


@given(st.floats(0.01, 100), st.integers(1, 2000))
def test_durations_are_whole_steps(epochs, steps_per_epoch):
    steps = to_steps({"epochs": epochs, "steps": 0}, steps_per_epoch)
    assert steps == max(1, round(epochs * steps_per_epoch))
    assert to_steps({"steps": 7}, steps_per_epoch) == 7


def test_a_config_survives_its_workdir(registries):
    config = defaults()
    saved = json.loads(json.dumps(to_dict(config)))
    back = from_dict(saved)
    config_checks.check(back, registries=registries, score_problem=protocol.name_problem)
    assert to_dict(back) == to_dict(config)
    assert config_digest(back) == config_digest(config)


@pytest.mark.parametrize("key", sorted(flatten(defaults())))
def test_the_digest_changes_with_every_key(key):
    values = to_dict(defaults())
    target = values
    *path, last = key.split(".")
    for name in path:
        target = target[name]
    target[last] = "something else"
    same = config_digest(values) == config_digest(defaults())
    assert same == (key in ("data.data_dir", "data.manual_dir"))


def test_may_change_names_keys_that_exist():
    keys = flatten(defaults())
    for prefix in MAY_CHANGE:
        assert any(key == prefix or key.startswith(f"{prefix}.") for key in keys), prefix


def test_an_unknown_variant_is_an_error():
    with pytest.raises(UserError, match="did you mean 'synthetic_faces'"):
        variant(defaults(), "synthetic_face")

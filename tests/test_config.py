from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax import checks, program
from affect_jax import config as configs
from affect_jax.errors import UserError


@pytest.fixture(scope="module")
def registries():
    return program.registries()


def test_the_protocols_numbers_are_the_defaults():
    config = configs.defaults()
    assert (config.batch_size, config.learning_rate, config.duration.epochs) == (256, 0.01, 20)
    assert config.optimizer.momentum == 0.9
    assert (config.schedule.decay, config.schedule.interval.steps) == (0.1, 10_000)
    assert (config.data.image_size, config.data.crop_size) == (256, 224)


def test_a_run_knows_its_files_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = configs.defaults()
    config.data.manual_dir = "../release"
    found = configs.located(config)
    assert found.data.data_dir == str(tmp_path / "data")
    assert found.data.manual_dir == str(tmp_path.parent / "release")
    assert config.data.data_dir == "data" and configs.digest(found) == configs.digest(config)
    config.data.manual_dir = ""
    assert configs.located(config).data.manual_dir == ""


def test_a_config_of_an_earlier_version_gets_the_defaults_of_newer_keys():
    config = configs.defaults()
    config.trunk, config.learning_rate = {"name": "resnet18"}, 0.5
    saved = configs.plain(config)
    del saved["ema_decay"], saved["data"]["cache"]
    assert configs.plain(configs.from_plain(saved)) == configs.plain(config)


@given(st.floats(0.01, 100), st.integers(1, 2000))
def test_durations_are_whole_steps(epochs, steps_per_epoch):
    steps = configs.in_steps({"epochs": epochs, "steps": 0}, steps_per_epoch)
    assert steps == max(1, round(epochs * steps_per_epoch))
    assert configs.in_steps({"steps": 7}, steps_per_epoch) == 7


def test_a_config_survives_its_workdir(registries):
    config = configs.defaults()
    saved = json.loads(json.dumps(configs.plain(config)))
    back = configs.from_plain(saved)
    checks.check(back, registries=registries)
    assert configs.plain(back) == configs.plain(config)
    assert configs.digest(back) == configs.digest(config)


@pytest.mark.parametrize("key", sorted(configs.flatten(configs.defaults())))
def test_the_digest_changes_with_every_key(key):
    values = configs.plain(configs.defaults())
    target = values
    *path, last = key.split(".")
    for name in path:
        target = target[name]
    target[last] = "something else"
    same = configs.digest(values) == configs.digest(configs.defaults())
    assert same == (key in ("data.data_dir", "data.manual_dir"))


def test_may_change_names_keys_that_exist():
    keys = configs.flatten(configs.defaults())
    for prefix in configs.MAY_CHANGE:
        assert any(key == prefix or key.startswith(f"{prefix}.") for key in keys), prefix


def test_an_unknown_variant_is_an_error():
    with pytest.raises(UserError, match="did you mean 'synthetic_faces'"):
        configs.variant(configs.defaults(), "synthetic_face")

"""Recipes of several stages: weights, resume, and problems that show before training."""

from __future__ import annotations

import os
import pathlib
import signal

import numpy as np
import pytest

from affect_jax import main
from affect_jax.config import (
    config_digest,
    create_stages,
    defaults,
    from_dict,
    to_dict,
    with_absolute_paths,
)
from affect_jax.core.errors import UserError
from affect_jax.models import weight_mapping
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.trained_network import load_network
from affect_jax.run.workdir import Workdir
from affect_jax.train import stages
from affect_jax.train.experiment import load_registries
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.stages import train_stages
from tests.faults import tiny_config  # noqa: F401  # registers the trunk `tiny`
from tests.releases import create_flags, shrink_config, write_release

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD_FIRST = {
    "duration": {"epochs": 0, "steps": 3},
    "optimizer": {"name": "sgd", "momentum": 0.9, "rates": {"trunk": 0.0}},
}


@pytest.fixture(scope="module")
def data_folders(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    folder = tmp_path_factory.mktemp("faces")
    write_release(folder / "release")
    return folder / "release", folder / "data"


def create_config(data_folders, **changes):
    """A run of 4 steps after a stage of 3 that trains the head."""
    load_registries()
    config = defaults()
    shrink_config(config, *data_folders, **{"duration": {"steps": 4}, **changes})
    config.trunk, config.schedule = {"name": "tiny"}, {"name": "constant"}
    config.stages = (HEAD_FIRST,)
    return with_absolute_paths(config)


def all_steps(folder: pathlib.Path) -> list[int]:
    return Checkpoints(folder / "checkpoints").all_steps()


def read_weights(folder: pathlib.Path, checkpoint: str = "last") -> dict[str, np.ndarray]:
    return weight_mapping.flatten_by_name(**load_network(folder, checkpoint).variables)


@pytest.fixture(scope="module")
def reference(data_folders, tmp_path_factory) -> pathlib.Path:
    """A finished run of two stages."""
    folder = tmp_path_factory.mktemp("reference")
    assert train_stages(create_config(data_folders), Workdir(folder)) == 0
    return folder


def test_stages_are_runs_and_resume_in_either(
    data_folders, reference, tmp_path, monkeypatch, capfd
):
    """A signal in each stage ends the command; the final weights are those without interruption."""
    assert all_steps(reference / "stage1")[-1] == 3 and all_steps(reference)[-1] == 4
    original_add, count = MetricsLog.add, [0]

    def add(log, metrics, steps):
        count[0] += 1
        if count[0] in (2, 5):  # the second update of stage 1, and of stage 2
            os.kill(os.getpid(), signal.SIGTERM)
        return original_add(log, metrics, steps)

    monkeypatch.setattr(MetricsLog, "add", add)
    config = create_config(data_folders)
    assert train_stages(config, Workdir(tmp_path)) == 128 + signal.SIGTERM
    assert all_steps(tmp_path / "stage1") == [2] and not all_steps(tmp_path)
    assert train_stages(config, Workdir(tmp_path)) == 128 + signal.SIGTERM
    assert all_steps(tmp_path / "stage1")[-1] == 3 and all_steps(tmp_path) == [2]
    capfd.readouterr()
    assert train_stages(from_dict(Workdir(tmp_path).load_config()), Workdir(tmp_path)) == 0
    output = capfd.readouterr().err
    assert f"stage 2 of 2: {tmp_path}" in output and "stage 1 of 2" not in output
    for folder in (".", "stage1"):
        expected = read_weights(reference / folder)
        for name, value in read_weights(tmp_path / folder).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=f"{folder} {name}")


def test_a_stage_starts_from_the_last_checkpoint_of_the_one_before(
    data_folders, reference, tmp_path, monkeypatch
):
    """The best checkpoint may be another."""
    started = {}

    def train(config, workdir, previous):
        weights = stages.initial_weights.read(config, previous)
        started[workdir.path] = weights and weight_mapping.flatten_by_name(
            weights.params, weights.batch_stats
        )
        return 0

    monkeypatch.setattr(Checkpoints, "best_step", lambda *_: pytest.fail("reads the best"))
    monkeypatch.setattr(stages, "train_and_evaluate", train)
    (tmp_path / "stage1").symlink_to(reference / "stage1")
    assert train_stages(create_config(data_folders), Workdir(tmp_path)) == 0
    assert started[tmp_path / "stage1"] is None  # `init_from` is empty
    expected = read_weights(reference / "stage1")
    for name, value in started[tmp_path].items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    fresh = create_config(data_folders)
    fresh.stages = ()
    assert train_stages(fresh, Workdir(tmp_path / "fresh")) == 0
    assert started[tmp_path / "fresh"] is None


def test_stages_survive_a_round_trip_and_change_the_digest():
    config = defaults()
    config.stages = ({"data.name": "synthetic_faces", "optimizer": {"name": "adam"}}, {"seed": 3})
    loaded = from_dict(to_dict(config))
    assert to_dict(loaded) == to_dict(config)
    assert config_digest(loaded) == config_digest(config) != config_digest(defaults())
    first, second, last = create_stages(loaded)
    assert last is loaded and not first.stages and not second.stages
    assert (first.data.name, to_dict(first.optimizer)) == ("synthetic_faces", {"name": "adam"})
    assert first.data.image_size == config.data.image_size
    assert (second.data.name, second.seed) == ("affectnet", 3)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trunk": {"name": "resnet18", "width": 8}}, r"init_from = 'stages\[0\]': does not match"),
        ({"init_from": "absent.pth"}, "init_from = 'absent.pth': no such file"),
        ({"data__manual_dir": "nowhere", "data__image_size": 44}, "nowhere"),
        ({"optimizer": {"name": "sgd", "rates": {"trnk": 0.1}}}, "name starts with 'trnk'"),
        ({"schedule": {"name": "cosine", "warmup": {"epochs": 9.0}}}, "warmup = .* be shorter"),
    ],
)
def test_problems_of_later_stages_show_before_the_first(tmp_path, changes, message, monkeypatch):
    """Another network, a missing file, missing data, and settings that do not fit them."""
    monkeypatch.setattr(stages, "train_and_evaluate", lambda *_: pytest.fail("trains"))
    write_release(tmp_path / "release")
    folders = (tmp_path / "release", tmp_path / "data")
    specs = {key: value for key, value in changes.items() if isinstance(value, dict)}
    config = create_config(folders, **{k: v for k, v in changes.items() if k not in specs})
    stage = {**HEAD_FIRST, "trunk": {"name": "tiny"}, "data.manual_dir": str(folders[0])}
    stage |= {"data.image_size": 40, "schedule": {"name": "constant"}}
    config.stages = (stage,)
    for key, spec in specs.items():
        config[key] = spec
    with pytest.raises(UserError, match=message):
        train_stages(config, Workdir(tmp_path / "run"))


@pytest.mark.slow
def test_command_trains_all_stages(data_folders, tmp_path, monkeypatch, capfd):
    (tmp_path / "recipe.py").write_text(
        "from affect_jax.config import defaults\n\n\n"
        "def get_config():\n"
        "    config = defaults()\n"
        "    config.trunk = {'name': 'resnet18', 'width': 8}\n"
        f"    config.stages = ({ {**HEAD_FIRST, 'data.mirror': False} },)\n"
        "    return config\n"
    )
    flags = ["--config=recipe.py", *create_flags(*data_folders, duration__epochs=0)]
    monkeypatch.chdir(tmp_path)
    code = main.main([*flags, "--config.duration.steps=2"])
    errors = capfd.readouterr().err
    assert code == 0, errors
    run = tmp_path / "runs" / "recipe"
    assert errors.index("stage 1 of 2: ") < errors.index("stage 2 of 2: ")
    assert f"Weights of {run / 'stage1'}: " in errors.replace("runs/", f"{run.parent}/")
    first, last = read_weights(run / "stage1"), read_weights(run)
    trunk = "params.trunk.stage1_block1.layer1.conv.kernel"
    assert (first[trunk] != last[trunk]).any()

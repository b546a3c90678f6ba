"""The loop: what it writes, that it goes on exactly, that it ends with scores."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import pathlib
import signal
import types

import jax
import numpy as np
import pytest

from affect_jax import config_checks
from affect_jax.config import from_dict, to_dict
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.errors import UserError
from affect_jax.core.parallel import AXIS
from affect_jax.data.builder import open_split
from affect_jax.data.targets import prepare_dataset
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train import training_run
from affect_jax.train.experiment import all_registries, create_experiment, training_rows
from affect_jax.train.loop import train_and_evaluate
from affect_jax.train.state import create_state
from affect_jax.train.step import train_step
from affect_jax.train.train_log import TrainLog
from affect_jax.train.training_run import PANEL_FACES, TrainingRun
from tests.releases import shrink, write_release

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """A small release, and where its records go."""
    folder = tmp_path_factory.mktemp("faces")
    write_release(folder / "release")
    return folder / "release", folder / "data"


def load(name: str, dataset: str = "affectnet"):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(dataset)


def fit(places, folder: pathlib.Path, name: str = "alexnet_joint", **changes) -> int:
    all_registries()
    config = load(name)
    config.schedule = {"name": "constant"}
    config.trunk = {"name": "resnet18"}
    changes = {"checkpoint__every": {"steps": 4}, "evaluate_every": {"steps": 4}} | changes
    shrink(config, *places, **changes)
    workdir = Workdir(folder)
    workdir.create()
    return train_and_evaluate(config, workdir)


def saved_info(folder: pathlib.Path, step: int) -> dict:
    """What lies beside a checkpoint's arrays."""
    sealed = json.loads((folder / "checkpoints" / str(step) / "info" / "metadata").read_text())
    return json.loads(sealed["body"])


def saved(folder: pathlib.Path, step: int) -> dict:
    """SHA-256 of every array of a checkpoint, by name: parameters, optimizer, average, step."""
    return {k: v["sha256"] for k, v in saved_info(folder, step)["arrays"].items()}


@pytest.fixture(scope="module")
def undisturbed(places, tmp_path_factory) -> pathlib.Path:
    """A run of 12 updates: an epoch and a half."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert fit(places, folder, duration={"steps": 12}) == 0
    return folder


def logged(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: pathlib.Path) -> dict[int, float]:
    return {row["step"]: row["train.loss"] for row in logged(folder) if "train.loss" in row}


def test_a_run_writes_what_it_promises(undisturbed):
    steps = Checkpoints(undisturbed / "checkpoints").steps()
    assert 12 in steps and len(steps) <= 3  # the last two and the best
    info = saved_info(undisturbed, 12)
    config = from_dict(info["config"])
    assert config.trunk.name == "resnet18" and config.duration.steps == 12
    assert info["epoch"] == pytest.approx(12 / 7)
    assert sorted(losses(undisturbed)) == [3, 4, 6, 8, 9, 12]
    evaluated = [row for row in logged(undisturbed) if "multitask" in row]
    assert [row["step"] for row in evaluated] == [4, 8, 12]
    for name in ("categorical.top1.original.f1.macro", "dimensional.valence.ccc"):
        assert all(name in row for row in evaluated)
    trained = [row for row in logged(undisturbed) if "train.loss" in row]
    for name in ("learning_rate", "images_per_second", "gradient_norm", "data_wait_share"):
        assert all(f"train.{name}" in row for row in trained)


def test_tensorboard_shows_scores_pictures_and_hparams(undisturbed):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(undisturbed / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/learning_rate", "train/gradient_norm"} <= set(tags["scalars"])
    assert {"train/images_per_second", "categorical/top1/original/accuracy"} <= set(tags["scalars"])
    assert {"confusion", "faces", "training_faces"} <= {tag.split("/")[0] for tag in tags["images"]}
    assert [event.step for event in events.Scalars("train/loss")] == [3, 4, 6, 8, 9, 12]
    contents = b"".join(
        path.read_bytes() for path in (undisturbed / "tensorboard").rglob("*") if path.is_file()
    )
    assert b"_hparams_/session_start_info" in contents and b"optimizer.momentum" in contents


@pytest.mark.parametrize("stop", [4, 5, 8])
def test_a_resumed_run_equals_an_undisturbed_one(places, undisturbed, tmp_path, stop):
    """Stopped at an epoch's inside and edge (8 updates an epoch): the same bits, the same log."""
    assert fit(places, tmp_path, duration={"steps": stop}) == 0
    assert fit(places, tmp_path, duration={"steps": 12}) == 0
    assert saved(tmp_path, 12) == saved(undisturbed, 12)
    expected = losses(undisturbed)
    found = losses(tmp_path)
    whole = [step for step in expected if step > stop + 3]  # lines of the same steps
    assert whole and all(found[step] == expected[step] for step in whole)


@pytest.mark.parametrize("cache", ["host", "device"])
def test_every_cache_trains_the_same(places, undisturbed, tmp_path, cache):
    assert fit(places, tmp_path, duration={"steps": 12}, data__cache=cache) == 0
    assert saved(tmp_path, 12) == saved(undisturbed, 12)
    assert losses(tmp_path) == losses(undisturbed)


def test_a_signal_saves_and_ends_the_run(places, undisturbed, tmp_path, monkeypatch, capfd):
    plain, added = TrainLog.add, []

    def add(log, metrics, count):
        added.append(metrics)
        if len(added) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(log, metrics, count)

    monkeypatch.setattr(TrainLog, "add", add)
    assert fit(places, tmp_path, duration={"steps": 12}) == 128 + signal.SIGTERM
    assert Checkpoints(tmp_path / "checkpoints").steps()[-1] == 6
    assert "SIGTERM: finishing the step and saving" in capfd.readouterr().err
    monkeypatch.setattr(TrainLog, "add", plain)
    assert fit(places, tmp_path, duration={"steps": 12}) == 0
    assert saved(tmp_path, 12) == saved(undisturbed, 12)


def test_a_last_checkpoint_that_failed_is_written_again(places, undisturbed, tmp_path, monkeypatch):
    """A clock that jumps in its midst is over when it is tried again."""
    tries, save = [], Checkpoints.save

    def failing_once(self, step: int, *rest):
        tries.append(step)
        if tries.count(12) != 1:
            save(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", failing_once)
    assert fit(places, tmp_path, duration={"steps": 12}) == 0
    assert tries == [4, 8, 12, 12]
    assert saved(tmp_path, 12) == saved(undisturbed, 12)


def test_a_finished_run_says_so_again(places, undisturbed, capsys):
    before = saved(undisturbed, 12)
    assert fit(places, undisturbed, duration={"steps": 12}) == 0
    assert "validation, step 12 (the last)" in capsys.readouterr().out
    assert saved(undisturbed, 12) == before


def test_a_loss_that_is_not_finite_ends_the_run_as_soon_as_it_is_known(places, tmp_path):
    """Nothing calls for a line of the log, an evaluation or a checkpoint within these steps."""
    never = {
        "log_every": 100,
        "evaluate_every": {"steps": 100},
        "checkpoint__every": {"steps": 100},
    }
    with pytest.raises(UserError, match=r"^step [2-5]: the loss .* is not finite"):
        fit(places, tmp_path, duration={"steps": 50}, learning_rate=1e30, **never)
    assert Checkpoints(tmp_path / "checkpoints").steps() == []
    (found,) = json.loads((tmp_path / "nonfinite.json").read_text())[:1]
    rest = json.loads((tmp_path / "nonfinite.json").read_text())[-1]["step"]
    assert rest <= found["step"] + TrainLog.IN_FLIGHT


def test_an_unknown_best_score_is_told_before_training(places, tmp_path):
    with pytest.raises(UserError, match="checkpoint.best = 'f1'"):
        fit(places, tmp_path, checkpoint__best="f1")
    assert not (tmp_path / "checkpoints").exists()


def test_other_data_than_the_runs_are_refused(places, undisturbed, tmp_path):
    write_release(tmp_path / "other", training=56)
    with pytest.raises(UserError, match="trained on other prepared data"):
        fit((tmp_path / "other", tmp_path / "data"), undisturbed, duration={"steps": 14})


def test_the_panel_shows_each_faces_own_points_and_sides(monkeypatch):
    points, sides = np.random.default_rng(0).random((50, 68, 2)), np.arange(50)
    shown = {}

    def panel(images, landmarks, action_unit_sides, table, rows):
        shown.update(images=images, points=landmarks, sides=action_unit_sides, rows=rows)

    monkeypatch.setattr(training_run, "face_panel", panel)
    targets = {"landmarks": points, "action_unit_sides": sides}
    evaluator = types.SimpleNamespace(faces=lambda rows: 2 * rows, targets=targets)
    table = Predictions(id=np.array([f"{i}" for i in range(50)]), classes=("neutral",))
    TrainingRun.draw_evaluation(types.SimpleNamespace(evaluator=evaluator), table)
    rows = shown["rows"]
    assert rows[0] == 0 and rows[-1] == 49 and len(rows) == PANEL_FACES
    np.testing.assert_array_equal(shown["images"], 2 * rows)
    np.testing.assert_array_equal(shown["points"], points[rows])
    np.testing.assert_array_equal(shown["sides"], rows)


@pytest.mark.parametrize("strategy, counts", [("natural", None), ("down", 5), ("up", 7)])
def test_an_epoch_has_the_strategys_faces(places, strategy, counts):
    config = load("alexnet_imbalanced")
    shrink(config, *places, batch_size=1)
    config.sampling = {"name": strategy, "cap": 5} if strategy == "down" else {"name": strategy}
    all_registries()
    split = open_split(prepare_dataset(config), "training")
    targets = make_targets(split.columns(), 8)
    rows = training_rows(config, targets)
    seen = np.concatenate([rows[step] for step in range(rows.steps_per_epoch)])
    found = np.bincount(targets["expression"][seen], minlength=8)
    everyone = np.bincount(targets["expression"][targets["expression_mask"]], minlength=8)
    wanted = everyone if counts is None else np.full(8, counts)
    if strategy == "up":
        wanted = np.full(8, everyone.max())
    assert found.tolist() == wanted.tolist()
    assert targets["expression_mask"][seen].all()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_config_overfits_sixteen_faces(path, places):
    """Builds, takes steps, and learns sixteen faces by heart: all its terms at once."""
    config = load(path.stem)
    trunk = to_dict(config.trunk)["name"]
    shrink(config, *places, trunk__name=trunk, ema_decay=0.0)
    config.trunk = {"name": trunk, "width": 8}
    if trunk != "resnet18":
        config.trunk = {"name": trunk, "width": 64, "initialisation": "torch", "dropout": 0.0}
        config.data.image_size, config.data.crop_size = 80, 72
    config.optimizer = {"name": "adam"}
    config.schedule = {"name": "constant"}
    config.learning_rate, config.data.mirror, config.batch_size = 2e-3, False, 16
    registries = all_registries()
    config_checks.check(
        config, registries=registries, score_problem=protocol.name_problem, name=path.name
    )
    random = np.random.default_rng(0)
    targets = make_targets(
        {
            "expression": np.arange(16) % 8,
            "valence": random.uniform(-1, 1, 16),
            "arousal": random.uniform(-1, 1, 16),
            "action_units": random.integers(0, 2, (16, 18)),
        }
    )
    batch = take_rows(targets, np.arange(16))
    size = config.data.image_size
    batch["image"] = random.integers(0, 256, (16, size, size, 3), np.uint8)
    config.data.crop_size = size  # no random crop: the same sixteen pictures each step
    made = create_experiment(config, targets, steps_per_epoch=1)
    step = jax.jit(
        jax.vmap(
            functools.partial(train_step, made),
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None,
        )
    )
    state, first = create_state(made), {}
    for _ in range(200):
        state, metrics = step(state, split_for_devices(batch, 1))
        found = {k: float(v) for k, v in metrics.compute().items()}
        first = first or found
        shares = {term: found[f"loss_{term}"] / first[f"loss_{term}"] for term in made.loss.names}
        if max(shares.values()) < 0.3:
            break
    assert max(shares.values()) < 0.3, shares

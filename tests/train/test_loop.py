"""The training loop: its output, exact resume, and its final scores."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from affect_jax.config import from_dict, to_dict
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.errors import UserError
from affect_jax.core.parallel import AXIS
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.tfds_builder import open_split
from affect_jax.models.network import create_network
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train import loop
from affect_jax.train.experiment import (
    check_config,
    create_experiment,
    create_training_rows,
    load_registries,
)
from affect_jax.train.loop import train_and_evaluate
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.state import create_state
from affect_jax.train.step import train_step
from tests.faults import tiny_config  # noqa: F401  # registers the trunk `tiny`
from tests.releases import shrink_config, write_release
from tests.trained_runs import small_trunk

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))


@pytest.fixture(scope="module")
def data_folders(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """Folders of a small release and of its prepared records."""
    folder = tmp_path_factory.mktemp("faces")
    write_release(folder / "release")
    return folder / "release", folder / "data"


def load_config(name: str, dataset: str = "affectnet"):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(dataset)


def train(data_folders, folder: pathlib.Path, name: str = "alexnet_joint", **changes) -> int:
    load_registries()
    config = load_config(name)
    config.schedule = {"name": "constant"}
    changes = {"checkpoint__every": {"steps": 4}, "evaluate_every": {"steps": 4}} | changes
    shrink_config(config, *data_folders, **changes)
    config.trunk = {"name": "tiny"}
    workdir = Workdir(folder)
    workdir.create()
    with workdir.lock():
        return train_and_evaluate(config, workdir)


def manifest_of(folder: pathlib.Path, step: int) -> dict:
    """The manifest of a checkpoint."""
    manifest = json.loads((folder / "checkpoints" / str(step) / "info" / "metadata").read_text())
    return json.loads(manifest["body"])


def array_hashes(folder: pathlib.Path, step: int) -> dict:
    """SHA-256 of every array of a checkpoint, by name: parameters, optimizer, average, step."""
    return {k: v["sha256"] for k, v in manifest_of(folder, step)["arrays"].items()}


@pytest.fixture(scope="module")
def reference_run(data_folders, tmp_path_factory) -> pathlib.Path:
    """An uninterrupted run of 12 updates: an epoch and a half."""
    folder = tmp_path_factory.mktemp("reference")
    assert train(data_folders, folder, duration={"steps": 12}) == 0
    return folder


def log_rows(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: pathlib.Path) -> dict[int, float]:
    return {row["step"]: row["train.loss"] for row in log_rows(folder) if "train.loss" in row}


def test_run_writes_checkpoints_and_metrics(reference_run):
    steps = Checkpoints(reference_run / "checkpoints").all_steps()
    assert 12 in steps and len(steps) <= 3  # the last two and the best
    info = manifest_of(reference_run, 12)
    config = from_dict(info["config"])
    assert config.trunk.name == "tiny" and config.duration.steps == 12
    assert info["epoch"] == pytest.approx(12 / 7)
    assert sorted(losses(reference_run)) == [3, 4, 6, 8, 9, 12]
    evaluated = [row for row in log_rows(reference_run) if "multitask" in row]
    assert [row["step"] for row in evaluated] == [4, 8, 12]
    for name in ("categorical.top1.original.f1.macro", "dimensional.valence.ccc"):
        assert all(name in row for row in evaluated)
    assert all(row["evaluation.loss"] > 0 for row in evaluated)
    trained = [row for row in log_rows(reference_run) if "train.loss" in row]
    for name in ("learning_rate", "images_per_second", "gradient_norm", "data_wait_share"):
        assert all(f"train.{name}" in row for row in trained)
    assert not (reference_run / "tensorboard" / "plugins").exists()  # `config.profile` is off


def test_tensorboard_shows_scores_images_and_hparams(reference_run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(reference_run / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/learning_rate", "train/gradient_norm"} <= set(tags["scalars"])
    assert {"train/images_per_second", "categorical/top1/original/accuracy"} <= set(tags["scalars"])
    assert {"confusion", "training_faces"} <= {tag.split("/")[0] for tag in tags["images"]}
    assert [event.step for event in events.Scalars("train/loss")] == [3, 4, 6, 8, 9, 12]
    contents = b"".join(
        path.read_bytes() for path in (reference_run / "tensorboard").rglob("*") if path.is_file()
    )
    assert b"_hparams_/session_start_info" in contents and b"optimizer.momentum" in contents


def assert_resumed_exactly(folder: pathlib.Path, reference: pathlib.Path, stop: int) -> None:
    """Asserts that a run stopped after update `stop` ends with the reference's bits and log."""
    assert array_hashes(folder, 12) == array_hashes(reference, 12)
    expected, resumed = losses(reference), losses(folder)
    comparable = [step for step in expected if step > stop + 3]  # means over the same steps
    assert comparable and all(resumed[step] == expected[step] for step in comparable)


@pytest.mark.slow
def test_run_stops_without_a_better_score_and_resumes_exactly(
    data_folders, tmp_path, monkeypatch, capfd
):
    settings = {"duration": {"steps": 200}, "stop_after": {"steps": 4}, "learning_rate": 0.1}
    settings |= {"evaluate_every": {"steps": 2}, "checkpoint__every": {"steps": 1000}}
    folders = [tmp_path / name for name in ("whole", "resumed")]
    assert train(data_folders, folders[0], **settings) == 0
    last = Checkpoints(folders[0] / "checkpoints").all_steps()[-1]
    name = "multitask"  # the config's checkpoint.best
    scores = {row["step"]: row[name] for row in log_rows(folders[0]) if name in row}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert last == best + 4 == max(scores) < 200
    text = f"step {last}: stopped early: no better {name} since step {best}"
    assert text in capfd.readouterr().err
    key = "early_stop.best_step"
    assert [(row["step"], row[key]) for row in log_rows(folders[0]) if key in row] == [(last, best)]
    original_add, added = MetricsLog.add, []

    def add(log, metrics, count):
        added.append(metrics)
        if len(added) == best + 2:  # between the best evaluation and the last
            os.kill(os.getpid(), signal.SIGTERM)
        return original_add(log, metrics, count)

    monkeypatch.setattr(MetricsLog, "add", add)
    assert train(data_folders, folders[1], **settings) == 128 + signal.SIGTERM
    assert Checkpoints(folders[1] / "checkpoints").all_steps()[-1] == best + 2
    for _ in range(2):  # resumes, then finds nothing to do
        assert train(data_folders, folders[1], **settings) == 0
        assert array_hashes(folders[1], last) == array_hashes(folders[0], last)
        assert Checkpoints(folders[1] / "checkpoints").all_steps()[-1] == last


@pytest.mark.slow
@pytest.mark.parametrize("stop", [4, 5, 8])
def test_resume_is_exact(data_folders, reference_run, tmp_path, stop):
    """Stopped within an epoch and at its end (8 updates an epoch): same bits, same log."""
    assert train(data_folders, tmp_path, duration={"steps": stop}) == 0
    assert train(data_folders, tmp_path, duration={"steps": 12}) == 0
    assert_resumed_exactly(tmp_path, reference_run, stop)


def test_signal_saves_and_stops_and_resume_is_exact(
    data_folders, reference_run, tmp_path, monkeypatch, capfd
):
    original_add, added = MetricsLog.add, []

    def add(log, metrics, count):
        added.append(metrics)
        if len(added) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original_add(log, metrics, count)

    monkeypatch.setattr(MetricsLog, "add", add)
    assert train(data_folders, tmp_path, duration={"steps": 12}) == 128 + signal.SIGTERM
    assert Checkpoints(tmp_path / "checkpoints").all_steps()[-1] == 5
    assert "SIGTERM: finishing the step and saving" in capfd.readouterr().err
    monkeypatch.setattr(MetricsLog, "add", original_add)
    assert train(data_folders, tmp_path, duration={"steps": 12}) == 0
    assert_resumed_exactly(tmp_path, reference_run, 5)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["device", "host"])
def test_caches_do_not_change_training(data_folders, reference_run, tmp_path, cache):
    assert train(data_folders, tmp_path, duration={"steps": 12}, data__cache=cache) == 0
    assert array_hashes(tmp_path, 12) == array_hashes(reference_run, 12)
    assert losses(tmp_path) == losses(reference_run)


@pytest.mark.slow
def test_failed_final_checkpoint_is_written_again(
    data_folders, reference_run, tmp_path, monkeypatch
):
    """Covers a transient failure, as after a jump of the clock during the save."""
    attempts, save = [], Checkpoints.save

    def failing_once(self, step: int, *rest):
        attempts.append(step)
        if attempts.count(12) != 1:
            save(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", failing_once)
    assert train(data_folders, tmp_path, duration={"steps": 12}) == 0
    assert attempts == [4, 8, 12, 12]
    assert array_hashes(tmp_path, 12) == array_hashes(reference_run, 12)


@pytest.mark.parametrize("steps", [12, 8])  # as long as before, and shorter
def test_finished_run_prints_its_scores_again(data_folders, reference_run, capsys, steps):
    before = array_hashes(reference_run, 12)
    assert train(data_folders, reference_run, duration={"steps": steps}) == 0
    assert "validation, step 12 (the last)" in capsys.readouterr().out
    assert array_hashes(reference_run, 12) == before


def test_nonfinite_loss_stops_the_run_within_a_few_steps(data_folders, tmp_path):
    """No log line, evaluation or checkpoint is due within these steps."""
    never = {
        "log_every": 100,
        "evaluate_every": {"steps": 100},
        "checkpoint__every": {"steps": 100},
    }
    with pytest.raises(UserError, match=r"^step [2-5]: the loss .* is not finite"):
        train(data_folders, tmp_path, duration={"steps": 50}, learning_rate=1e30, **never)
    assert Checkpoints(tmp_path / "checkpoints").all_steps() == []


def test_unknown_best_score_is_refused_before_training(data_folders, tmp_path):
    with pytest.raises(UserError, match="checkpoint.best = 'f1'"):
        train(data_folders, tmp_path, checkpoint__best="f1")
    assert not (tmp_path / "checkpoints").exists()


def test_deleted_workdir_ends_the_run_with_one_error(data_folders, tmp_path, monkeypatch):
    original_add = MetricsLog.add

    def add(log, metrics, count):
        if (tmp_path / "run").exists():
            (tmp_path / "run").rename(tmp_path / "moved")
        return original_add(log, metrics, count)

    monkeypatch.setattr(MetricsLog, "add", add)
    with pytest.raises(UserError, match="was deleted or moved during the run"):
        train(data_folders, tmp_path / "run", duration={"steps": 12})
    assert not (tmp_path / "run").exists()


def test_damaged_checkpoint_is_set_aside_and_written_again(data_folders, reference_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference_run, folder)
    (folder / "checkpoints" / "12" / "info" / "metadata").write_text("damaged")
    assert train(data_folders, folder, duration={"steps": 12}) == 0
    assert array_hashes(folder, 12) == array_hashes(reference_run, 12)
    damaged = folder / "checkpoints" / "damaged" / "12" / "info" / "metadata"
    assert damaged.read_text() == "damaged"


def test_resume_with_other_data_is_refused(data_folders, reference_run, tmp_path):
    write_release(tmp_path / "other", training=56)
    with pytest.raises(UserError, match="trained on other prepared data"):
        train((tmp_path / "other", tmp_path / "data"), reference_run, duration={"steps": 14})


def test_resume_under_other_settings_is_one_warning(logged_warnings, monkeypatch):
    numerics = loop.parallel.describe_numerics()
    loop.warn_about_numerics({})  # of a checkpoint that does not record them
    loop.warn_about_numerics(numerics)
    assert not logged_warnings
    loop.warn_about_numerics({**numerics, "threads": 999, "jax_enable_x64": "?"})
    (warning,) = logged_warnings
    assert "jax_enable_x64 '?' -> False" in warning
    assert f"threads 999 -> {numerics['threads']}" in warning


@pytest.mark.parametrize("strategy, counts", [("natural", None), ("down", 5), ("up", 7)])
def test_epoch_has_the_class_counts_of_its_sampling(data_folders, strategy, counts):
    config = load_config("alexnet_imbalanced")
    shrink_config(config, *data_folders, batch_size=1)
    config.sampling = {"name": strategy, "cap": 5} if strategy == "down" else {"name": strategy}
    load_registries()
    split = open_split(prepare_dataset(config), "training")
    targets = make_targets(split.columns(), 8)
    rows = create_training_rows(config, targets, split)
    sampled = np.concatenate([rows[step] for step in range(rows.steps_per_epoch)])
    sampled_counts = np.bincount(targets["expression"][sampled], minlength=8)
    split_counts = np.bincount(targets["expression"][targets["expression_mask"]], minlength=8)
    expected = split_counts if counts is None else np.full(8, counts)
    if strategy == "up":
        expected = np.full(8, split_counts.max())
    assert sampled_counts.tolist() == expected.tolist()
    assert targets["expression_mask"][sampled].all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dataset", ["affectnet", "synthetic_faces"])
def test_every_config_is_valid_and_can_start(name, dataset):
    """Its checks pass, its network takes its crop, and rendered faces need no file of weights."""
    config = load_config(name, dataset)
    load_registries()
    check_config(config, name=name)
    create_network(config).variable_shapes()
    is_recipe_of_weights = name in ("finetune_resnet18", "frozen_resnet18")
    assert dataset == "affectnet" or is_recipe_of_weights or not config.init_from


def describe_objective(name: str) -> str:
    """What of a config changes how its network learns a fixed batch."""
    config = load_config(name)
    keys = (config.trunk.name, config.heads, config.losses, config.data.num_classes, config.dtype)
    return str([*map(to_dict, keys)])


@pytest.mark.slow
@pytest.mark.usefixtures("short_trunks")
@pytest.mark.parametrize("name", {describe_objective(name): name for name in NAMES}.values())
def test_every_config_overfits_sixteen_faces(name, data_folders):
    """Every loss term of a config falls below 30 % on sixteen fixed faces.

    One of several configs is trained that differ, for example, in their sampling only.
    """
    config = load_config(name)
    trunk = to_dict(config.trunk)["name"]
    shrink_config(config, *data_folders, trunk__name=trunk, ema_decay=0.0)
    config.trunk = {"name": trunk, "width": 64, "initialisation": "torch", "dropout": 0.0}
    config.data.image_size, config.data.crop_size = 80, 72
    if "alexnet" not in trunk:
        config.trunk = {**small_trunk(trunk), "width": 16 if "vit" in trunk else 8}
        config.data.image_size = config.data.crop_size = 32 if "vit" in trunk else 40
    config.data.augment = ()
    config.optimizer = {"name": "adam"}
    config.schedule = {"name": "constant"}
    config.learning_rate, config.data.mirror, config.batch_size = 2e-3, False, 16
    check_config(config, name=name)
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
    config.data.crop_size = size  # no random crop: the same sixteen images in each step
    experiment = create_experiment(config, targets, steps_per_epoch=1)
    step = jax.jit(
        jax.vmap(
            functools.partial(train_step, experiment),
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None,
        )
    )
    state, first = create_state(experiment), {}
    for _ in range(200):
        state, metrics = step(state, split_for_devices(batch, 1))
        means = {k: float(v) for k, v in metrics.compute().items()}
        first = first or means
        ratios = {
            term: means[f"loss_{term}"] / first[f"loss_{term}"] for term in experiment.loss.terms
        }
        if max(ratios.values()) < 0.3:
            break
    assert max(ratios.values()) < 0.3, ratios

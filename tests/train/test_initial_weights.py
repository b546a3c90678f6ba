"""Initial weights: loaded arrays, arrays that stay random, and frozen trunks."""

from __future__ import annotations

import functools
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from affect_jax.config import defaults, to_dict
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.errors import UserError
from affect_jax.core.parallel import AXIS
from affect_jax.main import main
from affect_jax.models import weight_mapping
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.trained_network import load_network
from affect_jax.run.workdir import Workdir
from affect_jax.train import initial_weights
from affect_jax.train.experiment import Experiment, create_experiment, load_registries
from affect_jax.train.loop import train_and_evaluate
from affect_jax.train.state import TrainState, create_state, eval_variables
from affect_jax.train.step import train_step
from tests.releases import create_flags, shrink_config, write_release

ROOT = pathlib.Path(__file__).resolve().parents[2]


def create_config(init_from: object = "", *, classes: int = 8, ema: float = 0.0, **optimizer):
    config = defaults()
    config.data.image_size, config.data.crop_size, config.data.num_classes = 40, 32, classes
    config.trunk = {"name": "resnet18", "width": 8}
    config.init_from, config.ema_decay = str(init_from), ema
    if optimizer:
        config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1, **optimizer}
    return config


@functools.cache
def fresh_state(classes: int = 8, ema: float = 0.0):
    return create_state(experiment_of(create_config(classes=classes, ema=ema)))


def experiment_of(config) -> Experiment:
    targets = make_targets({"expression": np.arange(40) % config.data.num_classes})
    return create_experiment(config, targets, steps_per_epoch=10)


def weights(seed: int = 1, classes: int = 8):
    """Parameters and batch statistics that all differ from fresh ones."""
    random = np.random.default_rng(seed)
    fresh = fresh_state(classes)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) + random.uniform(0.01, 0.02, leaf.shape).astype(np.float32),
        (fresh.params["model"], fresh.batch_stats),
    )


def write_file(path: pathlib.Path, params, batch_stats) -> pathlib.Path:
    safetensors.numpy.save_file(weight_mapping.flatten_by_name(params, batch_stats), path)
    return path


def assert_trees_equal(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


def load_weights(config) -> initial_weights.InitialWeights:
    initial = initial_weights.read(config)
    assert initial is not None
    return initial


def test_empty_init_from_loads_nothing():
    assert initial_weights.read(create_config()) is None


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_file_fills_network_statistics_and_average(tmp_path, ema):
    params, batch_stats = weights()
    path = write_file(tmp_path / "w.safetensors", params, batch_stats)
    state = load_weights(create_config(path, ema=ema)).apply_to(fresh_state(ema=ema))
    assert_trees_equal(state.params["model"], params)
    assert_trees_equal(state.batch_stats, batch_stats)
    assert_trees_equal(state.ema, params if ema else {})
    assert int(state.step) == 0
    assert_trees_equal(state.opt_state, fresh_state(ema=ema).opt_state)
    assert jax.tree.structure(state) == jax.tree.structure(fresh_state(ema=ema))
    arrays = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, np.ndarray)]
    assert len({leaf.ctypes.data for leaf in arrays}) == len(arrays), (
        "an array would be donated twice"
    )


def test_hub_address_is_not_a_run_folder(monkeypatch):
    params, batch_stats = weights()
    sources = []

    def read(source):
        sources.append(source)
        return weight_mapping.flatten_by_name(params, batch_stats)

    monkeypatch.setattr(initial_weights.weight_files, "read", read)
    state = load_weights(create_config("hf://owner/faces")).apply_to(fresh_state())
    assert sources == ["hf://owner/faces"]
    assert_trees_equal(state.params["model"], params)


def test_head_with_other_classes_stays_random(tmp_path):
    params, batch_stats = weights(classes=5)
    path = write_file(tmp_path / "w.safetensors", params, batch_stats)
    initial = load_weights(create_config(path))
    state = initial.apply_to(fresh_state())
    assert_trees_equal(state.params["model"]["trunk"], params["trunk"])
    assert_trees_equal(
        state.params["model"]["expression"], fresh_state().params["model"]["expression"]
    )
    assert sorted(initial.report.initialised) == [
        "params.expression.bias",
        "params.expression.kernel",
    ]
    assert sorted(initial.report.unused) == ["params.expression.bias", "params.expression.kernel"]


def write_run(folder: pathlib.Path, ema: float) -> dict[int, TrainState]:
    """Writes a run with two checkpoints; the first has the better score."""
    config = create_config(ema=ema)
    config.checkpoint.best = "score"
    workdir, saved = Workdir(folder), {}
    workdir.create()
    workdir.save_config(to_dict(config))
    with Checkpoints.from_config(config, workdir) as checkpoints:
        for step, score in ((10, 0.9), (20, 0.1)):
            params, batch_stats = weights(seed=step)
            state = fresh_state(ema=ema).replace(
                step=np.array(step, np.int32),
                params={"model": params, "loss": {}},
                batch_stats=batch_stats,
                ema=weights(seed=step + 1)[0] if ema else {},
            )
            saved[step] = jax.tree.map(np.asarray, state)
            checkpoints.save(step, saved[step], {"epoch": 1.0, "data": "d"}, {"score": score})
            checkpoints.wait()
    return saved


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_run_provides_the_weights_of_its_evaluation(tmp_path, ema):
    saved = write_run(tmp_path / "run", ema)
    state = load_weights(create_config(tmp_path / "run")).apply_to(fresh_state())
    expected = eval_variables(saved[10])
    assert_trees_equal(state.params["model"], expected["params"])
    assert_trees_equal(state.batch_stats, expected["batch_stats"])


def error_message(config) -> str:
    with pytest.raises(UserError) as error:
        initial_weights.read(config)
    return str(error.value)


def test_crop_that_the_trunk_cannot_take_is_refused_before_the_data_are_prepared(tmp_path):
    load_registries()
    config = create_config()
    config.data.crop_size = 40
    config.trunk = {"name": "vit_small", "width": 12, "depth": 1}
    with pytest.raises(UserError, match="data.crop_size = 40: must be a multiple of 16 for a ViT"):
        train_and_evaluate(config, Workdir(tmp_path))  # there is no data


def test_unusable_sources_are_refused(tmp_path):
    assert "no such file" in error_message(create_config(tmp_path / "absent.pth"))
    assert "no such file" in error_message(create_config(tmp_path))
    workdir = Workdir(tmp_path / "untrained")
    workdir.create()
    workdir.save_config(to_dict(create_config()))
    assert "no checkpoint; train first" in error_message(create_config(workdir.path))
    write_run(tmp_path / "run", 0.0)
    wider = create_config(tmp_path / "run")
    wider.trunk = {"name": "resnet18", "width": 16}
    assert "does not match trunk 'resnet18'" in error_message(wider)
    for path in (tmp_path / "run" / "checkpoints" / "10" / "state").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    assert "cannot be restored" in error_message(create_config(tmp_path / "run"))


def apply_updates(config, state: TrainState, count: int = 2) -> TrainState:
    """The state after updates on two simulated devices."""
    experiment = experiment_of(config)
    update = jax.jit(
        jax.vmap(
            functools.partial(train_step, experiment),
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None,
        )
    )
    random = np.random.default_rng(0)
    targets = make_targets({"expression": np.arange(8)})
    for _ in range(count):
        batch = take_rows(targets, np.arange(8))
        batch["image"] = random.integers(0, 256, (8, 40, 40, 3), np.uint8)
        state, metrics = update(state, split_for_devices(batch, 2))
        assert np.isfinite(float(metrics.compute()["loss"]))
    return state


@pytest.mark.slow
def test_frozen_trunk_stays_fixed_and_the_head_learns():
    config = create_config(rates={"trunk": 0.0})
    before = create_state(experiment_of(config))
    after = apply_updates(config, before)
    assert_trees_equal(after.params["model"]["trunk"], before.params["model"]["trunk"])
    assert_trees_equal(after.batch_stats, before.batch_stats)
    for a, b in zip(
        *(jax.tree.leaves(s.params["model"]["expression"]) for s in (after, before)), strict=True
    ):
        assert (np.asarray(a) != np.asarray(b)).all()


def test_parts_of_the_network_have_their_learning_rates():
    rates = {"trunk": 0.25, "trunk/stem": 0.0, "trunk/stage4": 0.5}
    experiment = experiment_of(create_config(momentum=0.0, weight_decay=0.0, rates=rates))
    params = fresh_state().params
    ones = jax.tree.map(np.ones_like, params)
    updates, _ = experiment.optimizer.update(ones, experiment.optimizer.init(params), params)
    for name, layer in updates["model"]["trunk"].items():
        expected = {"stem": 0.0, "stage4_block1": 0.5, "stage4_block2": 0.5}.get(name, 0.25)
        for leaf in jax.tree.leaves(layer):
            np.testing.assert_allclose(leaf, -expected * 0.01, rtol=1e-6)
    for leaf in updates["model"]["expression"].values():
        np.testing.assert_allclose(leaf, -0.01, rtol=1e-6)


@pytest.fixture(scope="module")
def data_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    write_release(folder / "release")
    return folder / "release", folder / "data"


def train(data_folders, folder: pathlib.Path, init_from: object, steps: int) -> int:
    load_registries()
    config = create_config()
    shrink_config(config, *data_folders, trunk__name="resnet18", duration={"steps": steps})
    config.trunk = {"name": "resnet18", "width": 8}
    config.optimizer = {"name": "sgd", "momentum": 0.9, "rates": {"trunk": 0.0}}
    config.init_from, config.ema_decay = str(init_from), 0.0
    workdir = Workdir(folder)
    workdir.create()
    workdir.save_config(to_dict(config))
    return train_and_evaluate(config, workdir)


@pytest.mark.slow
def test_run_starts_from_the_file_and_resumes_from_its_checkpoint(data_folders, tmp_path, capsys):
    """A checkpoint of the run takes precedence over `init_from`."""
    params, batch_stats = weights()
    path = write_file(tmp_path / "w.safetensors", params, batch_stats)
    assert train(data_folders, tmp_path / "run", path, 2) == 0
    assert f"Weights of {path}: " in capsys.readouterr().err
    path.unlink()
    assert train(data_folders, tmp_path / "run", path, 4) == 0  # the file is no longer needed
    assert "Weights of" not in capsys.readouterr().err
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.all_steps()[-1] == 4
    arrays = weight_mapping.flatten_by_name(**load_network(tmp_path / "run", "last").variables)
    for name, value in weight_mapping.flatten_by_name(params, batch_stats).items():
        if "trunk" in name:
            np.testing.assert_array_equal(arrays[name], value)


def test_damaged_file_is_refused_before_data_are_prepared(data_folders, tmp_path):
    release, _ = data_folders
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"garbage")
    with pytest.raises(UserError, match="damaged or not a safetensors file"):
        train((release, tmp_path / "data"), tmp_path / "run", path, 2)
    assert not (tmp_path / "data").exists()


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_missing_file_leaves_the_workdir_usable(data_folders, tmp_path, monkeypatch, capsys):
    """The command works in the same folder with another `init_from`."""
    monkeypatch.chdir(tmp_path)
    flags = ["--workdir=run", f"--config={ROOT / 'configs' / 'finetune_resnet18.py'}"]
    for name in ("absent.pth", "nowhere.pth"):
        flags += [*create_flags(*data_folders), f"--config.init_from={name}"]
        assert main(flags) == 2
        message = f"affect_jax: init_from = '{name}': no such file"
        assert capsys.readouterr().err.splitlines()[-1] == message

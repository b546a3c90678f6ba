"""Loading a network from a run's folder: checkpoint, weights and class names."""

from __future__ import annotations

import numpy as np
import pytest

from affect_jax.config import to_dict
from affect_jax.core.errors import UserError
from affect_jax.run.trained_network import class_names, load_network
from affect_jax.run.workdir import Workdir
from tests.trained_runs import create_config, create_weights, write_run


def kernel(tree):
    return np.asarray(tree["params"]["expression"]["kernel"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with three checkpoints, of which the second is the best."""
    config = create_config(checkpoint__keep_last=3)
    return write_run(
        tmp_path_factory.mktemp("trained") / "run", config, (10, 20, 30), (0.1, 0.3, 0.2)
    )


@pytest.mark.parametrize("checkpoint, step", [("best", 20), ("last", 30), ("10", 10)])
def test_load_network_reads_the_selected_checkpoint(run, checkpoint, step):
    loaded = load_network(run, checkpoint)
    assert loaded.step == step
    saved = create_weights(loaded.config, seed=step)["params"]["model"]
    np.testing.assert_array_equal(kernel(loaded.variables), saved["expression"]["kernel"])
    assert set(loaded.variables["batch_stats"]["trunk"]) == set(saved["trunk"])


def test_moving_average_is_loaded_if_the_run_has_one(tmp_path):
    config = create_config(ema_decay=0.9)
    loaded = load_network(write_run(tmp_path / "run", config))
    average = create_weights(config, seed=200)["ema"]
    np.testing.assert_array_equal(kernel(loaded.variables), average["expression"]["kernel"])


def test_class_names_are_those_of_the_data_set():
    assert class_names(create_config(data__num_classes=7))[-1] == "anger"
    config = create_config(data__name="csv_faces", data__num_classes=2)
    config.data.options = {"classes": ("calm", "cross")}
    assert class_names(config) == ("calm", "cross")
    assert class_names(create_config(heads=("valence_arousal",))) == ()


def test_missing_run_or_checkpoint_is_an_error(run, tmp_path):
    for folder, checkpoint, message in (
        (tmp_path, "best", "contains no run"),
        (run, "11", "holds steps 10, 20, 30"),
        (run, "newest", "must be best, last or a step"),
    ):
        with pytest.raises(UserError, match=message):
            load_network(folder, checkpoint)
    empty = write_run(tmp_path / "empty", create_config(), ())
    with pytest.raises(UserError, match="no checkpoint; train first"):
        load_network(empty)


def test_checkpoint_must_fit_the_config(tmp_path):
    folder = write_run(tmp_path / "run", create_config())
    Workdir(folder).save_config(to_dict(create_config(data__num_classes=7)))
    with pytest.raises(UserError, match="another model: params.model.expression.bias"):
        load_network(folder)

"""A network from a run's folder alone: which checkpoint, which weights, which names."""

from __future__ import annotations

import numpy as np
import pytest

from affect_jax.config import to_dict
from affect_jax.core.errors import UserError
from affect_jax.run.load import Workdir, class_names, load_network
from tests.trained_runs import settings, weights, write


def kernel(tree):
    return np.asarray(tree["params"]["expression"]["kernel"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three checkpoints, the second of them best."""
    config = settings(checkpoint__keep_last=3)
    return write(tmp_path_factory.mktemp("trained") / "run", config, (10, 20, 30), (0.1, 0.3, 0.2))


@pytest.mark.parametrize("which, step", [("best", 20), ("last", 30), ("10", 10)])
def test_the_checkpoint_that_is_asked_for(run, which, step):
    found = load_network(run, which)
    assert found.step == step
    saved = weights(found.config, seed=step)["params"]["model"]
    np.testing.assert_array_equal(kernel(found.variables), saved["expression"]["kernel"])
    assert set(found.variables["batch_stats"]["trunk"]) == set(saved["trunk"])


def test_best_is_last_where_none_was_scored(tmp_path):
    assert load_network(write(tmp_path / "run", settings(), (10, 20))).step == 20


def test_a_moving_average_is_what_is_loaded(tmp_path):
    config = settings(ema_decay=0.9)
    found = load_network(write(tmp_path / "run", config))
    average = weights(config, seed=200)["ema"]
    np.testing.assert_array_equal(kernel(found.variables), average["expression"]["kernel"])


def test_classes_are_the_data_sets_first():
    assert class_names(settings(data__num_classes=7))[-1] == "anger"
    own = settings(data__name="csv_faces", data__num_classes=2)
    own.data.options = {"classes": ("calm", "cross")}
    assert class_names(own) == ("calm", "cross")
    assert class_names(settings(heads=("valence_arousal",))) == ()


def test_what_is_not_there_is_said_in_one_line(run, tmp_path):
    for folder, which, message in (
        (tmp_path, "best", "no run here"),
        (run, "11", "holds steps 10, 20, 30"),
        (run, "newest", "must be best, last or a step"),
    ):
        with pytest.raises(UserError, match=message):
            load_network(folder, which)
    empty = write(tmp_path / "empty", settings(), ())
    with pytest.raises(UserError, match="no checkpoint; train first"):
        load_network(empty)


def test_a_checkpoint_of_another_config_is_refused(tmp_path):
    folder = write(tmp_path / "run", settings())
    other = to_dict(settings(data__num_classes=7))
    Workdir(folder).save_config(other)
    with pytest.raises(UserError, match=r"not of its run's config: params.expression.bias"):
        load_network(folder)

"""The step with augmentations: any number of devices, masked targets, and probability 0."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from affect_jax.core.batch import split_for_devices
from affect_jax.core.parallel import AXIS
from affect_jax.train.experiment import load_registries
from affect_jax.train.state import create_state
from affect_jax.train.step import augment_batch, train_step
from tests.train.test_step import ALL_HEADS, create_small_experiment, random_batch, small_config

USUAL_SET = ("affine", "colour_jitter", "random_erasing", "mixup", "cutmix")


def test_probability_0_leaves_the_step_as_it_is():
    load_registries()
    batch, programs = random_batch(small_config()), []
    for augment in ((), USUAL_SET):
        experiment = create_small_experiment(augment=augment, probability=0.0)
        step = jax.jit(functools.partial(augment_batch, experiment))
        programs.append(step.lower(batch, 0).as_text())
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    ("augment", "counts", "soft"),
    [
        pytest.param(("mixup",), (1, 2), False, marks=pytest.mark.slow),
        pytest.param((), (1, 4), True, marks=pytest.mark.slow),
        (("mixup",), (1, 2), True),
        pytest.param(USUAL_SET, (1, 2, 4), False, marks=pytest.mark.slow),
    ],
)
def test_update_is_equal_on_any_number_of_devices(augment, counts, soft):
    """With targets of all heads, some masked and NaN. vmap checks that states are equal."""
    load_registries()
    experiment = create_small_experiment(heads=ALL_HEADS, augment=augment, probability=0.7)
    on_devices = {"axis_name": AXIS, "in_axes": (None, 0), "out_axes": None}
    step = jax.jit(jax.vmap(functools.partial(train_step, experiment), **on_devices))
    batch, state = random_batch(small_config()), create_state(experiment)
    batch["valence_arousal"][~batch["valence_arousal_mask"]] = np.nan
    if soft:
        distribution = np.random.default_rng(0).dirichlet(np.ones(8), len(batch["valid"]))
        batch["expression_distribution"] = distribution.astype(np.float32)
    results = [step(state, split_for_devices(batch, devices)) for devices in counts]
    losses = [float(metrics.compute()["loss"]) for _, metrics in results]
    assert np.isfinite(losses[0])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    for leaves in zip(*(jax.tree.leaves(after.params) for after, _ in results), strict=True):
        for values in leaves[1:]:
            np.testing.assert_allclose(values, leaves[0], rtol=1e-4, atol=1e-5)

"""The loss of an evaluation, from the table of predictions."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from affect_jax.core.labels import EXPRESSIONS
from affect_jax.facs.action_units import UNITS
from affect_jax.losses import create_loss
from affect_jax.metrics.predictions import Predictions
from affect_jax.models.network import TO_LABEL_UNITS
from affect_jax.train.periodic_actions import evaluate_loss


def test_evaluation_loss_is_that_of_the_logits():
    random = np.random.default_rng(0)
    shapes = {"expression": 8, "valence_arousal": 2, "action_units": len(UNITS)}
    logits = {k: random.normal(0, 0.4, (30, n)).astype(np.float32) for k, n in shapes.items()}
    logits["valence_arousal"] = np.clip(logits["valence_arousal"], -1, 1)
    targets = {
        "expression": random.integers(0, 8, 30).astype(np.int32),
        "expression_mask": np.arange(30) % 3 > 0,
        "valence_arousal": random.uniform(-1, 1, (30, 2)).astype(np.float32),
        "valence_arousal_mask": np.arange(30) % 4 > 0,
        "action_units": random.uniform(0, 1, (30, len(UNITS))).astype(np.float32),
        "action_units_mask": random.uniform(0, 1, (30, len(UNITS))) > 0.5,
    }
    terms = ("cross_entropy", "squared_error", "binary_cross_entropy")
    specs = [
        {"name": name, "head": head, "weight": weight}
        for name, head, weight in zip(terms, shapes, (2.0, "learned", 1.0), strict=True)
    ]
    loss = create_loss(specs, np.ones(8), np.full(len(UNITS), 0.5))
    outputs = {k: np.asarray(TO_LABEL_UNITS[k](v), np.float64) for k, v in logits.items()}
    table = Predictions(
        id=np.arange(30).astype(str),
        classes=EXPRESSIONS,
        expression=targets["expression"].astype(np.int64),
        probabilities=outputs["expression"] / outputs["expression"].sum(axis=1, keepdims=True),
        valence_arousal=targets["valence_arousal"].astype(np.float64),
        valence_arousal_predicted=outputs["valence_arousal"],
        units=tuple(UNITS),
        action_units=targets["action_units"].astype(np.float64),
        action_units_predicted=outputs["action_units"],
    )
    params = {"squared_error": jnp.float32(0.3)}
    values = evaluate_loss(loss, params, table, targets)
    expected = loss.values(loss.sums(logits, targets))  # pyright: ignore[reportArgumentType]
    for name, value in expected.items():
        assert values[f"evaluation.loss_{name}"] == pytest.approx(float(value), rel=1e-5)
    assert values["evaluation.loss"] == pytest.approx(float(loss.total(expected, params)), rel=1e-5)
    mask = targets["expression_mask"]
    entropies = optax.softmax_cross_entropy_with_integer_labels(
        logits["expression"][mask], targets["expression"][mask]
    )
    assert values["evaluation.loss_cross_entropy"] == pytest.approx(float(entropies.mean()))

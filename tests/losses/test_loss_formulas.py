"""Every term equals its published formula, implemented independently in PyTorch in float64."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from affect_jax import losses

torch = pytest.importorskip("torch")

COUNTS = np.array([700, 1300, 250, 140, 60, 40, 250, 3])
FREQUENCIES = np.linspace(0.02, 0.7, 18)
CROSS_ENTROPY = {"name": "cross_entropy", "head": "expression"}
WEIGHTED = {"name": "weighted_cross_entropy", "head": "expression"}
EFFECTIVE = {**WEIGHTED, "scheme": "effective_number", "beta": 0.99}
BALANCED = {"name": "balanced_softmax", "head": "expression"}
FOCAL = {"name": "focal", "head": "expression"}
FOCAL_UNITS = {"name": "focal", "head": "action_units"}
SQUARED = {"name": "squared_error", "head": "valence_arousal"}
CCC = {"name": "ccc", "head": "valence_arousal"}
BINARY = {"name": "binary_cross_entropy", "head": "action_units"}
ASYMMETRIC = {"name": "asymmetric", "head": "action_units"}


def batch_of(head: str, size: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws outputs, targets and mask in float64; about a third is masked."""
    random = np.random.default_rng(7)
    if head == "expression":
        outputs, targets = 2 * random.normal(size=(size, 8)), random.integers(0, 8, size)
    elif head == "valence_arousal":
        targets = random.uniform(-1, 1, (size, 2))
        outputs = 0.6 * targets + 0.4 * random.normal(size=(size, 2)) + 0.1
    else:
        outputs, targets = 2 * random.normal(size=(size, 18)), random.uniform(0, 1, (size, 18))
        targets[::2] = targets[::2] > 0.5  # some hard, some soft
    shape = targets.shape if head == "action_units" else (size,)
    return outputs, targets, random.uniform(size=shape) < 0.7


def cross_entropy(x, y, smoothing=0.0):
    return torch.nn.functional.cross_entropy(x, y, label_smoothing=smoothing)


def weighted(x, y, weights, smoothing=0.0, divide_by_weights=True):
    log_p = torch.log(torch.exp(x) / torch.exp(x).sum(1, keepdim=True))
    share = (1 - smoothing) * torch.nn.functional.one_hot(y, 8).double() + smoothing / 8
    w = torch.tensor(weights)[y]
    return -(w * (share * log_p).sum(1)).sum() / (w.sum() if divide_by_weights else len(y))


def balanced(x, y, tau=1.0):
    scores = torch.tensor(COUNTS**tau) * torch.exp(x)
    return -torch.log(scores[torch.arange(len(y)), y] / scores.sum(1)).mean()


def focal(x, y, gamma):
    p = torch.softmax(x, 1)[torch.arange(len(y)), y]
    return (-((1 - p) ** gamma) * torch.log(p)).mean()


def focal_units(x, y, gamma):
    p = torch.sigmoid(x)
    entropy = -y * torch.log(p) - (1 - y) * torch.log(1 - p)
    return (entropy * (1 - p * y - (1 - p) * (1 - y)) ** gamma).mean()


def squared(x, y, valence=0.5):
    square = (x - y) ** 2
    return valence * square[:, 0].mean() + (1 - valence) * square[:, 1].mean()


def ccc(x, y, valence=0.5):
    covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
    spread = x.var(0, correction=0) + y.var(0, correction=0) + (x.mean(0) - y.mean(0)) ** 2
    rho = 2 * covariance / spread
    return 1 - valence * rho[0] - (1 - valence) * rho[1]


def binary(x, y, weights=None):
    return torch.nn.functional.binary_cross_entropy_with_logits(x, y, weights)


def asymmetric(x, y, gamma_neg=4.0, gamma_pos=1.0, clip=0.05):
    p = torch.sigmoid(x)
    q = torch.clamp(p - clip, min=0)
    present = (1 - p) ** gamma_pos * torch.log(p)
    absent = torch.where(q > 0, q, 1.0) ** gamma_neg * torch.log(1 - q)
    return -(y * present + (1 - y) * absent).mean()


MIN_OVER = 3 / COUNTS
INVERSE = COUNTS.sum() / (8 * COUNTS)
EFFECTIVE_NUMBER = 0.01 / (1 - 0.99**COUNTS)
EFFECTIVE_NUMBER = 8 * EFFECTIVE_NUMBER / EFFECTIVE_NUMBER.sum()

CASES = [
    (CROSS_ENTROPY, cross_entropy),
    ({**CROSS_ENTROPY, "label_smoothing": 0.1}, lambda x, y: cross_entropy(x, y, 0.1)),
    (WEIGHTED, lambda x, y: weighted(x, y, MIN_OVER)),
    ({**WEIGHTED, "normalize_weights": False}, lambda x, y: weighted(x, y, MIN_OVER, 0.0, False)),
    ({**WEIGHTED, "label_smoothing": 0.2}, lambda x, y: weighted(x, y, MIN_OVER, 0.2)),
    ({**WEIGHTED, "power": 0.5}, lambda x, y: weighted(x, y, np.sqrt(MIN_OVER))),
    (
        {**WEIGHTED, "max_weight": 20, "normalize_weights": False},
        lambda x, y: weighted(x, y, np.minimum(MIN_OVER, 20 * 3 / 1300), 0.0, False),
    ),
    ({**WEIGHTED, "scheme": "inverse_frequency"}, lambda x, y: weighted(x, y, INVERSE)),
    (
        {**WEIGHTED, "scheme": "inverse_frequency", "normalize_weights": False},
        lambda x, y: weighted(x, y, INVERSE, 0.0, False),
    ),
    (EFFECTIVE, lambda x, y: weighted(x, y, EFFECTIVE_NUMBER)),
    (
        {**EFFECTIVE, "normalize_weights": False},
        lambda x, y: weighted(x, y, EFFECTIVE_NUMBER, 0.0, False),
    ),
    (BALANCED, balanced),
    ({**BALANCED, "tau": 0.5}, lambda x, y: balanced(x, y, 0.5)),
    ({**BALANCED, "tau": 0}, cross_entropy),
    ({**FOCAL, "gamma": 0}, cross_entropy),
    ({**FOCAL, "gamma": 0.5}, lambda x, y: focal(x, y, 0.5)),
    (FOCAL, lambda x, y: focal(x, y, 2.0)),
    ({**FOCAL, "gamma": 5}, lambda x, y: focal(x, y, 5.0)),
    (FOCAL_UNITS, lambda x, y: focal_units(x, y, 2.0)),
    ({**FOCAL_UNITS, "gamma": 0}, binary),
    (SQUARED, squared),
    ({**SQUARED, "axis_weights": (1, 0)}, lambda x, y: squared(x, y, 1.0)),
    ({**SQUARED, "axis_weights": (3, 1)}, lambda x, y: squared(x, y, 0.75)),
    (CCC, ccc),
    ({**CCC, "axis_weights": (1, 3)}, lambda x, y: ccc(x, y, 0.25)),
    (BINARY, binary),
    (ASYMMETRIC, asymmetric),
    ({**ASYMMETRIC, "clip": 0.0}, lambda x, y: asymmetric(x, y, clip=0.0)),
    ({**ASYMMETRIC, "clip": 0.2}, lambda x, y: asymmetric(x, y, clip=0.2)),
    (
        {**ASYMMETRIC, "gamma_neg": 0.5, "gamma_pos": 0},
        lambda x, y: asymmetric(x, y, 0.5, 0.0),
    ),
    ({**ASYMMETRIC, "gamma_neg": 0, "gamma_pos": 0, "clip": 0}, binary),
]


def name_of(case: object) -> str:
    if not isinstance(case, dict):
        return ""
    return " ".join(str(v) for k, v in case.items() if k != "head" or case["name"] == "focal")


@functools.cache
def compile_term(items: tuple, dtype: str):
    spec = dict(items)
    (term,) = losses.create_loss([spec], COUNTS, FREQUENCIES).terms.values()

    def value(outputs: jax.Array, batch: dict) -> jax.Array:
        return term.value(term.sums({spec["head"]: outputs}, batch))

    return jax.jit(jax.value_and_grad(value))


def compute_term(spec: dict, outputs, targets, mask, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Returns the value of the term and its gradient with respect to the outputs."""
    kind = targets.dtype if targets.dtype.kind == "i" else dtype
    batch = {spec["head"]: targets.astype(kind), f"{spec['head']}_mask": mask}
    with jax.enable_x64(dtype == "float64"):
        result, gradient = compile_term(tuple(spec.items()), dtype)(outputs.astype(dtype), batch)
        assert result.dtype == gradient.dtype == dtype
        return np.asarray(result), np.asarray(gradient)


def assert_close_to_reference(
    spec: dict, value, gradient, reference: torch.Tensor, x: torch.Tensor, dtype
) -> None:
    reference.backward()
    assert x.grad is not None
    # The float64 tolerance of CCC follows from 1e-8 beside a variance near 0.3 in its denominator.
    tolerance = {"float32": 2e-5, "float64": 1e-7 if spec["name"] == "ccc" else 1e-12}[dtype]
    np.testing.assert_allclose(value, reference.item(), rtol=tolerance)
    scale = float(x.grad.abs().max())
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("spec", "formula"), CASES, ids=name_of)
def test_value_and_gradient_equal_formula(spec, formula):
    assert_equals_formula(spec, formula, "float64")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "formula"), [case for case in CASES if len(case[0]) == 2], ids=name_of
)
def test_float32_is_accurate(spec, formula):
    assert_equals_formula(spec, formula, "float32")


def assert_equals_formula(spec: dict, formula, dtype: str) -> None:
    outputs, targets, mask = batch_of(spec["head"])
    x = torch.tensor(outputs, requires_grad=True)
    reference = formula(x[torch.tensor(mask)], torch.tensor(targets)[torch.tensor(mask)])
    assert_close_to_reference(
        spec, *compute_term(spec, outputs, targets, mask, dtype), reference, x, dtype
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cap", [0, 10])
def test_frequency_weighted_units_equal_formula(cap, dtype):
    spec = {**BINARY, "frequency_weights": True, "max_weight": cap}
    outputs, targets, mask = batch_of("action_units")
    x = torch.tensor(outputs, requires_grad=True)
    weights = 1 / FREQUENCIES
    weights = np.minimum(weights, cap * weights.min()) if cap else weights
    weights = torch.tensor(np.where(mask, weights / weights.mean(), 0.0))
    p = torch.sigmoid(x)
    entropy = -torch.tensor(targets) * torch.log(p) - (1 - torch.tensor(targets)) * torch.log(1 - p)
    reference = (weights * entropy).sum() / weights.sum()
    assert_close_to_reference(
        spec, *compute_term(spec, outputs, targets, mask, dtype), reference, x, dtype
    )


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("spread", [0.05, 0.3])
@pytest.mark.parametrize("quality", [0.0, 0.9, 0.9999])
def test_ccc_is_accurate_in_float32(offset, spread, quality):
    random = np.random.default_rng(3)
    targets = (offset + spread * random.normal(size=(512, 2))).astype(np.float32)
    noise = random.normal(size=(512, 2))
    outputs = quality * targets + (1 - quality) * (offset + spread * noise)
    outputs = outputs.astype(np.float32)
    mask = np.ones(512, bool)
    value, gradient = compute_term(CCC, outputs, targets, mask, "float32")
    x = torch.tensor(outputs.astype(np.float64), requires_grad=True)
    reference = ccc(x, torch.tensor(targets.astype(np.float64)))
    reference.backward()
    assert x.grad is not None
    np.testing.assert_allclose(value, reference.item(), rtol=2e-4)
    scale = float(x.grad.abs().max())
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=0, atol=1e-3 * scale)


def test_unit_frequencies_are_shares_of_annotated_faces():
    nan = np.nan
    units = np.array([[0.5, 0.49, nan], [1.0, 0.0, nan], [nan, 0.7, nan], [0.0, nan, nan]])
    np.testing.assert_array_equal(losses.unit_frequencies(units), [2 / 3, 1 / 3, nan])

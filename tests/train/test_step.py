"""Properties of the step: any number of devices, masks, purity. vmap checks more than pmap."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect_jax.config import ConfigDict, defaults
from affect_jax.core import parallel
from affect_jax.core.batch import Batch, make_targets, split_for_devices, take_rows
from affect_jax.core.parallel import AXIS
from affect_jax.core.rng import example_keys
from affect_jax.facs import rig
from affect_jax.models import alexnet, layers
from affect_jax.models.kernels import convolutions
from affect_jax.models.network import predict_step
from affect_jax.train.experiment import Experiment, create_experiment
from affect_jax.train.state import create_state, eval_variables
from affect_jax.train.step import augment_batch, train_step
from tests.batches import check_batch
from tests.faults import tiny_config  # noqa: F401  # registers the trunk `tiny`
from tests.trained_runs import small_trunk

SIZE, CROP, FACES = 40, 32, 8
pytestmark = pytest.mark.usefixtures("short_trunks")


def small_config(trunk: str = "tiny", **changes):
    config = defaults()
    config.data.image_size, config.data.crop_size = (80, 67) if "alexnet" in trunk else (SIZE, CROP)
    config.trunk = small_trunk(trunk)
    config.batch_size = FACES
    config.ema_decay = 0.9
    for key, value in changes.items():
        config[key] = value
    return config


def random_batch(config, seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    size = config.data.image_size
    columns = {
        "expression": random.integers(0, 11, FACES),
        "valence": np.where(random.random(FACES) < 0.3, np.nan, random.uniform(-1, 1, FACES)),
        "arousal": random.uniform(-1, 1, FACES),
        "action_units": random.uniform(0, 1, (FACES, 18)),
    }
    columns["expression"][:4] = [0, 1, 2, 3]
    targets = make_targets(columns)
    batch = take_rows(targets, np.arange(FACES))
    batch["index"] = random.permutation(1000)[:FACES].astype(np.int32)
    batch["image"] = random.integers(0, 256, (FACES, size, size, 3), np.uint8)
    check_batch(batch)
    return batch


@functools.cache
def create_small_experiment(
    trunk: str = "tiny",
    heads: tuple[str, ...] = ("expression",),
    learning_rate: float = 0.01,
    dtype: str = "float32",
    augment: tuple[str, ...] = (),
    probability: float = 0.5,
) -> Experiment:
    config = small_config(trunk, learning_rate=learning_rate, dtype=dtype)
    config.heads = heads
    config.data.augment = tuple({"name": name, "probability": probability} for name in augment)
    terms = {
        "expression": {"name": "weighted_cross_entropy", "head": "expression"},
        "valence_arousal": {"name": "ccc", "head": "valence_arousal"},
        "action_units": {"name": "binary_cross_entropy", "head": "action_units"},
    }
    config.losses = tuple(ConfigDict(terms[head]) for head in heads)
    targets = make_targets({"expression": np.repeat(np.arange(8), 5)})
    return create_experiment(config, targets, steps_per_epoch=10)


def simulate_devices(experiment: Experiment):
    """The step on simulated devices, one per entry of the batch's first axis."""
    return jax.jit(
        jax.vmap(
            functools.partial(train_step, experiment),
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None,  # raises on any leaf that is not equal on all devices
        )
    )


@functools.cache
def simulated_step(
    trunk: str, heads: tuple[str, ...], learning_rate: float = 0.01, dtype: str = "float32"
):
    return simulate_devices(create_small_experiment(trunk, heads, learning_rate, dtype))


@functools.cache
def run(
    trunk: str,
    heads: tuple[str, ...],
    devices: int,
    count: int = 3,
    learning_rate: float = 0.01,
    dtype: str = "float32",
):
    """Runs `count` updates on `devices` simulated devices; returns losses and the last state."""
    step = simulated_step(trunk, heads, learning_rate, dtype)
    state, losses = create_state(create_small_experiment(trunk, heads, learning_rate, dtype)), []
    for i in range(count):
        batch = random_batch(small_config(trunk), seed=i)
        state, metrics = step(state, split_for_devices(batch, devices))
        losses.append(float(metrics.compute()["loss"]))
    return losses, state


def run_on_two(trunk: str, count: int):
    """Like `run`, on two devices of this machine with `pmap`."""
    if jax.local_device_count() < 2:
        pytest.skip("one device: XLA_FLAGS was set before the tests could ask for two")
    experiment = create_small_experiment(trunk)
    step = parallel.parallelize(functools.partial(train_step, experiment))
    state, losses = parallel.replicate(create_state(experiment)), []
    for i in range(count):
        batch = split_for_devices(random_batch(small_config(trunk), seed=i), 2)
        state, metrics = jax.block_until_ready(step(state, parallel.shard(batch)))
        losses.append(float(metrics.compute()["loss"]))
    return losses, state


ALL_HEADS = ("expression", "valence_arousal", "action_units")


# Batch normalisation amplifies a difference of 1e-7 in the parameters to 1e-1 in the loss within
# ten updates at a rate of 0.01, on one device as on many. The tests over 50 updates therefore use a
# small rate for it; a test below compares single updates at the usual rate, which is the only way
# for deeper networks.
RATES = {"alexnet": 0.01, "alexnet_one_tower": 0.01, "resnet18": 1e-5, "tiny": 1e-4}


@pytest.mark.parametrize(
    ("trunk", "devices"),
    [
        ("tiny", 4),
        *(pytest.param(name, 4, marks=pytest.mark.slow) for name in ("alexnet", "resnet18")),
    ],
)
def test_any_number_of_devices_trains_to_the_same_losses(trunk, devices):
    options = {"count": 50, "learning_rate": RATES[trunk]}
    losses, state = run(trunk, ("expression",), 1, **options)
    split_losses, split_state = run(trunk, ("expression",), devices, **options)
    np.testing.assert_allclose(split_losses, losses, rtol=1e-5)
    tolerance = 1e-5 if "alexnet" in trunk else 1e-4
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(split_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=tolerance)


@pytest.fixture
def retrained_losses(monkeypatch):
    """Returns losses of a step that is traced again, with the functions that a test replaced."""
    monkeypatch.setitem(globals(), "simulated_step", simulated_step.__wrapped__)

    def train_again(trunk: str, count: int = 50, **options) -> list[float]:
        options["learning_rate"] = RATES[trunk]
        return run.__wrapped__(trunk, ("expression",), 1, count, **options)[0]

    return train_again


@pytest.mark.slow
def test_im2col_trains_to_the_same_losses(retrained_losses, monkeypatch):
    """im2col for all shapes, against XLA's own algorithm for all."""
    monkeypatch.setattr(convolutions, "use_im2col", lambda *_: False)
    xla_losses, calls = retrained_losses("resnet18"), []
    monkeypatch.setattr(convolutions, "use_im2col", lambda *shapes: not calls.append(shapes))
    np.testing.assert_allclose(retrained_losses("resnet18"), xla_losses, rtol=1e-5)
    assert calls


@pytest.mark.slow
def test_materialized_values_train_to_the_same_losses(retrained_losses, monkeypatch):
    losses = run("alexnet", ("expression",), 1, count=50, learning_rate=RATES["alexnet"])[0]
    calls = []

    def identity(values):
        calls.append(values.shape)
        return values

    monkeypatch.setattr(layers, "materialize_on_cpu", identity)
    np.testing.assert_allclose(retrained_losses("alexnet"), losses, rtol=1e-5)
    assert calls


@pytest.mark.slow
def test_response_normalisation_as_published_trains_to_the_same_losses(
    retrained_losses, monkeypatch
):
    losses = run("alexnet", ("expression",), 1, count=50, learning_rate=0.01)[0]
    calls = []

    def published(values):
        calls.append(values.shape)
        padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(2, 2)])
        around = jnp.stack([padded[..., i : i + values.shape[-1]] for i in range(5)])
        return values / (2 + 1e-4 * jnp.sum(around**2, axis=0)) ** 0.75

    monkeypatch.setattr(alexnet, "local_response_normalisation", published)
    np.testing.assert_allclose(retrained_losses("alexnet"), losses, rtol=1e-5)
    assert calls


@pytest.mark.slow
def test_bfloat16_computed_in_float32_trains_to_the_same_losses(retrained_losses, monkeypatch):
    """The last comparison uses XLA's own convolutions, as im2col rounds differently.

    Twenty steps, because XLA's bfloat16 is slow on a CPU.
    """
    trunk = "alexnet_one_tower"
    bfloat16_losses = retrained_losses(trunk, 20, dtype="bfloat16")
    np.testing.assert_allclose(bfloat16_losses, retrained_losses(trunk, 20), rtol=2e-2)
    monkeypatch.setattr(convolutions, "use_im2col", lambda *_: False)
    float32_layer_losses, dtypes = retrained_losses(trunk, 20, dtype="bfloat16"), []
    monkeypatch.setattr(
        layers, "compute_in_float32", lambda values: bool(dtypes.append(values.dtype))
    )
    bfloat16_losses = retrained_losses(trunk, 20, dtype="bfloat16")
    np.testing.assert_allclose(bfloat16_losses, float32_layer_losses, rtol=2e-2)
    assert jnp.bfloat16 in dtypes


@pytest.mark.parametrize(
    ("trunk", "count"),
    [
        ("tiny", 5),
        pytest.param("vit_small", 3, marks=pytest.mark.slow),
        pytest.param("resnet18", 20, marks=pytest.mark.slow),
        pytest.param("resnet50", 2, marks=pytest.mark.slow),
        pytest.param("iresnet50", 2, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 2, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", 2, marks=pytest.mark.slow),
    ],
)
def test_update_is_equal_on_any_number_of_devices(trunk, count):
    """Each update starts from the same state for all numbers of devices."""
    tolerance = 1e-4 if trunk == "resnet50" else 1e-5  # many normalisations of 8 faces
    numbers = (1, 2, 4) if trunk == "tiny" else (1, 4)
    step = simulated_step(trunk, ALL_HEADS)
    state = create_state(create_small_experiment(trunk, ALL_HEADS))
    for i in range(count):
        batch = random_batch(small_config(trunk), seed=i)
        results = [step(state, split_for_devices(batch, devices)) for devices in numbers]
        losses = [float(metrics.compute()["loss"]) for _, metrics in results]
        np.testing.assert_allclose(losses, losses[0], rtol=tolerance)
        statistics = [jax.tree.leaves(after.batch_stats) for after, _ in results]
        for leaves in zip(*statistics, strict=True):
            for values in leaves[1:]:
                np.testing.assert_allclose(values, leaves[0], rtol=10 * tolerance, atol=tolerance)
        state = results[0][0]


@pytest.mark.slow
def test_sam_trains_to_the_same_losses_on_any_number_of_devices():
    """Both gradients are of the whole batch."""
    config = small_config(learning_rate=1e-4)
    config.optimizer = {"name": "sam", "base": {"name": "sgd", "momentum": 0.9}, "rho": 0.5}
    targets = make_targets({"expression": np.repeat(np.arange(8), 5)})
    experiment = create_experiment(config, targets, steps_per_epoch=10)
    step = simulate_devices(experiment)
    losses = {}
    for devices in (1, 2, 4):
        state, losses[devices] = create_state(experiment), []
        for i in range(5):
            batch = split_for_devices(random_batch(config, seed=i), devices)
            state, metrics = step(state, batch)
            losses[devices].append(float(metrics.compute()["loss"]))
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-5)
    np.testing.assert_allclose(losses[4], losses[1], rtol=1e-5)


@pytest.mark.slow
def test_two_devices_train_to_the_same_losses_as_one():
    """Uses `pmap` over 50 steps."""
    losses, _ = run_on_two("alexnet_one_tower", count=50)
    expected, _ = run("alexnet_one_tower", ("expression",), 1, count=50)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_pmap_equals_vmap():
    losses, state = run_on_two("tiny", count=3)
    expected, _ = run("tiny", ("expression",), 2)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for leaf in jax.tree.leaves(state):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert all(np.array_equal(shards[0], shard) for shard in shards[1:])


@pytest.mark.parametrize("head", ALL_HEADS)
def test_masked_targets_change_nothing(head):
    experiment = create_small_experiment(heads=ALL_HEADS)
    step = simulated_step("tiny", ALL_HEADS)
    batch = random_batch(small_config())
    mask = batch[f"{head}_mask"].copy()
    mask.reshape(FACES, -1)[5] = False
    batch[f"{head}_mask"] = mask
    changed_batch = dict(batch)
    values = batch[head].copy()
    values[5] = 3 if head == "expression" else np.nan
    changed_batch[head] = values
    results = [
        step(create_state(experiment), split_for_devices(b, 1)) for b in (batch, changed_batch)
    ]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(a, b)


def test_step_is_a_pure_function():
    run_again = run.__wrapped__
    first, second = run("tiny", ("expression",), 1), run_again("tiny", ("expression",), 1)
    assert first[0] == second[0]
    for a, b in zip(*map(jax.tree.leaves, (first[1], second[1])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_keys_differ_by_seed_purpose_step_and_example():
    index = jnp.arange(3)
    keys = [
        jax.random.key_data(example_keys(seed, name, step, index))
        for seed in (0, 1)
        for name in ("augment", "dropout")
        for step in (0, 1)
    ]
    rows = np.concatenate(keys)
    assert len(np.unique(rows, axis=0)) == len(rows) == 24


def test_evaluation_uses_the_moving_average():
    _, state = run("tiny", ("expression",), 1)
    ema = jax.tree.leaves(eval_variables(state)["params"])
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(ema, jax.tree.leaves(state.params["model"]), strict=True)
    )
    assert all(np.array_equal(a, b) for a, b in zip(ema, jax.tree.leaves(state.ema), strict=True))


def test_predictions_have_the_units_of_the_labels():
    experiment = create_small_experiment(heads=ALL_HEADS)
    variables = eval_variables(create_state(experiment))
    image = {"image": random_batch(small_config())["image"]}
    predictions = jax.jit(functools.partial(predict_step, experiment))(variables, image)
    np.testing.assert_allclose(predictions["expression"].sum(axis=1), 1, rtol=1e-5)
    assert (np.abs(predictions["valence_arousal"]) <= 1).all()
    assert ((predictions["action_units"] > 0) & (predictions["action_units"] < 1)).all()
    predict_with_mirroring = jax.jit(functools.partial(predict_step, experiment, mirror=True))
    mirrored = {"image": image["image"][:, :, ::-1]}
    for head, value in predict_with_mirroring(variables, image).items():
        np.testing.assert_allclose(
            predict_with_mirroring(variables, mirrored)[head], value, rtol=1e-4, atol=1e-5
        )


def test_sides_of_units_are_swapped_for_mirrored_faces():
    """The left half of each face is bright, and the left side of its units is nonzero."""
    experiment = create_small_experiment()
    batch = random_batch(small_config())
    image = np.zeros_like(batch["image"])
    image[:, :, : image.shape[2] // 2] = 255
    sides, mask = np.zeros((FACES, 2, 18), np.float32), np.zeros((FACES, 2, 18), bool)
    sides[:, 0], mask[:, 0, :9] = 0.75, True
    batch_with_sides = {
        **batch,
        "image": image,
        "action_unit_sides": sides,
        "action_unit_sides_mask": mask,
    }
    images, augmented = jax.jit(functools.partial(augment_batch, experiment))(batch_with_sides, 0)
    columns = np.asarray(images).sum(axis=(1, 3))
    mirrored = columns[:, : CROP // 2].sum(axis=1) < columns[:, CROP // 2 :].sum(axis=1)
    assert 0 < mirrored.sum() < FACES
    for name, values in (("action_unit_sides", sides), ("action_unit_sides_mask", mask)):
        swapped = np.where(mirrored[:, None, None], values[:, ::-1], values)
        np.testing.assert_array_equal(np.asarray(augmented[name]), swapped)


def test_landmarks_are_transformed_with_their_faces():
    """A bright pixel at an eye corner moves with that landmark, or its mirrored counterpart."""
    experiment = create_small_experiment()
    batch = random_batch(small_config())
    corner, mirrored_corner = 36, 45
    assert rig.MIRROR[corner] == mirrored_corner
    points = np.full((FACES, 68, 2), 20.0, np.float32)
    points[:, corner] = 14, 17  # x, y
    mask = np.arange(FACES) != 3
    points[~mask] = 0
    image = np.zeros_like(batch["image"])
    image[:, 17, 14] = 255
    batch_with_landmarks = {**batch, "image": image, "landmarks": points, "landmarks_mask": mask}
    images, augmented = jax.jit(functools.partial(augment_batch, experiment))(
        batch_with_landmarks, 0
    )
    brightest = np.asarray(images).sum(axis=-1).reshape(FACES, -1).argmax(axis=1)
    landmarks = np.asarray(augmented["landmarks"])
    mirrored = 0
    for face, pixel in enumerate(brightest):
        y, x = divmod(int(pixel), CROP)
        if not mask[face]:
            assert not landmarks[face].any()
            continue
        matches = [
            point
            for point in (corner, mirrored_corner)
            if landmarks[face, point].tolist() == [x, y]
        ]
        assert len(matches) == 1
        mirrored += matches == [mirrored_corner]
    assert 0 < mirrored < FACES - 1

"""Augmentation: independent of devices and other entries; landmarks that follow the pixels."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax.config import defaults, from_dict, to_dict
from affect_jax.core.batch import TARGETS, make_targets
from affect_jax.core.rng import fold_in_name
from affect_jax.data import augment_faces, augment_pairs  # noqa: F401  # registers its entries
from affect_jax.data.augment import AUGMENTATIONS, apply_augmentations, create_augmentations
from affect_jax.facs.render.random_face import sample_face

FACES, SIZE = 16, 24
OPTIONS = {
    "affine": {"degrees": 30, "scale": (0.8, 1.2), "translate": 0.1, "shear": 10},
    "colour_jitter": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2},
    "mixup": {"alpha": 1.0},
}
SPECS = {name: {"name": name, **OPTIONS.get(name, {})} for name in AUGMENTATIONS.names()}
EVERY_ENTRY = pytest.mark.parametrize("name", sorted(SPECS))
GEOMETRIC = ("affine", "rand_augment")
SLOW = pytest.mark.slow


def faces_and_targets(seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    columns = {
        "expression": random.integers(0, 11, FACES),
        "valence": np.where(random.random(FACES) < 0.3, np.nan, random.uniform(-1, 1, FACES)),
        "arousal": random.uniform(-1, 1, FACES),
        "action_units": random.uniform(0, 1, (FACES, 18)),
        "landmarks": random.uniform(0, SIZE, (FACES, 68, 2)),
    }
    return random.integers(0, 256, (FACES, SIZE, SIZE, 3), np.uint8), make_targets(columns)


def keys_of(seed: int, count: int = FACES) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def compiled(specs: tuple[str, ...]):
    """The augmentations of specs, as JSON, on simulated devices [D, b, ...]."""
    augmentations = create_augmentations(map(json.loads, specs), num_classes=8)
    return jax.jit(jax.vmap(functools.partial(apply_augmentations, augmentations)))


def augment(*specs: dict, devices: int = 1, seed: int = 0, **changes: np.ndarray):
    """The result for `faces_and_targets` with changed targets, without the device axis."""
    images, targets = faces_and_targets()
    inputs = (images, {**targets, **changes}, keys_of(seed))
    split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), inputs)
    results = compiled(tuple(map(json.dumps, specs)))(*split)
    return jax.tree.map(lambda x: np.asarray(x).reshape(FACES, *x.shape[2:]), results)


@pytest.mark.parametrize(  # `rand_augment` applies all entries but the other two
    "name",
    [
        name if name in ("cutmix", "mixup", "rand_augment") else pytest.param(name, marks=SLOW)
        for name in sorted(SPECS)
    ],
)
def test_faces_are_equal_on_any_number_of_devices(name):
    expected, split = (jax.tree.leaves(augment(SPECS[name], devices=n)) for n in (1, 4))
    for a, b in zip(expected, split, strict=True):
        np.testing.assert_array_equal(a, b)


@EVERY_ENTRY
def test_faces_change_with_the_given_probability(name):
    """The other faces, and all targets but those that an entry changes, keep every bit."""
    images, targets = faces_and_targets()
    changed, changed_targets = augment(SPECS[name])
    assert changed.dtype == np.uint8 and changed.shape == images.shape
    is_changed = (changed != images).any(axis=(1, 2, 3))
    assert 0.15 * FACES <= is_changed.sum() <= 0.85 * FACES
    for key in targets:
        same = np.array_equal(changed_targets[key], targets[key])
        if name not in ("mixup", "cutmix"):
            assert same or (key == "landmarks" and name in GEOMETRIC)
        mask = targets.get(f"{key}_mask", targets[key])[~is_changed]
        kept, expected = changed_targets[key][~is_changed], targets[key][~is_changed]
        mask = mask.reshape(mask.shape + (1,) * (kept.ndim - mask.ndim))
        np.testing.assert_array_equal(kept * mask, expected * mask)


def test_probability_0_is_left_out_and_1_changes_all():
    assert create_augmentations([{**spec, "probability": 0} for spec in SPECS.values()], 8) == {}
    images, _ = faces_and_targets()
    changed, _ = augment({**SPECS["grey"], "probability": 1.0})
    assert (changed != images).any(axis=(1, 2, 3)).all()
    assert (changed == changed[..., :1]).all()


def test_adding_an_entry_does_not_change_another():
    erasing, silent = SPECS["random_erasing"], {"name": "gaussian_noise", "std": (0.0, 0.0)}
    alone, _ = augment(erasing)
    for specs in ([silent, erasing], [erasing, silent]):
        np.testing.assert_array_equal(augment(*specs)[0], alone)
    twice, _ = augment(erasing, erasing)
    assert not np.array_equal(twice, alone)  # each entry has keys of its own


@pytest.mark.parametrize("bilinear", [True, False])
def test_landmarks_are_within_half_a_pixel_of_their_pixels(bilinear):
    """Draws a bright spot at a point, transforms both and compares the centre of the spot."""
    size, count = 48, 24
    affine = augment_faces.Affine(
        degrees=40, scale=(0.7, 1.3), translate=0.15, shear=20, bilinear=bilinear
    )
    random = np.random.default_rng(1)
    points = random.uniform(8, size - 8, (count, 2)).astype(np.float32)
    row, column = np.indices((size, size))
    squared = (column - points[:, :1, None]) ** 2 + (row - points[:, 1:, None]) ** 2
    images = np.repeat(np.exp(-squared / 2 / 1.5**2)[..., None], 3, axis=-1).astype(np.float32)
    changed, moved = jax.jit(jax.vmap(affine.transform))(images, points[:, None], keys_of(2, count))
    weights, moved = np.asarray(changed)[..., 0], np.asarray(moved)[:, 0]
    total = weights.sum(axis=(1, 2))
    centres = [(weights * axis).sum(axis=(1, 2)) / total for axis in (column, row)]
    is_inside = ((moved > 6) & (moved < size - 7)).all(axis=1)
    assert is_inside.sum() > 10 and np.abs(moved - points).max() > 8
    distances = np.linalg.norm(np.stack(centres, axis=1) - moved, axis=1)
    assert distances[is_inside].max() < 0.5


@settings(max_examples=20)
@given(
    degrees=st.floats(0, 90),
    scale=st.tuples(st.floats(0.6, 1), st.floats(1, 1.5)),
    translate=st.floats(0, 0.2),
    shear=st.floats(0, 30),
    seed=st.integers(0, 2**31),
)
def test_affine_and_landmarks_agree_on_rendered_faces(degrees, scale, translate, shear, seed):
    """SciPy warps the face by the map of its landmarks; marks on landmarks are where they moved."""
    face = rendered_face()
    corners = face.landmarks[[8, 30, 36, 45, 48, 54]]  # chin, nose, corners of eyes and mouth
    row, column = np.indices((96, 96))
    squared = (column - corners[:, :1, None]) ** 2 + (row - corners[:, 1:, None]) ** 2
    marks = np.moveaxis(np.exp(-squared / 2 / 1.5**2), 0, -1)
    image = np.concatenate([face.image / 255, marks], axis=-1).astype(np.float32)
    affine = augment_faces.Affine(degrees=degrees, scale=scale, translate=translate, shear=shear)
    results = affine.transform(
        jnp.asarray(image), jnp.asarray(face.landmarks), jax.random.key(seed)
    )
    changed, moved = map(np.asarray, results)
    # Landmarks: the centroid of each mark that is inside.
    total = np.maximum(changed[..., 3:].sum(axis=(0, 1)), 1e-9)
    centres = [
        (changed[..., 3:] * axis[..., None]).sum(axis=(0, 1)) / total for axis in (column, row)
    ]
    expected = moved[[8, 30, 36, 45, 48, 54]]
    is_inside = ((expected > 8) & (expected < 87)).all(axis=1)
    distances = np.linalg.norm(np.stack(centres, axis=1) - expected, axis=1)
    assert not is_inside.any() or distances[is_inside].max() < 0.5
    # The face: a least-squares affine map from moved landmarks back to the landmarks.
    inverse, residuals, *_ = np.linalg.lstsq(np.c_[moved, np.ones(68)], face.landmarks, rcond=None)
    assert residuals.max() < 1e-4
    x, y = np.moveaxis(np.stack([column, row, np.ones((96, 96))], axis=-1) @ inverse, -1, 0)
    warped = scipy.ndimage.map_coordinates(face.image[..., 0] / 255, (y, x), order=1)
    is_read = (x > 1) & (x < 94) & (y > 1) & (y < 94)
    np.testing.assert_allclose(changed[..., 0][is_read], warped[is_read], atol=0.02)


@functools.cache
def rendered_face():
    return sample_face(0, 3, size=96)


def random_image(size: int = 32) -> np.ndarray:
    return np.random.default_rng(3).random((size, size, 3)).astype(np.float32)


def change(augmentation, image: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.asarray(jax.jit(augmentation.change)(image, jax.random.key(seed)))


def test_blur_equals_scipy_away_from_the_edges():
    image = random_image()
    expected = scipy.ndimage.gaussian_filter(image, (1.5, 1.5, 0), truncate=8)
    blurred = change(augment_faces.GaussianBlur(sigma=(1.5, 1.5)), image)
    np.testing.assert_allclose(blurred[10:-10, 10:-10], expected[10:-10, 10:-10], atol=1e-5)
    constant = np.full_like(image, 0.7)
    np.testing.assert_allclose(change(augment_faces.GaussianBlur(), constant), constant, atol=1e-6)


@pytest.mark.parametrize("side", [32, 16, 10, 1])
def test_low_resolution_equals_torch(side):
    torch = pytest.importorskip("torch")
    image = random_image()
    tensor = torch.tensor(image).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(tensor, side, mode="area")
    if 32 % side:  # PyTorch's windows overlap there, so only flat colours compare
        tensor, small = (
            tensor.mean() * torch.ones_like(tensor),
            tensor.mean() * torch.ones_like(small),
        )
        image = tensor[0].permute(1, 2, 0).numpy()
    expected = torch.nn.functional.interpolate(small, 32, mode="bilinear")
    scale = (side / 32, side / 32)
    lowered = change(augment_faces.LowResolution(scale=scale), image)
    np.testing.assert_allclose(lowered, expected[0].permute(1, 2, 0), atol=1e-5)


def test_colours_change_as_their_names_promise():
    image = random_image()
    luma = image @ np.array([0.299, 0.587, 0.114])
    turned = change(augment_faces.ColourJitter(hue=0.5), image)
    np.testing.assert_allclose(turned @ [0.299, 0.587, 0.114], luma, atol=1e-3)
    assert np.abs(turned - image).max() > 0.1
    brighter = change(augment_faces.ColourJitter(brightness=0.5), image)
    ratio = brighter / image
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
    contrast = change(augment_faces.ColourJitter(contrast=0.5), image)
    np.testing.assert_allclose((contrast @ [0.299, 0.587, 0.114]).mean(), luma.mean(), rtol=1e-4)
    saturated = change(augment_faces.ColourJitter(saturation=0.5), image)
    np.testing.assert_allclose(saturated @ [0.299, 0.587, 0.114], luma, atol=1e-5)


def test_boxes_have_their_area_and_are_inside():
    draw = jax.jit(jax.vmap(functools.partial(augment_faces.random_box, size=64)))
    area = jnp.linspace(0.02, 0.4, 50)
    boxes = np.asarray(draw(keys_of(4, 50), area, jnp.geomspace(0.4, 2.5, 50)))[..., 0]
    np.testing.assert_allclose(boxes.mean(axis=(1, 2)), area, atol=0.02)
    heights, widths = boxes.any(axis=2).sum(axis=1), boxes.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(heights * widths, boxes.sum(axis=(1, 2)))
    np.testing.assert_allclose(
        np.log(heights / widths), np.log(np.geomspace(0.4, 2.5, 50)), atol=0.3
    )


@pytest.mark.slow
def test_rand_augment_applies_as_many_operations_as_it_is_given():
    image, points = random_image(16), jnp.full((68, 2), 5.0)
    rand_augment = augment_faces.RandAugment(count=1)

    @jax.jit
    @jax.vmap
    def compare(key: jax.Array) -> dict[str, jax.Array]:
        """Whether the result for a key is that of each operation alone."""
        drawn, _ = rand_augment.transform(image, points, key)
        alone = {
            name: operation.transform(image, points, fold_in_name(key, name))[0]
            for name, operation in rand_augment.operations().items()
        }
        return {
            name: jnp.allclose(drawn, jnp.clip(x, 0, 1), atol=1e-5) for name, x in alone.items()
        }

    is_equal = np.stack(list(compare(keys_of(5, 40)).values()))
    assert (is_equal.sum(axis=0) == 1).all() and (is_equal.sum(axis=1) > 0).sum() >= 8


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.5, 1.0, 3.0])
def test_shares_are_from_the_beta_distribution(alpha):
    count = 20_000
    shares = jax.jit(jax.vmap(lambda key: augment_pairs.symmetric_beta(key, alpha)))(
        keys_of(6, count)
    )
    assert np.isfinite(shares).all() and (shares >= 0).all() and (shares <= 1).all()
    for quantile in (1e-3, 0.02, 0.3, 0.5, 0.8):  # float32 cannot resolve those next to 1
        expected = scipy.stats.beta.cdf(quantile, alpha, alpha)
        assert abs(np.mean(shares <= quantile) - expected) < 4 * np.sqrt(0.25 / count)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_partners_are_mixed_with_their_targets(name, soft):
    """The share of a face is the same in its pixels and all of its targets."""
    images, targets = faces_and_targets()
    own, changes = np.eye(8)[targets["expression"]], {}
    if soft:
        own = np.random.default_rng(0).dirichlet(np.ones(8), FACES).astype(np.float32)
        changes = {"expression_distribution": own}
    spec = {"name": name, "probability": 1.0, "alpha": 1.0}
    mixed_images, mixed = augment(spec, **changes)
    partner = np.arange(FACES) ^ 1
    assert not mixed["landmarks_mask"].any()
    for target in set(TARGETS) - {"landmarks"}:
        mask = targets[f"{target}_mask"]
        np.testing.assert_array_equal(mixed[f"{target}_mask"], mask & mask[partner])
    units, is_whole = targets["action_units"], targets["action_units_mask"].all(axis=1)
    assert is_whole.all()
    difference = units - units[partner]
    share = ((mixed["action_units"] - units[partner]) * difference).sum(1) / (difference**2).sum(1)
    expected = share[:, None] * own + (1 - share[:, None]) * own[partner]
    known = mixed["expression_mask"]
    distribution = mixed["expression_distribution"]
    np.testing.assert_allclose(distribution[known], expected[known], atol=1e-4)
    np.testing.assert_allclose(distribution[known].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(mixed["expression"], distribution.argmax(axis=1))
    if name == "mixup":
        weights = share[:, None, None, None]
        expected = weights * images + (1 - weights) * images[partner]
        np.testing.assert_allclose(mixed_images, expected, atol=0.51)
    else:
        is_own = (mixed_images == images).all(axis=-1)
        is_partner = (mixed_images == images[partner]).all(axis=-1)
        assert (is_own | is_partner).all()
        np.testing.assert_allclose(is_own.mean(axis=(1, 2)), share, atol=0.005)


def test_config_of_a_run_without_the_key_loads():
    config = defaults()
    saved = to_dict(config)
    del saved["data"]["augment"]
    assert to_dict(from_dict(saved)) == to_dict(config)
    config.data.augment = (SPECS["affine"],)
    loaded = from_dict(json.loads(json.dumps(to_dict(config))))
    assert to_dict(loaded) == to_dict(config)
    assert list(create_augmentations(to_dict(loaded.data.augment), 8)) == ["affine[0]"]

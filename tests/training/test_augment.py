import numpy as np
import pytest
from scipy import ndimage

from pcam_utils.models.networks import keras
from pcam_utils.training import augment
from pcam_utils.training.augment import OPERATIONS, PLAIN, Augment, Operation

MANY = 64


@pytest.fixture
def images():
    return smooth(np.random.default_rng(0), MANY)


def smooth(rng, many):
    """Patches with structure, as tissue has: noise, blurred and stretched."""
    blurred = ndimage.gaussian_filter(rng.normal(size=(many, 96, 96, 3)), (0, 2, 2, 0))
    return np.clip(128 + blurred * 600, 0, 255).astype(np.uint8)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def evenly(rng, low, high, *shape):
    return rng.uniform(low, high, shape).astype(np.float32)


def rounded(values):
    return np.clip(np.floor(values + 0.5), 0, 255)


def assert_close(found, expected, share=1.0):
    """Equal up to one grey value, which is what float32 may round differently."""
    assert found.dtype == np.uint8
    assert np.mean(np.abs(array(found).astype(int) - expected) <= 1) >= share


def ways_of(image):
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [t[:, ::-1] for t in turned]


# Each operation against plain NumPy and SciPy ----------------------------------------------------------------------


def test_symmetry_uses_all_eight_ways_evenly(images):
    out = array(augment.symmetry(images))
    used = [next(way for way, t in enumerate(ways_of(a)) if np.array_equal(t, b)) for a, b in zip(images, out)]
    assert sorted(used) == sorted([*range(8)] * 8)


def test_affine_is_scipys(images):
    rng = np.random.default_rng(1)
    few = images[:6]
    matrix = augment.affine_matrix(
        evenly(rng, 0.9, 1.1, 6, 2), evenly(rng, -0.2, 0.2, 6), evenly(rng, -0.1, 0.1, 6), evenly(rng, -3, 3, 6, 2)
    )
    out, matrix = array(augment.affine(few, matrix)), array(matrix)
    for image, found, m in zip(few, out, matrix):
        linear, shift = m[::-1, 1::-1], m[::-1, 2]  # SciPy counts rows first
        offset = 47.5 + shift - linear @ [47.5, 47.5]
        turned = [
            ndimage.affine_transform(image[..., c].astype(float), linear, offset, order=1, mode="mirror")
            for c in range(3)
        ]
        assert_close(found, rounded(np.stack(turned, -1)))


@pytest.mark.parametrize(
    "quantities, point, comes_from",
    [
        ((1.0, 0.0, 0.0, (3, 0)), (0, 0), (3, 0)),
        ((0.5, 0.0, 0.0, (0, 0)), (1, 1), (2, 2)),
        ((1.0, np.pi / 2, 0.0, (0, 0)), (1, 0), (0, 1)),
        ((1.0, 0.0, np.pi / 4, (0, 0)), (0, 1), (1, 1)),
    ],
)
def test_affine_matrix_shifts_zooms_turns_and_shears(quantities, point, comes_from):
    zoom, turn, shear, shift = (np.float32([value]) for value in quantities)
    matrix = array(augment.affine_matrix(np.float32([[zoom[0]] * 2]), turn, shear, shift))[0]
    assert np.allclose(matrix @ [*point, 1], comes_from, atol=1e-6)


def test_blur_is_a_gaussian_over_five_pixels(images):
    sigma = np.linspace(0.1, 1.0, MANY, dtype=np.float32)
    out = array(augment.blur(images, sigma))
    for image, found, s in zip(images, out, sigma):
        expected = ndimage.gaussian_filter(image.astype(float), (s, s, 0), mode="mirror", radius=2)
        assert_close(found, rounded(expected))


def test_sharpen_is_a_three_by_three_filter(images):
    strength = np.linspace(0, 0.2, MANY, dtype=np.float32)
    out = array(augment.sharpen(images, strength))
    for image, found, s in zip(images, out, strength):
        kernel = np.full((3, 3, 1), -s)
        kernel[1, 1] += 1 + 9 * s
        assert_close(found, rounded(ndimage.convolve(image.astype(float), kernel, mode="mirror")))


def test_noise_reads_the_field_from_each_patchs_own_start(images):
    rng = np.random.default_rng(2)
    field = rng.normal(size=96 * 96 * 3).astype(np.float32)
    spread, start = evenly(rng, 0, 5, MANY), rng.integers(0, field.size, MANY).astype(np.int32)
    grain = np.stack([np.roll(field, -s) for s in start]) * spread[:, None]
    assert_close(augment.noise(images, spread, field, start), rounded(images + grain.reshape(images.shape)))


def test_holes_are_black_squares_of_eight_pixels(images):
    hole = np.random.default_rng(3).random((MANY, 12, 12)) < 0.1
    expected = np.where(np.kron(hole, np.ones((1, 8, 8)))[..., None], 0, images)
    assert np.array_equal(array(augment.holes(images, hole)), expected)


def test_brightness_multiplies_and_contrast_stretches_about_mid_grey(images):
    factor = np.linspace(0.9, 1.1, MANY, dtype=np.float32)
    f = factor[:, None, None, None]
    assert_close(augment.brightness(images, factor), rounded(images * f))
    assert_close(augment.contrast(images, factor), rounded(128 + (images - 128.0) * f))


def test_stain_is_beer_lambert_for_each_patch_and_channel(images):
    rng = np.random.default_rng(4)
    factor, offset = evenly(rng, 0.7, 1.3, MANY, 3), evenly(rng, -0.05, 0.05, MANY, 3)
    density = -np.log10(np.maximum(images, 1) / 255)
    expected = 255 * 10 ** -(density * factor[:, None, None] + offset[:, None, None])
    assert_close(augment.stain(images, factor, offset), rounded(expected))


def test_nothing_asked_nothing_changed(images):
    none, one = np.zeros(MANY, np.float32), np.ones(MANY, np.float32)
    same = augment.affine_matrix(np.ones((MANY, 2), np.float32), none, none, np.zeros((MANY, 2), np.float32))
    for out in (
        augment.affine(images, same),
        augment.sharpen(images, none),
        augment.brightness(images, one),
        augment.contrast(images, one),
        augment.holes(images, np.zeros((MANY, 12, 12), bool)),
    ):
        assert np.array_equal(array(out), images)


# The list as a whole -----------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_and_input_untouched(images):
    before = images.copy()
    first, second, other = (array(Augment(seed=seed)(images, training=True)) for seed in (3, 3, 4))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert np.array_equal(images, before)
    assert first.dtype == np.uint8 and first.shape == images.shape


def test_each_batch_is_changed_anew_and_none_when_predicting(images):
    layer = Augment(seed=0)
    first, second = (array(layer(images, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(array(layer(images, training=False)), images)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_changes_its_share_of_the_batch_and_keeps_the_order(images, name):
    operation = OPERATIONS[name]
    wide = Operation(operation.one_in, {key: (high, high) for key, (_, high) in operation.ranges.items()})
    layer = Augment({name: wide}, seed=1)
    touched = (array(layer(images, training=True)) != images).any(axis=(1, 2, 3))
    share = 7 / 8 if name == "symmetry" else 1 / operation.one_in
    # One in eight symmetries is 'as it is', and a patch may get no hole at all.
    assert touched.sum() == share * MANY or (name == "holes" and 0 < touched.sum() <= share * MANY)


def test_which_patches_are_changed_is_drawn_anew(images):
    layer = Augment({"brightness": Operation(8, {"factor": (1.1, 1.1)})}, seed=0)
    touched = [(array(layer(images, training=True)) != images).any(axis=(1, 2, 3)) for _ in range(80)]
    assert np.sum(touched, axis=0).min() >= 1 and {int(t.sum()) for t in touched} == {MANY // 8}


def test_the_centre_stays_the_centre(images):
    images[:] = 0
    images[:, 32:64, 32:64] = 255
    out = array(Augment(PLAIN | {"affine": OPERATIONS["affine"]}, seed=0)(images, training=True))
    assert (out[:, 44:52, 44:52] > 200).all() and (out[:, :20] < 60).all() and (out[:, :, 76:] < 60).all()


@pytest.mark.parametrize("many", [1, 3, 10])
def test_small_and_odd_batches_work(images, many):
    assert array(Augment(seed=0)(images[:many], training=True)).shape == (many, 96, 96, 3)

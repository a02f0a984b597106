import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pcam_utils.errors import InputError
from pcam_utils.models.backbones import keras
from pcam_utils.training import augment
from pcam_utils.training.augment import Augment
from pcam_utils.training.operations import OPERATIONS, PLAIN, Operation

MANY = 64
QUICK = {name: OPERATIONS[name] for name in ("symmetry", "noise", "holes", "stain")}  #: to compile


@pytest.fixture
def images():
    return smooth(np.random.default_rng(0), MANY)


def smooth(rng, many, side=96):
    """Patches with structure, as tissue has: noise, blurred and stretched."""
    blurred = ndimage.gaussian_filter(rng.normal(size=(many, side, side, 3)), (0, 2, 2, 0))
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


@settings(max_examples=25, deadline=None, database=None)
@given(
    side=st.sampled_from([8, 20, 64, 96]),
    zoom=st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)),
    rotation=st.floats(-3.2, 3.2),
    shear=st.floats(-0.6, 0.6),
    shift=st.tuples(st.floats(-150, 150), st.floats(-150, 150)),
    seed=st.integers(0, 9),
)
def test_affine_is_scipys_however_far_it_reaches_beyond_the_border(side, zoom, rotation, shear, shift, seed):
    image = smooth(np.random.default_rng(seed), 1, side)
    quantities = (np.float32([value]) for value in (zoom, rotation, shear, shift))
    matrix = array(augment.affine_matrix(*quantities))
    linear, offset = matrix[0, ::-1, 1::-1], matrix[0, ::-1, 2]  # SciPy counts rows first
    offset = offset + (side - 1) / 2 * (1 - linear.sum(axis=1))
    expected = [
        ndimage.affine_transform(image[0, ..., channel].astype(float), linear, offset, order=1, mode="mirror")
        for channel in range(3)
    ]
    assert_close(augment.affine(image, matrix)[0], rounded(np.stack(expected, -1)))


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
    zoom, rotation, shear, shift = (np.float32([value]) for value in quantities)
    matrix = array(augment.affine_matrix(np.float32([[zoom[0]] * 2]), rotation, shear, shift))[0]
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


@pytest.mark.parametrize("side", [96, 64, 32])
def test_noise_reads_the_field_from_each_patchs_own_start(side):
    rng = np.random.default_rng(2)
    images = smooth(rng, MANY, side)
    field = rng.normal(size=side * side * 3).astype(np.float32)
    std, start = evenly(rng, 0, 5, MANY), rng.integers(0, field.size, MANY).astype(np.int32)
    grain = np.stack([np.roll(field, -s) for s in start]) * std[:, None]
    assert_close(augment.noise(images, std, field, start), rounded(images + grain.reshape(images.shape)))


@pytest.mark.parametrize("side", [96, 64, 32])
def test_holes_are_black_squares_of_eight_pixels(side):
    rng = np.random.default_rng(3)
    images, hole = smooth(rng, MANY, side), rng.random((MANY, side // 8, side // 8)) < 0.1
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
    first, second, other = (array(Augment(QUICK, seed=seed)(images, training=True)) for seed in (3, 3, 4))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert np.array_equal(images, before)
    assert first.dtype == np.uint8 and first.shape == images.shape


def test_each_batch_is_changed_anew_and_none_when_predicting(images):
    layer = Augment(QUICK, seed=0)
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


@pytest.mark.parametrize("side", [64, 32])
def test_the_whole_list_changes_patches_of_other_sizes_too(side):
    few = smooth(np.random.default_rng(0), 16, side)
    out = array(Augment(seed=0)(few, training=True))
    assert out.shape == few.shape and (out != few).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("side", [64, 32, 8])
def test_holes_are_drawn_for_each_place_of_a_patch_of_any_size(side):
    white = np.full((MANY, side, side, 3), 255, np.uint8)
    out = array(Augment({"holes": Operation(1, {"share": (0.5, 0.5)})}, seed=0)(white, training=True))
    black = (out == 0).reshape(MANY, side // 8, 8, side // 8, 8, 3)
    assert (black.all(axis=(2, 4, 5)) == black.any(axis=(2, 4, 5))).all()
    places = black[:, :, 0, :, 0, 0].mean(axis=0)
    assert places.min() > 0.2 and places.max() < 0.8


@pytest.mark.parametrize("shape", [(2, 100, 100, 3), (2, 96, 64, 3), (2, 96, 96, 1), (2, 96, 96), (2, 4, 4, 3)])
def test_patches_that_cannot_be_changed_are_refused_in_a_sentence(shape):
    with pytest.raises(InputError, match="whose width 8 divides" if shape[1] == 100 else "cannot be changed: give"):
        Augment()(np.zeros(shape, np.uint8), training=True)
    with pytest.raises(InputError):  # where a model is built, too
        Augment()(keras.Input(shape[1:], dtype="uint8"))


def test_without_holes_any_width_will_do():
    few = smooth(np.random.default_rng(0), MANY, 101)
    out = array(Augment({name: OPERATIONS[name] for name in OPERATIONS if name != "holes"})(few, training=True))
    assert out.shape == few.shape and (out != few).any()


def test_an_unknown_operation_is_refused():
    with pytest.raises(InputError, match="'emboss' is no operation; choose from symmetry, affine"):
        Augment({"emboss": Operation(1)})


# Saved and loaded --------------------------------------------------------------------------------------------------


def save_and_load(folder):
    """A saved model that has augmented a batch, and the one that is loaded from its file, each after one batch more."""
    images = smooth(np.random.default_rng(0), 16, 32)
    wide = {"stain": OPERATIONS["stain"], "holes": Operation(4, {"share": (0.2, 0.3)}), "symmetry": Operation(1)}
    patches = keras.Input((32, 32, 3), dtype="uint8")
    model = keras.Model(patches, Augment(wide, seed=7, name="augment")(patches))
    first = array(model(images, training=True))
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    assert list(loaded.get_layer("augment").operations) == ["stain", "holes", "symmetry"]
    return first, array(model(images, training=True)), array(loaded(images, training=True))


def assert_a_loaded_model_goes_on(folder):
    first, second, by_loaded = save_and_load(folder)
    assert np.array_equal(second, by_loaded) and not np.array_equal(first, second)


def test_a_saved_model_goes_on_with_the_same_random_numbers(tmp_path):
    assert_a_loaded_model_goes_on(tmp_path)


@pytest.mark.slow
def test_a_saved_model_goes_on_with_the_same_random_numbers_on_jax(tmp_path):
    script = (
        "import pathlib, runpy, sys; runpy.run_path(sys.argv[1])['assert_a_loaded_model_goes_on'](pathlib.Path('.'))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    result = subprocess.run(
        [sys.executable, "-c", script, __file__], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]

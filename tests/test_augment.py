import numpy as np
import pytest

from pcam_utils.augment import augment, stain_jitter, symmetries


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (64, 96, 96, 3), dtype=np.uint8)


def ways_of(image):
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [t[:, ::-1] for t in turned]


def test_symmetries_give_one_of_the_eight_ways_and_use_all_of_them(images):
    out = symmetries(images, np.random.default_rng(1))
    used = [next(way for way, t in enumerate(ways_of(a)) if np.array_equal(t, b)) for a, b in zip(images, out)]
    assert set(used) == set(range(8))


def test_symmetries_keep_the_centre_in_the_centre(images):
    images[:, 32:64, 32:64] = 7
    out = symmetries(images, np.random.default_rng(1))
    assert (out[:, 32:64, 32:64] == 7).all()
    assert (out == 7).sum() == (images == 7).sum()


def test_stain_jitter_is_beer_lambert_for_each_patch_and_channel(images):
    out = stain_jitter(images, np.random.default_rng(2), strength=0.2, shift=0.05)
    rng = np.random.default_rng(2)
    factor, offset = rng.uniform(0.8, 1.2, (64, 3)), rng.uniform(-0.05, 0.05, (64, 3))
    density = -np.log10(np.maximum(images, 1) / 255)
    expected = 255 * 10 ** -(density * factor[:, None, None] + offset[:, None, None])
    assert np.abs(out - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-9


def test_no_jitter_changes_nothing_but_pure_black(images):
    out = stain_jitter(images, np.random.default_rng(0), strength=0, shift=0)
    assert np.array_equal(out, np.maximum(images, 1))


@pytest.mark.parametrize("change", [symmetries, stain_jitter, augment])
def test_same_seed_same_bytes_and_input_untouched(images, change):
    before = images.copy()
    first, second, other = (change(images, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert np.array_equal(images, before)
    assert first.dtype == np.uint8 and first.shape == images.shape

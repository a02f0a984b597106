from importlib.util import find_spec

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.imgaug_list import imgaug_sequence
from pcam_utils.models.backbones import keras
from pcam_utils.training.augment import Augment
from pcam_utils.training.operations import OPERATIONS, Operation

pytestmark = pytest.mark.skipif(find_spec("imgaug") is None, reason="imgaug is not here: pip install --no-deps imgaug")
MANY = 320


@pytest.fixture(autouse=True, scope="module")
def numpy_afterwards():
    """Take away again the names that imgaug needs NumPy to have."""
    before = set(vars(np))
    yield
    for name in set(vars(np)) - before:
        if name in ("bool", "int", "float", "object", "complex", "str", "sctypes"):
            delattr(np, name)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    blurred = ndimage.gaussian_filter(rng.normal(size=(MANY, 96, 96, 3)), (0, 2, 2, 0))
    return np.clip(128 + blurred * 400, 20, 235).astype(np.uint8)


def facts(images, changed):
    """What a change does: to how many patches, to brightness, contrast, fine detail and single pixels."""
    before, after = images.astype(float), changed.astype(float)
    detail = [np.abs(np.diff(pixels, axis=1)).mean(axis=(1, 2, 3)) for pixels in (before, after)]
    return {
        "share": np.mean((images != changed).any(axis=(1, 2, 3))),
        "apart": np.mean(np.abs(after - before)),
        "brightness": np.std(after.mean(axis=(1, 2, 3)) - before.mean(axis=(1, 2, 3))),
        "contrast": np.std(after.std(axis=(1, 2, 3)) / before.std(axis=(1, 2, 3))),
        "detail": np.mean(detail[1] / detail[0]),
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_the_same_in_both_libraries(images, name):
    every = {name: Operation(1, OPERATIONS[name].ranges)}
    ours = facts(images, keras.ops.convert_to_numpy(Augment(every, seed=0)(images, training=True)))
    theirs = facts(images, imgaug_sequence(every, seed=0)(images=images))
    assert ours["share"] == pytest.approx(theirs["share"], abs=0.08)
    for fact in ("apart", "brightness", "contrast", "detail"):
        assert ours[fact] == pytest.approx(theirs[fact], rel=0.2, abs=0.05), fact


def test_the_whole_list_does_the_same_in_both_libraries(images):
    ours = facts(images, keras.ops.convert_to_numpy(Augment(seed=0)(images, training=True)))
    theirs = facts(images, imgaug_sequence(seed=0)(images=images))
    for fact in ours:
        assert ours[fact] == pytest.approx(theirs[fact], rel=0.2, abs=0.05), fact


def test_same_seed_same_bytes(images):
    first, second, other = (imgaug_sequence(seed=seed)(images=images[:16]) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)

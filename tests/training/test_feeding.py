from functools import partial

import numpy as np
import pytest

from pcam_utils.data.patches import Patches, Rows
from pcam_utils.models.backbones import keras
from pcam_utils.training.feeding import batches, restartable


def test_batches_depend_on_seed_and_epoch_alone_and_use_every_patch(random_patches):
    patches = Patches(Rows(random_patches(20)), np.arange(20).astype(str), labels=np.arange(20) % 2)

    def epoch(start, seed=0):
        stream = batches(patches, 8, seed=seed, start=start)
        return [next(stream) for _ in range(2)]

    stream = batches(patches, 8)
    through = [next(stream) for _ in range(4)]
    for (images, labels), (jumped, jumped_labels) in zip(through[2:], epoch(1)):
        assert np.array_equal(images, jumped) and np.array_equal(labels, jumped_labels)
    assert not np.array_equal(epoch(0)[0][0], epoch(1)[0][0])
    assert not np.array_equal(epoch(0)[0][0], epoch(0, seed=1)[0][0])
    shown = {image.tobytes() for start in range(6) for images, _ in epoch(start) for image in images}
    assert shown == {image.tobytes() for image in patches.images[:]}
    images, labels = epoch(0)[0]
    assert images.shape == (8, 96, 96, 3) and images.dtype == np.uint8
    assert labels.shape == (8, 1) and labels.dtype == np.float32


def test_batches_keep_images_and_labels_together(random_patches):
    images = random_patches(20)
    images[1::2] = 255
    patches = Patches(Rows(images), np.arange(20).astype(str), labels=np.arange(20) % 2)
    batch, labels = next(batches(patches, 16))
    assert np.array_equal((batch == 255).all(axis=(1, 2, 3)), labels.ravel() == 1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends do not read ahead")
def test_training_sees_the_same_batches_however_often_it_begins_anew(random_patches):
    patches = Patches(Rows(random_patches(20)), np.arange(20).astype(str), labels=np.arange(20) % 2)
    stream = restartable(partial(batches, patches, 8))
    first, again = (next(iter(stream))[0] for _ in range(2))
    assert np.array_equal(first, again) and np.array_equal(first, next(batches(patches, 8))[0])

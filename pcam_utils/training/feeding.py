"""Makes training batches, shuffled anew in each epoch. However often `fit` begins to read, it gets the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.patches import Patches
from ..errors import InputError
from ..models.backbones import keras


def batches(
    patches: Patches, batch_size: int, *, targets: NDArray[np.float32] | None = None, seed: int = 0, start: int = 0
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Yield shuffled training batches for ever. Each epoch depends only on the seed and its own number.

    Parameters
    ----------
    patches : Patches
        They need labels, unless targets are given.
    batch_size : int
        The few patches that do not fill a batch are left out. In another epoch these are other patches.
    targets : (N,) float32, optional
        What the network learns in place of the labels.
    seed, start : int
        `start` is the number of the first epoch.

    Yields
    ------
    (batch_size, 96, 96, 3) uint8, (batch_size, 1) float32

    Examples
    --------
    >>> from pcam_utils.data.patches import Patches, Rows
    >>> patches = Patches(Rows(np.zeros((10, 96, 96, 3), "uint8")), np.arange(10).astype(str), np.arange(10) % 2)
    >>> images, labels = next(batches(patches, 4))
    >>> images.shape, labels.shape
    ((4, 96, 96, 3), (4, 1))
    """
    batch_size = min(batch_size, len(patches))
    if targets is None:
        if patches.labels is None:
            raise InputError(f"The {patches.name} split has no labels to learn; give it some, or give targets.")
        targets = patches.labels.astype(np.float32)
    epoch = start
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(patches))
        for step in range(len(patches) // batch_size):
            rows = order[step * batch_size : (step + 1) * batch_size]
            yield patches.images[rows], targets[rows, None]
        epoch += 1


def restartable(stream: Callable[[], Iterator]) -> Any:
    """Give endless batches to `fit`, from the first one on each time that it begins to read.

    With several devices, Keras's `fit` on TensorFlow first looks at a batch, and TensorFlow reads ahead meanwhile. From
    a plain generator these batches would be lost. A resumed run would then see other batches than one that never
    stopped.
    """
    if keras.backend.backend() != "tensorflow":
        return stream()
    import tensorflow as tf

    shapes = tuple(tf.TensorSpec(part.shape, part.dtype) for part in next(stream()))
    return tf.data.Dataset.from_generator(stream, output_signature=shapes).prefetch(tf.data.AUTOTUNE)

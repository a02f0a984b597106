"""The course's list of operations as a sequence of imgaug, the 2019 article's library, to be timed beside our own."""

from __future__ import annotations

import warnings

import numpy as np

from pcam_utils.training.operations import HOLE, OPERATIONS

# imgaug's last release is of 2020 and needs these names, which NumPy has since removed, also while it runs.
_REMOVED = {"bool": bool, "int": int, "float": float, "object": object, "complex": complex, "str": str}
_REMOVED["sctypes"] = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64],
}


def imgaug_sequence(operations=OPERATIONS, seed=0):
    """The same operations, probabilities and ranges, one image at a time.

    It puts back the names that NumPy removed, for the whole process.

    Parameters
    ----------
    operations : dict of name to Operation
    seed : int

    Returns
    -------
    imgaug.augmenters.Sequential
        Call it with `images=`, (N, 96, 96, 3) uint8. Which patches are changed is drawn for each patch, not for each
        batch.
    """
    for name in _REMOVED.keys() - vars(np).keys():
        setattr(np, name, _REMOVED[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import imgaug.augmenters as iaa

    steps = [_augmenter(iaa, name, **operation.ranges) for name, operation in operations.items()]
    sequence = iaa.Sequential([
        step if operation.one_in == 1 else iaa.Sometimes(1 / operation.one_in, step)
        for step, operation in zip(steps, operations.values())
    ])  # fmt: skip
    sequence.seed_(seed)  # the steps too, each from this one
    return sequence


def _augmenter(iaa, name, **ranges):
    if name == "symmetry":
        return iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Sometimes(0.5, iaa.Rot90(1))])
    if name == "affine":
        both = lambda ends: {"x": ends, "y": ends}
        return iaa.Affine(
            scale=both(ranges["zoom"]),
            translate_px=both(ranges["shift"]),
            rotate=ranges["rotation"],
            shear=ranges["shear"],
            order=1,
            mode="reflect",
        )
    if name == "stain":
        return iaa.Lambda(func_images=lambda images, random, *_: _stain(images, random, **ranges))
    return {
        "blur": lambda sigma: iaa.GaussianBlur(sigma),
        "sharpen": lambda strength: iaa.Sharpen(alpha=strength, lightness=1),
        "noise": lambda std: iaa.AdditiveGaussianNoise(scale=std, per_channel=True),
        "holes": lambda share: iaa.CoarseDropout(share, size_px=96 // HOLE),
        "brightness": lambda factor: iaa.Multiply(factor),
        "contrast": lambda factor: iaa.LinearContrast(factor),
    }[name](**ranges)


def _stain(images, random, factor, offset):
    """imgaug knows no optical density: the same in NumPy, with a table for each patch and channel."""
    changed = []
    for image in images:
        table = stain_table(random.uniform(*factor, 3), random.uniform(*offset, 3))
        changed.append(np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1))
    return np.stack(changed)


def stain_table(factor, offset):
    """What `augment.stain` makes of each of the 256 values in each channel: (3,) and (3,) to (256, 3) uint8."""
    density = -np.log10(np.maximum(np.arange(256), 1) / 255)[:, None]
    return np.clip(np.rint(255 * 10 ** -(density * factor + offset)), 0, 255).astype(np.uint8)

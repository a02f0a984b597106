"""How a training patch may look in another laboratory, file or position: the label holds, so both networks learn it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

STAIN = 1.35  #: each colour channel's optical density is divided or multiplied by up to this
STRENGTH = 1.5  #: and that of all three together by up to this
LIGHT = 0.02  #: and light is added or taken away, in units of optical density (log10)
JPEG = (30, 95)  #: quality of every fourth patch, kept anew as JPEG
HALVED = 12  #: every twelfth patch is drawn at half the resolution


def change(images, rng):
    """Turn or mirror each patch at random, and vary its stain, compression and resolution.

    Optical density scales by a power of the pixel's value (Beer-Lambert), so each stain is one table of 256 values.

    Parameters
    ----------
    images : (N, 96, 96, 3) uint8
    rng : numpy.random.Generator

    Returns
    -------
    (N, 96, 96, 3) uint8
    """
    share = np.maximum(np.arange(256), 1) / 255
    out = np.empty_like(images)
    for place, image in enumerate(images):
        power = STAIN ** rng.uniform(-1, 1, 3) * STRENGTH ** rng.uniform(-1, 1)
        table = 255 * share[:, None] ** power * 10 ** rng.uniform(-LIGHT, LIGHT, 3)
        table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
        image = np.stack([table[image[..., c], c] for c in range(3)], axis=-1)
        if rng.integers(HALVED) == 0:
            image = halved(image)
        if rng.integers(4) == 0:
            image = as_jpeg(image, int(rng.integers(*JPEG)))
        image = np.rot90(image, rng.integers(4))
        out[place] = image[:, ::-1] if rng.integers(2) else image
    return out


def as_jpeg(image, quality=75):
    """One patch after JPEG, colours at half resolution, as most training patches were kept."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))


def halved(image):
    """One patch at half the resolution, enlarged again."""
    small = Image.fromarray(image).resize((image.shape[1] // 2, image.shape[0] // 2), Image.BOX)
    return np.asarray(small.resize((image.shape[1], image.shape[0]), Image.BICUBIC))


def symmetries(images, number):
    """The first `number` of the eight ways that a square can lie, one batch (N, 96, 96, 3) each."""
    for way in range(number):
        turned = np.rot90(images, way % 4, axes=(1, 2))
        yield turned[:, :, ::-1] if way >= 4 else turned

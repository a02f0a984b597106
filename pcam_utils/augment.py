"""Random changes of training patches that keep their label, batched and repeatable for a seed."""

from __future__ import annotations

import numpy as np

#: Optical density above which a pixel counts as stained rather than as glass; jitter leaves glass white.
_WHITE = 255.0


def symmetries(images, rng):
    """Turn and mirror each patch into one of the eight ways a square can lie.

    Tissue has no up or down, and the centre stays the centre: the label holds exactly.

    Parameters
    ----------
    images : (N, S, S, 3) uint8
    rng : numpy.random.Generator

    Returns
    -------
    (N, S, S, 3) uint8
    """
    out = np.empty_like(images)
    for way, members in _groups(rng.integers(0, 8, len(images))):
        turned = np.rot90(images[members], k=way % 4, axes=(1, 2))
        out[members] = turned[:, :, ::-1] if way >= 4 else turned
    return out


def stain_jitter(images, rng, *, strength=0.25, shift=0.02):
    """Vary the amount of stain in each patch, in optical density, one factor and offset a colour channel.

    Light is absorbed exponentially (Beer-Lambert), so more dye multiplies the optical density, not the pixel value.

    Parameters
    ----------
    images : (N, S, S, 3) uint8
    rng : numpy.random.Generator
    strength : float
        Factors are drawn from 1 ± strength.
    shift : float
        Offsets, in units of optical density (log10), are drawn from ± shift.

    Returns
    -------
    (N, S, S, 3) uint8
    """
    factor = rng.uniform(1 - strength, 1 + strength, (len(images), 3))
    offset = rng.uniform(-shift, shift, (len(images), 3))
    # 256 possible values a channel: a table for each patch is far cheaper than a logarithm for each pixel.
    density = -np.log10(np.maximum(np.arange(256), 1) / _WHITE)
    tables = _WHITE * 10 ** -(density[:, None, None] * factor + offset)
    tables = np.clip(np.rint(tables), 0, 255).astype(np.uint8)
    patch, channel = np.arange(len(images))[:, None, None, None], np.arange(3)
    return tables[images, patch, channel]


def augment(images, rng, *, stain=True):
    """Apply the course's augmentation to a batch: symmetries, then stain jitter.

    Parameters
    ----------
    images : (N, S, S, 3) uint8
    rng : numpy.random.Generator
    stain : bool

    Returns
    -------
    (N, S, S, 3) uint8
    """
    images = symmetries(images, rng)
    return stain_jitter(images, rng) if stain else images


def _groups(ways):
    return [(way, np.flatnonzero(ways == way)) for way in np.unique(ways)]

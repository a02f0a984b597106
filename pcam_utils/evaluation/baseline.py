"""Scores patches by colour alone, which gives the number that a network has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from ..data.patches import CENTRE
from ..errors import InputError

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST = 40  # training patches: a leaf of a tree holds 20, and a tree of one leaf tells nothing apart
BATCH = 256  # patches in memory at once


def colour_features(images: Any) -> NDArray[np.float32]:
    """Compute colour statistics of each patch. They say nothing about shapes.

    Parameters
    ----------
    images : array-like of shape (N, 96, 96, 3), uint8
        Anything with ``len()`` and slicing. 256 patches are read at a time.

    Returns
    -------
    ndarray of shape (N, 42), float32
        Mean, standard deviation and the 5, 25, 50, 75 and 95 % quantile of red, green and blue
        (0 to 255), first over the centre 32x32, then over the whole patch.

    Examples
    --------
    >>> colour_features(np.full((2, 96, 96, 3), 200, np.uint8)).shape
    (2, 42)
    """
    batches = [_features(np.asarray(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
    if not batches:
        return np.empty((0, 2 * 3 * (2 + len(QUANTILES))), np.float32)
    return np.concatenate(batches)


def _features(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    parts = []
    for pixels in (batch[:, CENTRE, CENTRE], batch):
        pixels = pixels.reshape(len(batch), -1, 3).astype(np.float32)
        quantiles = np.moveaxis(np.quantile(pixels, QUANTILES, axis=1), 0, 1)
        parts += [pixels.mean(1), pixels.std(1), quantiles.reshape(len(batch), -1)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def require_enough(labels: NDArray[Any]) -> None:
    """Raise `InputError` if nothing can be learned from so few training labels, or from one class."""
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise InputError(f"The training labels hold {np.unique(labels).tolist()}: give both 0 and 1, and nothing else.")
    if len(labels) < FEWEST:
        raise InputError(f"Colour cannot be learned from {len(labels)} training patches: give {FEWEST} or more.")


def colour_scores(train_images: Any, train_labels: ArrayLike, images: Any, *, seed: int = 0) -> NDArray[np.float64]:
    """Score patches by colour alone, with gradient boosting on `colour_features`.

    Parameters
    ----------
    train_images, images : array-like of shape (N, 96, 96, 3), uint8
        What to learn from, and what to score.
    train_labels : array-like of N values 0 or 1
        Any shape that holds one value per training patch.
    seed : int
        The same seed gives the same scores.

    Returns
    -------
    ndarray of shape (len(images),), float64
        The probability of tumour, 0 to 1.

    Raises
    ------
    InputError
        If there is not one label per training patch, or only one class, or fewer than `FEWEST` training patches.

    Examples
    --------
    >>> pale, dark = (np.full((40, 96, 96, 3), value, np.uint8) for value in (200, 90))
    >>> colour_scores(np.concatenate([pale, dark]), [0] * 40 + [1] * 40, dark[:1]).round(1)
    array([1.])
    """
    labels = np.asarray(train_labels).reshape(-1)
    if len(labels) != len(train_images):
        raise InputError(
            f"There are {len(labels)} labels for {len(train_images)} training patches: give one label per patch."
        )
    require_enough(labels)
    model = HistGradientBoostingClassifier(random_state=seed)
    model.fit(colour_features(train_images), labels)
    return np.asarray(model.predict_proba(colour_features(images))[:, 1])

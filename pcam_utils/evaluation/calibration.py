"""Measures whether probabilities mean what they say, and corrects them if they do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import log_loss

#: Probabilities are kept this far from 0 and 1 before their logarithms are taken.
_EDGE = 1e-7


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> float:
    """Give the mean distance between what is predicted and how often it comes true, over bins of equal size.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities : (N,) float
    bins : int
        The patches are put in the order of their probabilities, and cut into this many parts of equal size (Nguyen
        and O'Connor 2015, arXiv:1508.05154).

    Returns
    -------
    float
        0 is perfect; 0.1 means that a prediction is off by ten percentage points on average.

    Examples
    --------
    >>> round(expected_calibration_error([0, 1, 1, 1], [0.5, 0.5, 0.9, 0.9], bins=2), 3)
    0.05
    """
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(labels[part].mean() - probabilities[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(labels))


def fit_temperature(labels: ArrayLike, views: ArrayLike) -> float:
    """Find the temperature. If the logits are divided by it, the averaged probabilities make the labels most likely.

    A temperature above 1 makes a network less sure of itself. The order of its predictions for one view does not change
    (Guo et al. 2017, arXiv:1706.04599). Fit it on validation patches.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    views : (N, V) float
        Probabilities of each view, from `pcam_utils.evaluation.predictions.predict_views`. Their arithmetic mean is
        fitted.

    Returns
    -------
    float
        Between 0.05 and 20.

    Examples
    --------
    >>> too_sure = np.array([[0.99], [0.99], [0.99], [0.01]])  # and right in three of four
    >>> temperature = fit_temperature([1, 1, 0, 0], too_sure)
    >>> np.round(apply_temperature(too_sure[0], temperature), 2)
    array([0.75])
    """

    def loss(log_temperature: float) -> float:
        return float(log_loss(labels, apply_temperature(views, np.exp(log_temperature)).mean(axis=1)))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def apply_temperature(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Divide the logits of probabilities by a temperature.

    Parameters
    ----------
    probabilities : (...) float
        If they are nearer than 1e-7 to 0 or 1, they are taken to be that far away.
    temperature : float

    Returns
    -------
    (...) float64

    Examples
    --------
    >>> np.round(apply_temperature([0.5, 0.9], 2.0), 2)
    array([0.5 , 0.75])
    """
    return np.asarray(expit(logit(np.clip(probabilities, _EDGE, 1 - _EDGE)) / temperature))

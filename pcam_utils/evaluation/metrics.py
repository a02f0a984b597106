"""Scores predictions: AUC with a bootstrap interval, operating points, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from ..errors import InputError
from .calibration import expected_calibration_error

#: An interval needs this many slides, or patches, of each class. If there are fewer than six, all of them lie on one
#: side of the truth more often than one time in twenty (2 · 0.5⁵ = 0.06). No draws among them can then give an
#: interval of 95 %.
FEWEST_GROUPS = 6


def evaluate(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    slides: ArrayLike | None = None,
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score predictions against labels.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities : (N,) float
    slides : (N,) str, optional
        If they are known, whole slides are drawn for the interval, since patches of one slide resemble each other.
    thresholds : dict of str to float, optional
        Operating points by name. 0.5 is always reported.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        - auc, its 95 % interval auc_low and auc_high, and interval, which says how that was drawn or why there is none;
        - calibration_error, over 15 bins of equal size;
        - patches, positives and slides;
        - operating_points: for each name a dict of threshold, sensitivity, specificity and the four counts.

    Raises
    ------
    InputError
        If the labels are of one class alone, or not as many as the probabilities.

    Examples
    --------
    >>> scores = evaluate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
    >>> scores["auc"], scores["patches"], scores["interval"]
    (0.75, 4, 'none: 2 patches without tumour and 2 with it, but 6 of each are needed')
    """
    labels = np.asarray(labels)
    low, high = auc_interval(labels, probabilities, groups=slides, seed=seed)
    points = {"half": 0.5, **(thresholds or {})}
    return {
        "auc": float(roc_auc_score(labels, probabilities)),
        "auc_low": low,
        "auc_high": high,
        "calibration_error": expected_calibration_error(labels, probabilities),
        "interval": _how_drawn(labels, slides),
        "patches": len(labels),
        "positives": int(np.sum(labels)),
        "slides": len(np.unique(slides)) if slides is not None else None,
        "operating_points": {name: operating_point(labels, probabilities, at) for name, at in points.items()},
    }


def operating_point(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> dict[str, float]:
    """Give sensitivity, specificity and counts, if a patch is called tumour from `threshold` on.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities : (N,) float
    threshold : float

    Returns
    -------
    dict
        threshold, sensitivity, specificity, and the counts true_positives, false_negatives, true_negatives,
        false_positives. A share of no patches is nan.

    Examples
    --------
    >>> point = operating_point([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], 0.5)
    >>> point["sensitivity"], point["specificity"], point["false_positives"]
    (0.5, 0.5, 1)
    """
    called = np.asarray(probabilities) >= threshold
    (tn, fp), (fn, tp) = confusion_matrix(labels, called, labels=[0, 1]).tolist()
    return {
        "threshold": float(threshold),
        "sensitivity": tp / (tp + fn) if tp + fn else float("nan"),
        "specificity": tn / (tn + fp) if tn + fp else float("nan"),
        "true_positives": tp,
        "false_negatives": fn,
        "true_negatives": tn,
        "false_positives": fp,
    }


def choose_threshold(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Give the threshold with the largest sum of sensitivity and specificity (Youden 1950). Use validation data.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities : (N,) float

    Returns
    -------
    float
        One of the probabilities.

    Examples
    --------
    >>> choose_threshold([0, 0, 1, 1], [0.1, 0.3, 0.4, 0.9])
    0.4
    """
    fpr, tpr, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    # The first threshold is infinite: it stands for calling nothing tumour.
    return float(thresholds[1:][np.argmax((tpr - fpr)[1:])])


def auc_interval(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Give the bootstrap interval of the AUC: how far it moves when the patches, or whole groups, are drawn anew.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities : (N,) float
    groups : (N,) str, optional
        Drawn as wholes, for example slides.
    level : float
    draws : int
    seed : int

    Returns
    -------
    tuple of float
        Lower and upper end: percentiles of the drawn AUCs (Efron and Tibshirani 1993, chapter 13). Both are nan where
        a class comes from fewer than `FEWEST_GROUPS` groups.

    Raises
    ------
    InputError
        If the labels are of one class alone, or not as many as the probabilities.

    Examples
    --------
    >>> low, high = auc_interval([0, 1] * 50, np.linspace(0, 1, 100))
    >>> 0.3 < low < 0.5 < high < 0.7
    True
    """
    drawn = _drawn_aucs(labels, [probabilities], groups, draws, seed)[:, 0]
    return _middle(drawn, level)


def auc_difference(
    labels: ArrayLike,
    probabilities: ArrayLike,
    others: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Say by how much one model's AUC exceeds another's on the same patches, with a paired bootstrap interval.

    Both models are scored on the same draws. So whatever makes a draw hard for both of them cancels out.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities, others : (N,) float
    groups, level, draws, seed
        See `auc_interval`.

    Returns
    -------
    tuple of float
        The difference, and the lower and upper end of its interval, nan as in `auc_interval`.

    Raises
    ------
    InputError
        If the labels are of one class alone, or not as many as the probabilities.

    Examples
    --------
    >>> labels, perfect, blind = [0, 1] * 50, [0.2, 0.8] * 50, [0.5] * 100
    >>> auc_difference(labels, perfect, blind)
    (0.5, 0.5, 0.5)
    """
    drawn = _drawn_aucs(labels, [probabilities, others], groups, draws, seed)
    difference = roc_auc_score(labels, probabilities) - roc_auc_score(labels, others)
    return float(difference), *_middle(drawn[:, 0] - drawn[:, 1], level)


def _groups_of_each_class(labels: ArrayLike, groups: ArrayLike | None) -> list[int]:
    labels = np.asarray(labels)
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    return [len(np.unique(groups[labels == label])) for label in (0, 1)]


def _how_drawn(labels: ArrayLike, slides: ArrayLike | None) -> str:
    without, with_tumour = _groups_of_each_class(labels, slides)
    drawn = "patches" if slides is None else "slides"
    if min(without, with_tumour) >= FEWEST_GROUPS:
        return f"95 % bootstrap, {'whole ' if drawn == 'slides' else ''}{drawn} drawn"
    return f"none: {without} {drawn} without tumour and {with_tumour} with it, but {FEWEST_GROUPS} of each are needed"


def _drawn_aucs(
    labels: ArrayLike, scores: Sequence[ArrayLike], groups: ArrayLike | None, draws: int, seed: int
) -> NDArray[np.float64]:
    """(draws, len(scores)) AUCs of patches, or whole groups, drawn with replacement."""
    rng = np.random.default_rng(seed)
    _, member = np.unique(np.arange(len(np.asarray(labels))) if groups is None else groups, return_inverse=True)
    number = member.max() + 1
    ranked = [_ranked(labels, score) for score in scores]
    if min(_groups_of_each_class(labels, groups)) < FEWEST_GROUPS:
        return np.full((1, len(scores)), np.nan)
    drawn: list[list[float]] = []
    while len(drawn) < draws:
        weights = np.bincount(rng.integers(0, number, number), minlength=number)[member]
        aucs = [_weighted_auc(positive, place, weights) for positive, place in ranked]
        # Draws without both classes have no AUC. They are rare, since there are enough groups.
        if np.isfinite(aucs).all():
            drawn.append(aucs)
    return np.array(drawn)


def _middle(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high)


def _ranked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if len(labels) != len(probabilities):
        raise InputError(
            f"Each patch needs a label and a probability: {len(labels)} and {len(probabilities)} were given."
        )
    if len(np.unique(labels)) < 2:
        raise InputError("An AUC needs patches of both classes; evaluate a split that has them.")
    _, place = np.unique(probabilities, return_inverse=True)
    return labels.astype(bool), place


def _weighted_auc(positive: NDArray[np.bool_], place: NDArray[np.intp], weights: NDArray[np.integer]) -> float:
    """Give the AUC of weighted patches: the share of (positive, negative) pairs in the right order. Ties count half."""
    positives = np.bincount(place, weights * positive)
    negatives = np.bincount(place, weights * ~positive)
    pairs = positives.sum() * negatives.sum()
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs) if pairs else np.nan

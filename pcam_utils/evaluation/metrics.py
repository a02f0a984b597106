"""Scores predictions: AUC with a bootstrap interval, operating points, counts."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from ..errors import InputError
from .calibration import expected_calibration_error


def evaluate(labels, probabilities, *, slides=None, thresholds=None, seed=0):
    """Score predictions against labels.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities : (N,) float
    slides : (N,) str, optional
        Where known, whole slides are drawn for the interval: patches of one slide resemble each other.
    thresholds : dict of str to float, optional
        Operating points by name; 0.5 is always reported.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        auc, auc_low, auc_high (95 % interval), interval (how it was drawn), calibration_error (15 bins of equal size),
        patches, positives, slides, and operating_points: name to threshold, sensitivity, specificity, and the four
        counts.
    """
    by_slide = slides is not None and len(np.unique(slides)) > 1
    low, high = auc_interval(labels, probabilities, groups=slides if by_slide else None, seed=seed)
    points = {"half": 0.5, **(thresholds or {})}
    return {
        "auc": float(roc_auc_score(labels, probabilities)),
        "auc_low": low,
        "auc_high": high,
        "calibration_error": expected_calibration_error(labels, probabilities),
        "interval": f"95 % bootstrap, {'whole slides' if by_slide else 'patches'} drawn",
        "patches": len(labels),
        "positives": int(np.sum(labels)),
        "slides": len(np.unique(slides)) if slides is not None else None,
        "operating_points": {name: operating_point(labels, probabilities, at) for name, at in points.items()},
    }


def operating_point(labels, probabilities, threshold):
    """Sensitivity, specificity and counts where a patch is called tumour from `threshold` on.

    Returns
    -------
    dict
        threshold, sensitivity, specificity, and the counts true_positives, false_negatives, true_negatives,
        false_positives.
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


def choose_threshold(labels, probabilities):
    """The threshold with the largest sum of sensitivity and specificity (Youden 1950); choose it on validation data."""
    false_alarms, hits, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    # The first threshold is infinite: it stands for calling nothing tumour.
    return float(thresholds[1:][np.argmax((hits - false_alarms)[1:])])


def auc_interval(labels, probabilities, *, groups=None, level=0.95, draws=2000, seed=0):
    """Bootstrap interval of the AUC: how much it moves when the patches, or whole groups, are drawn anew.

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
        Lower and upper end: percentiles of the drawn AUCs (Efron and Tibshirani 1993, chapter 13).
    """
    drawn = _drawn_aucs(labels, [probabilities], groups, draws, seed)[:, 0]
    return _middle(drawn, level)


def auc_difference(labels, probabilities, others, *, groups=None, level=0.95, draws=2000, seed=0):
    """By how much one model's AUC exceeds another's on the same patches, with a paired bootstrap interval.

    Both are scored on the same draws, so what makes a draw hard for both cancels out.

    Parameters
    ----------
    labels : (N,) int of 0 and 1
    probabilities, others : (N,) float
    groups, level, draws, seed
        See `auc_interval`.

    Returns
    -------
    tuple of float
        The difference, and the lower and upper end of its interval.
    """
    drawn = _drawn_aucs(labels, [probabilities, others], groups, draws, seed)
    difference = roc_auc_score(labels, probabilities) - roc_auc_score(labels, others)
    return float(difference), *_middle(drawn[:, 0] - drawn[:, 1], level)


def _drawn_aucs(labels, scores, groups, draws, seed):
    """(draws, len(scores)) AUCs of patches, or whole groups, drawn with replacement."""
    rng = np.random.default_rng(seed)
    _, member = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    number = member.max() + 1
    ranked = [_ranked(labels, score) for score in scores]
    drawn = []
    while len(drawn) < draws:
        weights = np.bincount(rng.integers(0, number, number), minlength=number)[member]
        aucs = [_weighted_auc(positive, place, weights) for positive, place in ranked]
        # Draws without both classes have no AUC; they are rare unless there are very few groups.
        if np.isfinite(aucs).all():
            drawn.append(aucs)
    return np.array(drawn)


def _middle(drawn, level):
    tail = (1 - level) / 2
    return tuple(float(end) for end in np.quantile(drawn, (tail, 1 - tail)))


def _ranked(labels, probabilities):
    labels = np.asarray(labels)
    if len(np.unique(labels)) < 2:
        raise InputError("An AUC needs patches of both classes; evaluate a split that has them.")
    _, place = np.unique(probabilities, return_inverse=True)
    return labels.astype(bool), place


def _weighted_auc(positive, place, weights):
    """AUC of weighted patches: the share of (positive, negative) pairs in the right order, ties counting half."""
    positives = np.bincount(place, weights * positive)
    negatives = np.bincount(place, weights * ~positive)
    pairs = positives.sum() * negatives.sum()
    below = np.cumsum(negatives) - negatives
    return (positives * (below + negatives / 2)).sum() / pairs if pairs else np.nan

"""Splits labelled patches into a part to train on and a part to choose by, without a leak if slides are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit
from sklearn.utils import shuffle

from ..errors import InputError
from .patches import Patches, content_hashes
from .sources import Data

OFFICIAL = "the official train and valid splits: no slide is on both sides"
KEPT_APART = "the train and valid splits of the source: no slide is on both sides"
AS_FOUND = "the train and valid splits of the source; whether a slide is on both sides is not known"
LEAKING = (
    "the train and valid splits of the source: {} slides are on both sides, so the validation score is likely too good"
)
BY_SLIDE = "split by slide: no slide is on both sides"
AT_RANDOM = (
    "split at random, with exact repeats on one side: slides are unknown, so patches of one slide are on both sides "
    "and the validation score is likely too good"
)


@dataclass(frozen=True)
class Split:
    """Two parts of the labelled data, and a sentence that says how they were made and what may be wrong with them."""

    train: Patches
    valid: Patches
    how: str


def train_valid(data: Data, *, fraction: float = 0.2, seed: int = 0, progress: bool = True) -> Split:
    """Give the patches to train on and those to choose by.

    If the source has both splits, these are taken. Otherwise the training patches are split. This is done by slide if
    slides are known, and else at random, stratified, with exact repeats kept on one side.

    Parameters
    ----------
    data : pcam_utils.data.sources.Data
    fraction : float
        Share of the patches to choose by, between 0 and 0.5, if the split is made here.
    seed : int
    progress : bool
        Show a bar where looking for repeats takes more than two seconds.

    Returns
    -------
    Split

    Raises
    ------
    InputError
        If labels are missing, or a side would hold one class alone.

    Examples
    --------
    >>> from pcam_utils.data.patches import Rows
    >>> images, ids, labels = Rows(np.zeros((20, 96, 96, 3), np.uint8)), np.arange(20).astype(str), np.arange(20) % 2
    >>> patches = Patches(images, ids, labels, slides=np.repeat(["a", "b", "c", "d"], 5))
    >>> split = train_valid(Data("somewhere", "kaggle", {"train": patches}), fraction=0.25)
    >>> len(split.train), len(split.valid), set(split.train.slides) & set(split.valid.slides)
    (15, 5, set())
    """
    train = data.split("train")
    if "valid" in data.splits and data.splits["valid"].labels is not None:
        split = Split(train, data.splits["valid"], _how_found(train, data.splits["valid"], data.layout))
    else:
        train.require_both_classes()
        groups = train.slides if train.slides is not None else content_hashes(train, progress=progress)
        part = by_group if train.slides is not None else at_random
        chosen = part(np.asarray(train.labels), groups, fraction=fraction, seed=seed)
        valid = replace(train.take(chosen), name="valid")
        split = Split(train.take(~chosen), valid, BY_SLIDE if part is by_group else AT_RANDOM)
    split.train.require_both_classes()
    split.valid.require_both_classes()
    return split


def _how_found(train: Patches, valid: Patches, layout: str) -> str:
    known = train.slides is not None and valid.slides is not None
    shared = set(train.slides) & set(valid.slides) if known else set()  # type: ignore[arg-type]
    if shared:
        return LEAKING.format(len(shared))
    if layout == "pcam":
        return OFFICIAL
    return KEPT_APART if known else AS_FOUND


def by_group(
    labels: NDArray[np.integer], groups: NDArray[np.str_], *, fraction: float = 0.2, seed: int = 0
) -> NDArray[np.bool_]:
    """Choose whole groups, with about `fraction` of the patches and of each class.

    Parameters
    ----------
    labels : (N,) int
    groups : (N,) str
        The slide of each patch.
    fraction : float
        Between 0 and 0.5.
    seed : int

    Returns
    -------
    (N,) bool
        True for the chosen part.

    Raises
    ------
    InputError
        If there is one group alone, or a class with one patch, or each class cannot be on both sides.

    Examples
    --------
    >>> slides = np.repeat(["a", "b", "c", "d"], 5)
    >>> chosen = by_group(np.arange(20) % 2, slides, fraction=0.25)
    >>> int(chosen.sum()), len(set(slides[chosen]))
    (5, 1)
    """
    check_fraction(fraction)
    if len(np.unique(groups)) < 2:
        raise InputError("All patches come from one slide, so no split by slide can be made; add other slides.")
    rarer = int(min(np.bincount(labels, minlength=2)))
    if rarer < 2:
        raise InputError("Each class needs at least two patches to be split; add more.")
    most = min(round(1 / fraction), len(np.unique(groups)), rarer)
    # The groups are shuffled here: up to 1.7, and so on Colab, scikit-learn shuffles their class counts without them.
    _, member = np.unique(groups, return_inverse=True)
    drawn = np.argsort(shuffle(np.arange(member.max() + 1), random_state=seed))[member]
    for folds in range(most, 1, -1):  # try larger parts, for few slides that hold one class each
        for _, chosen in StratifiedGroupKFold(folds).split(np.zeros(len(labels)), labels, drawn):
            part = np.isin(np.arange(len(labels)), chosen)
            if len(np.unique(labels[part])) == len(np.unique(labels[~part])) == 2:
                return part
    raise InputError(
        "However slides are parted, one side holds one class alone: all of a class is on too few slides; add others."
    )


def at_random(
    labels: NDArray[np.integer], contents: NDArray[np.str_], *, fraction: float = 0.2, seed: int = 0
) -> NDArray[np.bool_]:
    """Choose patches at random, stratified by label, with equal contents kept together.

    Parameters
    ----------
    labels : (N,) int
    contents : (N,) str
        A digest of each patch, equal for exact repeats.
    fraction : float
        Between 0 and 0.5.
    seed : int

    Returns
    -------
    (N,) bool
        True for the chosen part.
    """
    check_fraction(fraction)
    _, first, member = np.unique(contents, return_index=True, return_inverse=True)
    if min(np.bincount(labels[first], minlength=2)) < 2:
        raise InputError("Each class needs at least two different patches to be split; add more.")
    splitter = StratifiedShuffleSplit(1, test_size=max(fraction, 2 / len(first)), random_state=seed)
    _, chosen = next(splitter.split(first, labels[first]))
    return np.isin(member, chosen)


def check_fraction(fraction: float) -> None:
    """Raise `InputError` unless a share to choose by lies above 0 and not above 0.5."""
    if not 0 < fraction <= 0.5:
        raise InputError(f"The share to choose by is {fraction}, but it must lie above 0 and not above 0.5.")

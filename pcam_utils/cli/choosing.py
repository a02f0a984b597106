"""Chooses what a command works on: the folder of data, the model, and the patches of one split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.contents import say_classes
from ..data.found import PCAM_CLASSES
from ..data.meanings import mean_the_same
from ..data.patches import Patches, has_fingerprint
from ..data.sources import Data
from ..errors import InputError
from ..models import shipped
from ..models.networks import load_model
from ..training.records import read_record


def choose_model(run: Path | None = None, model: str | Path | None = None) -> tuple[Any, dict[str, Any]]:
    """Load the best model of a run, or a model file. If neither is named, load the one that comes with the package.

    Parameters
    ----------
    run : path, optional
    model : 'pcam' or path, optional

    Returns
    -------
    keras.Model, dict
        The model, and its record, if it comes from a run or with the package. The record of a file is empty.

    Raises
    ------
    InputError
        If both are named, or what is named is not there.
    """
    if run is not None and model is not None:
        raise InputError("Name one model: either --run RUN or --model FILE.")
    if run is not None:
        record = read_record(run)
        if not (run / "best.keras").exists():
            raise InputError(f"{run} has no best.keras yet; finish an epoch with 'pcam train --resume'.")
        return load_model(run / "best.keras"), record
    if model is None or str(model) == "pcam":
        return load_model("pcam"), {"classes": PCAM_CLASSES, **shipped.read_record()}
    return load_model(model), {}


def require_same_meaning(data: Data, record: dict[str, Any], *, chosen: bool = False) -> None:
    """Refuse data whose 0 and 1 do not mean what they mean to the model, or whose images were fitted in another way.

    Parameters
    ----------
    data : pcam_utils.data.sources.Data
    record : dict
        From `choose_model`. What it does not say is not compared.
    chosen : bool
        True if the person has said which class is 1. That decides where names do not tell.

    Raises
    ------
    InputError
    """
    theirs = record.get("classes")
    labelled = any(patches.labels is not None for patches in data.splits.values())
    if labelled and theirs and len(data.classes) == 2:
        same = mean_the_same(theirs, data.classes)
        if same is False or (same is None and not chosen):
            raise InputError(
                f"To the model {say_classes(theirs)}, but to {data.folder} {say_classes(data.classes)}; "
                "say with --positive which folder is the model's 1, or choose other data."
            )
    fit = record.get("fit")
    if fit is not None and data.fit != fit:
        raise InputError(f"The model learned from images of --fit {fit}; ask for the same here.")


def choose_split(
    open_data: Callable[..., Data],
    split: str | None = None,
    labels: Path | None = None,
    run: Path | None = None,
    record: Mapping[str, Any] | None = None,
) -> Patches:
    """Choose the labelled patches to score on: the split asked for, else the one that `Data.default_split` names.

    If the run made its own validation part, 'valid' is that part of 'train'.

    Parameters
    ----------
    open_data : callable
        Opens the data; takes `only` and `labels`.
    split : str, optional
    labels : path, optional
        CSV with labels of a split that has none.
    run : path, optional
    record : dict, optional
        The run's record, which tells whether it was trained on these data.

    Returns
    -------
    Patches
    """
    if split is None:
        data = open_data(only=("test",), labels=labels)
        split = data.default_split(labelled=True)
        if split in data.splits:
            return data.split(split).require_both_classes()
    valid_ids = Path(run) / "valid_ids.txt" if run else None
    if split == "valid" and valid_ids and valid_ids.exists():
        return _kept_valid(open_data(only=("train",)), valid_ids, record or {})
    return open_data(only=(split,), labels=labels).split(split).require_both_classes()


def choose_images(open_data: Callable[..., Data], split: str | None = None) -> Patches:
    """Choose the patches to predict: the split asked for, else the one that `Data.default_split` names."""
    data = open_data(only=(split or "test",))
    return data.split(split or data.default_split())


def _kept_valid(data: Data, valid_ids: Path, record: Mapping[str, Any]) -> Patches:
    """Find the run's own validation patches by their ids, and check that their pixels and labels are the same."""
    train, ids = data.split("train"), valid_ids.read_text(encoding="utf-8").rstrip("\n").split("\n")
    kept = np.isin(train.ids, ids)
    valid, known = replace(train.take(kept), name="valid"), record.get("fingerprints", {}).get("valid")
    if kept.sum() < len(set(ids)) or (known and not has_fingerprint(valid, known)):
        raise InputError(
            f"{data.folder} holds other patches than the run learned from: of the {len(ids):,} that {valid_ids} names, "
            f"{kept.sum():,} are there by name, and not the same pixels and labels in the same order; name the run's "
            "own data, or score all of these with --split train."
        )
    return valid.require_both_classes()

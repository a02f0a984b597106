"""Chooses what a command works on: the folder of data, the model, and the patches of one split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.patches import Patches
from ..data.sources import Data
from ..errors import InputError
from ..models import shipped
from ..models.networks import load_model
from ..training.run import read_record


def choose_model(run: Path | None = None, model: str | Path | None = None) -> tuple[Any, dict[str, Any]]:
    """Load the best model of a run, or a model file, or, if neither is named, the one that comes with the package.

    Parameters
    ----------
    run : path, optional
    model : 'pcam' or path, optional

    Returns
    -------
    keras.Model, dict
        The model, and what is known of it: the record of the run or of the package's model, nothing of a file.

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
        return load_model("pcam"), shipped.read_record()
    return load_model(model), {}


def choose_split(
    open_data: Callable[..., Data], split: str | None = None, labels: Path | None = None, run: Path | None = None
) -> Patches:
    """The labelled patches to score on: the split asked for, else what `Data.default_split` names.

    Where the run made its own validation part, 'valid' is that part of 'train'.

    Parameters
    ----------
    open_data : callable
        Opens the data; takes `only` and `labels`.
    split : str, optional
    labels : path, optional
        CSV with labels of a split that has none.
    run : path, optional

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
        return _kept_valid(open_data(only=("train",)).split("train"), valid_ids)
    return open_data(only=(split,), labels=labels).split(split).require_both_classes()


def choose_images(open_data: Callable[..., Data], split: str | None = None) -> Patches:
    """The patches to predict: the split asked for, else what `Data.default_split` names."""
    data = open_data(only=(split or "test",))
    return data.split(split or data.default_split())


def _kept_valid(train: Patches, valid_ids: Path) -> Patches:
    kept = np.isin(train.ids, valid_ids.read_text(encoding="utf-8").split("\n"))
    if not kept.any():
        raise InputError(f"None of the patches that {valid_ids} names is in the data; name the data of that run.")
    return replace(train.take(kept), name="valid").require_both_classes()

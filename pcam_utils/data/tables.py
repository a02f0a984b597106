"""Reads the CSV tables that come with patches: ids with labels or probabilities, and whatever columns are asked for."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, reason


def read_csv(path: str | os.PathLike, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a table that has these columns, and at least one row; `InputError` says in one sentence what is wrong."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                raise InputError(
                    f"{path} has no column '{missing[0]}'; its first line must name: {', '.join(columns)}."
                )
            rows = list(reader)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the name.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}); name a CSV table that can.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable CSV table ({error}); get it again.") from error
    if not rows:
        raise InputError(f"{path} has no rows; get it again.")
    for number, row in enumerate(rows, start=2):
        if any(row[column] is None for column in columns):
            raise InputError(f"{path}, line {number} is too short; each line needs: {', '.join(columns)}.")
    return rows


def read_labels(path: Path) -> dict[str, int]:
    """Label, 0 or 1, of each id in a table of id,label."""
    rows = read_csv(path, ("id", "label"))
    require_unique([row["id"] for row in rows], path)
    for number, row in enumerate(rows, start=2):
        if row["label"] not in ("0", "1"):
            raise InputError(f"{path}, line {number}: the label is '{row['label']}', but 0 or 1 is needed; correct it.")
    return {row["id"]: int(row["label"]) for row in rows}


def read_probabilities(path: str | os.PathLike, ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """Read what `pcam predict` wrote: the probability of each of these patches, from a table of id,label.

    Parameters
    ----------
    path : path
    ids : (N,) str

    Returns
    -------
    (N,) float32
    """
    rows = read_csv(path, ("id", "label"))
    found = dict(zip(require_unique([row["id"] for row in rows], path).tolist(), (row["label"] for row in rows)))
    missing = next((i for i in ids if i not in found), None)
    if missing is not None:
        raise InputError(f"{path} has no probability for the patch {missing}; predict all patches again.")
    try:
        values = np.array([found[i] for i in ids], np.float32)
    except ValueError:
        values = np.array([np.nan])
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"{path} holds labels that are no probabilities from 0 to 1; predict the patches again.")
    return values


def require_unique(ids: Sequence[str], where: str | os.PathLike) -> NDArray[np.str_]:
    """Give the ids as an array, or refuse them with `InputError` if one occurs twice `where` they are from."""
    values, counts = np.unique(np.asarray(ids), return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{where} holds the id {values[counts > 1][0]} more than once; ids must be unique.")
    return np.asarray(ids)

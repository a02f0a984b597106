"""Reads the CSV tables that come with patches. It joins them to patches by id, never by position, and reports gaps."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, reason

#: Suffixes of pictures that can be read. A table may name a picture with its suffix or without.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def read_csv(path: str | os.PathLike, columns: Sequence[str]) -> dict[str, list[str]]:
    """Read the named columns of a table with at least one row. `InputError` says in one sentence what is wrong.

    Columns may be separated by commas, semicolons (Excel in much of Europe) or tabs. Their names may be in capitals.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = [row for row in csv.reader(file, delimiter=max(",;\t", key=first.count)) if row]
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the name.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}); name a CSV table that can.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable CSV table ({error}); get it again.") from error
    header = [name.strip().casefold() for name in rows[0]] if rows else []
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(f"{path} has no column '{missing[0]}'; its first line must name: {', '.join(columns)}.")
    if len(rows) == 1:
        raise InputError(f"{path} has no rows; get it again.")
    places = [header.index(column) for column in columns]
    short = next((number for number, row in enumerate(rows, start=1) if len(row) <= max(places)), None)
    if short:
        raise InputError(f"{path}, line {short} is too short; each line needs: {', '.join(columns)}.")
    return {column: [row[place].strip() for row in rows[1:]] for column, place in zip(columns, places)}


def read_keyed(path: str | os.PathLike, value: str) -> dict[str, str]:
    """Read a column of a table as a dict with the keys of the column id, which must be unique."""
    columns = read_csv(path, ("id", value))
    require_unique(columns["id"], path)
    return dict(zip(columns["id"], columns[value]))


def read_labels(path: str | os.PathLike) -> dict[str, int]:
    """Read the label, 0 or 1, of each id in a table of id,label."""
    found = read_keyed(path, "label")
    return dict(zip(found, check_labels(found.values(), path)))


def check_labels(labels: Any, path: str | os.PathLike) -> list[int]:
    """Give the labels of a table as numbers. Only 0 and 1 are accepted, which may be written as 0.0 and 1.0."""
    number = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
    for line, label in enumerate(labels, start=2):
        if label not in number:
            raise InputError(f"{path}, line {line}: the label is '{label}', but 0 or 1 is needed; correct it.")
    return [number[label] for label in labels]


def read_probabilities(path: str | os.PathLike, ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """Read the probability of each of these patches from a table of id,label that `pcam predict` wrote.

    Parameters
    ----------
    path : path
    ids : (N,) str

    Returns
    -------
    (N,) float32
    """
    found = read_keyed(path, "label")
    missing = [i for i in ids if i not in found]
    if missing:
        raise InputError(
            f"{path} has no probability for the patch {missing[0]}, nor for {len(missing) - 1:,} others of "
            f"{len(ids):,}; predict all patches again."
        )
    try:
        values = np.array([found[i] for i in ids], np.float32)
    except ValueError:
        values = np.array([np.nan])
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"{path} holds labels that are no probabilities from 0 to 1; predict the patches again.")
    return values


def join(ids: Sequence[str], table: Mapping[str, Any]) -> list[Any]:
    """Give what a table says of each id, or None if it says nothing. It may name pictures with their suffix.

    Examples
    --------
    >>> join(["a", "b", "c"], {"b": 1, "a.png": 0})
    [0, 1, None]
    """
    if table.keys() >= set(ids):  # as it should be: 220,000 ids in an instant
        return [table[i] for i in ids]
    stems = {os.path.splitext(key)[0]: key for key in table if key.lower().endswith(IMAGE_SUFFIXES)}
    return [table.get(i, table.get(stems.get(i, ""))) for i in ids]


def require_unique(ids: Sequence[str], where: str | os.PathLike) -> NDArray[np.str_]:
    """Give the ids as an array. Raise `InputError` if an id occurs twice or cannot be written as text."""
    try:
        "\n".join(ids).encode()
    except UnicodeEncodeError as error:
        name = error.object[: error.end].rpartition("\n")[2] + error.object[error.end :].partition("\n")[0]
        raise InputError(f"{where} holds the name {os.fsencode(name)!r}, which is not UTF-8; rename it.") from error
    broken = next((i for i in ids if "\n" in i or "\r" in i), None)
    if broken is not None:
        raise InputError(f"{where} holds the name {broken!r}, which goes over a line's end; rename it.")
    if len(set(ids)) < len(ids):
        values, counts = np.unique(np.asarray(ids), return_counts=True)
        raise InputError(f"{where} holds the id {values[counts > 1][0]} more than once; ids must be unique.")
    return np.asarray(ids)

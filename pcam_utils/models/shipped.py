"""Reads the classifier that comes with the package: its weights, its record, and what it was trained on."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from ..data.patches import SIZE, Patches, is_blank
from ..errors import InputError, reason

FOLDER = Path(__file__).with_name("weights")
RECORD, WEIGHTS, SEEN = "nasnetmobile_pcam.json", "nasnetmobile_pcam.npz", "nasnetmobile_pcam_seen.npz"
_FIELDS = 3  #: the look of a patch is the mean colour of 3×3 fields
_NEAR = 2  #: looks that differ by no more than this, on a scale of 255, count as one patch, recompressed or not


def read_record(folder: str | Path = FOLDER) -> dict[str, Any]:
    """Read what is known of the shipped classifier: its runs, temperature, operating point, and checksums.

    Raises
    ------
    InputError
        If the file is missing or cannot be read.

    Examples
    --------
    >>> 0.5 < read_record()["operating_point"]["sensitivity"] < 1
    True
    """
    try:
        record: dict[str, Any] = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
        return record
    except (OSError, ValueError) as error:
        raise InputError(f"{Path(folder) / RECORD} cannot be read; install pcam-utils again.") from error


def read_weights(folder: str | Path = FOLDER) -> list[np.ndarray]:
    """Read the arrays of the shipped classifier: those of the backbone in its own order, then the head's two.

    Returns
    -------
    list of float32 arrays

    Raises
    ------
    InputError
        If the file is missing, or is not bit for bit the one that the record describes.
    """
    return [array.astype(np.float32) for array in _read_arrays(folder, WEIGHTS).values()]


def look(images: np.ndarray) -> np.ndarray:
    """Say what patches look like from afar: the mean colours of 3×3 fields. JPEG hardly changes them.

    Parameters
    ----------
    images : (N, 96, 96, 3) uint8

    Returns
    -------
    (N, 27) uint8

    Examples
    --------
    >>> look(np.full((1, 96, 96, 3), 7, np.uint8)).tolist() == [[7] * 27]
    True
    """
    field = SIZE // _FIELDS
    means = images.reshape(len(images), _FIELDS, field, _FIELDS, field, 3).mean(axis=(2, 4))
    return np.asarray(np.rint(means), np.uint8).reshape(len(images), -1)


def seen_in_training(patches: Patches, folder: str | Path = FOLDER) -> np.ndarray:
    """Tell which patches look like ones that the shipped classifier was trained on.

    Parameters
    ----------
    patches : Patches

    Returns
    -------
    (N,) bool
        A few in a thousand are wrong. Blank patches are never counted, since they all look alike.

    Raises
    ------
    InputError
        If the package's files are missing or damaged.

    Examples
    --------
    >>> from pcam_utils.data.patches import Rows
    >>> white = Patches(Rows(np.full((2, 96, 96, 3), 255, np.uint8)), np.array(["a", "b"]))
    >>> seen_in_training(white)
    array([False, False])
    """
    known = KDTree(_read_arrays(folder, SEEN)["looks"].astype(np.float32))
    found = []
    for batch in patches.batches():
        distance, _ = known.query(look(batch).astype(np.float32), p=np.inf, distance_upper_bound=_NEAR + 0.5)
        found.append(np.isfinite(distance) & ~is_blank(batch))
    return np.concatenate(found)


def unseen_first(patches: Patches, number: int, seed: int = 0, folder: str | Path = FOLDER) -> Patches:
    """Draw patches at random, and prefer those that the shipped classifier was not trained on.

    Four times as many are drawn first, and the seen ones among them are taken last.

    Parameters
    ----------
    patches : Patches
    number : int
        How many to draw. If there are not as many, fewer are drawn.
    seed : int

    Returns
    -------
    Patches

    Examples
    --------
    >>> from pcam_utils.data.patches import Rows
    >>> white = Patches(Rows(np.full((4, 96, 96, 3), 255, np.uint8)), np.array(list("abcd")))
    >>> len(unseen_first(white, 2))
    2
    """
    pool = patches.take(np.random.default_rng(seed).permutation(len(patches))[: 4 * number])
    return pool.take(np.argsort(seen_in_training(pool, folder), kind="stable")[:number])


def _read_arrays(folder: str | Path, name: str) -> dict[str, np.ndarray]:
    path = Path(folder) / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}); install pcam-utils again.") from error
    if hashlib.sha256(content).hexdigest() != read_record(folder)["sha256"][name]:
        raise InputError(f"{path} is damaged: its SHA-256 is not the one in {RECORD}; install pcam-utils again.")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)

"""The table that every step works on: patches with their labels, ids and slides. Images are read when they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from ..errors import InputError, reason

SIZE = 96  #: width and height of a patch, pixels (about 1 µm each)
CENTRE = slice(32, 64)  #: rows and columns that decide the label: 1 if they hold tumour
BLANK_SPREAD = 6.0  #: if the pixel values of a patch spread less than this, it shows no tissue


class Rows:
    """Chosen rows of a stored image array, read from disk when indexed.

    Parameters
    ----------
    stored : array-like, (M, 96, 96, 3) uint8
        NumPy array, h5py dataset or `FileRows`.
    rows : array of int, optional
        Rows of `stored` that this view shows, in this order; all of them if left out.

    Examples
    --------
    >>> rows = Rows(np.zeros((10, 96, 96, 3), np.uint8)).take([7, 2, 2])
    >>> rows.shape, rows[:2].shape, rows[-1].shape
    ((3, 96, 96, 3), (2, 96, 96, 3), (96, 96, 3))
    """

    def __init__(self, stored: Any, rows: ArrayLike | None = None) -> None:
        self.stored = stored
        self.rows = np.arange(len(stored)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.shape = (len(self.rows), *stored.shape[1:])
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Read rows into memory: an int gives one patch, and a slice, list or boolean mask gives a batch."""
        try:
            return self._read(self.rows[key])
        except OSError as error:
            path = self.stored.path if isinstance(self.stored, FileRows) else self.stored.file.filename
            if error.errno:  # what the system says; else HDF5 itself, of a chunk that cannot be unpacked
                raise InputError(
                    f"{path} cannot be read any more ({reason(error)}); connect its disk again, or open the data anew."
                ) from error
            raise InputError(f"{path} is damaged ({reason(error)}); get it again.") from error

    def _read(self, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        if np.ndim(chosen) == 0:
            return np.asarray(self.stored[int(chosen)])
        if isinstance(self.stored, np.ndarray):
            return np.asarray(self.stored[chosen])
        if len(chosen) and np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen))):
            return np.asarray(self.stored[chosen[0] : chosen[0] + len(chosen)])
        batch = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        if isinstance(self.stored, FileRows):
            self.stored.read_into(batch, chosen)
            return batch
        # Row by row: fancy indexing of an HDF5 dataset is slower, and refuses unsorted or repeated rows.
        for place, row in enumerate(chosen):
            self.stored.read_direct(batch, row, place)
        return batch

    def take(self, which: Any) -> Rows:
        """Return the view of these rows, without reading them."""
        return Rows(self.stored, self.rows[which])


class FileRows:
    """Images that lie in one piece in a file. Each read is one copy, and nothing stays in memory.

    A memory map would be as quick once it is warm. But the system reads ahead around every page that is touched: after
    1,000 random patches out of 262,144 there were 1.8 GB in memory.

    Parameters
    ----------
    path : path
    offset : int
        Where the first image begins, in bytes.
    shape : tuple of int
        (N, 96, 96, 3), of uint8.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...]) -> None:
        self.path, self.offset, self.shape = path, offset, tuple(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> NDArray[np.uint8]:
        """Read one row (an int) or rows that follow each other (a slice without step)."""
        every = range(len(self))  # so that negative numbers and iteration work as with a list
        if isinstance(key, slice):
            first, number = every[key].start, len(every[key])
        else:
            first, number = every[key], 1
        row = int(np.prod(self.shape[1:]))
        values = np.fromfile(self.path, np.uint8, number * row, offset=self.offset + first * row)
        if len(values) < number * row:
            raise InputError(f"{self.path} is shorter than it says; get it again.")
        rows = values.reshape(number, *self.shape[1:])
        return rows if isinstance(key, slice) else rows[0]

    def read_into(self, batch: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        """Fill a batch, (K, 96, 96, 3) uint8, with any rows. They are copied only once, from the file to the batch."""
        with open(self.path, "rb", buffering=0) as file:
            for place in np.argsort(rows, kind="stable"):  # go forwards through the file, since hard disks turn
                file.seek(self.offset + int(rows[place]) * batch[place].nbytes)
                if file.readinto(batch[place].data) < batch[place].nbytes:
                    raise InputError(f"{self.path} is shorter than it says; get it again.")


@dataclass(frozen=True)
class Patches:
    """A set of patches, read lazily.

    Attributes
    ----------
    images : Rows, (N, 96, 96, 3) uint8, RGB
    ids : (N,) str
    labels : (N,) uint8 of 0 and 1, or None where they are unknown
    slides : (N,) str, or None where they are unknown
    name : str
        The split: 'train', 'valid', 'test' or 'images'.
    simulated : bool
        True if the pictures were rendered and show no patient's tissue.
    content_ids : bool
        True if each id is the SHA-1 of the patch's RGB bytes, as in the Kaggle competition.

    Examples
    --------
    >>> images = np.zeros((3, 96, 96, 3), np.uint8)
    >>> patches = Patches(Rows(images), ids=np.array(["a", "b", "c"]), labels=np.array([0, 1, 0], np.uint8))
    >>> patches.take(patches.labels == 0).ids.tolist()
    ['a', 'c']
    """

    images: Rows
    ids: NDArray[np.str_]
    labels: NDArray[np.uint8] | None = None
    slides: NDArray[np.str_] | None = None
    name: str = "images"
    simulated: bool = False
    content_ids: bool = False

    def __post_init__(self) -> None:
        for what in ("ids", "labels", "slides"):
            column = getattr(self, what)
            if column is not None and len(column) != len(self.images):
                raise InputError(
                    f"The {self.name} split has {len(self.images)} images but {len(column)} {what}; "
                    "the files do not belong together, so get them again."
                )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, which: Any) -> Patches:
        """Return a subset as a new table, without reading any image.

        Parameters
        ----------
        which : slice, array of int, or boolean mask of shape (N,)
        """
        columns = {c: getattr(self, c)[which] for c in ("ids", "labels", "slides") if getattr(self, c) is not None}
        return replace(self, images=self.images.take(which), **columns)

    def batches(self, size: int = 256) -> Iterator[NDArray[np.uint8]]:
        """Yield (size, 96, 96, 3) uint8 batches in order. The last one may be shorter."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size]

    def require_both_classes(self) -> Patches:
        """Raise `InputError` unless labels are there and hold both 0 and 1."""
        if self.labels is None:
            raise InputError(f"The {self.name} split has no labels; name a labelled split, or give a labels file.")
        found = np.unique(self.labels)
        if len(found) < 2:
            only = f"only label {found[0]}" if len(found) else "no patches"
            raise InputError(f"The {self.name} split holds {only}, and both classes are needed; choose other data.")
        return self


def content_hashes(patches: Patches, *, progress: bool = True) -> NDArray[np.str_]:
    """Give the SHA-1 of each patch's RGB bytes. It is equal for exact repeats, and Kaggle uses it as the id.

    Parameters
    ----------
    patches : Patches
    progress : bool
        Show a bar where it takes more than two seconds.

    Returns
    -------
    (N,) str
        40 hexadecimal digits each.

    Examples
    --------
    >>> twice = Patches(Rows(np.zeros((2, 96, 96, 3), np.uint8)), ids=np.array(["a", "b"]))
    >>> len(set(content_hashes(twice)))
    1
    """
    if patches.content_ids:
        return patches.ids
    with tqdm(total=len(patches), desc="Looking for repeats", unit="patch", delay=2, disable=not progress) as bar:
        hashes = []
        for batch in patches.batches():
            hashes += [hashlib.sha1(image.tobytes()).hexdigest() for image in batch]
            bar.update(len(batch))
    return np.array(hashes)


def fingerprint(patches: Patches, hashes: NDArray[np.str_] | None = None) -> str:
    """Give a short digest of the labels and pixels of all patches, in their order. It tells data sets apart.

    Parameters
    ----------
    patches : Patches
    hashes : (N,) str, optional
        From `content_hashes`; computed if left out, which reads every patch.

    Returns
    -------
    str
        24 hexadecimal digits.
    """
    digest = _digest(patches)
    for content in content_hashes(patches, progress=False) if hashes is None else hashes:
        digest.update(str(content).encode())
    return digest.hexdigest()[:24]


def has_fingerprint(patches: Patches, known: str) -> bool:
    """Tell whether a fingerprint that was kept belongs to these patches.

    A fingerprint of 16 digits comes from an earlier version, which looked at only 64 patches.
    """
    if len(known) != 16:
        return fingerprint(patches) == known
    digest = _digest(patches)
    for row in np.unique(np.linspace(0, len(patches) - 1, 64).astype(int)):
        digest.update(patches.images[int(row)].tobytes())
    return digest.hexdigest()[:16] == known


def _digest(patches: Patches) -> hashlib._Hash:
    digest = hashlib.sha256(str(len(patches)).encode())
    if patches.labels is not None:
        digest.update(patches.labels.astype(np.uint8).tobytes())
    return digest


def is_blank(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which patches show no tissue: all pixels nearly alike, white or black.

    Parameters
    ----------
    images : (N, 96, 96, 3) uint8

    Returns
    -------
    (N,) bool
    """
    return np.asarray(images.astype(np.float32).std(axis=(1, 2)).max(axis=-1) < BLANK_SPREAD)

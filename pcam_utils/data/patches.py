"""The table that every step works on: patches with their labels, ids and slides, read only when asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, reason

SIZE = 96  #: width and height of a patch, pixels (about 1 µm each)
CENTRE = slice(32, 64)  #: rows and columns that decide the label: 1 if they hold tumour
BLANK_SPREAD = 6.0  #: a patch whose pixel values spread less than this shows no tissue


class Rows:
    """Chosen rows of a stored image array, read from disk when indexed.

    Parameters
    ----------
    stored : array-like, (M, 96, 96, 3) uint8
        NumPy array, h5py dataset or `FileRows`.
    rows : array of int, optional
        Rows of `stored` that this view shows, in this order; all of them if left out.
    """

    def __init__(self, stored, rows=None):
        self.stored = stored
        self.rows = np.arange(len(stored)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.shape = (len(self.rows), *stored.shape[1:])
        self.dtype = np.dtype(np.uint8)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        """Read rows into memory: an int gives one patch, a slice, list or boolean mask a batch."""
        try:
            return self._read(self.rows[key])
        except OSError as error:  # only HDF5 raises it: a chunk that cannot be unpacked
            raise InputError(f"{self.stored.file.filename} is damaged ({reason(error)}); get it again.") from error

    def _read(self, chosen):
        if np.ndim(chosen) == 0:
            return np.asarray(self.stored[int(chosen)])
        if isinstance(self.stored, np.ndarray):
            return np.asarray(self.stored[chosen])
        if len(chosen) and np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen))):
            return self.stored[chosen[0] : chosen[0] + len(chosen)]
        batch = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        if isinstance(self.stored, FileRows):
            self.stored.read_into(batch, chosen)
            return batch
        # Row by row: fancy indexing of an HDF5 dataset is slower, and refuses unsorted or repeated rows.
        for place, row in enumerate(chosen):
            self.stored.read_direct(batch, row, place)
        return batch

    def take(self, which):
        """Return the view of these rows, without reading them."""
        return Rows(self.stored, self.rows[which])


class FileRows:
    """Images that lie in one piece in a file; each read is one copy, and nothing stays in memory.

    A memory map would be as quick once warm, but the system reads ahead around every page it touches: 1,000 random
    patches out of 262,144 left 1.8 GB resident.

    Parameters
    ----------
    path : path
    offset : int
        Where the first image begins, in bytes.
    shape : tuple of int
        (N, 96, 96, 3), of uint8.
    """

    def __init__(self, path, offset, shape):
        self.path, self.offset, self.shape = path, offset, tuple(shape)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        """Read one row (an int) or rows that follow each other (a slice without step)."""
        chosen = range(len(self))[key]  # counts from the end and ends where it should, as for a list
        first, number = (chosen.start, len(chosen)) if isinstance(key, slice) else (chosen, 1)
        row = int(np.prod(self.shape[1:]))
        values = np.fromfile(self.path, np.uint8, number * row, offset=self.offset + first * row)
        if len(values) < number * row:
            raise InputError(f"{self.path} is shorter than it says; get it again.")
        rows = values.reshape(number, *self.shape[1:])
        return rows if isinstance(key, slice) else rows[0]

    def read_into(self, batch, rows):
        """Fill a batch, (K, 96, 96, 3) uint8, with any rows: one copy, from the file to where they are used."""
        with open(self.path, "rb", buffering=0) as file:
            for place in np.argsort(rows, kind="stable"):  # forwards through the file, for disks that turn
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
    """

    images: Rows
    ids: np.ndarray
    labels: np.ndarray | None = None
    slides: np.ndarray | None = None
    name: str = "images"
    simulated: bool = False
    content_ids: bool = False

    def __post_init__(self):
        for what in ("ids", "labels", "slides"):
            column = getattr(self, what)
            if column is not None and len(column) != len(self.images):
                raise InputError(
                    f"The {self.name} split has {len(self.images)} images but {len(column)} {what}; "
                    "the files do not belong together, so get them again."
                )

    def __len__(self):
        return len(self.images)

    def take(self, which):
        """Return a subset as a new table, without reading any image.

        Parameters
        ----------
        which : slice, array of int, or boolean mask of shape (N,)
        """
        columns = {c: getattr(self, c)[which] for c in ("ids", "labels", "slides") if getattr(self, c) is not None}
        return replace(self, images=self.images.take(which), **columns)

    def batches(self, size=256):
        """Yield (size, 96, 96, 3) uint8 batches in order; the last one may be shorter."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size]

    def require_both_classes(self):
        """Raise `InputError` unless labels are there and hold both 0 and 1."""
        if self.labels is None:
            raise InputError(f"The {self.name} split has no labels; name a labelled split, or give a labels file.")
        found = np.unique(self.labels)
        if len(found) < 2:
            only = f"only label {found[0]}" if len(found) else "no patches"
            raise InputError(f"The {self.name} split holds {only}, and both classes are needed; choose other data.")
        return self


def content_hashes(patches, progress=None):
    """SHA-1 of each patch's RGB bytes: equal for exact repeats, and what Kaggle uses as the id.

    Parameters
    ----------
    patches : Patches
    progress : callable, optional
        Wraps the iterable of batches, as `tqdm.tqdm` does.

    Returns
    -------
    (N,) str
        40 hexadecimal digits each.
    """
    if patches.content_ids:
        return patches.ids
    batches = patches.batches() if progress is None else progress(patches.batches(), total=-(-len(patches) // 256))
    return np.array([hashlib.sha1(image.tobytes()).hexdigest() for batch in batches for image in batch])


def fingerprint(patches, looks=64):
    """Short digest that tells two data sets apart: count, labels, and the pixels of evenly spread patches.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(str(len(patches)).encode())
    if patches.labels is not None:
        digest.update(patches.labels.astype(np.uint8).tobytes())
    for row in np.unique(np.linspace(0, len(patches) - 1, looks).astype(int)):
        digest.update(patches.images[int(row)].tobytes())
    return digest.hexdigest()[:16]


def is_blank(images):
    """Tell which patches show no tissue: all pixels nearly alike, white or black.

    Parameters
    ----------
    images : (N, 96, 96, 3) uint8

    Returns
    -------
    (N,) bool
    """
    return images.astype(np.float32).std(axis=(1, 2)).max(axis=-1) < BLANK_SPREAD

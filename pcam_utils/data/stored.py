"""Opens patches that lie in arrays, in HDF5 or npz files. If that fails, it says what the true reason is."""

from __future__ import annotations

import errno
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, reason
from ..files import DAMAGED
from .patches import SIZE, FileRows, Rows


def open_dataset(path: Path, name: str, row_shape: tuple[int, ...]) -> FileRows | h5py.Dataset:
    """Open one HDF5 dataset. If its bytes lie in one piece, they are read without HDF5, which is faster and safer."""
    file = _open_file(path)
    if name not in file:
        raise InputError(
            f"{path} has no dataset '{name}', only: {', '.join(file) or 'nothing'}; get the official file."
        )
    dataset = file[name]
    shape = getattr(dataset, "shape", None)  # a group has none
    if not shape or shape[1:] not in ((row_shape,) if name == "x" else (row_shape, ())):
        raise InputError(
            f"'{name}' in {path} has the shape {shape}, but (N, {', '.join(map(str, row_shape))}) is needed; "
            "get the official file."
        )
    if dataset.dtype != np.uint8:
        raise InputError(f"'{name}' in {path} holds {dataset.dtype}, but uint8 is needed; get the official file.")
    _require_filters(dataset, path)
    if dataset.chunks is None and dataset.id.get_offset() is not None:
        return FileRows(path, dataset.id.get_offset(), dataset.shape)
    return dataset


def _open_file(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking="best-effort")  # some network disks know no locks, and reading needs none
    except OSError as error:
        said = str(error)
        if isinstance(error, PermissionError):
            raise PermissionError(error.errno, error.strerror, str(path)) from error
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK) or "unable to lock" in said or "already open" in said:
            raise InputError(
                f"{path} is in use by another program that may change it; close it there first."
            ) from error
        if "truncated file" in said:
            raise InputError(f"{path} is not a whole HDF5 file (it is truncated); get it again.") from error
        if error.errno or h5py.is_hdf5(path):
            raise InputError(f"{path} cannot be read ({reason(error)}); mend that first.") from error
        kind = "it is empty" if not os.path.getsize(path) else "truncated, or a web page in its place"
        raise InputError(f"{path} is not a whole HDF5 file ({kind}); get it again.") from error


def _require_filters(dataset: h5py.Dataset, path: Path) -> None:
    """Refuse a dataset that is packed in a way that this h5py does not know. The file itself is whole."""
    packing = dataset.id.get_create_plist()
    filters = [packing.get_filter(place) for place in range(packing.get_nfilters())]
    if not all(h5py.h5z.filter_avail(code) for code, *_ in filters):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401 (it makes its filters known)
    for code, _, _, name in filters:
        if not h5py.h5z.filter_avail(code):
            called = f"{code}, {name.decode(errors='replace')}" if name else str(code)
            raise InputError(
                f"{path} is packed with the HDF5 filter {called}, which is missing here; "
                "run pip install hdf5plugin, or pack the file anew with h5repack -f GZIP=4."
            )


def archive_names(path: Path) -> list[str]:
    """Names of the arrays in an npz file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    except DAMAGED as error:
        if isinstance(error, PermissionError):
            raise
        raise InputError(f"{path} is not a whole npz file; get it again.") from error


def open_archived(path: Path, name: str) -> Rows:
    """Open patches in an npz file. They are read row by row if the file is not compressed, and else into memory."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, by_column, dtype = read_header[version](member)
            begin, info = member.tell(), archive.getinfo(f"{name}.npy")
            if shape[1:] != (SIZE, SIZE, 3) or dtype != np.uint8:
                raise InputError(
                    f"'{name}' in {path} holds {dtype} of shape {shape}, but uint8 of shape (N, {SIZE}, {SIZE}, 3), "
                    "red, green and blue from 0 to 255, is needed; save it so."
                )
        if info.compress_type == zipfile.ZIP_STORED and not by_column:
            return Rows(FileRows(path, _begin_of(path, info) + begin, shape))
    except DAMAGED as error:
        if isinstance(error, (PermissionError, InputError)):
            raise
        raise InputError(f"{path} is not a whole npz file ({error}); get it again.") from error
    return Rows(read_archived(path, name))


def read_archived(path: Path, name: str) -> NDArray[Any]:
    """An array of an npz file, in memory."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
            return array
    except DAMAGED as error:
        raise InputError(f"'{name}' in {path} cannot be read ({error}); save it as plain numbers or text.") from error


def _begin_of(path: Path, info: zipfile.ZipInfo) -> int:
    """Find where a member's bytes begin: after its own header, whose length does not stand in the archive's index."""
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2")
    return info.header_offset + 30 + int(name) + int(extra)

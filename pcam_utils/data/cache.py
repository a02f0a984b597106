"""The cache: packed images and unpacked archives, which need not be made twice. Names tell the files they come from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ..files import user_path

_OURS = ("packed_*.npy", "unpacked_*.h5", ".packed_*.part.npy", ".unpacked_*.part.h5")


def cache_folder() -> Path:
    """Give the cache's folder: `PCAM_CACHE` if that is set, else `~/.cache/pcam_utils`."""
    return user_path(os.environ.get("PCAM_CACHE") or "~/.cache/pcam_utils")


def cached(kind: str, files: Sequence[str | os.PathLike], about: object, suffix: str) -> Path:
    """Give the path in the cache for what is made from these files, as they are at this moment.

    Its name depends on each file's path, size, times and number on its disk. That is enough to see whether a file has
    changed; to read 220,000 files would take minutes. Whoever replaces a picture gives it a new time of change (ctime).
    Programs that copy or unpack files can set the time of the content (mtime), but not this one.

    Parameters
    ----------
    kind : {'packed', 'unpacked'}
    files : list of path
    about : object
        Whatever else decides the result. Its `repr` becomes part of the name.
    suffix : str

    Returns
    -------
    pathlib.Path
    """
    digest, here = hashlib.sha256(repr(about).encode()), os.getcwd()
    for file in files:
        stat = os.stat(file)
        path = file if os.path.isabs(file) else os.path.join(here, file)
        digest.update(
            f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}\n".encode(
                errors="surrogateescape"
            )
        )
    return cache_folder() / f"{kind}_{digest.hexdigest()[:24]}{suffix}"


def cached_files() -> list[Path]:
    """List what this package has put into the cache, and what a killed process left there half-made."""
    return sorted(path for pattern in _OURS for path in cache_folder().glob(pattern))

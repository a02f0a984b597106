"""Writes files and folders whole or not at all: under a temporary name first, then renamed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError, reason


@contextmanager
def replacing(
    path: str | os.PathLike, *, folder: bool = False, instead: str = "choose another place"
) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` once the block ends well.

    The temporary name is this process's own, so that two which write the same file do not write into each other's.

    Parameters
    ----------
    path : path
        The folder it is in is made if it is missing.
    folder : bool
        Write a folder: the temporary one is there, and `path` must be missing or empty at the end.
    instead : str
        What to do about a place that cannot be written, for the sentence.

    Yields
    ------
    pathlib.Path

    Raises
    ------
    InputError
        If the disk is full, or the place may not be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_text("All of it, or nothing.")
    >>> path.read_text()
    'All of it, or nothing.'
    """
    path = Path(path)
    # The suffix stays last: Keras chooses the file format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    with disk_errors(path, instead):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder:
                temporary.mkdir()
            yield temporary
            move_into_place(temporary, path)
        finally:
            if folder:
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                with suppress(OSError):
                    temporary.unlink()


def move_into_place(temporary: Path, path: Path) -> None:
    """Rename a complete file, or a folder of them, once its content is on the disk: a name must not outlive it."""
    if temporary.is_dir():
        with ThreadPoolExecutor() as threads:  # thousands of files one after the other would take half a minute
            list(threads.map(_flush, filter(Path.is_file, temporary.rglob("*"))))
        if path.is_dir():
            path.rmdir()  # Windows does not rename over an empty folder
    else:
        _flush(temporary)
    os.replace(temporary, path)


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def disk_errors(path: str | os.PathLike, instead: str = "choose another place") -> Iterator[None]:
    """Turn what the system refuses while `path` is written into one `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} could not be written ({reason(error)}); free some space or {instead}.") from error


def require_room(path: str | os.PathLike, size: int, *, instead: str = "choose another place") -> None:
    """Raise `InputError` unless the disk that holds, or will hold, `path` has `size` bytes free.

    Examples
    --------
    >>> require_room("my/sample", 1000)
    """
    place = next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if free < size:
        raise InputError(
            f"{path} needs {_amount(size)} of free disk, but there are {_amount(free)}; free some space or {instead}."
        )


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def write_json(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write a dict as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

"""Writes files and folders whole or not at all, tries beforehand where it will write, and locks a folder."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError, reason

DRIVE = Path("/content/drive")  #: where Colab mounts a Google Drive

#: What NumPy, zipfile and json raise for a damaged npz file. The last two mean one array in place of an archive, in
#: Python 3.10 and in later versions.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError
)  # fmt: skip


@contextmanager
def replacing(
    path: str | os.PathLike, *, folder: bool = False, instead: str = "choose another place"
) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` once the block ends well.

    The temporary name belongs to this process alone, so two processes that write the same file do not disturb each
    other.

    Parameters
    ----------
    path : path
        If its folder is missing, that is made.
    folder : bool
        Write a folder. The temporary one exists already, and `path` must be missing or empty at the end.
    instead : str
        For the error's sentence: what a person can do if the place cannot be written.

    Yields
    ------
    pathlib.Path

    Raises
    ------
    InputError
        If the disk is full, or the place may not be written, or is on a Drive that is not mounted.

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
    require_mounted(path)
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
    """Rename a complete file, or folder, once its content is on the disk, so that no name stands for lost content."""
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
    """If the system refuses something while `path` is written, say so in one `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} could not be written ({reason(error)}); free some space or {instead}.") from error


def user_path(path: str | os.PathLike) -> Path:
    """Follow a leading ~ to the home folder. A shell does so, too, but not in `--out=~/x` and not in a variable.

    Raises
    ------
    InputError
        If there is no such home folder.

    Examples
    --------
    >>> user_path("~/patches").is_absolute(), user_path("patches").as_posix()
    (True, 'patches')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{path} begins with ~, but no such home folder is known here; write the whole path."
        ) from error


def require_mounted(path: str | os.PathLike) -> None:
    """Raise `InputError` if a place is on Colab's Drive, but no Drive is mounted: files there would be lost.

    Examples
    --------
    >>> require_mounted("results/submission.csv")
    """
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(DRIVE)) and not os.path.ismount(DRIVE):
        raise InputError(
            f"{path} is on a Drive, but none is mounted: click the folder icon, Mount Drive, and run this again."
        )


def require_place(path: str | os.PathLike, *, folder: bool = False) -> None:
    """Raise `InputError` now if the file (or files in the folder) could not be written there after the work.

    Examples
    --------
    >>> require_place("results/submission.csv")
    """
    path = Path(path)
    require_mounted(path)
    with disk_errors(path):
        if not folder and path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=_nearest(path if folder else path.absolute().parent)):
            pass  # and nothing is left behind


@contextmanager
def sole_use(folder: str | os.PathLike) -> Iterator[None]:
    """Keep a folder for this process alone. It is made if it is missing, and removed if nothing was put into it.

    The lock is one of the operating system. It ends with the process, however the process ends.

    Raises
    ------
    InputError
        If another process has it.

    Examples
    --------
    >>> with sole_use("runs/first"):
    ...     Path("runs/first").is_dir()
    True
    """
    import filelock  # starts asyncio, which hardly any command needs

    folder = Path(folder)
    require_mounted(folder)
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    with disk_errors(folder):
        missing = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise InputError(
                f"Another process works in {folder}; wait until it ends, or name another folder."
            ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file, and the folder may hold more than the lock
            (folder / ".lock").unlink()
            if missing:
                folder.rmdir()
        lock.release()


def require_room(path: str | os.PathLike, size: int, *, instead: str = "choose another place") -> None:
    """Raise `InputError` unless the disk that holds, or will hold, `path` has `size` bytes free.

    Examples
    --------
    >>> require_room("my/sample", 1000)
    """
    free = shutil.disk_usage(_nearest(Path(path))).free
    if free < size:
        raise InputError(
            f"{path} needs {_amount(size)} of free disk, but there are {_amount(free)}; free some space or {instead}."
        )


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def to_json(content: Any) -> str:
    """Give indented JSON. A value that is not a number (nan) becomes null, because JSON has no other word for it.

    Examples
    --------
    >>> print(to_json({"auc": 0.5, "auc_low": math.nan, "file": Path("roc.png")}))
    {
      "auc": 0.5,
      "auc_low": null,
      "file": "roc.png"
    }
    """
    return json.dumps(_without_nan(content), indent=2, default=os.fspath, allow_nan=False)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write a dict as indented JSON, whole or not at all; see `to_json`."""
    with replacing(path) as temporary:
        temporary.write_text(to_json(content) + "\n", encoding="utf-8")

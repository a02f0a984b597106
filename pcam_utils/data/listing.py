"""Looks once at everything in a folder: the pictures, folder by folder, the tables, and all other files."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from ..errors import InputError
from .tables import IMAGE_SUFFIXES

#: Folders that lie beside classes but are not classes. Pictures in them are left out, and a note says so.
NO_CLASS = {
    *("mask", "masks", "old", "rejected", "reject", "excluded", "discarded", "unused", "trash", "bin", "tmp", "temp"),
    *("thumbs", "thumbnails", "overlay", "overlays", "annotation", "annotations", "backup", "bak", "bad", "duplicates"),
}
_SYSTEM = {"__MACOSX", "Thumbs.db", "desktop.ini", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
#: Files that nobody takes for pictures.
_NO_PICTURE = {
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf"),
    *(".doc", ".docx", ".xls", ".xlsx", ".py", ".ipynb", ".sh", ".log", ".h5", ".hdf5", ".keras", ".npz", ".npy"),
    *(".gz", ".zip", ".tar", ".tgz", ".7z", ".rar", ".part", ".db", ".ini", ".parquet", ".pkl", ".md5", ".sha256"),
}
_TEXTS = {"readme", "license", "copying", "notice", "changelog", "md5sums", "sha256sums"}  # without a suffix
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".czi", ".isyntax")
_MANY = 20_000  # folders; whoever names more has named a disk, not a data set


class Listing:
    """All names in a folder and below it, each read once. Hidden files, and what systems leave behind, do not count.

    Attributes
    ----------
    root : pathlib.Path
    files : dict of str to list of str
        Paths below the root, sorted, of the files in each folder; the root itself is ''.
    broken : list of str
        Links that lead nowhere.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, list[str]] = {}
        self.broken: list[str] = []
        self._look("", os.path.realpath(root))

    def _look(self, folder: str, real: str) -> None:
        if len(self.files) > _MANY:
            raise InputError(f"{self.root} holds more than {_MANY:,} folders; name the one that holds the patches.")
        files, folders = self.files.setdefault(folder, []), []
        with os.scandir(self.root / folder) as entries:
            for entry in entries:
                # macOS puts a hidden '._x.tif' beside 'x.tif' on foreign disks.
                if entry.name.startswith(".") or entry.name in _SYSTEM:
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_file():
                    files.append(path)
                elif entry.is_dir():
                    folders.append((path, entry.is_symlink()))
                elif entry.is_symlink():
                    self.broken.append(path)
        files.sort()
        for path, is_link in sorted(folders):
            inside = os.path.realpath(self.root / path) if is_link else os.path.join(real, os.path.basename(path))
            if not f"{real}/".startswith(f"{inside}/"):  # a link to a folder that it is in has no end
                self._look(path, inside)

    def has(self, name: str) -> bool:
        """True if something with this name lies in the root."""
        return name in self.files[""] or name in self.files

    def pictures(self, folder: str = "") -> list[str]:
        """List the pictures in one folder, without those in folders below it."""
        return [path for path in self.files.get(folder, ()) if path.lower().endswith(IMAGE_SUFFIXES)]

    def pictures_below(self, folder: str = "") -> list[str]:
        """List the pictures in a folder and in all folders below it."""
        return [path for inside in self._below(folder) for path in self.pictures(inside)]

    def folders(self, folder: str = "") -> list[str]:
        """List the paths of the folders in one folder that may be classes, also empty ones."""
        depth = folder.count("/") + 1 if folder else 0
        inside = [path for path in self._below(folder) if path and path != folder and path.count("/") == depth]
        return [path for path in inside if name_of(path).casefold() not in NO_CLASS]

    def _below(self, folder: str) -> Iterator[str]:
        return (path for path in self.files if not folder or path == folder or path.startswith(f"{folder}/"))

    def find(self, *names: str) -> str | None:
        """Find a file by these names, wherever it lies, and give the path for the first name that there is."""
        for name in names:
            found = self._named.get(name, ())
            if len(found) > 1:
                raise InputError(
                    f"{self.root} holds {name} more than once ({found[0]}, {found[1]}); name the folder that is meant."
                )
            if found:
                return found[0]
        return None

    @functools.cached_property
    def _named(self) -> dict[str, list[str]]:
        """Map each name of a file that is not a picture to its paths."""
        named: dict[str, list[str]] = {}
        for path in (path for files in self.files.values() for path in files):
            if not path.lower().endswith(IMAGE_SUFFIXES):
                named.setdefault(name_of(path), []).append(path)
        return named

    def left_out(self, used: Collection[str]) -> list[str]:
        """Say in words, each with an example, which files may be pictures but are not among those used."""
        used = set(used)
        odd: dict[str, list[str]] = {}
        for path in (path for files in self.files.values() for path in files if path not in used):
            suffix = os.path.splitext(path)[1].lower()
            if suffix in IMAGE_SUFFIXES:
                where = path.rsplit("/", 1)[0] if "/" in path else ""
                odd.setdefault(f"in {where}" if where else "in the folder itself", []).append(path)
            elif suffix in SLIDE_SUFFIXES:
                odd.setdefault(f"{suffix}, which are whole slides (lesson 14 cuts them)", []).append(path)
            elif suffix not in _NO_PICTURE and (suffix or name_of(path).casefold() not in _TEXTS):
                odd.setdefault(f"{suffix or 'without a suffix'}, which is not read", []).append(path)
        if self.broken:
            odd["that are links to nothing"] = self.broken
        if len(odd) > 8:
            return [f"{sum(map(len, odd.values())):,} in {len(odd)} places ({next(iter(odd.values()))[0]})"]
        return [f"{len(paths):,} {what} ({paths[0]})" for what, paths in odd.items()]


def name_of(path: str) -> str:
    """The last part of a path in a listing."""
    return path.rsplit("/", 1)[-1]


def stem(path: str) -> str:
    """The last part of a path, without its suffix."""
    return os.path.splitext(name_of(path))[0]

"""Knows where the course runs, where it keeps its results, and which versions are worth writing down."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..files import require_mounted, user_path
from .backend import load_keras

_RECORDED = ("pcam-utils", "numpy", "keras", "tensorflow", "tensorflow-cpu", "jax", "scikit-learn", "h5py", "pillow")


def where() -> str:
    """Where this runs: 'colab', 'kaggle' or 'local'.

    Examples
    --------
    >>> where() in ("colab", "kaggle", "local")
    True
    """
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    return "colab" if "COLAB_RELEASE_TAG" in os.environ else "local"


def workspace() -> Path:
    """Give the course's folder, relative to here: lessons in its `notebooks` folder find what lies beside that."""
    return Path("..") if Path.cwd().name == "notebooks" else Path(".")


def results_folder(folder: str | os.PathLike | None = None) -> Path:
    """Give the folder for the lessons' results: the one named, else `PCAM_OUT`, else build/course. Make it if needed.

    Parameters
    ----------
    folder : path, optional
        Such as "/content/drive/MyDrive/pcam" on Colab, once the Drive is mounted.

    Raises
    ------
    InputError
        If it is on a Drive that is not mounted. Files written there would be lost with the machine.

    Examples
    --------
    >>> results_folder().is_dir()
    True
    """
    place = user_path(folder or os.environ.get("PCAM_OUT") or workspace() / "build" / "course")
    require_mounted(place)
    place.mkdir(parents=True, exist_ok=True)
    return place


def version_line() -> str:
    """Give in one line the versions that most often differ between two people who compare results.

    Examples
    --------
    >>> version_line().startswith("Python 3")
    True
    """
    keras, found = load_keras(), versions()
    return f"Python {found['python']}, Keras {keras.__version__} on {keras.backend.backend()}, NumPy {found['numpy']}"


def versions() -> dict[str, str]:
    """Give the versions of all that decides a result, for the record of a run.

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> {"python", "machine", "keras", "numpy"} <= versions().keys()
    True
    """
    found = {
        "python": platform.python_version(),
        "machine": f"{sys.platform} {platform.machine()}, {os.cpu_count()} cores",
    }
    for package in _RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

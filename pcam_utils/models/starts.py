"""Gives a backbone its start: ImageNet's weights, the package's, those of a file, or random ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..data.download import PcamFile, fetch
from ..data.patches import SIZE
from ..errors import InputError
from ..files import user_path
from ..runtime.backend import keras_home
from . import shipped
from .backbones import BACKBONES, Backbone, ImageNetFile

SHIPPED = "NASNetMobile"  #: the backbone whose weights come with this package
_OWN = "that of this package"


def choose_start(
    backbone: str = "NASNetMobile", weights: str | Path = "auto", *, say: Callable[[str], object] = print
) -> str:
    """Turn 'auto' into the start that can be had: 'imagenet' if cached or downloaded now, else 'pcam', else 'none'.

    If the variable `PCAM_WEIGHTS` is set, it is used in place of 'auto'. So a result need not depend on the internet.

    Parameters
    ----------
    backbone : str
        A name in `pcam_utils.models.backbones.BACKBONES`.
    weights : str or path
        Anything but 'auto' comes back unchanged.
    say : callable
        Told, in one line, why the start is not ImageNet's.

    Returns
    -------
    str
        For `build_model`.

    Raises
    ------
    InputError
        If there is no such backbone, or it has no such weights.

    Examples
    --------
    >>> choose_start("NASNetMobile", "pcam")
    'pcam'
    """
    if backbone not in BACKBONES:
        raise InputError(f"'{backbone}' is no backbone; choose one of {', '.join(BACKBONES)}.")
    weights = os.environ.get("PCAM_WEIGHTS", "auto") if str(weights) == "auto" else str(weights)
    if weights == "pcam" and backbone != SHIPPED:
        raise InputError(f"The weights 'pcam' are {SHIPPED}'s, not {backbone}'s; use 'auto', 'imagenet' or 'none'.")
    if weights == "imagenet" and BACKBONES[backbone].imagenet is None:
        raise InputError(f"{backbone} has no ImageNet weights; use weights 'none' or the path of a file.")
    if weights in ("pcam", "imagenet", "none"):
        return weights
    if weights != "auto":
        path = user_path(weights)
        if not path.is_file():
            raise InputError(f"There is no file of weights {path}; use 'auto', 'imagenet', 'none' or an existing path.")
        return str(path)
    fault = _get_imagenet(BACKBONES[backbone].imagenet)
    if fault is None:
        return "imagenet"
    say(f"ImageNet's weights cannot be had ({fault}), so the start is {_OWN if backbone == SHIPPED else 'random'}.")
    return "pcam" if backbone == SHIPPED else "none"


def load_backbone(name: str, weights: str, *, say: Callable[[str], object] = print) -> Any:
    """Make a backbone without its top and give it the weights it starts from.

    Parameters
    ----------
    name : str
        A name in `pcam_utils.models.backbones.BACKBONES`.
    weights : 'imagenet', 'pcam', 'none', or path
        As `choose_start` gives it.
    say : callable
        Told, in one line, where the weights come from.

    Returns
    -------
    keras.Model
        (N, 96, 96, 3) scaled float32 in, (N, rows, columns, channels) float32 features out.

    Raises
    ------
    InputError
        If the weights cannot be had, or are not this backbone's.
    """
    backbone = BACKBONES[name]
    if weights == "imagenet" and backbone.imagenet:
        return _from_imagenet(backbone, backbone.imagenet, name, say)
    core = _make(backbone, None)
    if weights == "none":
        say(f"{name} starts from random weights.")
    elif weights == "pcam":
        core.set_weights(shipped.read_weights()[:-2])
        say(f"{name} starts from the weights in this package (docs/model_card.md).")
    else:
        _load_file(core, name, Path(weights))
        say(f"{name} starts from the weights in {weights}.")
    return core


def _make(backbone: Backbone, weights: str | None) -> Any:
    return backbone.make(weights=weights, input_shape=(SIZE, SIZE, 3), include_top=False)


def _from_imagenet(backbone: Backbone, file: ImageNetFile, name: str, say: Callable[[str], object]) -> Any:
    try:
        core = _make(backbone, "imagenet")
    except Exception as error:  # Keras raises a bare Exception where the download fails
        raise InputError(
            f"ImageNet weights of {name} could not be had; connect to the internet, put {file.name} into "
            f"{keras_home() / 'models'}, name a file of weights, or start from random weights with 'none'."
        ) from error
    say(f"{name} starts from ImageNet weights (Keras applications).")
    return core


def _load_file(core: Any, name: str, path: Path) -> None:
    try:
        # From the file of a larger network, Keras would take what fits and silently leave the rest.
        if _count_arrays(path) != len(core.weights):
            raise ValueError("another number of arrays")
        core.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not hold weights of {name} (corrupt, another network, or a whole model); name another."
        ) from error
    if not all(np.isfinite(array).all() for array in core.get_weights()):
        raise InputError(f"{path} holds weights that are no numbers (nan): its training diverged; name another.")


def _count_arrays(path: Path) -> int:
    names: list[str] = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sum(not name.startswith(("optimizer", "_optimizer")) for name in names)


def _get_imagenet(file: ImageNetFile | None) -> str | None:
    """Make sure that the whole file is where Keras looks for it. If that is not possible, give back why."""
    if file is None:
        return "there are none"
    path = keras_home() / "models" / file.name
    try:
        if path.is_file() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == file.md5:
            return None
        import requests

        # We ask first, with little patience, because the download itself would wait and try again.
        requests.head(file.address, timeout=5).raise_for_status()
        fetch(file.address, path, PcamFile(None, file.md5))
    except (OSError, InputError) as error:  # of the disk, the network, its certificates or a proxy
        return _innermost(error)
    return None


def _innermost(error: BaseException) -> str:
    """Give in one line what the innermost error says, since requests wraps errors that urllib3 has wrapped."""
    inside = [part for part in (*error.args, getattr(error, "reason", None)) if isinstance(part, BaseException)]
    if inside:
        return _innermost(inside[0])
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

"""Where a backbone starts: from ImageNet's weights, the package's, a file's, or at random."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..data.patches import SIZE
from ..errors import InputError
from ..files import user_path
from ..runtime.backend import keras_home
from . import shipped
from .backbones import BACKBONES, Backbone

SHIPPED = "NASNetMobile"  #: the backbone whose weights come with this package


def choose_start(
    backbone: str = "NASNetMobile", weights: str | Path = "auto", *, say: Callable[[str], object] = print
) -> str:
    """Turn 'auto' into the start that can be had: 'imagenet' if cached or within reach, else 'pcam', else 'none'.

    The variable `PCAM_WEIGHTS` takes the place of 'auto', so that what depends on the network can be made not to.

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
    if weights == "imagenet" and BACKBONES[backbone].imagenet_file is None:
        raise InputError(f"{backbone} has no ImageNet weights; use weights 'none' or the path of a file.")
    if weights in ("pcam", "imagenet", "none"):
        return weights
    if weights != "auto":
        path = user_path(weights)
        if not path.is_file():
            raise InputError(f"There is no file of weights {path}; use 'auto', 'imagenet', 'none' or an existing path.")
        return str(path)
    if _imagenet_at_hand(BACKBONES[backbone]):
        return "imagenet"
    say("ImageNet's weights are neither cached nor within reach.")
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
    if weights == "imagenet":
        return _from_imagenet(backbone, name, say)
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


def _from_imagenet(backbone: Backbone, name: str, say: Callable[[str], object]) -> Any:
    try:
        core = _make(backbone, "imagenet")
    except Exception as error:  # Keras raises a bare Exception where the download fails
        raise InputError(
            f"ImageNet weights of {name} could not be had; connect to the internet, put {backbone.imagenet_file} into "
            f"{keras_home() / 'models'}, name a file of weights, or start from random weights with 'none'."
        ) from error
    say(f"{name} starts from ImageNet weights (Keras applications).")
    return core


def _load_file(core: Any, name: str, path: Path) -> None:
    try:
        # Keras takes what fits and leaves the rest of a larger network's file without a word.
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


def _imagenet_at_hand(backbone: Backbone) -> bool:
    """True if the whole file is cached, or the server that holds it answers within a few seconds."""
    if backbone.imagenet_file is None:
        return False
    with suppress(OSError), h5py.File(keras_home() / "models" / backbone.imagenet_file, "r"):
        return True  # of a download that broke off, HDF5 says so
    import requests

    try:
        return requests.head("https://storage.googleapis.com/tensorflow/", timeout=3).status_code < 500
    except OSError:  # also what requests raises where its file of certificates is missing
        return False

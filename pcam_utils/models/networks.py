"""Builds the networks: a backbone from its start, a head, and which layers train; and loads what was kept."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..data.patches import SIZE
from ..errors import InputError
from ..files import user_path
from ..runtime.backend import set_xla
from . import shipped
from .backbones import BACKBONES, keras
from .starts import SHIPPED, choose_start, load_backbone

#: Momentum of the moving averages in batch normalisation. With NASNetMobile's own 0.9997, it takes some 10,000 steps
#: until inference sees anything but the initial values. A random start has to be even quicker than a pretrained one.
BATCHNORM_MOMENTUM = {"random": 0.9, "pretrained": 0.99}

#: The layers whose outputs each head joins.
HEADS = {
    "article": ("GlobalMaxPooling2D", "GlobalAveragePooling2D", "Flatten"),
    "average": ("GlobalAveragePooling2D",),
}


def build_model(
    backbone: str = "NASNetMobile",
    weights: str | Path = "auto",
    head: str = "article",
    *,
    dropout: float = 0.5,
    say: Callable[[str], object] = print,
) -> Any:
    """Build a network that takes raw patches and gives the probability of tumour in the centre.

    Scaling is inside, so that a saved file needs nothing else.

    Parameters
    ----------
    backbone : str
        A name in `pcam_utils.models.backbones.BACKBONES`.
    weights : 'auto', 'imagenet', 'pcam', 'none', or path
        Where the backbone starts. 'pcam' are the weights that come with this package (docs/model_card.md), and 'none'
        is a random start. 'auto' takes ImageNet's weights if they are cached or can be downloaded, else 'pcam' for
        NASNetMobile, and else 'none'. A path is a file of weights for this backbone.
    head : {'article', 'average'}
        'article' joins global max pooling, global average pooling and all features, as the 2019 article did.
        'average' takes only the global average.
    dropout : float
        Share of the head's inputs that is dropped in training, from 0 to below 1.
    say : callable
        Told, in one line, where the weights come from.

    Returns
    -------
    keras.Model
        (N, 96, 96, 3) uint8 in, (N, 1) float32 probabilities out. `model.get_layer('backbone')` is the backbone.

    Raises
    ------
    InputError
        If a name is unknown, or weights cannot be had or do not fit.

    Examples
    --------
    >>> model = build_model("SmallCNN", weights="none", head="average")
    SmallCNN starts from random weights.
    >>> model.input_shape, model.output_shape
    ((None, 96, 96, 3), (None, 1))
    """
    if head not in HEADS:
        raise InputError(f"'{head}' is no head; choose one of {', '.join(HEADS)}.")
    weights = choose_start(backbone, weights, say=say)
    core = load_backbone(backbone, weights, say=say)
    set_batchnorm_momentum(core, BATCHNORM_MOMENTUM["random" if weights == "none" else "pretrained"])
    core.name = "backbone"

    patches = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="patches")
    features = core(BACKBONES[backbone].scaling()(patches))
    pooled = [getattr(keras.layers, pool)()(features) for pool in HEADS[head]]
    x = keras.layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    # It is float32 even if the rest is not, because half precision rounds probabilities near 0 and 1 away.
    tumour = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="tumour")(x)
    return set_xla(keras.Model(patches, tumour, name=f"pcam_{backbone.lower()}"))


def freeze(model: Any, train_fraction: float) -> Any:
    """Choose how much of the backbone trains, counted from its top.

    Batch normalisation in the frozen part runs in inference mode, with the averages that it brought along.

    Parameters
    ----------
    model : keras.Model
        From `build_model`.
    train_fraction : float
        0 trains only the head, 1 everything.

    Returns
    -------
    keras.Model
        The same model. Compile it again before training.

    Raises
    ------
    InputError
        If the share does not lie between 0 and 1.

    Examples
    --------
    >>> model = freeze(build_model("SmallCNN", weights="none", head="average", say=lambda _: None), 0)
    >>> len(model.trainable_weights)  # kernel and bias of the head
    2
    """
    if not 0 <= train_fraction <= 1:
        raise InputError(f"The share of the backbone to train is {train_fraction}, but it must lie between 0 and 1.")
    core = model.get_layer("backbone")
    core.trainable = True
    first = round(len(core.layers) * (1 - train_fraction))
    for place, layer in enumerate(core.layers):
        layer.trainable = place >= first
    return model


def set_batchnorm_momentum(model: Any, momentum: float) -> Any:
    """Set how slowly the moving averages follow: new = momentum · old + (1 - momentum) · batch."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    return model


def load_model(path: str | Path) -> Any:
    """Load a whole classifier. If it cannot be used, the error says why in one sentence.

    Parameters
    ----------
    path : 'pcam', or path of a .keras file
        The calibrated classifier that comes with this package, one that `pcam train` kept, or another that takes raw
        patches and gives probabilities.

    Returns
    -------
    keras.Model
        (N, 96, 96, 3) uint8 in, (N, 1) float32 probabilities out; not compiled.

    Raises
    ------
    InputError
        If there is no such file, or no such model in it, or if it is not known how the model wants its pixels scaled.

    Examples
    --------
    >>> load_model("pcam").output_shape
    (None, 1)
    """
    if str(path) == "pcam":
        return _load_shipped()
    path = user_path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, but a model file is needed; name its .keras file, or a run with --run.")
    if not path.is_file():
        raise InputError(f"There is no model file {path}; train one with 'pcam train', or name another.")
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if _is_whole(path):
            said = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".:")
            raise InputError(
                f"{path} is a model that Keras {keras.__version__} cannot build here ({said}); "
                "save it without layers of your own (Lambda too), with this version of Keras."
            ) from error
        raise InputError(
            f"{path} is not a whole model file of Keras (truncated, weights alone, or another kind of file); "
            "save the whole model as .keras, or get it again."
        ) from error
    fault = _fault(model)
    if fault:
        raise InputError(f"{path} {fault}.")
    return set_xla(model)


def _is_whole(path: Path) -> bool:
    """True for a complete .keras file (a ZIP archive). Then the file is not at fault."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist() and archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def _fault(model: Any) -> str | None:
    """Say why a model cannot take raw patches and give probabilities, and what to do. Give None if it can."""
    takes, gives = (getattr(model, side, None) for side in ("input_shape", "output_shape"))
    if isinstance(getattr(model, "output", None), dict):
        gives = "named outputs"
    if gives == (None, 2):
        return (
            "gives two numbers for each patch, but the probability of tumour alone is needed; keep its column: "
            "keras.Model(model.inputs, model.outputs[0][:, 1:])"
        )
    if takes != (None, SIZE, SIZE, 3) or gives != (None, 1):
        return (
            f"maps {takes} to {gives}, but (None, 96, 96, 3) to (None, 1) is needed; name a model that takes patches, "
            "channels last, and gives one probability for each"
        )
    if not all(np.isfinite(array).all() for array in model.get_weights()):
        return "holds weights that are no numbers (nan), so its training diverged; train it anew, or name another"
    last = model
    while isinstance(last, keras.Model):
        last = _steps(last)[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", None)
    if activation in ("linear", "softmax"):
        given = (
            "logits, not probabilities" if activation == "linear" else "1 for every patch (a softmax over one number)"
        )
        return f"ends in {activation}, so it gives {given}; end it in a sigmoid: keras.layers.Activation('sigmoid')"
    if not _takes_raw(model):
        return (
            f"takes {model.inputs[0].dtype} and scales nothing itself, so it cannot be known whether it learned on "
            "0 to 255 or on 0 to 1; put its scaling in front: keras.Sequential([keras.Input((96, 96, 3), "
            "dtype='uint8'), keras.layers.Rescaling(1 / 255), model]), with 1.0 for 0 to 255"
        )
    return None


def _takes_raw(model: Any) -> bool:
    """True if a model takes whole numbers, or scales its input (or computes with it) before any layer with weights."""
    if "float" not in str(model.inputs[0].dtype):
        return True
    for step in _steps(model):
        if isinstance(step, (keras.layers.Rescaling, keras.layers.Normalization)):
            return True
        if type(step).__name__ in ("TrueDivide", "Divide", "Multiply"):
            return True
        if getattr(step, "inputs", None) and _takes_raw(step):  # a model as a part
            return True
        if getattr(step, "weights", ()):
            return False
    return False


def _steps(model: Any) -> list[Any]:
    """List a model's layers, and the arithmetic between them, in order."""
    return list(getattr(model, "operations", None) or model.layers)


def _load_shipped() -> Any:
    model = build_model(SHIPPED, "pcam", "average", say=lambda _: None)
    model.get_layer("tumour").set_weights(shipped.read_weights()[-2:])
    return model

"""Builds the networks: a backbone, its start, the seed's head, and which layers train."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..data.patches import SIZE
from ..errors import InputError
from ..runtime.backend import load_keras
from . import shipped

keras = load_keras()

#: Momentum of the moving averages in batch normalisation. NASNetMobile's own 0.9997 needs some 10,000 steps before
#: inference sees anything but the initial values; a random start has to be quicker still than a pretrained one.
BATCHNORM_MOMENTUM = {"random": 0.9, "pretrained": 0.99}


@dataclass(frozen=True)
class Backbone:
    """How one backbone is made: its constructor, the scaling it expects, and its cached ImageNet file."""

    make: Callable
    scaling: Callable
    imagenet_file: str | None = None


def _small_cnn(input_shape, **_):
    """Four convolutions: a baseline, and quick enough on a CPU to try things out."""
    inputs = x = keras.Input(input_shape)
    for filters in (16, 32, 64, 96):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(inputs, x, name="small_cnn")


def _minus_one_to_one():
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")


def _imagenet_statistics():
    mean, spread = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    return keras.layers.Normalization(mean=mean, variance=spread**2, name="scale")


def _unscaled():
    return keras.layers.Rescaling(1.0, name="scale")


BACKBONES = {
    "NASNetMobile": Backbone(keras.applications.NASNetMobile, _minus_one_to_one, "nasnet_mobile_no_top.h5"),
    "EfficientNetV2B0": Backbone(keras.applications.EfficientNetV2B0, _unscaled, "efficientnetv2-b0_notop.h5"),
    "DenseNet121": Backbone(
        keras.applications.DenseNet121,
        _imagenet_statistics,
        "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "SmallCNN": Backbone(_small_cnn, _minus_one_to_one),
}

SHIPPED = "NASNetMobile"  #: the backbone whose weights come with this package

HEADS = {
    "seed": ("GlobalMaxPooling2D", "GlobalAveragePooling2D", "Flatten"),
    "average": ("GlobalAveragePooling2D",),
}


def build_model(backbone="NASNetMobile", weights="auto", head="seed", *, dropout=0.5, say=print):
    """Build a network that takes raw patches and gives the probability of tumour in the centre.

    Scaling is inside, so that a saved file needs nothing else.

    Parameters
    ----------
    backbone : {'NASNetMobile', 'EfficientNetV2B0', 'DenseNet121', 'SmallCNN'}
    weights : 'auto', 'imagenet', 'pcam', 'none', or path
        Where the backbone starts. 'auto' is ImageNet if it is cached or can be had, else 'pcam' for NASNetMobile, the
        weights that come with this package (docs/model_card.md), else 'none', which is random. A path is a file of
        weights for this backbone.
    head : {'seed', 'average'}
        'seed' joins global max pooling, global average pooling and all features, as the 2019 article did;
        'average' takes the global average alone.
    dropout : float
        Share of the head's inputs that is dropped in training.
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
    """
    spec = _choose(BACKBONES, backbone, "backbone")
    pools = _choose(HEADS, head, "head")
    weights = choose_start(backbone, weights, say=say)
    core = _load_backbone(spec, backbone, weights, say)
    set_batchnorm_momentum(core, BATCHNORM_MOMENTUM["random" if weights == "none" else "pretrained"])
    core.name = "backbone"

    patches = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="patches")
    features = core(spec.scaling()(patches))
    pooled = [getattr(keras.layers, pool)()(features) for pool in pools]
    x = keras.layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    # float32 whatever the precision of the rest: half precision rounds probabilities near 0 and 1 away.
    tumour = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="tumour")(x)
    return keras.Model(patches, tumour, name=f"pcam_{backbone.lower()}")


def freeze(model, train_fraction):
    """Choose how much of the backbone trains, counted from its top.

    Batch normalisation in the frozen part runs in inference mode, with the averages it came with.

    Parameters
    ----------
    model : keras.Model
        From `build_model`.
    train_fraction : float
        0 trains the head alone, 1 everything.

    Returns
    -------
    keras.Model
        The same model; compile it again before training.
    """
    if not 0 <= train_fraction <= 1:
        raise InputError(f"The share of the backbone to train is {train_fraction}, but it must lie between 0 and 1.")
    core = model.get_layer("backbone")
    core.trainable = True
    first = round(len(core.layers) * (1 - train_fraction))
    for place, layer in enumerate(core.layers):
        layer.trainable = place >= first
    return model


def set_batchnorm_momentum(model, momentum):
    """Set how slowly the moving averages of every batch normalisation follow: new = momentum · old + …"""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    return model


def load_model(path):
    """Load a whole classifier, or say in one sentence why it cannot be used.

    Parameters
    ----------
    path : 'pcam', or path of a .keras file
        The calibrated classifier that comes with this package, or one that `pcam train` kept.

    Returns
    -------
    keras.Model
    """
    if str(path) == "pcam":
        return _load_shipped()
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no model file {path}; train one with 'pcam train', or name another.")
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a whole model file of Keras; train again or get it again.") from error
    if model.input_shape != (None, SIZE, SIZE, 3) or model.output_shape != (None, 1):
        raise InputError(
            f"{path} maps {model.input_shape} to {model.output_shape}, but (None, 96, 96, 3) to (None, 1) is needed; "
            "name a model of this course."
        )
    return model


def choose_start(backbone="NASNetMobile", weights="auto", *, say=print):
    """Turn 'auto' into the start that can be had: 'imagenet' if cached or within reach, else 'pcam', else 'none'.

    The variable `PCAM_WEIGHTS` takes the place of 'auto', so that what depends on the network can be made not to.

    Parameters
    ----------
    backbone : str
    weights : str or path
        Anything but 'auto' comes back unchanged.
    say : callable
        Told, in one line, why the start is not ImageNet's.

    Returns
    -------
    str
    """
    spec = _choose(BACKBONES, backbone, "backbone")
    weights = os.environ.get("PCAM_WEIGHTS", "auto") if str(weights) == "auto" else str(weights)
    if weights != "auto":
        return weights
    if _imagenet_at_hand(spec):
        return "imagenet"
    say("ImageNet's weights are neither cached nor within reach.")
    return "pcam" if backbone == SHIPPED else "none"


def _load_backbone(spec, name, weights, say):
    shape = dict(input_shape=(SIZE, SIZE, 3), include_top=False)
    if weights == "none":
        say(f"{name} starts from random weights.")
        return spec.make(weights=None, **shape)
    if weights == "pcam":
        return _from_shipped(spec, name, shape, say)
    if weights == "imagenet":
        return _from_imagenet(spec, name, shape, say)
    return _from_file(spec.make(weights=None, **shape), name, Path(weights), say)


def _from_imagenet(spec, name, shape, say):
    if spec.imagenet_file is None:
        raise InputError(f"{name} has no ImageNet weights; use weights 'none' or the path of a file.")
    try:
        core = spec.make(weights="imagenet", **shape)
    except Exception as error:  # Keras raises a bare Exception where the download fails
        raise InputError(
            f"ImageNet weights of {name} could not be had; connect to the internet, put {spec.imagenet_file} into "
            f"{_keras_models()}, name a file of weights, or start from random weights with 'none'."
        ) from error
    say(f"{name} starts from ImageNet weights (Keras applications).")
    return core


def _from_shipped(spec, name, shape, say):
    if name != SHIPPED:
        raise InputError(f"The weights 'pcam' are {SHIPPED}'s, not {name}'s; use 'auto', 'imagenet' or 'none'.")
    core = spec.make(weights=None, **shape)
    core.set_weights(shipped.read_weights()[:-2])
    say(f"{name} starts from the weights in this package (docs/model_card.md).")
    return core


def _load_shipped():
    model = build_model(SHIPPED, "pcam", "average", say=lambda _: None)
    model.get_layer("tumour").set_weights(shipped.read_weights()[-2:])
    return model


def _from_file(core, name, path, say):
    if not path.is_file():
        raise InputError(f"There is no file of weights {path}; use 'auto', 'imagenet', 'none' or an existing path.")
    try:
        # Keras takes what fits and leaves the rest of a larger network's file without a word.
        if _count_arrays(path) != len(core.weights):
            raise ValueError("another number of arrays")
        core.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not hold weights of {name} (corrupt, or another network); name another."
        ) from error
    say(f"{name} starts from the weights in {path}.")
    return core


def _count_arrays(path):
    names = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sum(not name.startswith(("optimizer", "_optimizer")) for name in names)


def _keras_models():
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _imagenet_at_hand(spec):
    """True if the file is cached, or the server that holds it answers within a few seconds."""
    if spec.imagenet_file is None:
        return False
    if (_keras_models() / spec.imagenet_file).exists():
        return True
    import requests

    try:
        return requests.head("https://storage.googleapis.com/tensorflow/", timeout=3).status_code < 500
    except requests.RequestException:
        return False


def _choose(table, name, what):
    if name not in table:
        raise InputError(f"'{name}' is no {what}; choose one of {', '.join(table)}.")
    return table[name]

"""The backbones: how each is made, the scaling it expects, and the name of its ImageNet file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..runtime.backend import load_keras

keras = load_keras()


class ImageNetFile(NamedTuple):
    """Keras's own file of ImageNet weights: its name in Keras's cache, its address, and its MD5."""

    name: str
    address: str
    md5: str


@dataclass(frozen=True)
class Backbone:
    """How one backbone is made.

    Parameters
    ----------
    make : callable
        Takes `input_shape`, `include_top` and `weights` as Keras's applications do, and gives a keras.Model.
    scaling : callable
        Gives the layer that scales pixels of 0 to 255 to what the backbone expects.
    imagenet : ImageNetFile, optional
        None if there are no such weights.
    """

    make: Callable
    scaling: Callable
    imagenet: ImageNetFile | None = None


def _small_cnn(input_shape: tuple[int, int, int], **_: Any) -> Any:
    """Four convolutions: a baseline, and quick enough on a CPU to try things out."""
    inputs = x = keras.Input(input_shape)
    for filters in (16, 32, 64, 96):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(inputs, x, name="small_cnn")


def _minus_one_to_one() -> Any:
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")


def _imagenet_statistics() -> Any:
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    return keras.layers.Normalization(mean=mean, variance=std**2, name="scale")


def _unscaled() -> Any:
    return keras.layers.Rescaling(1.0, name="scale")


def _keras_file(folder: str, file: str, md5: str, cached: str = "") -> ImageNetFile:
    where = "https://storage.googleapis.com/tensorflow/keras-applications"
    return ImageNetFile(cached or file, f"{where}/{folder}/{file}", md5)


BACKBONES = {
    "NASNetMobile": Backbone(
        keras.applications.NASNetMobile,
        _minus_one_to_one,
        _keras_file(
            "nasnet", "NASNet-mobile-no-top.h5", "1ed92395b5b598bdda52abe5c0dbfd63", cached="nasnet_mobile_no_top.h5"
        ),
    ),
    "EfficientNetV2B0": Backbone(
        keras.applications.EfficientNetV2B0,
        _unscaled,
        _keras_file("efficientnet_v2", "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"),
    ),
    "DenseNet121": Backbone(
        keras.applications.DenseNet121,
        _imagenet_statistics,
        _keras_file(
            "densenet",
            "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "30ee3e1110167f948a6b9946edeeb738",
        ),
    ),
    "SmallCNN": Backbone(_small_cnn, _minus_one_to_one),
}

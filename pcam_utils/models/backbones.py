"""The backbones: how each is made, the scaling it expects, and the name of its ImageNet file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.backend import load_keras

keras = load_keras()


@dataclass(frozen=True)
class Backbone:
    """How one backbone is made.

    Parameters
    ----------
    make : callable
        Takes `input_shape`, `include_top` and `weights` as Keras's applications do, and gives a keras.Model.
    scaling : callable
        Gives the layer that turns 0 to 255 into what the backbone expects.
    imagenet_file : str, optional
        The name under which Keras caches its ImageNet weights; None if there are none.
    """

    make: Callable
    scaling: Callable
    imagenet_file: str | None = None


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

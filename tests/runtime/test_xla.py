"""Which networks XLA compiles where there is a GPU: none on TensorFlow, whatever Keras would do by itself."""

import numpy as np
import pytest
from helpers import python

from pcam_utils.data.patches import Patches, Rows
from pcam_utils.data.sources import open_data
from pcam_utils.evaluation.predictions import predict
from pcam_utils.models.backbones import keras
from pcam_utils.models.networks import build_model, load_model
from pcam_utils.training.recipes import Settings
from pcam_utils.training.run import behind_augmentation, train


@pytest.fixture
def patches(random_patches):
    return Patches(Rows(random_patches(4)), np.array(list("abcd")))


def quiet(_):
    """Take a line, and say nothing."""


def test_keras_itself_compiles_a_plain_prediction_once_a_gpu_is_listed(listed_gpu, xla):
    """Else the tests below would pass without what they are about."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.predict(np.ones((2, 4)), verbose=0)
    assert len(xla.compiled) == 1


def test_networks_built_or_loaded_here_are_not_compiled_with_xla(listed_gpu, xla, patches, tmp_path):
    model = build_model("SmallCNN", "none", say=quiet)
    model.save(tmp_path / "m.keras")
    for network in (model, load_model(tmp_path / "m.keras")):
        network.predict(patches.images[:], verbose=0)
        for tta in ("none", "d4"):
            predict(network, patches, tta=tta, progress=False)
    assert not xla.compiled


def test_neither_is_the_packages_own_nor_one_behind_augmentation(listed_gpu):
    model = load_model("pcam")
    assert not model.jit_compile and not behind_augmentation(model, "plain").jit_compile


@pytest.mark.slow
def test_a_run_compiles_nothing_but_the_changes_of_patches(listed_gpu, xla, pcam_folder, tmp_path):
    data = open_data(pcam_folder(splits=("train", "valid"), n=40))
    for augment, compiled in (("none", 0), ("plain", 2)):
        settings = Settings(backbone="SmallCNN", weights="none", epochs=1, augment=augment)
        train(data, tmp_path / augment, settings, say=quiet, progress=False)
        bodies = [body for body in xla.compiled if getattr(body, "__name__", "") != "<lambda>"]  # that XLA is tried by
        assert len(bodies) == compiled


ON_JAX = """
from pcam_utils.models.networks import build_model
print(build_model("SmallCNN", "none", say=lambda _: None).jit_compile)
"""


@pytest.mark.slow
def test_on_jax_xla_compiles_them():
    pytest.importorskip("jax")
    assert python(ON_JAX, KERAS_BACKEND="jax", check=True).stdout == "True\n"

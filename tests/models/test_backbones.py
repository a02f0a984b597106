import inspect

import numpy as np
import pytest

from pcam_utils.models.backbones import BACKBONES, keras


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_backbone_scales_as_its_own_preprocessing_does(backbone):
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    scaled = BACKBONES[backbone].scaling()(images)
    own = inspect.getmodule(BACKBONES[backbone].make)
    # SmallCNN, which is not one of Keras's, takes what NASNetMobile takes.
    preprocess = getattr(own, "preprocess_input", keras.applications.nasnet.preprocess_input)
    expected = preprocess(images.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scaled), expected, atol=1e-4)


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if BACKBONES[name].imagenet_file])
def test_imagenet_names_the_file_that_keras_looks_for(backbone, monkeypatch):
    """The cached names must be Keras's own, or a cache would go unseen."""

    class Asked(Exception):
        pass

    def get_file(name, *_, **__):
        raise Asked(name)

    monkeypatch.setattr(inspect.getmodule(BACKBONES[backbone].make).file_utils, "get_file", get_file)
    with pytest.raises(Asked) as asked:
        BACKBONES[backbone].make(weights="imagenet", input_shape=(96, 96, 3), include_top=False)
    assert str(asked.value) == BACKBONES[backbone].imagenet_file

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


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if BACKBONES[name].imagenet])
def test_imagenet_names_the_file_that_keras_looks_for(backbone, monkeypatch):
    """Name, address and checksum must be Keras's own, or what we fetch would go unseen."""

    class Asked(Exception):
        pass

    def get_file(name, address, *, file_hash, **_):
        raise Asked(name, address, file_hash)

    monkeypatch.setattr(inspect.getmodule(BACKBONES[backbone].make).file_utils, "get_file", get_file)
    with pytest.raises(Asked) as asked:
        BACKBONES[backbone].make(weights="imagenet", input_shape=(96, 96, 3), include_top=False)
    assert asked.value.args == BACKBONES[backbone].imagenet

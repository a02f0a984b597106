import numpy as np
import pytest

from pcam_utils.models.backbones import BACKBONES, keras


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_backbone_scales_as_its_own_preprocessing_does(backbone):
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    scaled = BACKBONES[backbone].scaling()(images)
    preprocess = {
        "NASNetMobile": keras.applications.nasnet.preprocess_input,
        "EfficientNetV2B0": keras.applications.efficientnet_v2.preprocess_input,
        "DenseNet121": keras.applications.densenet.preprocess_input,
        "SmallCNN": keras.applications.nasnet.preprocess_input,
    }[backbone]
    expected = preprocess(images.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scaled), expected, atol=1e-4)


def test_imagenet_names_the_file_that_keras_looks_for():
    """The cached names must be Keras's own, or a cache would go unseen."""
    import inspect

    for spec in BACKBONES.values():
        if spec.imagenet_file:
            source = inspect.getsource(inspect.getmodule(spec.make))
            stem = spec.imagenet_file.removesuffix("_notop.h5").removesuffix("_tf_dim_ordering_tf_kernels")
            assert stem in source or stem.replace("efficientnetv2", "") in source

import numpy as np
import pytest

from pcam_utils.errors import InputError
from pcam_utils.models.backbones import BACKBONES, keras
from pcam_utils.models.networks import BATCHNORM_MOMENTUM, build_model, freeze, load_model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def nasnet():
    return build_model(weights="none")


def norms(model):
    layers = model.get_layer("backbone").layers
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_the_default_is_the_network_of_the_2019_article(nasnet):
    assert nasnet.count_params() == 4_281_333
    assert [layer.__class__.__name__ for layer in nasnet.layers[-6:]] == [
        "GlobalMaxPooling2D", "GlobalAveragePooling2D", "Flatten", "Concatenate", "Dropout", "Dense",
    ]  # fmt: skip
    assert nasnet.get_layer("dropout").rate == 0.5


def test_raw_patches_in_probability_out_and_scaling_inside(nasnet, images):
    assert nasnet.input.dtype == "uint8"
    out = nasnet.predict_on_batch(images)
    assert out.shape == (2, 1) and out.dtype == np.float32 and ((out > 0) & (out < 1)).all()
    features = nasnet.get_layer("backbone").predict_on_batch(images / np.float32(127.5) - 1)
    pooled = np.concatenate([features.max((1, 2)), features.mean((1, 2)), features.reshape(2, -1)], axis=1)
    kernel, bias = nasnet.get_layer("tumour").get_weights()
    np.testing.assert_allclose(out, 1 / (1 + np.exp(-(pooled @ kernel + bias))), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "NASNetMobile"])  # which is built above
def test_other_backbones_give_probabilities(backbone, images):
    out = build_model(backbone, "none", "average").predict_on_batch(images)
    assert out.shape == (2, 1) and ((out > 0) & (out < 1)).all()


def test_batchnorm_momentum_follows_the_start(nasnet, tmp_path):
    assert {layer.momentum for layer in norms(nasnet)} == {BATCHNORM_MOMENTUM["random"]}
    small = build_model("SmallCNN", "none")
    path = tmp_path / "small.weights.h5"
    small.get_layer("backbone").save_weights(path)
    again = build_model("SmallCNN", path)
    assert {layer.momentum for layer in norms(again)} == {BATCHNORM_MOMENTUM["pretrained"]}
    for old, new in zip(small.get_layer("backbone").get_weights(), again.get_layer("backbone").get_weights()):
        assert np.array_equal(old, new)


@pytest.mark.parametrize("fraction, trained", [(0, 0.0), (0.5, 0.5), (1, 1.0)])
def test_freezing_counts_from_the_top(nasnet, fraction, trained):
    core = freeze(nasnet, fraction).get_layer("backbone")
    flags = [layer.trainable for layer in core.layers]
    assert flags == sorted(flags) and np.mean(flags) == pytest.approx(trained, abs=1e-2)
    assert nasnet.get_layer("tumour").trainable


def test_frozen_batchnorm_does_not_move_in_training(images):
    model = freeze(build_model("SmallCNN", "none"), 0)
    before = [w.copy() for w in model.get_layer("backbone").get_weights()]
    model.compile("adam", "binary_crossentropy")
    model.fit(images, np.array([[0.0], [1.0]]), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("backbone").get_weights()))


def test_a_saved_file_needs_nothing_else(tmp_path, images):
    model = build_model("SmallCNN", "none")
    model.save(tmp_path / "m.keras")
    assert np.array_equal(load_model(tmp_path / "m.keras").predict_on_batch(images), model.predict_on_batch(images))


@pytest.mark.parametrize("wrong, sentence", [
    ({"backbone": "VGG"}, "'VGG' is no backbone; choose one of NASNetMobile,"),
    ({"head": "seed"}, "'seed' is no head; choose one of article, average"),
    ({"weights": "imagenet"}, "SmallCNN has no ImageNet weights"),
])  # fmt: skip
def test_unknown_names_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        build_model(**{"backbone": "SmallCNN", "weights": "none", **wrong})

import numpy as np
import pytest

from pcam_utils.errors import InputError
from pcam_utils.models import networks as models
from pcam_utils.models.networks import (
    BACKBONES,
    BATCHNORM_MOMENTUM,
    build_model,
    choose_start,
    freeze,
    keras,
    load_model,
)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def nasnet():
    return build_model(weights="none")


def norms(model):
    layers = model.get_layer("backbone").layers
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_default_is_the_seeds_network(nasnet):
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


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_backbone_scales_as_its_own_preprocessing_does(backbone, images):
    scaled = BACKBONES[backbone].scaling()(images)
    preprocess = {
        "NASNetMobile": keras.applications.nasnet.preprocess_input,
        "EfficientNetV2B0": keras.applications.efficientnet_v2.preprocess_input,
        "DenseNet121": keras.applications.densenet.preprocess_input,
        "SmallCNN": keras.applications.nasnet.preprocess_input,
    }[backbone]
    expected = preprocess(images.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scaled), expected, atol=1e-4)


@pytest.mark.parametrize("backbone", ["EfficientNetV2B0", "DenseNet121", "SmallCNN"])
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


def test_weights_of_a_larger_network_are_refused_although_keras_would_take_a_part_of_them(tmp_path):
    small = build_model("SmallCNN", "none").get_layer("backbone")
    larger = keras.Sequential([*small.layers, keras.layers.Conv2D(8, 3, use_bias=False)])
    larger.save_weights(tmp_path / "larger.weights.h5")
    with pytest.raises(InputError, match="does not hold weights of SmallCNN"):
        build_model("SmallCNN", tmp_path / "larger.weights.h5")


def test_auto_takes_imagenet_where_it_is_at_hand_and_else_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(models, "_imagenet_at_hand", lambda spec: False)
    assert choose_start(say=said.append) == "pcam" and "neither cached nor within reach" in said[0]
    assert choose_start("DenseNet121", say=said.append) == "none"
    monkeypatch.setattr(models, "_imagenet_at_hand", lambda spec: True)
    assert choose_start(say=said.append) == "imagenet" and len(said) == 2
    monkeypatch.setenv("PCAM_WEIGHTS", "pcam")
    assert choose_start() == "pcam" and choose_start(weights="none") == "none"


def test_weights_pcam_are_of_one_backbone_alone():
    with pytest.raises(InputError, match="'pcam' are NASNetMobile's, not DenseNet121's"):
        build_model("DenseNet121", "pcam")


def test_a_cached_imagenet_file_is_at_hand_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "_keras_models", lambda: tmp_path)
    monkeypatch.setattr("requests.head", lambda *a, **k: pytest.fail("asked the network"))
    (tmp_path / BACKBONES["NASNetMobile"].imagenet_file).touch()
    assert choose_start(say=print) == "imagenet"


def test_imagenet_that_cannot_be_had_names_the_ways_out(monkeypatch):
    def fail(weights, **_):
        raise Exception("URL fetch failure")

    monkeypatch.setitem(BACKBONES, "NASNetMobile", models.Backbone(fail, models._unscaled, "file.h5"))
    with pytest.raises(InputError, match="could not be had; connect.*file.h5.*'none'"):
        build_model(weights="imagenet")


def test_imagenet_names_the_file_that_keras_looks_for():
    """The cached names must be Keras's own, or a cache would go unseen."""
    import inspect

    for spec in BACKBONES.values():
        if spec.imagenet_file:
            source = inspect.getsource(inspect.getmodule(spec.make))
            stem = spec.imagenet_file.removesuffix("_notop.h5").removesuffix("_tf_dim_ordering_tf_kernels")
            assert stem in source or stem.replace("efficientnetv2", "") in source


@pytest.mark.parametrize(
    "wrong", [dict(backbone="VGG"), dict(head="none"), dict(weights="imagenet", backbone="SmallCNN")]
)
def test_unknown_names_are_refused(wrong):
    with pytest.raises(InputError, match="choose one of|has no ImageNet"):
        build_model(**{"backbone": "SmallCNN", "weights": "none", **wrong})

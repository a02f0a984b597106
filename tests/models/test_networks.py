import numpy as np
import pytest

from pcam_utils.data.patches import Patches, Rows
from pcam_utils.errors import InputError
from pcam_utils.evaluation.predictions import predict
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


# Models that are not ours --------------------------------------------------------------------------------------------


def other(dtype="float32", *, before=(), activation="sigmoid", outputs=1, shape=(96, 96, 3)):
    """A tiny network as somebody else may have made it: layers in front, one convolution, one dense layer."""
    entry = x = keras.Input(shape, dtype=dtype)
    for layer in before:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, strides=8)(x))
    return keras.Model(entry, keras.layers.Dense(outputs, activation=activation)(x))


def divide():
    return keras.layers.Rescaling(1 / 255)


def normal():
    return keras.layers.Normalization(mean=[0.0] * 3, variance=[1.0] * 3)


FOREIGN = {
    "takes uint8": lambda: other("uint8", before=[divide()]),
    "scales by a layer": lambda: other(before=[divide()]),
    "normalises by a layer": lambda: other(before=[keras.layers.RandomFlip(), normal()]),
    "scales by arithmetic": lambda: other(before=[lambda x: x / 255.0 - 0.5]),
    "scales as Keras's applications do": lambda: other(before=[keras.applications.densenet.preprocess_input]),
    "scales in a part": lambda: other(before=[keras.Sequential([keras.layers.RandomFlip(), divide()])]),
    "is a part of another": lambda: keras.Sequential([keras.Input((96, 96, 3)), divide(), other()]),
    "ends in a layer for the sigmoid": lambda: keras.Sequential(
        [other("uint8", before=[divide()], activation=None), keras.layers.Activation("sigmoid")]
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_models_of_others_that_take_raw_patches_are_taken(tmp_path, images, what):
    model = FOREIGN[what]()
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    raw = Patches(Rows(images), np.array(["a", "b"]))
    expected = np.asarray(model(images.astype(model.inputs[0].dtype), training=False))[:, 0]
    np.testing.assert_allclose(predict(loaded, raw, tta="none", progress=False), expected, atol=1e-5)


def nan():
    model = other("uint8")
    model.set_weights([array * np.nan for array in model.get_weights()])
    return model


REFUSED = {
    "takes float32 and scales nothing itself": other,
    "takes float16 and scales nothing itself": lambda: other("float16"),
    "scales nothing itself, so it cannot be known": lambda: other(before=[keras.layers.BatchNormalization()]),
    "ends in linear, so it gives logits": lambda: other("uint8", activation=None),
    "ends in softmax, so it gives 1 for every patch": lambda: other("uint8", activation="softmax"),
    r"maps \(None, 96, 96, 3\) to named outputs": lambda: named(),
    "keep its column": lambda: other("uint8", activation="softmax", outputs=2),
    "holds weights that are no numbers": nan,
    r"maps \(None, 3, 96, 96\) to": lambda: other(shape=(3, 96, 96)),
    r"maps \(None, 96, 96, 3\) to \(None, 9\)": lambda: other(outputs=9),
    r"maps \[\(None, 96, 96, 3\), \(None, 4\)\] to": lambda: two_inputs(),
}


def named():
    model = other("uint8")
    return keras.Model(model.inputs[0], {"tumour": model.outputs[0]})


def two_inputs():
    entry, age = keras.Input((96, 96, 3)), keras.Input((4,))
    both = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(entry), age])
    return keras.Model([entry, age], keras.layers.Dense(1)(both))


@pytest.mark.parametrize("says", REFUSED)
def test_models_that_would_be_misunderstood_are_refused_with_the_way_out(tmp_path, says):
    REFUSED[says]().save(tmp_path / "m.keras")
    with pytest.raises(InputError, match=says):
        load_model(tmp_path / "m.keras")


def test_the_ways_out_that_are_named_lead_out(tmp_path):
    ways = {
        "scaling": keras.Sequential([keras.Input((96, 96, 3), dtype="uint8"), divide(), other()]),
        "sigmoid": keras.Sequential(
            [other("uint8", before=[divide()], activation=None), keras.layers.Activation("sigmoid")]
        ),
    }
    two = other("uint8", activation="softmax", outputs=2)
    ways["column"] = keras.Model(two.inputs, two.outputs[0][:, 1:])
    for name, model in ways.items():
        model.save(tmp_path / f"{name}.keras")
        load_model(tmp_path / f"{name}.keras")


def test_a_file_that_keras_cannot_build_is_not_called_damaged(tmp_path):
    other("uint8", before=[keras.layers.Lambda(lambda x: x)]).save(tmp_path / "own.keras")
    with pytest.raises(InputError, match="own.keras is a model that Keras .* cannot build here .*Lambda"):
        load_model(tmp_path / "own.keras")
    whole = (tmp_path / "own.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    other().save_weights(tmp_path / "alone.weights.h5")
    for name in ("half.keras", "alone.weights.h5"):
        with pytest.raises(InputError, match=f"{name} is not a whole model file"):
            load_model(tmp_path / name)
    with pytest.raises(InputError, match="is a folder, but a model file is needed"):
        load_model(tmp_path)


@pytest.mark.parametrize("wrong, sentence", [
    ({"backbone": "VGG"}, "'VGG' is no backbone; choose one of NASNetMobile,"),
    ({"head": "seed"}, "'seed' is no head; choose one of article, average"),
    ({"weights": "imagenet"}, "SmallCNN has no ImageNet weights"),
])  # fmt: skip
def test_unknown_names_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        build_model(**{"backbone": "SmallCNN", "weights": "none", **wrong})

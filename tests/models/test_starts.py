import pytest

from pcam_utils.errors import InputError
from pcam_utils.models import starts
from pcam_utils.models.backbones import BACKBONES, Backbone, keras
from pcam_utils.models.networks import build_model
from pcam_utils.models.starts import choose_start


def test_weights_of_a_larger_network_are_refused_although_keras_would_take_a_part_of_them(tmp_path):
    small = build_model("SmallCNN", "none").get_layer("backbone")
    larger = keras.Sequential([*small.layers, keras.layers.Conv2D(8, 3, use_bias=False)])
    larger.save_weights(tmp_path / "larger.weights.h5")
    with pytest.raises(InputError, match="does not hold weights of SmallCNN"):
        build_model("SmallCNN", tmp_path / "larger.weights.h5")


def test_auto_takes_imagenet_where_it_is_at_hand_and_else_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(starts, "_imagenet_at_hand", lambda spec: False)
    assert choose_start(say=said.append) == "pcam" and "neither cached nor within reach" in said[0]
    assert choose_start("DenseNet121", say=said.append) == "none"
    monkeypatch.setattr(starts, "_imagenet_at_hand", lambda spec: True)
    assert choose_start(say=said.append) == "imagenet" and len(said) == 2
    monkeypatch.setenv("PCAM_WEIGHTS", "pcam")
    assert choose_start() == "pcam" and choose_start(weights="none") == "none"


def test_weights_pcam_are_of_one_backbone_alone():
    with pytest.raises(InputError, match="'pcam' are NASNetMobile's, not DenseNet121's"):
        build_model("DenseNet121", "pcam")


def test_a_cached_imagenet_file_is_at_hand_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr(starts, "_keras_models", lambda: tmp_path)
    monkeypatch.setattr("requests.head", lambda *a, **k: pytest.fail("asked the network"))
    (tmp_path / BACKBONES["NASNetMobile"].imagenet_file).touch()
    assert choose_start(say=print) == "imagenet"


def test_imagenet_that_cannot_be_had_names_the_ways_out(monkeypatch):
    def fail(weights, **_):
        raise Exception("URL fetch failure")

    monkeypatch.setitem(BACKBONES, "NASNetMobile", Backbone(fail, keras.layers.Rescaling, "file.h5"))
    with pytest.raises(InputError, match="could not be had; connect.*file.h5.*'none'"):
        build_model(weights="imagenet")

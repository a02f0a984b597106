import h5py
import numpy as np
import pytest
import requests

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
    cached = cached_imagenet(monkeypatch, tmp_path)
    monkeypatch.setattr("requests.head", lambda *a, **k: pytest.fail("asked the network"))
    h5py.File(cached, "w").close()
    assert choose_start(say=print) == "imagenet"


def cached_imagenet(monkeypatch, home):
    """Path of NASNetMobile's ImageNet file in a Keras folder of its own."""
    monkeypatch.setenv("KERAS_HOME", str(home))
    (home / "models").mkdir()
    return home / "models" / BACKBONES["NASNetMobile"].imagenet_file


@pytest.mark.parametrize("content", [b"", bytes(1000), "half"], ids=["empty", "zeros", "half"])
def test_half_a_cached_imagenet_file_is_as_good_as_none(monkeypatch, tmp_path, content):
    cached = cached_imagenet(monkeypatch, tmp_path)
    if content == "half":
        with h5py.File(cached, "w") as file:
            file["weights"] = np.zeros(10_000)
        content = cached.read_bytes()[:40_000]
    cached.write_bytes(content)
    monkeypatch.setattr("requests.head", without_net)
    assert choose_start(say=lambda _: None) == "pcam"


def without_net(*_, **__):
    raise requests.ConnectionError


def test_a_missing_file_of_certificates_is_no_way_to_the_net(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    said = []
    assert choose_start(say=said.append) == "pcam" and "neither cached nor within reach" in said[0]


def test_weights_that_cannot_be_are_refused_before_anything_is_built(monkeypatch, tmp_path):
    for backbone, weights, says in (
        ("SmallCNN", "imagenet", "has no ImageNet weights"),
        ("DenseNet121", "pcam", "are NASNetMobile's"),
        ("SmallCNN", tmp_path / "none.h5", "There is no file of weights"),
    ):
        with pytest.raises(InputError, match=says):
            choose_start(backbone, weights)


def test_weights_are_found_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "w.h5").touch()
    assert choose_start("SmallCNN", "~/w.h5") == str(tmp_path / "w.h5")
    monkeypatch.setenv("PCAM_WEIGHTS", "~/w.h5")
    assert choose_start("SmallCNN") == str(tmp_path / "w.h5")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    core = build_model("SmallCNN", "none").get_layer("backbone")
    core.set_weights([array * np.nan for array in core.get_weights()])
    core.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(InputError, match="nan.weights.h5 holds weights that are no numbers"):
        build_model("SmallCNN", tmp_path / "nan.weights.h5")


def test_imagenet_that_cannot_be_had_names_the_ways_out(monkeypatch):
    def fail(weights, **_):
        raise Exception("URL fetch failure")

    monkeypatch.setitem(BACKBONES, "NASNetMobile", Backbone(fail, keras.layers.Rescaling, "file.h5"))
    with pytest.raises(InputError, match="could not be had; connect.*file.h5.*'none'"):
        build_model(weights="imagenet")

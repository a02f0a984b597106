import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from pcam_utils.errors import InputError
from pcam_utils.models.backbones import BACKBONES, Backbone, ImageNetFile, keras
from pcam_utils.models.networks import build_model
from pcam_utils.models.starts import choose_start


def test_weights_of_a_larger_network_are_refused_although_keras_would_take_a_part_of_them(tmp_path):
    small = build_model("SmallCNN", "none").get_layer("backbone")
    larger = keras.Sequential([*small.layers, keras.layers.Conv2D(8, 3, use_bias=False)])
    larger.save_weights(tmp_path / "larger.weights.h5")
    with pytest.raises(InputError, match="does not hold weights of SmallCNN"):
        build_model("SmallCNN", tmp_path / "larger.weights.h5")


def test_weights_pcam_are_of_one_backbone_alone():
    with pytest.raises(InputError, match="'pcam' are NASNetMobile's, not DenseNet121's"):
        build_model("DenseNet121", "pcam")


# 'auto': ImageNet's file if it is there or can be fetched, and on any failure the package's weights -----------------

FILE = np.random.default_rng(0).bytes(50_000)


class Server(ThreadingHTTPServer):
    """Serves FILE, or what it is told to instead, and refuses to be a proxy."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.asked = 200, FILE, []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.command)
        self.send_response(200 if self.command == "HEAD" else server.status)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(server.body)

    do_HEAD = do_GET

    def do_CONNECT(self):
        self.send_error(403)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server that has NASNetMobile's file, for a Keras whose cache is empty."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "PCAM_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    has_its_file_at(f"http://127.0.0.1:{server.server_port}/w.h5", monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


def has_its_file_at(address, monkeypatch):
    file = ImageNetFile("w.h5", address, hashlib.md5(FILE).hexdigest())
    monkeypatch.setitem(BACKBONES, "NASNetMobile", replace(BACKBONES["NASNetMobile"], imagenet=file))


@pytest.mark.parametrize("cached", [None, b"", FILE[:25_000], bytes(50_000)], ids=["none", "empty", "half", "zeros"])
def test_auto_fetches_imagenet_where_no_whole_file_is_cached_and_then_asks_no_more(server, tmp_path, cached):
    path = tmp_path / "models" / "w.h5"
    if cached is not None:
        path.parent.mkdir()
        path.write_bytes(cached)
    assert choose_start(say=pytest.fail) == "imagenet" and path.read_bytes() == FILE
    assert server.asked == ["HEAD", "GET"]
    assert choose_start(say=pytest.fail) == "imagenet" and len(server.asked) == 2


def refuse(server, monkeypatch, tmp_path):
    server.status = 403


def other_file(server, monkeypatch, tmp_path):
    server.body = bytes(50_000)


def refusing_proxy(server, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    has_its_file_at("https://storage.example/w.h5", monkeypatch)


def broken_certificate(server, monkeypatch, tmp_path):
    has_its_file_at(f"https://127.0.0.1:{server.server_port}/w.h5", monkeypatch)


def no_certificates(server, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    has_its_file_at("https://storage.example/w.h5", monkeypatch)


def no_such_host(server, monkeypatch, tmp_path):
    has_its_file_at("http://storage.invalid/w.h5", monkeypatch)


def no_room(server, monkeypatch, tmp_path):
    (tmp_path / "models").write_text("no folder")


@pytest.mark.parametrize("fault, why", [
    (refuse, "status 403"),
    (other_file, "damaged or another one"),
    (refusing_proxy, "403 Forbidden"),
    (broken_certificate, "SSL"),
    (no_certificates, "TLS CA certificate bundle"),
    (no_such_host, "storage.invalid"),
    (no_room, "could not be written"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_where_imagenet_cannot_be_had_auto_is_the_packages_start_and_says_why_in_one_line(
    server, monkeypatch, tmp_path, fault, why
):
    fault(server, monkeypatch, tmp_path)
    said = []
    assert choose_start(say=said.append) == "pcam"
    (line,) = said
    assert why in line and "\n" not in line and line.endswith("), so the start is that of this package.")


def test_where_there_is_nothing_else_auto_is_random(server, monkeypatch):
    said = []
    assert choose_start("SmallCNN", say=said.append) == "none"
    assert said == ["ImageNet's weights cannot be had (there are none), so the start is random."]
    assert not server.asked


def test_the_variable_takes_the_place_of_auto_alone(server, monkeypatch):
    monkeypatch.setenv("PCAM_WEIGHTS", "pcam")
    assert choose_start() == "pcam" and choose_start(weights="none") == "none" and not server.asked


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

    monkeypatch.setitem(
        BACKBONES, "NASNetMobile", Backbone(fail, keras.layers.Rescaling, ImageNetFile("file.h5", "", ""))
    )
    with pytest.raises(InputError, match="could not be had; connect.*file.h5.*'none'"):
        build_model(weights="imagenet")

"""What arrives is verified or refused in one sentence, however the server, the disk or the person behaves."""

import contextlib
import email.utils
import errno
import gzip
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
from helpers import STEM

from pcam_utils.data import download
from pcam_utils.data.download import PCAM_FILES, PcamFile, download_kaggle, download_pcam, fetch, unpack
from pcam_utils.errors import InputError

DATA = np.random.default_rng(0).bytes(200_000)
SHA256 = PcamFile(len(DATA), hashlib.sha256(DATA).hexdigest())
MD5 = PcamFile(None, hashlib.md5(DATA).hexdigest())  # as for the tables, whose size is not published
checked = pytest.mark.parametrize("checks", [SHA256, MD5], ids=["size and SHA-256", "MD5"])


# A server that behaves as its plan says: one behaviour a request, the last for all further ones ----------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.rpartition("/")[2]
        server.requests.append((name, dict(self.headers)))
        self.start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        behave = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
        behave(self, server.files.get(name, DATA))
        self.close_connection = True

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.server.sent += len(body)  # before, as the client may be done before this thread goes on
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def span(data, start):
    return f"bytes {start}-{len(data) - 1}/{len(data)}"


def ok(handler, data):
    if handler.start >= len(data):
        handler.answer(416, b"")
    elif handler.start:
        handler.answer(206, data[handler.start :], Content_Range=span(data, handler.start))
    else:
        handler.answer(200, data)


def answers(status=200, body=None, **headers):
    """One fixed answer, whatever is asked for; `body` is made of the data."""
    return lambda handler, data: handler.answer(status, body(data) if body else data, **headers)


def drop(count, honour=True):
    """Break off after `count` bytes; `honour` ranges or begin at the beginning each time."""

    def behave(handler, data):
        start = handler.start if honour else 0
        headers = {"Content_Range": span(data, start)} if start else {}
        body = data[start : start + count]
        handler.answer(206 if start else 200, body, Content_Length=len(data) - start, **headers)

    return behave


def pieces(count):
    """Give at most `count` bytes, properly labelled, and no more."""

    def behave(handler, data):
        body = data[handler.start : handler.start + count]
        headers = {"Content_Range": f"bytes {handler.start}-{handler.start + len(body) - 1}/{len(data)}"}
        handler.answer(206, body, **headers)

    return behave


def stall(count):
    def behave(handler, data):
        drop(count)(handler, data)
        handler.server.over.wait(20)

    return behave


def wrong_range(handler, data):
    start = max(handler.start - 1, 0)
    handler.answer(206, data[start:], Content_Range=span(data, start))


def refuse_range(handler, data):
    handler.answer(416, b"") if handler.start else handler.answer(200, data)


def wrong_bytes(handler, data):
    ok(handler, bytes(reversed(data)))


def endless(handler, data):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.over.is_set():
        try:
            handler.wfile.write(data)
        except OSError:
            return


def redirect_loop(handler, data):
    handler.answer(302, b"", Location=handler.path)


def hang_up(handler, data):
    pass


def status(code, after=None):
    return answers(code, lambda data: b"<h1>no</h1>", Retry_After=after, Content_Type="text/html")


ignore_range, no_content_range = answers(), answers(206)
labelled_gzip = answers(Content_Encoding="gzip")
page = answers(200, lambda data: b"<html>Please log in.</html>", Content_Type="text/html; charset=utf-8")
plain_error = answers(200, lambda data: b"quota exceeded", Content_Type="text/plain")
unlabelled_error = answers(200, lambda data: b"quota exceeded", Content_Length=None)
too_much = answers(200, lambda data: data + data, Content_Length=None)
claims_more = answers(200, Content_Length=len(DATA) + 100)
claims_fewer = answers(200, lambda data: data[:-100])


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.plan, server.files, server.sent, server.over, server.requests = [ok], {}, 0, threading.Event(), []
    server.base = f"http://127.0.0.1:{server.server_port}/record"
    server.url = f"{server.base}/x.h5.gz"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The waits asked for, none of them waited; two tries where nothing comes, and half a second of patience."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(download, "RETRIES", 2)
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    return waits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "x.h5.gz"


@pytest.fixture
def part(path):
    """Where the bytes go first; its folder is there."""
    path.parent.mkdir()
    return path.with_name("x.h5.gz.part")


def get(server, path, checks=SHA256, progress=False):
    return fetch(server.url, path, checks, progress=progress)


def refusal(call, *parts):
    """The sentence that a call ends with."""
    with pytest.raises(InputError) as error:
        call()
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and not re.search(r"[.!?] [A-Z]", text), text
    for said in parts:
        assert said in text, text


def breaking_disk(monkeypatch, error, after=0):
    """Every file opened for writing takes `after` bytes and raises `error` then."""

    class File(io.FileIO):
        taken = 0

        def write(self, block):
            File.taken += len(block)
            if File.taken > after:
                raise error
            return super().write(block)

    def fake_open(file, mode="r"):
        return File(file, mode) if "w" in mode or "a" in mode else open(file, mode)

    monkeypatch.setattr(download, "open", fake_open, raising=False)


# The ways that end well ----------------------------------------------------------------------------------------------

SURVIVED = {
    "no fault": [ok],
    "broken off once": [drop(100_000), ok],
    "broken off twice": [drop(100_000), drop(30_000), ok],
    "broken off each time": [drop(60_000)],
    "given in pieces": [pieces(60_000)],
    "given in many small pieces": [pieces(10_000)],
    "no more tries than without progress": [hang_up, drop(40_000)] * 5,
    "range ignored": [drop(100_000), ignore_range],
    "another range": [drop(100_000), wrong_range, ok],
    "range not said": [drop(100_000), no_content_range],
    "range refused": [drop(100_000), refuse_range],
    "no answer": [hang_up, ok],
    "busy": [status(503), ok],
    "busy, broken off, broken": [status(429, 3), drop(100_000), status(500), ok],
    "wrong bytes": [wrong_bytes, ok],
    "wrong bytes after a break": [drop(100_000), wrong_bytes, ok],
    "stalled": [stall(100_000), ok],
    "labelled as gzip": [labelled_gzip],
}


@checked
@pytest.mark.parametrize("plan", SURVIVED.values(), ids=SURVIVED)
def test_a_download_ends_with_the_verified_file_alone(server, path, plan, checks):
    server.plan = list(plan)
    assert get(server, path, checks) == path
    assert path.read_bytes() == DATA
    assert os.listdir(path.parent) == [path.name]
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


@checked
@pytest.mark.parametrize(
    "left", [DATA[:150_000], DATA, DATA + b"more", bytes(1000), bytes(len(DATA))],
    ids=["of this file", "all of it", "longer", "of another", "as long"],
)  # fmt: skip
def test_what_an_earlier_call_left_is_taken_if_it_fits_and_replaced_if_not(server, path, part, left, checks):
    part.write_bytes(left)
    get(server, path, checks)
    assert path.read_bytes() == DATA and os.listdir(path.parent) == [path.name]
    if DATA.startswith(left) and (left != DATA or checks is SHA256):  # of unknown size, it has to be asked about
        assert server.sent == len(DATA) - len(left)


def test_after_a_break_only_the_missing_bytes_are_sent(server, path):
    server.plan = [drop(100_000), ok]
    get(server, path)
    # What is lost of the first 100,000 bytes is the block that was not full.
    assert len(DATA) <= server.sent <= len(DATA) + download._BLOCK


@checked
def test_a_verified_file_needs_no_request(server, path, part, checks):
    path.write_bytes(DATA)
    assert get(server, path, checks) == path and server.requests == []


def test_another_file_of_this_name_is_said_and_stays_until_the_new_one_is_there(server, path, part, capsys):
    path.write_bytes(b"old")
    server.plan = [status(404)]
    refusal(lambda: get(server, path))
    assert path.read_bytes() == b"old"
    server.plan = [ok]
    get(server, path)
    assert path.read_bytes() == DATA
    assert f"{path} has 3 bytes instead of 200,000, so it is downloaded again." in capsys.readouterr().err


@checked
@pytest.mark.parametrize("then", [ok, ignore_range], ids=["range", "range ignored"])
def test_the_bar_is_on_stderr_and_counts_each_byte_once(server, path, capsys, checks, then):
    server.plan = [drop(100_000), then]
    get(server, path, checks, progress=True)
    get(server, path.with_name("another"), checks)  # and without one where it is not wanted
    out, err = capsys.readouterr()
    assert out == "" and "x.h5.gz: 100%" in err and "200k/200k" in err and "another" not in err
    assert "The download of x.h5.gz broke off" in err


@pytest.mark.parametrize(
    "after, low, high",
    [
        (7, 7, 7),
        (86_400, 120, 120),
        ("soon", 1, 1),
        ("-5", 1, 1),
        ("9" * 5000, 1, 120),
        (None, 1, 1),
        ("a date", 30, 60),
    ],
    ids=["seconds", "a day", "unreadable", "negative", "absurd", "not said", "a date"],
)
def test_a_busy_server_is_given_the_time_it_asks_for_within_reason(server, path, waits, after, low, high):
    if after == "a date":
        after = email.utils.formatdate(time.time() + 60, usegmt=True)
    server.plan = [status(429, after), ok]
    get(server, path)
    assert len(waits) == 1 and low <= waits[0] <= high


def test_the_waits_grow_and_the_tries_end(server, path, waits, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 4)
    server.plan = [status(503)]
    refusal(lambda: get(server, path), server.url, "status 503")
    assert waits == [1, 2, 4, 8] and len(server.requests) == 5


@pytest.mark.parametrize("again", [drop(60_000, honour=False), wrong_range], ids=["range ignored", "another range"])
def test_a_server_that_begins_again_each_time_is_not_asked_for_ever(server, path, again):
    server.plan = [drop(60_000), again] * 20
    refusal(lambda: get(server, path), "check the connection")
    assert len(server.requests) < 10


# The ways that end in a sentence -------------------------------------------------------------------------------------

REFUSED = {  # behaviour, what is said, and after how many requests where that is the same with and without a size
    "no answer": (hang_up, ["ConnectionError", "check the connection"], 3),
    "stalled": (stall(0), ["check the connection"], 3),
    "broken off, no ranges": (drop(60_000, honour=False), ["check the connection"], 4),
    "redirected in a circle": (redirect_loop, ["TooManyRedirects"], None),
    "404": (status(404), ["has no file at", "status 404"], 1),
    "410": (status(410), ["has no file at", "status 410"], 1),
    "403": (status(403), ["refuses", "status 403"], 1),
    "401": (status(401), ["refuses", "status 401"], 1),
    "204": (status(204), ["refuses", "status 204"], 1),
    "416": (status(416), ["refuses", "status 416"], 1),
    "429": (status(429, 1), ["status 429"], 3),
    "500": (status(500), ["status 500"], 3),
    "web page": (page, ["web page"], 1),
    "text": (plain_error, ["instead of"], None),
    "text without length": (unlabelled_error, [], None),
    "wrong bytes": (wrong_bytes, ["instead of", "twice in a row"], 2),
    "more said than sent": (claims_more, [], None),
    "too short": (claims_fewer, ["instead of"], None),
    "too long": (too_much, ["instead of", "twice in a row"], 2),
}


@checked
@pytest.mark.parametrize("behaviour, said, number", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_ends_in_one_sentence(server, path, behaviour, said, number, checks):
    server.plan = [behaviour]
    refusal(lambda: get(server, path, checks), server.url, *said)
    assert len(server.requests) == number or number is None
    assert not path.exists() and not ("twice in a row" in said and os.listdir(path.parent))


@pytest.mark.parametrize("answer", [page, plain_error, status(404), status(503)], ids=["page", "text", "404", "503"])
def test_an_answer_that_is_not_the_file_does_not_cost_what_has_arrived(server, path, part, answer):
    part.write_bytes(DATA[:150_000])
    server.plan = [answer]
    refusal(lambda: get(server, path))
    assert part.read_bytes() == DATA[:150_000]


def test_bytes_without_end_are_not_waited_for(server, path):
    server.plan = [endless]
    refusal(lambda: get(server, path), "instead of 200,000", "twice in a row")


@pytest.mark.parametrize("url", ["zenodo.org/x", "ftp://zenodo.org/x", "http://", ""])
def test_what_is_no_address_is_refused_at_once(path, url, waits):
    refusal(lambda: fetch(url, path, MD5, progress=False), f"'{url}'")
    assert waits == []


def test_a_server_that_is_not_there_ends_in_one_sentence(server, path):
    server.shutdown()
    server.server_close()
    refusal(lambda: get(server, path), server.url, "check the connection")


# The disk and the keyboard -------------------------------------------------------------------------------------------

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error", [FULL, OSError(errno.EDQUOT, "Disk quota exceeded"), KeyboardInterrupt()], ids=["full", "quota", "ctrl-c"]
)
def test_what_has_arrived_before_the_disk_was_full_or_the_person_stopped_is_gone_on_from(
    server, path, part, monkeypatch, error
):
    with monkeypatch.context() as patch:
        breaking_disk(patch, error, after=50_000)
        if isinstance(error, OSError):
            refusal(lambda: get(server, path), f"{path} could not be written ({os.strerror(error.errno)}); free some")
        else:
            pytest.raises(KeyboardInterrupt, get, server, path)
    arrived = part.stat().st_size
    assert 0 < arrived <= 50_000 and not path.exists()
    server.sent = 0
    get(server, path)
    assert path.read_bytes() == DATA and server.sent == len(DATA) - arrived


@checked
@pytest.mark.parametrize("place", ["below a file", "a folder", "forbidden"])
def test_a_place_that_cannot_be_written_is_named(server, tmp_path, monkeypatch, place, checks):
    path = tmp_path / "file" / "x.h5.gz"
    if place == "below a file":
        (tmp_path / "file").write_text("")
    elif place == "a folder":
        path.mkdir(parents=True)
    else:  # injected, since root may write anywhere
        breaking_disk(monkeypatch, PermissionError(errno.EACCES, "Permission denied"))
    refusal(lambda: get(server, path, checks), f"{path} could not be written", "choose another folder")
    assert len(server.requests) == (place == "forbidden")


# Unpacking -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    packed = tmp_path / "x.h5.gz"
    packed.write_bytes(gzip.compress(DATA))
    return packed


@pytest.mark.parametrize("keep", [True, False])
def test_unpacking_gives_the_content_and_removes_the_packed_file_unless_told(packed, keep, capsys):
    assert unpack(packed, keep=keep) == packed.with_name("x.h5")
    assert packed.with_name("x.h5").read_bytes() == DATA
    assert sorted(os.listdir(packed.parent)) == ["x.h5", "x.h5.gz"][: 1 + keep]
    assert capsys.readouterr().out == ""


DAMAGES = {
    "no length": lambda content: content[:-4],
    "cut": lambda content: content[:1000],
    "no header": lambda content: content[:5],
    "empty": lambda content: b"",
    "page": lambda content: b"<html>Please log in.</html>",
    "wrong middle": lambda content: content[:1000] + bytes(1000) + content[2000:],
    "no deflate": lambda content: content[:10] + b"\xff" * 1000,
    "wrong checksum": lambda content: content[:-8] + bytes(8),
    "more": lambda content: content + b"trailing",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_packed_file_leaves_what_was_there(packed, damage):
    plain = packed.with_name("x.h5")
    packed.write_bytes(damage(packed.read_bytes()))
    plain.write_bytes(b"of an earlier file")
    refusal(lambda: unpack(packed, progress=False), f"{packed} is damaged or not complete")
    assert sorted(os.listdir(packed.parent)) == ["x.h5", "x.h5.gz"]
    assert plain.read_bytes() == b"of an earlier file"


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full disk", "ctrl-c"])
def test_unpacking_that_is_cut_short_leaves_only_the_packed_file(packed, monkeypatch, error):
    breaking_disk(monkeypatch, error, after=10)
    if error is FULL:
        refusal(lambda: unpack(packed, progress=False), "x.h5 could not be written (No space left on device)")
    else:
        pytest.raises(KeyboardInterrupt, unpack, packed, progress=False)
    assert os.listdir(packed.parent) == ["x.h5.gz"]


# The official files --------------------------------------------------------------------------------------------------


@pytest.fixture
def official(server, monkeypatch):
    """A server with small files under the official names, and a table that fits them."""
    for name in PCAM_FILES:
        plain = name.encode() * 100
        content, kind = (gzip.compress(plain), "sha256") if name.endswith(".gz") else (plain, "md5")
        server.files[name] = content
        checksum = hashlib.new(kind, content).hexdigest()
        file = PcamFile(len(content), checksum, len(plain)) if kind == "sha256" else PcamFile(None, checksum)
        monkeypatch.setitem(PCAM_FILES, name, file)
    return server


def names_of(*splits):
    return {f"{STEM}{split}_{kind}" for split in splits for kind in ("x.h5", "y.h5", "meta.csv")}


def listed(folder):
    """The names in a folder, but for the hidden one of the lock."""
    return {name for name in os.listdir(folder) if not name.startswith(".")}


def asked_for(server):
    asked = [name for name, _ in server.requests]
    server.requests.clear()
    return asked


def test_the_splits_asked_for_are_downloaded_and_unpacked_once(official, tmp_path):
    out = tmp_path / "data" / "pcam"
    assert download_pcam(out, splits=("valid", "test"), base_url=official.base + "/", progress=False) == out
    assert listed(out) == names_of("valid", "test")
    assert (out / f"{STEM}test_x.h5").read_bytes() == f"{STEM}test_x.h5.gz".encode() * 100
    assert (out / f"{STEM}valid_meta.csv").read_bytes() == f"{STEM}valid_meta.csv".encode() * 100
    download_pcam(out, splits="test", base_url=official.base, progress=False)
    assert len(asked_for(official)) == 6
    download_pcam(out, base_url=official.base, progress=False)
    assert asked_for(official) == [name for name in PCAM_FILES if "train" in name]
    assert listed(out) == names_of("train", "valid", "test")


def test_a_download_that_failed_half_way_goes_on_with_the_next_file(official, tmp_path):
    official.plan = [ok, status(404)]
    refusal(
        lambda: download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False),
        f"{STEM}valid_y.h5.gz",
    )
    official.plan = [ok]
    asked_for(official)
    download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False)
    assert asked_for(official) == [f"{STEM}valid_y.h5.gz", f"{STEM}valid_meta.csv"]
    assert listed(tmp_path) == names_of("valid")


KILLED = """
import sys
from pcam_utils.data.download import PCAM_FILES, PcamFile, download_pcam
PCAM_FILES[sys.argv[1]] = {}
download_pcam(sys.argv[2], splits="valid", base_url=sys.argv[3], progress=False)
"""


def test_a_second_process_waits_its_turn_and_goes_on_where_a_killed_one_stopped(official, tmp_path, monkeypatch):
    name, packed = f"{STEM}valid_x.h5.gz", gzip.compress(DATA)
    monkeypatch.setitem(PCAM_FILES, name, PcamFile(len(packed), hashlib.sha256(packed).hexdigest()))
    official.files[name], official.plan, part = packed, [stall(100_000)], tmp_path / f"{name}.part"
    script = KILLED.format(PCAM_FILES[name])
    process = subprocess.Popen([sys.executable, "-c", script, name, tmp_path, official.base])
    while not part.exists() or part.stat().st_size < 90_000:
        assert process.poll() is None
        official.over.wait(0.01)
    arrived = part.read_bytes()
    refusal(lambda: download_pcam(tmp_path, splits="valid", base_url=official.base), "Another process", str(tmp_path))
    assert part.read_bytes() == arrived and len(official.requests) == 1
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    official.plan = [ok]
    download_pcam(tmp_path, splits="valid", base_url=official.base, progress=False)
    assert official.requests[1][1]["Range"] == f"bytes={len(arrived)}-"
    assert (tmp_path / f"{STEM}valid_x.h5").read_bytes() == DATA and listed(tmp_path) == names_of("valid")


def test_where_all_is_there_nothing_is_written(official, tmp_path, monkeypatch):
    download_pcam(tmp_path, splits="valid", base_url=official.base, progress=False)
    asked_for(official)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("a folder was made"))
    download_pcam(tmp_path, splits="valid", base_url=official.base, progress=False)
    assert set(os.listdir(tmp_path)) == names_of("valid") and official.requests == []


@pytest.mark.parametrize("splits", ["validation", ["test", "Train"], [""]])
def test_an_unknown_split_is_named_with_those_there_are(tmp_path, splits):
    wrong = splits if isinstance(splits, str) else splits[-1]
    refusal(lambda: download_pcam(tmp_path / "new", splits=splits), f"'{wrong}'", "train, valid, test")
    assert not (tmp_path / "new").exists()


def test_somebody_elses_file_of_the_same_name_is_neither_taken_nor_replaced(official, tmp_path):
    own = tmp_path / f"{STEM}valid_y.h5"
    own.write_bytes(b"simulated")
    refusal(
        lambda: download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False), str(own), "too small"
    )
    assert own.read_bytes() == b"simulated" and official.requests == []


@pytest.mark.parametrize(
    "splits, arrived, needed",
    [
        (["train"], 0, 13.74),
        (["valid"], 0, 1.78),
        (["valid", "test"], 0, 2.68),
        (["train", "valid", "test"], 0, 13.74),
        (["valid"], 700_000_000, 1.08),
    ],
)
def test_too_little_room_is_refused_before_anything_is_downloaded(
    server, tmp_path, monkeypatch, splits, arrived, needed
):
    server.plan, out = [status(404)], tmp_path / "a" / "b"

    def with_free(free):
        usage = types.SimpleNamespace(free=int(free * 1e9))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage if Path(path).exists() else 1 / 0)
        return lambda: download_pcam(out, splits=splits, base_url=server.base, progress=False)

    if arrived:
        out.mkdir(parents=True)
        with open(out / f"{STEM}{splits[0]}_x.h5.gz.part", "wb") as file:
            file.truncate(arrived)
    refusal(with_free(needed - 0.01), f"{out} needs {needed:.1f} GB of free disk", "or fewer splits")
    assert server.requests == []
    refusal(with_free(needed + 0.01), "status 404")


def test_the_table_holds_the_nine_files_with_checksums_of_the_right_shape():
    kinds = ("x.h5.gz", "y.h5.gz", "meta.csv")
    assert list(PCAM_FILES) == [f"{STEM}{split}_{kind}" for split in download.SPLITS for kind in kinds]
    for name, file in PCAM_FILES.items():
        assert re.fullmatch("[0-9a-f]{32}" if name.endswith(".csv") else "[0-9a-f]{64}", file.checksum)
        patches = 262_144 if "train" in name else 32_768
        assert file.unpacked == (0 if name.endswith(".csv") else patches * (27_648 if "_x" in name else 1))
        assert (file.size or 0) < (file.unpacked or 1)
    assert len({file.checksum for file in PCAM_FILES.values()}) == 9
    assert sum(file.size or 0 for file in PCAM_FILES.values()) == 8_028_222_167


# Kaggle --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kaggle(monkeypatch):
    """A kagglehub that puts a small competition into its cache, or raises what it is told to."""
    kaggle = types.ModuleType("kagglehub")
    kaggle.calls, kaggle.error, kaggle.folder, kaggle.labels = [], None, None, True

    def competition_download(handle):
        kaggle.calls.append(handle)
        folder = Path(kaggle.folder or Path(os.environ["KAGGLEHUB_CACHE"]) / "competitions" / handle)
        (folder / "train").mkdir(parents=True, exist_ok=True)
        (folder / "train" / "a.tif").write_bytes(b"tiff")
        if kaggle.error:
            raise kaggle.error
        if kaggle.labels:
            (folder / "train_labels.csv").write_text("id,label\na,1\n")
        return str(folder)

    kaggle.competition_download = competition_download
    monkeypatch.setitem(sys.modules, "kagglehub", kaggle)
    return kaggle


def test_kaggles_files_end_up_in_the_folder_and_are_downloaded_once(kaggle, tmp_path):
    out = tmp_path / "kaggle"
    assert download_kaggle(out) == download_kaggle(out) == out
    assert kaggle.calls == ["histopathologic-cancer-detection"]
    assert listed(out) == {"train", "train_labels.csv"}
    assert (out / "train" / "a.tif").read_bytes() == b"tiff"


def test_the_labels_come_last_so_that_they_stand_for_the_whole(kaggle, tmp_path, monkeypatch):
    moved, replace = [], os.replace
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / "train_labels.csv", folder / "train"]))
    monkeypatch.setattr(os, "replace", lambda source, target: (moved.append(target.name), replace(source, target)))
    download_kaggle(tmp_path)
    assert moved == ["train", "train_labels.csv"]


def test_kaggles_files_may_be_attached_elsewhere(kaggle, tmp_path):
    kaggle.folder = tmp_path / "input"
    assert download_kaggle(tmp_path / "out") == tmp_path / "input"
    assert (tmp_path / "input" / "train_labels.csv").exists()


@pytest.mark.parametrize("before", [None, "/somewhere"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt()], ids=["no error", "ctrl-c"])
def test_the_environment_is_as_before(kaggle, tmp_path, monkeypatch, before, error):
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    if before:
        monkeypatch.setenv("KAGGLEHUB_CACHE", before)
    kaggle.error = error
    with contextlib.suppress(KeyboardInterrupt):
        download_kaggle(tmp_path)
    assert os.environ.get("KAGGLEHUB_CACHE") == before


RULES = "/competitions/histopathologic-cancer-detection/rules"


@pytest.mark.parametrize(
    "error, said",
    [
        (requests.HTTPError("403 Client Error.\n\nYou don't have permission."), ["(403 Client Error)", RULES]),
        (RuntimeError("User is not authenticated"), ["(User is not authenticated)", "kagglehub.login()"]),
        (ConnectionError(), ["(ConnectionError)", "check the connection"]),
        (FULL, ["could not be written (No space left on device)"]),
    ],
)
def test_what_kaggle_or_the_disk_refuses_is_said_and_gone_on_from(kaggle, tmp_path, error, said):
    kaggle.error = error
    refusal(lambda: download_kaggle(tmp_path), *said)
    assert list(tmp_path.rglob("a.tif"))  # in the cache
    kaggle.error = None
    download_kaggle(tmp_path)
    assert listed(tmp_path) == {"train", "train_labels.csv"}


def test_a_kaggle_download_without_labels_is_refused(kaggle, tmp_path):
    kaggle.labels = False
    refusal(lambda: download_kaggle(tmp_path), "train_labels.csv", str(tmp_path))


def test_without_kagglehub_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    refusal(lambda: download_kaggle(tmp_path), 'pip install "pcam-utils[kaggle]"')


def test_the_real_kagglehub_takes_its_cache_from_the_environment(monkeypatch, tmp_path):
    config = pytest.importorskip("kagglehub.config")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    assert config.get_cache_folder() == str(tmp_path)


@pytest.mark.parametrize(
    "variable, value, says",
    [
        ("REQUESTS_CA_BUNDLE", "nowhere.pem", "There is no file of certificates nowhere.pem"),
        ("HTTPS_PROXY", "http://", "The proxy is no web address"),
    ],
)
def test_surroundings_that_bar_the_way_are_named(tmp_path, monkeypatch, variable, value, says):
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=says):
        fetch("https://127.0.0.1:9/file", tmp_path / "file", MD5, progress=False)
    assert os.listdir(tmp_path) == []

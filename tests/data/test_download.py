"""What arrives is verified or refused in one sentence, however the server, the disk or the person behaves."""

import email.utils
import errno
import gzip
import hashlib
import io
import itertools
import os
import re
import shutil
import sys
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests

from pcam_utils.data import download
from pcam_utils.data.download import PCAM_FILES, PcamFile, download_kaggle, download_pcam, fetch, unpack
from pcam_utils.errors import InputError

DATA = np.random.default_rng(0).bytes(200_000)
CHECKS = {"size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}
MD5 = {"md5": hashlib.md5(DATA).hexdigest()}
STEM = "camelyonpatch_level_2_split_"


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's plan says: one behaviour a request, the last for all further ones."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        self.server.headers_seen.append(dict(self.headers))
        name, plan = self.path.rpartition("/")[2], self.server.plan
        self.server.names.append(name)
        behave = plan.pop(0) if len(plan) > 1 else plan[0]
        behave(self, self.server.files.get(name, DATA))

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.send(body)
        self.close_connection = True

    def send(self, body):
        self.server.sent += len(body)  # before, as the client may be done before this thread goes on
        self.wfile.write(body)

    @property
    def start(self):
        return int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])

    def log_message(self, *args):
        pass


def ok(handler, data):
    start = handler.start
    if not start:
        handler.answer(200, data)
    elif start >= len(data):
        handler.answer(416, b"")
    else:
        handler.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")


def drop(count, honour=True):
    """Break off after `count` bytes; `honour` ranges or begin at the beginning each time."""

    def behave(handler, data):
        start = handler.start if honour else 0
        handler.answer(
            206 if start else 200,
            data[start : start + count],
            Content_Length=len(data) - start,
            Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}" if start else None,
        )

    return behave


def ranges_of(count):
    """Give at most `count` bytes, properly labelled, and no more."""

    def behave(handler, data):
        body = data[handler.start : handler.start + count]
        span = f"bytes {handler.start}-{handler.start + len(body) - 1}/{len(data)}"
        handler.answer(206, body, Content_Range=span)

    return behave


def stall(count):
    def behave(handler, data):
        start = handler.start
        drop(count)(handler, data)
        handler.close_connection = False
        handler.server.over.wait(20 if start + count < len(data) else 0)

    behave.timeout = 0.3
    return behave


def ignore_range(handler, data):
    handler.answer(200, data)


def wrong_range(handler, data):
    if not handler.start:
        return ok(handler, data)
    start = handler.start - 1
    handler.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")


def no_range_header(handler, data):
    handler.answer(206, data)


def refuse_range(handler, data):
    handler.answer(416, b"") if handler.start else handler.answer(200, data)


def length(extra):
    """Claim `extra` bytes more (or fewer) than there are."""

    def behave(handler, data):
        handler.answer(200, data[: len(data) + min(extra, 0)], Content_Length=len(data) + extra)

    return behave


def page(handler, data):
    handler.answer(200, b"<html>Please log in.</html>", Content_Type="text/html; charset=utf-8")


def plain_error(handler, data):
    handler.answer(200, b"quota exceeded", Content_Type="text/plain")


def unlabelled_error(handler, data):
    handler.answer(200, b"quota exceeded", Content_Length=None)


def too_much(handler, data):
    handler.answer(200, data + data, Content_Length=None)


def wrong_bytes(handler, data):
    ok(handler, bytes(reversed(data)))


def labelled_gzip(handler, data):
    handler.answer(200, data, Content_Encoding="gzip")


def loop(handler, data):
    handler.answer(302, b"", Location=handler.path)


def status(code, after=None):
    return lambda handler, data: handler.answer(code, b"<h1>no</h1>", Retry_After=after, Content_Type="text/html")


def hang_up(handler, data):
    handler.close_connection = True


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.plan, server.files, server.sent, server.over = [ok], {}, 0, threading.Event()
    server.ranges, server.headers_seen, server.names = [], [], []
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
    """The waits asked for, none of them waited."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "x.h5.gz"


def part_of(path):
    return path.with_name(path.name + ".part")


def assert_sentence(error, *parts):
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and not re.search(r"[.!?] [A-Z]", text), text
    for part in parts:
        assert part in text, text


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


# Fetching: the ways that end well


@pytest.mark.parametrize("checks", [CHECKS, MD5, {}], ids=["sha256", "md5", "unchecked"])
def test_a_file_is_downloaded_whole_and_its_part_is_gone(server, path, checks):
    assert fetch(server.url, str(path), **checks, progress=False) == path
    assert path.read_bytes() == DATA
    assert os.listdir(path.parent) == [path.name]
    assert server.ranges == [None]


def test_the_file_is_asked_for_unencoded(server, path):
    fetch(server.url, path, **CHECKS, progress=False)
    assert server.headers_seen[0]["Accept-Encoding"] == "identity"
    assert server.headers_seen[0]["User-Agent"].startswith("pcam-utils/")


@pytest.mark.parametrize("checks", [CHECKS, MD5], ids=["sha256", "md5"])
@pytest.mark.parametrize(
    "plan",
    [
        [drop(100_000), ok],
        [drop(100_000), drop(30_000), ok],
        [drop(60_000)],
        [ranges_of(60_000)],
        [drop(100_000), ignore_range],
        [drop(100_000), wrong_range],
        [drop(100_000), no_range_header, ok],
        [drop(100_000), refuse_range],
        [hang_up, ok],
        [status(503), ok],
        [status(429, 3), drop(100_000), status(500), ok],
        [wrong_bytes, ok],
        [drop(100_000), wrong_bytes, ok],
        [stall(100_000), ok],
        [labelled_gzip],
    ],
    ids=lambda plan: "-".join(step.__qualname__.split(".")[0] for step in plan),
)
def test_a_download_survives(server, path, plan, checks):
    server.plan = list(plan)
    fetch(server.url, path, **checks, progress=False, timeout=getattr(plan[0], "timeout", 30), retries=2)
    assert path.read_bytes() == DATA
    assert os.listdir(path.parent) == [path.name]


def test_after_a_drop_only_the_missing_bytes_are_sent(server, path):
    server.plan = [drop(100_000), ok]
    fetch(server.url, path, **CHECKS, progress=False)
    start = int(server.ranges[1].removeprefix("bytes=").removesuffix("-"))
    # What is lost of the first 100,000 bytes is the block that was not full.
    assert 100_000 - download._BLOCK <= start <= 100_000
    assert server.sent == 100_000 + len(DATA) - start


def test_a_later_call_goes_on_where_the_first_broke_off(server, path):
    server.plan = [drop(100_000), hang_up]
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **CHECKS, progress=False, retries=0)
    arrived = part_of(path).stat().st_size
    assert_sentence(error, server.url, f"{arrived:,} bytes", str(part_of(path)))
    assert not path.exists() and arrived > 0
    server.plan, server.sent = [ok], 0
    fetch(server.url, path, **CHECKS, progress=False)
    assert server.sent == len(DATA) - arrived
    assert path.read_bytes() == DATA


def test_a_part_that_is_whole_already_is_only_verified(server, path):
    path.parent.mkdir()
    part_of(path).write_bytes(DATA)
    fetch(server.url, path, **CHECKS, progress=False)
    assert path.read_bytes() == DATA and server.ranges == []


@pytest.mark.parametrize("stale", [DATA + b"more", bytes(1000), bytes(len(DATA))], ids=["longer", "other", "same size"])
@pytest.mark.parametrize("checks", [CHECKS, MD5], ids=["sha256", "md5"])
def test_a_part_of_something_else_is_replaced(server, path, stale, checks):
    path.parent.mkdir()
    part_of(path).write_bytes(stale)
    fetch(server.url, path, **checks, progress=False)
    assert path.read_bytes() == DATA and not part_of(path).exists()


def test_progress_resets_the_count_of_tries(server, path):
    server.plan = [hang_up, drop(60_000)] * 6
    fetch(server.url, path, **CHECKS, progress=False, retries=1)
    assert path.read_bytes() == DATA


def test_a_verified_file_needs_no_request(server, path):
    path.parent.mkdir()
    path.write_bytes(DATA)
    assert fetch(server.url, path, **CHECKS, progress=False) == path
    assert fetch(server.url, path, **MD5, progress=False) == path
    assert server.ranges == []


def test_a_file_that_does_not_verify_is_named_and_replaced(server, path, capsys):
    path.parent.mkdir()
    path.write_bytes(b"old")
    fetch(server.url, path, **CHECKS, progress=False)
    assert path.read_bytes() == DATA
    assert f"{path} has 3 bytes instead of 200,000, so it is downloaded again." in capsys.readouterr().err


def test_a_file_that_does_not_verify_stays_until_the_new_one_is_there(server, path):
    path.parent.mkdir()
    path.write_bytes(b"old")
    server.plan = [status(404)]
    with pytest.raises(InputError):
        fetch(server.url, path, **CHECKS, progress=False)
    assert path.read_bytes() == b"old"


def test_the_session_given_is_used_and_left_open(server, path):
    class Session(requests.Session):
        closed, used = False, 0

        def get(self, *args, **kwargs):
            self.used += 1
            return super().get(*args, **kwargs)

        def close(self):
            self.closed = True

    session = Session()
    fetch(server.url, path, **CHECKS, progress=False, session=session)
    assert session.used == 1 and not session.closed
    requests.Session.close(session)


def test_no_progress_is_shown_where_it_is_not_wanted(server, path, capsys):
    fetch(server.url, path, **CHECKS, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("checks", [CHECKS, MD5], ids=["size known", "size unknown"])
@pytest.mark.parametrize("then", [ok, ignore_range])
def test_progress_is_shown_on_stderr_and_counts_each_byte_once(server, path, capsys, checks, then):
    server.plan = [drop(100_000), then]
    fetch(server.url, path, **checks)
    out, err = capsys.readouterr()
    assert out == "" and "x.h5.gz: 100%" in err and "200k/200k" in err
    assert "The download of x.h5.gz broke off" in err


# Waiting


@pytest.mark.parametrize(
    "after, low, high",
    [(7, 7, 7), (86_400, 120, 120), ("soon", 1, 1), ("-5", 1, 1), ("9" * 5000, 1, 120), (None, 1, 1)],
    ids=["seconds", "a day", "unreadable", "negative", "absurd", "not said"],
)
@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_given_the_time_it_asks_for_within_reason(server, path, waits, code, after, low, high):
    server.plan = [status(code, after), ok]
    fetch(server.url, path, **CHECKS, progress=False)
    assert len(waits) == 1 and low <= waits[0] <= high


def test_a_busy_server_may_name_a_date(server, path, waits):
    server.plan = [status(429, email.utils.formatdate(time.time() + 60, usegmt=True)), ok]
    fetch(server.url, path, **CHECKS, progress=False)
    assert len(waits) == 1 and 50 <= waits[0] <= 60


def test_the_waits_grow_and_the_tries_end(server, path, waits):
    server.plan = [status(503)]
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **CHECKS, progress=False, retries=4)
    assert_sentence(error, server.url, "status 503")
    assert waits == [1, 2, 4, 8] and len(server.ranges) == 5


def test_even_tries_that_bring_a_little_come_to_an_end(server, path, monkeypatch):
    monkeypatch.setattr(download, "MAX_TRIES", 3)
    server.plan = [ranges_of(1000)]
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **CHECKS, progress=False)
    assert_sentence(error, "3,000 bytes", "stopped early")
    assert len(server.ranges) == 3


# Fetching: the ways that end in a sentence


@pytest.mark.parametrize("checks", [CHECKS, MD5], ids=["sha256", "md5"])
@pytest.mark.parametrize(
    "behaviour, expected, requests_made",
    [
        (hang_up, ["ConnectionError", "check the connection"], 3),
        (stall(0), ["check the connection"], 3),
        (drop(60_000, honour=False), ["check the connection"], 4),
        (no_range_header, ["check the connection"], 3),
        (loop, ["TooManyRedirects"], None),
        (status(404), ["has no file at", "status 404"], 1),
        (status(410), ["has no file at", "status 410"], 1),
        (status(403), ["refuses", "status 403"], 1),
        (status(401), ["refuses", "status 401"], 1),
        (status(204), ["refuses", "status 204"], 1),
        (status(416), ["refuses", "status 416"], 1),
        (status(429, 1), ["status 429"], 3),
        (status(500), ["status 500"], 3),
        (page, ["web page"], 1),
        (plain_error, ["instead of"], None),
        (unlabelled_error, [], None),
        (wrong_bytes, ["instead of", "twice in a row"], 2),
        (length(100), [], None),
        (length(-100), [], None),
        (too_much, ["instead of", "twice in a row"], 2),
    ],
    ids=lambda value: getattr(value, "__qualname__", "").split(".")[0],
)
def test_what_cannot_be_had_ends_in_one_sentence(server, path, behaviour, expected, requests_made, checks):
    server.plan = [behaviour]
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **checks, progress=False, timeout=getattr(behaviour, "timeout", 30), retries=2)
    assert_sentence(error, server.url, *expected)
    assert not path.exists()
    if requests_made:
        assert len(server.ranges) == requests_made


@pytest.mark.parametrize("answer", [page, plain_error, status(404), status(503)])
def test_an_answer_that_is_not_the_file_does_not_cost_what_has_arrived(server, path, answer):
    path.parent.mkdir()
    part_of(path).write_bytes(DATA[:150_000])
    server.plan = [answer]
    with pytest.raises(InputError):
        fetch(server.url, path, **CHECKS, progress=False, retries=0)
    assert part_of(path).read_bytes() == DATA[:150_000]


def test_wrong_bytes_leave_nothing_behind(server, path):
    server.plan = [wrong_bytes]
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **CHECKS, progress=False)
    assert_sentence(error, CHECKS["sha256"])
    assert os.listdir(path.parent) == []


def test_a_server_that_sends_without_end_is_cut_off(server, path):
    def endless(handler, data):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.send(data)
        except OSError:
            pass
        handler.close_connection = True

    server.plan = [endless]
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **CHECKS, progress=False)
    assert_sentence(error, "instead of 200,000")
    assert server.sent < 150_000_000
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("url", ["zenodo.org/x", "ftp://zenodo.org/x", "http://", ""])
def test_what_is_no_address_is_refused_at_once(path, url, waits):
    with pytest.raises(InputError) as error:
        fetch(url, path, progress=False)
    assert_sentence(error, f"'{url}'")
    assert waits == []


def test_a_server_that_is_not_there_ends_in_one_sentence(server, path):
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError) as error:
        fetch(server.url, path, progress=False, retries=1)
    assert_sentence(error, server.url, "check the connection")


# The disk and the keyboard


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_part_to_go_on_from(server, path, monkeypatch, code):
    with monkeypatch.context() as patch:
        breaking_disk(patch, OSError(code, os.strerror(code)), after=50_000)
        with pytest.raises(InputError) as error:
            fetch(server.url, path, **CHECKS, progress=False)
    assert_sentence(error, "disk is full", str(path))
    arrived = part_of(path).stat().st_size
    assert 0 < arrived <= 50_000 and not path.exists()
    fetch(server.url, path, **CHECKS, progress=False)
    assert server.ranges[1] == f"bytes={arrived}-" and path.read_bytes() == DATA


def test_a_place_that_may_not_be_written_is_named(server, path, monkeypatch):
    breaking_disk(monkeypatch, PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **CHECKS, progress=False)
    assert_sentence(error, str(path), "Permission denied", "choose another folder")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(server, path):
    path.parent.mkdir(mode=0o500)
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **CHECKS, progress=False)
    assert_sentence(error, str(path))


def test_a_folder_below_a_file_is_refused(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        fetch(server.url, tmp_path / "file" / "x", **CHECKS, progress=False)
    assert_sentence(error, str(tmp_path / "file" / "x"))


def test_a_folder_in_place_of_the_file_is_refused(server, path):
    path.mkdir(parents=True)
    with pytest.raises(InputError) as error:
        fetch(server.url, path, **MD5, progress=False)
    assert_sentence(error, str(path))


def test_ctrl_c_leaves_the_part_to_go_on_from(server, path, monkeypatch):
    with monkeypatch.context() as patch:
        breaking_disk(patch, KeyboardInterrupt(), after=50_000)
        with pytest.raises(KeyboardInterrupt):
            fetch(server.url, path, **CHECKS, progress=False)
    arrived = part_of(path).stat().st_size
    assert 0 < arrived <= 50_000 and not path.exists()
    fetch(server.url, path, **CHECKS, progress=False)
    assert server.ranges[1] == f"bytes={arrived}-"


# Unpacking


@pytest.fixture
def packed(tmp_path):
    packed = tmp_path / "x.h5.gz"
    packed.write_bytes(gzip.compress(DATA))
    return packed


@pytest.mark.parametrize("keep", [True, False])
def test_unpacking_gives_the_content_and_removes_the_packed_file_unless_told(packed, keep):
    assert unpack(str(packed), progress=False, keep=keep) == packed.with_name("x.h5")
    assert packed.with_name("x.h5").read_bytes() == DATA
    assert packed.exists() == keep
    assert len(os.listdir(packed.parent)) == 1 + keep


def test_unpacking_to_another_name(packed, tmp_path):
    (tmp_path / "other").mkdir()
    assert unpack(packed, tmp_path / "other" / "y.h5", progress=False).read_bytes() == DATA


def test_what_is_unpacked_and_newer_is_left(packed):
    plain = packed.with_name("x.h5")
    plain.write_bytes(b"unpacked before")
    os.utime(packed, (1000, 1000))
    assert unpack(packed, progress=False, keep=True) == plain
    assert plain.read_bytes() == b"unpacked before" and packed.exists()


def test_what_is_unpacked_but_older_is_unpacked_again(packed):
    plain = packed.with_name("x.h5")
    plain.write_bytes(b"of an earlier file")
    os.utime(plain, (1000, 1000))
    assert unpack(packed, progress=False).read_bytes() == DATA


def test_unpacking_twice_is_the_same_as_once(packed):
    unpack(packed, progress=False)
    assert unpack(packed, progress=False).read_bytes() == DATA


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-4],
        lambda content: content[:1000],
        lambda content: content[:5],
        lambda content: b"",
        lambda content: b"<html>Please log in.</html>",
        lambda content: content[:1000] + bytes(1000) + content[2000:],
        lambda content: content[:10] + b"\xff" * 1000,
        lambda content: content[:-8] + bytes(8),
        lambda content: content + b"trailing",
    ],
    ids=["no length", "cut", "no header", "empty", "page", "wrong middle", "no deflate", "wrong checksum", "more"],
)
@pytest.mark.parametrize("old", [None, b"of an earlier file"])
def test_a_damaged_packed_file_leaves_what_was_there(packed, damage, old):
    plain = packed.with_name("x.h5")
    packed.write_bytes(damage(packed.read_bytes()))
    if old:
        plain.write_bytes(old)
        os.utime(plain, (1000, 1000))
    with pytest.raises(InputError) as error:
        unpack(packed, progress=False)
    assert_sentence(error, str(packed), "damaged or not complete")
    assert sorted(os.listdir(packed.parent)) == (["x.h5"] if old else []) + ["x.h5.gz"]
    assert not old or plain.read_bytes() == old


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full disk", "ctrl-c"]
)
def test_unpacking_that_is_cut_short_leaves_only_the_packed_file(packed, monkeypatch, error):
    monkeypatch.setattr(shutil, "COPY_BUFSIZE", 1000)
    breaking_disk(monkeypatch, error, after=10)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        unpack(packed, progress=False)
    if isinstance(error, OSError):
        assert_sentence(caught, "disk is full", "x.h5")
    assert os.listdir(packed.parent) == ["x.h5.gz"]


@pytest.mark.parametrize("name, part", [("absent.h5.gz", "no file"), ("x.h5", "does not end in .gz")])
def test_what_cannot_be_unpacked_is_named(tmp_path, name, part):
    with pytest.raises(InputError) as error:
        unpack(tmp_path / name, progress=False)
    assert_sentence(error, str(tmp_path / name), part)


def test_unpacking_shows_progress_when_it_takes_its_time(packed, monkeypatch, capsys):
    bar = download._bar
    monkeypatch.setattr(download, "_bar", lambda *args, delay: bar(*args))
    unpack(packed)
    out, err = capsys.readouterr()
    assert out == "" and "Unpacking x.h5.gz: 100%" in err and "200k/200k" in err


# The official files


@pytest.fixture
def official(server, monkeypatch):
    """A server with small files under the official names, and a table that fits them."""
    for name in PCAM_FILES:
        plain = name.encode() * 100
        content = gzip.compress(plain) if name.endswith(".gz") else plain
        server.files[name] = content
        file = PcamFile(
            size=len(content) if name.endswith(".gz") else None,
            sha256=hashlib.sha256(content).hexdigest() if name.endswith(".gz") else None,
            md5=hashlib.md5(content).hexdigest(),
            unpacked=len(plain) if name.endswith(".gz") else 0,
        )
        monkeypatch.setitem(PCAM_FILES, name, file)
    return server


def names_of(*splits):
    return {f"{STEM}{split}_{kind}" for split in splits for kind in ("x.h5", "y.h5", "meta.csv")}


def test_the_splits_asked_for_are_downloaded_and_unpacked(official, tmp_path):
    out = tmp_path / "data" / "pcam"
    assert download_pcam(out, splits=("valid", "test"), base_url=official.base + "/", progress=False) == out
    assert set(os.listdir(out)) == names_of("valid", "test")
    assert (out / f"{STEM}test_x.h5").read_bytes() == f"{STEM}test_x.h5.gz".encode() * 100
    assert (out / f"{STEM}valid_meta.csv").read_bytes() == f"{STEM}valid_meta.csv".encode() * 100


def test_all_splits_are_the_default_and_one_may_be_a_word(official, tmp_path):
    download_pcam(tmp_path, splits="test", base_url=official.base, progress=False)
    assert set(os.listdir(tmp_path)) == names_of("test")
    download_pcam(tmp_path, base_url=official.base, progress=False)
    assert set(os.listdir(tmp_path)) == names_of("train", "valid", "test")
    assert sorted(official.names) == sorted(PCAM_FILES)


def test_what_is_there_is_not_downloaded_again(official, tmp_path):
    download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False)
    official.names.clear()
    download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False)
    assert official.names == []


def test_a_download_that_failed_half_way_goes_on_with_the_next_file(official, tmp_path):
    official.plan = [ok, status(404)]
    with pytest.raises(InputError) as error:
        download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False)
    assert_sentence(error, f"{STEM}valid_y.h5.gz")
    official.plan = [ok]
    official.names.clear()
    download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False)
    assert official.names == [f"{STEM}valid_y.h5.gz", f"{STEM}valid_meta.csv"]
    assert set(os.listdir(tmp_path)) == names_of("valid")


@pytest.mark.parametrize("splits", ["validation", ["test", "Train"], [""]])
def test_an_unknown_split_is_named_with_those_there_are(tmp_path, splits):
    with pytest.raises(InputError) as error:
        download_pcam(tmp_path / "new", splits=splits, progress=False)
    assert_sentence(error, f"'{splits if isinstance(splits, str) else splits[-1]}'", "train, valid, test")
    assert not (tmp_path / "new").exists()


def test_somebody_elses_file_of_the_same_name_is_neither_taken_nor_replaced(official, tmp_path):
    own = tmp_path / f"{STEM}valid_y.h5"
    own.write_bytes(b"simulated")
    with pytest.raises(InputError) as error:
        download_pcam(tmp_path, splits=["valid"], base_url=official.base, progress=False)
    assert_sentence(error, str(own), "too small")
    assert own.read_bytes() == b"simulated" and official.names == []


def disk_with(monkeypatch, free):
    usage = types.SimpleNamespace(total=10**12, used=0, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage if Path(path).exists() else 1 / 0)


@pytest.mark.parametrize(
    "splits, needed",
    [(["train"], 13.74), (["valid"], 1.78), (["valid", "test"], 2.68), (["train", "valid", "test"], 13.74)],
)
def test_too_little_room_is_refused_before_anything_is_downloaded(server, tmp_path, monkeypatch, splits, needed):
    server.plan = [status(404)]
    disk_with(monkeypatch, int((needed - 0.01) * 1e9))
    with pytest.raises(InputError) as error:
        download_pcam(tmp_path / "a" / "b", splits=splits, base_url=server.base, progress=False)
    assert_sentence(error, f"needs {needed:.1f} GB", str(tmp_path / "a" / "b"))
    assert server.names == []
    disk_with(monkeypatch, int((needed + 0.01) * 1e9))
    with pytest.raises(InputError, match="status 404"):
        download_pcam(tmp_path / "a" / "b", splits=splits, base_url=server.base, progress=False)


def test_what_has_arrived_already_needs_no_more_room(server, tmp_path, monkeypatch):
    server.plan = [status(404)]
    disk_with(monkeypatch, 1_200_000_000)
    with pytest.raises(InputError, match="needs 1.8 GB"):
        download_pcam(tmp_path, splits=["valid"], base_url=server.base, progress=False)
    with open(tmp_path / f"{STEM}valid_x.h5.gz.part", "wb") as file:
        file.truncate(700_000_000)
    with pytest.raises(InputError, match="status 404"):
        download_pcam(tmp_path, splits=["valid"], base_url=server.base, progress=False)


def test_the_table_holds_the_nine_files_with_checksums_of_the_right_shape():
    kinds = itertools.product(("train", "valid", "test"), ("x.h5.gz", "y.h5.gz", "meta.csv"))
    assert list(PCAM_FILES) == [f"{STEM}{split}_{kind}" for split, kind in kinds]
    for name, file in PCAM_FILES.items():
        assert re.fullmatch("[0-9a-f]{32}", file.md5)
        if name.endswith(".csv"):
            assert (file.size, file.sha256, file.unpacked) == (None, None, 0)
        else:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            patches = 262_144 if "train" in name else 32_768
            assert file.unpacked == patches * (27_648 if "_x" in name else 1)
            assert file.size < file.unpacked
    assert len({file.md5 for file in PCAM_FILES.values()}) == 9
    assert len({file.sha256 for file in PCAM_FILES.values()}) == 7
    assert sum(file.size or 0 for file in PCAM_FILES.values()) == 8_028_222_167


# Kaggle


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


def test_kaggles_files_end_up_in_the_folder(kaggle, tmp_path):
    out = tmp_path / "kaggle"
    assert download_kaggle(out) == out
    assert kaggle.calls == ["histopathologic-cancer-detection"]
    assert sorted(os.listdir(out)) == ["train", "train_labels.csv"]
    assert (out / "train" / "a.tif").read_bytes() == b"tiff"


def test_kaggles_files_are_not_downloaded_twice(kaggle, tmp_path):
    download_kaggle(tmp_path)
    download_kaggle(tmp_path)
    assert len(kaggle.calls) == 1


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


def test_a_broken_kaggle_download_goes_on_from_its_cache(kaggle, tmp_path):
    kaggle.error = ConnectionError("gone")
    with pytest.raises(InputError):
        download_kaggle(tmp_path)
    assert list(tmp_path.rglob("a.tif"))
    kaggle.error = None
    download_kaggle(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["train", "train_labels.csv"]


@pytest.mark.parametrize("before", [None, "/somewhere"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_the_environment_is_as_before(kaggle, tmp_path, monkeypatch, before, error):
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    if before:
        monkeypatch.setenv("KAGGLEHUB_CACHE", before)
    kaggle.error = error
    try:
        download_kaggle(tmp_path)
    except KeyboardInterrupt:
        pass
    assert os.environ.get("KAGGLEHUB_CACHE") == before


@pytest.mark.parametrize(
    "error, reason",
    [
        (requests.HTTPError("403 Client Error.\n\nYou don't have permission."), "(403 Client Error)"),
        (RuntimeError("User is not authenticated"), "(User is not authenticated)"),
        (ConnectionError(), "(ConnectionError)"),
    ],
)
def test_what_kaggle_refuses_is_said_with_what_to_do(kaggle, tmp_path, error, reason):
    kaggle.error = error
    with pytest.raises(InputError) as caught:
        download_kaggle(tmp_path)
    assert_sentence(caught, reason, "kagglehub.login()", "/competitions/histopathologic-cancer-detection/rules")


def test_a_disk_that_is_full_is_not_blamed_on_kaggle(kaggle, tmp_path):
    kaggle.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(InputError) as error:
        download_kaggle(tmp_path)
    assert_sentence(error, "disk is full", str(tmp_path))


def test_a_kaggle_download_without_labels_is_refused(kaggle, tmp_path):
    kaggle.labels = False
    with pytest.raises(InputError) as error:
        download_kaggle(tmp_path)
    assert_sentence(error, "train_labels.csv", str(tmp_path))


def test_without_kagglehub_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(InputError) as error:
        download_kaggle(tmp_path)
    assert_sentence(error, 'pip install "pcam-utils[kaggle]"')


def test_the_real_kagglehub_takes_its_cache_from_the_environment(monkeypatch, tmp_path):
    config = pytest.importorskip("kagglehub.config")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    assert config.get_cache_folder() == str(tmp_path)

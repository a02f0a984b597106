import errno
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest

from pcam_utils.errors import InputError, reason
from pcam_utils.files import replacing, require_place, require_room, sole_use, to_json, user_path, write_json


def test_the_file_appears_only_once_the_block_ends_well(tmp_path):
    path = tmp_path / "made" / "out.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["out.txt"]


def test_a_folder_appears_only_once_the_block_ends_well(tmp_path):
    path = tmp_path / "made" / "sample"
    with replacing(path, folder=True) as temporary:
        (temporary / "train").mkdir()
        (temporary / "train" / "a.tif").write_text("whole")
        assert not path.exists()
    assert (path / "train" / "a.tif").read_text() == "whole"
    assert os.listdir(path.parent) == ["sample"]


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_takes_the_place_of_an_empty_one_alone(tmp_path, empty):
    path = tmp_path / "sample"
    path.mkdir()
    if not empty:
        (path / "mine.txt").write_text("mine")

    def write():
        with replacing(path, folder=True) as temporary:
            (temporary / "a.txt").write_text("whole")

    if empty:
        write()
    else:
        with pytest.raises(InputError, match="sample could not be written"):
            write()
    assert os.listdir(path) == ["a.txt" if empty else "mine.txt"]
    assert os.listdir(tmp_path) == ["sample"]


def test_two_that_write_the_same_file_do_not_write_into_each_others(tmp_path):
    path = tmp_path / "out.txt"
    with replacing(path) as one, replacing(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert one.read_text() == "one"
    assert path.read_text() == "one"  # the last to end
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("folder", [False, True])
def test_the_content_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch, folder):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(os.fstat(handle).st_size), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *places: (done.append("renamed"), replace(*places)))
    with replacing(tmp_path / "out", folder=folder) as temporary:
        (temporary / "a.txt" if folder else temporary).write_text("whole")
    assert done == [5, "renamed"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("folder", [False, True])
def test_permissions_are_those_that_the_person_gives_new_files(tmp_path, folder):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "out", folder=folder) as temporary:
            if not folder:
                temporary.write_text("")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == (0o750 if folder else 0o640)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyError("a bug"), KeyboardInterrupt()])
@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, error, folder):
    path = tmp_path / "out.txt"
    path.mkdir() if folder else path.write_text("older")
    with pytest.raises((InputError, KeyError, KeyboardInterrupt)), replacing(path, folder=folder) as temporary:
        (temporary / "a.txt" if folder else temporary).write_text("half")
        raise error
    assert os.listdir(path) == [] if folder else path.read_text() == "older"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_full_disk_or_a_forbidden_place_is_one_sentence(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "several\nlines")

    monkeypatch.setattr(os, "replace", refuse)
    said = f"{tmp_path / 'out.json'} could not be written ({os.strerror(number)}); free some space or "
    with pytest.raises(InputError) as raised:
        write_json(tmp_path / "out.json", {})
    assert str(raised.value) == said + "choose another place."
    with pytest.raises(InputError) as raised, replacing(tmp_path / "out.json", instead="ask for help") as temporary:
        temporary.write_text("")
    assert str(raised.value) == said + "ask for help."
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size, said", [(2_000_000_000, "2.0 GB"), (3_000_001, "3 MB")])
def test_too_little_room_is_one_sentence_before_anything_is_written(tmp_path, monkeypatch, size, said):
    usage = {tmp_path: types.SimpleNamespace(free=3_000_000)}
    monkeypatch.setattr(shutil, "disk_usage", usage.get)  # asked about the folder that is there
    with pytest.raises(InputError) as raised:
        require_room(tmp_path / "not" / "yet", size)
    assert str(raised.value) == (
        f"{tmp_path / 'not' / 'yet'} needs {said} of free disk, but there are 3 MB; free some space or choose another "
        "place."
    )
    require_room(tmp_path / "not" / "yet", 3_000_000)


def test_a_place_that_is_no_folder_or_no_file_is_one_sentence(tmp_path):
    (tmp_path / "out.json").mkdir()
    (tmp_path / "a_file").write_text("")
    for path in (tmp_path / "out.json", tmp_path / "a_file" / "out.json"):
        with pytest.raises(InputError, match="could not be written"):
            write_json(path, {})
    assert sorted(os.listdir(tmp_path)) == ["a_file", "out.json"]


def test_json_is_read_back_as_it_was_written(tmp_path):
    content = {"auc": 0.9, "none": None, "name": "Gewebe ü"}
    write_json(tmp_path / "out.json", content)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == content


def test_reason_is_one_line_even_where_h5py_says_more():
    assert reason(OSError(errno.ENOSPC, "write failed: time = Mon\n, filename")) == os.strerror(errno.ENOSPC)
    assert reason(OSError("inflate failed\nmore")) == "inflate failed"
    assert reason(OSError()) == "unknown error"


# Places and locks ---------------------------------------------------------------------------------------------------


def test_a_place_is_tried_beforehand_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    require_place(tmp_path / "file")
    require_place(tmp_path / "new" / "deeper" / "file")
    require_place(tmp_path, folder=True)
    require_place(tmp_path / "new" / "folder", folder=True)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize(
    "place, folder, says",
    [
        ("", False, "Is a directory"),
        ("file/out.csv", False, "Not a directory"),
        ("file", True, "Not a directory"),
        ("x" * 300, False, "File name too long"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="words of the system")
def test_a_place_where_nothing_can_be_written_is_refused(tmp_path, place, folder, says):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"could not be written \({says}\); free some space or choose another place"):
        require_place(tmp_path / place, folder=folder)


def test_a_place_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # who runs the tests may be allowed to write everywhere
    with pytest.raises(InputError, match="Permission denied"):
        require_place(tmp_path / "out.csv")


HOLD = """
import sys
from pcam_utils.files import sole_use

with sole_use(sys.argv[1]):
    print("held", flush=True)
    input()
"""


def test_a_folder_is_one_processs_until_that_ends_however_it_ends(tmp_path):
    for end in ("let go", "kill"):
        command = [sys.executable, "-c", HOLD, tmp_path / "run"]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="Another process works in .*run; wait"), sole_use(tmp_path / "run"):
            pass
        holder.kill() if end == "kill" else holder.communicate("\n")
        holder.wait()
        with sole_use(tmp_path / "run"):
            (tmp_path / "run" / "made").touch()
        assert os.listdir(tmp_path / "run") == ["made"]
        holder.stdin.close(), holder.stdout.close()


def test_a_folder_that_nothing_was_put_into_is_gone_again(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        with pytest.raises(ZeroDivisionError), sole_use(tmp_path / name):
            raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["mine"] and not os.listdir(tmp_path / "mine")


def test_a_home_folder_that_is_not_known_is_said(monkeypatch):
    for name in ("HOME", "USERPROFILE", "HOMEPATH"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform != "win32":
        monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    with pytest.raises(InputError, match="begins with ~, but no such home folder is known here"):
        user_path("~/cache")


@pytest.mark.skipif(sys.platform == "win32", reason="has no umask")
@pytest.mark.parametrize("mask, mode", [(0o002, 0o664), (0o077, 0o600)])
def test_who_may_read_what_is_written_follows_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode


def test_json_knows_no_nan_and_takes_no_number_for_text():
    assert json.loads(to_json({"a": [math.nan, (1.5, math.inf)], "b": {"c": Path("x")}})) == {
        "a": [None, [1.5, None]],
        "b": {"c": "x"},
    }
    with pytest.raises(TypeError):
        to_json({"a": np.float32(0.5)})

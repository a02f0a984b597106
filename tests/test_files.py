import errno
import json
import os
import shutil
import stat
import types

import pytest

from pcam_utils.errors import InputError, reason
from pcam_utils.files import replacing, require_room, write_json


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

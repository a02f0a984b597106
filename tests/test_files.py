import errno
import json
import os

import pytest

from pcam_utils.errors import InputError, reason
from pcam_utils.files import replacing, write_json


def test_the_file_appears_only_once_the_block_ends_well(tmp_path):
    path = tmp_path / "made" / "out.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["out.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyError("a bug"), KeyboardInterrupt()])
def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "out.txt"
    path.write_text("older")
    with pytest.raises((InputError, KeyError, KeyboardInterrupt)), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_or_a_forbidden_place_is_one_sentence(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "several\nlines")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError) as raised:
        write_json(tmp_path / "out.json", {})
    assert str(raised.value) == (
        f"{tmp_path / 'out.json'} could not be written ({os.strerror(number)}); free some space or choose another place."
    )
    assert os.listdir(tmp_path) == []


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

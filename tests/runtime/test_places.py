import os
import sys
import types

import keras
import pytest
from helpers import ROOT

from pcam_utils import files
from pcam_utils.data.cache import cache_folder
from pcam_utils.errors import InputError
from pcam_utils.runtime.places import results_folder, version_line, versions


def test_versions_tell_what_decides_a_result():
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["keras"] == keras.__version__ and "cores" in found["machine"]


def test_versions_fit_on_one_line():
    assert f"Keras {keras.__version__} on {keras.backend.backend()}, NumPy" in version_line()


def test_lessons_find_and_keep_things_beside_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.delenv("PCAM_OUT", raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert results_folder().resolve() == tmp_path / "build" / "course" and results_folder().is_dir()
    assert find_sample(tmp_path) == tmp_path / "data" / "sample"
    monkeypatch.chdir(tmp_path)
    assert results_folder().resolve() == tmp_path / "build" / "course"
    monkeypatch.setenv("PCAM_OUT", str(tmp_path / "drive"))
    assert results_folder() == tmp_path / "drive"
    assert results_folder(str(tmp_path / "mine")) == tmp_path / "mine" and (tmp_path / "mine").is_dir()


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """Colab's folder for a Drive, before that is mounted; `mount()` mounts it."""
    monkeypatch.setattr(files, "DRIVE", tmp_path / "content" / "drive")
    ismount, mounted = os.path.ismount, []
    monkeypatch.setattr(os.path, "ismount", lambda path: path in mounted or ismount(path))
    return types.SimpleNamespace(path=files.DRIVE, mount=lambda: mounted.append(files.DRIVE))


def by_variable(place, monkeypatch, pcam):
    monkeypatch.setenv("PCAM_OUT", str(place))
    results_folder()


def by_name(place, monkeypatch, pcam):
    results_folder(place)


def by_a_link(place, monkeypatch, pcam):
    link = files.DRIVE.parents[1] / "link"
    link.symlink_to(files.DRIVE)
    results_folder(link / "MyDrive")


def from_where_it_lies(place, monkeypatch, pcam):
    files.DRIVE.parent.mkdir()
    monkeypatch.chdir(files.DRIVE.parent)
    results_folder("drive/MyDrive/pcam")


def by_a_cache(place, monkeypatch, pcam):
    monkeypatch.setenv("PCAM_CACHE", str(place))
    with files.replacing(cache_folder() / "packed.npy"):
        pass


def by_a_run(place, monkeypatch, pcam):
    from pcam_utils.training.run import train

    train(None, place)


def by_the_course(place, monkeypatch, pcam):
    from pcam_utils.lessons import find_lessons, run_lessons

    run_lessons(find_lessons(ROOT / "notebooks", ["00"]), place)


def by_a_submission(place, monkeypatch, pcam):
    from pcam_utils.evaluation.predictions import write_submission

    write_submission(place / "submission.csv", ["a"], [0.5])


def by_a_command(*words):
    def run(place, monkeypatch, pcam):
        result = pcam(*words[:-1], f"{words[-1]}{place}")
        if result.exit_code:
            raise InputError(result.stderr)

    return run


@pytest.mark.parametrize("write", [
    by_variable, by_name, by_a_link, from_where_it_lies, by_a_cache, by_a_run, by_the_course, by_a_submission,
    by_a_command("sample", ""), by_a_command("train", "--run="), by_a_command("course", "--out="),
    by_a_command("predict", "--out="), by_a_command("evaluate", "--out="), by_a_command("info", "--figure="),
    by_a_command("download", ""),
])  # fmt: skip
def test_nothing_is_written_on_a_drive_that_is_not_mounted_however_it_was_named(drive, monkeypatch, pcam, write):
    with pytest.raises(InputError, match="is on a Drive, but none is mounted: click the folder icon"):
        write(drive.path / "MyDrive" / "pcam.png", monkeypatch, pcam)
    assert not drive.path.exists()


def test_a_drive_that_is_mounted_is_a_place_like_others(drive):
    drive.mount()
    place = drive.path / "MyDrive" / "pcam"
    assert results_folder(place) == place and place.is_dir()
    files.write_json(place / "a.json", {})
    assert (place / "a.json").exists()


def find_sample(folder):
    from pcam_utils.data.sources import find_data

    (folder / "data" / "sample").mkdir(parents=True)
    (folder / "data" / "sample" / "images.txt").write_text("here")
    return find_data().resolve()

import sys

import keras
import pytest

from pcam_utils.errors import InputError
from pcam_utils.runtime import places
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
    monkeypatch.setattr(places, "DRIVE", tmp_path / "drive")
    with pytest.raises(InputError, match="no Drive is mounted"):
        results_folder()
    monkeypatch.setattr(places.os.path, "ismount", lambda path: path == tmp_path / "drive")
    assert results_folder() == tmp_path / "drive"


def find_sample(folder):
    from pcam_utils.data.sources import find_data

    (folder / "data" / "sample").mkdir(parents=True)
    (folder / "data" / "sample" / "images.txt").write_text("here")
    return find_data().resolve()

"""Holds the notebook that is copied into Kaggle to its promises: alone, and of one mind with the package."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest

from pcam_utils.model import build_model, load_model
from pcam_utils.predict import predict
from pcam_utils.shipped import FOLDER, WEIGHTS
from pcam_utils.simulate import write_sample
from pcam_utils.sources import open_data

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "20_kaggle_kernel.ipynb"
NAME = "histopathologic-cancer-detection"


def cells():
    return [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def run_until(marker, folder, out):
    """Run the notebook's cells, in order, up to the one that holds `marker`: what they have defined."""
    here = {}
    for cell in cells():
        exec(cell.source, here)
        if "parameters" in cell.metadata.get("tags", []):
            here.update(INPUT=folder, OUT=out)
        if marker in cell.source:
            return here
    raise AssertionError(marker)


@pytest.fixture(scope="module")
def attached(tmp_path_factory):
    """Factory of a folder as Kaggle's /kaggle/input: the competition in one of its two places, and our weights."""
    made = tmp_path_factory.mktemp("made")
    write_sample(made / NAME, layout="kaggle", sizes={"train": 32, "valid": 8, "test": 12})

    def attach(place):
        folder = tmp_path_factory.mktemp("input")
        shutil.copytree(made, folder / place, dirs_exist_ok=True)
        (folder / "weights").mkdir()
        shutil.copy(FOLDER / WEIGHTS, folder / "weights")
        return folder

    return attach


def test_it_needs_nothing_that_kaggle_lacks_and_no_internet():
    source = "\n".join(cell.source for cell in cells())
    assert not re.search(r"pcam_utils|imgaug|pip install|https?://|environ\[\"PCAM", source)
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.M))
    assert imported <= {"hashlib", "concurrent", "pathlib", "keras", "matplotlib", "numpy", "pandas", "tensorflow", "PIL", "sklearn"}


@pytest.mark.parametrize("place", [".", "competitions"])
def test_it_finds_the_competition_in_both_places(attached, place, tmp_path):
    found = run_until("folder = next(", attached(place), tmp_path)
    assert len(found["train"]) == 40 and len(found["test"]) == 12


def test_without_the_competition_it_says_what_to_click(tmp_path):
    with pytest.raises(AssertionError, match="attach it with Add Input"):
        run_until("folder = next(", tmp_path, tmp_path)


def test_it_builds_the_packages_network_and_gives_its_probabilities(attached, tmp_path):
    folder = attached("competitions")
    kernel = run_until("def four_views", folder, tmp_path)
    theirs = build_model(weights="none", head="average", say=lambda _: None)
    assert [w.shape for w in kernel["model"].weights] == [w.shape for w in theirs.weights]
    patches = open_data(folder / "competitions" / NAME).split("test")
    np.testing.assert_array_equal(kernel["test_images"], patches.images[:])
    np.testing.assert_allclose(
        kernel["four_views"](kernel["test_images"]),
        predict(load_model("pcam"), patches, tta="flips", progress=False),
        atol=1e-5,
    )


def test_its_changes_leave_the_centre_where_it_is(attached, tmp_path):
    kernel = run_until("def change", attached("."), tmp_path)
    patches = np.zeros((64, 96, 96, 3), np.uint8)
    patches[:, 40:56, 44:50] = 255  # brightest in the centre, and longer than wide
    changed = kernel["change"](patches, np.zeros((64, 1), np.float32))[0].numpy()
    assert changed.dtype == np.uint8 and np.all(changed[:, 46:50, 46:50] > 240)
    tall = (changed[:, 41, 47, 0] > 240).sum()
    assert 10 < tall < 54  # half of them turned
    assert (changed[:, :32] < 20).all()


def test_kaggle_is_told_which_notebook_and_which_competition():
    settings = json.loads((ROOT / "kaggle" / "kernel-metadata.json").read_text(encoding="utf-8"))
    assert (ROOT / "kaggle" / settings["code_file"]).resolve() == NOTEBOOK
    assert settings["competition_sources"] == [NAME] and settings["enable_internet"] is False
    address = re.search(r'Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    assert settings["id"].split("/")[0] == address.split("/")[-2]

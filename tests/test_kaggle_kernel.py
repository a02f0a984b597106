"""Holds the notebook that is copied into Kaggle to its promises: alone, and of one mind with the package."""

import ast
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import TWO_CPUS

from pcam_utils.data.sources import open_data
from pcam_utils.evaluation.predictions import predict
from pcam_utils.models.backbones import keras
from pcam_utils.models.networks import build_model, load_model
from pcam_utils.models.shipped import FOLDER, WEIGHTS
from pcam_utils.simulated.sample import write_sample

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "20_kaggle_kernel.ipynb"
NAME = "histopathologic-cancer-detection"


#: Two CPUs in the place of Kaggle's two GPUs; then the notebook, with a small network, until it has trained.
TWO_DEVICES = (
    TWO_CPUS["tensorflow"]
    + """
import sys
from pathlib import Path
import numpy as np
devices, Mirrored = tf.config.list_physical_devices, tf.distribute.MirroredStrategy
tf.config.list_physical_devices = lambda kind=None: ["one", "two"] if kind == "GPU" else devices(kind)
tf.distribute.MirroredStrategy = lambda: Mirrored(["CPU:0", "CPU:1"])
from test_kaggle_kernel import keras, run_until, small
keras.applications.NASNetMobile = small
kernel = run_until("training = np.median", Path(sys.argv[1]), Path(sys.argv[2]), minutes=1.5)
assert kernel["strategy"].num_replicas_in_sync == 2
kernel["model"].load_weights(kernel["best"])
kept = kernel["roc_auc_score"](kernel["y_valid"], kernel["predict"](kernel["x_valid"]))
assert abs(kept - max(kernel["clock"].scores)) < 1e-6, (kept, kernel["clock"].scores)
assert kernel["four_views"](np.resize(kernel["test_images"], (129, 96, 96, 3))).shape == (129,)
"""
)


def small(include_top, weights, input_shape):
    """A network in the place of NASNetMobile."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, strides=4)(inputs)
    return keras.Model(inputs, keras.layers.BatchNormalization()(x))


def cells():
    return [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def run_until(marker, folder, out, minutes=3):
    """Run the notebook's cells, in order, up to the one that holds `marker`: what they have defined."""
    here = {}
    for cell in cells():
        exec(cell.source, here)
        if "parameters" in cell.metadata.get("tags", []):
            here.update(INPUT=folder, OUT=out, MINUTES=minutes)
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
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {(getattr(node, "module", None) or name.name).split(".")[0] for node in imports for name in node.names}
    assert imported - set(sys.stdlib_module_names) == {
        "keras",
        "matplotlib",
        "numpy",
        "pandas",
        "tensorflow",
        "PIL",
        "sklearn",
    }


@pytest.mark.parametrize("place", [".", "competitions"])
def test_it_finds_the_competition_in_both_places(attached, place, tmp_path):
    found = run_until("folder = next(", attached(place), tmp_path)
    assert len(found["train"]) == 40 and len(found["test"]) == 12


def test_without_the_competition_it_says_what_to_click(tmp_path):
    with pytest.raises(AssertionError, match="on Kaggle, Add Input"):
        run_until("folder = next(", tmp_path, tmp_path)


@pytest.mark.slow
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
    kernel = run_until("class Change", attached("."), tmp_path)
    brightness = np.arange(64, dtype=np.uint8) + 100  # each patch its own: none may change places
    patches = np.zeros((64, 96, 96, 3), np.uint8)
    patches[:, 40:56, 44:50] = brightness[:, None, None, None]  # in the centre, and longer than wide
    patches[:, 40:44] //= 2  # and its upper end darker
    layer = kernel["Change"]()
    np.testing.assert_array_equal(layer(patches), patches)  # when predicting
    changed = np.asarray(layer(patches, training=True)).astype(float)
    ends = (changed[:, 47, 47].mean(axis=1), brightness)
    density, before = (-np.log10(np.maximum(values, 1) / 255) for values in ends)
    assert np.corrcoef(density, before)[0, 1] > 0.5 and (changed[:, :32] < 20).all()
    ways = {
        tuple(np.argsort([image[41, 47, 0], image[54, 47, 0], image[47, 41, 0], image[47, 54, 0]], kind="stable"))
        for image in changed
    }
    assert len(ways) == 4  # the bright end is above, below, left and right


@pytest.mark.slow
def test_the_whole_notebook_submits_and_stops_in_time(attached, tmp_path, monkeypatch):
    """With a small network in the place of NASNetMobile, and the clock's minutes for it."""
    monkeypatch.setattr(keras.applications, "NASNetMobile", small)
    folder = attached("competitions")
    shutil.rmtree(folder / "weights")
    minutes, begun = 1.2, time.monotonic()
    kernel = run_until("(estimate)", folder, tmp_path, minutes=minutes)
    assert time.monotonic() - begun < 60 * (
        minutes + 0.4
    )  # imports come before its clock starts, figures after the submission
    submission, sample = (
        pd.read_csv(path)
        for path in (tmp_path / "submission.csv", folder / "competitions" / NAME / "sample_submission.csv")
    )
    assert list(submission.columns) == ["id", "label"] and list(submission["id"]) == list(sample["id"])
    assert submission["label"].between(0, 1).all() and submission["label"].nunique() > 1
    assert len(kernel["clock"].scores) > 1 and (tmp_path / "best.weights.h5").exists()
    best = (tmp_path / "best.weights.h5").read_bytes()
    with pytest.raises(AssertionError, match="The time is over"):  # what a second run of its cell must not do is harm
        exec(next(cell.source for cell in cells() if "clock = Clock()" in cell.source), kernel)
    assert (tmp_path / "best.weights.h5").read_bytes() == best
    with pytest.raises(AssertionError, match="nothing is left to train"):
        run_until("(estimate)", folder, tmp_path, minutes=0.01)


@pytest.mark.slow
def test_two_devices_share_the_work_and_the_best_model_is_the_one_that_was_scored(attached, tmp_path):
    folder = attached("competitions")
    shutil.rmtree(folder / "weights")
    subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, folder, tmp_path], cwd=Path(__file__).parent, check=True, timeout=300
    )


def test_imagenets_weights_are_known_by_the_name_that_keras_gives_them(attached, tmp_path, monkeypatch):
    folder, loaded = attached("competitions"), []
    (folder / "mine").mkdir()
    (folder / "mine" / "nasnet_mobile_no_top.h5").touch()
    monkeypatch.setattr(keras.Model, "load_weights", lambda network, path: loaded.append(path))
    run_until("The start is", folder, tmp_path)
    assert loaded == [folder / "mine" / "nasnet_mobile_no_top.h5"]  # and not the course's, which are there, too


def test_kaggle_is_told_which_notebook_and_which_competition():
    settings = json.loads((ROOT / "kaggle" / "kernel-metadata.json").read_text(encoding="utf-8"))
    assert (ROOT / "kaggle" / settings["code_file"]).resolve() == NOTEBOOK
    assert settings["competition_sources"] == [NAME] and settings["enable_internet"] is False
    account, slug = settings["id"].split("/")
    assert slug == re.sub(r"\W+", "-", settings["title"].lower())  # Kaggle wants them to agree

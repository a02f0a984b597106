"""On real patches, where PCAM_REAL (official layout) and PCAM_REAL_KAGGLE (competition layout) name folders of them."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import read_csv
from sklearn.metrics import roc_auc_score

from pcam_utils.data.patches import content_hashes
from pcam_utils.data.sources import open_data
from pcam_utils.models import shipped

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.real
QUICK = ("--backbone", "SmallCNN", "--weights", "none", "--head", "average", "--epochs", "4")


def folder(variable):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no real patches")
    return Path(os.environ[variable]).absolute()


def test_official_files_hold_what_they_should():
    data = open_data(folder("PCAM_REAL"))
    assert data.layout == "pcam" and set(data.splits) == {"train", "valid", "test"} and not data.simulated
    hashes = [set(content_hashes(patches)) for patches in data.splits.values()]
    assert not hashes[0] & hashes[1] and not hashes[0] & hashes[2] and not hashes[1] & hashes[2]
    mean = data.split("valid").images[:].mean(axis=(0, 1, 2))
    assert mean[0] > mean[2] > mean[1]  # tissue stained with H&E: red, then blue, then green


def test_kaggle_images_are_what_their_names_promise():
    data = open_data(folder("PCAM_REAL_KAGGLE"))  # refuses a wrong SHA-1
    assert data.layout == "kaggle" and all(patches.content_ids for patches in data.splits.values())
    assert data.split("test").labels is None


def test_official_patches_from_training_to_test_scores(pcam, tmp_path):
    data, run = folder("PCAM_REAL"), tmp_path / "run"
    assert pcam("train", data, "--run", run, *QUICK).exit_code == 0
    # Scored on 'valid': 'test' is looked at only to report.
    result = pcam("evaluate", data, "--run", run, "--split", "valid", "--tta", "d4", "--json")
    metrics = json.loads(result.stdout)
    assert metrics["auc_low"] > 0.6 and not metrics["simulated"]


def test_the_packages_own_model_knows_real_tissue(pcam):
    result = pcam("evaluate", folder("PCAM_REAL"), "--split", "valid", "--json")
    metrics = json.loads(result.stdout)
    assert metrics["model"] == "pcam" and metrics["auc_low"] > 0.85
    assert "look like ones" not in result.stderr


def test_patches_that_it_was_trained_on_are_recognised(pcam):
    assert (
        "look like ones that the weights 'pcam' were trained on"
        in pcam("evaluate", folder("PCAM_REAL"), "--split", "train", "--tta", "none").stderr
    )


def score_submission(path):
    """AUC of a submission that holds each test image once, in the order of the sample."""
    submission, sample, solution = (
        {row["id"]: float(row["label"]) for row in read_csv(file)}
        for file in (path, folder("PCAM_REAL_KAGGLE") / "sample_submission.csv", folder("PCAM_REAL_SOLUTION"))
    )
    assert list(submission) == list(sample)
    return roc_auc_score([solution[i] for i in submission], list(submission.values()))


def test_kaggle_submission_is_complete_and_scores_above_chance(pcam, tmp_path):
    data, run = folder("PCAM_REAL_KAGGLE"), tmp_path / "run"
    assert pcam("train", data, "--run", run, *QUICK).exit_code == 0
    assert pcam("predict", data, "--run", run, "--out", tmp_path / "s.csv").exit_code == 0
    assert score_submission(tmp_path / "s.csv") > 0.6


def test_the_kaggle_notebook_submits_in_time(tmp_path):
    """With the course's weights attached, as a data set of one's own."""
    data = folder("PCAM_REAL_KAGGLE")
    (tmp_path / "input" / "competitions").mkdir(parents=True)
    (tmp_path / "input" / "competitions" / "histopathologic-cancer-detection").symlink_to(data)
    (tmp_path / "input" / "weights").mkdir()
    shutil.copy(shipped.FOLDER / shipped.WEIGHTS, tmp_path / "input" / "weights")
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, ROOT / "kaggle" / "run.py", tmp_path / "input", tmp_path / "out", "--minutes", "4"], check=True
    )
    assert time.monotonic() - begun < 5 * 60  # the kernel's own start, and its end, come on top
    assert score_submission(tmp_path / "out" / "submission.csv") > 0.8

import re
import tempfile

import numpy as np
import pytest
from helpers import read_csv

from pcam_utils.cli import scoring
from pcam_utils.cli.scoring import all_alike, as_table, colour_patches, keep, overlap, score_colour
from pcam_utils.data.sources import open_data
from pcam_utils.errors import InputError
from pcam_utils.evaluation.metrics import evaluate


@pytest.mark.parametrize("record", [{"name": "pcam"}, {"settings": {"weights": "pcam"}}])
def test_patches_that_the_packages_model_was_trained_on_are_warned_of(monkeypatch, pcam_folder, record):
    patches = open_data(pcam_folder()).split("test")
    monkeypatch.setattr(scoring.shipped, "seen_in_training", lambda p: np.arange(len(p)) < 3)
    assert overlap(patches, record).startswith("3 of these 12 patches look like ones")
    assert overlap(patches, {"settings": {"weights": "none"}}) is None
    monkeypatch.setattr(scoring.shipped, "seen_in_training", lambda p: np.zeros(len(p), bool))
    assert overlap(patches, record) is None


def test_colour_is_learned_from_training_patches_that_are_not_scored(pcam_folder, monkeypatch):
    import pcam_utils.evaluation.baseline as baseline

    asked = {}

    def guess(train_images, train_labels, images, *, seed):
        asked["train"] = len(train_labels)
        return np.arange(len(images)) / len(images)

    monkeypatch.setattr(baseline, "colour_scores", guess)
    data = open_data(pcam_folder(n=60))
    scored = data.split("train").take(np.arange(10))
    found = score_colour(colour_patches(data.split("train"), scored), scored, np.linspace(0, 1, 10))
    assert asked["train"] == 50
    assert found["difference"] == pytest.approx(0, abs=1e-9)  # the same order, so the same AUC


def test_too_few_patches_to_learn_colour_from_are_refused_before_the_work(pcam_folder):
    data = open_data(pcam_folder(n=12))
    with pytest.raises(InputError, match="Colour cannot be learned from 12 training patches: give 40 or more"):
        colour_patches(data.split("train"), data.split("test"))
    with pytest.raises(InputError, match="The train split holds no patches, and both classes are needed"):
        colour_patches(data.split("train"), data.split("train"))


def test_predictions_whose_place_fails_in_the_end_are_kept_among_the_temporary_files(
    pcam_folder, tmp_path, monkeypatch
):
    patches = open_data(pcam_folder()).split("test")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="taken could not be written .*; the predictions are in ") as caught:
        keep(tmp_path / "taken", patches, np.linspace(0, 1, 12))
    spare = re.search(r"the predictions are in (.*)\.$", str(caught.value))[1]
    assert [row["id"] for row in read_csv(spare)] == patches.ids.tolist()


def test_a_model_that_tells_nothing_apart_is_named():
    assert all_alike(np.full(12, 0.25)) == "The model gives 0.25 for all 12 patches: it tells none apart."
    assert all_alike(np.linspace(0, 1, 12)) is None
    assert all_alike(np.full(1, 0.25)) is None


def test_the_table_says_what_was_scored_and_where_it_was_left():
    point = {"threshold": 0.5, "sensitivity": 0.8, "specificity": 0.9}
    metrics = {
        "patches": 1200,
        "positives": 600,
        "split": "test",
        "simulated": True,
        "tta": "d4",
        "auc": 0.9,
        "auc_low": 0.85,
        "auc_high": 0.95,
        "operating_points": {"chosen_on_valid": point},
    }
    assert as_table(metrics, "out").splitlines() == [
        "1,200 simulated patches of 'test', 600 with tumour, TTA d4",
        "  network       AUC 0.900   95 % interval 0.850 to 0.950",
        "  threshold 0.500 (chosen on valid): sensitivity 0.800, specificity 0.900",
        "  out/metrics.json",
        "  out/roc.png",
        "  out/predictions.csv",
        "Not for diagnosis.",
    ]


def test_the_table_says_in_place_of_an_interval_why_there_is_none():
    found = evaluate([0, 1] * 20, np.linspace(0, 1, 40), slides=np.repeat(["a", "b"], 20))
    lines = as_table({**found, "split": "test", "simulated": False, "tta": "none"}).splitlines()
    assert lines[1].endswith("   no interval")
    assert lines[2] == "  interval: none: 2 slides without tumour and 2 with it, but 6 of each are needed"

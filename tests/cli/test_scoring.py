import numpy as np
import pytest

from pcam_utils.cli import scoring
from pcam_utils.cli.scoring import as_table, overlap, score_colour
from pcam_utils.data.sources import open_data


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
    data = open_data(pcam_folder(n=40))
    scored = data.split("train").take(np.arange(10))
    found = score_colour(data, scored, np.linspace(0, 1, 10))
    assert asked["train"] == 30
    assert found["difference"] == pytest.approx(0, abs=1e-9)  # the same order, so the same AUC


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

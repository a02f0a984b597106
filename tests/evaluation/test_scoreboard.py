"""The scoreboard: a lesson replaces its own rows, and only rows on the same patches stand side by side."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pcam_utils.data.patches import Patches, Rows
from pcam_utils.errors import InputError
from pcam_utils.evaluation import Scoreboard, auc_difference, auc_interval

LABELS = np.tile([0, 1], 60).astype(np.uint8)
SLIDES = np.repeat(np.arange(20), 6).astype(str)


@pytest.fixture
def judged():
    images = Rows(np.zeros((120, 96, 96, 3), np.uint8))
    return Patches(images, np.arange(120).astype(str), LABELS, SLIDES, name="test", simulated=True)


def guess(seed, strength=1.0):
    return np.random.default_rng(seed).normal(size=120) + strength * LABELS


def test_scores_and_intervals_are_those_of_the_metrics(judged, tmp_path):
    board = Scoreboard("01", judged, tmp_path)
    said = board.add("colour alone", guess(0))
    low, high = auc_interval(LABELS, guess(0), groups=SLIDES)
    row = board.rows().iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-6)
    assert said == f"colour alone: AUC {row['auc']:.3f} ({low:.3f} to {high:.3f})"
    board.add("network", guess(1, 2))
    difference = auc_difference(LABELS, guess(1, 2), guess(0), groups=SLIDES)
    assert board.gain("network", "colour alone") == (
        "network minus colour alone: {:+.3f} ({:+.3f} to {:+.3f})".format(*difference)
    )


def test_a_lesson_replaces_its_own_rows_and_keeps_the_others(judged, tmp_path):
    Scoreboard("01", judged, tmp_path).add("colour alone", guess(0))
    first = Scoreboard("02", judged, tmp_path)
    first.add("an old name", guess(1))
    first.add("another", guess(2))
    again = Scoreboard("02", judged, tmp_path)
    again.add("network", guess(3))
    again.add("network", guess(4))
    rows = again.rows()
    assert rows[["lesson", "name"]].to_numpy().tolist() == [["01", "colour alone"], ["02", "network"]]
    assert rows["auc"][1] == pytest.approx(roc_auc_score(LABELS, guess(4)), abs=1e-6)


def test_rows_of_other_patches_are_kept_but_not_shown_beside_these(judged, tmp_path):
    Scoreboard("01", judged, tmp_path).add("colour alone", guess(0))
    half = judged.take(slice(0, 90))
    board = Scoreboard("01", half, tmp_path)
    board.add("colour alone", guess(0)[:90])
    assert len(board.rows()) == 1 and board.rows()["data"][0].startswith("90 simulated patches of test of 15 slides (")
    assert len(Scoreboard("02", judged, tmp_path).rows()) == 1


def test_the_figure_shows_every_row_and_the_bar_of_colour(judged, tmp_path):
    Scoreboard("01", judged, tmp_path).add("colour alone", guess(0))
    board = Scoreboard("02", judged, tmp_path)
    board.add("network", guess(1, 2))
    ax = board.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["01 · colour alone", "02 · network"]
    assert any(line.get_xdata() == [board.rows()["auc"][0]] * 2 for line in ax.lines if len(line.get_xdata()) == 2)


def test_where_there_are_too_few_slides_no_interval_is_said(judged, tmp_path):
    few = judged.take(slice(0, 12))
    said = Scoreboard("01", few, tmp_path).add("colour alone", guess(0)[:12])
    assert said.endswith("(no interval: too few slides)")


def test_patches_without_labels_are_refused(judged, tmp_path):
    with pytest.raises(InputError, match="no labels"):
        Scoreboard("01", Patches(judged.images, judged.ids), tmp_path)

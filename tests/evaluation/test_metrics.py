import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pcam_utils.errors import InputError
from pcam_utils.evaluation.metrics import (
    _ranked,
    _weighted_auc,
    auc_difference,
    auc_interval,
    choose_threshold,
    evaluate,
    operating_point,
)


def scores(n=400, separation=1.0, seed=0, digits=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    logits = rng.normal(labels * separation)
    return labels, np.round(1 / (1 + np.exp(-logits)), digits)  # rounded, so that there are ties


patch = st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.500001, 1.0]), st.integers(0, 4))


@settings(deadline=None, database=None)
@given(st.lists(patch, min_size=2, max_size=40))
def test_weighted_auc_is_scikit_learns_also_with_ties_and_patches_that_were_not_drawn(patches):
    labels, probabilities, weights = map(np.array, zip(*patches))
    assume(len(set(labels)) == 2)
    found = _weighted_auc(*_ranked(labels, probabilities), weights)
    if len(set(labels[weights > 0])) < 2:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(labels, probabilities, sample_weight=weights), abs=1e-12)


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("size", [1, 5])
def test_interval_is_that_of_a_plain_bootstrap(level, size):
    labels, probabilities = scores(60)
    groups, rng, drawn = np.arange(60) // size, np.random.default_rng(3), []
    for _ in range(50):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in rng.integers(0, 60 // size, 60 // size)])
        drawn.append(roc_auc_score(labels[rows], probabilities[rows]))
    expected = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    found = auc_interval(labels, probabilities, groups=groups if size > 1 else None, level=level, draws=50, seed=3)
    assert found == pytest.approx(expected)


def test_interval_covers_the_true_auc_about_as_often_as_it_says():
    true = 0.7602499  # of two normal distributions one standard deviation apart: Phi(1 / sqrt(2))
    covered = 0
    for seed in range(100):
        low, high = auc_interval(*scores(300, seed=seed, digits=9), draws=300)
        covered += low <= true <= high
    assert 88 <= covered <= 100


def test_drawing_whole_slides_widens_the_interval_where_slides_differ():
    rng = np.random.default_rng(0)
    slides = np.repeat(np.arange(12), 40)
    labels = np.tile([0, 1], 240)
    probabilities = rng.normal(labels * np.repeat(rng.uniform(-1, 3, 12), 40))
    low, high = auc_interval(labels, probabilities)
    low_slides, high_slides = auc_interval(labels, probabilities, groups=slides)
    assert high_slides - low_slides > 1.5 * (high - low)


def test_operating_point_counts_by_hand():
    point = operating_point([0, 0, 0, 1, 1], [0.1, 0.5, 0.9, 0.5, 0.4], 0.5)
    assert point == {
        "threshold": 0.5, "sensitivity": 0.5, "specificity": pytest.approx(1 / 3),
        "true_positives": 1, "false_negatives": 1, "true_negatives": 1, "false_positives": 2,
    }  # fmt: skip


def test_chosen_threshold_has_the_largest_sum_of_sensitivity_and_specificity():
    labels, probabilities = scores()
    points = [operating_point(labels, probabilities, at) for at in np.unique(probabilities)]
    best = max(p["sensitivity"] + p["specificity"] for p in points)
    chosen = operating_point(labels, probabilities, choose_threshold(labels, probabilities))
    assert chosen["sensitivity"] + chosen["specificity"] == pytest.approx(best)


def test_evaluate_gives_the_whole_picture_and_says_what_was_drawn():
    labels, probabilities = scores()
    slides = np.arange(len(labels)) // 20
    metrics = evaluate(labels, probabilities, slides=slides, thresholds={"chosen": 0.3})
    assert set(metrics) == {
        "auc", "auc_low", "auc_high", "interval", "calibration_error", "patches", "positives", "slides",
        "operating_points",
    }  # fmt: skip
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels, probabilities))
    assert metrics["auc_low"] < metrics["auc"] < metrics["auc_high"]
    assert "slides" in metrics["interval"] and metrics["slides"] == 20
    assert set(metrics["operating_points"]) == {"half", "chosen"}
    assert "patches" in evaluate(labels, probabilities)["interval"]


def test_one_class_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="both classes"):
        auc_interval([1, 1], [0.2, 0.3])


def test_other_numbers_of_labels_and_probabilities_are_refused_in_a_sentence():
    with pytest.raises(InputError, match="4 and 3 were given"):
        auc_difference([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], [0.1, 0.9, 0.2])


def test_paired_difference_is_that_of_the_aucs_and_narrower_than_unpaired():
    labels, probabilities = scores(digits=9)
    worse = probabilities + np.random.default_rng(5).normal(0, 0.05, len(labels))
    difference, low, high = auc_difference(labels, probabilities, worse)
    assert difference == pytest.approx(roc_auc_score(labels, probabilities) - roc_auc_score(labels, worse))
    assert low < difference < high
    own_low, own_high = auc_interval(labels, probabilities)
    assert high - low < 0.5 * (own_high - own_low)
    assert auc_difference(labels, worse, worse) == (0, 0, 0)


def test_an_interval_needs_six_slides_of_each_class():
    """Two slides, one of each class: each draw that has both gives the same AUC, and the interval would be a point."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    scores = labels + rng.normal(size=120)
    few = {
        "two slides": np.repeat(["a", "b"], 60),
        "one slide of each class": np.where(labels, "a", "b"),
        "tumour on five slides": np.where(labels, np.arange(120) // 2 % 5, 10 + np.arange(120)).astype(str),
        "one slide": np.repeat("a", 120),
    }
    for slides in few.values():
        found = evaluate(labels, scores, slides=slides)
        assert found["interval"].startswith("none: ") and np.isnan([found["auc_low"], found["auc_high"]]).all()
        assert found["auc"] == roc_auc_score(labels, scores)
        difference, *ends = auc_difference(labels, scores, -scores, groups=slides)
        assert difference > 0 and np.isnan(ends).all()
    six = np.repeat(list("abcdef"), 20)
    assert evaluate(labels, scores, slides=six)["interval"] == "95 % bootstrap, whole slides drawn"
    assert np.isfinite(auc_interval(labels, scores, groups=six)).all()
    assert np.isnan(auc_interval([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], np.arange(10))).all()

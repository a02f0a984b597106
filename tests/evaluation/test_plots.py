import matplotlib.pyplot as plt
import numpy as np
import pytest

from pcam_utils.data.patches import Patches, Rows
from pcam_utils.evaluation.plots import plot_history, plot_patches, plot_precision_recall, plot_roc


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    return labels, rng.normal(labels)


POINT = {"threshold": 0.4, "sensitivity": 0.9, "specificity": 0.8}


def test_roc_shows_no_interval_where_there_is_none(scored):
    ax = plot_roc(*scored, name="network", interval=(np.nan, np.nan))
    assert "interval" not in ax.get_legend().get_texts()[0].get_text()


def test_roc_shows_auc_interval_and_operating_point(scored):
    ax = plot_roc(*scored, name="network", interval=(0.71, 0.83), point=POINT)
    legend = " ".join(text.get_text() for text in ax.get_legend().get_texts())
    assert "0.710 to 0.830" in legend and "sensitivity 0.90, specificity 0.80" in legend and "AUC 0.7" in legend
    marker = ax.get_lines()[-1]
    assert (marker.get_xdata()[0], marker.get_ydata()[0]) == (pytest.approx(0.2), 0.9)


HISTORY = [{"epoch": e, "loss": 1 / e, "val_loss": 1 / e, "val_auc": 0.5 + e / 10} for e in (1, 2)]


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_stands_on_every_figure_that_shows_simulated_patches(scored, random_patches, simulated):
    patches = Patches(Rows(random_patches(3)), np.arange(3).astype(str), np.array([0, 1, 1]), simulated=simulated)
    for ax in (
        plot_roc(*scored, simulated=simulated),
        plot_precision_recall(*scored, simulated=simulated),
        plot_history(HISTORY, simulated=simulated),
        plot_patches(patches),
    ):
        assert ("simulated" in ax.get_title()) == simulated


def test_plots_draw_where_they_are_told(scored):
    for plot, arguments in ((plot_roc, scored), (plot_precision_recall, scored), (plot_history, (HISTORY,))):
        _, ax = plt.subplots()
        assert plot(*arguments, ax=ax) is ax and ax.get_lines()


def test_the_legend_of_patches_names_the_classes(random_patches):
    patches = Patches(Rows(random_patches(2)), np.arange(2).astype(str), np.array([0, 1]))
    for chosen, first in (({}, "no tumour in the centre (0)"), ({"classes": ("moss", "fern")}, "moss (0)")):
        assert plot_patches(patches, **chosen).get_legend().get_texts()[0].get_text() == first


def test_patches_show_unchanged_pixels_and_the_centre_that_decides(random_patches):
    images = random_patches(3)
    ax = plot_patches(Patches(Rows(images), np.arange(3).astype(str), np.array([0, 1, 1])), columns=2)
    canvas = ax.get_images()[0].get_array()
    assert np.array_equal(canvas[:96, :96], images[0]) and np.array_equal(canvas[100:196, :96], images[2])
    assert [(box.get_x(), box.get_y(), box.get_width()) for box in ax.patches] == [
        (32, 32, 32),
        (132, 32, 32),
        (32, 132, 32),
    ]

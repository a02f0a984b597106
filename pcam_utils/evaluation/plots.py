"""Figures for the lessons and the command line; each takes `ax=None` and returns the axes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from ..data.patches import CENTRE

#: Okabe and Ito's palette (jfly.uni-koeln.de/color): told apart with any colour vision.
COLOURS = {0: "#0072B2", 1: "#D55E00", "chance": "#999999"}


def plot_roc(labels, probabilities, *, name=None, interval=None, point=None, simulated=False, ax=None):
    """Draw a ROC curve, with its AUC and, where given, its interval and an operating point.

    Parameters
    ----------
    labels : (N,) int
    probabilities : (N,) float
    name : str, optional
        Of the model, for the legend.
    interval : (float, float), optional
        Ends of the AUC's 95 % interval.
    point : dict, optional
        From `pcam_utils.evaluation.metrics.operating_point`.
    simulated : bool
        Say in the title that the patches are simulated.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    display = RocCurveDisplay.from_predictions(labels, probabilities, name=name, ax=ax)
    display.line_.set_color(COLOURS[1])
    label = f"{name or 'model'}: AUC {display.roc_auc:.3f}"
    display.line_.set_label(label + (f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""))
    ax.plot([0, 1], [0, 1], "--", color=COLOURS["chance"], label="chance: AUC 0.5")
    if point:
        ax.plot(1 - point["specificity"], point["sensitivity"], "o", color=COLOURS[0], label=_point_label(point))
    ax.set(xlabel="1 − specificity (false alarms)", ylabel="sensitivity (tumour found)", title=_title("ROC", simulated))
    ax.legend(loc="lower right", fontsize="small")
    return ax


def plot_precision_recall(labels, probabilities, *, name=None, simulated=False, ax=None):
    """Draw a precision-recall curve with its average precision; see `plot_roc`."""
    ax = _axes(ax)
    display = PrecisionRecallDisplay.from_predictions(labels, probabilities, name=name, ax=ax)
    display.line_.set_color(COLOURS[1])
    ax.set(xlabel="sensitivity (recall)", ylabel="precision", title=_title("Precision and recall", simulated))
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(loc="lower left", fontsize="small")
    return ax


def plot_history(history, *, simulated=False, ax=None):
    """Draw training and validation loss, and the validation AUC, over the epochs of a run.

    Parameters
    ----------
    history : list of dict
        Rows of a run's history.csv: epoch, loss, val_loss, val_auc.
    simulated : bool
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    epochs = [int(row["epoch"]) for row in history]
    ax.plot(epochs, [float(row["loss"]) for row in history], "o-", color=COLOURS[0], label="training loss")
    ax.plot(epochs, [float(row["val_loss"]) for row in history], "s--", color=COLOURS[0], label="validation loss")
    ax.set(xlabel="epoch", ylabel="cross-entropy", title=_title("Training", simulated))
    ax.xaxis.get_major_locator().set_params(integer=True)
    right = ax.twinx()
    right.plot(epochs, [float(row["val_auc"]) for row in history], "^-", color=COLOURS[1], label="validation AUC")
    right.set_ylabel("AUC", color=COLOURS[1])
    lines = [line for axes in (ax, right) for line in axes.get_lines()]
    right.legend(lines, [line.get_label() for line in lines], loc="upper center", fontsize="small")
    return ax


def plot_patches(patches, *, columns=8, ax=None):
    """Show patches in a grid, the centre 32×32 that decides the label outlined in the colour of its class.

    Parameters
    ----------
    patches : Patches
        Few: all of them are read.
    columns : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    rows = -(-len(patches) // columns)
    gap, size = 4, patches.images.shape[1]
    canvas = np.full((rows * (size + gap), columns * (size + gap), 3), 255, np.uint8)
    ax = _axes(ax, figsize=(columns * 1.1, rows * 1.1 + 0.8))
    for place, image in enumerate(patches.images[:]):
        top, left = place // columns * (size + gap), place % columns * (size + gap)
        canvas[top : top + size, left : left + size] = image
        if patches.labels is not None:
            colour = COLOURS[int(patches.labels[place])]
            corner, side = (left + CENTRE.start, top + CENTRE.start), CENTRE.stop - CENTRE.start
            ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=1.5))
    ax.imshow(canvas)
    ax.set_axis_off()
    if patches.labels is not None:
        handles = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=COLOURS[label]) for label in (0, 1)]
        names = ("no tumour in the centre (0)", "tumour in the centre (1)")
        ax.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, fontsize="small")
    ax.set_title("Patches (simulated)" if patches.simulated else "Patches")
    return ax


def _axes(ax, **kwargs):
    return plt.subplots(layout="constrained", **kwargs)[1] if ax is None else ax


def _title(what, simulated):
    return f"{what} (simulated patches)" if simulated else what


def _point_label(point):
    return (
        f"threshold {point['threshold']:.2f}: sensitivity {point['sensitivity']:.2f}, "
        f"specificity {point['specificity']:.2f}"
    )

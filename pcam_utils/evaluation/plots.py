"""Figures for the lessons and the command line; each takes `ax=None` and returns the axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from ..data.patches import CENTRE, Patches

#: Okabe and Ito's palette (jfly.uni-koeln.de/color), which people with any colour vision can tell apart.
COLOURS: dict[int | str, str] = {0: "#0072B2", 1: "#D55E00", "chance": "#999999"}


def plot_roc(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    name: str | None = None,
    interval: tuple[float, float] | None = None,
    point: Mapping[str, float] | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw a ROC curve, with its AUC and, where given, its interval and an operating point.

    Parameters
    ----------
    labels : (N,) int
    probabilities : (N,) float
    name : str, optional
        Of the model, for the legend.
    interval : (float, float), optional
        Ends of the AUC's 95 % interval; nan if there is none.
    point : dict, optional
        From `pcam_utils.evaluation.metrics.operating_point`.
    simulated : bool
        Say in the title that the patches are simulated.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> ax = plot_roc([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], name="network")
    >>> ax.get_legend().get_texts()[0].get_text()
    'network: AUC 0.750'
    """
    ax = make_axes(ax)
    display = RocCurveDisplay.from_predictions(labels, probabilities, name=name, ax=ax)
    display.line_.set_color(COLOURS[1])
    low, high = interval or (np.nan, np.nan)
    label = f"{name or 'model'}: AUC {display.roc_auc:.3f}"
    display.line_.set_label(label + (f" (95 % interval {low:.3f} to {high:.3f})" if np.isfinite(low) else ""))
    ax.plot([0, 1], [0, 1], "--", color=COLOURS["chance"], label="chance: AUC 0.5")
    if point:
        ax.plot(1 - point["specificity"], point["sensitivity"], "o", color=COLOURS[0], label=_point_label(point))
    ax.set(xlabel="1 − specificity (false alarms)", ylabel="sensitivity (tumour found)", title=_title("ROC", simulated))
    ax.legend(loc="lower right", fontsize="small")
    return ax


def plot_precision_recall(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    name: str | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw a precision-recall curve with its average precision.

    Parameters
    ----------
    labels, probabilities, name, simulated, ax
        See `plot_roc`.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> plot_precision_recall([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]).get_xlabel()
    'sensitivity (recall)'
    """
    ax = make_axes(ax)
    display = PrecisionRecallDisplay.from_predictions(labels, probabilities, name=name, ax=ax)
    display.line_.set_color(COLOURS[1])
    ax.set(xlabel="sensitivity (recall)", ylabel="precision", title=_title("Precision and recall", simulated))
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(loc="lower left", fontsize="small")
    return ax


def plot_history(history: Sequence[Mapping[str, Any]], *, simulated: bool = False, ax: Axes | None = None) -> Axes:
    """Draw training and validation loss, and the validation AUC, over the epochs of a run.

    Parameters
    ----------
    history : list of dict
        Rows of a run's history.csv: epoch, loss, val_loss, val_auc.
    simulated : bool
        Say in the title that the patches are simulated.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> rows = [{"epoch": 1, "loss": 0.6, "val_loss": 0.6, "val_auc": 0.8}]
    >>> plot_history(rows, simulated=True).get_title()
    'Training (simulated patches)'
    """
    ax = make_axes(ax)
    epochs = [int(row["epoch"]) for row in history]
    ax.plot(epochs, [float(row["loss"]) for row in history], "o-", color=COLOURS[0], label="training loss")
    ax.plot(epochs, [float(row["val_loss"]) for row in history], "s--", color=COLOURS[0], label="validation loss")
    ax.set(xlabel="epoch", ylabel="cross-entropy", title=_title("Training", simulated))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    right = ax.twinx()
    right.plot(epochs, [float(row["val_auc"]) for row in history], "^-", color=COLOURS[1], label="validation AUC")
    right.set_ylabel("AUC", color=COLOURS[1])
    lines = [line for axes in (ax, right) for line in axes.get_lines()]
    right.legend(handles=lines, loc="upper center", fontsize="small")
    return ax


def plot_patches(
    patches: Patches,
    *,
    classes: Sequence[str] = ("no tumour in the centre", "tumour in the centre"),
    columns: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """Show patches in a grid. The centre 32×32, which decides the label, is outlined in the colour of its class.

    Parameters
    ----------
    patches : Patches
        Few: all of them are read.
    classes : (str, str)
        What the labels 0 and 1 mean, for the legend: `Data.classes`.
    columns : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> from pcam_utils.data.patches import Rows
    >>> plot_patches(Patches(Rows(np.zeros((2, 96, 96, 3), "uint8")), np.array(["a", "b"]))).get_title()
    'Patches'
    """
    rows = -(-len(patches) // columns)
    gap, size = 4, patches.images.shape[1]
    canvas = np.full((rows * (size + gap), columns * (size + gap), 3), 255, np.uint8)
    ax = make_axes(ax, figsize=(columns * 1.1, rows * 1.1 + 0.8))
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
        names = [f"{name} ({label})" for label, name in enumerate(classes)]
        ax.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, fontsize="small")
    ax.set_title("Patches (simulated)" if patches.simulated else "Patches")
    return ax


def make_axes(ax: Any, **kwargs: Any) -> Any:
    """Give back the axes, or make those of a new figure."""
    return plt.subplots(layout="constrained", **kwargs)[1] if ax is None else ax


def _title(what: str, simulated: bool) -> str:
    return f"{what} (simulated patches)" if simulated else what


def _point_label(point: Mapping[str, float]) -> str:
    return (
        f"threshold {point['threshold']:.2f}: sensitivity {point['sensitivity']:.2f}, "
        f"specificity {point['specificity']:.2f}"
    )

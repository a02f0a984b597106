"""Figures without a screen: drawn by Agg, whatever backend the shell or a notebook asks matplotlib for."""

from __future__ import annotations

from os import PathLike
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import replacing


def blank(*, columns: int = 1, size: tuple[float, float] = (6.4, 4.8)) -> tuple[Figure, Any]:
    """Make an empty figure, `size` in inches, that pyplot knows nothing of: nothing global is set, nothing stays open.

    Returns
    -------
    matplotlib.figure.Figure, matplotlib.axes.Axes or (columns,) array of them
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def save(figure: Figure, path: str | PathLike[str]) -> None:
    """Save a figure, whole or not at all; the suffix of `path` says how."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)

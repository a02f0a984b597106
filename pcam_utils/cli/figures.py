"""Draws figures without a screen, always in this package's style, whatever a user's settings of matplotlib say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import replacing


@contextmanager
def drawing(path: str | PathLike[str], *, columns: int = 1, size: tuple[float, float] = (6.4, 4.8)) -> Iterator[Any]:
    """Give empty axes, and save what is drawn in them, whole or not at all. The suffix of `path` says in which format.

    Pyplot knows nothing of the figure: nothing global is set, nothing stays open.

    Parameters
    ----------
    path : path
    columns : int
    size : (float, float)
        Of the figure, inches.

    Yields
    ------
    matplotlib.axes.Axes or (columns,) array of them
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a matplotlibrc may ask for TeX, which may not be there
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.subplots(1, columns)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150)

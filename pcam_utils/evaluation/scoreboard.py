"""The scoreboard of lessons 01 to 05: it has one row for each model, and all are judged on the same patches."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from ..data.patches import Patches
from ..files import replacing
from ..runtime.places import results_folder
from .metrics import auc_difference, auc_interval
from .plots import COLOURS, make_axes

COLUMNS = ["lesson", "name", "auc", "low", "high", "data"]


class Scoreboard:
    """Scores of this lesson and of those run before it, kept in scores.csv.

    Parameters
    ----------
    lesson : str
        Its number, such as "01". Rows that an earlier run of this lesson left for the same patches are replaced.
    judged : pcam_utils.data.Patches
        The patches to judge by, with labels. Rows of other patches are kept, but not drawn beside these.
    folder : str or path, optional
        The folder of scores.csv. If left out, it is the results folder of the lessons.

    Raises
    ------
    InputError
        If the patches lack labels or one of the classes.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pcam_utils.data.patches import Rows
    >>> labels = np.array([0, 1] * 10, np.uint8)
    >>> judged = Patches(Rows(np.zeros((20, 96, 96, 3), np.uint8)), np.arange(20).astype(str), labels)
    >>> board = Scoreboard("01", judged, tempfile.mkdtemp())
    >>> board.add("colour alone", labels * 0.5)
    'colour alone: AUC 1.000 (1.000 to 1.000)'
    >>> board.rows()["name"].tolist()
    ['colour alone']
    """

    def __init__(self, lesson: str, judged: Patches, folder: str | os.PathLike | None = None) -> None:
        self.lesson, self.judged = lesson, judged.require_both_classes()
        self.labels = np.asarray(judged.labels)
        self.path = Path(folder or results_folder()) / "scores.csv"
        self.scores: dict[str, ArrayLike] = {}
        what = hashlib.sha1("\n".join([*judged.ids, *map(str, self.labels)]).encode()).hexdigest()[:8]
        kind = "simulated " if judged.simulated else ""
        slides = "" if judged.slides is None else f" of {len(set(judged.slides))} slides"
        self.data = f"{len(judged):,} {kind}patches of {judged.name}{slides} ({what})"

    def add(self, name: str, probabilities: ArrayLike) -> str:
        """Score a model, keep the row, and say it: AUC with its 95 % interval. Whole slides are drawn if known.

        Parameters
        ----------
        name : str
        probabilities : (N,) float
            One for each patch to judge by.

        Returns
        -------
        str
        """
        labels, slides = self.labels, self.judged.slides
        low, high = auc_interval(labels, probabilities, groups=slides)
        row = (self.lesson, name, float(roc_auc_score(labels, probabilities)), low, high, self.data)
        self.scores[name] = probabilities
        rows = self._all()
        stale = (rows["data"] == self.data) & (rows["lesson"] == self.lesson)
        stale &= ~rows["name"].isin(self.scores) | (rows["name"] == name)
        rows = pd.concat([rows[~stale], pd.DataFrame([row], columns=COLUMNS)], ignore_index=True)
        with replacing(self.path) as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6f")
        return f"{name}: AUC {row[2]:.3f} {_interval(low, high)}"

    def gain(self, name: str, other: str) -> str:
        """Say by how much one of this lesson's models beats another, with a paired 95 % interval."""
        scores = self.scores[name], self.scores[other]
        gain, low, high = auc_difference(self.labels, *scores, groups=self.judged.slides)
        return f"{name} minus {other}: {gain:+.3f} {_interval(low, high, '+')}"

    def rows(self) -> pd.DataFrame:
        """All rows on these patches, by lesson: lesson, name, auc, low, high, data."""
        rows = self._all()
        return rows[rows["data"] == self.data].sort_values("lesson", kind="stable", ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw all rows on these patches, this lesson's in orange, and the score of colour alone as a line."""
        rows = self.rows()
        ax = make_axes(ax, figsize=(8, 0.9 + 0.42 * len(rows)))
        for place, row in rows.iterrows():
            ours = row["lesson"] == self.lesson
            error = [[row["auc"] - row["low"]], [row["high"] - row["auc"]]]
            ax.errorbar(row["auc"], place, xerr=error, fmt="o", capsize=3, color=COLOURS[int(ours)])
            ax.annotate(f"{row['auc']:.3f}", (1.01, place), xycoords=("axes fraction", "data"), va="center")
        for bar in rows.loc[rows["name"] == "colour alone", "auc"]:
            ax.axvline(bar, linestyle="--", color=COLOURS["chance"], zorder=0)
        ax.set_yticks(rows.index, [f"{row['lesson']} · {row['name']}" for _, row in rows.iterrows()])
        ax.set(xlim=(0.5, 1), xlabel="AUC, with 95 % interval", title=f"Scoreboard: {self.data.rpartition(' (')[0]}")
        ax.set_ylim(len(rows) - 0.5, -0.5)  # the first row above, none on the edge
        return ax

    def _all(self) -> pd.DataFrame:
        if not self.path.exists():
            return pd.DataFrame(columns=COLUMNS)
        return pd.read_csv(self.path, dtype={"lesson": str})


def _interval(low: float, high: float, sign: str = "") -> str:
    return f"({low:{sign}.3f} to {high:{sign}.3f})" if low == low else "(no interval: too few slides)"

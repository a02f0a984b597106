"""Draws the picture of the README: a simulated slide, the map that a network makes of it, and the scoreboard.

python docs/front.py build/course docs/front.jpg     after `make run`, which leaves network and scores in build/course
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pcam_utils import load_model
from pcam_utils.simulated import render_slide

SIZE, STEP = 1024, 32  # pixels of the slide, and from one patch to the next
#: What the rows of the scoreboard are called where there is little room.
SHORT = {
    "colour alone": "colour alone",
    "from scratch, without augmentation": "small network",
    "from scratch, with augmentation": "… augmented",
    "frozen backbone": "pretrained",
    "fine-tuned": "… fine-tuned",
    "whole network": "… more patches",
    "lesson 04's network": "… asked 8 times",
}


def heat_map(model, picture):
    """Probability of tumour in each square of 32 pixels: the mean of the patch around it and its three flips."""
    around = np.pad(picture, ((STEP, STEP), (STEP, STEP), (0, 0)), constant_values=240)
    windows = np.lib.stride_tricks.sliding_window_view(around, (96, 96, 3))[::STEP, ::STEP, 0].reshape(-1, 96, 96, 3)
    flips = (windows[:, ::up, ::left] for up in (1, -1) for left in (1, -1))
    answers = [model.predict(np.ascontiguousarray(view), batch_size=128, verbose=0) for view in flips]
    return np.mean(answers, axis=0).reshape(len(picture) // STEP, -1)


def draw_scores(ax, rows):
    """The scoreboard: one row a model, in the order of the lessons."""
    error = [rows["auc"] - rows["low"], rows["high"] - rows["auc"]]
    style = {"fmt": "o", "color": "#0072B2", "ecolor": "#7FB3D5", "capsize": 4, "markersize": 9}
    ax.errorbar(rows["auc"], rows.index, xerr=error, **style)
    for place, row in rows.iterrows():
        ax.annotate(f"{row['auc']:.3f}", (row["auc"], place), (0, 8), textcoords="offset points", ha="center")
    ax.set_yticks(rows.index, [next(SHORT[key] for key in SHORT if name.startswith(key)) for name in rows["name"]])
    ax.set(xlim=(0.7, 1), ylim=(len(rows) - 0.5, -0.7), xlabel="AUC: 0.5 is guessing, 1 is perfect")
    ax.set_title("The score, lesson by lesson")
    ax.grid(axis="x", color="#DDDDDD")
    ax.spines[["top", "right"]].set_visible(False)


def main(results, out):
    rows = pd.read_csv(results / "scores.csv", dtype={"lesson": str}).sort_values("lesson", kind="stable")
    slide = render_slide((0, 24), size=SIZE)
    heat = heat_map(load_model(results / "lesson_04" / "best.keras"), slide.image)
    plt.rcParams.update({"font.size": 14, "axes.titlesize": 16})
    fig, axes = plt.subplots(1, 3, figsize=(12.6, 4), layout="constrained", width_ratios=(1, 1.1, 1))
    axes[0].imshow(slide.image)
    axes[0].set_title("A slide (simulated)")
    axes[1].imshow(slide.image)
    shown = axes[1].imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.75, extent=(0, SIZE, SIZE, 0))
    axes[1].contour(slide.tumour, [0.5], colors="white", linewidths=1.5)
    axes[1].set_title("What the network sees in it")
    fig.colorbar(shown, ax=axes[1], fraction=0.046, pad=0.02, ticks=(0, 0.5, 1), label="probability of tumour")
    for ax in axes[:2]:
        ax.set(xticks=[], yticks=[], anchor="N")
    draw_scores(axes[2], rows.reset_index(drop=True))
    fig.savefig(out, dpi=130, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

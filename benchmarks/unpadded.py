"""Lesson 14's two networks on real patches: `python benchmarks/unpadded.py data/pcam`

The small network without padding and the head on NASNetMobile's features learn from the same training patches, by the
lesson's own cells, and judge the same patches of *valid*. The intervals draw slides, or patches where slides are not
known.
"""

import argparse
from pathlib import Path

import keras
import nbformat
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from pcam_utils import load_model, open_data
from pcam_utils.data import train_valid
from pcam_utils.evaluation import auc_difference, auc_interval
from pcam_utils.runtime import prepare

LESSON = Path(__file__).parents[1] / "notebooks" / "14_from_patches_to_a_slide.ipynb"
CELLS = ("see, on_jax", "def varied", "keras.utils.set_random_seed")  # the head; turns and stains; the small network


def compare(folder, learn, judge):
    """AUC of both with intervals, and the paired difference."""
    prepare(0)
    data, rng = open_data(folder), np.random.default_rng(0)
    split = train_valid(data)
    learned = split.train.take(np.sort(rng.permutation(len(split.train))[:learn]))
    valid = split.valid.take(np.sort(np.random.default_rng(1).permutation(len(split.valid))[:judge]))
    names = {"keras": keras, "np": np, "StandardScaler": StandardScaler, "LogisticRegression": LogisticRegression}
    names |= {"SEED": 0, "rng": rng, "model": load_model("pcam")}
    names |= {"x_train": learned.images[:], "y_train": learned.labels}
    code = [cell.source for cell in nbformat.read(LESSON, as_version=4).cells if cell.cell_type == "code"]
    for start in CELLS:
        (cell,) = (source for source in code if source.startswith(start))
        exec(cell, names)
    images, labels, groups = valid.images[:], valid.labels, valid.slides
    scores = {
        name: names[network].predict(images, batch_size=64, verbose=0).ravel()
        for name, network in {"without padding": "unpadded", "NASNetMobile, a new head": "model"}.items()
    }
    unit = "patches" if groups is None else f"{len(set(groups))} slides"
    print(f"{learn:,} patches to learn from, {len(labels):,} of {valid.name} to judge by; {unit} drawn")
    for name, score in scores.items():
        low, high = auc_interval(labels, score, groups=groups)
        print(f"{name:25}{roc_auc_score(labels, score):.3f} ({low:.3f} to {high:.3f})")
    gain, low, high = auc_difference(labels, *scores.values(), groups=groups)
    print(f"{'difference':25}{gain:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of PCam's files, or any that `pcam` reads")
    parser.add_argument("--learn", type=int, default=2500, help="training patches (default 2500)")
    parser.add_argument("--judge", type=int, default=1500, help="patches of *valid* (default 1500)")
    options = parser.parse_args()
    compare(options.folder, options.learn, options.judge)

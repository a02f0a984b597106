"""Puts model, split and scores together for the command line: metrics.json, the ROC figure, a short table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.patches import fingerprint
from ..data.sources import SPLITS
from ..errors import InputError
from ..evaluation.metrics import auc_difference, evaluate
from ..evaluation.predictions import predict, write_submission
from ..files import replacing, write_json
from ..models import shipped
from ..models.networks import load_model
from ..training.run import read_record

COLOUR_PATCHES = 6000  #: training patches that the colour baseline learns from, at most


def choose_model(run=None, model=None):
    """Load the best model of a run, or a model file, or, if neither is named, the one that comes with the package.

    Returns
    -------
    keras.Model, and what is known of it: the record of the run or of the package's model, nothing of a file
    """
    if run is not None and model is not None:
        raise InputError("Name one model: either --run RUN or --model FILE.")
    if run is None and str(model or "pcam") == "pcam":
        return load_model("pcam"), shipped.read_record()
    if model is not None:
        return load_model(model), {}
    record = read_record(run)
    if not (Path(run) / "best.keras").exists():
        raise InputError(f"{run} has no best.keras yet; finish an epoch with 'pcam train --resume'.")
    return load_model(Path(run) / "best.keras"), record


def choose_split(open_data, split=None, labels=None, run=None):
    """The labelled patches to score on: the split asked for, else 'test' where it is labelled, else 'valid'.

    Where the run made its own validation part, 'valid' is that part of 'train'.

    Parameters
    ----------
    open_data : callable
        Opens the data; takes `only` and `labels`.
    split : str, optional
    labels : path, optional
        CSV with labels of a split that has none.
    run : path, optional

    Returns
    -------
    Patches
    """
    if split is None:
        data = open_data(only=("test",), labels=labels)
        split = "test" if "test" in data.splits and data.splits["test"].labels is not None else "valid"
        split = "images" if data.layout == "images" else split
        if split in data.splits:
            return data.split(split).require_both_classes()
    _known(split)
    valid_ids = Path(run) / "valid_ids.txt" if run else None
    if split == "valid" and valid_ids and valid_ids.exists():
        return _kept_valid(open_data(only=("train",)).split("train"), valid_ids)
    return open_data(only=(split,), labels=labels).split(split).require_both_classes()


def choose_images(open_data, split=None):
    """The patches to predict: the split asked for, else 'test' if there is one, else all of a plain folder."""
    if split:
        _known(split)
        return open_data(only=(split,)).split(split)
    data = open_data(only=("test",))
    return data.split("test") if data.layout in ("pcam", "kaggle") else next(iter(data.splits.values()))


def _known(split):
    if split not in (*SPLITS, "images"):
        raise InputError(f"'{split}' is no split; choose one of {', '.join(SPLITS)}.")


def _kept_valid(train, valid_ids):
    kept = np.isin(train.ids, valid_ids.read_text(encoding="utf-8").split("\n"))
    if not kept.any():
        raise InputError(f"None of the patches that {valid_ids} names is in the data; name the data of that run.")
    return replace(train.take(kept), name="valid").require_both_classes()


def score(model, patches, record, *, tta="flips", mean="arithmetic"):
    """Predict and score one split.

    Parameters
    ----------
    model : keras.Model
    patches : Patches
    record : dict
        Of the run: gives the threshold that was chosen on its validation patches.
    tta, mean : str
        See `pcam_utils.evaluation.predictions.predict`.

    Returns
    -------
    dict of metrics, and (N,) float64 probabilities
    """
    probabilities = predict(model, patches, tta=tta, mean=mean)
    chosen = {"chosen_on_valid": record["operating_point"]["threshold"]} if "operating_point" in record else {}
    metrics = evaluate(patches.labels, probabilities, slides=patches.slides, thresholds=chosen)
    about = {"split": patches.name, "simulated": patches.simulated, "fingerprint": fingerprint(patches)}
    return {**metrics, "tta": tta, "mean": mean, **about}, probabilities


def overlap(patches, record):
    """Say so where patches look like ones that the package's model was trained on: their score would flatter it.

    Parameters
    ----------
    patches : Patches
    record : dict
        From `choose_model`.

    Returns
    -------
    str or None
        A sentence, if more than one patch in a hundred looks like one that was trained on.
    """
    from_package = record.get("name") == "pcam" or record.get("settings", {}).get("weights") == "pcam"
    seen = int(shipped.seen_in_training(patches).sum()) if from_package else 0
    if seen <= len(patches) / 100:
        return None
    return (
        f"{seen:,} of these {len(patches):,} patches look like ones that the weights 'pcam' were trained on, so the "
        "score is too good; evaluate on others."
    )


def score_colour(data, patches, probabilities, *, seed=0):
    """Score colour alone, learned from at most 6,000 evenly spread training patches, beside a network.

    Parameters
    ----------
    data : pcam_utils.data.sources.Data
        Holds the training split.
    patches : Patches
    probabilities : (N,) float
        The network's, for `patches`.
    seed : int

    Returns
    -------
    dict
        auc, auc_low, auc_high of colour alone; difference, difference_low, difference_high: network less colour.
    """
    from ..evaluation.baseline import colour_scores

    train = data.split("train").require_both_classes()
    # The patches scored may be the run's own part of 'train'.
    train = train.take(~np.isin(train.ids, patches.ids))
    if len(train) > COLOUR_PATCHES:
        train = train.take(np.linspace(0, len(train) - 1, COLOUR_PATCHES).astype(int))
    scores = colour_scores(train.images, train.labels, patches.images, seed=seed)
    metrics = evaluate(patches.labels, scores, slides=patches.slides, seed=seed)
    difference = auc_difference(patches.labels, probabilities, scores, groups=patches.slides, seed=seed)
    found = {name: metrics[name] for name in ("auc", "auc_low", "auc_high")}
    return found | dict(zip(("difference", "difference_low", "difference_high"), difference))


def write(out, metrics, patches, probabilities):
    """Write metrics.json, predictions.csv and the figure roc.png into the folder `out`."""
    import matplotlib.pyplot as plt

    from ..evaluation.plots import plot_precision_recall, plot_roc

    out = Path(out)
    write_json(out / "metrics.json", metrics)
    write_submission(out / "predictions.csv", patches.ids, probabilities)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    points = metrics["operating_points"]
    plot_roc(
        patches.labels,
        probabilities,
        name=f"TTA {metrics['tta']}",
        interval=(metrics["auc_low"], metrics["auc_high"]),
        point=points.get("chosen_on_valid", points["half"]),
        simulated=patches.simulated,
        ax=left,
    )
    plot_precision_recall(
        patches.labels, probabilities, name=f"TTA {metrics['tta']}", simulated=patches.simulated, ax=right
    )
    save_figure(left, out / "roc.png")


def save_figure(ax, path):
    """Save the figure that holds `ax`, whole or not at all, and close it."""
    import matplotlib.pyplot as plt

    with replacing(path) as temporary:
        ax.figure.savefig(temporary, dpi=150)
    plt.close(ax.figure)


def as_table(metrics, out=None):
    """The scores as lines for a person."""
    kind = "simulated patches" if metrics["simulated"] else "patches"
    lines = [
        f"{metrics['patches']:,} {kind} of '{metrics['split']}', {metrics['positives']:,} with tumour, TTA {metrics['tta']}"
    ]
    rows = {"network": metrics} | ({"colour alone": metrics["colour_alone"]} if "colour_alone" in metrics else {})
    for name, row in rows.items():
        lines.append(f"  {name:<13} AUC {row['auc']:.3f}   95 % interval {row['auc_low']:.3f} to {row['auc_high']:.3f}")
    if "colour_alone" in metrics:
        gain = [metrics["colour_alone"][f"difference{end}"] for end in ("", "_low", "_high")]
        lines.append("  {:<13} {:+.3f}      95 % interval {:+.3f} to {:+.3f}".format("difference", *gain))
    for name, point in metrics["operating_points"].items():
        lines.append(
            f"  threshold {point['threshold']:.3f} ({name.replace('_', ' ')}): "
            f"sensitivity {point['sensitivity']:.3f}, specificity {point['specificity']:.3f}"
        )
    if out:
        lines += [f"  {Path(out) / name}" for name in ("metrics.json", "roc.png", "predictions.csv")]
    return "\n".join([*lines, "Not for diagnosis."])

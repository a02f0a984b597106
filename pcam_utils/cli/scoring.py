"""What `pcam evaluate` finds and leaves: metrics.json, predictions.csv, the figure roc.png, a short table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..data.patches import Patches, fingerprint
from ..data.sources import Data
from ..evaluation.metrics import auc_difference, evaluate
from ..evaluation.predictions import predict, write_submission
from ..files import write_json
from ..models import shipped
from .figures import blank, save

COLOUR_PATCHES = 6000  #: training patches that the colour baseline learns from, at most


def score(
    model: Any, patches: Patches, record: dict[str, Any], *, tta: str = "flips", mean: str = "arithmetic"
) -> tuple[dict[str, Any], np.ndarray]:
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
    assert patches.labels is not None  # `choosing.choose_split` saw to it
    probabilities = predict(model, patches, tta=tta, mean=mean, progress=sys.stderr.isatty())
    chosen = {"chosen_on_valid": record["operating_point"]["threshold"]} if "operating_point" in record else {}
    metrics = evaluate(patches.labels, probabilities, slides=patches.slides, thresholds=chosen)
    about = {"split": patches.name, "simulated": patches.simulated, "fingerprint": fingerprint(patches)}
    return {**metrics, "tta": tta, "mean": mean, **about}, probabilities


def overlap(patches: Patches, record: dict[str, Any]) -> str | None:
    """Say so where patches look like ones that the package's model was trained on: their score would flatter it.

    Parameters
    ----------
    patches : Patches
    record : dict
        From `choosing.choose_model`.

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


def score_colour(data: Data, patches: Patches, probabilities: np.ndarray, *, seed: int = 0) -> dict[str, float]:
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
    assert train.labels is not None and patches.labels is not None  # both have both classes
    scores = colour_scores(train.images, train.labels, patches.images, seed=seed)
    metrics = evaluate(patches.labels, scores, slides=patches.slides, seed=seed)
    difference = auc_difference(patches.labels, probabilities, scores, groups=patches.slides, seed=seed)
    found = {name: metrics[name] for name in ("auc", "auc_low", "auc_high")}
    return found | dict(zip(("difference", "difference_low", "difference_high"), difference))


def write(out: str | Path, metrics: dict[str, Any], patches: Patches, probabilities: np.ndarray) -> None:
    """Write what `files_in(out)` names: metrics.json, roc.png and predictions.csv."""
    from ..evaluation.plots import plot_precision_recall, plot_roc

    assert patches.labels is not None  # they have been scored
    metrics_file, figure_file, predictions_file = files_in(out)
    write_json(metrics_file, metrics)
    write_submission(predictions_file, patches.ids.tolist(), probabilities.tolist())
    figure, (left, right) = blank(columns=2, size=(11, 5))
    points, name = metrics["operating_points"], f"TTA {metrics['tta']}"
    plot_roc(
        patches.labels,
        probabilities,
        name=name,
        interval=(metrics["auc_low"], metrics["auc_high"]),
        point=points.get("chosen_on_valid", points["half"]),
        simulated=patches.simulated,
        ax=left,
    )
    plot_precision_recall(patches.labels, probabilities, name=name, simulated=patches.simulated, ax=right)
    save(figure, figure_file)


def files_in(out: str | Path) -> list[Path]:
    """Paths of what `write` makes in the folder `out`."""
    return [Path(out) / name for name in ("metrics.json", "roc.png", "predictions.csv")]


def as_table(metrics: dict[str, Any], out: str | Path | None = None) -> str:
    """The scores as lines for a person."""
    kind = "simulated patches" if metrics["simulated"] else "patches"
    counts = f"{metrics['patches']:,} {kind} of '{metrics['split']}', {metrics['positives']:,} with tumour"
    lines = [f"{counts}, TTA {metrics['tta']}"]
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
        lines += [f"  {path}" for path in files_in(out)]
    return "\n".join([*lines, "Not for diagnosis."])

"""The results of `pcam evaluate`: metrics.json, predictions.csv, the figure roc.png, and a short table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..data.patches import Patches, fingerprint
from ..errors import InputError
from ..evaluation.metrics import auc_difference, evaluate
from ..evaluation.predictions import write_submission
from ..files import write_json
from ..models import shipped
from .figures import drawing

COLOUR_PATCHES = 6000  #: training patches that the colour baseline learns from, at most


def score(
    patches: Patches, probabilities: np.ndarray, record: dict[str, Any], *, tta: str = "flips", mean: str = "arithmetic"
) -> dict[str, Any]:
    """Score what was predicted for one split.

    Parameters
    ----------
    patches : Patches
    probabilities : (N,) float
    record : dict
        The run's record, with the threshold that was chosen on its validation patches.
    tta, mean : str
        How it was predicted; see `pcam_utils.evaluation.predictions.predict`.

    Returns
    -------
    dict of metrics
    """
    assert patches.labels is not None  # `choosing.choose_split` saw to it
    chosen = {"chosen_on_valid": record["operating_point"]["threshold"]} if "operating_point" in record else {}
    metrics = evaluate(patches.labels, probabilities, slides=patches.slides, thresholds=chosen)
    about = {"split": patches.name, "simulated": patches.simulated, "fingerprint": fingerprint(patches)}
    return {**metrics, "tta": tta, "mean": mean, **about}


def keep(path: Path, patches: Patches, probabilities: np.ndarray) -> None:
    """Write predictions at once. If that place fails after all, write them among the temporary files, and say so."""
    ids, numbers = patches.ids.tolist(), probabilities.tolist()
    try:
        write_submission(path, ids, numbers)
    except InputError as error:
        spare = write_submission(Path(tempfile.mkdtemp(prefix="pcam-")) / path.name, ids, numbers)
        raise InputError(f"{str(error).rstrip('.')}; the predictions are in {spare}.") from error.__cause__


def all_alike(probabilities: np.ndarray) -> str | None:
    """Say so if a model gives the same for all patches. Then it is broken, or these are not what it has learned on."""
    if len(probabilities) < 2 or probabilities.min() < probabilities.max():
        return None
    return f"The model gives {probabilities[0]:.3g} for all {len(probabilities):,} patches: it tells none apart."


def overlap(patches: Patches, record: dict[str, Any]) -> str | None:
    """Say so if patches look like ones that the package's model was trained on, since their score would flatter it.

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


def colour_patches(train: Patches, patches: Patches) -> Patches:
    """Take at most 6,000 evenly spread training patches for the colour baseline, but none of the patches to score.

    Raises
    ------
    InputError
        If there are too few. This is found before a network predicts for an hour.
    """
    from ..evaluation.baseline import require_enough

    # The patches scored may be the run's own part of 'train'.
    train = train.take(~np.isin(train.ids, patches.ids)).require_both_classes()
    if len(train) > COLOUR_PATCHES:
        train = train.take(np.linspace(0, len(train) - 1, COLOUR_PATCHES).astype(int))
    assert train.labels is not None
    require_enough(train.labels)
    return train


def score_colour(train: Patches, patches: Patches, probabilities: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Score colour alone beside a network.

    Parameters
    ----------
    train : Patches
        From `colour_patches`.
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

    assert train.labels is not None and patches.labels is not None  # both have both classes
    scores = colour_scores(train.images, train.labels, patches.images, seed=seed)
    metrics = evaluate(patches.labels, scores, slides=patches.slides, seed=seed)
    difference = auc_difference(patches.labels, probabilities, scores, groups=patches.slides, seed=seed)
    found = {name: metrics[name] for name in ("auc", "auc_low", "auc_high")}
    return found | dict(zip(("difference", "difference_low", "difference_high"), difference))


def write(out: str | Path, metrics: dict[str, Any], patches: Patches, probabilities: np.ndarray) -> None:
    """Write metrics.json and roc.png into the folder `out`, where the predictions are already."""
    from ..evaluation.plots import plot_precision_recall, plot_roc

    assert patches.labels is not None  # they have been scored
    metrics_file, figure_file, _ = files_in(out)
    write_json(metrics_file, metrics)
    points, name = metrics["operating_points"], f"TTA {metrics['tta']}"
    with drawing(figure_file, columns=2, size=(11, 5)) as (left, right):
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


def files_in(out: str | Path) -> list[Path]:
    """List the files that are left in the folder `out`, the predictions last."""
    return [Path(out) / name for name in ("metrics.json", "roc.png", "predictions.csv")]


def as_table(metrics: dict[str, Any], out: str | Path | None = None) -> str:
    """The scores as lines for a person."""
    kind = "simulated patches" if metrics["simulated"] else "patches"
    counts = f"{metrics['patches']:,} {kind} of '{metrics['split']}', {metrics['positives']:,} with tumour"
    lines = [f"{counts}, TTA {metrics['tta']}"]
    rows = {"network": metrics} | ({"colour alone": metrics["colour_alone"]} if "colour_alone" in metrics else {})
    for name, row in rows.items():
        lines.append(f"  {name:<13} AUC {row['auc']:.3f}   {_interval(row['auc_low'], row['auc_high'], '.3f')}")
    if "colour_alone" in metrics:
        gain, *ends = (metrics["colour_alone"][f"difference{end}"] for end in ("", "_low", "_high"))
        lines.append(f"  {'difference':<13} {gain:+.3f}      {_interval(ends[0], ends[1], '+.3f')}")
    if not np.isfinite(metrics["auc_low"]):
        lines.append(f"  interval: {metrics['interval']}")
    for name, point in metrics["operating_points"].items():
        lines.append(
            f"  threshold {point['threshold']:.3f} ({name.replace('_', ' ')}): "
            f"sensitivity {point['sensitivity']:.3f}, specificity {point['specificity']:.3f}"
        )
    if out:
        lines += [f"  {path}" for path in files_in(out)]
    return "\n".join([*lines, "Not for diagnosis."])


def _interval(low: float, high: float, form: str) -> str:
    return f"95 % interval {low:{form}} to {high:{form}}" if np.isfinite(low) else "no interval"

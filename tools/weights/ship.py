"""Turns a student's weights into the files that the package carries: calibrated, halved, with what they have seen."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import log_loss

from pcam_utils.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from pcam_utils.evaluation.metrics import choose_threshold, operating_point
from pcam_utils.evaluation.predictions import predict_views
from pcam_utils.files import replacing, write_json
from pcam_utils.models import shipped
from pcam_utils.models.networks import build_model


def student(run):
    """The classifier of a student's averaged weights."""
    model = build_model("NASNetMobile", "none", "average", say=lambda _: None)
    with np.load(Path(run) / "averaged.npz") as file:
        model.set_weights([file[name] for name in sorted(file.files)])
    return model


def ship(run, data, names, out=shipped.FOLDER):
    """Calibrate a student on *valid*, and write it as the package's own classifier.

    Parameters
    ----------
    run : path
        From `student.learn`.
    data : pcam_utils.data.sources.Data
        With the splits *train* and *valid*.
    names : path
        train_names.csv, from `gather`.
    out : path

    Returns
    -------
    dict
        The record as written.
    """
    model, valid = student(run), data.split("valid")
    views = predict_views(model, valid, tta="flips")
    temperature = fit_temperature(valid.labels, views)
    calm = apply_temperature(views, temperature).mean(axis=1)
    kernel, bias = model.get_layer("tumour").get_weights()
    arrays = [*model.get_layer("backbone").get_weights(), kernel / temperature, bias / temperature]
    record = {
        "name": "pcam",
        "backbone": "NASNetMobile",
        "head": "average",
        "temperature": temperature,
        "calibration": {
            "on": "valid, 4 flips",
            "before": _calibration(valid.labels, views.mean(axis=1)),
            "after": _calibration(valid.labels, calm),
        },
        "operating_point": {
            **operating_point(valid.labels, calm, choose_threshold(valid.labels, calm)),
            "rule": "largest sensitivity + specificity on the validation patches, 4 flips",
        },
        "run": json.loads((Path(run) / "run.json").read_text()),
        "history": json.loads((Path(run) / "history.json").read_text()),
    }
    return write(out, arrays, record, seen(data.split("train"), names))


def write(folder, arrays, record, seen):
    """Write the three files of a classifier, weights as float16.

    Parameters
    ----------
    folder : path
    arrays : list of array
        The backbone's weights in its own order, then kernel and bias of the head.
    record : dict
        Whatever should be known of the classifier; the checksums are added.
    seen : dict of str to array
        What it was trained on: `looks` of all patches (see `pcam_utils.models.shipped.look`), and what names them.

    Returns
    -------
    dict
        The record as written.

    Raises
    ------
    ValueError
        If a weight is too large for float16.
    """
    folder = Path(folder)
    with np.errstate(over="ignore"):  # found, and refused, on the next line
        halves = {f"{place:04d}": np.asarray(array, np.float16) for place, array in enumerate(arrays)}
    if not all(np.isfinite(half).all() for half in halves.values()):
        raise ValueError("Some weights are too large for float16, so the classifier cannot be written; train it anew.")
    for name, content in ((shipped.WEIGHTS, halves), (shipped.SEEN, seen)):
        with replacing(folder / name) as temporary:
            np.savez_compressed(temporary, **content)
    files = (shipped.WEIGHTS, shipped.SEEN)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    write_json(folder / shipped.RECORD, {**record, "sha256": sums})
    return shipped.read_record(folder)


def seen(train, names):
    """What tells later whether a patch was among those trained on: its look, and its row or id."""
    with open(names, newline="") as file:
        rows = list(csv.DictReader(file))
    ids = [list(bytes.fromhex(row["name"])) for row in rows if row["source"] == "kaggle"]
    return {
        "looks": np.concatenate([shipped.look(batch) for batch in train.batches()]),
        "official_rows": np.array([row["name"] for row in rows if row["source"] == "official"], np.uint32),
        "kaggle_ids": np.array(ids, np.uint8),
    }


def _calibration(labels, probabilities):
    error = expected_calibration_error(labels, probabilities)
    return {"log_loss": float(log_loss(labels, probabilities)), "expected_calibration_error": error}

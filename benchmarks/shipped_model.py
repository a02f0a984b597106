"""Makes the classifier that comes with the package: gathers patches, and turns a training run into its three files.

python benchmarks/shipped_model.py gather JPEGS OUT    # JPEGS holds {train,valid,test}/{0,1}/ROW.jpg, or zips of them
python benchmarks/teacher.py OUT targets.csv
pcam train OUT --recipe pcam --targets targets.csv --run RUN
python benchmarks/shipped_model.py ship RUN OUT
"""

import csv
import io
import zipfile
from pathlib import Path

import click
import h5py
import numpy as np
from PIL import Image
from sklearn.metrics import log_loss

from pcam_utils.data.download import STEM
from pcam_utils.data.sources import open_data
from pcam_utils.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from pcam_utils.evaluation.metrics import choose_threshold, operating_point
from pcam_utils.evaluation.predictions import predict_views
from pcam_utils.models import shipped
from pcam_utils.models.networks import load_model
from pcam_utils.training.run import read_history, read_record

FOLDER = click.Path(path_type=Path, exists=True)


@click.group()
def main():
    """Make the classifier that comes with the package."""


@main.command()
@click.argument("jpegs", type=FOLDER)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--kaggle", type=FOLDER, help="Add the competition's lossless training images to 'train'.")
@click.option("--hold-back", default=0, show_default=True, help="Leave so many of these out, to try the weights on.")
@click.option(
    "--sample", type=FOLDER, help="Add the training patches of a simulated sample: not of seed 0, the lessons'."
)
def gather(jpegs, out, kaggle, hold_back, sample):
    """Write JPEG patches in the official layout, with the names of what they are."""
    out.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        items = sorted(_jpegs(jpegs, split))
        extra = _extra(kaggle, hold_back, sample) if split == "train" else []
        images = [np.asarray(Image.open(io.BytesIO(read())).convert("RGB")) for _, _, read in items]
        labels = [label for _, label, _ in items]
        names = [("official", row) for row, _, _ in items]
        for source, patches in extra:
            images, labels = [*images, *patches.images[:]], [*labels, *patches.labels]
            names += [(source, name) for name in patches.ids]
        with h5py.File(out / f"{STEM}{split}_x.h5", "w") as file:
            file["x"] = np.stack(images)
        with h5py.File(out / f"{STEM}{split}_y.h5", "w") as file:
            file["y"] = np.array(labels, np.uint8).reshape(-1, 1, 1, 1)
        with open(out / f"{split}_names.csv", "w", newline="") as file:
            csv.writer(file).writerows([("source", "name"), *names])
        click.echo(f"{split}: {len(labels):,} patches, {sum(map(int, labels)):,} with tumour")


def _extra(kaggle, hold_back, sample):
    """(source, patches) of what is added to the training split."""
    if kaggle:
        patches = open_data(kaggle, only=("train",)).split("train")
        yield "kaggle", patches.take(slice(0, len(patches) - hold_back))
    if sample:
        yield "simulated", open_data(sample, only=("train",)).split("train")


def _jpegs(folder, split):
    """(official row, label, how to read it) of each JPEG of a split."""
    for path in folder.glob(f"*{split}*.zip"):
        archive = zipfile.ZipFile(path)
        for member in archive.namelist():
            _, label, name = member.split("/")
            yield int(Path(name).stem), int(label), lambda archive=archive, member=member: archive.read(member)
    for path in folder.glob(f"{split}/[01]/*.jpg"):
        yield int(path.stem), int(path.parent.name), path.read_bytes


@main.command()
@click.argument("run", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option("--out", type=click.Path(path_type=Path), default=shipped.FOLDER, show_default=True)
def ship(run, data, out):
    """Calibrate a run's best model on 'valid', and write it as the package's own."""
    opened = open_data(data, only=("train", "valid"))
    model, valid = load_model(run / "best.keras"), opened.split("valid")
    views = predict_views(model, valid, tta="flips")
    temperature = fit_temperature(valid.labels, views)
    calm = apply_temperature(views, temperature).mean(axis=1)
    threshold = choose_threshold(valid.labels, calm)
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
            **operating_point(valid.labels, calm, threshold),
            "rule": "largest sensitivity + specificity on the validation patches, 4 flips",
        },
        "runs": [*_earlier(run), _described(run)],
    }
    written = shipped.write(out, arrays, record, _seen(opened.split("train"), data / "train_names.csv"))
    click.echo(f"Temperature {temperature:.3f}, {record['calibration']}, {written['sha256']}")


def _calibration(labels, probabilities):
    error = expected_calibration_error(labels, probabilities)
    return {"log_loss": float(log_loss(labels, probabilities)), "expected_calibration_error": error}


def _earlier(run):
    """The runs that made what this one started from, if that was the package's own weights."""
    return shipped.read_record()["runs"] if read_record(run)["settings"]["weights"] == "pcam" else []


def _described(run):
    """The record of a run and its history, less where on a machine things lay."""
    record = {key: value for key, value in read_record(run).items() if key != "data"}
    targets = record["settings"].get("targets")
    record["settings"]["targets"] = targets and Path(targets).name
    return {**record, "history": read_history(run)}


def _seen(train, names):
    with open(names, newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "looks": np.concatenate([shipped.look(batch) for batch in train.batches()]),
        "official_rows": np.array([row["name"] for row in rows if row["source"] == "official"], np.uint32),
        "kaggle_ids": np.array(
            [list(bytes.fromhex(row["name"])) for row in rows if row["source"] == "kaggle"], np.uint8
        ),
    }


if __name__ == "__main__":
    main()

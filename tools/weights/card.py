"""Measures what docs/model_card.md says of the classifier in the package, and prints its tables."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import click
import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.metrics import log_loss

from pcam_utils.cli.choosing import choose_model
from pcam_utils.data.patches import Patches, Rows
from pcam_utils.data.sources import open_data
from pcam_utils.evaluation.calibration import apply_temperature
from pcam_utils.evaluation.metrics import auc_difference, evaluate, operating_point
from pcam_utils.evaluation.predictions import TTA, predict, predict_views

from .changes import as_jpeg, halved
from .ship import student

FOLDER = click.Path(path_type=Path, exists=True)


def table(images):
    """Patches of an array in memory."""
    return Patches(Rows(images), np.arange(len(images)).astype(str))


def line(name, labels, probabilities, slides=None):
    found = evaluate(labels, probabilities, slides=slides)
    click.echo(
        f"| {name} | {found['auc']:.3f} | {found['auc_low']:.3f} to {found['auc_high']:.3f} "
        f"| {found['calibration_error']:.3f} | {log_loss(labels, probabilities):.3f} |"
    )


def heading(title):
    click.echo(f"\n{title}\n\n| | AUC | 95 % interval | calibration error | log loss |\n|---|---|---|---|---|")


@click.command()
@click.argument("data", type=FOLDER)
@click.option("--kaggle", type=FOLDER, required=True)
@click.option("--solution", type=FOLDER, required=True, help="CSV (id,label) of Kaggle's test images.")
@click.option("--sample", type=FOLDER, required=True, help="The simulated sample.")
@click.option("--run", type=FOLDER, help="The run that was shipped, to compare float16 with.")
@click.option("--test/--no-test", default=False, help="Look at DATA's test split: write the look down.")
def card(data, kaggle, solution, sample, run, test):
    """AUC with intervals, calibration, robustness."""
    model, record = choose_model()
    quiet = functools.partial(predict, model, progress=False)
    opened = open_data(data)
    for split in ("valid", "test") if test else ("valid",):
        patches = opened.split(split)
        views = dict(zip(TTA["d4"], predict_views(model, patches, tta="d4", progress=False).T))
        means = {tta: np.mean([views[name] for name in names], axis=0) for tta, names in TTA.items()}
        heading(f"{split}, {len(patches):,} patches")
        for tta, mean in means.items():
            line(tta, patches.labels, mean)
        point = operating_point(patches.labels, means["flips"], record["operating_point"]["threshold"])
        click.echo(f"\n{json.dumps(point)}")
        if split == "valid" and run:
            _compare_precisions(run, patches, means["none"], record["temperature"])
    valid = opened.split("valid").take(slice(0, None, 3))
    heading(f"shifts, {len(valid):,} patches of valid, one view")
    images = valid.images[:]
    line("as they are", valid.labels, quiet(valid, tta="none"))
    for name, changed in _shifts(images):
        line(name, valid.labels, quiet(table(changed), tta="none"))
    _kaggle(quiet, kaggle, solution)
    simulated = open_data(sample, only=("test",)).split("test")
    heading("the simulated sample's test split")
    line("flips", simulated.labels, quiet(simulated), simulated.slides)
    _strangers(quiet)


def _compare_precisions(run, patches, halves, temperature):
    """Beside the float32 network of the run, with the temperature applied."""
    floats = predict(student(run), patches, tta="none", progress=False)
    gap = np.abs(apply_temperature(floats, temperature) - halves).max()
    click.echo(f"float16 against float32, largest difference on {patches.name}: {gap:.5f}")


def _shifts(images):
    """(name, changed patches): more and less stain, in optical density, other light, JPEG, blur."""
    density = -np.log10(np.maximum(images, 1) / 255)
    for factor in (0.6, 0.8, 1.25, 1.6):
        yield f"stain × {factor}", np.rint(255 * 10 ** (-density * factor)).astype(np.uint8)
    for channel, colour in enumerate(("red", "green", "blue")):
        shifted = density.copy()
        shifted[..., channel] *= 1.25
        yield f"absorption of {colour} × 1.25", np.rint(255 * 10**-shifted).astype(np.uint8)
    for quality in (50, 25):
        yield f"JPEG quality {quality}", np.stack([as_jpeg(image, quality) for image in images])
    yield "half the resolution", np.stack([halved(image) for image in images])


def _kaggle(quiet, kaggle, solution):
    patches = open_data(kaggle, only=("test",), labels=solution).split("test")
    heading(f"Kaggle test images, {len(patches)} lossless patches of slides of PCam's train split, flips")
    lossless = quiet(patches)
    compressed = quiet(table(np.stack([as_jpeg(image) for image in patches.images[:]])))
    line("lossless", patches.labels, lossless)
    line("the same as JPEG 75", patches.labels, compressed)
    gap, low, high = auc_difference(patches.labels, lossless, compressed)
    click.echo(f"\nlossless less JPEG: {gap:+.4f}, paired interval {low:+.4f} to {high:+.4f}")


def _strangers(quiet):
    """What it says of pictures that show no tissue."""
    rng = np.random.default_rng(0)
    photographs = [image[y : y + 96, x : x + 96] for image in load_sample_images().images
                   for y in range(0, 330, 96) for x in range(0, 540, 96)]  # fmt: skip
    strangers = {
        "white": np.full((1, 96, 96, 3), 255, np.uint8),
        "black": np.zeros((1, 96, 96, 3), np.uint8),
        "noise": rng.integers(0, 256, (50, 96, 96, 3), dtype=np.uint8),
        "photographs": np.stack(photographs),
    }
    click.echo("\n| what it says of pictures without tissue | smallest | median | largest |\n|---|---|---|---|")
    for name, images in strangers.items():
        low, middle, high = np.quantile(quiet(table(images)), (0, 0.5, 1))
        click.echo(f"| {name} ({len(images)}) | {low:.3f} | {middle:.3f} | {high:.3f} |")

"""The options that several commands share, and the names that they take."""

from __future__ import annotations

from pathlib import Path

import click

from ..runtime import backend
from ..training import operations, recipes

RECIPES = tuple(recipes.RECIPES)
AUGMENTS = tuple(operations.AUGMENTS)
PRECISIONS = backend.PRECISIONS
# Written out, because to import what knows these names takes seconds, for which `pcam train --help` should not wait.
# tests/cli/test_options.py holds both together.
SPLITS = ("train", "valid", "test")
ALL_SPLITS = (*SPLITS, "images")  #: and that of a folder without splits
SOURCES = ("zenodo", "kaggle")
SAMPLE_LAYOUTS = ("pcam", "kaggle")
BACKBONES = ("NASNetMobile", "EfficientNetV2B0", "DenseNet121", "SmallCNN")
HEADS = ("article", "average")
KINDS_OF_TTA = ("none", "flips", "d4")
MEANS = ("arithmetic", "geometric")
FITS = ("resize", "crop")

PATH = click.Path(path_type=Path)
DATA = click.argument("data", required=False, type=PATH)
FIT = click.option("--fit", type=click.Choice(FITS), help="What to do with images that are not 96×96.")
RUN = click.option("--run", type=PATH, help="Folder of a training run.")
MODEL = click.option(
    "--model", type=PATH, help="A .keras file, or 'pcam', this package's own, which is used if no run is named."
)
TTA = click.option(
    "--tta",
    type=click.Choice(KINDS_OF_TTA),
    default="flips",
    show_default=True,
    help="Average over views of each patch: as it is; with its flips, 4; all 8 ways that a square can lie.",
)
MEAN = click.option("--mean", type=click.Choice(MEANS), default="arithmetic", show_default=True)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")

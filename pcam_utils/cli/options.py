"""The options that several commands share, and the names that they take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..files import require_place, user_path
from ..runtime import backend
from ..training import operations, recipes

RECIPES = tuple(recipes.RECIPES)
AUGMENTS = tuple(operations.AUGMENTS)
PRECISIONS = backend.PRECISIONS
# These are written out. To import the modules that know these names takes seconds, and `pcam train --help` should not
# wait for that. tests/cli/test_options.py checks that both agree.
SPLITS = ("train", "valid", "test")
ALL_SPLITS = (*SPLITS, "images")  #: and that of a folder without splits
SOURCES = ("zenodo", "kaggle")
SAMPLE_LAYOUTS = ("pcam", "kaggle")
BACKBONES = ("NASNetMobile", "EfficientNetV2B0", "DenseNet121", "SmallCNN")
HEADS = ("article", "average")
KINDS_OF_TTA = ("none", "flips", "d4")
MEANS = ("arithmetic", "geometric")
FITS = ("resize", "crop")


class _Path(click.Path):
    """A path, with its ~ followed. If a 'file' or 'folder' will be written, that is tried before the work begins."""

    def __init__(self, *, write: str | None = None, suffixes: tuple[str, ...] = ()) -> None:
        super().__init__(path_type=Path)
        self.write, self.suffixes = write, suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = user_path(os.fsdecode(super().convert(value, param, ctx)))
        if self.suffixes and path.suffix.lower() not in self.suffixes:
            raise InputError(f"{path} is no name for a figure; choose one that ends in {' or '.join(self.suffixes)}.")
        if self.write:
            require_place(path, folder=self.write == "folder")
        return path


PATH, OUT_FILE, OUT_FOLDER = _Path(), _Path(write="file"), _Path(write="folder")
FIGURE = _Path(write="file", suffixes=(".png", ".jpg", ".jpeg", ".pdf", ".svg"))
SEED = click.option("--seed", type=click.IntRange(0, backend.LARGEST_SEED), default=0, show_default=True)
DATA = click.argument("data", required=False, type=PATH)
FIT = click.option("--fit", type=click.Choice(FITS), help="What to do with images that are not 96 by 96.")
POSITIVE = click.option(
    "--positive", metavar="NAME", help="The class folder that is tumour (1), if the names do not tell. Others are 0."
)
OVERLAP = click.option(
    "--overlap", is_flag=True, help="If tables and images do not cover each other, use what both have."
)
RUN = click.option("--run", type=PATH, help="Folder of a training run.")
MODEL = click.option(
    "--model", type=PATH, help="A .keras file, or 'pcam', this package's own. If no run is named, that is used."
)
TTA = click.option(
    "--tta",
    type=click.Choice(KINDS_OF_TTA),
    default="flips",
    show_default=True,
    help="Average over views of each patch: 1 as it is, 4 with its flips, or all 8 ways in which a square can lie.",
)
MEAN = click.option("--mean", type=click.Choice(MEANS), default="arithmetic", show_default=True)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


def opening(command: Any) -> Any:
    """Add the options that say how DATA is opened. The command hands them on to `open_data`."""
    return FIT(POSITIVE(OVERLAP(command)))

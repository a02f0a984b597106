"""The layouts in which patches come: a table of small functions that recognise one, and say what is in it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..errors import InputError
from . import folders
from .download import SPLITS, STEM
from .found import SPLIT_NAMES, Ask, Found, Pictures
from .listing import Listing, stem
from .packing import unpacked
from .patches import Patches, Rows
from .stored import archive_names, open_archived, open_dataset, read_archived
from .tables import check_labels, join, read_csv, read_keyed, read_labels, require_unique


class Layout(NamedTuple):
    """A row of the table: a layout's name, how it looks, and two functions. `by_folder`: folders name the classes."""

    name: str
    looks: str
    recognise: Callable[[Listing], Any]
    read: Callable[[Listing, Ask], Found]
    by_folder: bool = False


# PatchCamelyon's HDF5, as on Zenodo, one folder down, and as Kaggle's most used upload has it ------------------------


def _pcam_names(split: str) -> list[str]:
    upload = {"train": "training_split", "valid": "validation_split", "test": "test_split"}
    return [f"{stem}.h5{end}" for stem in (f"{STEM}{split}_x", upload[split]) for end in ("", ".gz")]


def _is_pcam(listing: Listing) -> bool:
    return any(listing.find(*_pcam_names(split)) for split in SPLITS)


def _read_pcam(listing: Listing, ask: Ask) -> Found:
    found = {split: listing.find(*_pcam_names(split)) for split in SPLITS}
    return Found({split: functools.partial(_pcam_split, listing, split, x, ask) for split, x in found.items() if x})


def _pcam_split(listing: Listing, split: str, x: str, ask: Ask) -> Patches:
    x_path = unpacked(listing.root / x, progress=ask.progress)
    images = Rows(open_dataset(x_path, "x", (96, 96, 3)))
    y = listing.find(f"{STEM}{split}_y.h5", f"{STEM}{split}_y.h5.gz")
    labels = None
    if y:
        y_path = unpacked(listing.root / y, progress=ask.progress)
        labels = _array_labels(Rows(open_dataset(y_path, "y", (1, 1, 1)))[:].ravel(), y_path)
    meta = listing.find(f"{STEM}{split}_meta.csv")
    with h5py.File(x_path, "r", locking="best-effort") as file:
        simulated = bool(file["x"].attrs.get("simulated", False))
    return Patches(
        images,
        ids=np.array([f"{split}_{row}" for row in range(len(images))]),
        labels=labels,
        slides=_meta_slides(listing.root / meta) if meta else None,
        name=split,
        simulated=simulated,
    )


def _meta_slides(path: Path) -> np.ndarray:
    """Give the slide of each row, in the order of the rows' numbers. A first column without a name holds these."""
    try:
        columns = read_csv(path, ("wsi", ""))
    except InputError:
        return np.array(read_csv(path, ("wsi",))["wsi"])  # no numbers: the order is all there is
    slides = np.array(columns["wsi"])
    try:
        rows = np.array(columns[""], np.int64)
    except ValueError:
        rows = np.array([], np.int64)
    if not np.array_equal(np.sort(rows), np.arange(len(slides))):
        raise InputError(f"The first column of {path} does not number its rows from 0 on; get the official file.")
    return slides[np.argsort(rows)]


def _array_labels(labels: np.ndarray, where: Path) -> np.ndarray:
    wrong = np.setdiff1d(labels, (0, 1))
    if len(wrong):
        raise InputError(
            f"{where} holds the label {wrong[0]}, but only 0 and 1 are labels; correct it, or get the official file."
        )
    return labels.astype(np.uint8)


# Arrays in an npz file ---------------------------------------------------------------------------------------------


def _npz_files(listing: Listing) -> list[str]:
    return [path for path in listing.files[""] if path.endswith(".npz")]


def _is_npz(listing: Listing) -> bool:
    return bool(_npz_files(listing)) and not listing.pictures_below()


def _read_npz(listing: Listing, ask: Ask) -> Found:
    splits: dict[str, Any] = {}
    for file in _npz_files(listing):
        path = listing.root / file
        names = archive_names(path)
        lower = {name.casefold(): name for name in names}
        alone = SPLIT_NAMES.get(Path(file).stem.casefold(), "train")
        pairs = {alone: [("x", "y"), ("images", "labels"), ("data", "labels")]}
        for called, split in SPLIT_NAMES.items():
            pairs[split] = pairs.get(split, []) + [
                (f"x_{called}", f"y_{called}"),
                (f"{called}_images", f"{called}_labels"),
            ]
        for split, choices in pairs.items():
            for x, y in choices:
                if x in lower and split in splits:
                    raise InputError(f"{listing.root} holds a {split} split more than once, in {file}; keep one.")
                if x in lower:
                    splits[split] = functools.partial(_npz_split, path, split, lower[x], lower.get(y))
        if not splits:
            raise InputError(
                f"{path} holds {', '.join(names) or 'nothing'}, but patches must be called x and labels y."
            )
    return Found(splits)


def _npz_split(path: Path, split: str, x: str, y: str | None) -> Patches:
    images = open_archived(path, x)
    labels = _array_labels(read_archived(path, y).ravel(), path) if y else None
    return Patches(images, np.array([f"{split}_{row}" for row in range(len(images))]), labels, name=split)


# The Kaggle competition's folder -----------------------------------------------------------------------------------


def _is_kaggle(listing: Listing) -> bool:
    return listing.has("train_labels.csv") or listing.has("sample_submission.csv")


def _read_kaggle(listing: Listing, ask: Ask) -> Found:
    found = Found({})
    if listing.has("train_labels.csv"):
        labels = read_labels(listing.root / "train_labels.csv")
        found.splits["train"] = _kaggle_split(listing, "train", "train_labels.csv", labels, ask, found.left_out)
    if listing.has("sample_submission.csv"):
        rows = dict.fromkeys(read_keyed(listing.root / "sample_submission.csv", "id"))
        found.splits["test"] = _kaggle_split(listing, "test", "sample_submission.csv", rows, ask, found.left_out)
    elif listing.pictures_below("test"):
        rows = dict.fromkeys(sorted(map(stem, listing.pictures_below("test"))))
        found.splits["test"] = _kaggle_split(listing, "test", "test", rows, ask, found.left_out)
    return found


def _kaggle_split(
    listing: Listing, split: str, table: str, rows: Mapping[str, int | None], ask: Ask, left_out: list[str]
) -> Pictures:
    where, csv_path = listing.root / split, listing.root / table
    files = listing.pictures_below(split)
    if not files:
        packed = next((name for name in listing.files[""] if name == f"{split}.zip"), None)
        way_out = f"unpack {packed} there" if packed else "get them too"
        raise InputError(f"{where} holds no images, but {csv_path} names {len(rows):,}; {way_out}.")
    by_id = dict(zip(require_unique([stem(file) for file in files], where).tolist(), files))
    labels = dict(zip(by_id, join(list(by_id), {key: key for key in rows})))  # the table's own name of each picture
    with_row = {key: i for i, key in labels.items() if key is not None}
    no_image, no_row = len(rows) - len(with_row), len(by_id) - len(with_row)
    if (no_image or no_row) and not (ask.overlap and with_row):
        missing = next((key for key in rows if key not in with_row), None)
        extra = next((i for i, key in labels.items() if key is None), None)
        raise InputError(
            f"{csv_path} and {where} do not fit: {no_image:,} of {len(rows):,} rows have no image"
            f"{f' (such as {missing})' if missing else ''}, {no_row:,} of {len(by_id):,} images have no row"
            f"{f' (such as {extra})' if extra else ''}; get both again, or use what both have with --overlap."
        )
    if no_image or no_row:
        left_out.append(f"{no_image:,} rows of {table} without an image, {no_row:,} images of {split} without a row")
    ids = [with_row[key] for key in rows if key in with_row]
    return Pictures(
        [by_id[i] for i in ids],
        ids,
        [int(rows[key] or 0) for key in rows if key in with_row] if table == "train_labels.csv" else None,
        content_ids=all(len(i) == 40 and set(i) <= set("0123456789abcdef") for i in ids),
    )


# WILDS: Camelyon17 ---------------------------------------------------------------------------------------------------

_WILDS = ("patient", "node", "x_coord", "y_coord", "tumor", "center", "split")


def _is_wilds(listing: Listing) -> bool:
    if "metadata.csv" not in listing.files[""]:
        return False
    with open(listing.root / "metadata.csv", encoding="utf-8", errors="replace") as file:
        return set(_WILDS) <= set(file.readline().strip().split(","))


def _read_wilds(listing: Listing, ask: Ask) -> Found:
    """Take WILDS's splits: hospital 1 is valid, hospital 2 is test. A part of the others ('id_val') is left out."""
    path = listing.root / "metadata.csv"
    columns = read_csv(path, _WILDS)
    places = {"1": "valid", "2": "test"}
    splits = [
        places.get(centre, "train" if part == "0" else "") for centre, part in zip(columns["center"], columns["split"])
    ]
    slides = [f"patient_{int(p):03}_node_{int(n)}" for p, n in zip(columns["patient"], columns["node"])]
    files = [
        f"patches/{slide}/patch_{slide}_x_{x}_y_{y}.png"
        for slide, x, y in zip(slides, columns["x_coord"], columns["y_coord"])
    ]
    labels, there = check_labels(columns["tumor"], path), set(listing.pictures_below("patches"))
    missing = [file for file in files if file not in there]
    if missing and (not ask.overlap or len(missing) == len(files)):
        raise InputError(
            f"{path} names {len(files):,} images, but {len(missing):,} of them are not there (such as {missing[0]}); "
            "get both again, or use those that are there with --overlap."
        )
    found = Found({}, classes=("no tumour", "tumour"))
    for split in SPLITS:
        rows = [row for row, name in enumerate(splits) if name == split and files[row] in there]
        if rows:
            found.splits[split] = Pictures(
                [files[row] for row in rows],
                [os.path.splitext(files[row])[0] for row in rows],
                [labels[row] for row in rows],
                [slides[row] for row in rows],
            )
    apart = splits.count("")
    if apart:
        found.left_out.append(f"{apart:,} rows that WILDS keeps to validate within the training hospitals (id_val)")
    if missing:
        found.left_out.append(f"{len(missing):,} rows of metadata.csv without an image")
    return found


#: They are tried in this order, and the first that recognises a folder reads it. None of them decodes a picture or
#: complains about another layout. Each gives for every split where its pictures lie and what is known of them. The
#: rest is the same for all, and `pcam_utils.data.sources.open_data` does it.
LAYOUTS = (
    Layout("pcam", f"{STEM}*_x.h5", _is_pcam, _read_pcam),
    Layout("kaggle", "train_labels.csv with train/*.tif", _is_kaggle, _read_kaggle),
    Layout("wilds", "metadata.csv with patches/", _is_wilds, _read_wilds),
    Layout("npz", "an .npz of x and y", _is_npz, _read_npz),
    Layout(
        "breakhis", "benign/ and malignant/ of BreakHis", folders.is_breakhis, folders.read_breakhis, by_folder=True
    ),
    Layout("splits", "train/, val/ and test/ of class folders", folders.is_splits, folders.read_splits, by_folder=True),
    Layout(
        "patients",
        "a folder a patient with two class folders",
        folders.patient_folders,
        folders.read_patients,
        by_folder=True,
    ),
    Layout("classes", "two folders of images", folders.is_classes, folders.read_classes, by_folder=True),
    Layout("images", "images", Listing.pictures, folders.read_images),
)

"""The layouts in which patches come: a table of small functions that recognise one and say what is in it.

None of them decodes a picture or complains of another layout. Each gives, for every split, where its pictures lie and
what is known of them; `pcam_utils.data.sources.open_data` does the rest for all of them alike.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..errors import InputError
from .download import SPLITS, STEM
from .listing import Listing, name_of
from .meanings import which_is_tumour
from .packing import unpacked
from .patches import Patches, Rows
from .stored import archive_names, open_archived, open_dataset, read_archived
from .tables import check_labels, join, read_csv, read_keyed, read_labels, require_unique

PCAM_CLASSES = ("no tumour in the centre", "tumour in the centre")
LESSON_15 = "lesson 15 learns any number of classes, and --positive NAME takes one against all others"
#: What people call the three splits.
SPLIT_NAMES = {
    **{"train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid"},
    **{"test": "test", "testing": "test"},
}


class Ask(NamedTuple):
    """What was asked for beside the folder; see `pcam_utils.data.sources.open_data`."""

    positive: str | None = None
    overlap: bool = False
    progress: bool = True


@dataclass
class Pictures:
    """A split of picture files: their paths below the folder, and what is known of each."""

    files: Sequence[str]
    ids: Sequence[str]
    labels: Sequence[int] | None = None
    slides: Sequence[str] | None = None
    content_ids: bool = False  #: ids are the SHA-1 of the pixels


@dataclass
class Found:
    """What a layout says is there.

    Attributes
    ----------
    splits : dict of str to Pictures, or to a function that opens Patches
    classes : tuple of str
    left_out : list of str
        What was seen and is not used, in a few words each.
    notes : list of str
        What else a person should know, a sentence each.
    instead : str
        What can be done about a split that is not there.
    """

    splits: dict[str, Pictures | Callable[[], Patches]]
    classes: tuple[str, ...] = PCAM_CLASSES
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    instead: str = "choose another, or get its files"


class Layout(NamedTuple):
    """A row of the table: its name, what it looks like, and the two functions; `by_folder` if folders name classes."""

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
    """The slide of each row, in the order of the rows' numbers, which the first column holds if it has no name."""
    slides = np.array(read_csv(path, ("wsi",))["wsi"])
    try:
        rows = np.array(read_csv(path, ("",))[""], np.int64)
    except InputError:
        return slides  # no numbers: the order is all there is
    except ValueError:
        rows = np.array([], np.int64)
    if not np.array_equal(np.sort(rows), np.arange(len(slides))):
        raise InputError(f"The first column of {path} does not number its rows from 0 on; get the official file.")
    return slides[np.argsort(rows)]


def _array_labels(labels: np.ndarray, where: Path) -> np.ndarray:
    wrong = np.setdiff1d(labels, (0, 1))
    if len(wrong):
        raise InputError(f"{where} holds the label {wrong[0]}, but only 0 and 1 are labels; get the official file.")
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
        rows = dict.fromkeys(sorted(map(_stem, listing.pictures_below("test"))))
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
    by_id = dict(zip(require_unique([_stem(file) for file in files], where).tolist(), files))
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
    """Splits as WILDS makes them: hospital 1 validates, hospital 2 tests; part of the others is kept out ('id_val')."""
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


# Folders whose names are classes -------------------------------------------------------------------------------------


def _classes(names: Sequence[str], where: Path, ask: Ask) -> tuple[tuple[str, ...], dict[str, int] | None]:
    """What 0 and 1 mean, and the label of each name; no labels for more than two classes of which none was chosen."""
    names = sorted(names)
    if ask.positive is not None:
        chosen = [name for name in names if name.casefold() == ask.positive.casefold()]
        if len(chosen) != 1 or len(names) < 2:
            raise InputError(f"{where} has no class {ask.positive} to be 1; its classes are {', '.join(names)}.")
    elif len(names) > 2:
        return tuple(names), None
    else:
        tumour = which_is_tumour(names)
        if tumour is None:
            raise InputError(
                f"{where} holds the folders {' and '.join(names)}, and their names do not say which is tumour, if they "
                f"are classes; say it with {' or '.join(f'--positive {name}' for name in names)}."
            )
        chosen = [names[tumour]]
    others = [name for name in names if name not in chosen]
    return (", ".join(others), chosen[0]), {name: int(name in chosen) for name in names}


def _by_folder(
    files: Sequence[str], labels: dict[str, int] | None, slides: Callable[[str], str] | None = None
) -> Pictures:
    """Pictures whose folder's name is their class: those of label 0 first."""
    if labels is not None:
        files = sorted(files, key=lambda file: labels[_folder_name(file)])  # stable
    return Pictures(
        files,
        [os.path.splitext(file)[0] for file in files],
        None if labels is None else [labels[_folder_name(file)] for file in files],
        None if slides is None else [slides(file) for file in files],
    )


def _require_pictures(listing: Listing, folders: Sequence[str]) -> None:
    for folder in folders:
        if not listing.pictures(folder):
            deeper = [inside for inside in listing.folders(folder) if listing.pictures_below(inside)]
            beside = ", ".join(name_of(other) for other in folders if other != folder)[:80]
            said = (
                f"itself, but {len(deeper)} folders of them, such as {name_of(deeper[0])}" if deeper else "that is read"
            )
            raise InputError(
                f"{listing.root / folder}, beside {beside}, holds no image {said}; put the images of each class right "
                "into its folder, or name the folder that is meant."
            )


def _found(splits: dict[str, Any], classes: tuple[str, ...], labels: dict[str, int] | None) -> Found:
    if labels is not None:
        return Found(splits, classes)
    many = f"its {len(classes)} folders may be classes: {LESSON_15}"
    return Found(splits, classes, notes=[f"No patch has a label here: {many}."], instead=many)


def _is_splits(listing: Listing) -> bool:
    inside = [folder for folder in listing.folders() if listing.pictures_below(folder)]
    return bool(inside) and all(folder.casefold() in SPLIT_NAMES for folder in inside)


def _read_splits(listing: Listing, ask: Ask) -> Found:
    folders = {folder: listing.folders(folder) for folder in listing.folders() if folder.casefold() in SPLIT_NAMES}
    for folder, inside in folders.items():
        if not inside and SPLIT_NAMES[folder.casefold()] != "test":
            raise InputError(
                f"{listing.root} holds the images of '{folder}' but neither a train_labels.csv nor folders for the "
                "classes; get it too, or name the folder that holds the two classes."
            )
        _require_pictures(listing, inside)
    names = {folder: sorted(map(name_of, inside)) for folder, inside in folders.items() if inside}
    if len({tuple(classes) for classes in names.values()}) > 1:
        said = "; ".join(f"{folder} has {', '.join(classes)[:80]}" for folder, classes in names.items())
        raise InputError(f"The splits in {listing.root} do not hold the same classes ({said}), which are needed.")
    classes, labels = _classes(next(iter(names.values())), listing.root, ask) if names else (PCAM_CLASSES, None)
    splits: dict[str, Any] = {}
    for folder, inside in folders.items():
        split = SPLIT_NAMES[folder.casefold()]
        if split in splits:
            raise InputError(f"{listing.root} holds two folders for {split} ({', '.join(folders)}); keep one.")
        files = [file for one in inside for file in listing.pictures(one)] or listing.pictures(folder)
        splits[split] = _by_folder(files, labels if inside else None)
    in_order = {split: splits[split] for split in SPLITS if split in splits}
    return _found(in_order, classes, labels) if names else Found(in_order)


def _patient_folders(listing: Listing) -> list[str]:
    """Folders that hold nothing but the folders of two classes, or one of them; IDC's upload repeats all in one."""
    kinds = {folder: {name_of(inside) for inside in listing.folders(folder)} for folder in listing.folders()}
    classes = set.union(set(), *(kind for kind in kinds.values() if len(kind) == 2))
    if len(classes) != 2 or which_is_tumour(sorted(classes)) is None:
        return []
    fitting = [folder for folder, kind in kinds.items() if kind and kind <= classes and not listing.pictures(folder)]
    return fitting if len(fitting) > 1 else []


def _read_patients(listing: Listing, ask: Ask) -> Found:
    inside = [folder for patient in _patient_folders(listing) for folder in listing.folders(patient)]
    files = [file for folder in inside for file in listing.pictures(folder)]
    classes, labels = _classes(sorted({name_of(folder) for folder in inside}), listing.root, ask)
    if set(classes) == {"0", "1"}:
        mixed = [f for f in files if (said := re.search(r"class([01])$", _stem(f))) and said[1] != _folder_name(f)]
        if mixed:
            raise InputError(f"{listing.root / mixed[0]} lies in the other class than its name says; put it right.")
    return Found({"train": _by_folder(files, labels, lambda file: file.split("/")[0])}, classes)


_BREAKHIS = re.compile(r"(?:^|/)(benign|malignant)/(?:.*/)?SOB_[BM]_[A-Z]+[-_]([\w-]+)(?:/|$)")


def _is_breakhis(listing: Listing) -> bool:
    inside = [folder for folder in listing.files if listing.pictures(folder)]
    return bool(inside) and all(_BREAKHIS.search(folder) for folder in inside)


def _read_breakhis(listing: Listing, ask: Ask) -> Found:
    """By patient, as a patient's tissue may lie under two diagnoses; all magnifications together."""
    classes, labels = _classes(("benign", "malignant"), listing.root, ask)
    assert labels is not None  # there are two
    files = listing.pictures_below()
    said = [_BREAKHIS.search(file) for file in files]
    pictures = Pictures(
        files,
        [os.path.splitext(file)[0] for file in files],
        [labels[match[1]] for match in said if match],
        [match[2] for match in said if match],
    )
    scales = sorted({_folder_name(file) for file in files})
    mixed = [f"Images at {', '.join(scales)} are mixed."] if len(scales) > 1 else []
    return Found({"train": pictures}, classes, notes=mixed)


def _is_classes(listing: Listing) -> bool:
    folders = listing.folders()
    return len(folders) > 1 and any(listing.pictures_below(folder) for folder in folders)


def _read_classes(listing: Listing, ask: Ask) -> Found:
    folders, loose = listing.folders(), listing.pictures()
    if loose and ask.positive is None and which_is_tumour([name_of(folder) for folder in folders]) is None:
        raise _mixed(listing, loose, folders)
    _require_pictures(listing, folders)
    classes, labels = _classes([name_of(folder) for folder in folders], listing.root, ask)
    files = [file for folder in folders for file in listing.pictures(folder)]
    return _found({"train" if labels else "images": _by_folder(files, labels)}, classes, labels)


def _mixed(listing: Listing, loose: Sequence[str], folders: Sequence[str]) -> InputError:
    inside = sum(len(listing.pictures_below(folder)) for folder in folders)
    return InputError(
        f"{listing.root} holds {len(loose):,} images and, beside them, {inside:,} in the folders "
        f"{', '.join(folders)[:80]}; name the folder that is meant, or move the others away."
    )


def _read_images(listing: Listing, ask: Ask) -> Found:
    files, folders = listing.pictures(), [folder for folder in listing.folders() if listing.pictures_below(folder)]
    if folders:
        raise _mixed(listing, files, folders)
    return Found({"images": Pictures(files, [_stem(file) for file in files])})


def _stem(path: str) -> str:
    return os.path.splitext(name_of(path))[0]


def _folder_name(path: str) -> str:
    return path.split("/")[-2]


#: Tried in this order; the first that recognises a folder reads it.
LAYOUTS = (
    Layout("pcam", f"{STEM}*_x.h5", _is_pcam, _read_pcam),
    Layout("kaggle", "train_labels.csv with train/*.tif", _is_kaggle, _read_kaggle),
    Layout("wilds", "metadata.csv with patches/", _is_wilds, _read_wilds),
    Layout("npz", "an .npz of x and y", _is_npz, _read_npz),
    Layout("breakhis", "benign/ and malignant/ of BreakHis", _is_breakhis, _read_breakhis, by_folder=True),
    Layout("splits", "train/, val/ and test/ of class folders", _is_splits, _read_splits, by_folder=True),
    Layout("patients", "a folder a patient with two class folders", _patient_folders, _read_patients, by_folder=True),
    Layout("classes", "two folders of images", _is_classes, _read_classes, by_folder=True),
    Layout("images", "images", Listing.pictures, _read_images),
)

"""Layouts whose folders are named for classes. The classes may lie alone, within splits, or within patients."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .download import SPLITS
from .found import PCAM_CLASSES, SPLIT_NAMES, Ask, Found, Pictures
from .listing import Listing, name_of, stem
from .meanings import which_is_tumour

LESSON_15 = "lesson 15 learns any number of classes, and --positive NAME takes one against all others"


def _classes(names: Sequence[str], where: Path, ask: Ask) -> tuple[tuple[str, ...], dict[str, int] | None]:
    """Say what 0 and 1 mean, and each name's label. More than two classes have labels only if one was chosen."""
    names = sorted(names)
    if ask.positive is not None:
        wanted = os.path.basename(os.path.normpath(ask.positive))  # shells complete names to paths
        chosen = [name for name in names if name.casefold() == wanted.casefold()]
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
    """List the pictures of the class folders, those of label 0 first."""
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


def is_splits(listing: Listing) -> bool:
    """True if all folders that hold pictures are called train, val or test."""
    inside = [folder for folder in listing.folders() if listing.pictures_below(folder)]
    return bool(inside) and all(folder.casefold() in SPLIT_NAMES for folder in inside)


def read_splits(listing: Listing, ask: Ask) -> Found:
    """Read the class folders of each split. A test split may have none."""
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
        raise InputError(
            f"The splits in {listing.root} do not hold the same classes ({said}); give them the same names, and put "
            "test images without labels right into their split."
        )
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


def patient_folders(listing: Listing) -> list[str]:
    """List the folders that hold nothing but class folders, of two classes or one. IDC's upload repeats all in one."""
    kinds = {folder: {name_of(inside) for inside in listing.folders(folder)} for folder in listing.folders()}
    classes = set.union(set(), *(kind for kind in kinds.values() if len(kind) == 2))
    if len(classes) != 2 or which_is_tumour(sorted(classes)) is None:
        return []
    fitting = [folder for folder, kind in kinds.items() if kind and kind <= classes and not listing.pictures(folder)]
    return fitting if len(fitting) > 1 else []


def read_patients(listing: Listing, ask: Ask) -> Found:
    """Read the pictures of all patients. Each patient's folder counts as a slide."""
    inside = [folder for patient in patient_folders(listing) for folder in listing.folders(patient)]
    files = [file for folder in inside for file in listing.pictures(folder)]
    classes, labels = _classes(sorted({name_of(folder) for folder in inside}), listing.root, ask)
    said = {file: found[1] for file in files if (found := re.search(r"_idx5_.*class([01])$", stem(file)))}
    mixed = [file for file, name in said.items() if name != _folder_name(file)]
    if mixed:
        raise InputError(f"{listing.root / mixed[0]} lies in the other class than its name says; put it right.")
    if len(said) == len(files) and classes == ("0", "1"):
        classes = ("no IDC", "IDC")  # invasive ductal carcinoma
    return Found({"train": _by_folder(files, labels, lambda file: file.split("/")[0])}, classes)


_BREAKHIS = re.compile(r"(?:^|/)(benign|malignant)/(?:.*/)?SOB_[BM]_[A-Z]+[-_]([\w-]+)(?:/|$)")


def is_breakhis(listing: Listing) -> bool:
    """True if all pictures lie in folders that are named as in BreakHis."""
    inside = [folder for folder in listing.files if listing.pictures(folder)]
    return bool(inside) and all(_BREAKHIS.search(folder) for folder in inside)


def read_breakhis(listing: Listing, ask: Ask) -> Found:
    """Split BreakHis by patient, since a patient may have tissue of two diagnoses. All magnifications stay together."""
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


def is_classes(listing: Listing) -> bool:
    """True if there are folders of pictures beside each other."""
    folders = listing.folders()
    return len(folders) > 1 and any(listing.pictures_below(folder) for folder in folders)


def read_classes(listing: Listing, ask: Ask) -> Found:
    """Read two classes, or one class against all others, or many classes without labels."""
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


def read_images(listing: Listing, ask: Ask) -> Found:
    """Read the pictures of one folder, if no other folder holds any."""
    files, folders = listing.pictures(), [folder for folder in listing.folders() if listing.pictures_below(folder)]
    if folders:
        raise _mixed(listing, files, folders)
    return Found({"images": Pictures(files, [stem(file) for file in files])})


def _folder_name(path: str) -> str:
    return path.split("/")[-2]

"""Finds and opens data: a folder in one of the layouts that `pcam_utils.data.layouts` lists becomes `Patches`."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import user_path
from ..runtime.places import workspace
from .download import SPLITS
from .found import PCAM_CLASSES, Ask, Pictures
from .layouts import LAYOUTS, Layout
from .listing import Listing
from .packing import pack_images
from .patches import Patches, Rows
from .tables import join, read_keyed, read_labels, require_unique

KAGGLE_INPUTS = (
    "/kaggle/input/histopathologic-cancer-detection",
    "/kaggle/input/competitions/histopathologic-cancer-detection",
)


@dataclass(frozen=True)
class Data:
    """What a folder holds.

    Attributes
    ----------
    folder : pathlib.Path
    layout : str
        A name in `pcam_utils.data.layouts.LAYOUTS`, such as 'pcam', 'kaggle', 'classes' or 'images'.
    splits : dict of str to Patches
    classes : tuple of str
        What the labels 0 and 1 mean. If there are more than two, they are folders whose patches have no labels here.
    fit : str or None
        What was done with images of another size.
    notes : tuple of str
        What was seen and left out, a sentence each.
    has : tuple of str
        All splits that are there, opened or not.
    instead : str
        What can be done about a split that is not there.
    """

    folder: Path
    layout: str
    splits: dict[str, Patches] = field(default_factory=dict)
    classes: tuple[str, ...] = PCAM_CLASSES
    fit: str | None = None
    notes: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    instead: str = "choose another, or get its files"

    def split(self, name: str) -> Patches:
        """Return one split, or raise `InputError`."""
        if name not in self.splits:
            only = f", only {' and '.join(self.has)}" if self.has else ""
            raise InputError(f"{self.folder} has no split '{name}' here{only}; {self.instead}.")
        return self.splits[name]

    def default_split(self, *, labelled: bool = False) -> str:
        """Name the split to work on if nobody names one. It need not be there; `split` tells whether it is.

        A folder without splits is taken whole. Else it is 'test', or 'valid' if labels are needed and 'test' has none.
        """
        if "images" in self.splits:
            return "images"
        test = self.splits.get("test")
        return "valid" if labelled and (test is None or test.labels is None) else "test"

    @property
    def simulated(self) -> bool:
        """True if any of the patches are simulated."""
        return any(patches.simulated for patches in self.splits.values())


def sample_folder() -> Path:
    """Give the place where the simulated sample is looked for, and where lessons write it: data/sample."""
    return workspace() / "data" / "sample"


def find_data() -> Path:
    """Find the data that are at hand: `PCAM_DATA`, Kaggle's input, `data/pcam`, or the simulated sample.

    Nothing is written here. Lessons call `pcam_utils.simulated.find_or_make_data`, which writes the sample if needed.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If there are none.

    Examples
    --------
    >>> os.environ["PCAM_DATA"] = "my/patches"
    >>> find_data().as_posix()
    'my/patches'
    >>> del os.environ["PCAM_DATA"]
    """
    if os.environ.get("PCAM_DATA"):
        return user_path(os.environ["PCAM_DATA"])
    for place in (*map(Path, KAGGLE_INPUTS), workspace() / "data" / "pcam", sample_folder()):
        if place.is_dir() and any(place.iterdir()):
            return place
    raise InputError(
        "No patches are found here; name their folder (as DATA, or in the environment's PCAM_DATA), or write the "
        f"simulated sample with 'pcam sample {sample_folder()}'."
    )


def open_data(
    folder: str | os.PathLike,
    *,
    only: Collection[str] | None = None,
    fit: str | None = None,
    labels: str | os.PathLike | None = None,
    positive: str | None = None,
    overlap: bool = False,
    progress: bool = True,
) -> Data:
    """Open a folder of patches. Its layout is recognised by itself.

    Parameters
    ----------
    folder : path
    only : collection of str, optional
        If the layout has splits, open only these, so that the others need not be unpacked.
    fit : {None, 'resize', 'crop'}
        What to do with images of another size than 96×96 pixels: refuse them, resize them, or cut out the centre.
    labels : path, optional
        CSV with the columns id and label, for a split that has no labels of its own.
    positive : str, optional
        Name of the class folder whose patches get label 1; all others get 0. Needed where the names do not say it.
    overlap : bool
        If a table and the images do not cover each other, use what both have. Without this, such data are refused.
    progress : bool
        Show a bar where packing images or unpacking archives takes more than two seconds.

    Returns
    -------
    Data

    Raises
    ------
    InputError
        If nothing usable is there, or something is broken.

    Examples
    --------
    >>> open_data("nowhere")
    Traceback (most recent call last):
    pcam_utils.errors.InputError: There is no folder nowhere; name an existing one...
    """
    folder = user_path(folder)
    if not folder.exists():
        raise InputError(f"There is no folder {folder}; name an existing one, or write the sample with 'pcam sample'.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, but a folder is needed; name the folder that holds it.")
    try:
        data = _open(folder, only or SPLITS, fit, Ask(positive, overlap, progress))
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be read; change its permissions.") from error
    for patches in data.splits.values():
        if not len(patches):
            raise InputError(f"The {patches.name} split of {folder} has no rows; get the files again.")
    return _with_labels(data, labels, overlap) if labels else data


def _open(folder: Path, only: Collection[str], fit: str | None, ask: Ask) -> Data:
    layout, listing, around = _recognise(Listing(folder))
    if ask.positive is not None and not layout.by_folder:
        raise InputError(f"{folder} has no folders that are classes, so --positive names none; leave it out.")
    found = layout.read(listing, ask)
    used = [file for split in found.splits.values() if isinstance(split, Pictures) for file in split.files]
    splits = {
        name: _packed(listing, name, split, fit, ask, found.left_out) if isinstance(split, Pictures) else split()
        for name, split in found.splits.items()
        if name in only or name == "images"
    }
    left_out = listing.left_out(used) + found.left_out + around
    begin = f"{len(used):,} images are used; left out" if used else "Left out"
    notes = [f"{begin}: {'; '.join(left_out)}."] if left_out else []
    return Data(
        folder=listing.root,
        layout=layout.name,
        splits=splits,
        classes=found.classes,
        fit=fit,
        notes=(*notes, *found.notes),
        has=tuple(found.splits),
        instead=found.instead,
    )


def _recognise(listing: Listing) -> tuple[Layout, Listing, list[str]]:
    """Recognise the layout of a folder, or of the single folder in it (archives and libraries add such a folder).

    In that case, also say what is left out around the single folder.
    """
    for layout in LAYOUTS:
        if layout.recognise(listing):
            return layout, listing, []
    inside = listing.folders()
    if len(inside) == 1 and not listing.broken:  # a broken link may be the other class
        layout, inner, around = _recognise(Listing(listing.root / inside[0]))
        return layout, inner, around + listing.left_out(listing.pictures_below(inside[0]))
    packed = [file for file in listing.files[""] if file.endswith((".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar"))]
    there = listing.left_out(())
    said = f", only {'; '.join(there)}" if there else f"; unpack {packed[0]} first" if packed else ""
    raise InputError(
        f"{listing.root} holds no patches{said}; expected {', '.join(layout.looks for layout in LAYOUTS[:-1])}, or "
        f"{LAYOUTS[-1].looks}."
    )


def _packed(listing: Listing, name: str, split: Pictures, fit: str | None, ask: Ask, left_out: list[str]) -> Patches:
    """Decode the pictures of one split, or find them already decoded, and make `Patches` of them."""
    ids = require_unique(split.ids, listing.root)
    slides = split.slides if split.slides is not None else _slides(listing, name, ids.tolist(), ask)
    known = [row for row in range(len(ids)) if slides is None or slides[row] is not None]
    if len(known) < len(ids):
        left_out.append(f"{len(ids) - len(known):,} images of {name} whose slide is not known")
    # Fitted images no longer are what their names promise.
    content_ids = split.content_ids and fit is None and len(ids) > 0
    root = os.fspath(listing.root)
    images = pack_images(
        [f"{root}/{file}" for file in split.files], fit=fit, check_sha1=content_ids, progress=ask.progress
    )
    patches = Patches(
        Rows(images),
        ids,
        labels=None if split.labels is None else np.array(split.labels, np.uint8),
        name=name,
        simulated="SIMULATED.txt" in listing.files[""],
        content_ids=content_ids,
    )
    if len(known) < len(ids):
        patches = patches.take(known)
    return patches if slides is None else replace(patches, slides=np.array([slides[row] for row in known], str))


def _slides(listing: Listing, name: str, ids: list[str], ask: Ask) -> list[str | None] | None:
    """Give the slide of each picture, from slides.csv (id,slide) or from the table that Kagglers share (id,wsi)."""
    file = listing.find("slides.csv", "patch_id_wsi_full.csv", "patch_id_wsi.csv")
    if file is None:
        return None
    slides = join(ids, read_keyed(listing.root / file, "slide" if file.endswith("slides.csv") else "wsi"))
    unknown = [i for i, slide in zip(ids, slides) if slide is None]
    if len(unknown) == len(ids) and name != "train":
        return None  # such a table covers what there is to learn from, and need not cover the rest
    if unknown and not (ask.overlap and len(unknown) < len(ids)):
        raise InputError(
            f"{listing.root / file} names the slide of {len(ids) - len(unknown):,} of the {len(ids):,} images of "
            f"{name} (not of {unknown[0]}); complete it, use those with --overlap, or move it away."
        )
    return slides


def _with_labels(data: Data, path: str | os.PathLike, overlap: bool) -> Data:
    """Give labels to the split that has none and whose ids the table `path` names."""
    labels = read_labels(path)
    without = [patches for patches in data.splits.values() if patches.labels is None]
    if not without:
        raise InputError(f"{path} is not needed, as no split of {data.folder} is without labels here; leave it out.")
    found = [join(patches.ids.tolist(), labels) for patches in without]
    counts = [sum(label is not None for label in column) for column in found]
    best = int(np.argmax(counts))
    patches, column, count = without[best], found[best], counts[best]
    if count < len(patches) and not (overlap and count):
        missing = next(i for i, label in zip(patches.ids, column) if label is None)
        raise InputError(
            f"{path} labels {count:,} of the {len(patches):,} patches of {patches.name} (not {missing}), and its own "
            f"first id is {next(iter(labels))}; check its ids, or use what both have with --overlap."
        )
    rows = [row for row, label in enumerate(column) if label is not None]
    labelled = replace(patches.take(rows), labels=np.array([column[row] for row in rows], np.uint8))
    notes = data.notes
    if count < len(patches):
        notes += (
            f"{path} labels {count:,} of the {len(patches):,} patches of {patches.name}; the others are left out.",
        )
    return replace(data, splits={**data.splits, patches.name: labelled}, notes=notes)

"""Finds and opens data: official HDF5, the Kaggle competition's folder, class folders, or plain images."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..runtime.places import workspace
from .download import SPLITS, STEM, unpack
from .packing import IMAGE_SUFFIXES, pack_images
from .patches import SIZE, FileRows, Patches, Rows
from .tables import read_csv, read_labels, require_unique

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
        'pcam' (official HDF5), 'kaggle', 'classes' (one sub-folder a class) or 'images' (a plain folder).
    splits : dict of str to Patches
    classes : tuple of str
        What the labels 0 and 1 mean.
    """

    folder: Path
    layout: str
    splits: dict[str, Patches] = field(default_factory=dict)
    classes: tuple[str, ...] = ("no tumour in the centre", "tumour in the centre")

    def split(self, name: str) -> Patches:
        """Return one split, or raise `InputError`."""
        if name not in self.splits:
            raise InputError(f"{self.folder} has no split '{name}' here; choose another, or get its files.")
        return self.splits[name]

    def default_split(self, *, labelled: bool = False) -> str:
        """Name the split to work on where nobody names one; whether it is there, `split` tells.

        It is all of a folder without splits; else 'test', or 'valid' where labels are needed and 'test' has none.
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
    """Where the simulated sample is looked for, and written by lessons: data/sample beside the notebooks."""
    return workspace() / "data" / "sample"


def find_data() -> Path:
    """Find the data that are at hand: `PCAM_DATA`, Kaggle's input, `data/pcam`, or the simulated sample.

    Nothing is written; lessons call `pcam_utils.simulated.find_or_make_data`, which writes the sample at need.

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
        return Path(os.environ["PCAM_DATA"])
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
    progress: bool = True,
) -> Data:
    """Open a folder of patches; its layout is recognised.

    Parameters
    ----------
    folder : path
    only : collection of str, optional
        Open these splits alone, where the layout has splits: spares unpacking the others.
    fit : {None, 'resize', 'crop'}
        What to do with images of another size than 96×96 pixels: refuse them, resize them, or cut out the centre.
    labels : path, optional
        CSV with the columns id and label: labels of a split that has none of its own.
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
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise InputError(f"There is no folder {folder}; name an existing one, or write the sample with 'pcam sample'.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, but a folder is needed; name the folder that holds it.")
    try:
        data = _recognise(folder, only or SPLITS, fit, progress)
    except PermissionError as error:
        raise InputError(f"{error.filename} may not be read; change its permissions.") from error
    for patches in data.splits.values():
        if not len(patches):
            raise InputError(f"The {patches.name} split of {folder} has no rows; get the files again.")
    return _with_labels(data, labels) if labels else data


def _recognise(folder: Path, only: Collection[str], fit: str | None, progress: bool) -> Data:
    if any((folder / f"{STEM}{split}_x.h5{end}").exists() for split in SPLITS for end in ("", ".gz")):
        return _open_pcam(folder, only, progress)
    if (folder / "train_labels.csv").exists() or (folder / "sample_submission.csv").exists():
        return _open_kaggle(folder, only, fit, progress)
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _images_in(path))
    if {path.name for path in inside} & {*SPLITS, "val", "validation"}:
        raise InputError(
            f"{folder} holds the images of '{inside[0].name}' but no train_labels.csv; get it too, or name the folder "
            "that holds the two classes."
        )
    if len(inside) == 2:
        return _open_classes(folder, inside, fit, progress)
    if len(inside) > 2:
        raise InputError(
            f"{folder} holds {len(inside)} folders of images ({', '.join(p.name for p in inside[:4])}…), "
            "but two classes are needed; keep two."
        )
    files = _images_in(folder)
    if files:
        images = pack_images(files, fit=fit, progress=progress)
        patches = Patches(Rows(images), require_unique([file.stem for file in files], folder))
        return Data(folder, "images", {"images": _with_simulated_flag(patches, folder)})
    raise InputError(
        f"{folder} holds no patches; expected {STEM}*_x.h5, train_labels.csv with train/*.tif, "
        "two folders of images, or images."
    )


# Official HDF5 -----------------------------------------------------------------------------------------------------


def _open_pcam(folder: Path, only: Collection[str], progress: bool) -> Data:
    splits = {}
    for split in (split for split in SPLITS if split in only):
        path = _h5_path(folder, f"{STEM}{split}_x", progress)
        if path:
            splits[split] = _open_split(folder, split, path, progress)
    return Data(folder, "pcam", splits)


def _h5_path(folder: Path, stem: str, progress: bool) -> Path | None:
    """The .h5 file of this stem, unpacked from .h5.gz the first time; None if there is neither."""
    plain, packed = folder / f"{stem}.h5", folder / f"{stem}.h5.gz"
    if plain.exists():
        return plain
    return unpack(packed, keep=True, progress=progress) if packed.exists() else None


def _open_split(folder: Path, split: str, x_path: Path, progress: bool) -> Patches:
    images = _dataset(x_path, "x", (SIZE, SIZE, 3))
    y_path = _h5_path(folder, f"{STEM}{split}_y", progress)
    labels = _check_labels(Rows(_dataset(y_path, "y", (1, 1, 1)))[:].ravel(), y_path) if y_path else None
    with h5py.File(x_path, "r") as file:
        simulated = bool(file["x"].attrs.get("simulated", False))
    return Patches(
        Rows(images),
        ids=np.array([f"{split}_{row}" for row in range(len(images))]),
        labels=labels,
        slides=_read_slides(folder / f"{STEM}{split}_meta.csv"),
        name=split,
        simulated=simulated,
    )


def _dataset(path: Path, name: str, row_shape: tuple[int, ...]) -> FileRows | h5py.Dataset:
    """Open one HDF5 dataset, past HDF5 where its bytes lie in one piece: faster, and safe across processes."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if isinstance(error, PermissionError):
            raise PermissionError(error.errno, error.strerror, str(path)) from error
        raise InputError(
            f"{path} is not a whole HDF5 file (truncated, or a web page in its place); get it again."
        ) from error
    if name not in file:
        raise InputError(
            f"{path} has no dataset '{name}', only: {', '.join(file) or 'nothing'}; get the official file."
        )
    dataset = file[name]
    shape = getattr(dataset, "shape", None)  # a group has none
    if not shape or shape[1:] not in ((row_shape,) if name == "x" else (row_shape, ())):
        raise InputError(
            f"'{name}' in {path} has the shape {shape}, but (N, {', '.join(map(str, row_shape))}) is needed; "
            "get the official file."
        )
    if dataset.dtype != np.uint8:
        raise InputError(f"'{name}' in {path} holds {dataset.dtype}, but uint8 is needed; get the official file.")
    if dataset.chunks is None and dataset.id.get_offset() is not None:
        return FileRows(path, dataset.id.get_offset(), dataset.shape)
    return dataset


def _read_slides(path: Path) -> NDArray[np.str_] | None:
    if not path.exists():
        return None
    rows = read_csv(path, ("wsi",))
    return np.array([row["wsi"] for row in rows])


# The Kaggle competition's folder -----------------------------------------------------------------------------------


def _open_kaggle(folder: Path, only: Collection[str], fit: str | None, progress: bool) -> Data:
    splits = {}
    labels_path, sample_path = folder / "train_labels.csv", folder / "sample_submission.csv"
    if "train" in only and labels_path.exists():
        labels = read_labels(labels_path)
        splits["train"] = _kaggle_split(folder, "train", list(labels), labels_path, fit, progress)
        splits["train"] = replace(splits["train"], labels=np.array(list(labels.values()), np.uint8))
    if "test" in only and (sample_path.exists() or (folder / "test").is_dir()):
        ids = [row["id"] for row in read_csv(sample_path, ("id",))] if sample_path.exists() else None
        splits["test"] = _kaggle_split(folder, "test", ids, sample_path, fit, progress)
    return Data(folder, "kaggle", splits)


def _kaggle_split(
    folder: Path, split: str, ids: list[str] | None, csv_path: Path, fit: str | None, progress: bool
) -> Patches:
    found = _images_in(folder / split)
    files = dict(zip(require_unique([file.stem for file in found], folder / split).tolist(), found))
    ids = sorted(files) if ids is None else ids
    require_unique(ids, csv_path)
    without_image, without_row = [i for i in ids if i not in files], sorted(set(files) - set(ids))
    if without_image:
        raise InputError(
            f"{csv_path} names {len(without_image)} images that are not in {folder / split} "
            f"(the first: {without_image[0]}); get both again."
        )
    if without_row:
        raise InputError(
            f"{folder / split} holds {len(without_row)} images that {csv_path} does not name "
            f"(the first: {without_row[0]}); get both again."
        )
    # Fitted images no longer are what their names promise.
    content_ids = fit is None and bool(ids) and all(len(i) == 40 and set(i) <= set("0123456789abcdef") for i in ids)
    images = pack_images([files[i] for i in ids], fit=fit, check_sha1=content_ids, progress=progress)
    slides_path = folder / "slides.csv"
    slides = {row["id"]: row["slide"] for row in read_csv(slides_path, ("id", "slide"))} if slides_path.exists() else {}
    patches = Patches(
        Rows(images),
        np.array(ids),
        slides=np.array([slides[i] for i in ids]) if all(i in slides for i in ids) and ids else None,
        name=split,
        content_ids=content_ids,
    )
    return _with_simulated_flag(patches, folder)


# Folders of images -------------------------------------------------------------------------------------------------


def _open_classes(folder: Path, class_folders: list[Path], fit: str | None, progress: bool) -> Data:
    files = [_images_in(class_folder) for class_folder in class_folders]
    images = pack_images(files[0] + files[1], fit=fit, progress=progress)
    ids = [f"{file.parent.name}/{file.stem}" for file in files[0] + files[1]]
    labels = np.repeat(np.array([0, 1], np.uint8), [len(files[0]), len(files[1])])
    patches = Patches(Rows(images), require_unique(ids, folder), labels, name="train")
    return Data(
        folder, "classes", {"train": _with_simulated_flag(patches, folder)}, tuple(path.name for path in class_folders)
    )


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    # Hidden files are no images, whatever their suffix: macOS puts a '._x.tif' beside 'x.tif' on foreign disks.
    seen = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in seen if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _with_simulated_flag(patches: Patches, folder: Path) -> Patches:
    return replace(patches, simulated=(folder / "SIMULATED.txt").exists())


# Labels ------------------------------------------------------------------------------------------------------------


def _with_labels(data: Data, path: str | os.PathLike) -> Data:
    """Add the labels in the table `path` to the first unlabelled split all of whose ids are in it."""
    labels = read_labels(Path(path))
    for name, patches in data.splits.items():
        if patches.labels is None and set(patches.ids) <= set(labels):
            found = np.array([labels[i] for i in patches.ids], np.uint8)
            return replace(data, splits={**data.splits, name: replace(patches, labels=found)})
    raise InputError(f"{path} does not label every patch of an unlabelled split of {data.folder}; check its ids.")


def _check_labels(labels: NDArray[np.uint8], where: Path | None) -> NDArray[np.uint8]:
    wrong = np.setdiff1d(labels, (0, 1))
    if len(wrong):
        raise InputError(f"{where} holds the label {wrong[0]}, but only 0 and 1 are labels; get the official file.")
    return labels

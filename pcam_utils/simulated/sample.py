"""The simulated sample: patches cut from rendered slides and written as the real data come."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..data.download import STEM
from ..data.patches import CENTRE, SIZE
from ..data.sources import find_data, sample_folder
from ..errors import InputError
from ..files import replacing, require_room
from .tissue import Slide, render_slide

__all__ = ["SPLIT_SIZES", "Slide", "find_or_make_data", "render_slide", "write_sample"]

SPLIT_SIZES = {"train": 2500, "valid": 750, "test": 1500}
LAYOUTS = ("pcam", "kaggle")
SLIDE_SIZE = 400  # pixels
PATCHES_PER_SLIDE = 25  # few, so that there are many slides, because the certainty of a score depends on their number
REPEATED = 0.02  # share of the train positives that are cut twice, as in PCam
RING_SHARE = 0.12  # share of a tumour slide's negatives with tumour around the centre, not in it
IMAGE_DESCRIPTION_TAG = 270
ABOUT = "Simulated pictures, not patients' tissue: rendered by pcam_utils in the manner of PatchCamelyon."


@dataclass(frozen=True)
class _Cut:
    """One patch of a split: where it goes (``row``), where it comes from, and its pixels."""

    row: int
    slide: str
    x: int
    y: int
    image: np.ndarray
    mask: np.ndarray
    label: int


def find_or_make_data(*, progress: bool = True) -> Path:
    """Find the data that are at hand. If there are none, write the simulated sample. Each lesson begins with this.

    Parameters
    ----------
    progress : bool
        Show a bar while slides are rendered, which takes half a minute.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If there are no data and the sample cannot be written.

    Examples
    --------
    >>> os.environ["PCAM_DATA"] = "my/patches"
    >>> find_or_make_data().as_posix()
    'my/patches'
    >>> del os.environ["PCAM_DATA"]
    """
    try:
        return find_data()
    except InputError:
        print(f"No patches are found, so the simulated sample is written to {sample_folder()}, once for all lessons.")
    write_sample(sample_folder(), progress=progress)
    return sample_folder()


def write_sample(
    out: str | os.PathLike,
    *,
    layout: str = "pcam",
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Render slides, cut patches from them and write them as the real data are laid out.

    Parameters
    ----------
    out : str or path
        The folder to make. It must be missing or empty.
    layout : {"pcam", "kaggle"}
        ``"pcam"``: the official HDF5 files (``x`` (N, 96, 96, 3) uint8 RGB, ``y`` (N, 1, 1, 1)
        uint8, ``mask`` (N, 96, 96, 1) uint8) and the meta csv for train, valid and test.
        ``"kaggle"``: a TIFF per patch, named by the SHA-1 of its RGB bytes, ``train_labels.csv``
        (train and valid together), ``sample_submission.csv``, and beside them ``slides.csv`` and
        ``test_solution.csv``. Repeats are left out.
    sizes : dict, optional
        Patches per split, even numbers. A split that is left out gets its size in `SPLIT_SIZES`.
    seed : int
        The same seed gives the same bytes.
    progress : bool
        Show a bar where rendering takes more than two seconds.

    Returns
    -------
    pathlib.Path
        The folder written. It appears only when it is complete.

    Raises
    ------
    InputError
        If ``out`` is taken or cannot be written, or the layout, a size or the seed cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> sizes = {"train": 6, "valid": 2, "test": 2}
    >>> folder = write_sample(tempfile.mkdtemp() + "/sample", sizes=sizes)
    >>> sorted(path.name for path in folder.glob("*valid_?.h5"))
    ['camelyonpatch_level_2_split_valid_x.h5', 'camelyonpatch_level_2_split_valid_y.h5']
    """
    out = Path(out).expanduser().absolute()
    if layout not in LAYOUTS:
        raise InputError(f"Layout {layout!r} is not known: choose one of {', '.join(LAYOUTS)}.")
    sizes = _check_sizes(sizes)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"Seed {seed!r} cannot be used: give a whole number from 0 up.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already and is not an empty folder: name a new folder, or remove it first.")
    # We ask beforehand, because HDF5 does not survive a disk that fills up while it writes.
    require_room(out, 5 * SIZE * SIZE * sum(sizes.values()))
    write_split = {"pcam": _write_pcam, "kaggle": _write_kaggle}[layout]
    counts = {split: _slide_count(n) for split, n in sizes.items()}
    bar = tqdm(total=sum(counts.values()), desc="Rendering slides", unit="slide", delay=2, disable=not progress)
    first = 0
    with bar, replacing(out, folder=True) as folder:
        for split, number in sizes.items():
            write_split(folder, split, number, _cut_split(split, number, first, int(seed), bar))
            first += counts[split]
        (folder / "SIMULATED.txt").write_text(
            "These are simulated pictures, not patients' tissue.\n"
            "They are for learning and for tests; nothing found in them holds for patients.\n"
            f"Made by pcam_utils with seed {seed}.\n",
            encoding="utf-8",
        )
    return out


def _check_sizes(wanted: Mapping[str, int] | None) -> dict[str, int]:
    sizes = dict(wanted or {})
    unknown = [split for split in sizes if split not in SPLIT_SIZES]
    if unknown:
        raise InputError(f"Split {unknown[0]!r} is not known: choose among {', '.join(SPLIT_SIZES)}.")
    for split, n in sizes.items():
        whole = isinstance(n, (int, np.integer)) and not isinstance(n, bool)
        if not whole or n <= 0 or n % 2:
            raise InputError(
                f"Size {n!r} of split {split!r} cannot be used: give an even number "
                "from 2 up, so that half the patches hold tumour."
            )
    return {split: int(sizes.get(split, n)) for split, n in SPLIT_SIZES.items()}


# --- cutting ------------------------------------------------------------------------------------


def _slide_count(number):
    """Say how many slides a split of ``number`` patches has: at least three, one of them without tumour."""
    return max(3, -(-number // PATCHES_PER_SLIDE))


def _cut_split(split: str, number: int, first: int, seed: int, bar: tqdm) -> Iterator[_Cut]:
    """Yield the patches of one split, slide by slide; slides are numbered from ``first``."""
    split_number = list(SPLIT_SIZES).index(split)
    slides = _slide_count(number)
    with_tumour = [i % 3 != 2 for i in range(slides)]
    repeats = round(REPEATED * number / 2) if split == "train" else 0
    positives = iter(_shares(number // 2 - repeats, sum(with_tumour)))
    again = iter(_shares(repeats, sum(with_tumour)))
    negatives = _shares(number // 2, slides)
    # This needs a stream of its own. NumPy takes [seed, 0] for seed, so whoever shuffled the rows with that seed would
    # put them back in order.
    rows = iter(np.random.default_rng([seed, split_number, 0, 2]).permutation(number).tolist())
    for i, tumour in enumerate(with_tumour):
        slide_seed = [seed, split_number, first + i]
        slide = render_slide(slide_seed, size=SLIDE_SIZE, tumour=tumour)
        rng = np.random.default_rng([*slide_seed, 1])
        corners = _corners(rng, slide, next(positives) if tumour else 0, negatives[i])
        corners += corners[: next(again)] if tumour else []
        for y, x in corners:
            yield _cut(slide, y, x, next(rows))
        bar.update()


def _shares(number, parts):
    """Cut ``number`` into ``parts`` whole shares that are as equal as possible."""
    return [number // parts + (i < number % parts) for i in range(parts)]


def _window_sums(mask, window):
    """Count how many pixels of ``mask`` each square of ``window`` pixels holds, by its first corner."""
    sums = np.pad(mask.astype(np.int32), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return sums[window:, window:] - sums[:-window, window:] - sums[window:, :-window] + sums[:-window, :-window]


def _corners(rng, slide, positives, negatives):
    """First corners (y, x) of the patches to cut from a slide, all different, positives first."""
    span = slide.tumour.shape[0] - SIZE + 1
    in_reach = slice(CENTRE.start, CENTRE.start + span)
    in_centre = _window_sums(slide.tumour, CENTRE.stop - CENTRE.start)[in_reach, in_reach]
    in_patch = _window_sums(slide.tumour, SIZE)
    # PCam leaves out patches that are white all over.
    stained = _window_sums(slide.image.min(2) < 205, SIZE) > 0.03 * SIZE**2
    # Every place is as likely as any other, so some centres hold a few pixels of tumour only, as in PCam.
    touched = _draw(rng, in_centre > 0, positives)
    ring = _draw(rng, (in_patch > 0) & (in_centre == 0) & stained, round(RING_SHARE * negatives))
    plain = (in_centre == 0) & stained
    plain[tuple(np.array(ring, int).reshape(-1, 2).T)] = False
    return touched + ring + _draw(rng, plain, negatives - len(ring))


def _draw(rng, weights, number):
    """Draw up to ``number`` different places from a map, each as often as its weight says."""
    places = np.flatnonzero(weights)
    if not number or not len(places):
        return []
    weight = weights.ravel()[places] / weights.ravel()[places].sum()
    chosen = rng.choice(places, min(number, len(places)), replace=False, p=weight)
    return [divmod(int(place), weights.shape[1]) for place in chosen]


def _cut(slide, y, x, row):
    image = slide.image[y : y + SIZE, x : x + SIZE]
    mask = slide.tumour[y : y + SIZE, x : x + SIZE]
    label = int(mask[CENTRE, CENTRE].any())
    return _Cut(row, slide.name, x, y, image, mask, label)


# --- writing ------------------------------------------------------------------------------------


def _write_pcam(folder, split, number, cuts):
    """Write one split in the official layout."""
    stem = f"{STEM}{split}"
    shapes = {"x": (number, SIZE, SIZE, 3), "y": (number, 1, 1, 1), "mask": (number, SIZE, SIZE, 1)}
    meta = [None] * number
    with ExitStack() as stack:
        data = {}
        for key, shape in shapes.items():
            file = stack.enter_context(h5py.File(folder / f"{stem}_{key}.h5", "w"))
            data[key] = file.create_dataset(key, shape, np.uint8)
        data["x"].attrs["simulated"] = True
        data["x"].attrs["about"] = ABOUT
        for cut in cuts:
            data["x"][cut.row] = cut.image
            data["y"][cut.row] = cut.label
            data["mask"][cut.row] = cut.mask[..., None]
            meta[cut.row] = (cut.slide, cut.x, cut.y, bool(cut.mask.any()), bool(cut.label))
    # The official tables begin with a column of row numbers that has no name.
    header = ("", "wsi", "coord_x", "coord_y", "tumor_patch", "center_tumor_patch")
    _append_csv(folder / f"{stem}_meta.csv", header, [(row, *line) for row, line in enumerate(meta)])


def _write_kaggle(folder, split, number, cuts):
    """Add one split to Kaggle's layout: train and valid become train, test stays test."""
    part = "test" if split == "test" else "train"
    (folder / part).mkdir(exist_ok=True)
    lines = [None] * number
    for cut in cuts:
        pixels = np.ascontiguousarray(cut.image)
        name = hashlib.sha1(pixels.tobytes()).hexdigest()
        path = folder / part / f"{name}.tif"
        if not path.exists():
            Image.fromarray(pixels).save(path, tiffinfo={IMAGE_DESCRIPTION_TAG: ABOUT})
            lines[cut.row] = (name, cut.label, cut.slide)
    lines = [line for line in lines if line]
    labels = [line[:2] for line in lines]
    if part == "train":
        _append_csv(folder / "train_labels.csv", ("id", "label"), labels)
    else:
        _append_csv(folder / "sample_submission.csv", ("id", "label"), [(i, 0) for i, _ in labels])
        _append_csv(folder / "test_solution.csv", ("id", "label"), labels)
    _append_csv(folder / "slides.csv", ("id", "slide"), [(i, slide) for i, _, slide in lines])


def _append_csv(path, header, lines):
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(([header] if new else []) + lines)

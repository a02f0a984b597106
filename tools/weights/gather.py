"""Gathers real patches, as they came, into one folder in the official layout, with the names of what they are."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from pcam_utils.data.download import STEM

SPLITS = ("train", "valid", "test")


def gather(jpegs, out, *, lossless=None, say=print):
    """Write the official splits' JPEG patches, and lossless ones beside those of *train*.

    Parameters
    ----------
    jpegs : path
        Holds {train,valid,test}/{0,1}/ROW.jpg, or zips of them; ROW is the row in PCam's file.
    out : path
        A new folder.
    lossless : list of path, optional
        Folders of Kaggle's training images: train_labels.csv with train/ID.tif; or zips of labels.csv with
        train/ID.webp. ID is the SHA-1 of the pixels, and is checked.

    Raises
    ------
    ValueError
        If a lossless image is not the one that its name promises.
    """
    out = Path(out)
    out.mkdir(parents=True)
    for split in SPLITS:
        items = sorted(_jpegs(Path(jpegs), split), key=lambda item: item[:2])
        items = [("official", *item) for item in items]
        if split == "train":
            items += [("kaggle", *item) for source in lossless or () for item in _lossless(Path(source))]
        images = np.stack([np.asarray(Image.open(io.BytesIO(read())).convert("RGB")) for *_, read in items])
        for (source, name, *_), image in zip(items, images):
            if source == "kaggle" and hashlib.sha1(image.tobytes()).hexdigest() != name:
                raise ValueError(f"The pixels of {name} are not those that its name promises.")
        labels = np.array([label for _, _, label, _ in items], np.uint8)
        with h5py.File(out / f"{STEM}{split}_x.h5", "w") as file:
            file["x"] = images
        with h5py.File(out / f"{STEM}{split}_y.h5", "w") as file:
            file["y"] = labels.reshape(-1, 1, 1, 1)
        with open(out / f"{split}_names.csv", "w", newline="") as file:
            rows = ((source, name) for source, name, _, _ in items)
            csv.writer(file).writerows([("source", "name"), *rows])
        say(f"{split}: {len(labels):,} patches, {labels.sum():,} with tumour")


def _jpegs(folder, split):
    """(official row, label, how to read it) of each JPEG of a split."""
    for path in sorted(folder.glob(f"*{split}*.zip")):
        archive = zipfile.ZipFile(path)
        for member in archive.namelist():
            _, label, name = member.split("/")
            yield int(Path(name).stem), int(label), lambda archive=archive, member=member: archive.read(member)
    for path in folder.glob(f"{split}/[01]/*.jpg"):
        yield int(path.stem), int(path.parent.name), path.read_bytes


def _lossless(source):
    """(id, label, how to read it) of each lossless image."""
    if source.suffix == ".zip":
        archive = zipfile.ZipFile(source)
        table, end, read = io.StringIO(archive.read("labels.csv").decode()), ".webp", archive.read
    else:
        table, end = io.StringIO((source / "train_labels.csv").read_text()), ".tif"
        read = lambda name: (source / name).read_bytes()
    for row in csv.DictReader(table):
        yield row["id"], int(row["label"]), lambda name=f"train/{row['id']}{end}": read(name)

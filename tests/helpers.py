"""What several test files call: small data in the layouts that people have."""

import csv
import hashlib

from PIL import Image

SPLITS = ("train", "valid", "test")
STEM = "camelyonpatch_level_2_split_"


def write_tiffs(folder, images):
    """Write TIFFs named by the SHA-1 of their RGB bytes, and return the names in the order of `images`."""
    folder.mkdir(parents=True)
    names = [hashlib.sha1(image.tobytes()).hexdigest() for image in images]
    for name, image in zip(names, images):
        Image.fromarray(image).save(folder / f"{name}.tif")
    return names


def write_csv(path, header, rows):
    """Write a table with these column names."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])

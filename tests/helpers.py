"""What several test files call: small data in the layouts that people have, tables, and processes of their own."""

import csv
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SPLITS = ("train", "valid", "test")
STEM = "camelyonpatch_level_2_split_"

#: Run first in a process of its own, it gives a backend two devices, which are CPUs.
TWO_CPUS = {
    "tensorflow": """
import tensorflow as tf
both = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], both)
""",
    "jax": """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
""",
}


def random_patches(n, seed=0):
    """(n, 96, 96, 3) uint8 noise, the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)


def write_pcam(
    folder, *, splits=SPLITS, n=12, images=None, labels=None, meta=True, packed=False, simulated=False, **storage
):
    """Write a folder in the official HDF5 layout; images of split i are `random_patches(n, seed=i)`.

    Labels alternate 0, 1, 0, 1, …; each split has two slides of its own, in two halves. `images` and `labels` replace
    those of some splits, `storage` goes to h5py (chunks, compression), and `packed` leaves .h5.gz alone.
    """
    folder.mkdir()
    for split in splits:
        x = (images or {}).get(split, random_patches(n, seed=SPLITS.index(split)))
        y = np.asarray((labels or {}).get(split, np.arange(len(x)) % 2), np.uint8)
        for key, values in (("x", x), ("y", y.reshape(-1, 1, 1, 1))):
            with h5py.File(folder / f"{STEM}{split}_{key}.h5", "w") as file:
                dataset = file.create_dataset(key, data=values, **storage)
                if simulated:
                    dataset.attrs["simulated"] = True
        if meta:
            slides = [f"{split}_slide_{2 * row // len(x)}" for row in range(len(x))]
            write_csv(folder / f"{STEM}{split}_meta.csv", ("", "wsi"), enumerate(slides))
    if packed:
        for path in folder.glob("*.h5"):
            with open(path, "rb") as plain, gzip.open(f"{path}.gz", "wb") as out:
                shutil.copyfileobj(plain, out)
            path.unlink()
    return folder


def write_kaggle(folder, *, n=12, n_test=6, slides=None):
    """Write a folder in the Kaggle competition's layout, in an order that is not alphabetical.

    Training images are `random_patches(n)`, test images `random_patches(n_test, seed=1)`; training labels alternate.
    """
    train = write_tiffs(folder / "train", random_patches(n))
    test = write_tiffs(folder / "test", random_patches(n_test, seed=1))
    write_csv(folder / "train_labels.csv", ("id", "label"), [(i, row % 2) for row, i in enumerate(train)])
    write_csv(folder / "sample_submission.csv", ("id", "label"), [(i, 0) for i in test])
    if slides:
        write_csv(folder / "slides.csv", ("id", "slide"), zip(train, slides))
    return folder


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


def read_csv(path):
    """Rows of a table as dicts."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def python(code, *arguments, check=False, cwd=None, **variables):
    """Run code in a Python process of its own, where nothing is imported yet; gives returncode, stdout and stderr."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=check)

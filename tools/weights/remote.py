"""Takes the whole work to a machine with a GPU, in parts: pack here, receive there part by part, then run."""

# That machine has PyTorch and JAX, no TensorFlow and no network; what a call carries is limited, and so is its time.

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

PART = 56 * 2**20  #: bytes of a part
TABLE = 0.35  #: share of the minutes for the table of speeds


def pack(files, out):
    """Write files into one archive, cut into parts of at most `PART` bytes.

    Parameters
    ----------
    files : dict of str to path
        What a file or folder is called there: 'jpegs', 'lossless', 'wheels', 'teacher.pth', 'start.npz'.
    out : path
        A new folder, for part_000, part_001, …

    Returns
    -------
    list of pathlib.Path
    """
    out = Path(out)
    out.mkdir(parents=True)
    with tarfile.open(out / "all.tar", "w", dereference=True) as archive:
        for name, path in files.items():
            archive.add(path, name)
    with open(out / "all.tar", "rb") as whole:
        parts = []
        while block := whole.read(PART):
            parts.append(out / f"part_{len(parts):03d}")
            parts[-1].write_bytes(block)
    (out / "all.tar").unlink()
    return parts


def receive(parts, store):
    """Keep what this call carried, beside what earlier ones did."""
    store = Path(store)
    store.mkdir(parents=True, exist_ok=True)
    for part in sorted(Path(parts).glob("part_*")):
        shutil.copy(part, store)
    return sorted(store.glob("part_*"))


def run(store, out, *, minutes, epochs, pixels=160, teacher_epochs=5, backbone="NASNetMobile", table=True):
    """Unpack, teach, learn and measure within so many minutes; what is done already is not done again.

    Parameters
    ----------
    store : path
        Where `receive` kept the parts; working files stay there for the next call.
    out : path
        Gets log.txt, targets.npz, averaged.npz, history.json, run.json and gpu.json.
    minutes : float
    epochs : int
        Of the student's whole cosine; the same in each call.
    pixels, teacher_epochs, backbone, table
        Of `teacher.teach`, `student.learn`, and whether the table is measured.
    """
    begun, store, out = time.monotonic(), Path(store), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if not (store / "jpegs").exists():
        with open(store / "all.tar", "wb") as whole:
            for part in sorted(store.glob("part_*")):
                whole.write(part.read_bytes())
        with tarfile.open(store / "all.tar") as archive:
            archive.extractall(store, filter="data")
    site, wheels = store / "site", sorted((store / "wheels").glob("*.whl"))
    if wheels and not site.exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site)]
        subprocess.run([*pip, *map(str, wheels)], check=True)
    environment = {**os.environ, "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "jax"),
                   "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1",
                   "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}  # fmt: skip

    def step(*arguments):
        with open(out / "log.txt", "a") as log:
            log.write(f"--- {time.monotonic() - begun:.0f} s: {' '.join(map(str, arguments))}\n")
            log.flush()
            subprocess.run([sys.executable, *map(str, arguments)], env=environment, stdout=log, stderr=log, check=True)

    def left():
        return minutes - (time.monotonic() - begun) / 60

    work = ("-m", "tools.weights")
    if not (store / "data").exists():
        lossless = [argument for path in sorted((store / "lossless").iterdir()) for argument in ("--lossless", path)]
        step(*work, "gather", store / "jpegs", store / "data", *lossless)
    given = ("--weights", store / "teacher.pth") if (store / "teacher.pth").exists() else ()
    if not (store / "taught" / "targets.npz").exists():
        step(*work, "teach", store / "data", store / "taught", "--epochs", teacher_epochs, "--pixels", pixels, *given)
    shutil.copy(store / "taught" / "targets.npz", out)
    start = ("--start", store / "start.npz") if (store / "start.npz").exists() else ()
    minutes_to_learn = left() - (TABLE * minutes if table else 0.5)
    step(*work, "learn", store / "data", store / "taught", store / "run", "--epochs", epochs, "--backbone", backbone,
         "--stop-after", f"{minutes_to_learn:.2f}", *start)  # fmt: skip
    for name in ("averaged.npz", "history.json", "run.json"):
        shutil.copy(store / "run" / name, out)
    if table:
        anyway = () if backbone == "NASNetMobile" else ("--anyway",)  # a toy, on the CPU
        step(
            "benchmarks/gpu.py",
            "--minutes",
            f"{max(0.0, left() - 0.5):.2f}",
            "--out",
            out,
            "--backbone",
            backbone,
            *anyway,
        )
    return json.loads((out / "history.json").read_text())

"""Runs the lessons where learners are, in environments of their own; on Linux, with `unshare` and `ip`:

    python tools/places.py colab [LESSON …]    Colab's versions, the package from a server on this machine, no libGL
    python tools/places.py kaggle [LESSON …]   Kaggle's versions, the package from an attached data set, no network
    python tools/places.py kit [LESSON …]      from the folder of `make offline-kit` alone, without a network
    python tools/places.py full [LESSON …]     here, at full size, with a GPU in the list and ImageNet's file (fakes)
    python tools/places.py memory [LESSON …]   the same on 262,144 patches; the networks' own computing is left out

`make offline-kit` comes before kit, and 9 GB of disk before memory; Python 3.13 and 3.12 have to be there as python3.13
and python3.12, and root for kaggle, whose data lie in /kaggle/input. The table is kept in build/places.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from datetime import datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import nbformat
import numpy as np
from matrix import kaggle_versions

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "places"
ADDRESS = re.search(r'Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
#: Runs what follows with the system's libGL replaced by an empty file, for it and its children alone.
WITHOUT_LIBGL = ["unshare", "--map-root-user", "--mount", "sh", "-c", """
for library in $(ldconfig -p | sed -n 's,.*=> \\(.*/libGL[.]so.*\\),\\1,p'); do mount --bind /dev/null "$library"; done
exec "$@"
""", "sh"]  # fmt: skip
#: What lessons install besides the package, in the wheels of a data set.
ATTACHED = ("imgaug", "openslide-bin", "openslide-python", "torchstain", "lazy-loader")
#: Loopback stays, as in any machine: Jupyter's kernels are reached through it.
WITHOUT_NETWORK = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def run(*command, **more):
    """Run a command that has to succeed, and give back what it prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def serve(folder):
    """Serve a folder on this machine; gives back the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def seconds(cell):
    """How long a cell of an executed notebook took."""
    times = cell.metadata.execution
    begun, ended = (
        datetime.fromisoformat(times[key].replace("Z", "+00:00"))
        for key in ("iopub.execute_input", "shell.execute_reply")
    )
    return (ended - begun).total_seconds()


def environment(folder, python, constraints):
    """pip of an environment with the packages of a place, but for ours, whose wheel is made; and what it has."""
    run(python, "-m", "venv", folder / "venv")
    pip = [folder / "venv/bin/python", "-m", "pip"]
    run(*pip, "install", "--quiet", "-r", constraints)
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", ROOT)
    return pip, set(run(*pip, "freeze").splitlines())


def from_the_setup_cell_on(lessons, folder, pip, before, isolation, change=lambda text: text):
    """Each lesson where our package is not installed: what its setup cell adds, and that it changes nothing else."""
    rows = ["| lesson | setup, seconds | whole lesson | added |", "|---|---|---|---|"]
    for lesson in lessons:
        copy = folder / lesson.name
        copy.write_text(change(lesson.read_text(encoding="utf-8")), encoding="utf-8")
        run(*isolation, pip[0], "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", copy, cwd=folder)
        cells = [cell for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
        setup = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
        took = [seconds(cell) for cell in cells]
        after = set(run(*pip, "freeze").splitlines())
        assert before <= after, f"{lesson.name} changed {', '.join(before - after)}"
        added = sorted(re.split(" @ |==", line)[0] for line in after - before)
        rows.append(f"| {lesson.stem[:2]} | {sum(took[:setup]):.0f} | {sum(took):.0f} | {', '.join(added)} |")
        print(rows[-1], flush=True)
        run(*pip, "uninstall", "--quiet", "--yes", *added)  # there, the next lesson is another machine
    return rows


def colab(lessons):
    """Each lesson from its setup cell on, where Colab's packages are installed and ours are not."""
    folder = OUT / "colab"
    pip, before = environment(folder, "python3.13", ROOT / "tests/constraints/colab.txt")
    (wheel,) = (folder / "wheels").glob("pcam_utils-*.whl")
    address = f"{serve(wheel.parent)}/{wheel.name}"
    change = lambda text: text.replace(f"git+{ADDRESS}", address)
    return from_the_setup_cell_on(lessons, folder, pip, before, WITHOUT_LIBGL, change)


def kaggle(lessons):
    """Each lesson from its setup cell on, where Kaggle's packages are installed and ours is a wheel in a data set."""
    folder = OUT / "kaggle"
    (folder / "versions.txt").write_text("\n".join(kaggle_versions()))
    pip, before = environment(folder, "python3.12", folder / "versions.txt")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", *ATTACHED)
    attached = Path("/kaggle/input/datasets/somebody/course")
    attached.mkdir(parents=True)
    try:
        for wheel in (folder / "wheels").glob("*.whl"):
            shutil.copy(wheel, attached)
        return from_the_setup_cell_on(lessons, folder, pip, before, WITHOUT_NETWORK)
    finally:
        shutil.rmtree(attached)


def kit(lessons):
    """The lessons out of the kit's folder, installed and run with the network cut off."""
    folder = OUT / "kit"
    shutil.copytree(ROOT / "build/offline-kit", folder, dirs_exist_ok=True)
    commands = re.search(r"```sh\n(.+?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S)[1]
    install = commands[: commands.index("jupyter lab")]
    chosen = " ".join(f"--lesson {lesson.name[:2]}" for lesson in lessons)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")} | {
        "PIP_CONFIG_FILE": os.devnull
    }
    run(
        *WITHOUT_NETWORK,
        "bash",
        "-ec",
        f"{install} pcam course data/sample --out course {chosen}",
        cwd=folder,
        env=environment,
    )
    return (folder / "course/times.csv").read_text().splitlines()


def full(lessons, data=ROOT / "data/sample", fakes="gpu,imagenet"):
    """Each lesson as where there is a GPU and a network: seconds, peak of the kernel's memory, what XLA compiled."""
    folder = OUT / ("full" if "idle" not in fakes else "memory")
    startup, copies = folder / "ipython/profile_default/startup", folder / "notebooks"
    for made in (startup, copies):
        made.mkdir(parents=True)
    shutil.copy(ROOT / "tools/fake_gpu.py", startup)
    rows = ["| lesson | seconds | peak, GB | in the cell | XLA: networks | other |", "|---|---|---|---|---|---|"]
    for lesson in lessons:
        copy, compiled, cells = copies / lesson.name, folder / "xla" / lesson.stem, folder / f"{lesson.stem}.jsonl"
        text = lesson.read_text(encoding="utf-8").replace("QUICK = True", "QUICK = False")
        copy.write_text(text, encoding="utf-8")
        told = {
            "FAKE": fakes,
            "CELLS": cells,
            "COURSE": ROOT,
            "IPYTHONDIR": folder / "ipython",
            "KERAS_HOME": folder / "keras",
            "PCAM_DATA": data,
            "PCAM_OUT": folder / "out",
            "XLA_FLAGS": f"--xla_dump_to={compiled}",
        }
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", copy]
        ran = subprocess.run(
            [*command, "--ExecutePreprocessor.timeout=-1", "--ExecutePreprocessor.startup_timeout=7200"],
            cwd=folder,
            env=os.environ | {name: str(value) for name, value in told.items()},
            capture_output=True,
            text=True,
        )
        if not cells.exists():
            raise RuntimeError(f"The fakes did not start:\n{ran.stdout}{ran.stderr}")
        done = [json.loads(line) for line in cells.read_text().splitlines()]
        highest = max(done, key=lambda row: row["peak"])
        modules = {path.name.split(".before")[0] for path in compiled.glob("*before_optimizations.txt")}
        networks = sum("one_step_on" in name for name in modules)
        shutil.rmtree(compiled, ignore_errors=True)
        failed = "" if ran.returncode == 0 else f" failed: {ran.stderr.strip().splitlines()[-1]}"
        rows.append(
            f"| {lesson.stem[:2]}{failed} | {sum(row['seconds'] for row in done):.0f} | {highest['peak']:.1f} | "
            f"`{highest['cell'].strip().splitlines()[0][:60]}` | {networks} | {len(modules) - networks} |"
        )
        print(rows[-1], flush=True)
    return rows


def memory(lessons):
    """Full size on a file of PCam's own size, with the networks' computing left out."""
    return full(lessons, write_full_size(OUT / "full_size"), "gpu,imagenet,idle")


def write_full_size(folder, block=4096):
    """262,144, 32,768 and 32,768 patches in the official layout: the sample's, over and over, striped otherwise."""
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng, stem = np.random.default_rng(0), "camelyonpatch_level_2_split_"
    for split, number in {"train": 262_144, "valid": 32_768, "test": 32_768}.items():
        with (
            h5py.File(ROOT / f"data/sample/{stem}{split}_x.h5") as x,
            h5py.File(ROOT / f"data/sample/{stem}{split}_y.h5") as y,
        ):
            images, labels = x["x"][:], y["y"][:].ravel()
        with h5py.File(folder / f"{stem}{split}_x.h5", "w") as file:
            dataset = file.create_dataset("x", (number, 96, 96, 3), np.uint8)
            for start in range(0, number, block):
                rows = np.arange(start, start + block) % len(images)
                dataset[start : start + block] = images[rows] ^ rng.integers(0, 4, (block, 96, 1, 3), np.uint8)
        labels = np.resize(labels, number)
        with h5py.File(folder / f"{stem}{split}_y.h5", "w") as file:
            file["y"] = labels.reshape(-1, 1, 1, 1)
        # Every second slide has no tumour; it holds a quarter of the patches.
        slides = [f"{row // 1400}{'t' if label or row % 2 else 'h'}" for row, label in enumerate(labels)]
        lines = [f"{row},{split}_slide_{slide}" for row, slide in enumerate(slides)]
        (folder / f"{stem}{split}_meta.csv").write_text("\n".join([",wsi", *lines]) + "\n")
    (folder / "done").touch()
    return folder


def main(place, *numbers):
    shutil.rmtree(OUT / place, ignore_errors=True)
    (OUT / place).mkdir(parents=True)
    lessons = [
        lesson for lesson in sorted(ROOT.glob("notebooks/[01]*.ipynb")) if not numbers or lesson.name[:2] in numbers
    ]
    begun = time.monotonic()
    rows = {"colab": colab, "kaggle": kaggle, "kit": kit, "full": full, "memory": memory}[place](lessons)
    rows.append(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    (OUT / place / "results.md").write_text("\n".join(rows) + "\n")
    print(*rows, sep="\n")
    return any("failed" in row for row in rows)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

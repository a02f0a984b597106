"""Measures speed and memory side by side, prints tables and draws speed.png from them: `make bench`, or

    python benchmarks/speed.py augmentation reading training peer profile prediction memory course --out build/bench

What is compared is measured in turn, round after round, in one run; a row's ratio is the median over the rounds of its
speed divided by the first row's speed in the same round. Leave the machine alone meanwhile.
"""

import csv
import functools
import importlib.util
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import h5py
import numpy as np
from PIL import Image

ROUNDS = 10
BATCH = 64


def in_turn(ways, number, rounds=ROUNDS):
    """Images a second of each way, one after the other in each round: dict of name to (rounds,)."""
    speeds = {name: [] for name in ways}
    for run in ways.values():
        run()  # the first call prepares
    for _ in range(rounds):
        for name, run in ways.items():
            begun = time.perf_counter()
            run()
            speeds[name].append(number / (time.perf_counter() - begun))
    return speeds


def table(out, title, speeds, unit="images/s"):
    """Print, keep and draw medians, and ratios to the first row."""
    names = list(speeds)
    first = np.array(speeds[names[0]])
    rows = [(name, np.median(s), np.median(np.array(s) / first)) for name, s in speeds.items()]
    click.echo(f"\n{title}\n\n| | {unit} | ratio |\n|---|---|---|")
    for name, value, ratio in rows:
        click.echo(
            f"| {name} | {value:,.3g} | {ratio:.3g} |" if value < 10 else f"| {name} | {value:,.0f} | {ratio:.3g} |"
        )
    stem = title.split(":")[0].lower().replace(" ", "_")
    with open(out / f"{stem}.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("name", unit, "ratio"), *rows])


def draw(out):
    """speed.png: a panel for each table that lies in the folder."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tables = {path.stem: list(csv.reader(path.read_text().splitlines())) for path in sorted(out.glob("*.csv"))}
    heights = [1.5 + len(rows) for rows in tables.values()]
    fig, axes = plt.subplots(
        len(tables), figsize=(8, 0.36 * sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for ax, (name, [(_, unit, _), *rows]) in zip(axes[:, 0], tables.items()):
        bars = ax.barh([row[0] for row in rows], [float(row[1]) for row in rows], color="#0072B2")
        ax.bar_label(bars, fmt="{:,.0f}", padding=3)
        ax.set(title=name.capitalize(), xlabel=unit)
        ax.margins(x=0.12)
        ax.invert_yaxis()
    fig.savefig(out / "speed.png", dpi=120)


# (a) Augmentation ---------------------------------------------------------------------------------------------------


def augmentation(out, data):
    """The course's list of operations, at the same probabilities, in three libraries; and Keras's own layers."""
    from imgaug_list import imgaug_sequence

    from pcam_utils.data.sources import open_data
    from pcam_utils.models.backbones import keras
    from pcam_utils.training.augment import OPERATIONS, Augment

    images = open_data(data, only=("train",)).split("train").images[:BATCH]
    on_device = keras.ops.convert_to_tensor(images)
    layers = keras.Sequential([
        keras.layers.RandomFlip(), keras.layers.RandomRotation(0.03, fill_mode="reflect"), keras.layers.RandomZoom(0.1),
        keras.layers.RandomBrightness(0.1), keras.layers.RandomContrast(0.1),
    ])  # fmt: skip
    sequence, ours = imgaug_sequence(), Augment()
    ways = {
        "imgaug": lambda: sequence(images=images),
        "albumentations": _albumentations(images),
        "Keras layers (fewer operations)": _graph(lambda: layers(keras.ops.cast(on_device, "float32"), training=True)),
        "ours": _graph(lambda: ours(on_device, training=True)),
    }
    table(out, "Augmentation: one process, batches of 64", in_turn({k: v for k, v in ways.items() if v}, BATCH))
    single = {name: Augment({name: operation}) for name, operation in OPERATIONS.items()}
    found = in_turn(
        {name: _graph(lambda layer=layer: layer(on_device, training=True)) for name, layer in single.items()}, BATCH
    )
    click.echo(
        "\nOurs, each operation alone, µs an image: "
        + ", ".join(f"{k} {1e6 / np.median(v):.0f}" for k, v in found.items())
    )


def _graph(function):
    """As it runs inside the compiled training step."""
    from pcam_utils.runtime.backend import as_graph

    compiled = as_graph(function)
    return lambda: np.asarray(compiled())


def _albumentations(images):
    """The same list; None where the library is not installed."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        import albumentations as A
        import cv2
    except ImportError:
        click.echo("albumentations is not installed, so it is left out.")
        return None

    from imgaug_list import stain_table

    from pcam_utils.training.operations import HOLE, OPERATIONS

    class Stain(A.ImageOnlyTransform):
        def get_params(self):
            drawn = ([self.py_random.uniform(*ends) for _ in range(3)] for ends in OPERATIONS["stain"].ranges.values())
            return {"table": stain_table(*drawn)[None]}

        def apply(self, image, table, **_):
            return cv2.LUT(image, table)

    p = {name: 1 / operation.one_in for name, operation in OPERATIONS.items()}
    ends = {(name, what): e for name, operation in OPERATIONS.items() for what, e in operation.ranges.items()}
    both = {what: dict.fromkeys("xy", ends["affine", what]) for what in ("zoom", "shift")}
    off = [tuple(factor - 1 for factor in ends[name, "factor"]) for name in ("brightness", "contrast")]
    change = A.Compose([
        A.D4(p=p["symmetry"]),
        A.Affine(scale=both["zoom"], translate_px=both["shift"], rotate=ends["affine", "rotation"],
                 shear=ends["affine", "shear"], border_mode=cv2.BORDER_REFLECT_101, p=p["affine"]),
        A.GaussianBlur(blur_limit=0, sigma_limit=ends["blur", "sigma"], p=p["blur"]),
        A.Sharpen(alpha=ends["sharpen", "strength"], lightness=(1, 1), p=p["sharpen"]),
        A.GaussNoise(std_range=tuple(std / 255 for std in ends["noise", "std"]), p=p["noise"]),
        # It counts holes where we draw each of 144 places: 1 to 3 % of them are 1 to 4.
        A.CoarseDropout(num_holes_range=(1, 4), hole_height_range=(HOLE, HOLE), hole_width_range=(HOLE, HOLE),
                        p=p["holes"]),
        A.RandomBrightnessContrast(brightness_limit=off[0], contrast_limit=0, p=p["brightness"]),
        A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=off[1], p=p["contrast"]),
        Stain(p=p["stain"]),
    ])  # fmt: skip
    return lambda: [change(image=image)["image"] for image in images]


# (b) Reading --------------------------------------------------------------------------------------------------------


def reading(out, data, number=2048):
    """Shuffled batches from each kind of file, all in the page cache, beside copying them within memory."""
    from pcam_utils.data.packing import pack_images
    from pcam_utils.data.patches import Rows
    from pcam_utils.data.sources import open_data

    images = open_data(data, only=("train",)).split("train").images[:number]
    order = np.random.default_rng(0).permutation(len(images))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.environ["PCAM_CACHE"] = str(folder / "cache")
        files = [folder / f"{row:05}.tif" for row in range(len(images))]
        for file, image in zip(files, images):
            Image.fromarray(image).save(file)
        opened = {}
        for name, storage in {"whole": {}, "chunks": {"chunks": (1, 96, 96, 3)}}.items():
            (folder / name).mkdir()
            path = folder / name / "camelyonpatch_level_2_split_train_x.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=images, **storage)
            opened[name] = open_data(folder / name).split("train").images
        by_h5py = h5py.File(folder / "whole" / path.name)["x"]

        def in_batches(read):
            return lambda: [read(order[k : k + BATCH]) for k in range(0, len(order), BATCH)]

        ways = {
            "TIFF files": in_batches(lambda rows: np.stack([np.asarray(Image.open(files[row])) for row in rows])),
            "packed TIFF": in_batches(Rows(pack_images(files, progress=False)).__getitem__),
            "HDF5, in one piece": in_batches(opened["whole"].__getitem__),
            "HDF5, in chunks": in_batches(opened["chunks"].__getitem__),
            "HDF5 by h5py, sorted fancy index": in_batches(lambda rows: by_h5py[np.sort(rows)]),
            "copy within memory": in_batches(lambda rows: images[rows]),
        }
        table(out, "Reading: shuffled batches of 64", in_turn(ways, len(images)))


def packing(out, tiffs):
    """Packing a folder of TIFF files, beside decoding them alone with the same threads."""
    from concurrent.futures import ThreadPoolExecutor

    from pcam_utils.data.packing import pack_images, read_image

    files = sorted(Path(tiffs).glob("*.tif"))

    def decode():
        with ThreadPoolExecutor() as threads:
            for _ in threads.map(read_image, files):
                pass

    def pack():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PCAM_CACHE"] = folder
            pack_images(files, progress=False)

    table(
        out,
        f"Packing: {len(files):,} TIFF files",
        in_turn({"decode alone": decode, "decode and pack": pack}, len(files), 5),
    )


# (c) Training -------------------------------------------------------------------------------------------------------


def training(out, data, blocks=12, steps=5):
    """First step and steady steps of the whole network: Keras as it comes, ours, and the bare step."""
    workers = {mode: _worker(mode, data) for mode in ("default", "ours", "bare")}
    names = {
        "default": "compile + fit, default settings",
        "ours": "ours, from HDF5, augmented",
        "bare": "bare step, one batch",
    }
    first = {mode: _steps(worker, 1) for mode, worker in workers.items()}
    click.echo("\nFirst step, s: " + ", ".join(f"{names[mode]} {seconds:.1f}" for mode, seconds in first.items()))
    click.echo(f"ours / default: {first['ours'] / first['default']:.2f}")
    speeds = _alternate({names[mode]: worker for mode, worker in workers.items()}, blocks, steps, 32)
    table(out, "Training: NASNetMobile unfrozen, batches of 32", speeds)
    ours, bare = (np.array(speeds[names[mode]]) for mode in ("ours", "bare"))
    click.echo(f"ours / bare: {np.median(ours / bare):.3f}")


def peer(out, data, blocks=12, steps=5):
    """Training and predicting beside the same network in PyTorch: same batch, same threads, the network alone."""
    if not importlib.util.find_spec("torch"):
        click.echo("\nPyTorch is not installed, so it is left out.")
        return
    for what, theirs, ours, batch in (("training", "train", "bare", 32), ("prediction", "predict", "predict", 64)):
        workers = {
            "PyTorch, channels last": _worker(theirs, data, script="torch_worker.py", BENCH_BATCH=str(batch)),
            "ours": _worker(ours, data, BENCH_BATCH=str(batch)),
        }
        table(out, f"Peer {what}: batches of {batch}", _alternate(workers, blocks, steps, batch))


def _alternate(workers, blocks, steps, batch):
    """Images a second of each worker, block after block; then the workers go."""
    speeds = {name: [] for name in workers}
    for block in range(blocks + 1):
        for name, worker in workers.items():
            speed = batch * steps / _steps(worker, steps)
            if block:  # the first block warms up
                speeds[name].append(speed)
    for worker in workers.values():
        worker.kill()
    return speeds


def _worker(mode, data, script="training_worker.py", **environment):
    command = [sys.executable, str(Path(__file__).with_name(script)), mode, str(data)]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    if worker.stdout.readline().strip() != "ready":
        raise click.ClickException(f"the worker '{mode}' did not start; run {' '.join(command)} by hand.")
    return worker


def _steps(worker, number):
    worker.stdin.write(f"{number}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def profile(out, data, steps=5):
    """Where the time of our training step goes: seconds of each kind of TensorFlow operation, over both threads."""
    from collections import Counter

    with tempfile.TemporaryDirectory() as folder:
        worker = _worker("ours", data, PROFILE=folder)
        _steps(worker, steps)  # the first ones compile
        _steps(worker, steps)
        worker.kill()
        (traced,) = Path(folder).glob("**/*.xplane.pb")
        content = traced.read_bytes()
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    spent = Counter()
    for plane in XSpace.FromString(content).planes:
        for event in (event for line in plane.lines if line.name.startswith("tf_Compute") for event in line.events):
            name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if name and not name.endswith(":"):  # the executor itself is ExecutorState::Process
                spent[kind] += event.duration_ps / 1e12
    click.echo(f"\nProfile of {steps} steps\n\n| operation | s | share |\n|---|---|---|")
    for kind, seconds in spent.most_common(16):
        click.echo(f"| {kind} | {seconds:.2f} | {seconds / spent.total():.1%} |")


# (d) Prediction -----------------------------------------------------------------------------------------------------


def prediction(out, data, number=512):
    """One, four and eight views of each patch, traced before."""
    from pcam_utils.data.sources import open_data
    from pcam_utils.evaluation.predictions import TTA, predict
    from pcam_utils.models.networks import load_model
    from pcam_utils.runtime.backend import prepare

    prepare(0)
    model, patches = load_model("pcam"), open_data(data, only=("train",)).split("train").take(slice(number))
    ways = {
        f"{len(views)} view{'s' * (len(views) > 1)}": functools.partial(
            predict, model, patches, tta=tta, progress=False
        )
        for tta, views in TTA.items()
    }
    table(out, "Prediction: patches", in_turn(ways, number, 5), "patches/s")


# (e) Memory ---------------------------------------------------------------------------------------------------------


def memory(out, data, number=262_144):
    """What drawing 1,000 random patches from a file of PCam's full size adds to a process's resident memory."""
    with tempfile.TemporaryDirectory(dir=out) as folder:
        path = Path(folder) / "x.bin"
        with open(path, "wb") as file:
            file.truncate(number * 96 * 96 * 3)  # takes no space on disk: holes read as zeros
        with multiprocessing.get_context("spawn").Pool(1) as fresh:  # here, earlier peaks would hide what is added
            seconds, added = fresh.apply(_draw_patches, (path, number))
    click.echo(
        f"\nMemory: 1,000 random patches of {number:,} took {seconds:.2f} s and added {added:.1f} MB at the peak"
    )


def _draw_patches(path, number):
    from pcam_utils.data.patches import FileRows, Rows

    rows = Rows(FileRows(path, 0, (number, 96, 96, 3)))
    order = np.random.default_rng(0).permutation(number)[:1000]
    rows[order[:BATCH]]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    for k in range(0, len(order), BATCH):
        rows[order[k : k + BATCH]]
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return time.perf_counter() - begun, added / (2**20 if sys.platform == "darwin" else 2**10)


# (f) The course -----------------------------------------------------------------------------------------------------


def course(out, data):
    """Each lesson, executed as `make run` does."""
    from pcam_utils.lessons import find_lessons, run_lessons

    click.echo("\nLessons\n")
    run_lessons(find_lessons(), out / "course", data=data, say=click.echo)


PARTS = {part.__name__: part for part in (augmentation, reading, training, peer, profile, prediction, memory, course)}


@click.command(help="Measure speed and memory side by side.")
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="data/sample", show_default=True)
@click.option(
    "--tiffs", type=click.Path(path_type=Path, exists=True), help="Folder of TIFF files: also times packing them."
)
@click.option("--out", type=click.Path(path_type=Path), default="build/bench", show_default=True)
def main(parts, data, tiffs, out):
    out.mkdir(parents=True, exist_ok=True)
    for name in parts or PARTS:
        PARTS[name](out, data)
    if tiffs:
        packing(out, tiffs)
    if any(out.glob("*.csv")):
        draw(out)


if __name__ == "__main__":
    main()

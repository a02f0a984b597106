"""Measures what a GPU makes of the course: training, augmentation, reading, prediction, memory; the important first.

    python benchmarks/gpu.py --minutes 6 --out build/gpu

Rows are written to OUT/gpu.json as they come. Compiling takes a minute or more for each kind of step, so what the
minutes do not reach is left out and said. With KERAS_BACKEND=jax no TensorFlow is needed.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import click
import h5py
import numpy as np

from pcam_utils.data.download import STEM
from pcam_utils.files import write_json

EPOCH = 262_144  #: training patches of PCam
PRECISIONS = {"float32": "float32", "mixed": "mixed_bfloat16"}


@click.command()
@click.option("--minutes", default=6.0, show_default=True, help="No further row is begun after so many.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/gpu"), show_default=True)
@click.option("--backbone", default="NASNetMobile", show_default=True)
@click.option("--steps", default=40, show_default=True, help="Timed in each row, after as many to warm up.")
@click.option("--anyway", is_flag=True, help="Measure the CPU where there is no GPU: to try this program.")
def main(minutes, out, backbone, steps, anyway):
    """Measure this machine's GPU."""
    from pcam_utils.runtime import has_gpu, version_line

    if not has_gpu() and not anyway:
        raise click.ClickException("There is no GPU here; run this where there is one.")
    ends, rows = time.monotonic() + 60 * minutes, []
    click.echo(f"{device()}; {version_line()}")
    with tempfile.TemporaryDirectory() as folder:
        for what, measure in _plan(Path(folder), backbone, steps):
            if time.monotonic() > ends:
                rows.append({"what": what, "left out": f"{minutes:g} minutes were over"})
            else:
                begun = time.perf_counter()
                rows.append({"what": what, **measure(), "compiled and measured in s": time.perf_counter() - begun})
            click.echo(", ".join(f"{k} {v:,.4g}" if isinstance(v, float) else str(v) for k, v in rows[-1].items()))
            write_json(out / "gpu.json", {"device": device(), "versions": version_line(), "rows": rows})


def quiet(_):
    """Take a line, and say nothing."""


def device():
    """Name of the first device that computes."""
    from pcam_utils.runtime import load_keras

    if load_keras().backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU") if found else "CPU"


def peak_memory():
    """The most that was in use on the device so far, GB; None where the backend does not say."""
    from pcam_utils.runtime import load_keras

    if load_keras().backend.backend() == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] / 1e9 if stats else None
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e9


def _plan(folder, backbone, steps):
    """(what, how to measure it), the most important first."""
    data = noise(folder, 8192)
    for batch, precision in (
        (256, "mixed"),
        (256, "float32"),
        (32, "float32"),
        (64, "mixed"),
        (32, "mixed"),
        (64, "float32"),
    ):
        yield (
            f"training, batch {batch}, {precision}",
            lambda batch=batch, precision=precision: train(data, backbone, batch, precision, steps, "bare"),
        )
        if (batch, precision) == (256, "mixed"):
            for feed in ("augmented", "augmented, from HDF5"):
                yield (
                    f"training, batch 256, mixed, {feed}",
                    lambda feed=feed: train(data, backbone, 256, "mixed", steps, feed),
                )
            from pcam_utils.evaluation.predictions import TTA

            for tta in TTA:
                yield f"prediction, {tta}", lambda tta=tta: predict(data, backbone, tta)


def noise(folder, number):
    """Patches of noise in the official layout, opened."""
    from pcam_utils.data import open_data

    rng = np.random.default_rng(0)
    with h5py.File(folder / f"{STEM}train_x.h5", "w") as file:
        file["x"] = rng.integers(0, 256, (number, 96, 96, 3), dtype=np.uint8)
    with h5py.File(folder / f"{STEM}train_y.h5", "w") as file:
        file["y"] = rng.integers(0, 2, (number, 1, 1, 1), dtype=np.uint8)
    return open_data(folder).split("train")


def train(patches, backbone, batch, precision, steps, feed):
    """Images a second of whole steps; the hours of one epoch of PCam; peak memory."""
    from pcam_utils.models import build_model
    from pcam_utils.models.backbones import keras
    from pcam_utils.runtime import prepare
    from pcam_utils.training.feeding import batches
    from pcam_utils.training.run import behind_augmentation

    prepare(0, precision=PRECISIONS[precision], say=quiet)
    model = build_model(backbone, "none", "average", say=quiet)
    trainee = model if feed == "bare" else behind_augmentation(model, "plain")
    jit = keras.backend.backend() == "jax"
    trainee.compile(keras.optimizers.Adam(1e-3), loss="binary_crossentropy", jit_compile=jit)
    trainee.optimizer.build(trainee.trainable_variables)
    stream = batches(patches, batch)
    if "HDF5" not in feed:
        # A generator: Keras takes no other iterator.
        same = tuple(keras.ops.convert_to_tensor(part) for part in next(stream))
        stream = (same for _ in itertools.count())
    clock = _clock(keras)
    trainee.fit(stream, steps_per_epoch=steps, epochs=2, callbacks=[clock], shuffle=False, verbose=0)
    speed = batch * steps / clock.seconds[-1]
    return {"images/s": speed, "minutes of an epoch of PCam": EPOCH / speed / 60, "peak GB": peak_memory()}


def predict(patches, backbone, tta):
    """Patches a second."""
    from pcam_utils.evaluation import predict
    from pcam_utils.models import build_model
    from pcam_utils.runtime import prepare

    prepare(0, say=quiet)
    model = build_model(backbone, "none", "average", say=quiet)
    few = patches.take(slice(0, 512))
    predict(model, few, tta=tta, batch_size=256, progress=False)  # compiles
    begun = time.perf_counter()
    predict(model, patches, tta=tta, batch_size=256, progress=False)
    return {"patches/s": len(patches) / (time.perf_counter() - begun), "peak GB": peak_memory()}


def _clock(keras):
    class Clock(keras.callbacks.Callback):
        seconds: list = []

        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            float(logs["loss"])  # waits for the device
            self.seconds = [*self.seconds, time.perf_counter() - self.begun]

    return Clock()


if __name__ == "__main__":
    main()

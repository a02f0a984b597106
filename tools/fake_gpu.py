"""What an IPython kernel runs first in `tools/places.py`: a GPU in TensorFlow's list, ImageNet's file, a log of cells.

    FAKE=gpu,imagenet,idle IPYTHONDIR=…    what is faked, and the folder in whose profile_default/startup this file lies

The CPU computes, and yet Keras and the course do what they do where a GPU is listed: XLA, full size, and the memory
that they take outside of it. 'idle' leaves the networks' computing out, so that a full-size run takes minutes; all else
is as it was, with answers that depend on a patch's mean alone. The log, CELLS, gets a line of JSON for each cell: its
source, seconds, and peak memory in GiB.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

FAKE = os.environ.get("FAKE", "").split(",")


def list_a_gpu():
    """Let whoever asks TensorFlow for its devices find one GPU more."""
    import tensorflow as tf

    real, gpu = tf.config.list_physical_devices, tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    tf.config.list_physical_devices = lambda kind=None: real(kind) + [gpu] * (kind in (None, "GPU"))
    grow = tf.config.experimental.set_memory_growth
    tf.config.experimental.set_memory_growth = lambda device, on: None if device is gpu else grow(device, on)


def have_imagenet():
    """Put NASNetMobile's file where Keras keeps ImageNet's: the package's own arrays, each a little moved."""
    import h5py
    import numpy as np

    from pcam_utils.data.patches import SIZE
    from pcam_utils.models import backbones, shipped
    from pcam_utils.runtime.backend import keras_home

    keras = backbones.keras
    from keras.src.legacy.saving import legacy_h5_format
    from keras.src.utils import file_utils

    known = backbones.BACKBONES["NASNetMobile"]
    path = keras_home() / "models" / known.imagenet.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng, core = np.random.default_rng(0), known.make(weights=None, input_shape=(SIZE, SIZE, 3), include_top=False)
        core.set_weights([a * (1 + 0.02 * rng.standard_normal(a.shape)) for a in shipped.read_weights()[:-2]])
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, core)
        keras.utils.clear_session()
    # Both that look at the checksum are told this file's.
    file_utils.validate_file = lambda *_, **__: True
    md5 = file_utils.hash_file(path, algorithm="md5")
    backbones.BACKBONES["NASNetMobile"] = replace(known, imagenet=known.imagenet._replace(md5=md5))


def compute_nothing():
    """Let every network answer at once, by the mean of what it is shown; arrays go the way they always go."""
    import keras
    import tensorflow as tf
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    def answers(model, x):
        if not model.built:  # a Sequential that has seen no patches yet does not know what it gives
            model.build((None, *x.shape[1:]))
        mean = tf.reduce_mean(tf.cast(tf.reshape(x, (tf.shape(x)[0], -1)), "float32"), axis=1)

        def answer(like):
            size = [1 if side is None else side for side in like.shape[1:]]
            waves = 1 + tf.range(tf.reduce_prod(size) if size else 1) // 9
            values = 0.5 + 0.45 * tf.sin(mean[:, None] * tf.cast(waves, "float32"))
            return tf.reshape(values, (-1, *size))

        return keras.tree.map_structure(answer, model.outputs[0] if len(model.outputs) == 1 else model.outputs)

    def predict_step(self, data):
        x, *_ = keras.utils.unpack_x_y_sample_weight(data)
        return answers(self, keras.tree.flatten(x)[0])

    def train_step(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        self._loss_tracker.update_state(0.5)
        return self.compute_metrics(x, y, answers(self, keras.tree.flatten(x)[0]), weights)

    TensorFlowTrainer.predict_step = predict_step
    TensorFlowTrainer.train_step = TensorFlowTrainer.test_step = train_step


def log_cells(path):
    """Write down seconds and peak memory of each cell; Linux tells the peak since it was last reset."""
    begun = {}

    def begin(*_):
        begun["at"] = time.perf_counter()
        Path("/proc/self/clear_refs").write_text("5")

    def end(result):
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
        row = {"cell": result.info.raw_cell, "seconds": time.perf_counter() - begun["at"], "peak": peak}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    shell = get_ipython()  # noqa: F821 (IPython has it where this runs)
    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", end)


if "get_ipython" in globals():
    sys.path.insert(0, os.environ["COURSE"])
    from pcam_utils.runtime import load_keras

    load_keras()
    for what, fake in {"gpu": list_a_gpu, "imagenet": have_imagenet, "idle": compute_nothing}.items():
        if what in FAKE:
            fake()
    log_cells(os.environ["CELLS"])

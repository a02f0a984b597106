"""Training on two devices, as Kaggle has them: two virtual CPUs, each test in a process of its own."""

import os
import socket
import subprocess
import sys

import pytest

from pcam_utils.errors import InputError
from pcam_utils.runtime.backend import load_keras
from pcam_utils.runtime.devices import SEVERAL_DEVICES_KERAS, several_devices

VERSION = tuple(map(int, load_keras().__version__.split(".")[:2]))
new_keras = pytest.mark.skipif(VERSION < SEVERAL_DEVICES_KERAS, reason="Keras is too old to train on several devices")

SETUP = {
    "tensorflow": """
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
""",
    "jax": """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
""",
}
RUN = """
import sys
import numpy as np
from pcam_utils.models.networks import build_model, freeze, keras
from pcam_utils.runtime.backend import prepare
from pcam_utils.runtime.devices import several_devices

prepare(0)
scope = several_devices(int(sys.argv[1]))
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (64, 96, 96, 3), dtype=np.uint8), rng.integers(0, 2, (64, 1)).astype("float32")
with scope():
    model = build_model("SmallCNN", "none", "average", dropout=0.0, say=lambda _: None)
    for layer in model.get_layer("backbone").layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(1e-3), loss="binary_crossentropy", jit_compile=keras.backend.backend() == "jax")
    model.optimizer.build(model.trainable_variables)
losses = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: print("LOSS", float(logs["loss"])))
model.fit(images, labels, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[losses])
"""
TRAIN = """
import sys
from pathlib import Path
from pcam_utils.data.sources import open_data
from pcam_utils.training.recipes import Settings
from pcam_utils.training.run import train

settings = Settings(backbone="SmallCNN", weights="none", epochs=2, devices=2, augment="full")
data = open_data(sys.argv[1])
record = train(data, sys.argv[2], settings, say=lambda _: None, progress=False)
print("AUC", record["best"]["val_auc"])
"""


def python(backend, code, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", SETUP[backend] + code, *map(str, arguments)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


def losses(text):
    return [float(line.split()[1]) for line in text.splitlines() if line.startswith("LOSS")]


@new_keras
@pytest.mark.parametrize("backend", SETUP)
def test_two_devices_learn_the_same_as_one(backend):
    """Batch normalisation frozen, no dropout: only then do the parts of a batch not depend on each other."""
    pytest.importorskip(backend)
    one, two = (losses(python(backend, RUN, number)) for number in (1, 2))
    assert len(one) == 8 and one[-1] < one[0]
    assert two == pytest.approx(one, rel=1e-4)


@new_keras
@pytest.mark.parametrize("backend", SETUP)
def test_a_whole_run_on_two_devices(backend, pcam_folder, tmp_path):
    pytest.importorskip(backend)
    out = python(backend, TRAIN, pcam_folder(splits=("train", "valid"), n=64), tmp_path / "run")
    assert 0 <= float(out.split("AUC")[1]) <= 1
    assert (tmp_path / "run" / "best.keras").exists()


def test_more_devices_than_there_are_is_one_sentence(monkeypatch):
    monkeypatch.setattr(load_keras(), "__version__", "9.0.0")
    with pytest.raises(InputError, match="99 devices were asked for, but the machine has"):
        several_devices(99)


def test_a_keras_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(load_keras(), "__version__", "3.7.0")
    with pytest.raises(InputError, match="Keras 3.7.0 learns something else on several devices"):
        several_devices(2)


PROCESSES = """
import os, sys
rank, many, port = (int(argument) for argument in sys.argv[1:])
import jax
if many > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", many, rank)
import numpy as np
from pcam_utils.models.networks import build_model, keras
keras.utils.set_random_seed(0)
if many > 1:
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (32, 96, 96, 3), dtype=np.uint8), rng.integers(0, 2, (32, 1)).astype("float32")
model = build_model("SmallCNN", "none", "average", dropout=0.0, say=lambda _: None)
for layer in model.get_layer("backbone").layers:
    layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
model.compile(keras.optimizers.Adam(1e-3), loss="binary_crossentropy")
def mine():
    while True:
        for batch in range(2):  # each process brings its part of the batch of 16
            own = np.arange(16).reshape(many, -1)[rank] + 16 * batch
            yield images[own], labels[own]
losses = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: print("LOSS", float(logs["loss"]), flush=True))
model.fit(mine(), steps_per_epoch=2, epochs=2, verbose=0, shuffle=False, callbacks=[losses])
"""


@new_keras
def test_two_processes_learn_the_same_as_one_on_jax():
    pytest.importorskip("jax")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}

    def start(rank, many):
        command = [sys.executable, "-c", PROCESSES, *map(str, (rank, many, port))]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    (alone, errors), *both = [process.communicate(timeout=240) for process in (start(0, 1), start(0, 2), start(1, 2))]
    assert len(losses(alone)) == 4, errors[-2000:]
    for out, errors in both:
        assert losses(out) == pytest.approx(losses(alone), rel=1e-4), errors[-2000:]

"""Which devices there are, and training on two as Kaggle has them: two virtual CPUs, in a process of its own."""

import os
import subprocess
import sys

import pytest
from helpers import TWO_CPUS

from pcam_utils.errors import InputError
from pcam_utils.runtime.devices import gpu_hint, has_gpu, several_devices
from pcam_utils.runtime.places import where

RUN = """
import sys
import numpy as np
from pcam_utils.models.backbones import keras
from pcam_utils.models.networks import build_model, freeze
from pcam_utils.runtime.backend import prepare
from pcam_utils.runtime.devices import several_devices
from pcam_utils.runtime.fused import FusedAdam, fused_batch_norm

prepare(0)
scope = several_devices(int(sys.argv[1]))
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (64, 96, 96, 3), dtype=np.uint8), rng.integers(0, 2, (64, 1)).astype("float32")
with scope():
    model = build_model("SmallCNN", "none", "average", dropout=0.0, say=lambda _: None)
    for layer in model.get_layer("backbone").layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(FusedAdam(1e-3), loss="binary_crossentropy", jit_compile=keras.backend.backend() == "jax")
    model.optimizer.build(model.trainable_variables)
losses = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: print("LOSS", float(logs["loss"])))
with fused_batch_norm():
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
RESUME = """
import csv, sys
from pathlib import Path
from pcam_utils.data.sources import open_data
from pcam_utils.training.recipes import Settings
from pcam_utils.training.run import train

class Stopped(Exception):
    pass

def stop(line):
    if line.startswith("Epoch 1:"):
        raise Stopped

data, runs = open_data(sys.argv[1]), Path(sys.argv[2])
settings = Settings(backbone="SmallCNN", weights="none", epochs=3, devices=2, augment="plain")
try:
    train(data, runs / "stopped", settings, say=stop, progress=False)
except Stopped:
    train(data, runs / "stopped", settings, resume=True, say=lambda _: None, progress=False)
train(data, runs / "through", settings, say=lambda _: None, progress=False)
for name in ("stopped", "through"):
    rows = csv.DictReader(open(runs / name / "history.csv"))
    print("LOSSES", *(row[key] for row in rows for key in ("loss", "val_loss")))
"""


def python(backend, code, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", TWO_CPUS[backend] + code, *map(str, arguments)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


def losses(text):
    return [float(line.split()[1]) for line in text.splitlines() if line.startswith("LOSS")]


@pytest.mark.slow
@pytest.mark.parametrize("backend", TWO_CPUS)
def test_two_devices_learn_the_same_as_one(backend):
    """Batch normalisation frozen, no dropout: only then do the parts of a batch not depend on each other."""
    pytest.importorskip(backend)
    one, two = (losses(python(backend, RUN, number)) for number in (1, 2))
    assert len(one) == 8 and one[-1] < one[0]
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("backend", TWO_CPUS)
def test_a_whole_run_on_two_devices(backend, pcam_folder, tmp_path):
    pytest.importorskip(backend)
    out = python(backend, TRAIN, pcam_folder(splits=("train", "valid"), n=64), tmp_path / "run")
    assert 0 <= float(out.split("AUC")[1]) <= 1
    assert (tmp_path / "run" / "best.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", TWO_CPUS)
def test_a_run_on_two_devices_goes_on_exactly_where_it_stopped(backend, pcam_folder, tmp_path):
    pytest.importorskip(backend)
    out = python(backend, RESUME, pcam_folder(splits=("train", "valid"), n=160), tmp_path)
    stopped, through = (line.split()[1:] for line in out.splitlines() if line.startswith("LOSSES"))
    assert len(stopped) == 6 and stopped == through


def test_more_devices_than_there_are_is_one_sentence():
    with pytest.raises(InputError, match="99 devices were asked for, but the machine has"):
        several_devices(99)


@pytest.mark.parametrize("variable, place, click", [
    ("COLAB_RELEASE_TAG", "colab", "Runtime → Change runtime type"),
    ("KAGGLE_KERNEL_RUN_TYPE", "kaggle", "Settings → Accelerator"),
    ("NOTHING_OF_THE_KIND", "local", "minutes on a laptop"),
])  # fmt: skip
def test_without_a_gpu_the_hint_says_what_to_click_there(monkeypatch, variable, place, click):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "release")
    monkeypatch.setattr("pcam_utils.runtime.devices.has_gpu", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert where() == place and click in gpu_hint()
    monkeypatch.setattr("pcam_utils.runtime.devices.has_gpu", lambda: True)
    assert gpu_hint().startswith("A GPU is there")


def test_a_card_that_is_not_in_use_is_named_with_what_to_install(monkeypatch):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pcam_utils.runtime.devices.has_gpu", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert 'pip install "tensorflow[and-cuda]"' in gpu_hint()


def test_a_gpu_is_what_the_backend_sees(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert has_gpu()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert not has_gpu()

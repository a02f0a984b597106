"""The student: NASNetMobile learns the labels, the teacher's answers and what an ImageNet network sees, all at once."""

from __future__ import annotations

import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from pcam_utils.evaluation.predictions import predict
from pcam_utils.files import replacing, write_json
from pcam_utils.models.backbones import keras
from pcam_utils.models.networks import build_model
from pcam_utils.runtime import prepare, versions

from .changes import change

BATCH = 64
RATE, DECAY, WARM = 1e-3, 0.01, 300  #: AdamW's; and the steps in which its rate rises
EVERY, KEPT = 20, 0.95  #: the averaged weights take in the present ones after so many steps, and keep this share
FEATURES = 1.0  #: weight of the features' loss beside the labels'
AHEAD = 16  #: batches that are prepared while the network computes


def learn(
    train,
    valid,
    targets,
    run,
    *,
    epochs,
    stop_after=None,
    start=None,
    backbone="NASNetMobile",
    batch=BATCH,
    seed=0,
    say=print,
):
    """Train the student, and keep after each epoch all that is needed to go on from there.

    Parameters
    ----------
    train, valid : pcam_utils.Patches
        With labels.
    targets : dict
        `answers` (N,) of the teacher and `features` (N, F), one row a training patch.
    run : path
        Gets run.json, state.npz, averaged.npz (the weights to ship) and history.json; where they are, training goes on.
    epochs : int
        Length of the whole cosine.
    stop_after : float, optional
        Minutes after which no further epoch begins.
    start : path, optional
        Weights to start from, as the package keeps them; random if left out.
    backbone : str
    batch, seed : int

    Returns
    -------
    list of dict
        A row an epoch: loss, AUC of the averaged weights on *valid*, seconds.
    """
    prepare(seed)
    goals = (train.labels + targets["answers"]).astype(np.float32)[:, None] / 2
    features = targets["features"].astype(np.float32)
    network = build_model(backbone, "none", "average", say=say)
    if start:
        with np.load(start) as file:
            network.set_weights([file[name].astype(np.float32) for name in sorted(file.files)])
    for layer in network.get_layer("backbone").layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99
    record = {"patches": len(train), "batch": batch, "epochs": epochs, "rate": RATE, "decay": DECAY, "seed": seed,
              "start": start and Path(start).name, "backbone": backbone, "features": features.shape[1],
              "backend": keras.backend.backend(), **versions()}  # fmt: skip
    write_json(Path(run) / "run.json", record)
    trainee = _with_projection(network, features.shape[1])
    steps = max(1, len(train) // batch)
    _compile(trainee, epochs * steps)
    keeper = _Keeper(Path(run), network, trainee, valid, stop_after, say)
    keeper.load()
    trainee.fit(
        _batches(train, goals, features, batch, seed, keeper.epoch),
        steps_per_epoch=steps,
        initial_epoch=keeper.epoch,
        epochs=epochs,
        callbacks=[keeper],
        shuffle=False,  # the batches are shuffled already
        verbose=0,
    )
    return keeper.history


def _with_projection(network, width):
    """The network with a second output, which is thrown away after training: the features of the ImageNet network."""
    pooled = network.get_layer("dropout").input
    seen = keras.layers.Dense(width, dtype="float32", name="features")(pooled)
    return keras.Model(network.inputs[0], {"tumour": network.outputs[0], "features": seen})


def _unlike(true, seen):
    """Mean squared error, and one minus the cosine."""
    cosine = keras.ops.sum(keras.ops.normalize(true) * keras.ops.normalize(seen), axis=-1)
    return keras.ops.mean(keras.ops.square(true - seen), axis=-1) + 1 - cosine


def _compile(trainee, steps):
    warm = min(WARM, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        RATE / 100, max(1, steps - warm), warmup_target=RATE, warmup_steps=warm
    )
    adam = keras.optimizers.AdamW(rate, weight_decay=DECAY)
    trainee.compile(
        adam,
        loss={"tumour": "binary_crossentropy", "features": _unlike},
        loss_weights={"tumour": 1.0, "features": FEATURES},
        jit_compile=keras.backend.backend() == "jax",
    )
    trainee.optimizer.build(trainee.trainable_variables)


def _batches(patches, goals, features, size, seed, epoch):
    """Changed batches for ever; each depends on the seed and its number alone, and some are prepared ahead."""

    def make(epoch, step):
        rng = np.random.default_rng([seed, epoch, step])
        rows = np.random.default_rng([seed, epoch]).permutation(len(patches))[step * size : (step + 1) * size]
        return change(patches.images[rows], rng), {"tumour": goals[rows], "features": features[rows]}

    size = min(size, len(patches))
    many = len(patches) // size
    places = ((epoch + step // many, step % many) for step in range(2**40))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as workers:
        waiting = [workers.submit(make, *next(places)) for _ in range(AHEAD)]
        while True:
            waiting.append(workers.submit(make, *next(places)))
            yield waiting.pop(0).result()


class _Keeper(keras.callbacks.Callback):
    """Averages the weights, scores the average after each epoch, and writes all that the next one depends on."""

    def __init__(self, run, network, trainee, valid, stop_after, say):
        super().__init__()
        self.run, self.network, self.trainee, self.valid, self.say = run, network, trainee, valid, say
        self.ends = math.inf if stop_after is None else time.perf_counter() + 60 * stop_after
        self.history, self.averaged, self.shadow = [], network.get_weights(), keras.models.clone_model(network)

    @property
    def epoch(self):
        return len(self.history)

    def load(self):
        if (self.run / "state.npz").exists():
            with np.load(self.run / "state.npz") as file:
                state = dict(file)
            self.history = json.loads(str(state["history"]))
            for kind, variables in self._kept():
                for place, variable in enumerate(variables):
                    variable.assign(state[f"{kind}_{place}"])
            self.averaged = [state[f"averaged_{place}"] for place in range(len(self.averaged))]
            self.say(f"Goes on after epoch {self.epoch}.")

    def _kept(self):
        return ("model", self.trainee.variables), ("optimizer", self.trainee.optimizer.variables)

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.perf_counter()

    def on_train_batch_end(self, step, logs=None):
        if step % EVERY == 0:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            kept = min(KEPT, 1 - 1 / (1 + self.epoch * self.params["steps"] / EVERY + step / EVERY))
            for old, new in zip(self.averaged, self.network.get_weights()):
                old += (1 - kept) * (new - old)

    def on_epoch_end(self, epoch, logs=None):
        self.shadow.set_weights(self.averaged)
        said = predict(self.shadow, self.valid, tta="none", progress=False)
        losses = {name: round(float(value), 4) for name, value in logs.items()}
        row = {"epoch": epoch + 1, **losses, "seconds": round(time.perf_counter() - self.begun)}
        if not math.isfinite(row["loss"]):
            raise FloatingPointError(f"Training diverged in epoch {epoch + 1}.")
        self.history.append({**row, "val_auc": round(float(roc_auc_score(self.valid.labels, said)), 4)})
        self.say(json.dumps(self.history[-1]))
        state = {"history": np.array(json.dumps(self.history))}
        for kind, variables in self._kept():
            state |= {f"{kind}_{place}": np.asarray(variable.numpy()) for place, variable in enumerate(variables)}
        state |= {f"averaged_{place}": array for place, array in enumerate(self.averaged)}
        averaged = {f"{place:04d}": array for place, array in enumerate(self.averaged)}
        for name, arrays in (("state.npz", state), ("averaged.npz", averaged)):
            with replacing(self.run / name) as temporary:
                np.savez(temporary, **arrays)
        with replacing(self.run / "history.json") as temporary:
            temporary.write_text(json.dumps(self.history, indent=1) + "\n")
        self.model.stop_training = time.perf_counter() > self.ends

"""Trains NASNetMobile in a process of its own, so many steps at a time as are asked for on standard input.

    python benchmarks/training_worker.py default|ours|bare|predict DATA

'default' is Keras as it comes; 'ours' is what `pcam train` does, augmentation included; 'bare' is its step alone, on
one batch; 'predict' asks for that batch's probabilities instead, as `pcam predict` does. Prints 'ready', then after
each number read from standard input the seconds that so many steps took.
benchmarks/speed.py runs several of these in turn, so that all of them meet the same machine.
"""

import os
import sys
import time
from contextlib import nullcontext
from itertools import repeat

from worker import answer, say

from pcam_utils.data.sources import open_data
from pcam_utils.evaluation.predictions import view_model
from pcam_utils.models.backbones import keras
from pcam_utils.models.networks import build_model
from pcam_utils.runtime.backend import prepare
from pcam_utils.runtime.fused import FusedAdam, fused_batch_norm
from pcam_utils.training.feeding import batches
from pcam_utils.training.run import behind_augmentation

BATCH = int(os.environ.get("BENCH_BATCH", "32"))
PROFILE = os.environ.get("PROFILE")  # a folder: the second block of steps is written there, as TensorFlow sees it


class Gate(keras.callbacks.Callback):
    """Waits before each block of steps, and says how long it took."""

    left = blocks = 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.left == 0:
            self.left = self.ask()
            self.blocks += 1
            if PROFILE and self.blocks == 2:
                tensorflow_profiler().start(PROFILE)
            self.begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            float(logs["loss"])  # a GPU may still be computing
            if PROFILE and self.blocks == 2:
                tensorflow_profiler().stop()
            say(time.perf_counter() - self.begun)

    def ask(self):
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        return int(line)


def tensorflow_profiler():
    import tensorflow as tf

    return tf.profiler.experimental


def main(mode, data):
    keras.utils.set_random_seed(0)
    if mode != "default":
        prepare(0, say=lambda _: None)
    patches = open_data(data, only=("train",)).split("train")
    model = build_model(weights="none", head="average", say=lambda _: None)
    stream = batches(patches, BATCH)
    if mode == "predict":
        viewing, images = view_model(model, "none"), next(stream)[0]
        answer(lambda: viewing.predict_on_batch(images))
        return
    if mode == "bare":  # the same batch again and again, on the device already
        batch = tuple(map(keras.ops.convert_to_tensor, next(stream)))
        stream = (same for same in repeat(batch))  # Keras takes generators alone
    if mode == "ours":
        model = behind_augmentation(model, "full")
    if mode == "default":
        model.compile(keras.optimizers.Adam(1e-4), loss="binary_crossentropy")
    else:
        jit = keras.backend.backend() == "jax"
        model.compile(FusedAdam(1e-4), loss="binary_crossentropy", jit_compile=jit)
        model.optimizer.build(model.trainable_variables)
    say("ready")
    with nullcontext() if mode == "default" else fused_batch_norm():
        model.fit(stream, steps_per_epoch=10**6, verbose=0, callbacks=[Gate()], shuffle=False)


if __name__ == "__main__":
    main(*sys.argv[1:])

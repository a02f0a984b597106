"""Trains NASNetMobile in a process of its own, so many steps at a time as are asked for on standard input.

    python benchmarks/training_worker.py default|ours|bare DATA

Prints 'ready', then after each number read from standard input the seconds that so many steps took. benchmarks/speed.py runs
several of these in turn, so that all of them meet the same machine.
"""

import os
import sys
import time

from pcam_utils.runtime.backend import load_keras, prepare

MODE, DATA = sys.argv[1:]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = load_keras()
keras.utils.set_random_seed(0)
if MODE != "default":
    prepare(0)

from pcam_utils.data.sources import open_data
from pcam_utils.models.networks import build_model
from pcam_utils.training.run import batches, behind_augmentation

BATCH = int(os.environ.get("BENCH_BATCH", "32"))
PROFILE = os.environ.get(
    "PROFILE"
)  # folder: the second block of steps is written there as TensorFlow's profiler sees it


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


def say(what):
    print(what, flush=True)


def main():
    patches = open_data(DATA, only=("train",)).split("train")
    model = build_model(weights="none", head="average", say=lambda _: None)
    stream = batches(patches, BATCH)
    if MODE == "bare":  # the same batch again and again, on the device already
        images, goals = (keras.ops.convert_to_tensor(part) for part in next(stream))
        stream = forever(images, goals)
    if MODE == "ours":
        model = behind_augmentation(model, "full")
    jit = keras.backend.backend() == "jax"
    how = {} if MODE == "default" else {"jit_compile": jit}
    model.compile(keras.optimizers.Adam(1e-4), loss="binary_crossentropy", **how)
    if MODE != "default":
        model.optimizer.build(model.trainable_variables)
    say("ready")
    model.fit(stream, steps_per_epoch=10**6, verbose=0, callbacks=[Gate()], shuffle=False)


def forever(images, goals):
    while True:
        yield images, goals


if __name__ == "__main__":
    main()

"""Knows where the course runs: the Keras backend, the seed, and the versions worth writing down."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from contextlib import contextmanager, suppress

from ..errors import InputError

BACKENDS = ("tensorflow", "jax")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def load_keras():
    """Import Keras on the backend that is there: `KERAS_BACKEND` if set, else TensorFlow, else JAX.

    Raises
    ------
    InputError
        If no backend is installed, or the one asked for is not.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    wanted = os.environ.get("KERAS_BACKEND")
    if not installed:
        raise InputError('Keras has no backend to compute with; pip install "pcam-utils[tensorflow]" (or [jax]).')
    if wanted and wanted not in installed:
        raise InputError(f"KERAS_BACKEND is '{wanted}', but what is here and works is: {', '.join(installed)}.")
    os.environ.setdefault("KERAS_BACKEND", installed[0])
    with _muted_stderr():
        import keras

    return keras


def prepare(seed, *, precision="float32", deterministic=False):
    """Set the seeds, precision and determinism of this process, before any model is built.

    Parameters
    ----------
    seed : int
    precision : {'float32', 'mixed_float16', 'mixed_bfloat16'}
        Mixed precision pays on GPUs alone: float16 on a T4, bfloat16 on newer ones.
    deterministic : bool
        Forbid TensorFlow every operation whose last bits may vary. On a GPU that makes equal runs equal; on a CPU they
        were equal without it wherever we compared, and it nearly doubles the time of a step.
    """
    keras = load_keras()
    if seed < 0:
        raise InputError(f"The seed is {seed}, but it must be 0 or more.")
    if precision not in PRECISIONS:
        raise InputError(f"'{precision}' is no precision; choose one of {', '.join(PRECISIONS)}.")
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        _keep_freed_memory()
        _set_threads(tf)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        # Grappler's meta-optimizer costs some ten seconds before the first step and gives nothing back here.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        from .fused import shorten_graphs

        shorten_graphs()


def compiled(function):
    """Compile a pure function of arrays with XLA, whatever the backend.

    Inside TensorFlow's graph it becomes a single operation: many small ones in a row are several times faster so, also on
    a CPU, where XLA does not suit whole networks.
    """
    if load_keras().backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    import jax

    return jax.jit(function)


def as_graph(function):
    """Make TensorFlow run a function as a graph, without its Python; JAX's own functions stay as they are."""
    if load_keras().backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return function


@contextmanager
def _muted_stderr():
    """Keep off the screen how TensorFlow's libraries greet, past Python and whatever TF_CPP_MIN_LOG_LEVEL says. Exceptions still show."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr, as under pythonw
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _keep_freed_memory():
    """Stop glibc from giving each step's large arrays back to the system, only to ask for them again.

    On a CPU, TensorFlow's executor otherwise spends a third of each training step on half a million page faults.
    """
    with suppress(OSError, AttributeError, TypeError):  # another system, or another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _set_threads(tf):
    """On two cores, compute two operations at a time on one thread each: a step takes an eighth less than the default."""
    if os.cpu_count() == 2:
        with suppress(RuntimeError):  # TensorFlow has started already, and its threads with it
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(2)

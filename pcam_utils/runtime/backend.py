"""Starts Keras on a backend, sets the seed and the precision, and makes TensorFlow quicker."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError, reason
from ..files import user_path

BACKENDS = ("tensorflow", "jax")
LARGEST_SEED = 2**32 - 1  #: that NumPy takes
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
_NEEDED = {"floatx": "float32", "image_data_format": "channels_last"}  # of keras.json
_KERAS_OWN = {"epsilon": 1e-7, "backend": "tensorflow", **_NEEDED}  # what Keras itself writes there
_OLDEST = (3, 10)  # of Keras; with older ones, several devices learn something else than one
_XLA_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def load_keras() -> Any:
    """Import Keras on the backend that was chosen. If none was, take the one that is installed: TensorFlow, or JAX.

    A backend is chosen as always with Keras: by the variable `KERAS_BACKEND`, or else in `keras.json` (in `KERAS_HOME`
    or `~/.keras`).

    Returns
    -------
    module
        `keras`. If it was imported already, it stays as it is.

    Raises
    ------
    InputError
        If Keras is too old, or no backend is installed, or the one chosen is not, or keras.json asks for arrays that
        this course does not have.

    Examples
    --------
    >>> keras = load_keras()
    >>> keras.backend.backend() in BACKENDS
    True
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = _choose_backend()
        if "KERAS_HOME" in os.environ:  # Keras does not follow a ~ there, but makes a folder with that name
            os.environ["KERAS_HOME"] = str(keras_home())
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets with a dozen lines otherwise
        with _held_stderr():
            importlib.import_module("keras")
    keras = sys.modules["keras"]
    if tuple(map(int, keras.__version__.split(".")[:2])) < _OLDEST:
        raise InputError(
            f"Keras {keras.__version__} is too old for this course; pip install --upgrade keras, and restart Python."
        )
    if keras.config.image_data_format() != "channels_last" or keras.config.floatx() != "float32":
        raise InputError(
            f"Keras is set to {keras.config.floatx()} and {keras.config.image_data_format()}, but this course "
            "needs float32 and channels_last; restart Python, or set both with keras.config."
        )
    return keras


def _choose_backend() -> str:
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    if not installed:
        raise InputError('Keras has no backend to compute with; pip install "pcam-utils[tensorflow]" (or [jax]).')
    here = f"but this course can use only {' or '.join(installed)} here"
    path, config = _read_keras_json()
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in installed:
        raise InputError(f"KERAS_BACKEND is '{wanted}', {here}.")
    wanted = wanted or config.get("backend", installed[0])
    if wanted not in installed and config == _KERAS_OWN:  # nobody chose it: Keras writes this file when it first starts
        warnings.warn(f"{path} names tensorflow, as Keras writes it by itself, {here}, so that is used.", stacklevel=3)
        return installed[0]
    if wanted not in installed:
        raise InputError(f"{path} names the backend '{wanted}', {here}; change it there, or set KERAS_BACKEND.")
    return wanted


def keras_home() -> Path:
    """Give the folder of Keras's settings and downloads: `KERAS_HOME`, else .keras in a home that can be written."""
    if "KERAS_HOME" in os.environ:
        return user_path(os.environ["KERAS_HOME"])
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")  # as Keras looks for it


def _read_keras_json() -> tuple[Path, dict[str, Any]]:
    """Give the path and content of Keras's own settings. The content is empty if Keras would not use any."""
    path = keras_home() / "keras.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return path, {}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}); make it readable, or remove it.") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no settings of Keras; remove it.")
    for name, needed in _NEEDED.items():
        if config.get(name, needed) != needed:
            raise InputError(
                f"{path} sets {name} to '{config[name]}', but this course needs '{needed}'; change it there."
            )
    return path, config


def prepare(
    seed: int,
    *,
    precision: str = "float32",
    deterministic: bool = False,
    tune: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Set the seeds, precision and determinism of this process, before any model is built.

    Parameters
    ----------
    seed : int
        From 0 to 4,294,967,295.
    precision : {'float32', 'mixed_float16', 'mixed_bfloat16'}
        Mixed precision halves what a step keeps in memory: float16 on a T4, bfloat16 on newer GPUs. Whether it saves
        time there was not measured; on a CPU it costs time.
    deterministic : bool
        Use only operations that give the same bits each time. On a GPU, two runs are equal only with this. On a CPU
        they were equal without it wherever we compared, and in TensorFlow it nearly doubles the time of a step.
    tune : bool
        Make TensorFlow quicker in this process. This sets its threads, keeps memory that was freed, and shortens what
        it does before the first step. It also lets TensorFlow take a GPU's memory only as it needs it, so that another
        notebook can use that GPU, too. False changes nothing. On JAX there is nothing to tune.
    say : callable
        Told, in one line, what was tuned.

    Raises
    ------
    InputError
        If the seed or the precision cannot be used.

    Examples
    --------
    >>> prepare(0, tune=False)
    """
    keras = load_keras()
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"The seed is {seed}, but it must lie between 0 and {LARGEST_SEED}.")
    if precision not in PRECISIONS:
        raise InputError(f"'{precision}' is no precision; choose one of {', '.join(PRECISIONS)}.")
    if deterministic:
        _forbid_what_varies(keras.backend.backend())
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    if tune and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        done = [*_leave_graphs(tf), *_set_threads(tf), *_keep_freed_memory(), *_let_memory_grow(tf)]
        if done:
            say(f"TensorFlow is tuned: {', '.join(done)} (tune=False leaves it alone).")


def _forbid_what_varies(backend: str) -> None:
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if _XLA_DETERMINISTIC in flags.split():
        return
    from jax._src import xla_bridge  # JAX says it nowhere else

    if xla_bridge.backends_are_initialized():
        raise InputError(
            "JAX has computed in this process already, and can be made deterministic before that alone; restart "
            f"Python, and call prepare() first (or set XLA_FLAGS={_XLA_DETERMINISTIC})."
        )
    os.environ["XLA_FLAGS"] = f"{flags} {_XLA_DETERMINISTIC}".strip()  # XLA reads them once, when it starts


def uses_xla() -> bool:
    """True if XLA is to compile whole networks. That is so on JAX, which is made for it.

    On TensorFlow it takes long to compile each network for each shape of a batch. Yet as soon as a GPU is listed, Keras
    does so for every model that was not told otherwise, and even for a plain `predict`.

    Examples
    --------
    >>> uses_xla() == (load_keras().backend.backend() == "jax")
    True
    """
    return bool(load_keras().backend.backend() == "jax")


def set_xla(model: Any) -> Any:
    """Tell a model whether XLA compiles it, so that Keras does not decide it. Give back the same model."""
    model.jit_compile = uses_xla()
    return model


def compiled(function: Callable) -> Any:
    """Compile a pure function of arrays with XLA, whatever the backend.

    Inside TensorFlow's graph the function becomes a single operation. That makes many small operations in a row several
    times faster, also on a CPU, where XLA does not suit whole networks. In some conda environments XLA lacks a GPU
    library that it needs. Then the function stays a plain graph, and a warning says so once.

    Examples
    --------
    >>> float(compiled(lambda x: x + 1)(1.0))
    2.0
    """
    if load_keras().backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=_xla_compiles(), autograph=False)
    import jax

    return jax.jit(function)


@cache
def _xla_compiles() -> bool:
    """True if XLA can compile for the device that TensorFlow uses here. If not, a warning says why."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return True
    try:
        # A power needs libdevice, CUDA's library of mathematics.
        tf.function(lambda x: x**x, jit_compile=True, autograph=False)(tf.constant(2.0))
    except tf.errors.OpError as error:
        why = (error.message or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"XLA cannot compile for this GPU ({why}), so patches are changed by a plain graph, which is slower; "
            "name the folder that holds nvvm/libdevice in XLA_FLAGS=--xla_gpu_cuda_data_dir=FOLDER (in conda, "
            "after installing cuda-nvcc, $CONDA_PREFIX) before Python starts.",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


def as_graph(function: Callable) -> Any:
    """Make TensorFlow run a function as a graph, without Python. On JAX the function stays as it is."""
    if load_keras().backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return function


@contextmanager
def _held_stderr() -> Iterator[None]:
    """Hold back what is written to stderr. Show it if the block fails, even if the failure ends the process.

    TensorFlow's libraries print greetings without Python, and before they look at TF_CPP_MIN_LOG_LEVEL. So another
    process holds what they print. If all goes well, that process is stopped. Else it prints what it holds as soon as
    this process closes the pipe, or is gone.
    """
    hold = [sys.executable or "", "-ISc", "import sys; sys.stderr.buffer.write(sys.stdin.buffer.read())"]
    try:
        kept = os.dup(2)
        # It gets a session of its own: Ctrl-C is meant for this process, and must not lose what the other one holds.
        holder = subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError:  # there is no stderr (as under pythonw), or no other process can be started
        yield
        return
    with holder:  # closes the pipe at the end, and waits
        os.dup2(holder.stdin.fileno(), 2)  # type: ignore[union-attr]  # it was asked for
        try:
            yield
            holder.kill()
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _keep_freed_memory() -> list[str]:
    """Stop glibc from giving each step's large arrays back to the system, since the next step needs them again.

    Without this, TensorFlow's executor spends a third of each training step on half a million page faults (on a CPU).
    """
    with suppress(OSError, AttributeError, TypeError):  # another system, or another C library
        libc = ctypes.CDLL(None)
        if libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1):
            return ["freed memory is kept"]
    return []


def _leave_graphs(tf: Any) -> list[str]:
    """On a CPU, switch off Grappler's meta-optimizer. It takes some ten seconds before the first step, for no gain.

    On a GPU it stays on. There it may put a network's arrays into another order; what that gains was not measured.
    """
    if tf.config.list_physical_devices("GPU"):
        return []
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    return ["graphs are not rewritten"]


def _let_memory_grow(tf: Any) -> list[str]:
    """Keep TensorFlow from taking all memory of each GPU at once, which would leave none for other processes."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError):  # the GPU is in use already, or is of a kind that has no such setting
            return []
    return ["a GPU's memory is taken as it is needed"] if gpus else []


def _set_threads(tf: Any) -> list[str]:
    """On two cores, compute two operations at a time, each on one thread. Then a step takes an eighth less time."""
    if os.cpu_count() == 2:
        with suppress(RuntimeError):  # TensorFlow has started already, and its threads with it
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(2)
            return ["two operations at a time on one thread each"]
    return []

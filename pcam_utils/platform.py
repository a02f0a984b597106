"""Knows where the course runs: the Keras backend, the seed, and the versions worth writing down."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform as _platform
import shutil
import sys
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .errors import InputError

BACKENDS = ("tensorflow", "jax")
SEVERAL_DEVICES_KERAS = (3, 10)  #: equal from here on; with 3.3 and 3.7, losses differ from those of one device
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
DRIVE = Path("/content/drive")  #: where Colab mounts it
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_RECORDED = ("pcam-utils", "numpy", "keras", "tensorflow", "tensorflow-cpu", "jax", "scikit-learn", "h5py", "pillow")


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
        from .fast import shorten_graphs

        shorten_graphs()


def several_devices(number):
    """Spread training over the first devices of this machine: GPUs if there are any, else what the backend calls CPUs.

    Each step's batch is divided among them, by the backend's own engine: `tf.distribute.MirroredStrategy` or Keras's
    `DataParallel` on JAX.

    Parameters
    ----------
    number : int

    Returns
    -------
    callable
        Makes a context; build and compile the model in such contexts. On JAX the devices serve the whole process.

    Raises
    ------
    InputError
        If there are fewer, or Keras is too old to train on several.
    """
    keras = load_keras()
    if number > 1 and tuple(map(int, keras.__version__.split(".")[:2])) < SEVERAL_DEVICES_KERAS:
        raise InputError(
            f"Keras {keras.__version__} learns something else on several devices than on one; "
            f"update it to {'.'.join(map(str, SEVERAL_DEVICES_KERAS))} or newer, or use one device."
        )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        here = [device.name for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
    else:
        here = keras.distribution.list_devices()
    if not 1 <= number <= len(here):
        raise InputError(f"{number} devices were asked for, but the machine has {len(here)}; ask for at least 1 and at most that.")
    if number == 1:
        return nullcontext
    if keras.backend.backend() == "tensorflow":
        return tf.distribute.MirroredStrategy(here[:number]).scope
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=here[:number]))
    return nullcontext


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


def where():
    """Where this runs: 'colab', 'kaggle' or 'local'."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    return "colab" if "COLAB_RELEASE_TAG" in os.environ else "local"


def has_gpu():
    """True if the Keras backend sees a GPU or TPU."""
    if load_keras().backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    import jax

    return jax.default_backend() != "cpu"


def gpu_hint():
    """One sentence: there is a GPU, or what to click to get one."""
    if has_gpu():
        return "A GPU is there: everything runs at full size."
    if shutil.which("nvidia-smi") and where() == "local":
        extra = {"jax": "jax[cuda12]"}.get(load_keras().backend.backend(), "tensorflow[and-cuda]")
        return f'An NVIDIA card is there, but not in use, so this lesson runs small. pip install "{extra}", and restart the kernel.'
    return "No GPU is in use, so this lesson runs small. " + {
        "colab": "To get one: Runtime → Change runtime type → T4 GPU → Save, then run from the top.",
        "kaggle": "To get one: Settings → Accelerator → GPU T4 x2, then run from the top.",
        "local": "That is fine: it takes minutes on a laptop.",
    }[where()]


def version_line():
    """The versions that differ most often between two people who compare results, in one line."""
    keras, found = load_keras(), versions()
    return f"Python {found['python']}, Keras {keras.__version__} on {keras.backend.backend()}, NumPy {found['numpy']}"


def workspace():
    """The course's folder, relative to here: lessons that run in its `notebooks` folder find what lies beside it."""
    return Path("..") if Path.cwd().name == "notebooks" else Path(".")


def results_folder():
    """The folder that lessons keep things in, made if need be: `PCAM_OUT`, else build/course in the workspace.

    Raises
    ------
    InputError
        If it is on a Drive that is not mounted: what is written there would be lost with the machine.
    """
    folder = Path(os.environ.get("PCAM_OUT") or workspace() / "build" / "course")
    if folder.is_relative_to(DRIVE) and not os.path.ismount(DRIVE):
        raise InputError(f"PCAM_OUT is {folder}, but no Drive is mounted: click the folder icon, Mount Drive, and run this cell again.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def versions():
    """Versions of what decides a result, for the record of a run.

    Returns
    -------
    dict of str to str
    """
    found = {"python": _platform.python_version(), "machine": f"{sys.platform} {_platform.machine()}, {os.cpu_count()} cores"}
    for package in _RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

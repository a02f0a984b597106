"""Knows the devices: whether there is a GPU, how to get one, and how to spread a batch over several."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from ..errors import InputError
from .backend import load_keras
from .places import where


def has_gpu() -> bool:
    """True if the Keras backend sees a GPU or TPU.

    Examples
    --------
    >>> has_gpu() in (True, False)
    True
    """
    if load_keras().backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    import jax

    return jax.default_backend() != "cpu"


def gpu_hint() -> str:
    """Say in one sentence that there is a GPU, or what to click to get one.

    Examples
    --------
    >>> gpu_hint().endswith(".")
    True
    """
    if has_gpu():
        return "A GPU is there: everything runs at full size."
    if shutil.which("nvidia-smi") and where() == "local":
        extra = {"jax": "jax[cuda12]"}.get(load_keras().backend.backend(), "tensorflow[and-cuda]")
        return (
            "An NVIDIA card is there, but not in use, so this lesson runs small. "
            f'pip install "{extra}", and restart the kernel.'
        )
    return (
        "No GPU is in use, so this lesson runs small. "
        + {
            "colab": "To get one: Runtime → Change runtime type → T4 GPU → Save, then run from the top.",
            "kaggle": "To get one: Settings → Accelerator → GPU T4 x2, then run from the top.",
            "local": "That is fine: it takes minutes on a laptop.",
        }[where()]
    )


def several_devices(number: int) -> Callable[[], AbstractContextManager]:
    """Spread training over the first devices of this machine: GPUs if there are any, else what the backend calls CPUs.

    The backend's own engine divides each step's batch among them. This is `tf.distribute.MirroredStrategy` on
    TensorFlow, and Keras's `DataParallel` on JAX.

    Parameters
    ----------
    number : int

    Returns
    -------
    callable
        Makes a context. Build and compile the model in such contexts. On JAX the devices serve the whole process.

    Raises
    ------
    InputError
        If there are fewer.

    Examples
    --------
    >>> scope = several_devices(1)
    >>> with scope():
    ...     model = load_keras().Sequential()
    """
    keras = load_keras()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        here = [
            device.name for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        ]
    else:
        here = keras.distribution.list_devices()
    if not 1 <= number <= len(here):
        raise InputError(f"{number} devices were asked for, but the machine has {len(here)}; ask for 1 to {len(here)}.")
    if number == 1:
        return nullcontext
    if keras.backend.backend() == "tensorflow":
        scope: Callable[[], AbstractContextManager] = tf.distribute.MirroredStrategy(here[:number]).scope
        return scope
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=here[:number]))
    return nullcontext

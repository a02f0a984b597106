"""Plumbing for the course on finding cancer in tissue images (PatchCamelyon). Not for diagnosis."""

import os
from importlib import import_module

__version__ = "0.1.0"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets with a dozen lines otherwise

_HOMES = {
    "InputError": "errors",
    "Patches": "patches",
    "find_data": "sources",
    "open_data": "sources",
    "write_sample": "simulate",
    "build_model": "model",
    "load_model": "model",
}
__all__ = list(_HOMES)


def __getattr__(name):
    # On demand: importing the package must neither need a Keras backend nor wait for one.
    if name not in _HOMES:
        raise AttributeError(f"module 'pcam_utils' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

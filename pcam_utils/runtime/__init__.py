"""Where it runs: Keras and its backend, seed and precision, devices, folders, what to click."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backend": ["load_keras", "prepare"],
        "devices": ["gpu_hint", "has_gpu", "several_devices"],
        "fused": ["FusedAdam", "fused_batch_norm"],
        "places": ["results_folder", "version_line", "versions", "where", "workspace"],
    },
)

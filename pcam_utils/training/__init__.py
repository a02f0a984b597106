"""Augmentation, recipes, and the run that survives interruption."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augment": ["Augment", "stain"],
        "feeding": ["batches"],
        "operations": ["OPERATIONS"],
        "recipes": ["RECIPES", "Settings"],
        "run": ["train"],
    },
)

"""Patches in: the table, the layouts they are read from, packing, download, splits, and what is there."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "contents": ["describe"],
        "download": ["download_kaggle", "download_pcam"],
        "patches": ["Patches"],
        "sources": ["find_data", "open_data"],
        "splits": ["by_group", "train_valid"],
    },
)

"""Simulated tissue, which comes from no patient, and the sample that is cut from it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "sample": ["find_or_make_data", "write_sample"],
        "tissue": ["render_slide"],
    },
)

"""Plumbing for the course on finding cancer in tissue images (PatchCamelyon). Not for diagnosis."""

import lazy_loader

__version__ = "0.1.0"

# A name is imported when it is first used. So to import the package needs no Keras backend, and does not wait for one.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "errors": ["InputError"],
        "data.patches": ["Patches"],
        "data.sources": ["find_data", "open_data"],
        "models.networks": ["build_model", "load_model"],
        "simulated.sample": ["find_or_make_data", "write_sample"],
    },
)

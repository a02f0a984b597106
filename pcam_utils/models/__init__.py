"""Networks, where they start, and the weights that come along."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "networks": ["build_model", "freeze", "load_model"],
        "shipped": ["seen_in_training", "unseen_first"],
        "starts": ["choose_start"],
    },
)

"""Lists what may happen to a training patch: names, shares and ranges, but not the code that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HOLE = 8  #: width and height of a hole, pixels


@dataclass(frozen=True)
class Operation:
    """How many patches of a batch an operation changes, and how far.

    Attributes
    ----------
    one_in : int
        The operation changes one patch in so many. Which patches these are is drawn anew for each batch. Their number
        is fixed, so that nothing is computed in vain and the compiler knows all shapes.
    ranges : dict of name to (lowest, highest)
        Each quantity is drawn evenly from its range.
    """

    one_in: int
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


#: What may happen to a training patch, in this order. Angles are in degrees, shifts and sigma in pixels, noise in grey
#: values, and offsets in optical density (log10); the others are factors and shares. It is the list of the 2019 article
#: (CVxTz/malignancy_detection, code/utils.py), as far as it makes sense for tissue. No microscope makes superpixels,
#: edges, emboss or inverted colours, so these are left out. So are wide shifts, which move tumour out of the centre
#: (lesson 02 counts how often).
OPERATIONS = {
    "symmetry": Operation(1),
    "affine": Operation(4, {"zoom": (0.9, 1.1), "rotation": (-10, 10), "shear": (-5, 5), "shift": (-2, 2)}),
    "blur": Operation(8, {"sigma": (0.1, 1.0)}),
    "sharpen": Operation(8, {"strength": (0.0, 0.2)}),
    "noise": Operation(8, {"std": (0.0, 2.55)}),
    "holes": Operation(8, {"share": (0.01, 0.03)}),
    "brightness": Operation(8, {"factor": (0.9, 1.1)}),
    "contrast": Operation(8, {"factor": (0.9, 1.1)}),
    "stain": Operation(1, {"factor": (0.75, 1.25), "offset": (-0.02, 0.02)}),
}
#: The two operations that matter most.
PLAIN = {name: OPERATIONS[name] for name in ("symmetry", "stain")}

#: The choices of `pcam train --augment`: the whole list, its symmetries and stain alone, or nothing.
AUGMENTS: dict[str, dict[str, Operation] | None] = {"full": OPERATIONS, "plain": PLAIN, "none": None}

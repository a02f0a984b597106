"""What a layout finds in a folder: for each split its pictures or a function that opens them, and some notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .patches import Patches

PCAM_CLASSES = ("no tumour in the centre", "tumour in the centre")
#: What people call the three splits.
SPLIT_NAMES = {
    **{"train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid"},
    **{"test": "test", "testing": "test"},
}


class Ask(NamedTuple):
    """What was asked for besides the folder. See `pcam_utils.data.sources.open_data`."""

    positive: str | None = None
    overlap: bool = False
    progress: bool = True


@dataclass
class Pictures:
    """A split of picture files: their paths below the folder, and what is known of each picture."""

    files: Sequence[str]
    ids: Sequence[str]
    labels: Sequence[int] | None = None
    slides: Sequence[str] | None = None
    content_ids: bool = False  #: ids are the SHA-1 of the pixels


@dataclass
class Found:
    """What a layout says is there.

    Attributes
    ----------
    splits : dict of str to Pictures, or to a function that opens Patches
    classes : tuple of str
    left_out : list of str
        What was seen and is not used, in a few words each.
    notes : list of str
        What else a person should know, a sentence each.
    instead : str
        What can be done about a split that is not there.
    """

    splits: dict[str, Pictures | Callable[[], Patches]]
    classes: tuple[str, ...] = PCAM_CLASSES
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    instead: str = "choose another, or get its files"

"""Says what a folder of patches holds: counts, slides, repeats, and patches that show nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from .patches import Patches, content_hashes, fingerprint, is_blank
from .sources import Data


def describe(data: Data, *, progress: bool = True) -> dict[str, Any]:
    """Count what is in the data. This reads every patch once or twice.

    Parameters
    ----------
    data : pcam_utils.data.sources.Data
    progress : bool
        Show bars where reading takes more than two seconds.

    Returns
    -------
    dict
        - folder, layout, simulated, classes, and notes (such as what was left out);
        - splits: for each name a dict of patches, positives, negatives (None where unlabelled), slides (None where
          unknown), repeats (patches equal to an earlier one), contradictions (patches that are there with both labels),
          blank and fingerprint;
        - shared_slides and shared_patches: slides and patches that are in more than one split.
    """
    hashes = {name: content_hashes(patches, progress=progress) for name, patches in data.splits.items()}
    splits = {name: _describe_split(patches, hashes[name], progress) for name, patches in data.splits.items()}
    slides = [set(patches.slides) for patches in data.splits.values() if patches.slides is not None]
    return {
        "folder": str(data.folder),
        "layout": data.layout,
        "simulated": data.simulated,
        "classes": list(data.classes),
        "notes": list(data.notes),
        "splits": splits,
        "shared_slides": _in_several(slides) if slides else None,
        "shared_patches": _in_several(map(set, hashes.values())),
    }


def _in_several(sets: Iterable[set[Any]]) -> int:
    return sum(count > 1 for count in Counter(member for one in sets for member in one).values())


def _describe_split(patches: Patches, hashes: NDArray[np.str_], progress: bool) -> dict[str, Any]:
    blank = 0
    with tqdm(total=len(patches), desc="Reading", unit="patch", delay=2, disable=not progress) as bar:
        for batch in patches.batches():
            blank += int(is_blank(batch).sum())
            bar.update(len(batch))
    labels = patches.labels
    return {
        "patches": len(patches),
        "positives": None if labels is None else int(np.count_nonzero(labels)),
        "negatives": None if labels is None else int(np.count_nonzero(labels == 0)),
        "slides": len(np.unique(patches.slides)) if patches.slides is not None else None,
        "blank": blank,
        "repeats": len(patches) - len(np.unique(hashes)),
        "contradictions": 0 if labels is None else len(set(hashes[labels == 0]) & set(hashes[labels == 1])),
        "fingerprint": fingerprint(patches, hashes),
    }


def examples(patches: Patches, *, each: int = 8, seed: int = 0) -> Patches:
    """Draw up to `each` patches of each class, class by class. If labels are unknown, draw from all patches.

    Returns
    -------
    Patches
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(len(patches)) if patches.labels is None else patches.labels
    classes = (np.flatnonzero(labels == label) for label in np.unique(labels))
    return patches.take(np.concatenate([rng.permutation(members)[:each] for members in classes]))


def as_table(facts: dict[str, Any]) -> str:
    """The facts of `describe` as lines for a person."""
    kind = "simulated pictures, not patients' tissue" if facts["simulated"] else "as found, no mark of being simulated"
    lines = [f"{facts['folder']}: layout '{facts['layout']}', {kind}"]
    if any(split["positives"] is not None for split in facts["splits"].values()):
        lines.append(say_classes(facts["classes"]))
    columns = ("patches", "negatives", "positives", "slides", "repeats", "blank")
    lines.append("split  " + "".join(f"{column:>11}" for column in columns))
    for name, split in facts["splits"].items():
        cells = ("unknown" if split[column] is None else f"{split[column]:,}" for column in columns)
        lines.append(f"{name:<7}" + "".join(f"{cell:>11}" for cell in cells))
    if facts["shared_slides"] is not None:
        lines.append(f"slides in more than one split: {facts['shared_slides']}")
    if facts["shared_patches"]:
        lines.append(f"patches that are, pixel for pixel, in more than one split: {facts['shared_patches']:,}")
    for name, split in facts["splits"].items():
        if split["contradictions"]:
            lines.append(f"patches of {name} that are there with both labels: {split['contradictions']:,}")
    return "\n".join([*lines, *facts["notes"]])


def say_classes(classes: Sequence[str]) -> str:
    """What 0 and 1 mean, or which classes there are, in a line."""
    return f"0 = {classes[0]}, 1 = {classes[1]}" if len(classes) == 2 else f"classes: {', '.join(classes)}"

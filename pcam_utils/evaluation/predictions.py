"""Predicts, and can average over mirrored and turned views of each patch (test-time augmentation, TTA)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..data.patches import Patches
from ..errors import InputError
from ..files import replacing
from ..models.backbones import keras
from ..runtime.backend import set_xla

#: The ways in which a square can lie: (swap rows and columns first?, axes of (N, rows, columns, 3) to reverse then).
SYMMETRIES: dict[str, tuple[bool, tuple[int, ...]]] = {
    "as it is": (False, ()),
    "upside down": (False, (1,)),
    "half turn": (False, (1, 2)),
    "mirrored": (False, (2,)),
    "transposed": (True, ()),
    "quarter turn left": (True, (1,)),
    "half turn, transposed": (True, (1, 2)),
    "quarter turn right": (True, (2,)),
}
#: The views of each kind of TTA, in order. 'flips' are those of the 2019 article, 'd4' all symmetries of the square.
TTA: dict[str, tuple[str, ...]] = {
    "none": ("as it is",),
    "flips": ("as it is", "upside down", "half turn", "mirrored"),
    "d4": tuple(SYMMETRIES),
}
MEANS = ("arithmetic", "geometric")


def predict(
    model: Any,
    patches: Patches,
    *,
    tta: str = "flips",
    mean: str = "arithmetic",
    batch_size: int = 64,
    progress: bool = True,
) -> np.ndarray:
    """Predict the probability of tumour in the centre of each patch, averaged over its views.

    Parameters
    ----------
    model : keras.Model
        (N, 96, 96, 3) uint8 to (N, 1) probabilities.
    patches : Patches
    tta : {'none', 'flips', 'd4'}
        A name in `TTA`: 1, 4 or 8 views.
    mean : {'arithmetic', 'geometric'}
        The 2019 article took the geometric mean, and called it an average.
    batch_size : int
        Patches that are read at a time. Their views go through the network together, so 64 patches are 512 with 'd4'.
    progress : bool
        Show a bar if that takes more than two seconds.

    Returns
    -------
    (N,) float64
        Between 0 and 1.

    Raises
    ------
    InputError
        If a name is unknown, or if the model gives numbers that are no probabilities.

    Examples
    --------
    >>> from pcam_utils import Patches, build_model
    >>> from pcam_utils.data.patches import Rows
    >>> patches = Patches(Rows(np.zeros((3, 96, 96, 3), np.uint8)), np.array(["a", "b", "c"]))
    >>> model = build_model("SmallCNN", weights="none", say=lambda _: None)
    >>> predict(model, patches, tta="d4", progress=False).shape
    (3,)
    """
    return average(predict_views(model, patches, tta=tta, batch_size=batch_size, progress=progress), mean)


def predict_views(
    model: Any, patches: Patches, *, tta: str = "flips", batch_size: int = 64, progress: bool = True
) -> np.ndarray:
    """Predict the probability of tumour for each view of each patch.

    Parameters
    ----------
    model, patches, tta, batch_size, progress
        As for `predict`.

    Returns
    -------
    (N, V) float64
        V is the number of views: 1, 4 or 8.

    Raises
    ------
    InputError
        If there is no such TTA, or if the model gives numbers that are no probabilities.
    """
    viewing = view_model(model, tta)
    out = np.empty((len(patches), len(TTA[tta])))
    batch_size = min(batch_size, len(patches))
    bar = tqdm(total=len(patches), desc="Predicting", unit="patch", disable=not progress, delay=2)
    with bar:
        for start in range(0, len(patches), batch_size):
            batch = patches.images[start : start + batch_size]
            # The last batch is filled up, since another shape would make the backend compile the network once more.
            full = np.concatenate([batch, np.zeros((batch_size - len(batch), *batch.shape[1:]), np.uint8)])
            out[start : start + len(batch)] = _require_probabilities(viewing.predict_on_batch(full)[: len(batch)])
            bar.update(len(batch))
    return out


def _require_probabilities(found: np.ndarray) -> np.ndarray:
    """Refuse numbers that cannot be probabilities. It does so after the first patches, before the work on the rest."""
    if not np.isfinite(found).all():
        raise InputError(
            "The model gives nan, which is no number, so its training diverged; train it anew, in float32 or by "
            "another recipe."
        )
    if found.min(initial=0) < 0 or found.max(initial=1) > 1:
        raise InputError(
            f"The model gives numbers from {found.min():.3g} to {found.max():.3g}, which are no probabilities; end it "
            "in a sigmoid: keras.layers.Activation('sigmoid')."
        )
    return found


def view_model(model: Any, tta: str) -> Any:
    """Wrap a classifier so that it makes the views itself, on the device: (N, 96, 96, 3) to (N, views).

    The wrapped model is made once for each kind of TTA, and lives as long as the classifier. To trace it takes seconds,
    and training needs it after every epoch.
    """
    if tta not in TTA:
        raise InputError(f"'{tta}' is no kind of TTA; choose one of {', '.join(TTA)}.")
    made = vars(model).setdefault("_pcam_views", {})  # not an attribute: Keras would save that as a part
    if tta not in made:
        made[tta] = _make_view_model(model, TTA[tta])
    return made[tta]


def _make_view_model(model: Any, names: Sequence[str]) -> Any:
    patches = keras.Input(model.input_shape[1:], dtype="uint8")
    views = []
    for swap, axes in map(SYMMETRIES.__getitem__, names):
        view = keras.ops.transpose(patches, (0, 2, 1, 3)) if swap else patches
        for axis in axes:  # one by one: Keras 3.10 refuses several
            view = keras.ops.flip(view, axis)
        views.append(view)
    stacked = keras.ops.concatenate(views, axis=0) if len(views) > 1 else views[0]
    probabilities = keras.ops.reshape(model(stacked), (len(views), -1))
    return set_xla(keras.Model(patches, keras.ops.transpose(probabilities)))


def average(views: np.ndarray, mean: str = "arithmetic") -> np.ndarray:
    """Average probabilities over views: (N, V) to (N,), by the 'arithmetic' or the 'geometric' mean.

    Examples
    --------
    >>> average(np.array([[0.1, 0.9]])).round(3), average(np.array([[0.1, 0.9]]), "geometric").round(3)
    (array([0.5]), array([0.3]))
    """
    if mean not in MEANS:
        raise InputError(f"'{mean}' is no mean; choose one of {', '.join(MEANS)}.")
    if mean == "arithmetic":
        return np.asarray(views.mean(axis=1))
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(views).mean(axis=1)))


def write_submission(path: str | Path, ids: Sequence[str], probabilities: Sequence[float]) -> Path:
    """Write `id,label` rows with probabilities, in the order given, as Kaggle wants them.

    Parameters
    ----------
    path : path
    ids : (N,) str
    probabilities : (N,) float
        Between 0 and 1.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(write_submission(Path(folder) / "submission.csv", ["a", "b"], [0.25, 1.0]).read_text(), end="")
    id,label
    a,0.25
    b,1
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("id", "label"))
        rows.writerows((i, f"{p:.8g}") for i, p in zip(ids, probabilities))
    return Path(path)

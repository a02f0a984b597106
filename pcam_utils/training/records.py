"""Reads what a run has kept, and says with which other settings it may go on."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..data.meanings import mean_the_same
from ..data.patches import Patches, has_fingerprint
from ..data.sources import Data
from ..errors import InputError
from ..files import user_path
from .recipes import Phase, Settings


def read_record(run: str | PathLike) -> dict[str, Any]:
    """Read the record of a run: run.json, as `train` returns it.

    Parameters
    ----------
    run : path

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If the folder is no run.
    """
    path = Path(run) / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        Settings(**record["settings"])
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run} is not a training run (no readable run.json); train one with 'pcam train'.") from error


def read_history(run: str | PathLike) -> list[dict[str, str]]:
    """Read history.csv of a run.

    Parameters
    ----------
    run : path

    Returns
    -------
    list of dict
        One row for each epoch: epoch, loss, val_loss, val_auc and seconds, as text. No rows before the first has ended.
    """
    path = Path(run) / "history.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def resumed(run: str | PathLike, record: dict[str, Any], asked: Settings) -> Settings:
    """Give the settings that a run goes on with: those asked for, if the run could have come this far with them.

    So a run may become longer or shorter, and more patient. But it must end as if it had been asked for that way from
    the start. Where the learning rate falls to zero by the last epoch, a run of another length would have differed from
    its first step on.

    Parameters
    ----------
    run : path
    record : dict
        From `read_record`.
    asked : Settings
        What is left open ('auto' or None) is taken from the run.

    Returns
    -------
    Settings

    Raises
    ------
    InputError
        If anything else is asked for than the run was begun with.
    """
    kept, scores = Settings(**record["settings"]), _scores(run)
    wanted = {name: value for name, value in asdict(asked).items() if value not in (None, "auto")}
    wanted |= {name: str(user_path(wanted[name])) for name in {"weights", "targets"} & wanted.keys()}
    differ = {name: value for name, value in wanted.items() if value != getattr(kept, name)}
    for name in differ.keys() - {"epochs", "patience"}:
        raise InputError(
            f"{run} was begun with {name.replace('_', ' ')} {getattr(kept, name)}, so it cannot go on with "
            f"{differ[name]}; leave that out, or begin another run."
        )
    settings = replace(kept, **differ)
    if differ and scores:
        _require_same_so_far(run, kept, settings, scores)
    return settings


def _require_same_so_far(run: str | PathLike, kept: Settings, settings: Settings, scores: list[float]) -> None:
    """Raise `InputError` unless the epochs that are done would be the same with the new settings."""
    done, begun, theirs = len(scores), _epochs(kept), _epochs(settings)
    if len(theirs) < done:
        raise InputError(f"{run} has {done} epochs already, not {len(theirs)}; ask for more, or begin another run.")
    if begun[:done] != theirs[:done]:
        raise InputError(
            f"{run} cannot become {len(theirs)} epochs long: those that are done were trained as is right for "
            f"{len(begun)}, with other learning rates or phases; begin another run."
        )
    waits = [waited(scores[:epoch]) for epoch in range(1, done + 1)]
    if settings.patience and max(waits[:-1], default=0) >= settings.patience:
        raise InputError(f"{run} has waited {max(waits)} epochs for a better one already; ask for more patience.")
    if settings.patience and len(theirs) > done and waits[-1] >= settings.patience:
        raise InputError(f"{run} was stopped by its patience of {settings.patience}; ask for more of that, too.")


def require_same_data(run: str | PathLike, record: dict[str, Any], data: Data, splits: Mapping[str, Patches]) -> None:
    """Raise `InputError` unless these are the data that a run was begun with, to the last pixel and label.

    Parameters
    ----------
    run : path
    record : dict
        From `read_record`.
    data : pcam_utils.data.sources.Data
    splits : dict of str to Patches
        'train' and 'valid', as they are now.
    """
    if "fit" in record and record["fit"] != data.fit:
        raise InputError(f"{run} was begun with --fit {record['fit']}, not {data.fit}; ask for the same to go on.")
    if mean_the_same(record.get("classes", data.classes), data.classes) is False:
        raise InputError(f"{run} was begun with 1 = {record['classes'][1]}; say the same with --positive to go on.")
    if not all(has_fingerprint(patches, record["fingerprints"][name]) for name, patches in splits.items()):
        raise InputError(
            f"{run} was trained on other patches than {data.folder} holds now, or they are in another order; "
            "name the data that it was trained on, or begin another run."
        )


def _scores(run: str | PathLike) -> list[float]:
    try:
        return [float(row["val_auc"]) for row in read_history(run)]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{Path(run) / 'history.csv'} is damaged; remove it, and resume without other options."
        ) from error


def waited(scores: Sequence[float]) -> int:
    """Count the epochs since the best score: none of them was better.

    Examples
    --------
    >>> waited([0.6, 0.9, 0.7, 0.9])
    2
    """
    return len(scores) - 1 - scores.index(max(scores))


def _epochs(settings: Settings) -> list[tuple[Phase, int]]:
    """List for each epoch all that decides it: its phase, and its place in that phase."""
    # The length of a phase decides nothing, unless the learning rate falls along it.
    phases = [(phase.epochs, phase if phase.cosine else replace(phase, epochs=0)) for phase in settings.phases()]
    return [(phase, place) for number, phase in phases for place in range(number)]

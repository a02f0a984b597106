"""Trains a model by a named recipe, keeps the best, and goes on exactly where an interrupted run stopped."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from ..data.patches import Patches, fingerprint
from ..data.sources import Data
from ..data.splits import Split, train_valid
from ..data.tables import read_probabilities
from ..errors import InputError
from ..evaluation.metrics import choose_threshold
from ..evaluation.predictions import predict
from ..files import DAMAGED, replacing, sole_use, user_path, write_json
from ..models.backbones import keras
from ..models.networks import build_model, freeze, load_model
from ..runtime.backend import prepare, set_xla, uses_xla
from ..runtime.devices import several_devices
from ..runtime.fused import FusedAdam, fused_batch_norm
from ..runtime.places import versions
from .augment import Augment
from .feeding import batches, restartable
from .operations import AUGMENTS
from .recipes import Phase, Settings
from .records import read_record, require_same_data, resumed, waited

#: What the record says about the end of a run. While the run goes on, this is left out.
_ENDED = ("best", "operating_point", "seconds", "ended")

Record = dict[str, Any]  #: what is written down of a run, or of an epoch
Say = Callable[[str], object]  #: takes one line at a time


def train(
    data: Data | Callable[[], Data],
    run: str | PathLike,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    say: Say = print,
    progress: bool = True,
) -> Record:
    """Train on a folder's patches and keep everything that belongs to the run in one folder.

    Parameters
    ----------
    data : pcam_utils.data.sources.Data, or callable that gives it
        A callable is called only after all else has been checked, since opening data may take minutes.
    run : path
        Gets best.keras (highest validation AUC), history.csv, run.json, valid_ids.txt and state.npz (to resume).
    settings : Settings, optional
        If left out, those of the recipe `course`, or of the run that is resumed.
    resume : bool
        Go on with an interrupted run, or give a run more epochs. All other settings must be the run's own.
    say : callable
        Told one line at a time.
    progress : bool
        Show Keras's progress bar.

    Returns
    -------
    dict
        The record, as in run.json. It says what was trained on what, with which settings and versions, and the result.

    Raises
    ------
    InputError
        If the run exists and `resume` is not set, if it cannot be resumed in this way, if it is in use, or if the data
        cannot be trained on.

    Examples
    --------
    >>> record = train(open_data("data/sample"), "runs/first", Settings(epochs=2))  # doctest: +SKIP
    >>> record["best"]["val_auc"]  # doctest: +SKIP
    0.93
    """
    run = user_path(run)
    with sole_use(run):
        record = _open_run(run, resume)
        settings = (
            resumed(run, record, settings or Settings(**record["settings"])) if record else settings or Settings()
        )
        settings = settings.settled(say)
        prepare(settings.seed, precision=settings.precision, deterministic=settings.deterministic, say=say)
        scope = several_devices(settings.devices)
        return _train(data() if callable(data) else data, run, settings, record, scope, say, progress)


def _train(
    data: Data,
    run: Path,
    settings: Settings,
    record: Record | None,
    scope: Callable[[], AbstractContextManager],
    say: Say,
    progress: bool,
) -> Record:
    split = train_valid(data, fraction=settings.valid_fraction, seed=settings.seed, progress=progress)
    say(f"Train on {len(split.train):,} patches, choose by {len(split.valid):,}: {split.how}.")
    fingerprints = {"train": fingerprint(split.train), "valid": fingerprint(split.valid)}
    if record:
        require_same_data(run, record, data, {"train": split.train, "valid": split.valid})
    targets = _targets(split.train, settings.targets)
    assert settings.head is not None  # it is settled
    with scope():
        model = build_model(settings.backbone, settings.weights, settings.head, say=say)
        trainee = behind_augmentation(model, settings.augment, seed=settings.seed)
    keeper = _Keeper(run, model, split.valid, settings.patience, say)
    keeper.load(trainee)
    record = record or _new_record(data, split, fingerprints, model)
    record = {name: value for name, value in record.items() if name not in _ENDED}
    record |= {"settings": asdict(settings), "phases": [asdict(phase) for phase in settings.phases()]}
    write_json(run / "run.json", record)
    if "valid" not in data.splits:
        with replacing(run / "valid_ids.txt") as temporary:
            temporary.write_text("\n".join(split.valid.ids) + "\n", encoding="utf-8")
    with fused_batch_norm():  # the training step is traced inside fit
        history = _train_phases(trainee, scope, split, targets, settings, keeper, progress)
    return _finish(run, record, history, split)


def _open_run(run: Path, resume: bool) -> Record | None:
    """Give the record of an earlier start, or None for a new run."""
    if resume and (run / "run.json").exists():
        return read_record(run)
    # Files with hidden names are half-written ones that a killed process has left.
    if run.exists() and (not run.is_dir() or any(not path.name.startswith(".") for path in run.iterdir())):
        raise InputError(f"{run} exists already; resume it with --resume if it is a run, or name another.")
    return None


def _new_record(data: Data, split: Split, fingerprints: dict[str, str], model: keras.Model) -> Record:
    return {
        "data": str(data.folder),
        "layout": data.layout,
        "simulated": data.simulated,
        "classes": list(data.classes),
        "fit": data.fit,
        "split": split.how,
        "patches": {"train": len(split.train), "valid": len(split.valid)},
        "positives": {"train": _positives(split.train), "valid": _positives(split.valid)},
        "fingerprints": fingerprints,
        "parameters": model.count_params(),
        "versions": {"backend": keras.backend.backend(), **versions()},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _positives(patches: Patches) -> int:
    return int(np.sum(np.asarray(patches.labels)))


def _targets(patches: Patches, path: str | PathLike[str] | None) -> NDArray[np.float32]:
    """Give what the network is to learn: the labels, or their mean with another model's probabilities (distillation).

    Distillation follows Hinton, Vinyals and Dean 2015, arXiv:1503.02531, at temperature 1.
    """
    labels = np.asarray(patches.labels, np.float32)
    if path is None:
        return labels
    return np.asarray((labels + read_probabilities(path, patches.ids)) / 2, np.float32)


def _train_phases(
    trainee: keras.Model,
    scope: Callable[[], AbstractContextManager],
    split: Split,
    targets: NDArray[np.float32],
    settings: Settings,
    keeper: _Keeper,
    progress: bool,
) -> list[Record]:
    before = 0
    for phase in settings.phases():
        epochs = range(before, before + phase.epochs)
        before = epochs.stop
        if keeper.epoch >= epochs.stop or keeper.stopped:
            continue
        keeper.say(
            f"Phase '{phase.name}': {phase.epochs} epochs, batch {phase.batch_size}, Adam {phase.learning_rate:g}."
        )
        steps = max(1, len(split.train) // phase.batch_size)
        freeze(keeper.network, phase.train_fraction)
        with scope():
            _compile(trainee, phase, steps)
        keeper.start(trainee, epochs)
        stream = partial(
            batches, split.train, phase.batch_size, targets=targets, seed=settings.seed, start=keeper.epoch
        )
        trainee.fit(
            restartable(stream),
            steps_per_epoch=steps,
            initial_epoch=keeper.epoch,
            epochs=epochs.stop,
            callbacks=[keeper],
            shuffle=False,  # the stream is shuffled already
            verbose="auto" if progress else 0,
        )
    return keeper.history


def behind_augmentation(model: keras.Model, augment: str | None, *, seed: int = 0) -> keras.Model:
    """Put the changes of training patches in front of a network, on the same device. Both models share their weights.

    Parameters
    ----------
    model : keras.Model
        From `build_model`.
    augment : str, optional
        A name in `operations.AUGMENTS`. For 'none', or if left out, the model itself comes back.
    seed : int
        Of the changes.

    Returns
    -------
    keras.Model
        Train this one, and keep the other.
    """
    operations = AUGMENTS[augment or "none"]
    if operations is None:
        return model
    patches = keras.Input(model.input_shape[1:], dtype="uint8")
    changed = Augment(operations, seed=seed, name="augment")(patches)
    return set_xla(keras.Model(patches, model(changed)))


def _compile(model: keras.Model, phase: Phase, steps: int) -> None:
    rate = phase.learning_rate
    if phase.cosine:
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps=steps * phase.epochs)
    model.compile(FusedAdam(rate), loss="binary_crossentropy", jit_compile=uses_xla())
    # It is built now. Else Keras would trace the whole training step twice: before its slots exist, and after that.
    model.optimizer.build(model.trainable_variables)


class _Keeper(keras.callbacks.Callback):
    """Scores after each epoch, keeps the best model, and writes all that is needed to go on from here."""

    def __init__(self, run: Path, network: keras.Model, valid: Patches, patience: int | None, say: Say) -> None:
        super().__init__()
        self.run, self.network, self.valid, self.patience, self.say = run, network, valid, patience, say
        self.history: list[Record] = []
        self.state: dict[str, np.ndarray] = {}

    @property
    def epoch(self) -> int:
        return len(self.history)

    @property
    def best(self) -> float:
        return max((row["val_auc"] for row in self.history), default=-math.inf)

    @property
    def stopped(self) -> bool:
        """True once the AUC has not risen for `patience` epochs."""
        scores = [row["val_auc"] for row in self.history]
        return self.patience is not None and bool(scores) and waited(scores) >= self.patience

    def load(self, model: keras.Model) -> None:
        """Take up the state that an earlier process has left, if there is one."""
        path = self.run / "state.npz"
        if not path.exists():
            return
        content = path.read_bytes()  # a disk that cannot be read does not make a file corrupt
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                self.state = dict(file)
            self.history = json.loads(str(self.state.pop("history")))
            best = self.best
        except DAMAGED as error:
            raise InputError(f"{path} is corrupt; remove the run and train again.") from error
        self._take_up("model", model.variables)
        self.say(f"Resumed after epoch {self.epoch}: best validation AUC so far {best:.4f}.")

    def start(self, model: keras.Model, epochs: range) -> None:
        """Enter a phase; take up the optimizer's state if the earlier process was in the middle of it."""
        if self.state and self.epoch > epochs.start:
            self._take_up("optimizer", model.optimizer.variables)
        self.state = {}
        self.begun = time.perf_counter()

    def _take_up(self, kind: str, variables: list[Any]) -> None:
        """Assign all arrays of this kind from the state, or none of them."""
        arrays = [array for name, array in self.state.items() if name.startswith(f"{kind}_")]
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            raise InputError(
                f"{self.run / 'state.npz'} is of another network or optimizer; remove the run and train again."
            )
        for variable, array in zip(variables, arrays):
            variable.assign(array)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        probabilities = predict(self.network, self.valid, tta="none", progress=False)  # or that it diverged
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "val_loss": float(log_loss(self.valid.labels, probabilities)),
            "val_auc": float(roc_auc_score(self.valid.labels, probabilities)),
            "seconds": round(time.perf_counter() - self.begun, 1),
        }
        self.begun = time.perf_counter()
        better = row["val_auc"] > self.best
        self.history.append(row)
        if better:
            with replacing(self.run / "best.keras") as temporary:
                # The model is wrapped anew, to leave out the optimizer, which is twice as large as the network.
                keras.Model(self.network.inputs[0], self.network.outputs[0], name=self.network.name).save(temporary)
        self._write_history()
        self._write_state()
        kept = ", kept as best.keras" if better else ""
        self.say(f"Epoch {row['epoch']}: validation AUC {row['val_auc']:.4f}, loss {row['val_loss']:.3f}{kept}.")
        self.model.stop_training = self.stopped

    def _write_history(self) -> None:
        with replacing(self.run / "history.csv") as temporary, open(temporary, "w", newline="") as file:
            table = csv.DictWriter(file, list(self.history[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(self.history)

    def _write_state(self) -> None:
        """Write one file with all that the next epoch depends on, so that the state is never half old and half new."""
        arrays = {"history": np.array(json.dumps(self.history))}
        for kind, variables in (("model", self.model.variables), ("optimizer", self.model.optimizer.variables)):
            arrays.update({f"{kind}_{place}": np.asarray(v.numpy()) for place, v in enumerate(variables)})
        with replacing(self.run / "state.npz") as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle


def _finish(run: Path, record: Record, history: list[Record], split: Split) -> Record:
    """Choose the operating point on the validation patches with the best model, and complete the record."""
    probabilities = predict(load_model(run / "best.keras"), split.valid, tta="flips", progress=False)
    record["best"] = max(history, key=lambda row: row["val_auc"])
    record["operating_point"] = {
        "threshold": choose_threshold(np.asarray(split.valid.labels), probabilities),
        "rule": "largest sensitivity + specificity on the validation patches, 4 flips",
    }
    record["seconds"] = round(sum(row["seconds"] for row in history), 1)
    record["ended"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    write_json(run / "run.json", record)
    return record

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace

import h5py
import numpy as np
import pytest

from pcam_utils.data.sources import open_data
from pcam_utils.errors import InputError
from pcam_utils.files import sole_use
from pcam_utils.models.backbones import keras
from pcam_utils.models.networks import load_model
from pcam_utils.training import run as training
from pcam_utils.training.feeding import batches
from pcam_utils.training.recipes import RECIPES, Phase, Recipe, Settings
from pcam_utils.training.records import read_history, read_record, resumed
from pcam_utils.training.run import train

SMALL = Settings(backbone="SmallCNN", weights="none", head="article", epochs=3)


@pytest.fixture
def easy(pcam_folder, random_patches):
    """Patches whose label is the brightness of the centre: learnt in seconds."""

    def lit(n, seed):
        images = random_patches(n, seed) // 2
        images[1::2, 32:64, 32:64] += 90
        return images

    return pcam_folder(splits=("train", "valid"), images={"train": lit(160, 0), "valid": lit(40, 1)})


def quiet(*_):
    pass


def state_of(run):
    """All that a run ends with but the clock: weights, optimizer, history."""
    with np.load(run / "state.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "history"}
        history = json.loads(str(file["history"]))
    for row in history:
        del row["seconds"]
    return arrays, history


def assert_same_run(one, other):
    (arrays, history), (other_arrays, other_history) = state_of(one), state_of(other)
    assert history == other_history
    assert arrays.keys() == other_arrays.keys()
    assert all(np.array_equal(arrays[name], other_arrays[name]) for name in arrays)
    best, other_best = (load_model(run / "best.keras").get_weights() for run in (one, other))
    assert all(np.array_equal(a, b) for a, b in zip(best, other_best))


def test_a_run_learns_and_keeps_everything_that_belongs_to_it(easy, tmp_path):
    record = train(open_data(easy), tmp_path / "run", SMALL, say=quiet, progress=False)
    history = read_history(tmp_path / "run")
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    assert float(history[-1]["loss"]) < float(history[0]["loss"])
    assert record == read_record(tmp_path / "run")
    assert record["best"]["val_auc"] == max(float(row["val_auc"]) for row in history) > 0.9
    assert record["patches"] == {"train": 160, "valid": 40} and record["positives"] == {"train": 80, "valid": 20}
    assert 0 < record["operating_point"]["threshold"] < 1
    assert record["versions"]["keras"] == keras.__version__
    assert "official" in record["split"] and not (tmp_path / "run" / "valid_ids.txt").exists()


def test_best_is_the_epoch_with_the_highest_validation_auc_not_the_last(easy, tmp_path, monkeypatch):
    scores = iter([0.6, 0.9, 0.7])
    monkeypatch.setattr(training, "roc_auc_score", lambda *_: next(scores))
    kept = []
    original = training._Keeper._write_history
    monkeypatch.setattr(
        training._Keeper,
        "_write_history",
        lambda self: (original(self), kept.append((self.run / "best.keras").stat().st_mtime_ns)),
    )
    record = train(open_data(easy), tmp_path / "run", SMALL, say=quiet, progress=False)
    assert record["best"]["epoch"] == 2
    assert kept[0] < kept[1] == kept[2]


@pytest.mark.slow
def test_resuming_remembers_the_best_value_so_far(easy, tmp_path, monkeypatch):
    """Keras's BackupAndRestore forgets it (keras-team/keras#17012): a worse epoch would overwrite a better file."""
    data, run = open_data(easy), tmp_path / "run"
    scores = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(training, "roc_auc_score", lambda *_: next(scores))
    stop_after(monkeypatch, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(data, run, SMALL, say=quiet, progress=False)
    monkeypatch.undo()
    before = (run / "best.keras").read_bytes()
    monkeypatch.setattr(training, "roc_auc_score", lambda *_: next(scores))
    record = train(data, run, resume=True, say=quiet, progress=False)
    assert record["best"]["epoch"] == 1 and (run / "best.keras").read_bytes() == before


def stop_after(monkeypatch, epochs):
    original = training._Keeper.on_epoch_end

    def stopping(self, epoch, logs=None):
        original(self, epoch, logs)
        if self.epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Keeper, "on_epoch_end", stopping)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_resuming_in_either_phase_or_between_gives_the_same_bits(easy, tmp_path, monkeypatch, epochs):
    phases = (Phase("head", 2, 32, 1e-3, train_fraction=0.0), Phase("all", 2, 16, 1e-3, cosine=True))
    monkeypatch.setitem(RECIPES, "two", Recipe("average", phases))
    data, settings = open_data(easy), Settings(recipe="two", backbone="SmallCNN", weights="none")
    train(data, tmp_path / "whole", settings, say=quiet, progress=False)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epochs)
        train(data, tmp_path / "cut", settings, say=quiet, progress=False)
    keras.utils.set_random_seed(99)  # a new process would not share this one's random state
    train(data, tmp_path / "cut", resume=True, say=quiet, progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_killed_at_random_moments_a_run_resumes_to_the_same_bits(easy, tmp_path):
    """SIGKILL leaves no time to tidy up. PCAM_KILLS sets how often; more make a harder test."""
    command = [sys.executable, "-m", "pcam_utils", "train", str(easy), "--backbone", "SmallCNN", "--weights", "none"]
    command += ["--epochs", "8", "--run"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    kills, chance = 0, random.Random(0)
    while kills < int(os.environ.get("PCAM_KILLS", 2)):
        process = subprocess.Popen(
            [*command, str(tmp_path / "cut"), "--resume"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines = chance.randint(1, 4)  # of the phase, and of the epochs that it shall end
        while lines and (line := process.stdout.readline()):
            lines -= line.startswith(("Phase", "Epoch"))
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        for kept in ("best.keras", "state.npz"):  # never half a file under the good name
            path = tmp_path / "cut" / kept
            assert not path.exists() or zipfile.ZipFile(path).testzip() is None
        if process.returncode == 0:  # it ended first: begin another run
            (tmp_path / "cut").rename(tmp_path / f"ended{time.monotonic_ns()}")
    subprocess.run([*command, str(tmp_path / "cut"), "--resume"], check=True, capture_output=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_early_stop_counts_epochs_without_a_better_auc(easy, tmp_path, monkeypatch):
    scores = iter([0.6, 0.7, 0.65, 0.69, 0.9])
    monkeypatch.setattr(training, "roc_auc_score", lambda *_: next(scores))
    settings = replace(SMALL, epochs=9, patience=2)
    train(open_data(easy), tmp_path / "run", settings, say=quiet, progress=False)
    assert len(read_history(tmp_path / "run")) == 4


def test_a_run_resumes_only_on_its_own_data(easy, tmp_path, pcam_folder):
    train(open_data(easy), tmp_path / "run", replace(SMALL, epochs=1), say=quiet, progress=False)
    other = open_data(pcam_folder("other", splits=("train", "valid")))
    with pytest.raises(InputError, match="other patches"):
        train(other, tmp_path / "run", resume=True, say=quiet, progress=False)


def resume(data, run, **settings):
    return train(data, run, replace(Settings(**read_record(run)["settings"]), **settings), resume=True, say=quiet)


@pytest.fixture
def level(monkeypatch):
    """Settings of a recipe whose learning rates do not fall: one epoch of 'head', then 'all'."""
    phases = (Phase("head", 1, 32, 1e-3, train_fraction=0.0), Phase("all", 2, 32, 1e-3))
    monkeypatch.setitem(RECIPES, "level", Recipe("average", phases))
    return Settings(recipe="level", backbone="SmallCNN", weights="none")


@pytest.mark.slow
def test_a_run_that_ended_can_become_longer_and_is_then_as_if_it_had_been_asked_for_at_once(easy, tmp_path, level):
    data = open_data(easy)
    train(data, tmp_path / "at once", replace(level, epochs=5), say=quiet, progress=False)
    train(data, tmp_path / "longer", replace(level, epochs=3), say=quiet, progress=False)
    record = resume(data, tmp_path / "longer", epochs=5)
    assert_same_run(tmp_path / "at once", tmp_path / "longer")
    whole = read_record(tmp_path / "at once")
    for name in ("settings", "phases", "best", "operating_point"):
        same = [{**entry[name], "seconds": 0} if name == "best" else entry[name] for entry in (record, whole)]
        assert same[0] == same[1], name


def ended(run, settings, scores=(0.9, 0.8, 0.7)):
    """A run with this history, as far as resuming looks at it before the work."""
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"settings": asdict(settings.settled(quiet))}))
    rows = "".join(f"{epoch},0.5,0.5,{score},1.0\n" for epoch, score in enumerate(scores, start=1))
    (run / "history.csv").write_text("epoch,loss,val_loss,val_auc,seconds\n" + rows)
    return run


@pytest.mark.parametrize("asked, says", [
    ({"seed": 5}, "was begun with seed 0, so it cannot go on with 5; leave that out"),
    ({"valid_fraction": 0.5}, "was begun with valid fraction 0.2, so it cannot go on with 0.5"),
    ({"head": "article"}, "was begun with head average"),
    ({"weights": "pcam"}, "was begun with weights none"),
    ({"epochs": 2}, "has 3 epochs already, not 2; ask for more"),
    ({"patience": 1}, "has waited 2 epochs for a better one already; ask for more patience"),
    ({"epochs": 9, "patience": 2}, "was stopped by its patience of 2; ask for more of that, too"),
])  # fmt: skip
def test_a_run_is_not_resumed_with_settings_that_it_was_not_begun_with(tmp_path, level, asked, says):
    run = ended(tmp_path / "run", level)
    with pytest.raises(InputError, match=says):
        resume(lambda: pytest.fail("opened the data"), run, **asked)
    assert sorted(os.listdir(run)) == ["history.csv", "run.json"]


def test_a_run_whose_learning_rate_has_fallen_does_not_become_longer(tmp_path):
    falling = Settings(recipe="course", backbone="SmallCNN", weights="none")
    with pytest.raises(InputError, match="cannot become 9 epochs long: .* as is right for 5"):
        resume(lambda: pytest.fail("opened the data"), ended(tmp_path / "run", falling), epochs=9)


@pytest.mark.parametrize("content", ["x\n1\n", "epoch,loss,val_loss,val_auc,seconds\n1,0.5,0.5,high,1\n"])
def test_a_damaged_history_is_named(tmp_path, level, content):
    run = ended(tmp_path / "run", level)
    (run / "history.csv").write_text(content)
    with pytest.raises(InputError, match="history.csv is damaged; remove it"):
        resume(lambda: pytest.fail("opened the data"), run)


def test_what_a_run_may_go_on_with(tmp_path, level, monkeypatch):
    record = read_record(ended(tmp_path / "run", replace(level, patience=2)))
    kept = Settings(**record["settings"])
    assert resumed(tmp_path / "run", record, Settings(recipe="level", backbone="SmallCNN")) == kept  # 'auto' is no wish
    for asked in ({"epochs": 3}, {"patience": 4}, {"patience": 4, "epochs": 8}):
        assert resumed(tmp_path / "run", record, replace(kept, **asked)) == replace(kept, **asked)
    # The head alone has been trained: the phase along which the learning rate falls is still to come.
    two = (Phase("head", 1, 32, 1e-3), Phase("all", 5, 32, 1e-3, cosine=True))
    monkeypatch.setitem(RECIPES, "two", Recipe("average", two))
    run = ended(tmp_path / "begun", replace(level, recipe="two"), scores=[0.6])
    assert resumed(run, read_record(run), Settings(recipe="two", backbone="SmallCNN", epochs=9)).epochs == 9


def test_settings_are_checked_before_the_data_are_opened(tmp_path, pcam_folder):
    for wrong, says in (
        ({"valid_fraction": 0.9}, "The share to choose by"),
        ({"targets": tmp_path / "nowhere.csv"}, "There is no file .*nowhere.csv"),
        ({"weights": "nowhere.h5"}, "There is no file of weights"),
        ({"devices": 99}, "99 devices were asked for"),
        ({"seed": 2**32}, "The seed is 4294967296"),
        ({"epochs": 0}, "0 epochs cannot be trained"),
    ):
        with pytest.raises(InputError, match=says):
            train(lambda: pytest.fail("opened the data"), tmp_path / "run", replace(SMALL, **wrong), say=quiet)
        assert not (tmp_path / "run").exists()


def test_a_run_folder_in_use_is_refused_before_the_data_are_opened(tmp_path):
    with sole_use(tmp_path / "run"), pytest.raises(InputError, match="Another process works in .*run; wait"):
        train(lambda: pytest.fail("opened the data"), tmp_path / "run", SMALL, say=quiet)


def test_targets_that_do_not_fit_leave_no_run_behind(easy, tmp_path):
    (tmp_path / "targets.csv").write_text("id,label\ntrain_0,0.5\n")
    settings = replace(SMALL, targets=tmp_path / "targets.csv")
    with pytest.raises(InputError, match="no probability for the patch train_1"):
        train(open_data(easy), tmp_path / "run", settings, say=quiet, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_corrupt_state_is_refused_and_nothing_lost(easy, tmp_path):
    run = tmp_path / "run"
    train(open_data(easy), run, replace(SMALL, epochs=1), say=quiet, progress=False)
    best = (run / "best.keras").read_bytes()
    (run / "state.npz").write_bytes((run / "state.npz").read_bytes()[:2000])
    with pytest.raises(InputError, match="state.npz is corrupt"):
        train(open_data(easy), run, resume=True, say=quiet, progress=False)
    assert (run / "best.keras").read_bytes() == best


def keeper_of(run, units=2):
    """A keeper of a tiny network after one epoch, and the network."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile("adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    keeper = training._Keeper(run, model, None, None, quiet)
    keeper.set_model(model)
    keeper.history = [{"epoch": 1, "val_auc": 0.75}]
    return keeper, model


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def npy():
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


UNREADABLE = {
    "empty": lambda good: b"",
    "cut off": lambda good: good[:-100],
    "text": lambda good: b"epoch,loss\n1,0.5\n",
    "one array": lambda good: npy(),
    "no history": lambda good: npz(model_0=np.zeros(3)),
    "history of nothing": lambda good: npz(history=np.array("[1, 2]")),
    "Python objects": lambda good: npz(history=np.array([{}], object)),
    # As a disk may damage it: each spot of the file's ends, a byte turned round.
    **{f"byte {at}": lambda good, at=at: flipped(good, at) for at in (*range(0, 60, 4), *range(-90, 0, 3))},
}


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 255
    return bytes(changed)


@pytest.mark.parametrize("damage", UNREADABLE)
def test_every_unreadable_state_is_called_corrupt_or_does_no_harm(tmp_path, damage):
    keeper, model = keeper_of(tmp_path)
    keeper._write_state()
    before = [np.asarray(weight) for weight in model.get_weights()]
    path = tmp_path / "state.npz"
    path.write_bytes(UNREADABLE[damage](path.read_bytes()))
    fresh, other = keeper_of(tmp_path)
    fresh.history = []
    try:
        fresh.load(other)
    except InputError as error:
        assert "state.npz is corrupt" in str(error) or "state.npz is of another network" in str(error)
    else:  # the byte meant nothing, a date for example
        assert damage.startswith("byte") and fresh.history == keeper.history
        assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights()))


def test_the_state_of_another_network_is_refused_and_assigns_nothing(tmp_path):
    keeper_of(tmp_path, units=3)[0]._write_state()
    keeper, model = keeper_of(tmp_path)
    before = model.get_weights()
    with pytest.raises(InputError, match="state.npz is of another network"):
        keeper.load(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


@pytest.mark.parametrize("error", [MemoryError("too little"), PermissionError(13, "Permission denied")])
def test_a_machine_that_cannot_read_the_state_is_not_called_corruption(tmp_path, monkeypatch, error):
    keeper, model = keeper_of(tmp_path)
    keeper._write_state()

    def fail(*_, **__):
        raise error

    if isinstance(error, MemoryError):
        monkeypatch.setattr(training.np, "load", fail)
    else:
        monkeypatch.setattr(type(tmp_path), "read_bytes", fail)
    with pytest.raises(type(error)):
        keeper.load(model)


def test_a_run_with_a_recipe_that_is_gone_is_not_resumed(easy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"settings": {"recipe": "seed"}}))
    with pytest.raises(InputError, match="'seed' is no recipe"):
        train(open_data(easy), tmp_path / "run", resume=True, say=quiet, progress=False)


def test_the_validation_part_of_an_own_split_is_remembered(kaggle_folder, tmp_path):
    data = open_data(kaggle_folder(n=40))
    record = train(data, tmp_path / "run", replace(SMALL, epochs=1), say=quiet, progress=False)
    kept = (tmp_path / "run" / "valid_ids.txt").read_text().split()
    assert len(kept) == record["patches"]["valid"] == 8 and set(kept) <= set(data.split("train").ids)
    assert "random" in record["split"]


def test_targets_are_learned_half_and_half_with_the_labels(easy, tmp_path):
    data = open_data(easy)
    targets = tmp_path / "targets.csv"
    rows = [f"{i},{0.75 if label else 0.5}" for i, label in zip(data.split("train").ids, data.split("train").labels)]
    targets.write_text("\n".join(["id,label", *rows[::-1]]))
    aims, labels = training._targets(data.split("train"), targets), data.split("train").labels
    assert set(aims[labels == 1]) == {0.875} and set(aims[labels == 0]) == {0.25}
    images, learned = next(batches(data.split("train"), 160, targets=aims))
    assert sorted(set(learned.ravel())) == [0.25, 0.875]
    settings = replace(SMALL, epochs=1, targets=str(targets))
    assert train(data, tmp_path / "run", settings, say=quiet, progress=False)["settings"]["targets"] == str(targets)


@pytest.mark.parametrize("rows, sentence", [
    (["train_0,0.5"], "no probability for the patch train_1"),
    ([f"train_{row},{1.5}" for row in range(160)], "no probabilities from 0 to 1"),
    ([f"train_{row},high" for row in range(160)], "no probabilities from 0 to 1"),
])  # fmt: skip
def test_targets_that_do_not_fit_are_refused(easy, tmp_path, rows, sentence):
    targets = tmp_path / "targets.csv"
    targets.write_text("\n".join(["id,label", *rows]))
    with pytest.raises(InputError, match=sentence):
        training._targets(open_data(easy).split("train"), targets)


@pytest.mark.slow
@pytest.mark.parametrize("recipe, head", [("article", "article"), ("course", "average"), ("pcam", "average")])
def test_each_recipe_has_its_own_head(easy, tmp_path, recipe, head):
    settings = replace(SMALL, recipe=recipe, head=None, epochs=1)
    assert train(open_data(easy), tmp_path / "run", settings, say=quiet, progress=False)["settings"]["head"] == head


def test_best_model_holds_no_optimizer(easy, tmp_path):
    train(open_data(easy), tmp_path / "run", replace(SMALL, epochs=1), say=quiet, progress=False)
    with zipfile.ZipFile(tmp_path / "run" / "best.keras") as best, best.open("model.weights.h5") as weights:
        assert "optimizer" not in h5py.File(io.BytesIO(weights.read()))
    parameters = load_model(tmp_path / "run" / "best.keras").count_params()
    assert (tmp_path / "run" / "best.keras").stat().st_size < 4 * parameters * 1.5


def test_divergence_is_said_in_a_sentence(easy, tmp_path, monkeypatch):
    original = training._Keeper.on_epoch_end

    def diverge(self, epoch, logs=None):
        self.network.set_weights([array * np.nan for array in self.network.get_weights()])
        original(self, epoch, logs)

    monkeypatch.setattr(training._Keeper, "on_epoch_end", diverge)
    with pytest.raises(InputError, match="gives nan, .* its training diverged"):
        train(open_data(easy), tmp_path / "run", SMALL, say=quiet, progress=False)
    assert not (tmp_path / "run" / "best.keras").exists()


def test_history_is_a_plain_table(easy, tmp_path):
    train(open_data(easy), tmp_path / "run", replace(SMALL, epochs=1), say=quiet, progress=False)
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        assert next(csv.reader(file)) == ["epoch", "loss", "val_loss", "val_auc", "seconds"]


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["full", "none"])
def test_every_augmentation_trains_and_is_recorded(easy, tmp_path, augment):
    record = train(
        open_data(easy), tmp_path / "run", replace(SMALL, epochs=1, augment=augment), say=quiet, progress=False
    )
    assert record["settings"]["augment"] == augment


def test_augmented_patches_reach_the_network_only_in_training(easy, tmp_path):
    train(open_data(easy), tmp_path / "run", replace(SMALL, epochs=1), say=quiet, progress=False)
    assert [layer.name for layer in load_model(tmp_path / "run" / "best.keras").layers].count("augment") == 0


@pytest.mark.slow
def test_mixed_precision_trains_resumes_and_keeps_probabilities_whole(easy, tmp_path, monkeypatch):
    settings = replace(SMALL, epochs=2, precision="mixed_float16")
    record = train(open_data(easy), tmp_path / "whole", settings, say=quiet, progress=False)
    best = load_model(tmp_path / "whole" / "best.keras")
    convolutions = [layer for layer in best.get_layer("backbone").layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"float16"}
    assert {weight.dtype for weight in best.weights} == {"float32"} and best.outputs[0].dtype == "float32"
    assert record["best"]["val_auc"] > 0.9
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, 1)
        train(open_data(easy), tmp_path / "cut", settings, say=quiet, progress=False)
    train(open_data(easy), tmp_path / "cut", resume=True, say=quiet, progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")  # the scale of the loss, too


@pytest.mark.slow
def test_deterministic_training_forbids_tensorflow_what_may_vary_and_repeats_itself(easy, tmp_path):
    """In processes of their own: TensorFlow cannot be told to forget it."""
    script = """
import sys
from pcam_utils.data.sources import open_data
from pcam_utils.training.recipes import Settings
from pcam_utils.training.run import train
import tensorflow as tf

settings = Settings(backbone="SmallCNN", weights="none", epochs=1, augment="full", deterministic="yes" in sys.argv)
train(open_data(sys.argv[1]), sys.argv[2], settings, progress=False)
tf.random.set_seed(None)
try:
    tf.random.uniform(())  # of all operations, one that TensorFlow then refuses: it has no seed
    print("allowed")
except RuntimeError:
    print("forbidden")
"""

    def last_line(run, *arguments):
        command = [sys.executable, "-c", script, str(easy), str(tmp_path / run), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]

    assert last_line("free") == "allowed"
    assert [last_line(run, "yes") for run in ("one", "other")] == ["forbidden", "forbidden"]
    assert_same_run(tmp_path / "one", tmp_path / "other")

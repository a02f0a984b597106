"""The way to the package's weights, at toy size: carried in parts, taught, learned, measured, shipped."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import write_csv
from PIL import Image

from pcam_utils.data import open_data
from pcam_utils.models import shipped

torch = pytest.importorskip("torch", reason="the teacher needs torch")
lite = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install --no-deps efficientnet-lite-pytorch")
pytestmark = pytest.mark.slow

from tools.weights import changes, remote, teacher
from tools.weights.__main__ import main
from tools.weights.ship import seen, write


def weights(*arguments):
    """Run `python -m tools.weights` in this process."""
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False).output


@pytest.fixture
def sources(tmp_path, random_patches):
    """JPEG patches of three splits, six lossless ones, and random weights for the teacher."""
    for split, number in (("train", 40), ("valid", 12), ("test", 4)):
        for row, image in enumerate(random_patches(number, seed=len(split))):
            folder = tmp_path / "jpegs" / split / str(row % 2)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{row}.jpg")
    lossless = tmp_path / "lossless" / "kaggle"
    (lossless / "train").mkdir(parents=True)
    names = []
    for image in random_patches(6, seed=9):
        names.append(hashlib.sha1(image.tobytes()).hexdigest())
        Image.fromarray(image).save(lossless / "train" / f"{names[-1]}.tif")
    write_csv(lossless / "train_labels.csv", ("id", "label"), [(name, row % 2) for row, name in enumerate(names)])
    torch.save(lite.EfficientNet.from_name("efficientnet-lite0").state_dict(), tmp_path / "teacher.pth")
    (tmp_path / "wheels").mkdir()
    return tmp_path


def test_carried_in_parts_it_teaches_learns_and_measures(sources, monkeypatch):
    monkeypatch.setattr(remote, "PART", 2**20)  # several parts
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("PYTHONPATH", str(Path(remote.__file__).parents[2]))
    monkeypatch.chdir(Path(remote.__file__).parents[2])
    store, out = sources / "store", sources / "out"
    weights("pack", sources / "jpegs", sources / "parts", "--lossless", sources / "lossless", "--wheels",
            sources / "wheels", "--teacher", sources / "teacher.pth")  # fmt: skip
    parts = sorted((sources / "parts").iterdir())
    assert len(parts) > 3
    for part in parts:  # one a call, as if the machine took no more
        (sources / part.name).mkdir()
        (sources / part.name / part.name).write_bytes(part.read_bytes())
        weights("receive", sources / part.name, store)
    run = ("run", store, out, "--minutes", 4, "--epochs", 2, "--teacher-epochs", 1, "--pixels", 64,
           "--backbone", "SmallCNN")  # fmt: skip
    weights(*run)
    history = json.loads((out / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2] and all(np.isfinite(row["loss"]) for row in history)
    targets = np.load(out / "targets.npz")
    assert targets["answers"].shape == (46,) and ((targets["answers"] > 0) & (targets["answers"] < 1)).all()
    assert len(targets["features"]) == 46 and np.isfinite(targets["features"]).all()
    assert json.loads((out / "gpu.json").read_text())["rows"]
    with np.load(out / "averaged.npz") as file:
        before = {name: file[name] for name in file.files}
    weights(*run, "--no-table")  # all is done, so nothing changes
    with np.load(out / "averaged.npz") as file:
        assert all(np.array_equal(file[name], before[name]) for name in before)


def test_the_names_of_what_was_gathered_are_kept(sources):
    weights("gather", sources / "jpegs", sources / "data", "--lossless", sources / "lossless" / "kaggle")
    train = open_data(sources / "data").split("train")
    with open(sources / "data" / "train_names.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["official"] * 40 + ["kaggle"] * 6
    for row, image, label in zip(rows[40:], train.images[40:], train.labels[40:]):
        assert hashlib.sha1(image.tobytes()).hexdigest() == row["name"] and label in (0, 1)
    kept = seen(train, sources / "data" / "train_names.csv")
    assert kept["looks"].shape == (46, 27) and len(kept["official_rows"]) == 40 and kept["kaggle_ids"].shape == (6, 20)


def test_a_lossless_image_that_is_not_what_its_name_says_is_refused(sources):
    path = next((sources / "lossless" / "kaggle" / "train").iterdir())
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=path.stem):
        weights("gather", sources / "jpegs", sources / "data", "--lossless", sources / "lossless" / "kaggle")


def test_equal_patches_share_a_fold(random_patches):
    from pcam_utils.data.patches import Patches, Rows

    images = np.concatenate([random_patches(30), random_patches(30)])
    fold = teacher.folds(Patches(Rows(images), np.arange(60).astype(str)), seed=0)
    assert np.array_equal(fold[:30], fold[30:]) and sorted(np.bincount(fold)) == [30, 30]


def test_changes_keep_shape_and_differ_each_time(random_patches):
    images = random_patches(8)
    one, same, other = (changes.change(images, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.dtype == np.uint8 and one.shape == images.shape
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    with pytest.raises(ValueError, match="float16"):
        write(tmp_path, [np.array([1e6])], {}, {"looks": np.zeros((1, 27), np.uint8)})
    assert not (tmp_path / shipped.WEIGHTS).exists()

import csv
import errno
import hashlib
import shutil
import subprocess
import sys
import types
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

from pcam_utils.data.sources import find_data
from pcam_utils.errors import InputError
from pcam_utils.evaluation.baseline import colour_scores
from pcam_utils.simulated import sample as simulate
from pcam_utils.simulated.sample import SPLIT_SIZES, find_or_make_data, render_slide, write_sample
from pcam_utils.simulated.tissue import BETWEEN_FOCI

SIZES = {"train": 300, "valid": 20, "test": 150}
SPLITS = tuple(SIZES)
STEM = "camelyonpatch_level_2_split"
# Mean autocorrelation of the optical density at shifts of 1 to 6 pixels, 600 patches of PCam's valid split a class.
REAL_TEXTURE = {
    0: (0.527, 0.330, 0.224, 0.152, 0.137, 0.137),
    1: (0.512, 0.305, 0.191, 0.111, 0.083, 0.075),
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("simulated") / "pcam", sizes=SIZES, seed=5)


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("simulated") / "kaggle", layout="kaggle", sizes=SIZES, seed=5)


@pytest.fixture(scope="module")
def many_slides(tmp_path_factory):
    """Few patches of each slide: slides differ so much that a dozen of them say little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "SLIDE_SIZE", 256)
        patch.setattr(simulate, "PATCHES_PER_SLIDE", 8)
        sizes = {"train": 240, "valid": 2, "test": 240}
        return write_sample(tmp_path_factory.mktemp("simulated") / "many", sizes=sizes, seed=5)


@pytest.fixture
def quick(monkeypatch):
    """Slides small enough that a test of the plumbing takes no time."""
    monkeypatch.setattr(simulate, "SLIDE_SIZE", 256)
    return {"train": 6, "valid": 6, "test": 6}


def read(folder, split, key):
    with h5py.File(folder / f"{STEM}_{split}_{key}.h5", "r") as file:
        return file[key][:]


def read_meta(folder, split):
    return pd.read_csv(folder / f"{STEM}_{split}_meta.csv", index_col=0)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def digest(slide):
    return hashlib.sha256(slide.image.tobytes() + slide.tumour.tobytes()).hexdigest()


# --- slides -------------------------------------------------------------------------------------


def test_a_slide_has_the_documented_shape_type_and_name():
    slide = render_slide((0, 7), size=200)
    assert slide.image.shape == (200, 200, 3) and slide.image.dtype == np.uint8
    assert slide.tumour.shape == (200, 200) and slide.tumour.dtype == bool
    assert slide.name == "simulated_slide_007"


def test_a_slide_is_the_same_in_another_process():
    code = (
        "import hashlib; from pcam_utils.simulated.sample import render_slide;"
        "s = render_slide([1, 2], size=160);"
        "print(hashlib.sha256(s.image.tobytes() + s.tumour.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = digest(render_slide([1, 2], size=160))
    assert other.stdout.strip() == here
    assert digest(render_slide([1, 3], size=160)) != here


@pytest.mark.parametrize("seed", range(6))
def test_tumour_is_there_exactly_when_asked_for(seed):
    assert 0.01 < render_slide(seed, size=400).tumour.mean() < 0.9
    assert not render_slide(seed, size=400, tumour=False).tumour.any()


@pytest.mark.parametrize("size", [96, 97, 500])
@pytest.mark.parametrize("tumour", [True, False])
def test_slides_of_any_size_can_be_rendered(size, tumour):
    assert render_slide(11, size=size, tumour=tumour).image.shape == (size, size, 3)


@pytest.mark.parametrize("size", [95, 0, -5, 200.0, "200", True, None])
def test_a_bad_slide_size_is_named(size):
    with pytest.raises(InputError, match=f"size {size!r}"):
        render_slide(0, size=size)


def test_a_negative_seed_is_named():
    with pytest.raises(InputError, match="-3"):
        render_slide((0, -3), size=96)


@pytest.mark.parametrize("diameter", [40, 120, 250])
def test_a_focus_has_the_size_that_was_asked_for_and_the_tissue_stays_healthy_otherwise(diameter):
    mask = render_slide((diameter, 1), size=512, tumour=False, foci=[diameter]).tumour
    _, number = ndimage.label(mask)
    longest = 4 * np.sqrt(np.linalg.eigvalsh(np.cov(np.nonzero(mask)))[-1])
    assert number == 1 and longest == pytest.approx(diameter, rel=0.25)


def test_foci_lie_apart_and_leave_the_large_metastasis_where_it_was():
    parts, number = ndimage.label(render_slide(4, size=512, tumour=False, foci=[60, 90, 40]).tumour)
    assert number == 3
    apart = [ndimage.distance_transform_edt(parts != k)[(parts > 0) & (parts != k)].min() for k in (1, 2, 3)]
    assert min(apart) > BETWEEN_FOCI / 2  # their rims are ragged
    large, both = render_slide(0, size=768).tumour, render_slide(0, size=768, foci=[40]).tumour
    assert both[large].all() and both.sum() > large.sum()


def test_a_slide_without_foci_is_as_it_was():
    assert digest(render_slide(4, size=200, foci=[])) == digest(render_slide(4, size=200))


@pytest.mark.parametrize(("foci", "named"), [([20], "focus of 20 pixels"), ([-50], "-50"), ([300], "no room")])
def test_a_focus_that_cannot_be_rendered_is_named(foci, named):
    with pytest.raises(InputError, match=named):
        render_slide(0, size=128, tumour=False, foci=foci)


# --- the official layout ------------------------------------------------------------------------


def test_files_have_the_official_names_shapes_and_types(sample):
    names = {f"{STEM}_{split}_{end}" for split in SPLITS for end in ("x.h5", "y.h5", "mask.h5", "meta.csv")}
    assert {path.name for path in sample.iterdir()} == names | {"SIMULATED.txt"}
    for split, n in SIZES.items():
        for key, shape in {"x": (96, 96, 3), "y": (1, 1, 1), "mask": (96, 96, 1)}.items():
            with h5py.File(sample / f"{STEM}_{split}_{key}.h5", "r") as file:
                assert list(file) == [key]
                assert file[key].shape == (n, *shape) and file[key].dtype == np.uint8
                assert file[key].chunks is None and file[key].compression is None


@pytest.mark.parametrize("split", SPLITS)
def test_label_says_whether_the_centre_touches_tumour(sample, split):
    mask, labels = read(sample, split, "mask")[..., 0], read(sample, split, "y").ravel()
    assert set(np.unique(mask)) == {0, 1}
    np.testing.assert_array_equal(mask[:, 32:64, 32:64].any((1, 2)), labels)
    meta = read_meta(sample, split)
    np.testing.assert_array_equal(meta["center_tumor_patch"], labels.astype(bool))
    np.testing.assert_array_equal(meta["tumor_patch"], mask.any((1, 2)))


@pytest.mark.parametrize("split", SPLITS)
def test_half_of_the_patches_hold_tumour(sample, split):
    assert read(sample, split, "y").sum() == SIZES[split] // 2


def test_some_negatives_have_tumour_around_the_centre(sample):
    meta = read_meta(sample, "train")
    hard = meta["tumor_patch"] & ~meta["center_tumor_patch"]
    assert 0.02 < hard.sum() / (SIZES["train"] / 2) < 0.4


def test_some_positives_hold_a_little_tumour_only(sample):
    masks = read(sample, "test", "mask")[:, 32:64, 32:64, 0][read(sample, "test", "y").ravel() == 1]
    shares = masks.mean((1, 2))
    assert 0.03 < (shares < 0.1).mean() < 0.3 and 0.1 < (shares == 1).mean() < 0.6


def test_rows_are_mixed(sample):
    for values in (read(sample, "train", "y").ravel(), read_meta(sample, "train")["wsi"].to_numpy()):
        assert (values[1:] != values[:-1]).mean() > 0.3


def test_rows_stay_mixed_when_shuffled_with_the_seed_of_the_sample(sample):
    slides = read_meta(sample, "train")["wsi"].to_numpy()
    for stream in (5, [5, 0], [5, 1], [5, 2]):  # of the lessons, and of the first epochs of a training
        mixed = slides[np.random.default_rng(stream).permutation(len(slides))]
        assert (mixed[1:] != mixed[:-1]).mean() > 0.3


def test_no_slide_is_in_two_splits(sample):
    slides = [set(read_meta(sample, split)["wsi"]) for split in SPLITS]
    assert all(len(s) >= 3 for s in slides)
    assert len(set.union(*slides)) == sum(len(s) for s in slides)
    assert all(name.startswith("simulated_slide_") for name in set.union(*slides))


def test_meta_finds_the_patch_on_its_slide(sample):
    meta, images = read_meta(sample, "valid"), read(sample, "valid", "x")
    assert list(meta.columns) == ["wsi", "coord_x", "coord_y", "tumor_patch", "center_tumor_patch"]
    assert (sample / f"{STEM}_valid_meta.csv").read_text().startswith(",wsi,")
    row = meta[meta["center_tumor_patch"]].iloc[0]
    number = int(row["wsi"].rsplit("_", 1)[1])
    slide = render_slide([5, 1, number], size=simulate.SLIDE_SIZE, tumour=True)
    y, x = row["coord_y"], row["coord_x"]
    np.testing.assert_array_equal(slide.image[y : y + 96, x : x + 96], images[row.name])


def test_repeats_are_among_the_train_positives_alone(sample):
    def repeated(split):
        images, labels = read(sample, split, "x"), read(sample, split, "y").ravel()
        ids = pd.Series([hashlib.sha1(i.tobytes()).hexdigest() for i in images])
        return labels[ids.duplicated().to_numpy()].tolist()

    assert repeated("train") == [1] * round(simulate.REPEATED * SIZES["train"] / 2)
    assert repeated("valid") == repeated("test") == []


def test_every_picture_file_says_that_it_is_simulated(sample):
    for split in SPLITS:
        with h5py.File(sample / f"{STEM}_{split}_x.h5", "r") as file:
            assert file["x"].attrs["simulated"]
            assert "not patients' tissue" in file["x"].attrs["about"]
    lines = (sample / "SIMULATED.txt").read_text().splitlines()
    assert len(lines) == 3 and "simulated" in lines[0] and "seed 5" in lines[2]


def test_colour_alone_gets_somewhere_but_not_all_the_way(many_slides):
    images, labels = read(many_slides, "train", "x"), read(many_slides, "train", "y")
    scores = colour_scores(images, labels, read(many_slides, "test", "x"))
    assert 0.62 < roc_auc_score(read(many_slides, "test", "y").ravel(), scores) < 0.92


@pytest.mark.parametrize("label", [0, 1])
def test_texture_is_as_fine_as_that_of_real_tissue(many_slides, label):
    images = np.concatenate([read(many_slides, split, "x") for split in ("train", "test")])
    labels = np.concatenate([read(many_slides, split, "y").ravel() for split in ("train", "test")])
    density = -np.log10((images[labels == label].astype(np.float32) + 1) / 256).mean(3)
    density -= density.mean((1, 2), keepdims=True)
    spread = (density**2).mean((1, 2))
    for shift, real in enumerate(REAL_TEXTURE[label], start=1):
        down = (density[:, shift:] * density[:, :-shift]).mean((1, 2))
        across = (density[:, :, shift:] * density[:, :, :-shift]).mean((1, 2))
        assert ((down + across) / 2 / spread).mean() == pytest.approx(real, abs=0.06)


def test_same_seed_same_bytes(quick, tmp_path):
    one, two, other = (
        write_sample(tmp_path / name, sizes=quick, seed=seed) for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name
    assert not np.array_equal(read(one, "train", "x"), read(other, "train", "x"))


# --- Kaggle's layout ----------------------------------------------------------------------------


def test_kaggle_ids_are_the_sha1_of_the_rgb_pixels(kaggle, sample):
    pixels = {}
    for path in (kaggle / "test").iterdir():
        with Image.open(path) as image:
            assert image.mode == "RGB" and image.info["compression"] == "raw"
            assert "Simulated" in image.tag_v2[270]
            pixels[path.stem] = np.asarray(image)
            assert hashlib.sha1(image.tobytes()).hexdigest() == path.stem
    images = read(sample, "test", "x")  # the same seed: RGB order is that of the HDF5 file
    solution = [line["id"] for line in read_csv(kaggle / "test_solution.csv")]
    assert len(solution) == len(pixels) == SIZES["test"]
    for i, name in enumerate(solution):
        np.testing.assert_array_equal(pixels[name], images[i])


def test_kaggle_train_is_train_and_valid_without_repeats(kaggle, sample):
    labels = {line["id"]: int(line["label"]) for line in read_csv(kaggle / "train_labels.csv")}
    expected = {
        hashlib.sha1(image.tobytes()).hexdigest(): int(label)
        for split in ("train", "valid")
        for image, label in zip(read(sample, split, "x"), read(sample, split, "y").ravel())
    }
    assert labels == expected
    assert len(labels) == 320 - round(simulate.REPEATED * 150)
    assert {path.stem for path in (kaggle / "train").iterdir()} == set(labels)


def test_kaggle_csv_files_name_every_patch_once(kaggle, sample):
    submission = read_csv(kaggle / "sample_submission.csv")
    solution = read_csv(kaggle / "test_solution.csv")
    assert {line["label"] for line in submission} == {"0"}
    assert [line["id"] for line in submission] == [line["id"] for line in solution]
    assert [int(line["label"]) for line in solution] == read(sample, "test", "y").ravel().tolist()
    slides = {line["id"]: line["slide"] for line in read_csv(kaggle / "slides.csv")}
    assert set(slides) == {path.stem for path in kaggle.glob("t*/*.tif")}
    assert [slides[line["id"]] for line in solution] == read_meta(sample, "test")["wsi"].tolist()
    assert (kaggle / "SIMULATED.txt").exists()


# --- bad input and accidents --------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"layout": "tar"}, "'tar'.*pcam, kaggle"),
        ({"sizes": {"tset": 10}}, "'tset'.*train, valid, test"),
        ({"sizes": {"train": 0}}, "0 of split 'train'"),
        ({"sizes": {"valid": -2}}, "-2 of split 'valid'"),
        ({"sizes": {"test": 7}}, "7 of split 'test'.*even"),
        ({"sizes": {"test": 8.0}}, "8.0 of split 'test'"),
        ({"seed": -1}, "-1"),
        ({"seed": "1"}, "'1'"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, wrong, said):
    with pytest.raises(InputError, match=said):
        write_sample(tmp_path / "out", **wrong)
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="exists already"):
            write_sample(out)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(quick, tmp_path):
    (tmp_path / "out").mkdir()
    assert write_sample(tmp_path / "out", sizes=quick) == tmp_path / "out"
    assert (tmp_path / "out" / "SIMULATED.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("layout", ["pcam", "kaggle"])
def test_a_full_disk_in_the_middle_is_one_sentence_and_leaves_nothing(quick, tmp_path, monkeypatch, layout):
    rendered = []

    def fail_late(seed, **options):
        rendered.append(seed)
        if len(rendered) == 5:
            raise OSError(errno.ENOSPC, "full")
        return render_slide(seed, **options)

    monkeypatch.setattr(simulate, "render_slide", fail_late)
    with pytest.raises(InputError, match=r"out could not be written .*; free some space or choose another place\."):
        write_sample(tmp_path / "out", layout=layout, sizes=quick)
    assert len(rendered) == 5
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_said_before_anything_is_rendered(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: types.SimpleNamespace(free=100_000_000))
    with pytest.raises(InputError, match="out needs 219 MB of free disk, but there are 100 MB; free some space or"):
        write_sample(tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_counts_slides_to_the_end_where_it_is_wanted(quick, tmp_path, monkeypatch, capsys, progress):
    monkeypatch.setattr(simulate, "tqdm", lambda **options: tqdm(**options | {"delay": 0}))
    write_sample(tmp_path / "out", sizes=quick, progress=progress)
    out, err = capsys.readouterr()
    assert out == "" and ("Rendering slides: 100%" in err and "9/9" in err) == progress == bool(err)


def test_lessons_write_the_sample_once_and_say_so_where_nothing_is_found(quick, tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(simulate, "SPLIT_SIZES", quick)
    sample = Path("..") / "data" / "sample"
    assert find_or_make_data(progress=False) == sample
    assert (sample / "SIMULATED.txt").exists() and (tmp_path / "data" / "sample").is_dir()
    said = f"No patches are found, so the simulated sample is written to {sample}, once for all lessons.\n"
    assert capsys.readouterr().out == said
    monkeypatch.setattr(simulate, "write_sample", None)
    assert find_or_make_data() == sample == find_data()
    monkeypatch.setenv("PCAM_DATA", str(tmp_path))
    assert find_or_make_data() == tmp_path
    assert capsys.readouterr() == ("", "")


def test_splits_left_out_have_their_usual_size():
    assert simulate._check_sizes({"train": 10}) == {**SPLIT_SIZES, "train": 10}
    assert simulate._check_sizes(None) == SPLIT_SIZES == {"train": 2500, "valid": 750, "test": 1500}


def test_tensorflow_datasets_own_code_reads_the_official_layout(sample, tmp_path):
    builder = pytest.importorskip("tensorflow_datasets.datasets.patch_camelyon.patch_camelyon_dataset_builder")
    paths = {f"{split}_{key}": str(sample / f"{STEM}_{split}_{key}.h5") for split in SPLITS for key in "xy"}
    reader = builder.Builder(data_dir=tmp_path)
    for split in SPLITS:
        images, labels = read(sample, split, "x"), read(sample, split, "y").ravel()
        records = [record for _, record in reader._generate_examples(split, paths)]
        assert len(records) == len(images)
        for row, record in enumerate(records):
            assert record["id"] == f"{split}_{row}" and record["label"] == labels[row]
            np.testing.assert_array_equal(record["image"], images[row])

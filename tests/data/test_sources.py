import contextlib
import gzip
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import STEM, write_csv
from PIL import Image

from pcam_utils.data import packing, sources
from pcam_utils.data.patches import FileRows, fingerprint
from pcam_utils.data.sources import find_data, open_data
from pcam_utils.errors import InputError

STORAGES = {"contiguous": {}, "chunked": {"chunks": (5, 96, 96, 3)}, "compressed": {"compression": "gzip"}}


def write_images(folder, images, suffix=".png", prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{prefix}{row}{suffix}")


# Official HDF5 -----------------------------------------------------------------------------------------------------


def test_official_files_give_three_splits_with_labels_slides_and_ids(pcam_folder, random_patches):
    data = open_data(pcam_folder())
    assert data.layout == "pcam"
    assert list(data.splits) == ["train", "valid", "test"]
    for seed, (name, patches) in enumerate(data.splits.items()):
        np.testing.assert_array_equal(patches.images[:], random_patches(12, seed=seed))
        assert patches.name == name
        assert patches.labels.tolist() == [0, 1] * 6
        assert patches.slides.tolist() == [f"{name}_slide_0"] * 6 + [f"{name}_slide_1"] * 6
        assert patches.ids[[0, 11]].tolist() == [f"{name}_0", f"{name}_11"]
    assert not data.simulated


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("storage", STORAGES)
def test_patches_are_the_same_however_the_file_is_stored(pcam_folder, random_patches, storage, packed):
    folder = pcam_folder(splits=("train",))
    expected = fingerprint(open_data(folder).split("train"))
    with h5py.File(folder / f"{STEM}train_x.h5", "w") as file:
        file.create_dataset("x", data=random_patches(12), **STORAGES[storage])
    if packed:
        for path in folder.glob("*.h5"):
            path.with_suffix(".h5.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    patches = open_data(folder, progress=False).split("train")
    assert fingerprint(patches) == expected
    for rows in (slice(2, 7), [9, 0, 9], np.arange(12) % 2 == 0):
        np.testing.assert_array_equal(patches.images[rows], random_patches(12)[rows])
    assert isinstance(patches.images.stored, FileRows) == (storage == "contiguous")


def test_archives_are_unpacked_once_and_kept(pcam_folder, monkeypatch):
    folder = pcam_folder(packed=True)
    open_data(folder, progress=False)
    assert len(list(folder.glob("*.h5"))) == len(list(folder.glob("*.h5.gz"))) == 6

    def unpack(*_, **__):
        raise AssertionError("unpacked again")

    monkeypatch.setattr(packing, "unpack", unpack)
    assert len(open_data(folder).split("train")) == 12


def test_only_the_splits_asked_for_are_unpacked(pcam_folder):
    folder = pcam_folder(packed=True)
    assert list(open_data(folder, only=("valid",), progress=False).splits) == ["valid"]
    assert sorted(path.name for path in folder.glob("*.h5")) == [f"{STEM}valid_x.h5", f"{STEM}valid_y.h5"]


def test_slides_and_labels_are_unknown_where_their_files_are_missing(pcam_folder):
    folder = pcam_folder(meta=False)
    (folder / f"{STEM}test_y.h5").unlink()
    data = open_data(folder)
    assert data.split("train").slides is None
    assert data.split("test").labels is None
    assert data.split("train").labels is not None


def test_labels_may_also_be_a_plain_column(pcam_folder):
    folder = pcam_folder(splits=("train",))
    with h5py.File(folder / f"{STEM}train_y.h5", "w") as file:
        file["y"] = np.array([1] * 6 + [0] * 6, np.uint8)
    assert open_data(folder).split("train").labels.tolist() == [1] * 6 + [0] * 6


def test_simulated_patches_say_so(pcam_folder, kaggle_folder):
    assert open_data(pcam_folder(simulated=True)).simulated
    kaggle = kaggle_folder()
    assert not open_data(kaggle).simulated
    (kaggle / "SIMULATED.txt").write_text("rendered")
    assert open_data(kaggle).simulated


def test_a_split_that_is_not_there_is_named(pcam_folder):
    with pytest.raises(InputError, match="has no split 'test' here"):
        open_data(pcam_folder(splits=("train",))).split("test")


def test_an_interrupted_download_is_not_taken_for_data(tmp_path):
    (tmp_path / f"{STEM}train_x.h5.gz.part").write_bytes(b"half")
    with pytest.raises(InputError, match="holds no patches"):
        open_data(tmp_path)


# The Kaggle competition's folder -----------------------------------------------------------------------------------


def test_kaggle_images_come_in_the_order_of_the_tables(kaggle_folder, random_patches):
    data = open_data(kaggle_folder())
    assert data.layout == "kaggle"
    np.testing.assert_array_equal(data.split("train").images[:], random_patches(12))
    np.testing.assert_array_equal(data.split("test").images[:], random_patches(6, seed=1))
    assert data.split("train").labels.tolist() == [0, 1] * 6
    assert data.split("test").labels is None
    assert data.split("train").content_ids
    assert sorted(data.split("test").ids) != data.split("test").ids.tolist()


def test_kaggle_slides_are_read_where_they_are_given(kaggle_folder):
    data = open_data(kaggle_folder(slides=["a"] * 5 + ["b"] * 7))
    assert data.split("train").slides.tolist() == ["a"] * 5 + ["b"] * 7
    assert data.split("test").slides is None


def test_kaggle_test_images_without_a_table_come_in_the_order_of_their_names(kaggle_folder):
    folder = kaggle_folder()
    (folder / "sample_submission.csv").unlink()
    ids = open_data(folder).split("test").ids.tolist()
    assert len(ids) == 6 and ids == sorted(ids)


def test_only_the_kaggle_split_asked_for_is_packed(kaggle_folder, cache):
    folder = kaggle_folder()
    assert list(open_data(folder, only=("test",)).splits) == ["test"]
    assert len(os.listdir(cache)) == 1
    assert list(open_data(folder, only=("train", "valid")).splits) == ["train"]


def test_names_that_are_no_sha1_are_not_checked_against_the_pixels(tmp_path, random_patches):
    write_images(tmp_path / "train", random_patches(4), ".tif")
    write_csv(tmp_path / "train_labels.csv", ("id", "label"), [(row, row % 2) for row in (3, 1, 0, 2)])
    patches = open_data(tmp_path).split("train")
    assert patches.ids.tolist() == ["3", "1", "0", "2"]
    assert not patches.content_ids
    np.testing.assert_array_equal(patches.images[:], random_patches(4)[[3, 1, 0, 2]])


def test_fitted_images_are_not_taken_for_what_their_names_promise(kaggle_folder):
    assert not open_data(kaggle_folder(), fit="resize").split("train").content_ids


def test_two_files_of_one_name_are_refused(kaggle_folder):
    folder = kaggle_folder()
    tiff = next((folder / "test").glob("*.tif"))
    Image.open(tiff).save(tiff.with_suffix(".png"))
    with pytest.raises(InputError, match=f"holds the id {tiff.stem} more than once"):
        open_data(folder)


def test_kaggle_folder_without_its_tables_is_not_taken_for_two_classes(kaggle_folder):
    folder = kaggle_folder()
    for table in folder.glob("*.csv"):
        table.unlink()
    with pytest.raises(InputError, match="holds the images of 'train' but neither a train_labels.csv nor"):
        open_data(folder)


# Folders of images -------------------------------------------------------------------------------------------------


def test_two_folders_are_two_classes_in_the_order_of_their_names(tmp_path, random_patches):
    write_images(tmp_path / "normal", random_patches(3))
    write_images(tmp_path / "tumour", random_patches(2, seed=1), ".jpg")
    data = open_data(tmp_path)
    patches = data.split("train")
    assert data.layout == "classes" and data.classes == ("normal", "tumour")
    assert patches.labels.tolist() == [0, 0, 0, 1, 1]
    assert patches.ids.tolist() == ["normal/0", "normal/1", "normal/2", "tumour/0", "tumour/1"]
    np.testing.assert_array_equal(patches.images[:3], random_patches(3))


def test_more_than_two_folders_of_images_are_shown_unlabelled_and_sent_to_lesson_15(tmp_path, random_patches):
    for name in ("ADI", "NORM", "TUM"):
        write_images(tmp_path / name, random_patches(2))
    data = open_data(tmp_path)
    assert (data.classes, data.split("images").labels) == (("ADI", "NORM", "TUM"), None)
    with pytest.raises(InputError, match="has no split 'train' here, only images; its 3 folders may be .* lesson 15"):
        data.split("train")
    one = open_data(tmp_path, positive="TUM")
    assert one.classes == ("ADI, NORM", "TUM") and one.split("train").labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_plain_folder_takes_png_jpg_and_tif_together_by_name(tmp_path, random_patches):
    for suffix, prefix in ((".png", "a"), (".JPG", "b"), (".tif", "c")):
        write_images(tmp_path, random_patches(2), suffix, prefix)
    (tmp_path / "notes.txt").write_text("no image")
    data = open_data(tmp_path)
    patches = data.split("images")
    assert data.layout == "images" and patches.labels is None
    assert patches.ids.tolist() == ["a0", "a1", "b0", "b1", "c0", "c1"]
    np.testing.assert_array_equal(patches.images[[0, 1, 4, 5]], random_patches(2)[[0, 1, 0, 1]])


@pytest.mark.parametrize("layout", ["kaggle", "classes", "images"])
def test_hidden_files_are_no_images(tmp_path, random_patches, kaggle_folder, layout):
    folder = tmp_path / "data"
    if layout == "kaggle":
        places = [kaggle_folder("data") / "train"]
    elif layout == "classes":
        places = [folder / "no", folder / "yes"]
    else:
        places = [folder]
    for place in places:
        if layout != "kaggle":
            write_images(place, random_patches(3))
        (place / "._0.tif").write_bytes(b"Mac OS X")
        (place / ".DS_Store").write_bytes(b"Bud1")
    write_images(folder / ".ipynb_checkpoints", random_patches(1))
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._0.png").write_bytes(b"Mac OS X")
    data = open_data(folder)
    assert data.layout == layout
    assert len(next(iter(data.splits.values()))) == {"kaggle": 12, "classes": 6, "images": 3}[layout]


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_images_of_another_size_are_fitted_when_asked_for(tmp_path, fit):
    Image.new("RGB", (150, 120), (200, 10, 120)).save(tmp_path / "a.png")
    images = open_data(tmp_path, fit=fit).split("images").images
    assert images.shape == (1, 96, 96, 3)
    assert (images[0] == (200, 10, 120)).all()


def test_opening_again_decodes_nothing(kaggle_folder, monkeypatch):
    folder = kaggle_folder()
    expected = fingerprint(open_data(folder).split("train"))

    def read(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(packing, "read_image", read)
    assert fingerprint(open_data(folder).split("train")) == expected


# Labels from outside -----------------------------------------------------------------------------------------------


def test_labels_from_outside_go_to_the_split_that_has_none(kaggle_folder, tmp_path):
    folder = kaggle_folder()
    ids = open_data(folder).split("test").ids
    write_csv(tmp_path / "labels.csv", ("id", "label"), [(i, row % 2) for row, i in enumerate(ids)][::-1])
    data = open_data(folder, labels=tmp_path / "labels.csv")
    assert data.split("test").labels.tolist() == [0, 1] * 3
    assert data.split("train").labels.tolist() == [0, 1] * 6


def test_a_table_with_a_byte_order_mark_is_read(tmp_path, random_patches):
    write_images(tmp_path / "data", random_patches(2))
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfid,label,remark\r\n1,1,\r\n0,0,x\r\n")
    assert open_data(tmp_path / "data", labels=tmp_path / "labels.csv").split("images").labels.tolist() == [0, 1]


# Finding data ------------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty working folder, with Kaggle's input in `kaggle` beside it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sources, "KAGGLE_INPUTS", (str(tmp_path / "kaggle"),))


def test_data_are_found_in_the_order_of_how_real_they_are(nowhere, tmp_path, monkeypatch):
    for place in (Path("data/sample"), Path("data/pcam"), tmp_path / "kaggle"):
        place.mkdir(parents=True)
        with contextlib.suppress(InputError):
            assert find_data() != place  # an empty folder counts for nothing
        (place / "x.h5").write_bytes(b"")
        assert find_data() == place
    monkeypatch.setenv("PCAM_DATA", str(tmp_path / "mine"))
    assert find_data() == tmp_path / "mine"  # also if it is not there: the person named it


@pytest.mark.parametrize("inside, sample", [("", "data/sample"), ("notebooks", "../data/sample")])
def test_where_nothing_is_found_nothing_is_written_and_it_is_said_what_to_do(nowhere, monkeypatch, inside, sample):
    Path("notebooks").mkdir()
    monkeypatch.chdir(Path(inside))
    with pytest.raises(InputError) as raised:
        find_data()
    assert str(raised.value) == (
        "No patches are found here; name their folder (as DATA, or in the environment's PCAM_DATA), or write the "
        f"simulated sample with 'pcam sample {Path(sample)}'."
    )
    assert not list(Path(sample).parent.glob("*"))


def test_commands_without_data_say_what_to_do(nowhere, pcam):
    result = pcam("info")
    assert result.exit_code == 2 and "pcam sample" in result.stderr and "PCAM_DATA" in result.stderr
    assert os.listdir() == []


def test_a_home_folder_is_understood(pcam_folder, monkeypatch):
    folder = pcam_folder("data")
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert open_data("~/data").folder == folder


def test_fingerprint_follows_the_data_and_not_their_place(pcam_folder, random_patches):
    folder = pcam_folder()
    expected = fingerprint(open_data(folder).split("train"))
    moved = shutil.copytree(folder, folder.with_name("moved"))
    assert fingerprint(open_data(moved).split("train")) == expected
    other = pcam_folder("other", images={"train": random_patches(12, seed=9)})
    assert fingerprint(open_data(other).split("train")) != expected

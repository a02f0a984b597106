"""Each layout that people have, with simulated pictures: how it is recognised, labelled, split, and what is refused."""

import csv
import os

import h5py
import numpy as np
import pytest
from helpers import STEM, write_csv, write_kaggle
from PIL import Image

from pcam_utils.data.layouts import LAYOUTS
from pcam_utils.data.listing import Listing
from pcam_utils.data.sources import open_data
from pcam_utils.errors import InputError


def put(path, image, mode="RGB", size=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image).convert(mode)
    (picture.resize(size) if size else picture).save(path)


@pytest.fixture
def images(random_patches):
    return random_patches(12)


def write_classes(folder, images, names=("normal", "tumour"), suffix=".png"):
    """Images of each class in a folder of its own, in turn."""
    for row, image in enumerate(images):
        put(folder / names[row % len(names)] / f"{row:02}{suffix}", image)
    return folder


# HDF5 --------------------------------------------------------------------------------------------------------------


def test_pcam_is_found_one_folder_down_as_torchvision_keeps_it(pcam_folder, tmp_path):
    (tmp_path / "root").mkdir()
    os.rename(pcam_folder(), tmp_path / "root" / "pcam")
    data = open_data(tmp_path / "root")
    assert (data.layout, list(data.splits)) == ("pcam", ["train", "valid", "test"])
    assert data.split("test").labels.tolist() == [0, 1] * 6 and len(set(data.split("test").slides)) == 2


def test_kaggles_most_used_upload_is_read(pcam_folder, tmp_path):
    folder, upload = pcam_folder(), tmp_path / "upload"
    for split, name in {"train": "training", "valid": "validation", "test": "test"}.items():
        for kind, place in {
            "x.h5": f"pcam/{name}_split.h5",
            "y.h5": f"Labels/Labels/{STEM}{split}_y.h5",
            "meta.csv": f"Metadata/Metadata/{STEM}{split}_meta.csv",
        }.items():
            (upload / place).parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder / f"{STEM}{split}_{kind}", upload / place)
    data = open_data(upload)
    assert (data.layout, list(data.splits)) == ("pcam", ["train", "valid", "test"])
    assert data.split("train").labels.tolist() == [0, 1] * 6 and set(data.split("valid").slides) == {
        "valid_slide_0",
        "valid_slide_1",
    }


def test_the_same_file_in_two_places_is_not_chosen_from(pcam_folder, tmp_path):
    pcam_folder("a")
    pcam_folder("b")
    with pytest.raises(InputError, match=r"train_x.h5 more than once \(a/.*, b/.*\); name the folder"):
        open_data(tmp_path)


def test_slides_go_to_patches_by_the_number_of_the_row(pcam_folder):
    folder = pcam_folder(splits=("train",))
    expected = open_data(folder).split("train").slides.tolist()
    path = folder / f"{STEM}train_meta.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    write_csv(path, header, rows[::-1])
    assert open_data(folder).split("train").slides.tolist() == expected
    write_csv(path, header, [(int(row[0]) + 1, row[1]) for row in rows])
    with pytest.raises(InputError, match="does not number its rows from 0 on"):
        open_data(folder)


# npz ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 1, 1, 1)])
def test_an_npz_of_x_and_y_is_read_without_unpacking_what_is_not_packed(tmp_path, images, save, shape):
    labels = np.arange(12) % 2
    save(tmp_path / "pcam.npz", x=images, y=labels.reshape(shape))
    data = open_data(tmp_path)
    assert (data.layout, data.split("train").labels.tolist()) == ("npz", labels.tolist())
    np.testing.assert_array_equal(data.split("train").images[:], images)
    np.testing.assert_array_equal(data.split("train").images[[7, 2]], images[[7, 2]])
    assert isinstance(data.split("train").images.stored, np.ndarray) == (save is np.savez_compressed)


def test_npz_splits_are_told_by_the_names_of_arrays_or_files(tmp_path, images):
    np.savez(
        tmp_path / "a.npz", x_train=images, y_train=np.arange(12) % 2, val_images=images[:4], test_images=images[:2]
    )
    assert {name: len(split) for name, split in open_data(tmp_path).splits.items()} == {
        "train": 12,
        "valid": 4,
        "test": 2,
    }
    np.savez(tmp_path / "a.npz", x=images)
    np.savez(tmp_path / "test.npz", X=images[:3])
    assert {name: len(split) for name, split in open_data(tmp_path).splits.items()} == {"train": 12, "test": 3}


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({"x": np.zeros((4, 96, 96, 3), np.float32)}, "holds float32 of shape .* uint8"),
        ({"x": np.zeros((4, 3, 96, 96), np.uint8)}, r"shape \(4, 3, 96, 96\)"),
        ({"x": np.zeros((4, 96, 96, 3), np.uint8), "y": np.arange(4)}, "holds the label 2"),
        ({"x": np.zeros((4, 96, 96, 3), np.uint8), "y": np.zeros(3, int)}, "4 images but 3 labels"),
        ({"features": np.zeros((4, 10))}, "holds features, but patches must be called x"),
        ({"x": np.zeros((4, 96, 96, 3), np.uint8), "y": np.array([{}] * 4)}, "'y' in .* cannot be read"),
    ],
    ids=["floats", "channels first", "label 2", "fewer labels", "features", "objects"],
)
def test_arrays_that_are_no_patches_are_named(tmp_path, arrays, says):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=says):
        open_data(tmp_path)


def truncated(path, images):
    np.savez(path, x=images)
    path.write_bytes(path.read_bytes()[:5000])


def one_array_alone(path, images):
    with open(path, "wb") as file:
        np.save(file, images)


@pytest.mark.parametrize("write", [truncated, one_array_alone])
def test_what_is_no_whole_npz_is_named(tmp_path, images, write):
    write(tmp_path / "a.npz", images)
    with pytest.raises(InputError, match="a.npz is not a whole npz file"):
        open_data(tmp_path)


# Kaggle ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["patch_id_wsi.csv", "patch_id_wsi_full.csv", "slides.csv"])
def test_kaggles_slides_come_from_the_tables_that_people_share(kaggle_folder, table):
    folder = kaggle_folder()
    ids = open_data(folder).split("train").ids.tolist()
    column = "slide" if table == "slides.csv" else "wsi"
    write_csv(folder / table, ("id", column), [(i, f"wsi_{row % 4}") for row, i in enumerate(ids)][::-1])
    data = open_data(folder)
    assert data.split("train").slides.tolist() == [f"wsi_{row % 4}" for row in range(12)]
    assert data.split("test").slides is None


def test_a_table_of_slides_that_lacks_some_is_refused_or_used_for_those_it_names(kaggle_folder):
    folder = kaggle_folder()
    ids = open_data(folder).split("train").ids.tolist()
    write_csv(folder / "patch_id_wsi.csv", ("id", "wsi"), [(i, "a") for i in ids[:-2]])
    with pytest.raises(InputError, match="names the slide of 10 of the 12 images of train .not of .* --overlap"):
        open_data(folder)
    data = open_data(folder, overlap=True)
    assert data.split("train").ids.tolist() == ids[:-2] and data.split("train").slides.tolist() == ["a"] * 10
    assert "2 images of train whose slide is not known" in data.notes[0]


def test_a_part_of_kaggles_images_with_the_whole_table(kaggle_folder):
    folder = kaggle_folder()
    ids = open_data(folder).split("train").ids.tolist()
    for i in ids[:5]:
        (folder / "train" / f"{i}.tif").unlink()
    with pytest.raises(InputError, match="5 of 12 rows have no image .*, 0 of 7 images have no row; .* --overlap"):
        open_data(folder)
    data = open_data(folder, overlap=True)
    assert data.split("train").ids.tolist() == ids[5:] and data.split("train").labels.tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert "5 rows of train_labels.csv without an image" in data.notes[0]


def test_overlap_does_not_make_something_of_nothing(kaggle_folder, random_patches):
    folder = kaggle_folder()
    write_csv(folder / "train_labels.csv", ("id", "label"), [("a", 0), ("b", 1)])
    with pytest.raises(InputError, match="2 of 2 rows have no image .such as a., 12 of 12 images have no row"):
        open_data(folder, overlap=True)


def test_images_that_an_archive_put_a_folder_too_deep_are_found(kaggle_folder):
    folder = kaggle_folder()
    os.rename(folder / "train", folder / "deep")
    (folder / "train").mkdir()
    os.rename(folder / "deep", folder / "train" / "train")
    assert len(open_data(folder).split("train")) == 12


def test_an_archive_that_was_not_unpacked_is_named(kaggle_folder):
    folder = kaggle_folder()
    os.rename(folder / "train", folder / "elsewhere")
    (folder / "train.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="train holds no images, but .* names 12; unpack train.zip there"):
        open_data(folder)


def test_jpeg_copies_of_kaggles_images_are_refused_with_a_way_to_go_on(kaggle_folder):
    folder = kaggle_folder()
    for path in list((folder / "train").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    with pytest.raises(InputError, match="SHA-1 of its pixels.; such a copy has other pixels .* ask for --fit resize"):
        open_data(folder)
    patches = open_data(folder, fit="resize").split("train")
    assert len(patches) == 12 and not patches.content_ids


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_other_lossless_copies_of_kaggles_images_are_as_good(kaggle_folder, suffix):
    folder = kaggle_folder()
    for path in list((folder / "train").iterdir()):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    assert open_data(folder).split("train").content_ids


# WILDS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def wilds(tmp_path_factory, images):
    """Four patients of hospitals 0 to 3 with three patches each; the last of each is WILDS' own validation."""
    rows, tmp_path = [], tmp_path_factory.mktemp("wilds")
    for row, image in enumerate(images):
        centre, slide = row % 4, f"patient_{row % 4:03}_node_2"
        put(tmp_path / "patches" / slide / f"patch_{slide}_x_{row}_y_7.png", image, mode="RGBA")
        rows.append((row, f"{row % 4:03}", 2, row, 7, row // 4 % 2, row % 4, centre, int(row >= 8)))
    header = ("", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split")
    write_csv(tmp_path / "metadata.csv", header, rows[::-1])
    return tmp_path


def test_wilds_is_split_by_hospital_with_its_slides(wilds, images):
    data = open_data(wilds)
    assert data.layout == "wilds" and data.classes == ("no tumour", "tumour")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 4, "valid": 3, "test": 3}
    assert set(data.split("valid").slides) == {"patient_001_node_2"}
    assert data.split("valid").labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(data.split("valid").images[:], images[[9, 5, 1]])
    assert "2 rows that WILDS keeps" in data.notes[0]


def test_a_part_of_wilds_is_used_when_asked_for(wilds):
    for path in (wilds / "patches" / "patient_003_node_2").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="names 12 images, but 3 of them are not there"):
        open_data(wilds)
    assert len(open_data(wilds, overlap=True).split("train")) == 2


# Class folders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("normal", "malignant"), ("benign", "Malignant"), ("IDC-", "IDC+"), ("0", "1")])
def test_the_folder_that_says_tumour_is_1_wherever_it_sorts(tmp_path, images, names):
    data = open_data(write_classes(tmp_path, images, names))
    assert data.classes == names and data.split("train").labels.tolist() == [0] * 6 + [1] * 6
    np.testing.assert_array_equal(data.split("train").images[:], np.concatenate([images[::2], images[1::2]]))


def test_where_names_do_not_say_it_a_person_must(tmp_path, images):
    write_classes(tmp_path, images, ("left", "right"))
    with pytest.raises(InputError, match="left and right, and their names .* --positive left or --positive right"):
        open_data(tmp_path)
    data = open_data(tmp_path, positive="LEFT")
    assert data.classes == ("right", "left") and data.split("train").ids[-1] == "left/10"
    with pytest.raises(InputError, match="has no class middle to be 1; its classes are left, right"):
        open_data(tmp_path, positive="middle")


def test_a_class_is_not_chosen_where_no_folder_is_one(pcam_folder, kaggle_folder):
    for folder in (pcam_folder(), kaggle_folder()):
        with pytest.raises(InputError, match="has no folders that are classes, so --positive names none"):
            open_data(folder, positive="tumour")


def test_an_empty_class_is_named(tmp_path, images):
    write_classes(tmp_path, images[:1])
    (tmp_path / "tumour").mkdir()
    with pytest.raises(InputError, match="tumour, beside normal, holds no image that is read"):
        open_data(tmp_path)
    put(tmp_path / "tumour" / "slide7" / "1.png", images[0])
    with pytest.raises(InputError, match="holds no image itself, but 1 folders of them, such as slide7"):
        open_data(tmp_path)


def test_folders_that_are_no_classes_are_left_out_and_that_is_said(tmp_path, images):
    write_classes(tmp_path, images)
    for folder in ("masks", "old"):
        put(tmp_path / folder / "1.png", images[0])
    put(tmp_path / "overview.png", images[0])
    data = open_data(tmp_path)
    assert len(data.split("train")) == 12
    assert data.notes == (
        "12 images are used; left out: 1 in the folder itself (overview.png); 1 in masks (masks/1.png); 1 in old "
        "(old/1.png).",
    )


def test_slides_of_ones_own_images_may_be_given_by_id(tmp_path, images):
    write_classes(tmp_path, images)
    ids = open_data(tmp_path).split("train").ids.tolist()
    write_csv(tmp_path / "slides.csv", ("id", "slide"), [(f"{i}.png", i[-1]) for i in ids])
    assert open_data(tmp_path).split("train").slides.tolist() == [i[-1] for i in ids]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "Testing")])
def test_keras_folders_keep_their_splits(tmp_path, images, names):
    for split, part in zip(names, (images[:6], images[6:10], images[10:])):
        write_classes(tmp_path / split, part, ("no", "yes"))
    data = open_data(tmp_path)
    assert (data.layout, data.classes) == ("splits", ("no", "yes"))
    assert {name: split.labels.tolist() for name, split in data.splits.items()} == {
        "train": [0, 0, 0, 1, 1, 1],
        "valid": [0, 0, 1, 1],
        "test": [0, 1],
    }
    assert data.split("valid").ids[0] == f"{names[1]}/no/00"


def test_keras_folders_may_hold_unlabelled_test_images(tmp_path, images):
    write_classes(tmp_path / "train", images[:6])
    put(tmp_path / "test" / "7.png", images[7])
    data = open_data(tmp_path)
    assert (data.split("test").labels, data.split("test").ids.tolist()) == (None, ["test/7"])


def test_keras_folders_of_different_classes_are_refused(tmp_path, images):
    write_classes(tmp_path / "train", images[:6])
    write_classes(tmp_path / "val", images[6:], ("normal", "tumor"))
    with pytest.raises(
        InputError, match="do not hold the same classes .train has normal, tumour; val has normal, tumor"
    ):
        open_data(tmp_path)


def test_a_folder_a_patient_is_read_with_patients_as_slides(tmp_path, images):
    for row, image in enumerate(images):
        patient, label = 10253 + row % 3, row % 2
        put(tmp_path / str(patient) / str(label) / f"{patient}_idx5_x{row}_y1_class{label}.png", image, size=(50, 50))
    put(tmp_path / "IDC_regular_ps50_idx5" / "10253" / "0" / "again.png", images[0])
    data = open_data(tmp_path, fit="resize")
    patches = data.split("train")
    assert (data.layout, data.classes, len(patches)) == ("patients", ("no IDC", "IDC"), 12)
    assert set(patches.slides) == {"10253", "10254", "10255"}
    assert all(int(label) == int(i[-1]) for i, label in zip(patches.ids, patches.labels))
    assert "1 in IDC_regular_ps50_idx5/10253/0" in data.notes[0]
    moved = tmp_path / "10253" / "0" / "10253_idx5_x0_y1_class0.png"
    os.rename(moved, tmp_path / "10253" / "1" / moved.name)
    with pytest.raises(InputError, match="lies in the other class than its name says"):
        open_data(tmp_path, fit="resize")


def test_breakhis_is_grouped_by_patient_over_diagnoses_and_magnifications(tmp_path, images):
    places = {
        "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X": 0,
        "benign/SOB/adenosis/SOB_B_A_14-22549AB/100X": 1,
        "malignant/SOB/ductal_carcinoma/SOB_M_DC_14-13412/40X": 2,
        "malignant/SOB/lobular_carcinoma/SOB_M_LC_14-13412/40X": 3,
    }
    for place, row in places.items():
        put(tmp_path / "histology_slides" / "breast" / place / f"{row}.png", images[row], size=(700, 460))
    data = open_data(tmp_path, fit="resize")
    assert (data.layout, data.classes) == ("breakhis", ("benign", "malignant"))
    assert sorted(data.split("train").labels) == [0, 0, 1, 1]
    assert set(data.split("train").slides) == {"14-22549AB", "14-13412"}
    assert data.notes == ("Images at 100X, 40X are mixed.",)


# Plain images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix, mode", [(".webp", "RGB"), (".bmp", "RGB"), (".png", "RGBA"), (".tif", "RGBA")])
def test_kinds_of_pictures_that_are_read(tmp_path, images, suffix, mode):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(images[0]).convert(mode).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(open_data(tmp_path).split("images").images[0], images[0])


def test_what_is_left_out_is_counted_with_an_example(tmp_path, images):
    for row in range(3):
        put(tmp_path / f"a{row}.png", images[row])
        (tmp_path / f"c{row}.png").symlink_to(f"/nowhere/c{row}.png")
    for name in ("b.gif", "slide.svs", "no_suffix", "README", "notes.txt", ".hidden.gif"):
        (tmp_path / name).write_bytes(b"")
    assert open_data(tmp_path).notes == (
        "3 images are used; left out: 1 .gif, which is not read (b.gif); 1 without a suffix, which is not read "
        "(no_suffix); 1 .svs, which are whole slides (lesson 14 cuts them) (slide.svs); 3 that are links to nothing "
        "(c0.png).",
    )


def test_images_beside_folders_of_images_are_refused_unless_those_are_no_classes(tmp_path, images):
    put(tmp_path / "1.png", images[0])
    put(tmp_path / "old" / "1.png", images[1])
    assert len(open_data(tmp_path).split("images")) == 1
    put(tmp_path / "more" / "1.png", images[1])
    with pytest.raises(InputError, match="holds 1 images and, beside them, 1 in the folders more; name the folder"):
        open_data(tmp_path)


def test_a_folder_that_wraps_another_is_seen_through(tmp_path, images):
    write_classes(tmp_path / "download" / "my_data", images)
    (tmp_path / "README.md").write_text("mine")
    data = open_data(tmp_path)
    assert (data.layout, data.folder) == ("classes", tmp_path / "download" / "my_data")


@pytest.mark.parametrize(
    "name, says",
    [
        ("slide.svs", "holds no patches, only 1 .svs, which are whole slides"),
        ("a.zip", "holds no patches; unpack a.zip"),
    ],
)
def test_where_there_is_nothing_it_is_said_what_is_there_instead(tmp_path, name, says):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=says):
        open_data(tmp_path)


def test_links_in_a_circle_end(tmp_path, images):
    write_classes(tmp_path / "data", images)
    (tmp_path / "data" / "tumour" / "up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "linked").symlink_to(tmp_path / "data", target_is_directory=True)
    assert len(open_data(tmp_path / "linked").split("train")) == 12


def test_a_class_that_is_a_link_to_nothing_is_not_seen_past(tmp_path, images):
    write_classes(tmp_path / "moved", images)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "normal").symlink_to(tmp_path / "moved" / "normal", target_is_directory=True)
    (tmp_path / "data" / "tumour").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="holds no patches, only 6 in normal .*; 1 that are links to nothing .tumour"):
        open_data(tmp_path / "data")


def test_what_lies_around_the_one_folder_is_said(tmp_path, images):
    write_classes(tmp_path / "new", images)
    put(tmp_path / "old" / "1.png", images[0])
    assert open_data(tmp_path).notes == ("12 images are used; left out: 1 in old (old/1.png).",)


def test_a_name_that_would_break_a_table_is_refused(tmp_path, images):
    put(tmp_path / "a\nb.png", images[0])
    with pytest.raises(InputError, match=r"holds the name 'a\\nb', which goes over a line's end; rename it"):
        open_data(tmp_path)


# The table ---------------------------------------------------------------------------------------------------------


def test_no_layout_is_taken_for_another(tmp_path, images, pcam_folder, wilds):
    folders = {"pcam": pcam_folder("a"), "kaggle": write_kaggle(tmp_path / "b"), "wilds": wilds}
    (tmp_path / "c").mkdir()
    np.savez(tmp_path / "c" / "a.npz", x=images)
    folders |= {"npz": tmp_path / "c", "classes": write_classes(tmp_path / "d", images)}
    write_classes(tmp_path / "e" / "train", images)
    folders["splits"] = tmp_path / "e"
    for patient in ("1", "2"):
        write_classes(tmp_path / "f" / patient, images)
    folders["patients"] = tmp_path / "f"
    put(tmp_path / "g" / "benign" / "SOB" / "x" / "SOB_B_A_14-1" / "40X" / "1.png", images[0])
    put(tmp_path / "g" / "malignant" / "SOB" / "x" / "SOB_M_DC_14-2" / "40X" / "1.png", images[0])
    folders["breakhis"] = tmp_path / "g"
    put(tmp_path / "h" / "1.png", images[0])
    folders["images"] = tmp_path / "h"
    assert folders.keys() == {layout.name for layout in LAYOUTS}
    for name, folder in folders.items():
        first = next(layout for layout in LAYOUTS if layout.recognise(Listing(folder)))
        assert first.name == name


def test_an_official_file_is_never_read_past_its_splits_asked_for(pcam_folder, monkeypatch):
    folder, opened = pcam_folder(), []
    real = h5py.File
    monkeypatch.setattr(
        h5py, "File", lambda path, *args, **options: opened.append(path) or real(path, *args, **options)
    )
    data = open_data(folder, only=("valid",))
    assert list(data.splits) == ["valid"] and data.has == ("train", "valid", "test")
    assert {path.name for path in opened} == {f"{STEM}valid_x.h5", f"{STEM}valid_y.h5"}

import functools

import pytest
from helpers import STEM, write_csv
from PIL import Image

from pcam_utils.cli.choosing import choose_images, choose_model, choose_split
from pcam_utils.data.sources import open_data
from pcam_utils.errors import InputError


def test_the_test_split_is_scored_where_it_is_labelled_and_else_valid(pcam_folder):
    folder = pcam_folder()
    assert choose_split(functools.partial(open_data, folder)).name == "test"
    (folder / f"{STEM}test_y.h5").unlink()
    assert choose_split(functools.partial(open_data, folder)).name == "valid"
    assert choose_split(functools.partial(open_data, folder), "train").name == "train"


def test_the_runs_own_validation_part_is_scored_as_valid(kaggle_folder, tmp_path):
    folder = kaggle_folder()
    kept = open_data(folder).split("train").ids[[3, 4, 9]]
    (tmp_path / "valid_ids.txt").write_text("\n".join(kept) + "\n")
    patches = choose_split(functools.partial(open_data, folder), "valid", run=tmp_path)
    assert patches.name == "valid"
    assert patches.ids.tolist() == kept.tolist()


@pytest.fixture
def images(tmp_path, random_patches):
    """A plain folder of four images, beside a table of their labels."""
    (tmp_path / "images").mkdir()
    for row, image in enumerate(random_patches(4)):
        Image.fromarray(image).save(tmp_path / "images" / f"{row}.png")
    write_csv(tmp_path / "labels.csv", ("id", "label"), [(row, row % 2) for row in range(4)])
    return tmp_path / "images"


def test_a_plain_folder_is_scored_with_labels_from_outside(images):
    patches = choose_split(functools.partial(open_data, images), labels=images.parent / "labels.csv")
    assert (patches.name, patches.labels.tolist()) == ("images", [0, 1, 0, 1])


def test_all_of_a_plain_folder_is_predicted_and_else_the_test_split(images, kaggle_folder, pcam_folder):
    chosen = [
        choose_images(functools.partial(open_data, folder)) for folder in (images, kaggle_folder(), pcam_folder())
    ]
    assert [(patches.name, len(patches)) for patches in chosen] == [("images", 4), ("test", 6), ("test", 12)]
    assert choose_images(functools.partial(open_data, pcam_folder("b")), "valid").name == "valid"


@pytest.mark.parametrize("choose, missing", [(choose_images, "test"), (choose_split, "valid")])
def test_training_patches_are_never_taken_for_want_of_others(pcam_folder, tmp_path, random_patches, choose, missing):
    for row, image in enumerate(random_patches(4)):
        (tmp_path / "classes" / str(row % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "classes" / str(row % 2) / f"{row}.png")
    for folder in (tmp_path / "classes", pcam_folder(splits=("train",))):
        with pytest.raises(InputError, match=f"has no split '{missing}' here, only train; choose another"):
            choose(functools.partial(open_data, folder))


@pytest.mark.slow
def test_the_packages_own_model_is_taken_where_none_is_named():
    model, record = choose_model()
    assert model.name == "pcam_nasnetmobile" and record["name"] == "pcam"
    assert record["operating_point"]["threshold"] > 0

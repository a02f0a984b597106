import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import STEM
from hypothesis import given, settings
from hypothesis import strategies as st

from pcam_utils.data import splits
from pcam_utils.data.patches import Patches, Rows
from pcam_utils.data.sources import Data, open_data
from pcam_utils.data.splits import at_random, by_group, train_valid
from pcam_utils.errors import InputError


def labelled(images, labels, slides=None):
    """Data with a training split alone, made of these patches."""
    ids = np.array([f"p{row}" for row in range(len(images))])
    slides = None if slides is None else np.asarray(slides)
    patches = Patches(Rows(images), ids, np.asarray(labels, np.uint8), slides, name="train")
    return Data("a folder", "kaggle", {"train": patches})


def test_official_splits_are_left_as_they_are(pcam_folder):
    data = open_data(pcam_folder())
    split = train_valid(data, fraction=0.5)
    assert split.train is data.split("train") and split.valid is data.split("valid")
    assert split.how == splits.OFFICIAL


@pytest.mark.parametrize(
    "slides, how", [("known", splits.KEPT_APART), ("unknown", splits.AS_FOUND), ("shared", "2 slides")]
)
def test_the_splits_of_another_source_are_called_what_their_slides_say(pcam_folder, slides, how):
    folder = pcam_folder(meta=slides != "unknown")
    if slides == "shared":
        shutil.copy(folder / f"{STEM}train_meta.csv", folder / f"{STEM}valid_meta.csv")
    data = replace(open_data(folder), layout="hospital")
    split = train_valid(data)
    assert split.valid is data.split("valid") and how in split.how


def test_known_slides_keep_to_one_side(random_patches):
    slides = np.repeat([f"slide_{number}" for number in range(10)], 20)
    split = train_valid(labelled(random_patches(200), np.arange(200) % 2, slides), fraction=0.2)
    assert split.how == splits.BY_SLIDE
    assert not set(split.train.slides) & set(split.valid.slides)
    assert (len(split.train), len(split.valid)) == (160, 40)
    assert split.valid.labels.mean() == 0.5
    assert sorted([*split.train.ids, *split.valid.ids]) == sorted(f"p{row}" for row in range(200))
    assert (split.train.name, split.valid.name) == ("train", "valid")


def test_unknown_slides_are_split_at_random_with_repeats_on_one_side(random_patches):
    images = random_patches(120)
    images[60:] = images[np.random.default_rng(0).permutation(60)]  # every patch is there twice
    labels = np.tile([0, 1], 60)
    repeats = {image.tobytes(): label for image, label in zip(images[:60], labels)}
    labels = [repeats[image.tobytes()] for image in images]
    split = train_valid(labelled(images, labels), fraction=0.25)
    sides = [{image.tobytes() for image in part.images[:]} for part in (split.train, split.valid)]
    assert not sides[0] & sides[1]
    assert (len(split.train), len(split.valid)) == (90, 30)
    assert split.valid.labels.mean() == pytest.approx(0.5, abs=0.04)
    assert split.how == splits.AT_RANDOM and "likely too good" in split.how


def test_a_kaggle_folder_is_split_by_slide_where_slides_are_given(kaggle_folder):
    known = train_valid(open_data(kaggle_folder("known", slides=[row // 4 for row in range(12)])))
    unknown = train_valid(open_data(kaggle_folder("unknown")))
    assert known.how == splits.BY_SLIDE and not set(known.train.slides) & set(known.valid.slides)
    assert unknown.how == splits.AT_RANDOM


def test_a_validation_split_without_labels_is_not_used(pcam_folder):
    folder = pcam_folder()
    next(folder.glob("*valid_y.h5")).unlink()
    assert train_valid(open_data(folder)).how == splits.BY_SLIDE


@pytest.mark.parametrize("part", [by_group, at_random])
def test_the_same_seed_gives_the_same_split_and_another_seed_another(part):
    groups = np.arange(300) // 6
    labels, groups = groups % 2, groups.astype(str)
    first = part(labels, groups, seed=3)
    np.testing.assert_array_equal(part(labels, groups, seed=3), first)
    assert not np.array_equal(part(labels, groups, seed=4), first)


@pytest.mark.parametrize("part", [by_group, at_random])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_about_the_share_asked_for_is_chosen(part, fraction):
    labels, groups = np.arange(400) % 2, np.repeat(np.arange(100).astype(str), 4)
    if part is at_random:
        labels = np.repeat(np.arange(100) % 2, 4)  # equal contents have equal labels
    chosen = part(labels, groups, fraction=fraction)
    assert chosen.dtype == bool and chosen.shape == (400,)
    assert chosen.mean() == pytest.approx(fraction, abs=0.02)
    assert labels[chosen].mean() == pytest.approx(0.5, abs=0.02)
    assert not set(groups[chosen]) & set(groups[~chosen])


@pytest.mark.parametrize("fraction", [0, -0.1, 0.51, 1, float("nan")])
@pytest.mark.parametrize("part", [by_group, at_random])
def test_a_share_that_makes_no_sense_is_refused(part, fraction):
    with pytest.raises(InputError, match=f"The share to choose by is {fraction}, but it must lie above 0"):
        part(np.arange(20) % 2, np.arange(20).astype(str), fraction=fraction)


@pytest.mark.filterwarnings("error")  # scikit-learn warns of rare classes, and the command line would print it
@pytest.mark.parametrize("part", [by_group, at_random])
@pytest.mark.parametrize("rare", [2, 3])
def test_a_few_patches_of_the_rarer_class_are_enough(part, rare):
    labels = np.zeros(40, int)
    labels[:rare] = 1
    chosen = part(labels, np.arange(40).astype(str), fraction=0.5)
    assert set(labels[chosen]) == set(labels[~chosen]) == {0, 1}


def test_slides_of_one_class_each_are_parted_so_that_both_classes_are_on_both_sides():
    labels, slides = np.repeat([0, 0, 0, 1, 1], 20), np.repeat(list("abcde"), 20)
    for seed in range(5):
        chosen = by_group(labels, slides, fraction=0.2, seed=seed)
        assert set(labels[chosen]) == set(labels[~chosen]) == {0, 1}
        assert not set(slides[chosen]) & set(slides[~chosen])


def test_a_class_on_one_slide_cannot_be_on_both_sides():
    labels, slides = np.repeat([0, 0, 0, 1], 20), np.repeat(list("abcd"), 20)
    with pytest.raises(InputError, match="one side holds one class alone: all of a class is on too few slides"):
        by_group(labels, slides)


def test_four_patches_can_be_split():
    for part in (by_group, at_random):
        chosen = part(np.array([0, 1, 0, 1]), np.array(list("abcd")), fraction=0.2)
        assert chosen.sum() == 2


@pytest.mark.parametrize(
    "part, groups, says",
    [
        (by_group, ["a"] * 8, "All patches come from one slide"),
        (by_group, list("abcdefgh"), "Each class needs at least two patches"),
        (at_random, list("abcdefgh"), "Each class needs at least two different patches"),
    ],
)
def test_what_cannot_be_split_is_said(part, groups, says):
    labels = np.array([1] + [0] * 7) if groups[0] != groups[1] else np.arange(8) % 2
    with pytest.raises(InputError, match=says):
        part(labels, np.array(groups))


def test_a_class_that_has_only_repeats_of_one_patch_cannot_be_split(random_patches):
    images = random_patches(8)
    images[[0, 2, 4, 6]] = images[0]
    with pytest.raises(InputError, match="at least two different patches"):
        train_valid(labelled(images, np.arange(8) % 2 == 0))


def test_a_side_that_would_hold_one_class_is_named(random_patches):
    data = labelled(random_patches(8), [0] * 4 + [1] * 4, ["normal"] * 4 + ["tumour"] * 4)
    with pytest.raises(InputError, match="one side holds one class alone: all of a class is on too few slides"):
        train_valid(data)


def test_one_class_in_the_official_validation_split_is_named(pcam_folder):
    data = open_data(pcam_folder(labels={"valid": np.ones(12)}))
    with pytest.raises(InputError, match="The valid split holds only label 1"):
        train_valid(data)


@pytest.mark.parametrize("progress", [True, False])
def test_repeats_are_looked_for_under_a_bar_where_it_is_wanted(random_patches, bars_at_once, capsys, progress):
    train_valid(labelled(random_patches(12), np.arange(12) % 2), progress=progress)
    assert ("Looking for repeats: 100%" in capsys.readouterr().err) == progress


groups_and_labels = st.integers(4, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, n // 2), min_size=n, max_size=n).map(np.array),
        st.lists(st.integers(0, 1), min_size=n, max_size=n).map(np.array),
    )
)


@settings(max_examples=200, deadline=None, database=None)
@given(groups_and_labels, st.floats(0.1, 0.5), st.integers(0, 100))
def test_no_group_is_ever_on_both_sides_and_the_share_is_off_by_no_more_than_a_group(drawn, fraction, seed):
    groups, labels = drawn
    labels = labels[np.unique(groups, return_inverse=True)[1]]  # a group has one label, as equal contents have
    for part in (by_group, at_random):
        try:
            chosen = part(labels, groups.astype(str), fraction=fraction, seed=seed)
        except InputError as error:
            assert "add" in str(error)  # too few to be split, and nothing else
            continue
        assert chosen.dtype == bool and chosen.shape == labels.shape
        assert chosen.any() and not chosen.all()
        assert not set(groups[chosen]) & set(groups[~chosen])


@settings(max_examples=50, deadline=None, database=None)
@given(st.integers(0, 1000), st.integers(40, 120), st.integers(1, 6), st.sampled_from([0.1, 0.2, 0.25, 0.5]))
def test_of_many_groups_about_the_share_asked_for_is_chosen(seed, number, largest, fraction):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(number), rng.integers(1, largest + 1, number))
    labels = (rng.permutation(number) % 2)[groups]
    chosen = by_group(labels, groups.astype(str), fraction=fraction, seed=seed)
    assert abs(chosen.mean() - fraction) < 0.06
    assert abs(labels[chosen].mean() - labels.mean()) < 0.2
    different = np.unique(groups, return_index=True)[1]  # repeats weigh nothing where they are kept together
    chosen = at_random(labels, groups.astype(str), fraction=fraction, seed=seed)[different]
    assert abs(chosen.mean() - fraction) <= 1 / number
    assert abs(labels[different][chosen].mean() - labels[different].mean()) <= 1 / chosen.sum()

import subprocess
import sys

import pytest

from pcam_utils.errors import InputError
from pcam_utils.training.operations import AUGMENTS
from pcam_utils.training.recipes import RECIPES, Settings


@pytest.mark.parametrize("recipe, weights, epochs, expected", [
    ("article", "none", None, [(2, 32), (6, 64)]),
    ("article", "none", 3, [(2, 32), (1, 64)]),
    ("article", "none", 1, [(1, 64)]),
    ("course", "imagenet", None, [(1, 32), (5, 32)]),
    ("course", "none", None, [(5, 32)]),
    ("course", "none", 2, [(2, 32)]),
    ("course", "pcam", 2, [(1, 32), (1, 32)]),
    ("pcam", "none", None, [(5, 32)]),
    ("pcam", "pcam", None, [(6, 32)]),
])  # fmt: skip
def test_recipes_and_epochs(recipe, weights, epochs, expected):
    phases = Settings(recipe=recipe, weights=weights, epochs=epochs).phases()
    assert [(phase.epochs, phase.batch_size) for phase in phases] == expected


def test_a_batch_of_another_size_takes_its_learning_rate_along():
    whole, larger = (Settings(recipe="article", weights="none", batch_size=size).phases() for size in (None, 128))
    assert [phase.batch_size for phase in larger] == [128, 128]
    growth = [b.learning_rate / a.learning_rate for a, b in zip(whole, larger)]
    assert growth == pytest.approx([2, 2**0.5])


def test_the_articles_recipe_is_as_published():
    assert {phase.learning_rate for phase in RECIPES["article"].phases} == {1e-4}
    assert all(phase.train_fraction == 1 and not phase.cosine for phase in RECIPES["article"].phases)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_settles_its_augmentation_unless_another_is_asked_for(recipe):
    settled = Settings(recipe=recipe, weights="none").settled()
    assert settled.augment == RECIPES[recipe].augment in AUGMENTS
    assert Settings(recipe=recipe, weights="none", augment="none").settled().augment == "none"


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(InputError, match="'heavy' is no augmentation; choose one of full, plain, none"):
        Settings(augment="heavy").settled()


@pytest.mark.parametrize("wrong, sentence", [
    ({"recipe": "seed"}, "'seed' is no recipe; choose one of article, course, pcam"),
    ({"epochs": 0}, "0 epochs cannot be trained"),
    ({"batch_size": 0}, "A batch of 0 patches holds nothing"),
    ({"patience": 0}, "A patience of 0 epochs would never train"),
])  # fmt: skip
def test_settings_that_train_nothing_are_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        Settings(**wrong).settled()


def test_naming_recipes_augmentations_and_settings_waits_for_no_backend():
    script = """
import sys
from pcam_utils.training import OPERATIONS, RECIPES, Settings
from pcam_utils.training.operations import AUGMENTS
Settings().phases()
print([name for name in ("keras", "tensorflow", "jax", "numpy") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"

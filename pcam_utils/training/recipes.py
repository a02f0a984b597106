"""The recipes, which are named ways to train (phases, head and augmentation), and the settings of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike

from ..errors import InputError
from ..files import user_path
from .operations import AUGMENTS


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of choices.

    Attributes
    ----------
    name : str
    epochs : int
    batch_size : int
    learning_rate : float
        Of Adam, at the start of the phase.
    train_fraction : float
        Share of the backbone that trains, from its top: 0 is the head alone.
    cosine : bool
        Let the learning rate fall to zero along a cosine over the phase.
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    train_fraction: float = 1.0
    cosine: bool = False


@dataclass(frozen=True)
class Recipe:
    """A head, the phases that train it, and what changes its patches.

    Attributes
    ----------
    head : str
        A name in `pcam_utils.models.networks.HEADS`.
    phases : tuple of Phase
    from_random : tuple of Phase, optional
        Replaces the phases if the start is random, so that there are no pretrained features to keep.
    augment : str
        A name in `pcam_utils.training.operations.AUGMENTS`.
    """

    head: str
    phases: tuple[Phase, ...]
    from_random: tuple[Phase, ...] | None = None
    augment: str = "plain"


_FROM_RANDOM = (Phase("whole network", 5, 32, 1e-3, cosine=True),)

RECIPES = {
    # The 2019 article's: CVxTz/malignancy_detection, code/baseline.py.
    "article": Recipe("article", (Phase("batch 32", 2, 32, 1e-4), Phase("batch 64", 6, 64, 1e-4)), augment="full"),
    # The head trains first, so that its random start does not wreck pretrained features. A random backbone has no such
    # features, and needs larger steps. A head on the average alone learns faster than the article's, where 11,616
    # inputs lead to one sigmoid (docs/results.md).
    "course": Recipe(
        "average",
        (Phase("head", 1, 32, 1e-3, train_fraction=0.0), Phase("fine-tune", 5, 32, 3e-4, cosine=True)),
        from_random=_FROM_RANDOM,
    ),
    # The weights in this package were trained with this, in two runs. The first began at random. The second went on
    # from there with the answers of another network (--targets); see docs/model_card.md.
    "pcam": Recipe("average", (Phase("whole network", 6, 32, 1e-3, cosine=True),), from_random=_FROM_RANDOM),
}


@dataclass(frozen=True)
class Settings:
    """All choices that decide a run's result, as they are kept in run.json.

    Attributes
    ----------
    recipe : str
        A name in `RECIPES`.
    backbone, weights, head
        See `pcam_utils.models.networks.build_model`. If the head is left out, it is the recipe's.
    epochs : int, optional
        In all. If left out, the recipe's own number.
    batch_size : int, optional
        Patches in each step, in place of the recipe's own number. A GPU starts thousands of small operations in a
        step, however few patches that has, so it makes better use of batches of 128 or 256. The learning rate changes
        with the square root of the batch, as is right for Adam (Malladi et al. 2022, arXiv:2205.10287).
    patience : int, optional
        Stop after so many epochs without a better validation AUC.
    targets : path, optional
        CSV (id,label) of another model's probabilities. The run learns half from them and half from the labels.
    augment : str, optional
        A name in `pcam_utils.training.operations.AUGMENTS`. If left out, the recipe's own.
    precision, deterministic
        See `pcam_utils.runtime.prepare`.
    devices : int
        GPUs of this machine to spread each batch over.
    valid_fraction : float
        Share of the training patches to choose by, if the data have no validation split.
    seed : int
        The same seed gives the same run on the same machine.

    Examples
    --------
    >>> [phase.name for phase in Settings(recipe="course", weights="imagenet").phases()]
    ['head', 'fine-tune']
    """

    recipe: str = "course"
    backbone: str = "NASNetMobile"
    weights: str = "auto"
    head: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    targets: str | PathLike[str] | None = None
    augment: str | None = None
    precision: str = "float32"
    deterministic: bool = False
    devices: int = 1
    valid_fraction: float = 0.2
    seed: int = 0

    def settled(self, say: Callable[[str], object] = print) -> Settings:
        """Fill in what was left open: the start that can be had here, and the recipe's own head and augmentation.

        A run is recorded with the settings that this gives, so that run.json says what was done.

        Parameters
        ----------
        say : callable
            Told, in one line, why the weights are not ImageNet's.

        Returns
        -------
        Settings

        Raises
        ------
        InputError
            If a name is unknown, or nothing would be trained.
        """
        if self.recipe not in RECIPES:
            raise InputError(f"'{self.recipe}' is no recipe; choose one of {', '.join(RECIPES)}.")
        if self.augment not in (None, *AUGMENTS):
            raise InputError(f"'{self.augment}' is no augmentation; choose one of {', '.join(AUGMENTS)}.")
        if self.epochs is not None and self.epochs < 1:
            raise InputError(f"{self.epochs} epochs cannot be trained; ask for at least 1.")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"A batch of {self.batch_size} patches holds nothing; ask for at least 1.")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"A patience of {self.patience} epochs would never train; ask for at least 1.")
        # These import scikit-learn and Keras, which take seconds. Whoever only names a recipe need not wait for them.
        from ..data.splits import check_fraction
        from ..models.starts import choose_start

        check_fraction(self.valid_fraction)
        weights = choose_start(self.backbone, self.weights, say=say)
        recipe, targets = RECIPES[self.recipe], user_path(self.targets) if self.targets else None
        if targets and not targets.is_file():
            raise InputError(f"There is no file {targets}; check the name.")
        return replace(
            self,
            weights=weights,
            head=self.head or recipe.head,
            augment=self.augment or recipe.augment,
            targets=str(targets) if targets else None,
        )

    def phases(self) -> tuple[Phase, ...]:
        """The recipe's phases for this start, with the number of epochs and the batches asked for."""
        recipe = RECIPES[self.recipe]
        phases = recipe.from_random if recipe.from_random and self.weights == "none" else recipe.phases
        if size := self.batch_size:
            rates = [phase.learning_rate * (size / phase.batch_size) ** 0.5 for phase in phases]
            phases = tuple(replace(phase, batch_size=size, learning_rate=rate) for phase, rate in zip(phases, rates))
        if self.epochs is None:
            return phases
        first = [replace(phase, epochs=min(phase.epochs, self.epochs - 1)) for phase in phases[:-1]]
        last = replace(phases[-1], epochs=self.epochs - sum(phase.epochs for phase in first))
        return tuple(phase for phase in (*first, last) if phase.epochs > 0)

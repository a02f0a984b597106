"""Changes training patches at random, so that they keep their label. It works on batches, where the network runs."""

# Each operation is a function of a batch and of quantities for each patch, in keras.ops: (K, S, S, 3) uint8 and (K,) or
# (K, 3) float32 in, (K, S, S, 3) uint8 out. `Augment` draws the quantities.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..errors import InputError
from ..models.backbones import keras
from ..runtime.backend import as_graph, compiled
from .operations import HOLE, OPERATIONS, Operation

ops = keras.ops
Ends = Sequence[float]  #: lowest and highest value that is drawn
Tensor = Any  #: an array of the backend, or whatever the backend takes for one, such as a NumPy array


@keras.saving.register_keras_serializable("pcam_utils")
class Augment(keras.layers.Layer):
    """Changes training patches at random, and passes them on as they are when the network predicts.

    Parameters
    ----------
    operations : dict of name to Operation
        Names from `pcam_utils.training.operations.OPERATIONS`, with the shares and ranges given there or with others.
    seed : int
        The same seed gives the same changes, batch for batch. The generator's state is saved with the layer, so that a
        loaded one goes on where this one stopped.

    Raises
    ------
    InputError
        If an operation is unknown, or if patches are not square, with three colours, and at least 8 pixels wide. For
        `holes` the width must be a multiple of 8.

    Examples
    --------
    >>> layer = Augment(seed=0)
    >>> patches = np.full((16, 64, 64, 3), 200, "uint8")
    >>> changed = np.asarray(layer(patches, training=True))
    >>> changed.shape, changed.dtype, bool((changed == patches).all())
    ((16, 64, 64, 3), dtype('uint8'), False)
    >>> bool((np.asarray(layer(patches, training=False)) == patches).all())
    True
    """

    def __init__(self, operations: Mapping[str, Operation] = OPERATIONS, seed: int = 0, **about: Any) -> None:
        super().__init__(**about)
        for name in operations:
            if name not in _APPLY:
                raise InputError(f"'{name}' is no operation; choose from {', '.join(_APPLY)}.")
        self.operations = dict(operations)
        self.seed = seed
        self.seeds = keras.random.SeedGenerator(seed)
        self._apply = {
            name: compiled(partial(_APPLY[name], **operation.ranges)) for name, operation in operations.items()
        }
        self._change = as_graph(lambda images: change(images, self.draw(images), self.operations, self._apply))

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        """(N, S, S, 3) uint8 to the same."""
        self._check(images.shape)
        images = ops.cast(images, "uint8")  # a batch may come as float32, its values from 0 to 255
        return self._change(images) if training else images

    def draw(self, images: Tensor) -> dict[str, Any]:
        """Draw the random numbers for a batch: its order, a field of noise, and where and how each operation acts."""
        many, *shape = ops.shape(images)
        columns = {"affine": 6, "noise": 2, "holes": 1 + (shape[0] // HOLE) ** 2, "stain": 6}
        uniform = partial(keras.random.uniform, seed=self.seeds)
        numbers: dict[str, Any] = {"order": uniform((many,))}
        numbers["field"] = keras.random.normal((math.prod(shape),), seed=self.seeds)
        for name, operation in self.operations.items():
            numbers[name] = uniform(()), uniform((many // operation.one_in, columns.get(name, 1)))
        return numbers

    def compute_output_spec(self, images: Tensor, training: bool = False) -> Tensor:
        self._check(images.shape)
        return keras.KerasTensor(images.shape, dtype="uint8")

    def _check(self, shape: tuple[int | None, ...]) -> None:
        side = shape[1] if len(shape) == 4 else None
        if side is None or side < HOLE or tuple(shape[2:]) != (side, 3):
            raise InputError(
                f"Patches of shape {tuple(shape)} cannot be changed: give (N, S, S, 3), with an S of {HOLE} or more."
            )
        if "holes" in self.operations and side % HOLE:
            raise InputError(
                f"Holes of {HOLE} pixels do not fill patches of {side}: give patches whose width {HOLE} divides, "
                "or leave 'holes' out of the operations."
            )

    def get_config(self) -> dict[str, Any]:
        """Describe the layer in plain values, as Keras saves it."""
        plain = {
            name: {
                "one_in": operation.one_in,
                "ranges": {key: list(ends) for key, ends in operation.ranges.items()},
            }
            for name, operation in self.operations.items()
        }
        return {**super().get_config(), "operations": plain, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augment:
        """Make the layer that `get_config` describes."""
        operations = {name: Operation(**plain) for name, plain in config["operations"].items()}
        return cls(**{**config, "operations": operations})

    # Keras saves only weights, and a seed generator is not one.

    def save_own_variables(self, store: Any) -> None:
        store["seeds"] = ops.convert_to_numpy(self.seeds.state)

    def load_own_variables(self, store: Any) -> None:
        self.seeds.state.assign(np.asarray(store["seeds"]))


def change(
    images: Tensor, numbers: dict[str, Any], operations: Mapping[str, Operation], apply: Mapping[str, Callable]
) -> Tensor:
    """Change a batch by given random numbers.

    The batch is shuffled once. For each operation it is cut into `one_in` pieces, and the operation changes one of
    them. For a single patch this is as if every operation were drawn independently. Only changed patches are copied.

    Parameters
    ----------
    images : (N, S, S, 3) uint8
    numbers : dict
        From `Augment.draw`.
    operations : dict of name to Operation
    apply : dict of name to callable
        Takes some of the images, their (K, columns) numbers and the field of noise.

    Returns
    -------
    (N, S, S, 3) uint8
        In the same order.
    """
    many, *shape = ops.shape(images)
    order = ops.argsort(numbers["order"])
    images = ops.take(images, order, axis=0)
    for name, operation in operations.items():
        where, uniform = numbers[name]
        some = many // operation.one_in
        if isinstance(some, int) and some == 0:  # a batch too small for it
            continue
        start = (some * ops.cast(where * operation.one_in, "int32"), 0, 0, 0)
        changed = apply[name](ops.slice(images, start, (some, *shape)), uniform, numbers["field"])
        images = changed if operation.one_in == 1 else ops.slice_update(images, start, changed)
    return ops.take(images, ops.argsort(order), axis=0)


def symmetry(images: Tensor) -> Tensor:
    """Turn and mirror each eighth of a batch in another of the eight ways. The centre stays, and so does the label."""
    many = ops.shape(images)[0]
    parts = []
    for way in range(8):
        part = images[many * way // 8 : many * (way + 1) // 8]
        part = part[:, ::-1] if way & 1 else part
        part = part[:, :, ::-1] if way & 2 else part
        parts.append(ops.transpose(part, (0, 2, 1, 3)) if way & 4 else part)
    return ops.concatenate(parts, axis=0)


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Zoom, turn, shear and shift about the centre, bilinear, mirrored at the border.

    Parameters
    ----------
    images : (K, S, S, 3) uint8
    matrix : (K, 2, 3) float32
        Takes a pixel of the result to where it comes from: (x, y), in pixels from the centre.

    Returns
    -------
    (K, S, S, 3) uint8
    """
    side = images.shape[1]
    middle = (side - 1) / 2
    steps = np.arange(side, dtype="float32") - middle
    m = ops.expand_dims(ops.expand_dims(matrix, -1), -1)
    x = m[:, 0, 0] * steps + m[:, 0, 1] * steps[:, None] + m[:, 0, 2] + middle
    y = m[:, 1, 0] * steps + m[:, 1, 1] * steps[:, None] + m[:, 1, 2] + middle
    x, y = _mirrored(x, side - 1), _mirrored(y, side - 1)
    left, top = ops.floor(x), ops.floor(y)
    pixels = ops.reshape(images, (-1, 3))
    first = (ops.arange(ops.shape(images)[0]) * side * side)[:, None, None]

    def at(row: Tensor, column: Tensor) -> Tensor:
        # Beyond the last pixel nothing is read, since its share of the result would be 0.
        row, column = (ops.cast(ops.minimum(place, side - 1), "int32") for place in (row, column))
        return ops.cast(ops.take(pixels, first + row * side + column, axis=0), "float32")

    right, below = (x - left)[..., None], (y - top)[..., None]
    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return _grey(upper * (1 - below) + lower * below)


def affine_matrix(zoom: Tensor, rotation: Tensor, shear: Tensor, shift: Tensor) -> Tensor:
    """(K, 2, 3) of `affine`: zoom and shift (K, 2) in x and y, rotation and shear (K,) in radians."""
    cosine, sine, slant = ops.cos(rotation), ops.sin(rotation), ops.tan(shear)
    rows = (
        (cosine / zoom[:, 0], (cosine * slant - sine) / zoom[:, 1], shift[:, 0]),
        (sine / zoom[:, 0], (sine * slant + cosine) / zoom[:, 1], shift[:, 1]),
    )
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur over five pixels, sigma (K,) in pixels, mirrored at the border."""
    weights = ops.exp(-0.5 * (np.arange(3, dtype="float32") / sigma[:, None]) ** 2)
    weights = weights / (weights[:, :1] + 2 * weights[:, 1:2] + 2 * weights[:, 2:])
    near = [weights[:, k, None, None] for k in range(3)]
    values = _rows(images)
    for axis, step in ((1, 1), (2, 3)):
        taps = _shifted(values, axis, 2, step)
        values = near[0] * taps[2] + near[1] * (taps[1] + taps[3]) + near[2] * (taps[0] + taps[4])
    return _like(images, values)


def sharpen(images: Tensor, strength: Tensor) -> Tensor:
    """Add strength (K,) times the difference between eight times a pixel and the sum of its eight neighbours."""
    values = _rows(images)
    box = sum(_shifted(values, 1, 1, 1))
    box = sum(_shifted(box, 2, 1, 3))
    return _like(images, values + strength[:, None, None] * (9 * values - box))


def noise(images: Tensor, std: Tensor, field: Tensor, start: Tensor) -> Tensor:
    """Add Gaussian noise of standard deviation std (K,).

    To draw a number for each value would take longer than all the rest together. So one field (S·S·3,) serves the whole
    batch, and each patch reads it from its own start (K,) int32.
    """
    place = start[:, None] + ops.arange(field.shape[0])
    grain = ops.take(ops.concatenate([field, field]), place)
    values = ops.cast(ops.reshape(images, (-1, field.shape[0])), "float32")
    return _like(images, values + std[:, None] * grain)


def holes(images: Tensor, hole: Tensor) -> Tensor:
    """Blacken squares of 8×8 pixels where hole (K, S/8, S/8) is true."""
    across = hole.shape[1]
    keep = ops.cast(ops.logical_not(hole), "uint8")[:, :, None, :, None]
    return ops.reshape(ops.reshape(images, (-1, across, HOLE, across, HOLE * 3)) * keep, ops.shape(images))


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by factor (K,)."""
    return _like(images, _rows(images) * factor[:, None, None])


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance from mid-grey by factor (K,)."""
    return _like(images, 128 + (_rows(images) - 128) * factor[:, None, None])


def stain(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Vary the stain: multiply the optical density of each colour channel by a factor, and add an offset.

    Light is absorbed exponentially (Beer-Lambert). So more dye multiplies the optical density, not the pixel value, and
    glass stays white.

    Parameters
    ----------
    images : (K, S, S, 3) uint8
    factor : (K, 3) float32
    offset : (K, 3) float32
        In optical density, log10.

    Returns
    -------
    (K, S, S, 3) uint8

    Examples
    --------
    >>> patches = np.full((1, 8, 8, 3), 128, "uint8")
    >>> twice_the_dye = np.full((1, 3), 2, "float32")
    >>> np.asarray(stain(patches, twice_the_dye, np.zeros((1, 3), "float32")))[0, 0, 0]
    array([64, 64, 64], dtype=uint8)
    """
    side = images.shape[1]
    factor, offset = (ops.tile(each, (1, side))[:, None] for each in (factor, offset))
    density = -ops.log(ops.maximum(_rows(images), 1) / 255)  # natural logarithms; only the offset is in powers of ten
    return _like(images, 255 * ops.exp(-density * factor - math.log(10) * offset))


def _rows(images: Tensor) -> Tensor:
    """Lay the pixels of a row side by side, as float32. With colours innermost, compilers would not use vectors."""
    side = images.shape[1]
    return ops.cast(ops.reshape(images, (-1, side, side * 3)), "float32")


def _like(images: Tensor, values: Tensor) -> Tensor:
    return ops.reshape(_grey(values), ops.shape(images))


def _shifted(values: Tensor, axis: int, reach: int, step: int) -> list[Tensor]:
    """Move the values by -reach … reach pixels along an axis, mirrored at its ends. A pixel is `step` values wide."""
    length = values.shape[axis]
    cut = lambda start, end: values[:, start:end] if axis == 1 else values[:, :, start:end]
    before = [cut(k * step, (k + 1) * step) for k in range(reach, 0, -1)]
    after = [cut(length - (k + 1) * step, length - k * step) for k in range(1, reach + 1)]
    padded = ops.concatenate([*before, values, *after], axis=axis)
    ends = ((k * step, k * step + length) for k in range(2 * reach + 1))
    return [padded[:, start:end] if axis == 1 else padded[:, :, start:end] for start, end in ends]


def _mirrored(place: Tensor, last: int) -> Tensor:
    """Mirror places beyond 0 … last back into that range, however far away they are. Border pixels are not repeated."""
    place = place - 2 * last * ops.floor(place / (2 * last))
    return ops.maximum(last - ops.abs(place - last), 0)  # since rounding may give numbers below 0


def _grey(values: Tensor) -> Tensor:
    return ops.cast(ops.clip(values, 0, 255) + 0.5, "uint8")


def _within(uniform: Tensor, ends: Ends) -> Tensor:
    lowest, highest = ends
    return lowest + (highest - lowest) * uniform


# These turn numbers (K, columns) between 0 and 1, and a field of noise, into the quantities of each operation.


def _random_affine(
    images: Tensor, uniform: Tensor, field: Tensor, zoom: Ends, rotation: Ends, shear: Ends, shift: Ends
) -> Tensor:
    turn, slant = (_within(uniform[:, k], np.radians(ends).tolist()) for k, ends in ((2, rotation), (3, shear)))
    return affine(images, affine_matrix(_within(uniform[:, :2], zoom), turn, slant, _within(uniform[:, 4:], shift)))


def _random_noise(images: Tensor, uniform: Tensor, field: Tensor, std: Ends) -> Tensor:
    return noise(images, _within(uniform[:, 0], std), field, ops.cast(uniform[:, 1] * field.shape[0], "int32"))


def _random_holes(images: Tensor, uniform: Tensor, field: Tensor, share: Ends) -> Tensor:
    across = images.shape[1] // HOLE
    cells = ops.reshape(uniform[:, 1:], (-1, across, across))
    return holes(images, cells < _within(uniform[:, 0], share)[:, None, None])


def _random_stain(images: Tensor, uniform: Tensor, field: Tensor, factor: Ends, offset: Ends) -> Tensor:
    return stain(images, _within(uniform[:, :3], factor), _within(uniform[:, 3:], offset))


_APPLY: dict[str, Callable] = {
    "symmetry": lambda images, uniform, field: symmetry(images),
    "affine": _random_affine,
    "blur": lambda images, uniform, field, sigma: blur(images, _within(uniform[:, 0], sigma)),
    "sharpen": lambda images, uniform, field, strength: sharpen(images, _within(uniform[:, 0], strength)),
    "noise": _random_noise,
    "holes": _random_holes,
    "brightness": lambda images, uniform, field, factor: brightness(images, _within(uniform[:, 0], factor)),
    "contrast": lambda images, uniform, field, factor: contrast(images, _within(uniform[:, 0], factor)),
    "stain": _random_stain,
}

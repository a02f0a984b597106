"""Random changes of training patches that keep their label: one list, made in batches where the network runs."""

# The list is the 2019 article's (CVxTz/malignancy_detection, code/utils.py) as far as it makes sense for tissue. Left out are
# superpixels, edges, emboss and inverted colours, which no microscope makes, and wide shifts, which move tumour out of the
# centre (lesson 02 counts how often).
#
# Each operation is a function of a batch and of quantities for each patch: (K, S, S, 3) uint8 and (K,) or (K, 3) float32 in,
# (K, S, S, 3) uint8 out, in keras.ops. `Augment` draws the quantities.

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..models.networks import keras
from ..runtime.backend import as_graph, compiled

ops = keras.ops


@dataclass(frozen=True)
class Operation:
    """How many patches of a batch an operation changes, and how far.

    Attributes
    ----------
    one_in : int
        One patch in so many. Which ones is drawn anew for each batch; how many is fixed, so that nothing is computed only
        to be thrown away, and the compiler knows all shapes.
    ranges : dict of name to (lowest, highest)
        Each quantity is drawn evenly from its range.
    """

    one_in: int
    ranges: dict = field(default_factory=dict)


#: What may happen to a training patch, in this order. Angles in degrees, shifts and sigma in pixels, noise in grey values,
#: offsets in optical density (log10), the others are factors and shares.
OPERATIONS = {
    "symmetry": Operation(1),
    "affine": Operation(4, {"zoom": (0.9, 1.1), "turn": (-10, 10), "shear": (-5, 5), "shift": (-2, 2)}),
    "blur": Operation(8, {"sigma": (0.1, 1.0)}),
    "sharpen": Operation(8, {"strength": (0.0, 0.2)}),
    "noise": Operation(8, {"spread": (0.0, 2.55)}),
    "holes": Operation(8, {"share": (0.01, 0.03)}),
    "brightness": Operation(8, {"factor": (0.9, 1.1)}),
    "contrast": Operation(8, {"factor": (0.9, 1.1)}),
    "stain": Operation(1, {"factor": (0.75, 1.25), "offset": (-0.02, 0.02)}),
}
#: The two that matter most.
PLAIN = {name: OPERATIONS[name] for name in ("symmetry", "stain")}
HOLE = 8  #: width and height of a hole, pixels


class Augment(keras.layers.Layer):
    """Changes training patches at random, and passes them on as they are when the network predicts.

    Parameters
    ----------
    operations : dict of name to Operation
    seed : int
        The same seed gives the same changes, batch for batch. The state is a variable of the layer and is saved with it.

    Examples
    --------
    >>> layer = Augment(seed=0)
    >>> changed = layer(np.zeros((64, 96, 96, 3), "uint8"), training=True)
    >>> changed.shape == (64, 96, 96, 3)
    True
    """

    def __init__(self, operations=OPERATIONS, seed=0, **about):
        super().__init__(**about)
        self.operations = operations
        self.seeds = keras.random.SeedGenerator(seed)
        self._apply = {name: compiled(partial(_APPLY[name], **operations[name].ranges)) for name in operations}
        self._change = as_graph(lambda images: change(images, self.draw(images), operations, self._apply))

    def call(self, images, training=False):
        """(N, S, S, 3) uint8 to the same."""
        images = ops.cast(images, "uint8")  # Keras 3.3 makes float32 of NumPy arrays
        return self._change(images) if training else images

    def draw(self, images):
        """The random numbers for a batch: its order, a field of noise, and for each operation where and how it acts."""
        many, *shape = ops.shape(images)
        even = partial(keras.random.uniform, seed=self.seeds)
        numbers = {"order": even((many,)), "field": keras.random.normal((math.prod(shape),), seed=self.seeds)}
        for name, operation in self.operations.items():
            numbers[name] = even(()), even((many // operation.one_in, _COLUMNS.get(name, 1)))
        return numbers

    def compute_output_spec(self, images, training=False):
        return keras.KerasTensor(images.shape, dtype=images.dtype)


def change(images, numbers, operations, apply):
    """Change a batch by given random numbers: (N, S, S, 3) uint8 to the same, in the same order.

    The batch is shuffled once. Each operation then takes one of `one_in` pieces of it: for each patch that is as if all were
    drawn independently, and only what changes is copied.
    """
    many, *shape = ops.shape(images)
    order = ops.argsort(numbers["order"])
    images = ops.take(images, order, axis=0)
    for name, operation in operations.items():
        where, even = numbers[name]
        some = many // operation.one_in
        if isinstance(some, int) and some == 0:  # a batch too small for it
            continue
        start = (some * ops.cast(where * operation.one_in, "int32"), 0, 0, 0)
        changed = apply[name](ops.slice(images, start, (some, *shape)), even, numbers["field"])
        images = changed if operation.one_in == 1 else ops.slice_update(images, start, changed)
    return ops.take(images, ops.argsort(order), axis=0)


def symmetry(images):
    """Let each eighth of a batch lie in another of the eight ways of a square: the centre stays, the label holds exactly."""
    many = ops.shape(images)[0]
    parts = []
    for way in range(8):
        part = images[many * way // 8 : many * (way + 1) // 8]
        part = part[:, ::-1] if way & 1 else part
        part = part[:, :, ::-1] if way & 2 else part
        parts.append(ops.transpose(part, (0, 2, 1, 3)) if way & 4 else part)
    return ops.concatenate(parts, axis=0)


def affine(images, matrix):
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
    left, top = ops.floor(x), ops.floor(y)
    pixels = ops.reshape(images, (-1, 3))
    first = (ops.arange(ops.shape(images)[0]) * side * side)[:, None, None]

    def at(row, column):
        row, column = (_mirror(ops.cast(place, "int32"), side - 1) for place in (row, column))
        return ops.cast(ops.take(pixels, first + row * side + column, axis=0), "float32")

    right, below = (x - left)[..., None], (y - top)[..., None]
    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return _grey(upper * (1 - below) + lower * below)


def affine_matrix(zoom, turn, shear, shift):
    """(K, 2, 3) of `affine`: zoom and shift (K, 2) in x and y, turn and shear (K,) in radians."""
    cosine, sine, slant = ops.cos(turn), ops.sin(turn), ops.tan(shear)
    rows = (
        (cosine / zoom[:, 0], (cosine * slant - sine) / zoom[:, 1], shift[:, 0]),
        (sine / zoom[:, 0], (sine * slant + cosine) / zoom[:, 1], shift[:, 1]),
    )
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=1)


def blur(images, sigma):
    """Gaussian blur over five pixels, sigma (K,) in pixels, mirrored at the border."""
    weights = ops.exp(-0.5 * (np.arange(3, dtype="float32") / sigma[:, None]) ** 2)
    weights = weights / (weights[:, :1] + 2 * weights[:, 1:2] + 2 * weights[:, 2:])
    near = [weights[:, k, None, None] for k in range(3)]
    values = _rows(images)
    for axis, step in ((1, 1), (2, 3)):
        taps = _shifted(values, axis, 2, step)
        values = near[0] * taps[2] + near[1] * (taps[1] + taps[3]) + near[2] * (taps[0] + taps[4])
    return _like(images, values)


def sharpen(images, strength):
    """Add strength (K,) times the difference between eight times a pixel and the sum of its eight neighbours."""
    values = _rows(images)
    box = sum(_shifted(values, 1, 1, 1))
    box = sum(_shifted(box, 2, 1, 3))
    return _like(images, values + strength[:, None, None] * (9 * values - box))


def noise(images, spread, field, start):
    """Add Gaussian noise of standard deviation spread (K,).

    To draw a number for each value would take longer than all else together: one field (S·S·3,) serves the batch, and each
    patch reads it from its own start (K,) int32.
    """
    place = start[:, None] + ops.arange(field.shape[0])
    grain = ops.take(ops.concatenate([field, field]), place)
    values = ops.cast(ops.reshape(images, (-1, field.shape[0])), "float32")
    return _like(images, values + spread[:, None] * grain)


def holes(images, hole):
    """Blacken squares of 8×8 pixels where hole (K, S/8, S/8) is true."""
    across = hole.shape[1]
    keep = ops.cast(ops.logical_not(hole), "uint8")[:, :, None, :, None]
    return ops.reshape(ops.reshape(images, (-1, across, HOLE, across, HOLE * 3)) * keep, ops.shape(images))


def brightness(images, factor):
    """Multiply by factor (K,)."""
    return _like(images, _rows(images) * factor[:, None, None])


def contrast(images, factor):
    """Multiply the distance from mid-grey by factor (K,)."""
    return _like(images, 128 + (_rows(images) - 128) * factor[:, None, None])


def stain(images, factor, offset):
    """Vary the stain: multiply the optical density of each colour channel by factor (K, 3), and add offset (K, 3).

    Light is absorbed exponentially (Beer-Lambert), so more dye multiplies the optical density, not the pixel value; glass
    stays white.
    """
    side = images.shape[1]
    factor, offset = (ops.tile(each, (1, side))[:, None] for each in (factor, offset))
    density = -ops.log(ops.maximum(_rows(images), 1) / 255)  # natural logarithms: the offset alone is in powers of ten
    return _like(images, 255 * ops.exp(-density * factor - math.log(10) * offset))


def _rows(images):
    """Pixels of a row side by side, as float32: an inner dimension of three colours would keep compilers from vectors."""
    side = images.shape[1]
    return ops.cast(ops.reshape(images, (-1, side, side * 3)), "float32")


def _like(images, values):
    return ops.reshape(_grey(values), ops.shape(images))


def _shifted(values, axis, reach, step):
    """The values moved by -reach … reach pixels along an axis, mirrored at its ends; step is the width of a pixel."""
    length = values.shape[axis]
    cut = lambda start, end: values[:, start:end] if axis == 1 else values[:, :, start:end]
    before = [cut(k * step, (k + 1) * step) for k in range(reach, 0, -1)]
    after = [cut(length - (k + 1) * step, length - k * step) for k in range(1, reach + 1)]
    padded = ops.concatenate([*before, values, *after], axis=axis)
    ends = ((k * step, k * step + length) for k in range(2 * reach + 1))
    return [padded[:, start:end] if axis == 1 else padded[:, :, start:end] for start, end in ends]


def _mirror(place, last):
    place = ops.abs(place)
    return ops.minimum(place, 2 * last - place)


def _grey(values):
    return ops.cast(ops.clip(values, 0, 255) + 0.5, "uint8")


def _spread(even, ends):
    lowest, highest = ends
    return lowest + (highest - lowest) * even


# From evenly drawn numbers (K, columns) and a field of noise to each operation's quantities.


def _random_affine(images, even, field, zoom, turn, shear, shift):
    angles = (_spread(even[:, k], np.radians(ends).tolist()) for k, ends in ((2, turn), (3, shear)))
    return affine(images, affine_matrix(_spread(even[:, :2], zoom), *angles, _spread(even[:, 4:], shift)))


def _random_noise(images, even, field, spread):
    return noise(images, _spread(even[:, 0], spread), field, ops.cast(even[:, 1] * field.shape[0], "int32"))


def _random_holes(images, even, field, share):
    across = images.shape[1] // HOLE
    cells = ops.reshape(even[:, 1:], (-1, across, across))
    return holes(images, cells < _spread(even[:, 0], share)[:, None, None])


def _random_stain(images, even, field, factor, offset):
    return stain(images, _spread(even[:, :3], factor), _spread(even[:, 3:], offset))


_COLUMNS = {"affine": 6, "noise": 2, "holes": 145, "stain": 6}
_APPLY = {
    "symmetry": lambda images, even, field: symmetry(images),
    "affine": _random_affine,
    "blur": lambda images, even, field, sigma: blur(images, _spread(even[:, 0], sigma)),
    "sharpen": lambda images, even, field, strength: sharpen(images, _spread(even[:, 0], strength)),
    "noise": _random_noise,
    "holes": _random_holes,
    "brightness": lambda images, even, field, factor: brightness(images, _spread(even[:, 0], factor)),
    "contrast": lambda images, even, field, factor: contrast(images, _spread(even[:, 0], factor)),
    "stain": _random_stain,
}

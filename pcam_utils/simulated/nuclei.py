"""The cells of simulated tissue: where they lie, and how they take up the two dyes."""

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

from .noise import scatter, smooth_noise

LYMPH, SINUS, FOLLICLE, HISTIOCYTES, STROMA, FAT, BLANK, TUMOUR = range(8)  # kinds of tissue
REACH = 4.5  # pixels from the outline of a nucleus that still belong to its cell
LARGE = 3.6  # radius in pixels from which the borders of a cell show


@dataclass
class _Nuclei:
    """One row per nucleus; lengths in pixels (about 1 micrometre each), angles in radians."""

    y: np.ndarray
    x: np.ndarray
    radius: np.ndarray
    stretch: np.ndarray  # long axis over short axis
    angle: np.ndarray
    dark: np.ndarray  # haematoxylin at the fullest
    hollow: np.ndarray  # 0: filled, 1: a pale interior with a dark rim
    grain: np.ndarray  # coarseness of the chromatin

    @classmethod
    def join(cls, parts):
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def place_nuclei(rng, kinds, lumen, flow):
    """All nuclei of a slide, kind by kind."""
    size = len(kinds)
    # Some places are less crowded than others.
    crowding = np.clip(1.05 - rng.uniform(0, 0.35) * (smooth_noise(rng, size, 60) + 0.7), 0.2, 1)

    def spots(spacing, shares):
        y, x = scatter(rng, size, spacing)
        share = np.zeros(8)
        for kind, value in shares.items():
            share[kind] = value
        at = y.astype(int), x.astype(int)
        keep = rng.random(len(y)) < share[kinds[at]] * crowding[at]
        return y[keep], x[keep]

    def direction(y, x):
        return flow[y.astype(int), x.astype(int)] + rng.normal(0, 0.25, len(y))

    parts = [_lymphocytes(rng, spots)]
    blasts = spots(8.8, {FOLLICLE: 0.9, LYMPH: 0.01, SINUS: 0.15})
    parts.append(
        _nuclei(
            rng, *blasts, radius=rng.uniform(3.2, 3.8), stretch=1.2, dark=0.5, hollow=rng.uniform(0.3, 0.6), grain=0.3
        )
    )
    pale = spots(11.5, {HISTIOCYTES: 0.75, SINUS: 0.25, FOLLICLE: 0.05, LYMPH: 0.02})
    parts.append(_nuclei(rng, *pale, radius=rng.uniform(2.9, 3.6), stretch=1.6, dark=0.4, hollow=0.55, grain=0.2))
    spindles = spots(10.5, {STROMA: rng.uniform(0.2, 0.6), FAT: 0.02, TUMOUR: 0.03, SINUS: 0.12, LYMPH: 0.01})
    parts.append(
        _nuclei(
            rng,
            *spindles,
            radius=1.8,
            stretch=3.2,
            dark=0.6,
            hollow=0.1,
            grain=0.2,
            angle=direction(*spindles),
            spread=0.2,
        )
    )
    parts.append(_tumour_nuclei(rng, spots, direction))
    nuclei = _Nuclei.join(parts)
    inside = ndimage.maximum_filter(lumen, 7)[nuclei.y.astype(int), nuclei.x.astype(int)]
    return _Nuclei(*(getattr(nuclei, f.name)[~inside] for f in fields(nuclei)))


def _lymphocytes(rng, spots):
    """Small, round, dark nuclei, also the few of them within other tissue."""
    y, x = spots(
        rng.uniform(5.9, 7.2),
        {
            LYMPH: 0.93,
            SINUS: 0.3,
            FOLLICLE: 0.18,
            HISTIOCYTES: 0.2,
            STROMA: rng.uniform(0, 0.1),
            FAT: 0.01,
            TUMOUR: rng.choice([0.03, 0.1, 0.25]),
        },
    )
    return _nuclei(
        rng,
        y,
        x,
        radius=rng.uniform(2.35, 2.9),
        stretch=1.15,
        dark=rng.uniform(0.6, 1.0),
        hollow=rng.uniform(0.02, 0.15),
        grain=0.25,
        spread=0.14,
    )


def _tumour_nuclei(rng, spots, direction):
    """Large, uneven nuclei. How large, pale and uneven they are depends on the slide."""
    radius = rng.uniform(3.5, 5.2)
    y, x = spots(radius * rng.uniform(2.3, 3.1), {TUMOUR: 0.96})
    pale = rng.random() < 0.75
    return _nuclei(
        rng,
        y,
        x,
        radius=radius,
        stretch=rng.uniform(1.2, 1.6),
        dark=rng.uniform(0.38, 0.65) if pale else rng.uniform(0.5, 0.75),
        hollow=rng.uniform(0.35, 0.65) if pale else 0.15,
        grain=0.16,
        angle=direction(y, x) if rng.random() < 0.4 else None,
        spread=rng.uniform(0.1, 0.25),
    )


def _nuclei(rng, y, x, *, radius, stretch, dark, hollow, grain, angle=None, spread=0.1):
    """Nuclei at (y, x) that vary about the given means."""
    n = len(y)
    if angle is None:
        angle = rng.uniform(0, np.pi, n)
    return _Nuclei(
        y=y,
        x=x,
        radius=radius * np.exp(rng.normal(0, spread, n)),
        stretch=1 + (stretch - 1) * rng.uniform(0.4, 1.6, n),
        angle=angle,
        dark=dark * np.exp(rng.normal(0, 0.14, n)),
        hollow=np.clip(hollow + rng.normal(0, 0.12, n), 0, 0.95) * (hollow > 0),
        grain=np.full(n, float(grain)),
    )


def add_nuclei(rng, nuclei, haematoxylin, eosin):
    """Draw the nuclei into the dye maps (changed in place)."""
    size = len(haematoxylin)
    distance, second, owner = _claim_pixels(rng, nuclei, size)
    ragged = 0.22 * smooth_noise(rng, size, 0.8)
    distance, second = distance + ragged, second + ragged
    dark, hollow, grain, radius = (
        np.float32(a)[owner] for a in (nuclei.dark, nuclei.hollow, nuclei.grain, nuclei.radius)
    )
    inside = np.clip(0.5 - distance / 1.5, 0, 1)
    inside *= np.clip(0.5 + (second - distance) / 1.3, 0, 1)  # a thin seam between neighbours
    rim = np.exp(-(((distance + 0.7) / 0.8) ** 2))
    chromatin = 1 + grain * (0.7 * smooth_noise(rng, size, 0.4) + 0.5 * smooth_noise(rng, size, 1.3))
    spot = np.clip(smooth_noise(rng, size, 0.8) - 1.5, 0, 1) * (distance < -1.5)  # nucleoli
    body = dark * (1 - hollow * (1 - rim)) * np.clip(chromatin, 0.3, 2) + spot * hollow * 1.1
    # Borders of large cells: a membrane on some slides, a shrinkage crack on others.
    border = (radius > LARGE) & (second < REACH) & (distance > 0.5)
    border = ndimage.gaussian_filter(border * np.exp(-(((second - distance) / 1.0) ** 2)), 0.5)
    eosin *= np.clip(1 + rng.uniform(-1.2, 0.7) * border, 0.05, None)
    # Cells shrink away from what lies around them: a light halo.
    halo = 1 - rng.uniform(0.15, 0.75) * np.exp(-(((distance - 1.4) / 0.9) ** 2))
    eosin *= halo
    haematoxylin *= halo * (1 - 0.7 * inside)
    haematoxylin += inside * body
    eosin += inside * (0.12 - 0.3 * eosin)


def add_red_cells(rng, kinds, haematoxylin, eosin):
    """Strew red blood cells into lumina and, here and there, into the tissue."""
    size = len(kinds)
    y, x = scatter(rng, size, 6.0)
    leak = smooth_noise(rng, size, 25)[y.astype(int), x.astype(int)] > rng.choice([2.3, 3.0, 4])
    keep = leak | (kinds[y.astype(int), x.astype(int)] == BLANK) & (rng.random(len(y)) < 0.01)
    cells = _nuclei(rng, y[keep], x[keep], radius=2.5, stretch=1.2, dark=0.5, hollow=0, grain=0)
    distance, _, owner = _claim_pixels(rng, cells, size)
    if not len(y[keep]):
        return
    inside = np.clip(0.6 - distance, 0, 1)
    dimple = np.clip(1.3 + 0.25 * distance, 0.6, 1.1)
    eosin += inside * dimple * cells.dark[owner].astype(np.float32)
    haematoxylin *= 1 - 0.9 * inside


def _claim_pixels(rng, nuclei, size):
    """Which nucleus each pixel is nearest to.

    Returns three (size, size) maps: the distance to the outline of the nearest nucleus (pixels,
    negative inside, at most `REACH`), the same for the second nearest, and the nearest one's row.
    """
    first = np.full(size * size, REACH, np.float32)
    second = first.copy()
    owner = np.zeros(size * size, np.int64)
    wave = rng.normal(0, 0.06, (2, len(nuclei.y)))
    phase = rng.uniform(0, 2 * np.pi, (2, len(nuclei.y)))
    claims = []
    margin = np.where(nuclei.radius > LARGE, REACH, 3)
    reach = nuclei.radius * np.sqrt(nuclei.stretch) * 1.15 + margin
    edges = [0, 6, 8, 10, 13, 16, 400]
    for low, high in zip(edges, edges[1:]):  # windows of like size, so that few pixels are wasted
        rows = np.flatnonzero((reach > low) & (reach <= high))
        if len(rows):
            claims.append(_distances(nuclei, rows, wave, phase, int(np.ceil(reach[rows].max())), size))
    if claims:
        pixel, distance, row = (np.concatenate(c) for c in zip(*claims))
        np.minimum.at(first, pixel, distance)
        won = distance == first[pixel]
        owner[pixel[won]] = row[won]
        np.minimum.at(second, pixel[~won], distance[~won])
    return first.reshape(size, size), second.reshape(size, size), owner.reshape(size, size)


def _distances(nuclei, rows, wave, phase, reach, size):
    """Pixels within `REACH` of the outline of the nuclei in ``rows``: their index, distance and row."""
    offset = np.arange(-reach, reach + 1)
    y = np.rint(nuclei.y[rows]).astype(int)[:, None, None] + offset[:, None]
    x = np.rint(nuclei.x[rows]).astype(int)[:, None, None] + offset
    dy = (y - nuclei.y[rows, None, None]).astype(np.float32)
    dx = (x - nuclei.x[rows, None, None]).astype(np.float32)
    columns = [
        a[..., None, None].astype(np.float32)
        for a in (
            np.cos(nuclei.angle[rows]),
            np.sin(nuclei.angle[rows]),
            np.sqrt(nuclei.stretch[rows]),
            nuclei.radius[rows],
            *wave[:, rows],
            *phase[:, rows],
        )
    ]
    cos, sin, root, radius, wave2, wave3, phase2, phase3 = columns
    u, v = (dx * cos + dy * sin) / root, (dy * cos - dx * sin) * root
    turn = np.arctan2(v, u)
    outline = 1 + wave2 * np.cos(2 * turn + phase2) + wave3 * np.cos(3 * turn + phase3)
    distance = np.hypot(u, v) - radius * outline
    use = (distance < REACH) & (y >= 0) & (y < size) & (x >= 0) & (x < size)
    row = np.broadcast_to(rows[:, None, None], use.shape)
    return (y * size + x)[use], distance[use], row[use]

"""Simulated lymph-node tissue: one seed makes a stained picture and the outline of the tumour in it."""

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..errors import InputError

# Measured on 3,000 training patches of PCam (CC0), in optical density, OD = -log10((I + 1) / (W + 1))
# for white W, of the pixels whose OD has a norm above 0.15. A mixture of two Gaussians on the mean
# OD direction of a patch tells the two centres apart: 38 % of the patches are blue-purple, 62 %
# brown-pink. Stain vectors (R G B): median and spread (1.48 x median absolute deviation) over the
# patches of a centre; the red of a single patch is measured badly, so its spread is cut to 0.04 for
# haematoxylin and 0.05 for eosin. Eosin: mean direction of the tenth of the pixels that absorb the
# least red. Haematoxylin: that of the darkest tenth, the nuclei, less the fifth of eosin in them.
# White: median and spread of the flat bright areas of 6,000 patches. Strength of the two dyes: chosen
# so that the mean colour of a centre's simulated patches is that of its real ones.
CENTRES = {
    "purple": {
        "haematoxylin": ((0.520, 0.803, 0.292), (0.040, 0.030, 0.021)),
        "eosin": ((0.202, 0.954, 0.214), (0.050, 0.025, 0.030)),
        "white": ((224.0, 222.0, 227.0), 6.0),
        "strength": (0.9, 1.1),
    },
    "brown": {
        "haematoxylin": ((0.490, 0.727, 0.482), (0.032, 0.020, 0.023)),
        "eosin": ((0.284, 0.814, 0.502), (0.050, 0.019, 0.017)),
        "white": ((245.0, 245.0, 243.0), 4.4),
        "strength": (1.0, 1.0),
    },
}
PURPLE_SHARE = 0.38
SMALLEST_SLIDE = 96  # pixels: one patch
TILE = 400  # pixels
REACH = 6.0  # pixels from the outline of a nucleus that still belong to its cell

LYMPH, SINUS, FOLLICLE, HISTIOCYTES, STROMA, FAT, BLANK, TUMOUR = range(8)

# Dye between the nuclei by kind of tissue, in the same order (1 = optical density of norm 1).
HAEMATOXYLIN_BETWEEN = np.array([0.12, 0.03, 0.14, 0.05, 0.03, 0.0, 0.0, 0.09], np.float32)
EOSIN_BETWEEN = np.array([0.12, 0.05, 0.14, 0.15, 0.22, 0.01, 0.0, 0.19], np.float32)
# How often the tissue between the nuclei is torn open to white.
OPENNESS = np.array([0.55, 0.9, 0.35, 0.35, 0.3, 0.0, 0.0, 0.15], np.float32)


@dataclass(frozen=True)
class Slide:
    """A simulated piece of a slide: ``image`` (uint8), ``tumour`` (bool mask) and ``name``."""

    image: np.ndarray
    tumour: np.ndarray
    name: str


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


def render_slide(seed, *, size=1024, tumour=True):
    """Render one simulated slide.

    Parameters
    ----------
    seed : int or sequence of int
        What the slide looks like: its tissue, stain and focus. The last number names the slide.
    size : int
        Height and width in pixels, at least 96; one pixel is about one micrometre.
    tumour : bool
        Whether the node holds a metastasis.

    Returns
    -------
    Slide
        ``image`` (size, size, 3) uint8 RGB, ``tumour`` (size, size) bool, and ``name``,
        ``"simulated_slide_007"`` for seed 7 or (0, 7).

    Raises
    ------
    InputError
        If ``size`` is not a whole number of at least 96, or a seed is negative.

    Examples
    --------
    >>> slide = render_slide(3, size=128)
    >>> slide.image.shape, slide.image.dtype.name, slide.tumour.shape, slide.name
    ((128, 128, 3), 'uint8', (128, 128), 'simulated_slide_003')
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < SMALLEST_SLIDE:
        raise InputError(
            f"A slide of size {size!r} cannot be rendered: give a whole number of pixels, {SMALLEST_SLIDE} or more."
        )
    numbers = [int(n) for n in np.atleast_1d(seed)]
    if min(numbers) < 0:
        raise InputError(f"The seed {seed!r} is negative: give whole numbers from 0 up.")
    rng = np.random.default_rng(numbers)
    kinds, mask, lumen = _lay_out(rng, size, tumour)
    membranes = _grow_fat(rng, kinds, mask)
    flow, fibres = _fibres(rng, kinds)
    haematoxylin, eosin = _ground(rng, kinds, fibres)
    eosin += membranes * rng.uniform(0.12, 0.4)
    haematoxylin += membranes * 0.06
    nuclei = _place_nuclei(rng, kinds, lumen, flow)
    _add_nuclei(rng, nuclei, haematoxylin, eosin)
    _add_red_cells(rng, kinds, haematoxylin, eosin)
    image = _photograph(rng, haematoxylin, eosin)
    return Slide(image=image, tumour=mask, name=f"simulated_slide_{numbers[-1]:03d}")


# --- where things are -------------------------------------------------------------------------


def _smooth_noise(rng, size, scale):
    """A random field of mean 0 and spread 1 that changes over some ``scale`` pixels."""
    if scale < 8:
        # A tile of fine texture, repeated further apart than a patch is wide: four times as fast.
        tile = rng.standard_normal((TILE, TILE), np.float32)
        tile = ndimage.gaussian_filter(tile, scale, mode="wrap") / _spread_left(scale)
        times = -(-size // TILE)
        return np.tile(tile, (times, times))[:size, :size]
    # Coarse noise stretched: as smooth, and many times faster than a wide filter.
    step = scale / 3
    coarse = rng.standard_normal((int(size / step) + 8,) * 2, np.float32)
    coarse = ndimage.gaussian_filter(coarse, 3, mode="wrap") / _spread_left(3)
    at = (np.arange(size) + rng.uniform(0, step)) / step + 1
    low = at.astype(int)
    part = (at - low).astype(np.float32)
    rows = coarse[low] * (1 - part[:, None]) + coarse[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _spread_left(sigma):
    """What a Gaussian filter leaves of the spread of white noise."""
    impulse = np.zeros(2 * int(4 * sigma) + 9)
    impulse[len(impulse) // 2] = 1
    return np.float32((ndimage.gaussian_filter1d(impulse, sigma) ** 2).sum())


def _discs(rng, size, per_megapixel, radius, wobble):
    """Signed distance (pixels, negative inside) to some wobbly discs of radii in ``radius``."""
    count = rng.poisson(per_megapixel * (size / 1000) ** 2)
    distance = np.full((size, size), 50.0, np.float32)
    for y, x, r in zip(*rng.uniform(0, size, (2, count)), rng.uniform(*radius, count)):
        top, left = max(int(y - r - 25), 0), max(int(x - r - 25), 0)
        window = distance[top : int(y + r + 25), left : int(x + r + 25)]
        rows, columns = np.ogrid[: window.shape[0], : window.shape[1]]
        away = np.hypot(rows + top - y, columns + left - x) - r
        np.minimum(window, away.astype(np.float32), out=window)
    return distance + wobble * _smooth_noise(rng, size, 25)


def _lay_out(rng, size, tumour):
    """Kinds of tissue (size, size) uint8, the tumour mask, and the lumina of its glands."""
    kinds = np.full((size, size), LYMPH, np.uint8)

    def share(field, part):
        return field > np.quantile(field[::4, ::4], 1 - part)

    kinds[share(_smooth_noise(rng, size, 80), rng.uniform(0, 0.45))] = HISTIOCYTES
    kinds[share(-np.abs(_smooth_noise(rng, size, 90)), rng.uniform(0, 0.2))] = SINUS
    kinds[_discs(rng, size, rng.choice([0, 6, 14]), (45, 95), 6) < 0] = FOLLICLE
    capsule = _smooth_noise(rng, size, 160) + 0.06 * _smooth_noise(rng, size, 7)
    fat = rng.choice([0, 0.12, 0.3]) * rng.uniform(0.5, 1.3)
    kinds[share(capsule, fat + rng.uniform(0.05, 0.3))] = STROMA
    kinds[share(-np.abs(_smooth_noise(rng, size, 110)), rng.uniform(0, 0.08))] = STROMA
    mask, lumen = np.zeros((size, size), bool), np.zeros((size, size), bool)
    if tumour:
        mask, lumen = _grow_tumour(rng, kinds)
    kinds[share(capsule, fat) & ~mask] = FAT
    vessel = _discs(rng, size, 9, (6, 24), 2)
    kinds[(vessel < 6) & ~mask] = STROMA
    kinds[(vessel < 0) & ~mask] = BLANK
    edge = _smooth_noise(rng, size, 120) + 0.05 * _smooth_noise(rng, size, 5)
    kinds[share(edge, rng.choice([0, 0.2]) * rng.uniform(0.3, 1)) & ~mask] = BLANK
    return kinds, mask, lumen


def _grow_tumour(rng, kinds):
    """Put tumour nests into ``kinds`` (changed in place); return their mask and their lumina."""
    size = len(kinds)
    region = _smooth_noise(rng, size, 120)
    region = region > np.quantile(region, rng.uniform(0.4, 0.7))
    nest_scale = rng.choice([14, 22, 34, 55])
    share = rng.uniform(0.45, 0.9)
    nests = _smooth_noise(rng, size, nest_scale) + 0.15 * _smooth_noise(rng, size, 6)
    nests = region & (nests > np.quantile(nests, 1 - share))
    nests = ndimage.binary_opening(nests, iterations=3)
    if rng.random() < 0.6:  # the node often answers with scar tissue between the nests
        kinds[region] = STROMA
    kinds[nests] = TUMOUR
    lumen = np.zeros_like(nests)
    if rng.random() < 0.4:
        lumen = (_discs(rng, size, 250, (4, 12), 2) < 0) & ndimage.minimum_filter(nests, 17)
        kinds[lumen] = BLANK
    return nests, lumen


def _fibres(rng, kinds):
    """Direction of the fibres (radians) and their texture (mean 0, spread 1; 0 outside stroma)."""
    size = len(kinds)
    turn = rng.uniform(0, np.pi)
    rows, columns = np.ogrid[:size, :size]
    along = columns * np.cos(turn) + rows * np.sin(turn) + 30 * _smooth_noise(rng, size, 50)
    across = (
        rows * np.cos(turn)
        - columns * np.sin(turn)
        + 45 * _smooth_noise(rng, size, 90)
        + 5 * _smooth_noise(rng, size, 14)
    )
    slope_rows, slope_columns = np.gradient(across.astype(np.float32))
    direction = np.arctan2(-slope_columns, slope_rows)
    stroma = ndimage.maximum_filter(kinds == STROMA, 7)
    along, across = along[stroma], across[stroma]
    texture = np.zeros((size, size), np.float32)
    # Bundles, and the finer strands that they are made of.
    for width, length, weight in ((2.0, 16, 0.55), (0.8, 7, 0.85)):
        table = rng.standard_normal((512, 512), np.float32)
        table = ndimage.gaussian_filter(table, (width, 1.2), mode="wrap")
        table *= weight / table.std()
        at = [across % 511, (along / length) % 511]
        texture[stroma] += ndimage.map_coordinates(table, at, order=1)
    return direction, texture


# --- what lies between the nuclei ---------------------------------------------------------------


def _ground(rng, kinds, fibres):
    """Amounts of haematoxylin and of eosin before there are nuclei: two float32 maps."""
    size = len(kinds)
    vary = np.exp(rng.normal(0, 0.35, (2, 8))).astype(np.float32)
    haematoxylin = ndimage.gaussian_filter((HAEMATOXYLIN_BETWEEN * vary[0])[kinds], 1.5)
    eosin = ndimage.gaussian_filter((EOSIN_BETWEEN * vary[1])[kinds], 1.0)
    torn = ndimage.gaussian_filter((OPENNESS * rng.uniform(0.5, 1.6, 8).astype(np.float32))[kinds], 1.5)
    fine, cells = _smooth_noise(rng, size, 0.9), _smooth_noise(rng, size, 2.6)
    # Shrinking tissue tears along thin winding cracks, and here and there into holes.
    cracks = np.exp(-((cells / 0.35) ** 2))
    holes = np.clip(_smooth_noise(rng, size, 4.5) - 0.9, 0, 1)
    cover = np.clip(1.1 + 0.3 * fine + 0.2 * cells - torn * (1.1 * cracks + 1.3 * holes), 0.04, 2)
    stroma = ndimage.gaussian_filter((kinds == STROMA).astype(np.float32), 1.0)
    # From loose wavy strands to dense scar, whose strands hardly show.
    dense = np.clip(rng.uniform(0, 1) + 0.35 * _smooth_noise(rng, size, 60), 0, 1)
    strands = 0.55 + 0.85 * dense + (0.45 - 0.22 * dense) * fibres + 0.15 * fine
    slits = np.clip(4 * holes + 2 * np.clip(-1.5 - fibres, 0, 1), 0, 1.3)
    strands = np.clip(strands - dense * slits, 0.05, 2.2)
    cover = cover * (1 - stroma) + strands * stroma
    shade = 1 + 0.2 * _smooth_noise(rng, size, 30)
    return haematoxylin * cover, eosin * cover * np.clip(shade, 0.4, 1.6)


def _grow_fat(rng, kinds, mask):
    """Round the fat off to whole cells (``kinds`` changed in place); return their membranes."""
    size = len(kinds)
    membranes = np.zeros((size, size), np.float32)
    spacing = rng.uniform(48, 75)
    wide = ndimage.maximum_filter(kinds == FAT, int(spacing)) & ~mask
    rows, columns = np.nonzero(wide)
    if not len(rows):
        return membranes
    seeds = np.stack(_scatter(rng, size, spacing, margin=spacing), 1)
    inner = np.clip(seeds.astype(int), 0, size - 1)
    is_fat = kinds[inner[:, 0], inner[:, 1]] == FAT
    bend = 2.0 * _smooth_noise(rng, size, 14)[rows, columns]
    near, seed = cKDTree(seeds).query(np.stack([rows + bend, columns - bend], 1), k=3)
    kinds[wide & (kinds == FAT)] = STROMA
    in_fat = is_fat[seed[:, 0]]
    kinds[rows[in_fat], columns[in_fat]] = FAT
    walls = (near[:, 1:] - near[:, :1]) / 2
    round_off = 2.5  # pixels: three cells meet in a rounded corner
    wall = -round_off * np.log(np.exp(-walls / round_off).sum(1))
    line = np.exp(-(np.clip(wall + 0.5, 0, None) ** 2) / rng.uniform(0.3, 1.8))
    line *= np.clip(0.8 + 0.5 * _smooth_noise(rng, size, 12)[rows, columns], 0.1, 1.6)
    membranes[rows, columns] = line * in_fat
    return membranes


def _add_red_cells(rng, kinds, haematoxylin, eosin):
    """Strew red blood cells into lumina and, here and there, into the tissue."""
    size = len(kinds)
    y, x = _scatter(rng, size, 7.0)
    leak = _smooth_noise(rng, size, 25)[y.astype(int), x.astype(int)] > rng.choice([2.0, 2.8, 4])
    keep = leak | (kinds[y.astype(int), x.astype(int)] == BLANK) & (rng.random(len(y)) < 0.01)
    cells = _nuclei(rng, y[keep], x[keep], radius=2.9, stretch=1.2, dark=0.5, hollow=0, grain=0)
    distance, _, owner = _claim_pixels(rng, cells, size)
    if not len(y[keep]):
        return
    inside = np.clip(0.6 - distance, 0, 1)
    dimple = np.clip(1.3 + 0.25 * distance, 0.6, 1.1)
    eosin += inside * dimple * cells.dark[owner].astype(np.float32)
    haematoxylin *= 1 - 0.9 * inside


# --- nuclei -------------------------------------------------------------------------------------


def _scatter(rng, size, spacing, margin=0.0):
    """Points (y, x) packed about ``spacing`` pixels apart: at random, but none too close."""
    rows = np.arange(-margin, size + margin, spacing * 0.866)
    columns = np.arange(-margin, size + margin, spacing)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([y.ravel(), x.ravel()], 1) + rng.normal(0, 0.4 * spacing, (y.size, 2))
    for _ in range(3):  # points that are too close push each other away
        first, second = cKDTree(points).query_pairs(0.9 * spacing, output_type="ndarray").T
        gap = points[first] - points[second]
        length = np.hypot(*gap.T)[:, None] + 1e-3
        push = gap / length * (0.9 * spacing - length) * 0.4
        np.add.at(points, first, push)
        np.add.at(points, second, -push)
    inside = (points >= -margin).all(1) & (points < size + margin).all(1)
    return points[inside].T


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


def _place_nuclei(rng, kinds, lumen, flow):
    """All nuclei of a slide, kind by kind."""
    size = len(kinds)
    # Some places are less crowded than others.
    crowding = np.clip(1.05 - rng.uniform(0, 0.35) * (_smooth_noise(rng, size, 60) + 0.7), 0.2, 1)

    def spots(spacing, shares):
        y, x = _scatter(rng, size, spacing)
        share = np.zeros(8)
        for kind, value in shares.items():
            share[kind] = value
        at = y.astype(int), x.astype(int)
        keep = rng.random(len(y)) < share[kinds[at]] * crowding[at]
        return y[keep], x[keep]

    def direction(y, x):
        return flow[y.astype(int), x.astype(int)] + rng.normal(0, 0.25, len(y))

    round_cells = spots(
        rng.uniform(7.6, 9.2),
        {
            LYMPH: 0.97,
            SINUS: 0.3,
            FOLLICLE: 0.18,
            HISTIOCYTES: 0.2,
            STROMA: rng.uniform(0, 0.1),
            FAT: 0.01,
            TUMOUR: rng.choice([0.02, 0.08, 0.18]),
        },
    )
    parts = [
        _nuclei(
            rng,
            *round_cells,
            radius=rng.uniform(3.4, 4.1),
            stretch=1.15,
            dark=rng.uniform(0.55, 1.05),
            hollow=rng.uniform(0.05, 0.3),
            grain=0.2,
        )
    ]
    blasts = spots(11.5, {FOLLICLE: 0.9, LYMPH: 0.01, SINUS: 0.15})
    parts.append(
        _nuclei(
            rng, *blasts, radius=rng.uniform(4.1, 4.8), stretch=1.2, dark=0.5, hollow=rng.uniform(0.3, 0.6), grain=0.3
        )
    )
    pale = spots(15.0, {HISTIOCYTES: 0.75, SINUS: 0.25, FOLLICLE: 0.05, LYMPH: 0.02})
    parts.append(_nuclei(rng, *pale, radius=rng.uniform(3.7, 4.6), stretch=1.6, dark=0.4, hollow=0.55, grain=0.2))
    spindles = spots(14.0, {STROMA: rng.uniform(0.2, 0.6), FAT: 0.02, TUMOUR: 0.03, SINUS: 0.12, LYMPH: 0.01})
    parts.append(
        _nuclei(
            rng,
            *spindles,
            radius=2.3,
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


def _tumour_nuclei(rng, spots, direction):
    """Large, uneven nuclei; how large, how pale and how uneven is a matter of the slide."""
    radius = rng.uniform(5.8, 8.2)
    y, x = spots(radius * rng.uniform(2.45, 3.3), {TUMOUR: 0.96})
    pale = rng.random() < 0.75
    return _nuclei(
        rng,
        y,
        x,
        radius=radius,
        stretch=rng.uniform(1.2, 1.6),
        dark=rng.uniform(0.35, 0.6) if pale else rng.uniform(0.5, 0.75),
        hollow=rng.uniform(0.3, 0.6) if pale else 0.15,
        grain=0.2,
        angle=direction(y, x) if rng.random() < 0.4 else None,
        spread=rng.uniform(0.1, 0.25),
    )


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
    margin = np.where(nuclei.radius > 4.2, REACH, 3)
    reach = nuclei.radius * np.sqrt(nuclei.stretch) * 1.15 + margin
    edges = [0, 8, 12, 16, 20, 400]
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


def _add_nuclei(rng, nuclei, haematoxylin, eosin):
    """Draw the nuclei into the dye maps (changed in place)."""
    size = len(haematoxylin)
    distance, second, owner = _claim_pixels(rng, nuclei, size)
    ragged = 0.38 * _smooth_noise(rng, size, 1.1)
    distance, second = distance + ragged, second + ragged
    dark, hollow, grain, radius = (
        np.float32(a)[owner] for a in (nuclei.dark, nuclei.hollow, nuclei.grain, nuclei.radius)
    )
    inside = np.clip(0.5 - distance / 1.3, 0, 1)
    inside *= np.clip(0.45 + (second - distance) / 1.5, 0, 1)  # a thin seam between neighbours
    rim = np.exp(-(((distance + 0.9) / 1.0) ** 2))
    chromatin = 1 + grain * (_smooth_noise(rng, size, 0.5) + 0.5 * _smooth_noise(rng, size, 1.3))
    spot = np.clip(_smooth_noise(rng, size, 1.0) - 1.5, 0, 1) * (distance < -2)  # nucleoli
    body = dark * (1 - hollow * (1 - rim)) * np.clip(chromatin, 0.3, 2) + spot * hollow * 1.1
    # Borders of large cells: a membrane on some slides, a shrinkage crack on others.
    border = (radius > 4.2) & (second < REACH) & (distance > 0.5)
    border = ndimage.gaussian_filter(border * np.exp(-(((second - distance) / 1.3) ** 2)), 0.5)
    eosin *= np.clip(1 + rng.uniform(-1.2, 0.7) * border, 0.05, None)
    haematoxylin *= 1 - 0.7 * inside
    haematoxylin += inside * body
    eosin += inside * (0.12 - 0.3 * eosin)


# --- the picture --------------------------------------------------------------------------------


def _photograph(rng, haematoxylin, eosin):
    """Stain, light, focus and sensor: two dye maps to an RGB image (uint8)."""
    size = len(haematoxylin)
    centre = CENTRES["purple" if rng.random() < PURPLE_SHARE else "brown"]
    stains = np.stack([rng.normal(*centre[s]) for s in ("haematoxylin", "eosin")])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    strength = np.exp(rng.normal(0, 0.13) + rng.normal(0, 0.12, 2)) * centre["strength"]
    white = np.minimum(np.array(centre["white"][0]) + rng.normal(0, centre["white"][1]), 254)
    thickness = np.clip(1 + 0.15 * _smooth_noise(rng, size, 90), 0.6, 1.5)
    blur = rng.uniform(0.3, 0.5)
    amounts = [ndimage.gaussian_filter(a * thickness, blur) * s for a, s in zip((haematoxylin, eosin), strength)]
    density = np.stack(amounts, -1) @ stains.astype(np.float32)
    image = white.astype(np.float32) * np.exp(-np.log(np.float32(10)) * density)
    if rng.random() < 0.3:  # a part of the slide lies out of focus
        soft = np.clip(_smooth_noise(rng, size, 80) - rng.uniform(0.5, 2), 0, 1)[..., None]
        image += soft * (ndimage.gaussian_filter(image, (rng.uniform(0.9, 1.7),) * 2 + (0,)) - image)
    # Scanners sharpen, and store brightness in finer detail than colour.
    light = image.mean(2)
    colour = ndimage.gaussian_filter(image - light[..., None], (0.9, 0.9, 0))
    light += rng.uniform(1.0, 2.0) * (light - ndimage.gaussian_filter(light, 1))
    noise = rng.standard_normal(light.shape, np.float32) * rng.uniform(4, 10)
    light += noise * np.clip(1.1 - light / 255, 0.15, 1)
    return np.clip(np.rint(light[..., None] + colour), 0, 255).astype(np.uint8)

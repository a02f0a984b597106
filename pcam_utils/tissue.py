"""Simulated lymph-node tissue: one seed makes a stained picture and the outline of the tumour in it."""

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from pcam_utils.errors import InputError

# Measured on 3,000 training patches of PCam (CC0). Per patch: optical density
# OD = -log10((I + 1) / 256) of the pixels with mean OD above 0.12, the plane of the first two
# eigenvectors, and the 1st and 99th percentile of the angle in it (Macenko). A mixture of two
# Gaussians on the mean OD direction tells the two centres apart: 38 % of the patches are
# blue-purple, 62 % brown-pink. Rows: median and spread (1.48 x median absolute deviation), R G B.
CENTRES = {
    "purple": {
        "haematoxylin": ((0.544, 0.754, 0.356), (0.035, 0.034, 0.041)),
        "eosin": ((0.262, 0.938, 0.211), (0.067, 0.018, 0.038)),
        "white": ((236.0, 233.0, 239.0), 9.0),
    },
    "brown": {
        "haematoxylin": ((0.492, 0.675, 0.554), (0.033, 0.028, 0.024)),
        "eosin": ((0.315, 0.867, 0.382), (0.040, 0.034, 0.061)),
        "white": ((250.0, 248.0, 246.0), 4.0),
    },
}
PURPLE_SHARE = 0.38
SMALLEST_SLIDE = 96  # pixels: one patch

LYMPH, SINUS, FOLLICLE, HISTIOCYTES, STROMA, FAT, BLANK, TUMOUR = range(8)

# Dye between the nuclei by kind of tissue, in the same order (1 = optical density of norm 1).
HAEMATOXYLIN_BETWEEN = np.array([0.16, 0.04, 0.17, 0.07, 0.04, 0.0, 0.0, 0.14], np.float32)
EOSIN_BETWEEN = np.array([0.17, 0.07, 0.18, 0.20, 0.26, 0.01, 0.0, 0.24], np.float32)
# How often the tissue between the nuclei is torn open to white.
OPENNESS = np.array([0.55, 0.9, 0.35, 0.35, 0.3, 0.0, 0.0, 0.22], np.float32)


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
        raise InputError(f"A slide of size {size!r} cannot be rendered: give a whole number of "
                         f"pixels, {SMALLEST_SLIDE} or more.")
    numbers = [int(n) for n in np.atleast_1d(seed)]
    if min(numbers) < 0:
        raise InputError(f"The seed {seed!r} is negative: give whole numbers from 0 up.")
    rng = np.random.default_rng(numbers)
    kinds, mask, lumen = _lay_out(rng, size, tumour)
    flow, fibres = _fibres(rng, size)
    haematoxylin, eosin = _ground(rng, kinds, fibres)
    _add_fat(rng, kinds, haematoxylin, eosin)
    nuclei = _place_nuclei(rng, kinds, lumen, flow)
    _add_nuclei(rng, nuclei, haematoxylin, eosin)
    _add_red_cells(rng, kinds, haematoxylin, eosin)
    image = _photograph(rng, haematoxylin, eosin)
    return Slide(image=image, tumour=mask, name=f"simulated_slide_{numbers[-1]:03d}")


# --- where things are -------------------------------------------------------------------------


def _smooth_noise(rng, size, scale):
    """A random field of mean 0 and spread 1 that changes over some ``scale`` pixels."""
    if scale < 8:
        field = ndimage.gaussian_filter(rng.standard_normal((size, size), np.float32), scale)
    else:
        # Coarse noise stretched: as smooth, and many times faster than a wide filter.
        step = scale / 3
        coarse = rng.standard_normal((int(size / step) + 8,) * 2, np.float32)
        coarse = ndimage.gaussian_filter(coarse, 3)
        at = (np.arange(size, dtype=np.float32) + rng.uniform(0, step)) / step + 1
        low = at.astype(int)
        part = at - low
        rows = coarse[low] * (1 - part[:, None]) + coarse[low + 1] * part[:, None]
        field = rows[:, low] * (1 - part) + rows[:, low + 1] * part
        return ((field - coarse.mean()) / (coarse.std() + 1e-6)).astype(np.float32)
    return (field - field.mean()) / (field.std() + 1e-6)


def _discs(rng, size, per_megapixel, radius, wobble):
    """Signed distance (pixels, negative inside) to some wobbly discs of radii in ``radius``."""
    count = rng.poisson(per_megapixel * (size / 1000) ** 2)
    distance = np.full((size, size), 1e3, np.float32)
    rows, columns = np.ogrid[:size, :size]
    for y, x, r in zip(*rng.uniform(0, size, (2, count)), rng.uniform(*radius, count)):
        np.minimum(distance, np.hypot(rows - y, columns - x).astype(np.float32) - r, out=distance)
    return distance + wobble * _smooth_noise(rng, size, 25)


def _lay_out(rng, size, tumour):
    """Kinds of tissue (size, size) uint8, the tumour mask, and the lumina of its glands."""
    kinds = np.full((size, size), LYMPH, np.uint8)
    kinds[_smooth_noise(rng, size, 60) > rng.uniform(0.5, 1.6)] = HISTIOCYTES
    kinds[np.abs(_smooth_noise(rng, size, 70)) < rng.uniform(0.0, 0.28)] = SINUS
    follicle = _discs(rng, size, rng.choice([0, 4, 9]), (45, 95), 6)
    kinds[follicle < 0] = FOLLICLE
    capsule = _smooth_noise(rng, size, 130)
    kinds[capsule > rng.uniform(0.5, 1.5)] = STROMA
    kinds[np.abs(_smooth_noise(rng, size, 110)) < rng.uniform(0.0, 0.16)] = STROMA
    mask, lumen = np.zeros((size, size), bool), np.zeros((size, size), bool)
    if tumour:
        mask, lumen = _grow_tumour(rng, kinds)
    fat = capsule > rng.uniform(1.0, 2.4)
    kinds[fat & ~mask] = FAT
    vessel = _discs(rng, size, 9, (8, 26), 2)
    kinds[(vessel < 6) & ~mask] = STROMA
    kinds[(vessel < 0) & ~mask] = BLANK
    kinds[(_smooth_noise(rng, size, 120) > rng.uniform(1.5, 2.6)) & ~mask] = BLANK
    return kinds, mask, lumen


def _grow_tumour(rng, kinds):
    """Put tumour nests into ``kinds`` (changed in place); return their mask and their lumina."""
    size = len(kinds)
    region = _smooth_noise(rng, size, 120)
    region = region > np.quantile(region, rng.uniform(0.35, 0.65))
    nest_scale = rng.choice([9, 14, 22, 40])
    share = rng.uniform(0.45, 0.9)
    nests = _smooth_noise(rng, size, nest_scale) + 0.15 * _smooth_noise(rng, size, 6)
    nests = region & (nests > np.quantile(nests, 1 - share))
    nests = ndimage.binary_opening(nests, iterations=5)
    if rng.random() < 0.6:  # the node often answers with scar tissue between the nests
        kinds[region] = STROMA
    kinds[nests] = TUMOUR
    lumen = np.zeros_like(nests)
    if rng.random() < 0.4:
        lumen = (_discs(rng, size, 250, (4, 12), 2) < 0) & ndimage.binary_erosion(nests, iterations=8)
        kinds[lumen] = BLANK
    return nests, lumen


def _fibres(rng, size):
    """Direction of the fibres (radians) and their texture (mean 0, spread 1)."""
    turn = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    along = columns * np.cos(turn) + rows * np.sin(turn) + 30 * _smooth_noise(rng, size, 50)
    across = (rows * np.cos(turn) - columns * np.sin(turn)
              + 45 * _smooth_noise(rng, size, 90) + 2.5 * _smooth_noise(rng, size, 12))
    slope_rows, slope_columns = np.gradient(across)
    direction = np.arctan2(-slope_columns, slope_rows)
    table = ndimage.gaussian_filter(rng.standard_normal((512, 512), np.float32), (1.1, 1.3), mode="wrap")
    table /= table.std()
    texture = ndimage.map_coordinates(table, [across % 511, (along / 18) % 511], order=1)
    return direction, texture


# --- what lies between the nuclei ---------------------------------------------------------------


def _ground(rng, kinds, fibres):
    """Amounts of haematoxylin and of eosin before there are nuclei: two float32 maps."""
    size = len(kinds)
    haematoxylin = ndimage.gaussian_filter(HAEMATOXYLIN_BETWEEN[kinds], 1.5)
    eosin_by_kind = EOSIN_BETWEEN * rng.uniform(0.75, 1.3, 8).astype(np.float32)
    eosin = ndimage.gaussian_filter(eosin_by_kind[kinds], 1.2)
    fine, coarse = _smooth_noise(rng, size, 1.2), _smooth_noise(rng, size, 3.5)
    torn = ndimage.gaussian_filter(OPENNESS[kinds], 2)
    cover = np.clip(1.25 - torn * (1.0 + 0.9 * coarse + 0.4 * fine), 0.05, 1.3)
    stroma = ndimage.gaussian_filter((kinds == STROMA).astype(np.float32), 1.5)
    strands = np.clip(1 + 0.55 * fibres + 0.25 * coarse, 0.1, 2.2)
    cover = cover * (1 - stroma) + strands * stroma
    shade = 1 + 0.25 * _smooth_noise(rng, size, 30)
    return haematoxylin * cover, eosin * cover * np.clip(shade, 0.4, 1.6)


def _add_fat(rng, kinds, haematoxylin, eosin):
    """Draw the membranes of fat cells as the walls between seeds (maps changed in place)."""
    rows, columns = np.nonzero(kinds == FAT)
    if not len(rows):
        return
    size = len(kinds)
    spacing = rng.uniform(48, 75)
    seeds = np.stack(_scatter(rng, size, spacing, margin=spacing), 1)
    bend = 2.0 * _smooth_noise(rng, size, 14)[rows, columns]
    near = cKDTree(seeds).query(np.stack([rows + bend, columns - bend], 1), k=3)[0]
    walls = (near[:, 1:] - near[:, :1]) / 2
    round_off = 2.5  # pixels: three cells meet in a rounded corner
    wall = -round_off * np.log(np.exp(-walls / round_off).sum(1))
    line = np.exp(-np.clip(wall + 0.5, 0, None) ** 2 / rng.uniform(0.8, 2.5)).astype(np.float32)
    eosin[rows, columns] += line * rng.uniform(0.12, 0.4)
    haematoxylin[rows, columns] += line * 0.08


def _add_red_cells(rng, kinds, haematoxylin, eosin):
    """Strew red blood cells into lumina and, here and there, into the tissue."""
    size = len(kinds)
    y, x = _scatter(rng, size, 7.0)
    leak = _smooth_noise(rng, size, 25)[y.astype(int), x.astype(int)] > rng.uniform(1.8, 3.2)
    keep = (leak | (kinds[y.astype(int), x.astype(int)] == BLANK) & (rng.random(len(y)) < 0.04))
    cells = _nuclei(rng, y[keep], x[keep], radius=2.9, stretch=1.2, dark=1.0, hollow=0, grain=0)
    distance, _, owner = _claim_pixels(rng, cells, size)
    inside = np.clip(0.6 - distance, 0, 1)
    eosin += inside * 0.45
    haematoxylin *= 1 - 0.8 * inside


# --- nuclei -------------------------------------------------------------------------------------


def _scatter(rng, size, spacing, margin=0.0):
    """Points (y, x) packed about ``spacing`` pixels apart, at random but none too close."""
    rows = np.arange(-margin, size + margin, spacing * 0.866)
    columns = np.arange(-margin, size + margin, spacing)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([y.ravel(), x.ravel()], 1) + rng.normal(0, 0.24 * spacing, (y.size, 2))
    points = points[(points >= -margin).all(1) & (points < size + margin).all(1)]
    pairs = cKDTree(points).query_pairs(0.68 * spacing, output_type="ndarray")
    keep = np.ones(len(points), bool)
    keep[pairs[:, 1]] = False
    return points[keep].T


def _nuclei(rng, y, x, *, radius, stretch, dark, hollow, grain, angle=None, spread=0.1):
    """Nuclei at (y, x) that vary about the given means."""
    n = len(y)
    if angle is None:
        angle = rng.uniform(0, np.pi, n)
    return _Nuclei(
        y=y, x=x,
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

    def spots(spacing, shares):
        y, x = _scatter(rng, size, spacing)
        share = np.zeros(8)
        for kind, value in shares.items():
            share[kind] = value
        keep = rng.random(len(y)) < share[kinds[y.astype(int), x.astype(int)]]
        return y[keep], x[keep]

    def direction(y, x):
        return flow[y.astype(int), x.astype(int)] + rng.normal(0, 0.25, len(y))

    round_cells = spots(rng.uniform(8.0, 9.6), {LYMPH: 0.97, SINUS: 0.3, FOLLICLE: 0.18,
                                                HISTIOCYTES: 0.2, STROMA: rng.uniform(0, 0.1),
                                                FAT: 0.01, TUMOUR: rng.uniform(0.0, 0.12)})
    parts = [_nuclei(rng, *round_cells, radius=rng.uniform(3.3, 3.9), stretch=1.15,
                     dark=rng.uniform(0.62, 0.85), hollow=rng.uniform(0.05, 0.3), grain=0.22)]
    blasts = spots(11.5, {FOLLICLE: 0.9, LYMPH: 0.03, SINUS: 0.15})
    parts.append(_nuclei(rng, *blasts, radius=rng.uniform(4.3, 5.2), stretch=1.2, dark=0.5,
                         hollow=rng.uniform(0.3, 0.6), grain=0.3))
    pale = spots(15.0, {HISTIOCYTES: 0.75, SINUS: 0.25, FOLLICLE: 0.05, LYMPH: 0.02})
    parts.append(_nuclei(rng, *pale, radius=rng.uniform(3.7, 4.6), stretch=1.6, dark=0.4,
                         hollow=0.55, grain=0.2))
    spindles = spots(14.0, {STROMA: rng.uniform(0.2, 0.6), FAT: 0.02, TUMOUR: 0.03, SINUS: 0.12,
                            LYMPH: 0.01})
    parts.append(_nuclei(rng, *spindles, radius=2.3, stretch=3.2, dark=0.6, hollow=0.1, grain=0.2,
                         angle=direction(*spindles), spread=0.2))
    parts.append(_tumour_nuclei(rng, spots, direction))
    nuclei = _Nuclei.join(parts)
    inside = ndimage.binary_dilation(lumen, iterations=3)[nuclei.y.astype(int), nuclei.x.astype(int)]
    return _Nuclei(*(getattr(nuclei, f.name)[~inside] for f in fields(nuclei)))


def _tumour_nuclei(rng, spots, direction):
    """Large, uneven nuclei; how large, how pale and how uneven is a matter of the slide."""
    radius = rng.uniform(5.2, 7.6)
    y, x = spots(radius * rng.uniform(2.1, 2.7), {TUMOUR: 0.96})
    pale = rng.random() < 0.7
    return _nuclei(rng, y, x, radius=radius, stretch=rng.uniform(1.2, 1.6),
                   dark=rng.uniform(0.45, 0.7) if pale else rng.uniform(0.6, 0.8),
                   hollow=rng.uniform(0.45, 0.8) if pale else 0.2, grain=0.35,
                   angle=direction(y, x) if rng.random() < 0.4 else None,
                   spread=rng.uniform(0.1, 0.25))


def _claim_pixels(rng, nuclei, size):
    """Which nucleus each pixel is nearest to.

    Returns three (size, size) maps: the distance to the outline of the nearest nucleus (pixels,
    negative inside, at most 4), the same for the second nearest, and the nearest one's row.
    """
    first = np.full(size * size, 4.0, np.float32)
    second = first.copy()
    owner = np.zeros(size * size, np.int64)
    wave = rng.normal(0, 0.06, (2, len(nuclei.y)))
    phase = rng.uniform(0, 2 * np.pi, (2, len(nuclei.y)))
    claims = []
    reach = nuclei.radius * np.sqrt(nuclei.stretch) * 1.15 + 3
    edges = [0, 8, 12, 17, 400]
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
    """Pixels within 4 of the outline of the nuclei in ``rows``: their index, distance and row."""
    offset = np.arange(-reach, reach + 1)
    y = np.rint(nuclei.y[rows]).astype(int)[:, None, None] + offset[:, None]
    x = np.rint(nuclei.x[rows]).astype(int)[:, None, None] + offset
    dy = (y - nuclei.y[rows, None, None]).astype(np.float32)
    dx = (x - nuclei.x[rows, None, None]).astype(np.float32)
    columns = [a[..., None, None].astype(np.float32) for a in (
        np.cos(nuclei.angle[rows]), np.sin(nuclei.angle[rows]),
        np.sqrt(nuclei.stretch[rows]), nuclei.radius[rows], *wave[:, rows], *phase[:, rows])]
    cos, sin, root, radius, wave2, wave3, phase2, phase3 = columns
    u, v = (dx * cos + dy * sin) / root, (dy * cos - dx * sin) * root
    turn = np.arctan2(v, u)
    outline = 1 + wave2 * np.cos(2 * turn + phase2) + wave3 * np.cos(3 * turn + phase3)
    distance = np.hypot(u, v) - radius * outline
    use = (distance < 4) & (y >= 0) & (y < size) & (x >= 0) & (x < size)
    row = np.broadcast_to(rows[:, None, None], use.shape)
    return (y * size + x)[use], distance[use], row[use]


def _add_nuclei(rng, nuclei, haematoxylin, eosin):
    """Draw the nuclei into the dye maps (changed in place)."""
    size = len(haematoxylin)
    distance, second, owner = _claim_pixels(rng, nuclei, size)
    inside = np.clip(0.5 - distance / 1.2, 0, 1)
    inside *= np.clip(0.35 + (second - distance) / 1.5, 0, 1)  # a thin seam between neighbours
    dark, hollow, grain = (np.float32(a)[owner] for a in (nuclei.dark, nuclei.hollow, nuclei.grain))
    rim = np.exp(-((distance + 0.9) / 1.1) ** 2)
    chromatin = 1 + grain * (_smooth_noise(rng, size, 0.7) + 0.8 * _smooth_noise(rng, size, 1.5))
    spot = np.clip(_smooth_noise(rng, size, 1.1) - 1.6, 0, 1) * (distance < -2)  # nucleoli
    body = dark * (1 - hollow * (1 - rim)) * np.clip(chromatin, 0.3, 2) + spot * hollow * 1.2
    haematoxylin *= 1 - 0.7 * inside
    haematoxylin += inside * body
    eosin *= 1 - 0.35 * inside


# --- the picture --------------------------------------------------------------------------------


def _photograph(rng, haematoxylin, eosin):
    """Stain, light, focus and sensor: two dye maps to an RGB image (uint8)."""
    size = len(haematoxylin)
    centre = CENTRES["purple" if rng.random() < PURPLE_SHARE else "brown"]
    stains = np.stack([rng.normal(*centre[s]) for s in ("haematoxylin", "eosin")])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    strength = np.exp(rng.normal(0, 0.14, 2))
    white = np.minimum(np.array(centre["white"][0]) + rng.normal(0, centre["white"][1]), 254)
    thickness = 1 + 0.08 * _smooth_noise(rng, size, 60)
    blur = rng.uniform(0.35, 0.6)
    amounts = [ndimage.gaussian_filter(a * thickness, blur) * s for a, s in
               zip((haematoxylin, eosin), strength)]
    density = np.stack(amounts, -1) @ stains.astype(np.float32)
    image = white.astype(np.float32) * 10 ** -density
    if rng.random() < 0.3:  # a part of the slide lies out of focus
        soft = np.clip(_smooth_noise(rng, size, 80) - rng.uniform(0, 1.5), 0, 1)[..., None]
        image += soft * (ndimage.gaussian_filter(image, (rng.uniform(1, 2.2),) * 2 + (0,)) - image)
    # Scanners sharpen: nuclei get a light edge.
    image += rng.uniform(0.3, 0.9) * (image - ndimage.gaussian_filter(image, (1, 1, 0)))
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(1.5, 5)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)

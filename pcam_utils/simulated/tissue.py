"""Simulated lymph-node tissue: from one seed come a stained picture and the outline of the tumour in it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..errors import InputError
from .noise import discs, scatter, smooth_noise
from .nuclei import (
    BLANK,
    FAT,
    FOLLICLE,
    HISTIOCYTES,
    LYMPH,
    SINUS,
    STROMA,
    TUMOUR,
    add_nuclei,
    add_red_cells,
    place_nuclei,
)

# These numbers were measured on 3,000 training patches of PCam (CC0). They are in optical density,
# OD = -log10((I + 1) / (W + 1)) for white W, of the pixels whose OD has a norm above 0.15. A mixture of two
# Gaussians on the mean OD direction of a patch tells the two centres apart: 38 % of the patches are
# blue-purple, 62 % are brown-pink. The stain vectors (R G B) are the median and the spread (1.48 x median
# absolute deviation) over the patches of a centre. The red of a single patch is measured badly, so its spread
# is cut to 0.04 for haematoxylin and 0.05 for eosin. Eosin is the mean direction of the tenth of the pixels
# that absorb the least red. Haematoxylin is that of the darkest tenth, the nuclei, less the fifth of eosin in
# them. White is the median and the spread of the flat bright areas of 6,000 patches. The strength of the two
# dyes was chosen so that the mean colour of simulated patches is near that of real ones.
#
# Sizes of nuclei, tears, focus, sharpening and noise were chosen together. Three things should be near those of
# 600 real *valid* patches a class: the autocorrelation of the optical density at shifts of 1 to 6 pixels, its
# spectrum, and the share of patches with open white (docs/results.md, "How real is it?").
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
SMALLEST_FOCUS = 32  # pixels: a nest of some twenty cells
BETWEEN_FOCI = 100  # pixels, at least, from the rim of one metastasis to the next
GLARE = 0.06  # share of the light that no dye can take away

# Dye between the nuclei by kind of tissue, in the same order (1 = optical density of norm 1).
HAEMATOXYLIN_BETWEEN = np.array([0.12, 0.03, 0.14, 0.05, 0.03, 0.0, 0.0, 0.11], np.float32)
EOSIN_BETWEEN = np.array([0.12, 0.05, 0.14, 0.15, 0.22, 0.01, 0.0, 0.24], np.float32)
# How often the tissue between the nuclei is torn open to white.
OPENNESS = np.array([0.75, 1.1, 0.5, 0.55, 0.5, 0.0, 0.0, 0.45], np.float32)


@dataclass(frozen=True)
class Slide:
    """A simulated piece of a slide: ``image`` (uint8), ``tumour`` (bool mask) and ``name``."""

    image: np.ndarray
    tumour: np.ndarray
    name: str


def render_slide(seed, *, size=1024, tumour=True, foci=()):
    """Render one simulated slide.

    Parameters
    ----------
    seed : int or sequence of int
        It decides how the slide looks: its tissue, stain and focus. The last number names the slide.
    size : int
        Height and width in pixels, at least 96; one pixel is about one micrometre.
    tumour : bool
        Whether the node holds a large metastasis. (Its tissue then has less fat and fewer tears.)
    foci : sequence of float
        Longest diameters (about), in pixels, of small metastases to put into the tissue; none touch. With
        ``tumour=False`` they lie in a node that is otherwise healthy.

    Returns
    -------
    Slide
        ``image`` (size, size, 3) uint8 RGB, ``tumour`` (size, size) bool, and ``name``,
        ``"simulated_slide_007"`` for seed 7 or (0, 7).

    Raises
    ------
    InputError
        If ``size`` is not a whole number of at least 96, a seed is negative, or a focus is smaller than 32 pixels or
        finds no room.

    Examples
    --------
    >>> slide = render_slide(3, size=128)
    >>> slide.image.shape, slide.image.dtype.name, slide.tumour.shape, slide.name
    ((128, 128, 3), 'uint8', (128, 128), 'simulated_slide_003')

    >>> small = render_slide(3, size=256, tumour=False, foci=[80])
    >>> 0.02 < float(small.tumour.mean()) < 0.08
    True
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
    for diameter in sorted(map(float, foci), reverse=True):
        _grow_focus(rng, kinds, mask, diameter)
    membranes = _grow_fat(rng, kinds, mask)
    flow, fibres = _fibres(rng, kinds)
    haematoxylin, eosin = _ground(rng, kinds, fibres)
    eosin += membranes * rng.uniform(0.12, 0.4)
    haematoxylin += membranes * 0.06
    nuclei = place_nuclei(rng, kinds, lumen, flow)
    add_nuclei(rng, nuclei, haematoxylin, eosin)
    add_red_cells(rng, kinds, haematoxylin, eosin)
    image = _photograph(rng, haematoxylin, eosin)
    return Slide(image=image, tumour=mask, name=f"simulated_slide_{numbers[-1]:03d}")


# --- where things are -------------------------------------------------------------------------


def _lay_out(rng, size, tumour):
    """Kinds of tissue (size, size) uint8, the tumour mask, and the lumina of its glands."""
    kinds = np.full((size, size), LYMPH, np.uint8)

    def share(field, part):
        return field > np.quantile(field[::4, ::4], 1 - part)

    kinds[share(smooth_noise(rng, size, 80), rng.uniform(0, 0.45))] = HISTIOCYTES
    kinds[share(-np.abs(smooth_noise(rng, size, 90)), rng.uniform(0, 0.2))] = SINUS
    kinds[discs(rng, size, rng.choice([0, 6, 14]), (45, 95), 6) < 0] = FOLLICLE
    capsule = smooth_noise(rng, size, 160) + 0.06 * smooth_noise(rng, size, 7)
    # Tumour is outlined where there is tissue: its slides hold less fat and empty glass.
    fat = rng.choice([0, 0.05, 0.15] if tumour else [0.2, 0.4, 0.6]) * rng.uniform(0.5, 1.1)
    kinds[share(capsule, fat + rng.uniform(0.05, 0.3))] = STROMA
    kinds[share(-np.abs(smooth_noise(rng, size, 110)), rng.uniform(0, 0.08))] = STROMA
    mask, lumen = np.zeros((size, size), bool), np.zeros((size, size), bool)
    if tumour:
        mask, lumen = _grow_tumour(rng, kinds)
    kinds[share(capsule, fat) & ~mask] = FAT
    vessel = discs(rng, size, 9, (6, 24), 2)
    kinds[(vessel < 6) & ~mask] = STROMA
    kinds[(vessel < 0) & ~mask] = BLANK
    edge = smooth_noise(rng, size, 120) + 0.05 * smooth_noise(rng, size, 5)
    kinds[share(edge, rng.choice([0, 0.1] if tumour else [0.2, 0.6]) * rng.uniform(0.3, 1)) & ~mask] = BLANK
    return kinds, mask, lumen


def _grow_tumour(rng, kinds):
    """Put tumour nests into ``kinds`` (changed in place); return their mask and their lumina."""
    size = len(kinds)
    region = smooth_noise(rng, size, 120)
    region = region > np.quantile(region, rng.uniform(0.4, 0.7))
    nest_scale = rng.choice([14, 22, 34, 55])
    share = rng.uniform(0.45, 0.9)
    nests = smooth_noise(rng, size, nest_scale) + 0.15 * smooth_noise(rng, size, 6)
    nests = region & (nests > np.quantile(nests, 1 - share))
    nests = ndimage.binary_opening(nests, iterations=3)
    if rng.random() < 0.6:  # the node often answers with scar tissue between the nests
        kinds[region] = STROMA
    kinds[nests] = TUMOUR
    lumen = np.zeros_like(nests)
    if rng.random() < 0.4:
        lumen = (discs(rng, size, 250, (4, 12), 2) < 0) & ndimage.minimum_filter(nests, 17)
        kinds[lumen] = BLANK
    return nests, lumen


def _grow_focus(rng, kinds, mask, diameter):
    """Put one small metastasis into the tissue (``kinds`` and ``mask`` changed in place), away from other tumour."""
    if diameter < SMALLEST_FOCUS:
        raise InputError(f"A focus of {diameter:g} pixels cannot be rendered: give {SMALLEST_FOCUS} or more.")
    size, edge = len(kinds), int(np.ceil(diameter / 2)) + 2
    free = np.zeros_like(mask)
    free[edge:-edge, edge:-edge] = True
    if mask.any():
        free &= ndimage.distance_transform_edt(~mask) > diameter / 2 + BETWEEN_FOCI
    tissue = free & ~np.isin(kinds, (FAT, BLANK))
    rows, columns = np.nonzero(tissue if tissue.any() else free)
    if not len(rows):
        raise InputError(
            f"A slide of {size} pixels has no room for a focus of {diameter:g}: give fewer or smaller ones."
        )
    place = rng.integers(len(rows))
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.7)
    dy, dx = np.ogrid[-rows[place] : size - rows[place], -columns[place] : size - columns[place]]
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    distance = np.hypot(along, across * stretch) / (diameter / 2)
    ragged = smooth_noise(rng, size, max(diameter / 8, 8))
    focus = distance < 1 + 0.12 * np.clip(ragged, -1.5, 1.5)
    parts, _ = ndimage.label(focus)
    focus = parts == np.bincount(parts[focus]).argmax()
    kinds[focus] = TUMOUR
    mask |= focus


def _fibres(rng, kinds):
    """Direction of the fibres (radians) and their texture (mean 0, spread 1; 0 outside stroma)."""
    size = len(kinds)
    turn = rng.uniform(0, np.pi)
    rows, columns = np.ogrid[:size, :size]
    along = columns * np.cos(turn) + rows * np.sin(turn) + 30 * smooth_noise(rng, size, 50)
    across = (
        rows * np.cos(turn)
        - columns * np.sin(turn)
        + 45 * smooth_noise(rng, size, 90)
        + 4 * smooth_noise(rng, size, 10)
    )
    slope_rows, slope_columns = np.gradient(across.astype(np.float32))
    direction = np.arctan2(-slope_columns, slope_rows)
    stroma = ndimage.maximum_filter(kinds == STROMA, 7)
    along, across = along[stroma], across[stroma]
    texture = np.zeros((size, size), np.float32)
    # Bundles, and the finer strands that they are made of.
    for width, length, weight in ((1.4, 12, 0.55), (0.6, 5, 0.85)):
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
    haematoxylin = ndimage.gaussian_filter((HAEMATOXYLIN_BETWEEN * vary[0])[kinds], 1.0)
    eosin = ndimage.gaussian_filter((EOSIN_BETWEEN * vary[1])[kinds], 0.8)
    torn = ndimage.gaussian_filter((OPENNESS * rng.uniform(0.5, 1.6, 8).astype(np.float32))[kinds], 1.5)
    fine, cells = smooth_noise(rng, size, 0.4), smooth_noise(rng, size, 1.9)
    # Shrinking tissue tears along thin winding cracks, and here and there into holes.
    cracks = np.exp(-((cells / 0.35) ** 2))
    holes = np.clip(smooth_noise(rng, size, 3.2) - 0.9, 0, 1)
    cover = np.clip(1.1 + 0.12 * fine + 0.18 * cells - torn * (1.1 * cracks + 1.3 * holes), 0.04, 2)
    stroma = ndimage.gaussian_filter((kinds == STROMA).astype(np.float32), 1.0)
    # From loose wavy strands to dense scar, whose strands hardly show.
    dense = np.clip(rng.uniform(0, 1) + 0.35 * smooth_noise(rng, size, 60), 0, 1)
    strands = 0.55 + 0.85 * dense + (0.45 - 0.22 * dense) * fibres + 0.12 * fine
    slits = np.clip(4 * holes + 2 * np.clip(-1.5 - fibres, 0, 1), 0, 1.3)
    strands = np.clip(strands - dense * slits, 0.05, 2.2)
    cover = cover * (1 - stroma) + strands * stroma
    shade = 1 + 0.12 * smooth_noise(rng, size, 30)
    return haematoxylin * cover, eosin * cover * np.clip(shade, 0.4, 1.6)


def _grow_fat(rng, kinds, mask):
    """Round the fat off to whole cells (``kinds`` is changed in place), and return their membranes."""
    size = len(kinds)
    membranes = np.zeros((size, size), np.float32)
    spacing = rng.uniform(55, 90)
    wide = ndimage.maximum_filter(kinds == FAT, int(spacing)) & ~mask
    rows, columns = np.nonzero(wide)
    if not len(rows):
        return membranes
    seeds = np.stack(scatter(rng, size, spacing, margin=spacing), 1)
    inner = np.clip(seeds.astype(int), 0, size - 1)
    is_fat = kinds[inner[:, 0], inner[:, 1]] == FAT
    bend = 2.0 * smooth_noise(rng, size, 14)[rows, columns]
    near, seed = cKDTree(seeds).query(np.stack([rows + bend, columns - bend], 1), k=3)
    kinds[wide & (kinds == FAT)] = STROMA
    in_fat = is_fat[seed[:, 0]]
    kinds[rows[in_fat], columns[in_fat]] = FAT
    walls = (near[:, 1:] - near[:, :1]) / 2
    round_off = 2.5  # pixels: three cells meet in a rounded corner
    wall = -round_off * np.log(np.exp(-walls / round_off).sum(1))
    line = np.exp(-(np.clip(wall + 0.5, 0, None) ** 2) / rng.uniform(0.3, 1.8))
    line *= np.clip(0.8 + 0.5 * smooth_noise(rng, size, 12)[rows, columns], 0.1, 1.6)
    membranes[rows, columns] = line * in_fat
    return membranes


# --- the picture --------------------------------------------------------------------------------


def _photograph(rng, haematoxylin, eosin):
    """Stain, light, focus and sensor: two dye maps to an RGB image (uint8)."""
    size = len(haematoxylin)
    centre = CENTRES["purple" if rng.random() < PURPLE_SHARE else "brown"]
    stains = np.stack([rng.normal(*centre[s]) for s in ("haematoxylin", "eosin")])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    strength = np.exp(rng.normal(0, 0.13) + rng.normal(0, 0.12, 2)) * centre["strength"]
    white = np.minimum(np.array(centre["white"][0]) + rng.normal(0, centre["white"][1]), 254)
    thickness = np.clip(1 + 0.15 * smooth_noise(rng, size, 90), 0.6, 1.5)
    blur = rng.uniform(0.33, 0.45)
    amounts = [ndimage.gaussian_filter(a * thickness, blur) * s for a, s in zip((haematoxylin, eosin), strength)]
    density = np.stack(amounts, -1) @ stains.astype(np.float32)
    image = white.astype(np.float32) * (GLARE + (1 - GLARE) * np.exp(-np.log(np.float32(10)) * density))
    if rng.random() < 0.3:  # a part of the slide lies out of focus
        soft = np.clip(smooth_noise(rng, size, 80) - rng.uniform(0.5, 2), 0, 1)[..., None]
        image += soft * (ndimage.gaussian_filter(image, (rng.uniform(0.9, 1.7),) * 2 + (0,)) - image)
    # Scanners sharpen, and store brightness in finer detail than colour.
    light = image @ np.full(3, 1 / 3, np.float32)
    colour = ndimage.gaussian_filter(image - light[..., None], (0.9, 0.9, 0))
    noise = rng.standard_normal(light.shape, np.float32) * rng.uniform(2, 5)
    light += noise * np.clip(1.1 - light / 255, 0.15, 1)
    light += rng.uniform(1.9, 3.5) * (light - ndimage.gaussian_filter(light, 0.55))
    return np.clip(np.rint(light[..., None] + colour), 0, 255).astype(np.uint8)

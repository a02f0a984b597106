"""Random fields and points that simulated tissue is drawn from."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

TILE = 400  # pixels


def smooth_noise(rng, size, scale):
    """A random field of mean 0 and spread 1 that changes over some ``scale`` pixels."""
    if scale < 8:
        # A tile of fine texture is repeated, further apart than a patch is wide. That is four times as fast.
        tile = rng.standard_normal((TILE, TILE), np.float32)
        tile = ndimage.gaussian_filter(tile, scale, mode="wrap") / _spread_left(scale)
        times = -(-size // TILE)
        return np.tile(tile, (times, times))[:size, :size]
    # Coarse noise is stretched: that is as smooth as a wide filter, and many times faster.
    step = scale / 3
    coarse = rng.standard_normal((int(size / step) + 8,) * 2, np.float32)
    coarse = ndimage.gaussian_filter(coarse, 3, mode="wrap") / _spread_left(3)
    at = (np.arange(size) + rng.uniform(0, step)) / step + 1
    low = at.astype(int)
    part = (at - low).astype(np.float32)
    rows = coarse[low] * (1 - part[:, None]) + coarse[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _spread_left(sigma):
    """Say which share of the spread of white noise a Gaussian filter leaves."""
    impulse = np.zeros(2 * int(4 * sigma) + 9)
    impulse[len(impulse) // 2] = 1
    return np.float32((ndimage.gaussian_filter1d(impulse, sigma) ** 2).sum())


def discs(rng, size, per_megapixel, radius, wobble):
    """Signed distance (pixels, negative inside) to some wobbly discs of radii in ``radius``."""
    count = rng.poisson(per_megapixel * (size / 1000) ** 2)
    distance = np.full((size, size), 50.0, np.float32)
    for y, x, r in zip(*rng.uniform(0, size, (2, count)), rng.uniform(*radius, count)):
        top, left = max(int(y - r - 25), 0), max(int(x - r - 25), 0)
        window = distance[top : int(y + r + 25), left : int(x + r + 25)]
        rows, columns = np.ogrid[: window.shape[0], : window.shape[1]]
        away = np.hypot(rows + top - y, columns + left - x) - r
        np.minimum(window, away.astype(np.float32), out=window)
    return distance + wobble * smooth_noise(rng, size, 25)


def scatter(rng, size, spacing, margin=0.0):
    """Points (y, x) packed about ``spacing`` pixels apart: at random, but none too close."""
    rows = np.arange(-margin, size + margin, spacing * 0.866)
    columns = np.arange(-margin, size + margin, spacing)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([y.ravel(), x.ravel()], 1) + rng.normal(0, 0.3 * spacing, (y.size, 2))
    for _ in range(2):  # points that are too close push each other away
        first, second = cKDTree(points).query_pairs(0.9 * spacing, output_type="ndarray").T
        gap = points[first] - points[second]
        length = np.hypot(*gap.T)[:, None] + 1e-3
        push = gap / length * (0.9 * spacing - length) * 0.4
        for axis, part in enumerate(push.T):  # sums by row: several times as fast as np.add.at
            points[:, axis] += np.bincount(first, part, len(points)) - np.bincount(second, part, len(points))
    inside = (points >= -margin).all(1) & (points < size + margin).all(1)
    return points[inside].T

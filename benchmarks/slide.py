"""Peak memory and time of lesson 14's heat map, tile by tile, on slides of growing size: `python benchmarks/slide.py`

The functions are taken from the lesson itself, so that what is measured is what is taught. Each slide is read with
OpenSlide's own cache, and with caches of other sizes, to tell what it holds from what the heat map holds.
"""

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np

LESSON = Path(__file__).parents[1] / "notebooks" / "14_from_patches_to_a_slide.ipynb"
SIZES = (1024, 4096, 10_240)
CACHES = ("as it comes", 0, 128)  # MB


def function(name):
    """The source of one function of the lesson."""
    code = "\n\n".join(cell.source for cell in nbformat.read(LESSON, as_version=4).cells if cell.cell_type == "code")
    return re.search(rf"^def {name}\(.+?(?=\n\S|\Z)", code, re.M | re.S)[0]


def write_slide(path, size):
    """A tiled TIFF of one simulated slide again and again, written tile by tile."""
    import tifffile

    from pcam_utils.simulated.tissue import render_slide

    piece = render_slide((0, 14), size=1024).image
    tiles = (
        piece[y % 1024 : y % 1024 + 256, x % 1024 : x % 1024 + 256]
        for y in range(0, size, 256)
        for x in range(0, size, 256)
    )
    tifffile.imwrite(
        path, tiles, shape=(size, size, 3), dtype="uint8", tile=(256, 256), photometric="rgb", compression="deflate",
        resolution=(10_000, 10_000), resolutionunit="CENTIMETER",
    )  # fmt: skip


def measure(path, cache):
    """Seconds of the heat map, and MB by which the peak of memory grew; after some tiles, to leave out the network."""
    import keras
    import openslide
    from PIL import Image

    names = {"np": np, "keras": keras, "Image": Image, "TILE": 512, "MICRONS": 1.0}
    for name in ("scale_of", "read", "answer", "heat_map"):
        exec(function(name), names)
    layers = [keras.Input((None, None, 3), dtype="uint8"), keras.layers.Rescaling(1 / 127.5, offset=-1)]
    layers += [keras.layers.Conv2D(filters, 4, strides=2, activation="relu") for filters in (16, 32, 64, 96, 128)]
    network = keras.Sequential([*layers, keras.layers.Conv2D(1, 1, activation="sigmoid")])
    reader = openslide.OpenSlide(path)
    if cache.isdigit():
        reader.set_cache(openslide.OpenSlideCache(int(cache) * 2**20))
    for _ in range(20):  # a few tiles, until the allocator has what it keeps
        names["answer"](network, names["read"](reader, 0, 0, 576, 576)[None])
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    heat = names["heat_map"](network, reader)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    (width, height), seconds = reader.dimensions, time.perf_counter() - begun
    cache = f"{cache} MB" if cache.isdigit() else cache
    size = f"{width:6} × {height:<6} {heat.size:7} squares"
    print(f"{size} {seconds:6.1f} s, cache {cache}: peak of memory +{grown:.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*sys.argv[1:])
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder) / f"{size}.tif"
            write_slide(path, size)
            for cache in CACHES:
                subprocess.run([sys.executable, __file__, path, str(cache)], check=True)

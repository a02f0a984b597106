"""Lesson 14 reads slides at the scale that the network learned: its own functions, on files as scanners write them."""

import ast
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

openslide = pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")

LESSON = next((Path(__file__).parents[1] / "notebooks").glob("14_*.ipynb"))
NAMES = {"MICRONS", "TILE", "scale_of", "read", "heat_map"}


@pytest.fixture(scope="module")
def lesson():
    """What the lesson defines to read slides, and a network that only says how dark the middle of each patch is."""
    from PIL import Image

    def darkness(network, tiles):
        middle = 255.0 - tiles[0, 32:-32, 32:-32].mean(axis=-1)
        return middle.reshape(len(middle) // 32, 32, -1, 32).mean(axis=(1, 3))[None, ..., None]

    cells = [cell.source for cell in nbformat.read(LESSON, as_version=4).cells if cell.cell_type == "code"]
    parts = [part for cell in cells if not re.search(r"^ *%", cell, re.M) for part in ast.parse(cell).body]
    names = {"np": np, "Image": Image, "keras": None, "answer": darkness}
    for part in parts:
        targets = [part, *getattr(part, "targets", [])]
        if NAMES & {getattr(target, "name", getattr(target, "id", None)) for target in targets}:
            exec(compile(ast.Module([part], []), str(LESSON), "exec"), names)
    assert names.keys() >= NAMES
    return names


@pytest.fixture(scope="module")
def picture():
    """640×896 pixels of one micrometre: blocks of eight, so that no scale between 0.2 and 1 blurs a whole square."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (80, 112, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def stored(path, picture, mpp, levels=1):
    """The picture as a scanner of `mpp` micrometres a pixel stores it, each further level half as large."""
    from PIL import Image

    height, width = (round(side / mpp) for side in picture.shape[:2])
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            size = (width // 2**level, height // 2**level)
            density = 10_000 / mpp / 2**level
            image = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
            file.write(image, tile=(256, 256), photometric="rgb", subfiletype=int(level > 0),
                       resolution=(density, density), resolutionunit="CENTIMETER")  # fmt: skip
    return openslide.OpenSlide(path)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_a_finer_slide_gives_the_map_of_the_slide_at_one_micrometre(lesson, picture, tmp_path, mpp, levels):
    plain = lesson["heat_map"](None, stored(tmp_path / "plain.tif", picture, 1.0))
    fine = stored(tmp_path / "fine.tif", picture, mpp, levels)
    assert fine.dimensions == (896 / mpp, 640 / mpp)
    assert plain.shape == (20, 28)
    np.testing.assert_allclose(lesson["heat_map"](None, fine), plain, atol=0.6)
    patch = lesson["read"](fine, 64, 128, 96, 96)
    np.testing.assert_allclose(patch, picture[128:224, 64:160], atol=1)


def test_a_level_within_five_percent_is_taken_as_it_is_and_others_are_shrunk(lesson, picture, tmp_path):
    assert lesson["scale_of"](stored(tmp_path / "a.tif", picture, 0.243, levels=3)) == pytest.approx(4, abs=0.01)
    assert lesson["scale_of"](stored(tmp_path / "b.tif", picture, 0.2, levels=3)) == pytest.approx(5, abs=0.01)
    third = stored(tmp_path / "c.tif", picture, 1 / 3, levels=3)
    plain = lesson["heat_map"](None, stored(tmp_path / "plain.tif", picture, 1.0))
    found = lesson["heat_map"](None, third)
    assert found.shape == plain.shape and np.corrcoef(found.ravel(), plain.ravel())[0, 1] > 0.99


def test_a_slide_that_does_not_say_its_scale_or_is_too_coarse_is_refused(lesson, picture, tmp_path):
    tifffile.imwrite(tmp_path / "silent.tif", picture, tile=(256, 256), photometric="rgb")
    with pytest.raises(AssertionError, match="does not say its micrometres a pixel"):
        lesson["heat_map"](None, openslide.OpenSlide(tmp_path / "silent.tif"))
    with pytest.raises(AssertionError, match="2.00 micrometres a pixel show too little"):
        lesson["heat_map"](None, stored(tmp_path / "coarse.tif", picture, 2.0))

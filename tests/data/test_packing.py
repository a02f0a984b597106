import errno
import gzip
import hashlib
import os
import re
import shutil
import struct
import types
import zlib

import numpy as np
import pytest
from PIL import Image

from pcam_utils.data import packing
from pcam_utils.data.cache import cache_folder
from pcam_utils.data.packing import pack_images, read_image, unpacked
from pcam_utils.errors import InputError

PURPLE = (200, 10, 120)  # red, green, blue


@pytest.fixture
def files(tmp_path, random_patches):
    """Five TIFFs that hold `random_patches(5)`."""
    paths = [tmp_path / f"{row}.tif" for row in range(5)]
    for path, image in zip(paths, random_patches(5)):
        Image.fromarray(image).save(path)
    return paths


def forbid_decoding(monkeypatch):
    def read(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(packing, "read_image", read)


def png16(pixels):
    """A PNG of 16-bit RGB, which Pillow reads but cannot write."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = pixels.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff16(pixels, planar):
    """An uncompressed TIFF of 16-bit RGB, its colours pixel by pixel or (planar) one after the other."""
    height, width, _ = pixels.shape
    body = (np.moveaxis(pixels, -1, 0) if planar else pixels).astype("<u2").tobytes()
    strips = 3 if planar else 1
    longs, shorts = 4, 3
    entries = [
        (256, longs, [width]),
        (257, longs, [height]),
        (258, shorts, [16] * 3),
        (259, shorts, [1]),
        (262, shorts, [2]),
        (273, longs, [8 + i * len(body) // strips for i in range(strips)]),
        (277, shorts, [3]),
        (278, longs, [height]),
        (279, longs, [len(body) // strips] * strips),
        (284, shorts, [2 if planar else 1]),
    ]
    extra_at = 8 + len(body) + 2 + 12 * len(entries) + 4
    table, extra = struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{'I' if kind == longs else 'H'}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", extra_at + len(extra)), extra + packed
        table += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + table + b"\0\0\0\0" + extra


@pytest.mark.parametrize(
    "options",
    [
        {"suffix": ".png"},
        {"suffix": ".tif"},
        {"suffix": ".tiff", "compression": "tiff_lzw"},
        {"suffix": ".jpg", "quality": 100, "subsampling": 0},
    ],
    ids=lambda options: options["suffix"],
)
def test_colours_come_as_red_green_blue(tmp_path, options):
    path = tmp_path / f"a{options.pop('suffix')}"
    Image.new("RGB", (96, 96), PURPLE).save(path, **options)
    image = read_image(path)
    assert image.shape == (96, 96, 3) and image.dtype == np.uint8
    assert np.abs(image.reshape(-1, 3).astype(int) - PURPLE).max() <= 2


def test_a_packed_array_holds_the_decoded_files_in_the_order_given(files, random_patches):
    packed = pack_images(files[::-1])
    assert not isinstance(packed, np.ndarray)  # on disk, not in memory
    np.testing.assert_array_equal(packed, random_patches(5)[::-1])


def test_more_files_than_the_threads_are_given_at_a_time_are_packed_in_order(files, monkeypatch, random_patches):
    monkeypatch.setattr(packing, "_PART", 2)
    np.testing.assert_array_equal(pack_images(files), random_patches(5))


def test_packing_is_done_once(files, monkeypatch, cache, random_patches):
    pack_images(files)
    forbid_decoding(monkeypatch)
    np.testing.assert_array_equal(pack_images(files), random_patches(5))
    assert len(os.listdir(cache)) == 1


@pytest.mark.parametrize("change", ["contents", "order", "fewer", "fit"])
def test_what_is_packed_for_other_files_or_another_fit_is_not_used(files, monkeypatch, change):
    pack_images(files)
    if change == "contents":
        Image.new("RGB", (96, 96), PURPLE).save(files[0])
        os.utime(files[0], ns=(1, 1))
    chosen = {"order": files[::-1], "fewer": files[1:]}.get(change, files)
    forbid_decoding(monkeypatch)
    with pytest.raises(AssertionError, match="decoded"):
        pack_images(chosen, fit="crop" if change == "fit" else None)


def test_a_picture_replaced_by_one_of_the_same_size_and_time_is_noticed(files, random_patches):
    Image.fromarray(random_patches(1, seed=9)[0]).save(files[2].with_name("new.bmp"))
    for path in files:  # all of one size, as uncompressed pictures are
        Image.open(path).save(path.with_suffix(".bmp"))
    files = [path.with_suffix(".bmp") for path in files]
    first, before = pack_images(files), files[2].stat()
    os.replace(files[2].with_name("new.bmp"), files[2])
    os.utime(files[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (files[2].stat().st_size, files[2].stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    np.testing.assert_array_equal(first[2], random_patches(5)[2])
    np.testing.assert_array_equal(pack_images(files)[2], random_patches(1, seed=9)[0])


def test_a_cached_array_that_is_damaged_is_named(files, cache):
    pack_images(files)
    next(cache.iterdir()).write_bytes(b"")
    with pytest.raises(
        InputError, match="packed_.* is damaged; remove it, or the whole cache with 'pcam cache --clear'"
    ):
        pack_images(files)


def test_an_archive_where_nothing_may_be_written_is_unpacked_into_the_cache_once(tmp_path, monkeypatch, cache):
    path = tmp_path / "disk" / "a.h5.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"content"))
    monkeypatch.setattr(os, "access", lambda place, how: place != path.parent)  # root may write anywhere
    copy = unpacked(path)
    assert (copy.parent, copy.read_bytes(), os.listdir(path.parent)) == (cache, b"content", ["a.h5.gz"])
    changed = copy.stat().st_mtime_ns
    assert unpacked(path) == copy and copy.stat().st_mtime_ns == changed
    path.write_bytes(gzip.compress(b"newer"))
    assert unpacked(path).read_bytes() == b"newer"


def test_the_cache_is_shown_and_cleared_of_what_is_ours_alone(pcam, files, cache):
    pack_images(files)
    (cache / ".packed_1.2-3.part.npy").write_bytes(b"left by a killed process")
    (cache / "mine.npy").write_bytes(b"")
    assert pcam("cache").stdout == f"2 files of 0 MB are in {cache}.\n"
    assert pcam("cache", "--clear").stdout == f"2 files of 0 MB were removed from {cache}.\n"
    assert os.listdir(cache) == ["mine.npy"]


def test_too_little_room_is_said_before_anything_is_decoded(files, monkeypatch, cache):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: types.SimpleNamespace(free=100_000))
    forbid_decoding(monkeypatch)
    with pytest.raises(InputError, match="needs 0 MB of free disk.*; free some space or name another folder in PCAM_C"):
        pack_images(files)
    assert not cache.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_is_one_sentence_and_leaves_nothing(files, monkeypatch, cache, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", refuse)
    with pytest.raises(InputError) as raised:
        pack_images(files)
    assert re.fullmatch(
        rf"{cache}/packed_\w+\.npy could not be written \({os.strerror(number)}\); "
        "free some space or name another folder in PCAM_CACHE.",
        str(raised.value),
    )
    assert os.listdir(cache) == []


@pytest.mark.parametrize("when", ["a broken image", "an interruption"])
def test_packing_that_breaks_off_leaves_nothing(files, monkeypatch, cache, when):
    files[3].write_bytes(b"<html>")
    if when == "an interruption":

        def interrupt(file, fit):
            raise KeyboardInterrupt

        monkeypatch.setattr(packing, "read_image", interrupt)
    with pytest.raises((InputError, KeyboardInterrupt)):
        pack_images(files)
    assert os.listdir(cache) == []


def test_a_cache_that_is_a_file_is_one_sentence(files, monkeypatch):
    monkeypatch.setenv("PCAM_CACHE", str(files[0]))
    with pytest.raises(InputError, match="could not be written .*PCAM_CACHE"):
        pack_images(files)


def test_the_cache_is_in_the_home_folder_unless_named(monkeypatch, cache):
    assert cache_folder() == cache
    monkeypatch.delenv("PCAM_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "pcam_utils")


def test_names_are_checked_against_the_pixels_when_asked_for(tmp_path, random_patches, cache):
    image = random_patches(1)[0]
    path = tmp_path / f"{hashlib.sha1(image.tobytes()).hexdigest()}.tif"
    Image.fromarray(image).save(path)
    assert pack_images([path], check_sha1=True).shape == (1, 96, 96, 3)
    Image.fromarray(image[..., ::-1]).save(path)  # red and blue in the wrong order
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="not the image that its name promises"):
        pack_images([path], check_sha1=True)
    assert len(os.listdir(cache)) == 1


def test_resizing_shows_the_whole_image_and_cropping_its_centre(tmp_path):
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[12:108, 52:148] = PURPLE
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cropped, resized = (pack_images([tmp_path / "a.png"], fit=fit)[0] for fit in ("crop", "resize"))
    assert (cropped == PURPLE).all()
    assert (resized[48, 48] == PURPLE).all()
    assert not resized[:5].any() and not resized[:, :20].any()


def test_images_of_the_right_size_are_not_changed_by_fitting(files, random_patches):
    for fit in ("crop", "resize"):
        np.testing.assert_array_equal(pack_images(files, fit=fit), random_patches(5))


def test_an_unknown_fit_names_the_known_ones(files):
    with pytest.raises(InputError, match="'stretch' is no way to fit images; choose 'resize' or 'crop'"):
        pack_images(files, fit="stretch")


@pytest.mark.parametrize(
    "size, fit, says",
    [
        ((95, 96), None, "has 95×96 pixels, but 96×96 are needed; ask for --fit resize or --fit crop"),
        ((95, 300), "crop", "has 95×300 pixels, too few to crop; ask for --fit resize"),
    ],
)
def test_a_wrong_size_says_what_to_ask_for(tmp_path, size, fit, says):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=says):
        read_image(tmp_path / "a.png", fit)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "I;16"])
def test_what_is_not_rgb_is_refused_by_its_mode(tmp_path, mode):
    image = Image.new("RGB", (96, 96), PURPLE)
    image = Image.fromarray(np.full((96, 96), 40_000, np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tif")
    said = "16-bit" if mode == "I;16" else mode
    with pytest.raises(InputError, match=f"is stored as {said}, but 8-bit RGB is needed"):
        read_image(tmp_path / "a.tif")


def test_a_picture_that_is_see_through_is_refused(tmp_path, random_patches):
    pixels = np.dstack([random_patches(1)[0], np.full((96, 96, 1), 255, np.uint8)])
    pixels[3, 5, 3] = 254
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="is stored as RGBA and partly see-through"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp"])
def test_a_file_of_several_pages_is_refused(tmp_path, random_patches, suffix):
    first, *others = map(Image.fromarray, random_patches(3))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=others)
    with pytest.raises(InputError, match="holds 3 pages, but one picture is needed"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    "side, says", [(2001, "has 2001×2001 pixels, .*if it is a slide"), (3000, "a whole slide; cut")]
)
def test_a_slide_is_called_one_before_it_is_decoded(tmp_path, monkeypatch, side, says):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_100_000)
    Image.new("RGB", (side, side)).save(tmp_path / "slide.tif", compression="tiff_lzw")
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(InputError, match=f"{says}.*lesson 14"):
        read_image(tmp_path / "slide.tif")


@pytest.mark.parametrize("kind", ["png", "tif", "planar tif"])
def test_16_bit_colour_is_refused_though_pillow_calls_it_rgb(tmp_path, random_patches, kind):
    pixels = random_patches(1)[0].astype(np.uint16) * 257
    path = tmp_path / f"a.{kind[-3:]}"
    path.write_bytes(png16(pixels) if kind == "png" else tiff16(pixels, planar=kind.startswith("planar")))
    with Image.open(path) as opened:
        assert opened.mode == "RGB"
    with pytest.raises(InputError, match="is stored as 16-bit"):
        read_image(path)


def test_a_compressed_tiff_is_read_wherever_its_directory_lies(tmp_path):
    """Pillow hands the directory's place to the decoder; a 16 in that number is no bit depth."""
    seen = set()
    path = tmp_path / "a.tif"
    for noisy in range(10_000):
        pixels = np.zeros((96, 96, 3), np.uint8)
        pixels.reshape(-1)[:noisy] = np.random.default_rng(0).integers(0, 256, noisy)
        Image.fromarray(pixels).save(path, compression="tiff_adobe_deflate")
        place = str(struct.unpack("<I", path.read_bytes()[4:8])[0])
        if "16" in place:
            seen.add(place)
            np.testing.assert_array_equal(read_image(path), pixels)
        if len(seen) == 3:
            return
    raise AssertionError("no directory at a place with a 16 in it")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_any_damage_is_one_sentence_or_unseen(tmp_path, random_patches, suffix):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"damaged{suffix}"
    Image.fromarray(random_patches(1)[0]).save(whole)
    whole, rng, refused = whole.read_bytes(), np.random.default_rng(0), 0
    for attempt in range(60):
        damaged = bytearray(whole[: rng.integers(len(whole))] if attempt % 2 else whole)
        for place in rng.integers(0, max(1, min(len(damaged), 400)), 4):
            damaged[place : place + 1] = rng.bytes(1)
        path.write_bytes(damaged)
        try:
            read_image(path)
        except InputError as error:
            refused += 1
            assert str(error).startswith(str(path)) and str(error).endswith(".") and "\n" not in str(error)
    assert refused >= 30


def test_a_forbidden_image_says_so(files, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(InputError, match="may not be read; change its permissions"):
        read_image(files[0])

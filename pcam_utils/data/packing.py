"""Packs many small image files into one cached array, once, so that every later read is a plain copy."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from ..errors import InputError
from ..files import replacing, require_room
from .cache import cached
from .download import unpack
from .patches import SIZE, FileRows

FITS = ("resize", "crop")  #: what may be done with images of another size
_PART = 512  # images handed to the decoding threads at a time: bounds the memory in flight
_SLIDE = 2000  # pixels; a picture of that width is a slide, or a part of one
#: What Pillow raises for bytes that are damaged, or that are no picture.
_UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error)
_ELSEWHERE = "name another folder in PCAM_CACHE"


def pack_images(
    files: Sequence[str | os.PathLike], *, fit: str | None = None, check_sha1: bool = False, progress: bool = True
) -> FileRows:
    """Decode image files into one array on disk, or open the array if an earlier call has left it there.

    Parameters
    ----------
    files : list of path
        8-bit RGB images, or RGBA that is opaque throughout.
    fit : {None, 'resize', 'crop'}
        What to do with images that are not 96×96: refuse them, resize them, or cut out the centre.
    check_sha1 : bool
        Require that each file is named for the SHA-1 of its RGB bytes, as in the Kaggle competition: this finds
        damaged files, and red and blue in the wrong order.
    progress : bool
        Show a bar where it takes more than two seconds.

    Returns
    -------
    FileRows, (N, 96, 96, 3) uint8, RGB
        In the order of `files`.

    Raises
    ------
    InputError
        If an image cannot be used, or the cache not be written.
    """
    if fit not in (None, *FITS):
        raise InputError(f"'{fit}' is no way to fit images; choose {' or '.join(map(repr, FITS))}.")
    packed = cached("packed", files, (fit, check_sha1), ".npy")
    if not packed.exists():
        require_room(packed, len(files) * SIZE * SIZE * 3, instead=_ELSEWHERE)
        with replacing(packed, instead=_ELSEWHERE) as temporary:
            _decode_all(temporary, files, fit, check_sha1, progress)
    try:
        images = np.load(packed, mmap_mode="r")  # read for its header alone
    except (ValueError, EOFError) as error:
        raise InputError(f"{packed} is damaged; remove it, or the whole cache with 'pcam cache --clear'.") from error
    return FileRows(packed, images.offset, images.shape)


def unpacked(path: Path, *, progress: bool = True) -> Path:
    """Give the file itself, or for a .gz archive the file in it, which is unpacked once beside it or into the cache.

    The cache is used where the archive's folder may not be written, such as Kaggle's inputs or a course's shared disk.
    """
    if path.suffix != ".gz":
        return path
    beside = path.with_suffix("")
    if os.access(path.parent, os.W_OK):
        return unpack(path, keep=True, progress=progress)
    copy = cached("unpacked", [path], beside.name, beside.suffix)
    return copy if copy.exists() else unpack(path, to=copy, keep=True, progress=progress)


def _decode_all(
    path: Path, files: Sequence[str | os.PathLike], fit: str | None, check_sha1: bool, progress: bool
) -> None:
    def decode(file: str | os.PathLike) -> NDArray[np.uint8]:
        image = read_image(file, fit)
        if check_sha1 and hashlib.sha1(image.tobytes()).hexdigest() != Path(file).stem:
            raise InputError(f"{file} is not the image that its name promises (SHA-1 of its pixels); {_way_out(file)}.")
        return image

    bar = tqdm(total=len(files), desc="Packing images", unit="img", delay=2, disable=not progress)
    with open(path, "wb") as out, ThreadPoolExecutor() as threads, bar:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), SIZE, SIZE, 3)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(files), _PART):
            for image in threads.map(decode, files[start : start + _PART]):
                out.write(image.tobytes())
                bar.update()


def _way_out(file: str | os.PathLike) -> str:
    if Path(file).suffix.lower() in (".jpg", ".jpeg", ".webp"):
        return (
            "such a copy has other pixels than the original, which its name no longer proves; get the TIFF, or ask for "
            "--fit resize, which takes names as they are and leaves 96×96 pixels alone"
        )
    return "get it again"


def read_image(file: str | os.PathLike, fit: str | None = None) -> NDArray[np.uint8]:
    """Read one 8-bit RGB image as (96, 96, 3) uint8, or say in one sentence what is wrong with it."""
    try:
        with Image.open(file) as opened:
            # Asked before a pixel is decoded: a slide has gigabytes of them.
            if opened.size != (SIZE, SIZE) and fit is None:
                raise InputError(_wrong_size(file, opened.width, opened.height))
            pages = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # MPO: a camera's preview
            if pages > 1:
                raise InputError(
                    f"{file} holds {pages} pages, but one picture is needed; save each in a file of its own."
                )
            mode = _stored_mode(opened)
            image = opened.copy()
    except Image.DecompressionBombError as error:
        pixels = int((re.findall(r"\d+", str(error)) or [0])[0])
        raise InputError(
            f"{file} holds {pixels:,} pixels, a whole slide; cut it into patches, as lesson 14 does."
        ) from error
    except InputError:
        raise
    except _UNREADABLE as error:
        if isinstance(error, PermissionError):
            raise InputError(f"{file} may not be read; change its permissions.") from error
        raise InputError(f"{file} is not a readable image; get it again or remove it.") from error
    if mode == "RGBA":
        if image.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"{file} is stored as RGBA and partly see-through, but 8-bit RGB is needed; convert it.")
        image, mode = image.convert("RGB"), "RGB"
    if mode != "RGB":
        raise InputError(f"{file} is stored as {mode}, but 8-bit RGB is needed; convert it.")
    return np.asarray(_fit(image, fit, file) if image.size != (SIZE, SIZE) else image)


def _wrong_size(file: str | os.PathLike, width: int, height: int) -> str:
    way_out = "ask for --fit resize or --fit crop"
    if max(width, height) >= _SLIDE:
        way_out = f"if it is a slide or a part of one, cut it into patches as lesson 14 does, else {way_out}"
    return f"{file} has {width}×{height} pixels, but {SIZE}×{SIZE} are needed; {way_out}."


def _stored_mode(opened: Any) -> str:
    """Give Pillow's mode, or '16-bit': of such colours Pillow silently drops the low byte, and calls the rest 'RGB'."""
    raw_modes = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in opened.tile]
    bits = getattr(opened, "tag_v2", {}).get(258, 8)  # BitsPerSample, of a TIFF alone
    return "16-bit" if "16" in str(raw_modes) or np.max(bits) > 8 else opened.mode


def _fit(image: Image.Image, fit: str | None, file: str | os.PathLike) -> Image.Image:
    if fit == "resize":
        return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    if min(image.size) < SIZE:
        raise InputError(f"{file} has {image.width}×{image.height} pixels, too few to crop; ask for --fit resize.")
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return image.crop((left, top, left + SIZE, top + SIZE))

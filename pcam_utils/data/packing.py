"""Packs many small image files once into a single cached array, so that every later read is one copy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from ..errors import InputError
from ..files import replacing, require_room
from .patches import SIZE, FileRows

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
FITS = ("resize", "crop")  #: what may be done with images of another size
_PART = 512  # images handed to the decoding threads at a time: bounds the memory in flight


def cache_folder() -> Path:
    """Where packed arrays are kept: `PCAM_CACHE`, else `~/.cache/pcam_utils`."""
    return Path(os.environ.get("PCAM_CACHE") or Path.home() / ".cache" / "pcam_utils")


def pack_images(
    files: Sequence[Path], *, fit: str | None = None, check_sha1: bool = False, progress: bool = True
) -> FileRows:
    """Decode image files into one array on disk, or open the array that an earlier call left.

    Parameters
    ----------
    files : list of pathlib.Path
        8-bit RGB images.
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
    packed = cache_folder() / f"packed_{_listing_digest(files, fit, check_sha1)}.npy"
    if not packed.exists():
        elsewhere = "name another folder in PCAM_CACHE"
        require_room(packed, len(files) * SIZE * SIZE * 3, instead=elsewhere)
        with replacing(packed, instead=elsewhere) as temporary:
            _decode_all(temporary, files, fit, check_sha1, progress)
    images = np.load(packed, mmap_mode="r")  # read for its header alone
    return FileRows(packed, images.offset, images.shape)


def _listing_digest(files, fit, check_sha1):
    # Names, sizes and times stand for the contents: reading 220,000 files to see that nothing changed takes minutes.
    digest = hashlib.sha256(repr((fit, check_sha1)).encode())
    for file in files:
        stat = file.stat()
        digest.update(f"{file.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _decode_all(path, files, fit, check_sha1, progress):
    def decode(file):
        image = read_image(file, fit)
        if check_sha1 and hashlib.sha1(image.tobytes()).hexdigest() != file.stem:
            raise InputError(f"{file} is not the image that its name promises (SHA-1 of its pixels); get it again.")
        return image

    bar = tqdm(total=len(files), desc="Packing images", unit="img", delay=2, disable=not progress)
    with open(path, "wb") as out, ThreadPoolExecutor() as threads, bar:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), SIZE, SIZE, 3)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(files), _PART):
            for image in threads.map(decode, files[start : start + _PART]):
                out.write(image.tobytes())
                bar.update()


def read_image(file: Path, fit: str | None = None) -> NDArray[np.uint8]:
    """Read one 8-bit RGB image as (96, 96, 3) uint8, or say in one sentence what is wrong with it."""
    try:
        with Image.open(file) as opened:
            mode = _stored_mode(opened)
            image = opened.copy()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, PermissionError):
            raise InputError(f"{file} may not be read; change its permissions.") from error
        raise InputError(f"{file} is not a readable image; get it again or remove it.") from error
    if mode != "RGB":
        raise InputError(f"{file} is stored as {mode}, but 8-bit RGB is needed; convert it.")
    if image.size != (SIZE, SIZE):
        if fit is None:
            raise InputError(
                f"{file} has {image.width}×{image.height} pixels, but {SIZE}×{SIZE} are needed; "
                "ask for --fit resize or --fit crop."
            )
        image = _fit(image, fit, file)
    return np.asarray(image)


def _stored_mode(opened):
    """Pillow's mode, or '16-bit': it silently drops the low byte of 16-bit colour, and calls the rest 'RGB'."""
    raw_modes = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in opened.tile]
    bits = getattr(opened, "tag_v2", {}).get(258, 8)  # BitsPerSample, of a TIFF alone
    return "16-bit" if "16" in str(raw_modes) or np.max(bits) > 8 else opened.mode


def _fit(image, fit, file):
    if fit == "resize":
        return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    if min(image.size) < SIZE:
        raise InputError(f"{file} has {image.width}×{image.height} pixels, too few to crop; ask for --fit resize.")
    left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return image.crop((left, top, left + SIZE, top + SIZE))

"""Packs many small image files once into a single cached array, so that every later read is one copy."""

from __future__ import annotations

import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ..errors import InputError, reason
from .patches import SIZE, FileRows

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_PART = 512  # images handed to the decoding threads at a time: bounds the memory in flight


def cache_folder():
    """Where packed arrays are kept: `PCAM_CACHE`, else `~/.cache/pcam_utils`."""
    return Path(os.environ.get("PCAM_CACHE") or Path.home() / ".cache" / "pcam_utils")


def pack_images(files, *, fit=None, check_sha1=False, progress=True):
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

    Returns
    -------
    FileRows, (N, 96, 96, 3) uint8, RGB
        In the order of `files`.
    """
    if fit not in (None, "resize", "crop"):
        raise InputError(f"'{fit}' is no way to fit images; choose 'resize' or 'crop'.")
    packed = cache_folder() / f"packed_{_listing_digest(files, fit, check_sha1)}.npy"
    if not packed.exists():
        _write_packed(packed, files, fit, check_sha1, progress)
    images = np.load(packed, mmap_mode="r")  # read for its header alone
    return FileRows(packed, images.offset, images.shape)


def _listing_digest(files, fit, check_sha1):
    # Names, sizes and times stand for the contents: reading 220,000 files to see that nothing changed takes minutes.
    digest = hashlib.sha256(repr((fit, check_sha1)).encode())
    for file in files:
        stat = file.stat()
        digest.update(f"{file.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _write_packed(packed, files, fit, check_sha1, progress):
    temporary = None
    try:
        packed.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=packed.parent, suffix=".part")
        os.close(handle)
        _decode_all(temporary, files, fit, check_sha1, progress)
        os.replace(temporary, packed)
    except OSError as error:
        raise InputError(
            f"The images could not be packed into {packed.parent} ({reason(error)}); "
            "free some space or name another folder in PCAM_CACHE."
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _decode_all(path, files, fit, check_sha1, progress):
    def decode(file):
        image = read_image(file, fit)
        if check_sha1 and hashlib.sha1(image.tobytes()).hexdigest() != file.stem:
            raise InputError(f"{file} is not the image that its name promises (SHA-1 of its pixels); get it again.")
        return image

    bar = tqdm(total=len(files), desc="Packing images", unit="img", disable=None if progress else True, delay=2)
    with open(path, "wb") as out, ThreadPoolExecutor() as threads, bar:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), SIZE, SIZE, 3)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(files), _PART):
            for image in threads.map(decode, files[start : start + _PART]):
                out.write(image.tobytes())
                bar.update()


def read_image(file, fit=None):
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

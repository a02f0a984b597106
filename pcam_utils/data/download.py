"""Fetches the official files from Zenodo or Kaggle, goes on where a download broke off, and verifies each file."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import requests
import urllib3
from tqdm.auto import tqdm
from tqdm.utils import CallbackIOWrapper

from .. import __version__
from ..errors import InputError
from ..files import disk_errors, move_into_place, replacing, require_room, sole_use

ZENODO = "https://zenodo.org/record/2546921/files"
KAGGLE = "histopathologic-cancer-detection"
SPLITS = ("train", "valid", "test")
STEM = "camelyonpatch_level_2_split_"  #: the official names of the files start with it
TIMEOUT = 30  # seconds without a byte after which a connection counts as broken
MAX_WAIT = 120  # seconds, however long a server asks to wait
RETRIES = 5  # in a row that bring nothing new
_BLOCK = 1 << 14  # small, as what has arrived of a block is lost when the connection breaks
_SPARE = 1 << 26  # bytes of disk for the csv files and whatever else is being written
_INSTEAD = "choose another folder, and run this again"
_LABELS = "train_labels.csv"  # Kaggle's; what is moved last, and so stands for the whole


class PcamFile(NamedTuple):
    """What is known of an official file: bytes (None: unpublished), SHA-256 or MD5, and bytes of the values inside."""

    size: int | None
    checksum: str
    unpacked: int = 0


#: The official files. Sizes and SHA-256 as TensorFlow Datasets lists them; of the tables, the MD5 that PCam lists.
PCAM_FILES = {
    STEM + name: PcamFile(*facts)
    for name, *facts in (
        ("train_x.h5.gz", 6421353462, "d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c", 7247757312),
        ("train_y.h5.gz", 21378, "b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a", 262144),
        ("train_meta.csv", None, "5a3dd671e465cfd74b5b822125e65b0a"),
        ("valid_x.h5.gz", 805965320, "f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2", 905969664),
        ("valid_y.h5.gz", 3038, "ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c", 32768),
        ("valid_meta.csv", None, "3455fd69135b66734e1008f3af684566"),
        ("test_x.h5.gz", 800875929, "79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245", 905969664),
        ("test_y.h5.gz", 3040, "0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef", 32768),
        ("test_meta.csv", None, "67589e00a4a37ec317f2d1932c7502ca"),
    )
}


def download_pcam(
    out: str | os.PathLike, *, splits: str | Iterable[str] = SPLITS, base_url: str = ZENODO, progress: bool = True
) -> Path:
    """Download and unpack the official PCam files. Files that are there already are left as they are.

    Parameters
    ----------
    out : path
        The folder to put them in.
    splits : iterable of str
        Which of 'train', 'valid' and 'test'.
    base_url : str
        Where the files are, if not on Zenodo.
    progress : bool
        Show bars.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    InputError
        If a file cannot be had, verified or written.

    Examples
    --------
    >>> download_pcam("data/pcam", splits=["validation"])
    Traceback (most recent call last):
    pcam_utils.errors.InputError: There is no split 'validation': choose from train, valid, test.
    """
    out, splits = Path(out), [splits] if isinstance(splits, str) else list(splits)
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise InputError(f"There is no split '{unknown[0]}': choose from {', '.join(SPLITS)}.")
    names = [name for name in PCAM_FILES if name.removeprefix(STEM).split("_")[0] in splits]
    with disk_errors(out, _INSTEAD):
        names = [name for name in names if not _is_there(out / name)]
        require_room(out, _room(out, names), instead="choose another folder, or fewer splits")
    if names:
        with sole_use(out):
            for name in names:
                path = fetch(f"{base_url.rstrip('/')}/{name}", out / name, PCAM_FILES[name], progress=progress)
                if path.suffix == ".gz":
                    unpack(path, progress=progress)
    return out


def _is_there(packed: Path) -> bool:
    """True if the file is there, unpacked. A file that is too small belongs to somebody, so we do not replace it."""
    plain = packed.with_suffix("")
    if packed.suffix != ".gz":
        return packed.exists() and not _fault(packed, PCAM_FILES[packed.name], progress=False)
    if not plain.exists():
        return False
    if _length(plain) < PCAM_FILES[packed.name].unpacked:
        raise InputError(f"{plain} is not the official file (it is too small): move it or choose another folder.")
    return True


def _room(out: Path, names: list[str]) -> int:
    """Count the bytes that are still needed. At any time only one of the files is there packed as well."""
    need = held = 0
    for name in names:
        held += PCAM_FILES[name].unpacked - _length(out / name) - _length(out / f"{name}.part")
        need = max(need, held + (PCAM_FILES[name].size or 0))
    return need and need + _SPARE


def download_kaggle(out: str | os.PathLike) -> Path:
    """Download the competition's data through `kagglehub`, which asks for an account and shows progress.

    Returns the folder that holds train_labels.csv. That is `out`; in a Kaggle notebook it is where the data are
    attached. Raises `InputError` if kagglehub is missing, if Kaggle refuses, or if the disk cannot take the files.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise InputError('kagglehub is not installed: run pip install "pcam-utils[kaggle]" first.') from error
    out = Path(out)
    if (out / _LABELS).exists():
        return out
    # kagglehub's own `output_dir` cannot resume (it wants an empty folder), but its cache can.
    cache, before = out.absolute() / ".kagglehub", os.environ.get("KAGGLEHUB_CACHE")
    with disk_errors(out, _INSTEAD), sole_use(out):
        try:
            os.environ["KAGGLEHUB_CACHE"] = str(cache)
            folder = Path(kagglehub.competition_download(KAGGLE))
        except Exception as error:  # kagglehub's exceptions have no base class in common
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
            raise InputError(
                f"Kaggle did not hand over the data ({said}): check the connection, log in with kagglehub.login(), "
                f"and accept the rules at https://www.kaggle.com/competitions/{KAGGLE}/rules."
            ) from error
        finally:
            del os.environ["KAGGLEHUB_CACHE"]
            os.environ.update({"KAGGLEHUB_CACHE": before} if before is not None else {})
        if not (folder / _LABELS).exists():
            raise InputError(f"Kaggle's download in {folder} has no {_LABELS}: delete that folder and try again.")
        if cache not in folder.parents:
            return folder
        for item in sorted(folder.iterdir(), key=lambda item: item.name == _LABELS):
            os.replace(item, out / item.name)
        shutil.rmtree(cache)
    return out


def unpack(packed: Path, *, to: Path | None = None, progress: bool = True, keep: bool = False) -> Path:
    """Unpack a .gz file beside itself, or `to` another place, whole or not at all. Then remove it, unless `keep`."""
    plain, bar = to or packed.with_suffix(""), _bar(f"Unpacking {packed.name}", _length(packed), progress, delay=2)
    with replacing(plain, instead=_INSTEAD) as new, open(packed, "rb") as raw, open(new, "wb") as target, bar:
        try:
            shutil.copyfileobj(gzip.GzipFile(fileobj=CallbackIOWrapper(bar.update, raw, "read")), target, 1 << 20)
            if not target.tell():  # gzip takes an empty file for a packed one
                raise EOFError
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{packed} is damaged or not complete: delete it and get it again.") from error
    if not keep:
        packed.unlink()
    return plain


def fetch(url: str, path: Path, known: PcamFile, *, progress: bool = True) -> Path:
    """Download one file. Go on where an earlier call broke off, and verify the file before it gets its name.

    The bytes that have arrived are kept beside it, in `path` + '.part'. Raises `InputError` if the file cannot be had.
    """
    part = path.with_name(path.name + ".part")
    with disk_errors(path, _INSTEAD):
        fault = _fault(path, known, progress) if path.exists() else "is not there"
        if fault and path.exists():
            tqdm.write(f"{path} {fault}, so it is downloaded again.", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # the second time without anything an earlier call has left
            if not fault:
                return path
            _complete(url, part, known.size, progress)
            fault = _fault(part, known, progress)
            part.unlink() if fault else move_into_place(part, path)
    if fault:
        raise InputError(f"The file at {url} {fault}, twice in a row: it is damaged or another one, try again later.")
    return path


def _complete(url: str, part: Path, size: int | None, progress: bool) -> None:
    """Get all bytes into `part`, over as many connections as it takes. Whether they are right is checked elsewhere."""
    certificates = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if certificates and not os.path.exists(certificates):  # else requests seems to blame the disk
        raise InputError(f"There is no file of certificates {certificates}: correct REQUESTS_CA_BUNDLE, or unset it.")
    most, failures = _length(part), 0  # in a row; only more bytes than ever count as a success, so the loop ends
    with _bar(part.stem, size, progress) as bar:
        while (held := _length(part)) < (size or sys.maxsize):
            answer, why = None, "the server stopped early"
            # If the server packed the bytes once more for the way, neither the checksum nor the range would fit them.
            headers = {"Accept-Encoding": "identity", "User-Agent": f"pcam-utils/{__version__}"}
            headers |= {"Range": f"bytes={held}-"} if held else {}
            try:
                with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                    if _receive(answer, part, held, size, bar):
                        return
                    why = why if answer.ok else f"status {answer.status_code}"
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                if isinstance(error, requests.exceptions.InvalidProxyURL):
                    raise InputError("The proxy is no web address: correct HTTPS_PROXY, or unset it.") from error
                if isinstance(error, ValueError):  # requests raises these for addresses that it cannot read
                    raise InputError(f"'{url}' is not a web address: give one that starts with https://.") from error
                why = type(error).__name__
            failures = 0 if _length(part) > most else failures + 1
            most = max(most, _length(part))
            if failures > RETRIES:
                raise InputError(
                    f"The download of {url} did not get through ({why}): check the connection or wait an hour, then "
                    f"run this again to go on from the {_length(part):,} bytes in {part}."
                )
            try:  # the time that the server asks for, in any of the ways to say so
                wait = answer is not None and urllib3.Retry().get_retry_after(answer.raw)
            except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
                wait = None
            wait = min(wait or 2**failures / 2, MAX_WAIT)
            tqdm.write(f"The download of {part.stem} broke off ({why}): going on in {wait:.0f} s.", file=sys.stderr)
            time.sleep(wait)


def _receive(answer: requests.Response, part: Path, held: int, size: int | None, bar: tqdm) -> bool:
    """Add the bytes of an answer to the `held` ones. Give True if the file is then complete."""
    status, url, length = answer.status_code, answer.url, answer.raw.length_remaining
    if status == 429 or status >= 500:
        return False
    span = answer.headers.get("Content-Range", "")
    start = held if span.startswith(f"bytes {held}-") else 0
    if (status == 416 and held) or (status == 206 and start != held):
        part.unlink()
        return False
    # If the answer is not the file, say so before giving up any bytes that have arrived.
    if status not in (200, 206):
        what = "has no file" if status in (404, 410) else "refuses to send what is"
        raise InputError(f"The server {what} at {url} (status {status}): check the address in a browser.")
    if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise InputError(f"There is a web page at {url} in place of the file: open it in a browser to see why.")
    if status == 200 and None not in (length, size) and length != size:
        raise InputError(f"The file at {url} has {length:,} bytes instead of {size:,}: try again later.")
    bar.total, bar.n = size or (start + length if length else None), start
    bar.refresh()
    with open(part, "ab" if start else "wb") as file:
        # Undecoded: servers are known to label a .gz file as an encoding to undo.
        for block in answer.raw.stream(_BLOCK, decode_content=False):
            file.write(block)
            bar.update(len(block))
            if size and file.tell() > size:
                break
    if size:
        return _length(part) >= size
    return span.endswith(("/*", f"/{_length(part)}")) if span else not answer.raw.length_remaining


def _fault(path: Path, known: PcamFile, progress: bool) -> str | None:
    """What is wrong with a file, as the second half of a sentence; None if nothing is."""
    length, digest = _length(path), hashlib.new("sha256" if len(known.checksum) == 64 else "md5", usedforsecurity=False)
    with open(path, "rb") as file, _bar(f"Checking {path.name}", length, progress, delay=2) as bar:
        if known.size not in (None, length):
            return f"has {length:,} bytes instead of {known.size:,}"
        while block := file.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    found = digest.hexdigest()
    return None if found == known.checksum else f"has {digest.name.upper()} {found} instead of {known.checksum}"


def _bar(what: str, total: int | None, progress: bool, **kwargs: Any) -> tqdm:
    return tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=not progress, **kwargs)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

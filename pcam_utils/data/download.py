"""Fetches the official files from Zenodo or Kaggle: resumed where they broke off, verified before they count."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import requests
import urllib3
from tqdm.auto import tqdm
from tqdm.utils import CallbackIOWrapper

from .. import __version__
from ..errors import InputError
from ..files import disk_errors, move_into_place, replacing, require_room

ZENODO = "https://zenodo.org/record/2546921/files"
KAGGLE = "histopathologic-cancer-detection"
SPLITS = ("train", "valid", "test")
STEM = "camelyonpatch_level_2_split_"  #: the official names of the files start with it
TIMEOUT = 30  # seconds without a byte after which a connection counts as broken
MAX_WAIT = 120  # seconds, however long a server asks to wait
RETRIES = 5  # in a row that bring nothing
MAX_TRIES = 100  # for one file in one call, even if each brings a few bytes
_BLOCK = 1 << 14  # small, as what has arrived of a block is lost when the connection breaks
_SPARE = 1 << 26  # bytes of disk for the csv files and whatever else is being written
_INSTEAD = "choose another folder, and run this again"


class PcamFile(NamedTuple):
    """What is known of an official file: bytes (None: unpublished), SHA-256 or MD5, and bytes of the values inside."""

    size: int | None
    checksum: str
    unpacked: int = 0


# Sizes and SHA-256 as TensorFlow Datasets lists them; of the tables there is only the MD5 that PCam lists.
_FACTS = (
    ("train_x.h5.gz", 6_421_353_462, "d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c", 7_247_757_312),
    ("train_y.h5.gz", 21_378, "b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a", 262_144),
    ("train_meta.csv", None, "5a3dd671e465cfd74b5b822125e65b0a", 0),
    ("valid_x.h5.gz", 805_965_320, "f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2", 905_969_664),
    ("valid_y.h5.gz", 3_038, "ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c", 32_768),
    ("valid_meta.csv", None, "3455fd69135b66734e1008f3af684566", 0),
    ("test_x.h5.gz", 800_875_929, "79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245", 905_969_664),
    ("test_y.h5.gz", 3_040, "0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef", 32_768),
    ("test_meta.csv", None, "67589e00a4a37ec317f2d1932c7502ca", 0),
)
PCAM_FILES = {STEM + name: PcamFile(*facts) for name, *facts in _FACTS}  #: the official files by name


def download_pcam(
    out: str | os.PathLike, *, splits: str | Iterable[str] = SPLITS, base_url: str = ZENODO, progress: bool = True
) -> Path:
    """Download and unpack the official PCam files; what is there already is left as it is.

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
    names = [f"{STEM}{split}_{kind}" for split in splits for kind in ("x.h5.gz", "y.h5.gz", "meta.csv")]
    with disk_errors(out, _INSTEAD):
        names = [name for name in names if not _is_unpacked(out / name)]
        require_room(out, _room(out, names), instead="choose another folder, or fewer splits")
    for name in names:
        file = PCAM_FILES[name]
        path = fetch(f"{base_url.rstrip('/')}/{name}", out / name, file.size, file.checksum, progress)
        if file.unpacked:
            unpack(path, progress=progress)
    return out


def _is_unpacked(packed: Path) -> bool:
    """True if the unpacked file is there; one that is too small is somebody's own and not ours to replace."""
    plain = packed.with_suffix("")
    if packed.suffix != ".gz" or not plain.exists():
        return False
    if _length(plain) < PCAM_FILES[packed.name].unpacked:
        raise InputError(f"{plain} is not the official file (it is too small): move it or choose another folder.")
    return True


def _room(out: Path, names: list[str]) -> int:
    """The bytes that are still needed; only one of the files is there packed as well at any time."""
    need = held = 0
    for name in names:
        held += PCAM_FILES[name].unpacked - _length(out / name) - _length(out / f"{name}.part")
        need = max(need, held + (PCAM_FILES[name].size or 0))
    return need and need + _SPARE


def download_kaggle(out: str | os.PathLike) -> Path:
    """Download the competition's data through `kagglehub`, which asks for an account and shows progress.

    Returns the folder that holds train_labels.csv: `out`, or in a Kaggle notebook where they are attached. Raises
    `InputError` if kagglehub is missing, Kaggle refuses, or the disk does.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise InputError('kagglehub is not installed: run pip install "pcam-utils[kaggle]" first.') from error
    out, labels = Path(out), "train_labels.csv"
    if (out / labels).exists():
        return out
    # kagglehub's own `output_dir` cannot resume (it wants an empty folder), but its cache can.
    cache, before = out.absolute() / ".kagglehub", os.environ.get("KAGGLEHUB_CACHE")
    with disk_errors(out, _INSTEAD):
        out.mkdir(parents=True, exist_ok=True)
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
        if not (folder / labels).exists():
            raise InputError(f"Kaggle's download in {folder} has no {labels}: delete that folder and try again.")
        if cache not in folder.parents:
            return folder
        for item in sorted(folder.iterdir(), key=lambda item: item.name == labels):  # labels last: all is there
            os.replace(item, out / item.name)
        shutil.rmtree(cache)
    return out


def unpack(packed: Path, *, progress: bool = True, keep: bool = False) -> Path:
    """Unpack a .gz file beside itself, whole or not at all, and remove it, unless `keep`."""
    plain, bar = packed.with_suffix(""), _bar(f"Unpacking {packed.name}", _length(packed), progress, delay=2)
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


def fetch(url: str, path: Path, size: int | None = None, checksum: str | None = None, progress: bool = True) -> Path:
    """Download one file: go on where an earlier call broke off, and verify it before it gets its name.

    What has arrived is kept beside it, as `path` + '.part'. `size` is in bytes, `checksum` SHA-256 or MD5; without
    both, a file that is there already counts as good. Raises `InputError` if the file cannot be had.
    """
    part = path.with_name(path.name + ".part")
    with disk_errors(path, _INSTEAD):
        if path.exists():
            fault = _fault(path, size, checksum, progress)
            if not fault:
                return path
            _say(f"{path} {fault}, so it is downloaded again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # the second time without anything an earlier call has left
            _complete(url, part, size, progress)
            fault = _fault(part, size, checksum, progress)
            if not fault:
                move_into_place(part, path)
                return path
            part.unlink()
    raise InputError(
        f"The file at {url} {fault}, twice in a row: it is damaged or not the one expected, try again later."
    )


class _Retry(urllib3.Retry):
    """Waits a second, two, four and so on, or as long as the server asks to, but never longer than `MAX_WAIT`."""

    def get_backoff_time(self) -> float:
        return max(1, super().get_backoff_time())

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            return min(super().get_retry_after(response) or 0, MAX_WAIT)
        except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            return None


def _complete(url: str, part: Path, size: int | None, progress: bool) -> None:
    """Get the whole file into `part`, over as many connections as it takes."""
    fresh = retry = _Retry(RETRIES, backoff_factor=1)
    with requests.Session() as session, _bar(part.stem, size, progress) as bar:
        for _ in range(MAX_TRIES):
            held, answer, why = _length(part), None, "the server stopped early"
            if held == size:
                return
            # Packed once more for the way, the bytes would be neither those of the checksum nor those of the range.
            headers = {"Accept-Encoding": "identity", "User-Agent": f"pcam-utils/{__version__}"}
            headers |= {"Range": f"bytes={held}-"} if held else {}
            try:
                with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                    if _receive(answer, url, part, held, size, bar):
                        return
                    why = why if answer.ok else f"status {answer.status_code}"
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                if isinstance(error, ValueError):  # what requests raises for addresses that it cannot read
                    raise InputError(f"'{url}' is not a web address: give one that starts with https://.") from error
                why = type(error).__name__
            try:
                retry = fresh if _length(part) > held else retry.increment("GET", url, error=OSError(why))
            except urllib3.exceptions.MaxRetryError:
                break
            wait = (answer is not None and retry.get_retry_after(answer.raw)) or retry.get_backoff_time()
            _say(f"The download of {part.stem} broke off ({why}): going on in {wait:.0f} s.")
            time.sleep(wait)
    raise InputError(
        f"The download of {url} did not get through ({why}): check the connection or wait an hour, then run this "
        f"again to go on from the {_length(part):,} bytes in {part}."
    )


def _receive(answer: requests.Response, url: str, part: Path, held: int, size: int | None, bar: tqdm) -> bool:
    """Add what one answer brings to the `held` bytes; True if by the server's account that is all."""
    status, start, length = answer.status_code, 0, answer.headers.get("Content-Length", "")
    if status == 206:
        span = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        start, length = (int(span[1]), span[2]) if span else (-1, "")
    total = int(length) if re.fullmatch(r"\d{1,18}", length) else None
    if status == 429 or status >= 500:
        return False
    if (status == 416 and held) or (status == 206 and start != held):
        part.unlink(missing_ok=True)
        return False
    # What is not the file ends in a sentence before anything that has arrived is given up for it.
    if status not in (200, 206):
        what = "has no file" if status in (404, 410) else "refuses to send what is"
        raise InputError(f"The server {what} at {url} (status {status}): check the address in a browser.")
    if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise InputError(f"There is a web page at {url} in place of the file: open it in a browser to see why.")
    if None not in (total, size) and total != size:
        raise InputError(f"The file at {url} has {total:,} bytes instead of {size:,}: try again later.")
    bar.total, bar.n = total or size, start
    bar.refresh()
    with open(part, "ab" if start else "wb") as file:
        # Undecoded: servers are known to label a .gz file as an encoding to undo.
        for block in answer.raw.stream(_BLOCK, decode_content=False):
            file.write(block)
            bar.update(len(block))
            if size is not None and file.tell() > size:
                break
    return _length(part) >= (size or total or 0)


def _fault(path: Path, size: int | None, checksum: str | None, progress: bool) -> str | None:
    """What is wrong with a file, as the second half of a sentence; None if nothing is."""
    length = _length(path)
    with open(path, "rb") as file, _bar(f"Checking {path.name}", length, progress, delay=2) as bar:
        if size is not None and length != size:
            return f"has {length:,} bytes instead of {size:,}"
        if not checksum:
            return None
        name = "SHA-256" if len(checksum) == 64 else "MD5"
        digest = hashlib.new(name.replace("-", ""), usedforsecurity=False)
        while block := file.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    found = digest.hexdigest()
    return None if found == checksum.lower() else f"has {name} {found} instead of {checksum}"


def _bar(what: str, total: int | None, progress: bool, **kwargs) -> tqdm:
    return tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=not progress, **kwargs)


def _say(sentence: str) -> None:
    tqdm.write(sentence, file=sys.stderr)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

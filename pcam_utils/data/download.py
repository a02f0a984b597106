"""Fetches the official files from Zenodo or Kaggle: resumed where they broke off, verified before they count."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import re
import shutil
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from .. import __version__
from ..errors import InputError

ZENODO = "https://zenodo.org/record/2546921/files"
KAGGLE = "histopathologic-cancer-detection"
SPLITS = ("train", "valid", "test")
MAX_WAIT = 120  # seconds, however long a server asks to wait
MAX_TRIES = 100  # for one file in one call, even if each brings a few bytes
STEM = "camelyonpatch_level_2_split_"  #: the official names of the files start with it
_BLOCK = 1 << 14  # small, as what has arrived of a block is lost when the connection breaks
_SPARE = 1 << 26  # bytes of disk for the csv files and whatever else is being written


@dataclass(frozen=True)
class PcamFile:
    """What is known of an official file as downloaded, and the bytes of the values inside; None is unpublished."""

    size: int | None
    sha256: str | None
    md5: str
    unpacked: int = 0


#: The official files: name -> PcamFile. Sizes and SHA-256 as TensorFlow Datasets lists them, MD5 as PCam does.
PCAM_FILES = {
    STEM + name: PcamFile(*facts)
    for name, *facts in (
        (
            "train_x.h5.gz",
            6_421_353_462,
            "d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c",
            "1571f514728f59376b705fc836ff4b63",
            262_144 * 96 * 96 * 3,
        ),
        (
            "train_y.h5.gz",
            21_378,
            "b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a",
            "35c2d7259d906cfc8143347bb8e05be7",
            262_144,
        ),
        ("train_meta.csv", None, None, "5a3dd671e465cfd74b5b822125e65b0a"),
        (
            "valid_x.h5.gz",
            805_965_320,
            "f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2",
            "d8c2d60d490dbd479f8199bdfa0cf6ec",
            32_768 * 96 * 96 * 3,
        ),
        (
            "valid_y.h5.gz",
            3_038,
            "ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c",
            "60a7035772fbdb7f34eb86d4420cf66a",
            32_768,
        ),
        ("valid_meta.csv", None, None, "3455fd69135b66734e1008f3af684566"),
        (
            "test_x.h5.gz",
            800_875_929,
            "79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245",
            "d5b63470df7cfa627aeec8b9dc0c066e",
            32_768 * 96 * 96 * 3,
        ),
        (
            "test_y.h5.gz",
            3_040,
            "0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef",
            "2b85f58b927af9964a4c15b8f7e8f179",
            32_768,
        ),
        ("test_meta.csv", None, None, "67589e00a4a37ec317f2d1932c7502ca"),
    )
}


def download_pcam(out, *, splits=SPLITS, base_url=ZENODO, progress=True):
    """Download and unpack the official PCam files; what is there already is left as it is.

    Parameters
    ----------
    out : path-like
        The folder to put them in.
    splits : iterable of str
        Which of 'train', 'valid' and 'test'.
    base_url : str
        Where the files are, if not on Zenodo.
    progress : bool

    Returns
    -------
    pathlib.Path
        `out`.

    Examples
    --------
    >>> download_pcam("data/pcam", splits=["validation"])
    Traceback (most recent call last):
    pcam_utils.errors.InputError: There is no split 'validation': choose from train, valid, test.
    """
    out = Path(out)
    splits = [splits] if isinstance(splits, str) else list(splits)
    for split in splits:
        if split not in SPLITS:
            raise InputError(f"There is no split '{split}': choose from {', '.join(SPLITS)}.")
    names = [f"{STEM}{split}_{kind}" for split in splits for kind in ("x.h5.gz", "y.h5.gz", "meta.csv")]
    with _disk_errors(out):
        names = [name for name in names if not _is_unpacked(out / name)]
        _check_room(out, names)
    with requests.Session() as session:
        for name in names:
            file = PCAM_FILES[name]
            path = fetch(
                f"{base_url.rstrip('/')}/{name}",
                out / name,
                size=file.size,
                sha256=file.sha256,
                md5=file.md5,
                session=session,
                progress=progress,
            )
            if file.unpacked:
                unpack(path, progress=progress)
    return out


def download_kaggle(out):
    """Download the data of Kaggle's competition through `kagglehub`, which asks for an account and shows progress.

    Parameters
    ----------
    out : path-like
        The folder to put them in. In a Kaggle notebook they are attached instead and not copied.

    Returns
    -------
    pathlib.Path
        The folder that holds train_labels.csv.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise InputError('kagglehub is not installed: run pip install "pcam-utils[kaggle]" first.') from error
    out, labels = Path(out), "train_labels.csv"
    if (out / labels).exists():
        return out
    # kagglehub's own `output_dir` cannot resume (it wants an empty folder), but its cache can.
    cache = out.absolute() / ".kagglehub"
    with _disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        folder = _from_kaggle(kagglehub, cache)
        if not (folder / labels).exists():
            raise InputError(f"Kaggle's download in {folder} has no {labels}: delete that folder and try again.")
        if cache not in folder.parents:
            return folder
        for item in sorted(folder.iterdir(), key=lambda item: item.name == labels):  # labels last: all is there
            os.replace(item, out / item.name)
        shutil.rmtree(cache)
    return out


def unpack(gz_path, h5_path=None, *, progress=True, keep=False):
    """Unpack a .gz file; nothing has the final name until all of it is there.

    Parameters
    ----------
    gz_path : path-like
        Removed afterwards, unless `keep`.
    h5_path : path-like, optional
        By default `gz_path` without its '.gz'. If it is there and not older than `gz_path`, it is left as it is.
    progress, keep : bool

    Returns
    -------
    pathlib.Path
        The unpacked file; `InputError` if the packed one is missing or damaged, or the disk refuses.
    """
    packed = Path(gz_path)
    if h5_path is None and packed.suffix != ".gz":
        raise InputError(f"{packed} does not end in .gz: give the packed file.")
    plain = Path(h5_path) if h5_path else packed.with_suffix("")
    # A name of its own for each process, so that two that unpack the same file do not write into each other's.
    scratch = plain.with_name(f"{plain.name}.{os.getpid()}.part")
    with _disk_errors(plain):
        if not packed.exists():
            if plain.exists():
                return plain
            raise InputError(f"There is no file {packed}: download it first.")
        if not plain.exists() or plain.stat().st_mtime < packed.stat().st_mtime:
            try:
                _gunzip(packed, scratch, progress)
                os.replace(scratch, plain)
            finally:
                scratch.unlink(missing_ok=True)
        if not keep:
            packed.unlink()
    return plain


def fetch(url, path, *, size=None, sha256=None, md5=None, session=None, progress=True, timeout=30, retries=5):
    """Download one file: go on where an earlier call broke off, and verify it before it gets its name.

    Parameters
    ----------
    url : str
    path : path-like
        Where the file goes; what has arrived so far is beside it, as `path` + '.part'.
    size, sha256, md5 : optional
        What the file must have (MD5 is looked at only where there is no SHA-256). With none of them, a file that
        is there already counts as good.
    session : requests.Session, optional
    progress : bool
    timeout : float
        Seconds without a byte after which a connection counts as broken.
    retries : int
        How often to try again in a row without getting any further.

    Returns
    -------
    pathlib.Path
        `path`; `InputError` if the file cannot be had.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_disk_errors(path))
        if path.exists():
            fault = _fault(path, size, sha256, md5, progress)
            if fault is None:
                return path
            _say(f"{path} {fault}, so it is downloaded again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        session = session or stack.enter_context(requests.Session())
        for _ in range(2):  # the second time without anything an earlier call has left
            _complete(session, url, part, size, timeout, retries, progress)
            fault = _fault(part, size, sha256, md5, progress)
            if fault is None:
                os.replace(part, path)
                return path
            part.unlink()
    raise InputError(
        f"The file at {url} {fault}, twice in a row: it is damaged or not the one expected, try again later."
    )


def _is_unpacked(packed):
    """True if the unpacked file is there; one that is too small is somebody's own and not ours to replace."""
    plain = packed.with_suffix("")
    if packed.suffix != ".gz" or not plain.exists():
        return False
    if _length(plain) < PCAM_FILES[packed.name].unpacked:
        raise InputError(f"{plain} is not the official file (it is too small): move it or choose another folder.")
    return True


def _check_room(out, names):
    """Raise one sentence if the disk cannot hold the files; only one of them is there packed as well at any time."""
    need = held = 0
    for name in names:
        arrived = _length(out / name) + _length(out / f"{name}.part")
        held += PCAM_FILES[name].unpacked - arrived
        need = max(need, held + (PCAM_FILES[name].size or 0))
    free = shutil.disk_usage(next(path for path in (out, *out.absolute().parents) if path.exists())).free
    if need and need + _SPARE > free:
        raise InputError(
            f"{out} needs {(need + _SPARE) / 1e9:.1f} GB of free disk but there are {free / 1e9:.1f} GB: "
            "free some space, choose another folder, or fewer splits."
        )


def _from_kaggle(kagglehub, cache):
    """The folder kagglehub puts the competition's data in, below `cache` unless Kaggle itself holds them."""
    before = os.environ.get("KAGGLEHUB_CACHE")
    os.environ["KAGGLEHUB_CACHE"] = str(cache)
    try:
        return Path(kagglehub.competition_download(KAGGLE))
    except Exception as error:  # kagglehub's exceptions have no base class in common
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")
        raise InputError(
            f"Kaggle did not hand over the data ({reason}): check the connection, log in with kagglehub.login(), "
            f"and accept the rules at https://www.kaggle.com/competitions/{KAGGLE}/rules."
        ) from error
    finally:
        del os.environ["KAGGLEHUB_CACHE"]
        if before is not None:
            os.environ["KAGGLEHUB_CACHE"] = before


def _gunzip(packed, scratch, progress):
    """Unpack into `scratch`."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(packed, "rb"))
        bar = stack.enter_context(_bar(f"Unpacking {packed.name}", _length(packed), progress, delay=1))
        source = stack.enter_context(gzip.GzipFile(fileobj=CallbackIOWrapper(bar.update, raw, "read")))
        target = stack.enter_context(open(scratch, "wb"))
        try:
            shutil.copyfileobj(source, target, 1 << 20)
            if not target.tell():  # gzip takes an empty file for a packed one
                raise EOFError
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{packed} is damaged or not complete: delete it and get it again.") from error
        target.flush()
        os.fsync(target.fileno())  # the name must not outlive the content in a power cut


def _complete(session, url, part, size, timeout, retries, progress):
    """Get the whole file into `part`, over as many connections as it takes."""
    idle, held = 0, _length(part)
    with _bar(part.stem, size, progress) as bar:
        for _ in range(MAX_TRIES):
            reason, asked = "the server stopped early", 0
            try:
                if held == size or _transfer(session, url, part, size, timeout, bar):
                    return
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                if isinstance(error, ValueError):  # what requests raises for addresses that it cannot read
                    raise InputError(f"'{url}' is not a web address: give one that starts with https://.") from error
                reason = type(error).__name__
                if isinstance(error, requests.HTTPError):
                    reason, asked = f"status {error.response.status_code}", _asked_wait(error.response)
            before, held = held, _length(part)
            idle = 0 if held > before else idle + 1
            if idle > retries:
                break
            wait = min(max(2 ** max(idle - 1, 0), asked), MAX_WAIT)
            _say(f"The download of {part.stem} broke off ({reason}): going on in {wait:.0f} s.")
            time.sleep(wait)
    raise InputError(
        f"The download of {url} did not get through ({reason}): check the connection or wait an hour, then run this "
        f"again to go on from the {held:,} bytes in {part}."
    )


def _asked_wait(response):
    """Seconds the server asks to wait, by its Retry-After header."""
    try:
        return urllib3.Retry().get_retry_after(response) or 0
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0


def _transfer(session, url, part, size, timeout, bar):
    """What one connection brings; True if by the server's account that is all."""
    held = _length(part)
    # Packed once more for the way, the bytes would be neither those of the checksum nor those of the range.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"pcam-utils/{__version__}"}
    headers |= {"Range": f"bytes={held}-"} if held else {}
    with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
        status, (start, total) = response.status_code, _span(response)
        if (status == 416 and held) or (status == 206 and start != held):
            part.unlink(missing_ok=True)
            return False
        _check_answer(response, url, total, size)
        bar.total, bar.n = total or size, start
        bar.refresh()
        with open(part, "ab" if start else "wb") as file:
            # Undecoded: servers are known to label a .gz file as an encoding to undo.
            for block in response.raw.stream(_BLOCK, decode_content=False):
                file.write(block)
                bar.update(len(block))
                if size is not None and file.tell() > size:
                    break
    return _length(part) >= (size or total or 0)


def _span(response):
    """Where in the file an answer starts, and how long the whole file is; None where the server does not say."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(?:(\d{1,18})|\*)", response.headers.get("Content-Range", ""))
        return (int(found[1]), found[2] and int(found[2])) if found else (None, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _check_answer(response, url, total, size):
    """Raise the sentence for an answer that is not the file, before anything that has arrived is given up for it."""
    status = response.status_code
    if status == 429 or 500 <= status < 600:
        response.raise_for_status()  # for `_complete` to wait and try again
    if status not in (200, 206):
        what = "has no file" if status in (404, 410) else "refuses to send what is"
        raise InputError(f"The server {what} at {url} (status {status}): check the address in a browser.")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise InputError(f"There is a web page at {url} in place of the file: open it in a browser to see why.")
    if None not in (total, size) and total != size:
        raise InputError(f"The file at {url} has {total:,} bytes instead of {size:,}: try again later.")


def _fault(path, size, sha256, md5, progress):
    """What is wrong with a file, as the second half of a sentence; None if nothing is."""
    length = _length(path)
    if size is not None and length != size:
        return f"has {length:,} bytes instead of {size:,}"
    name, expected = ("SHA-256", sha256) if sha256 else ("MD5", md5)
    if not expected:
        return None
    digest = hashlib.new(name.replace("-", "").lower(), usedforsecurity=False)
    with open(path, "rb") as file, _bar(f"Checking {path.name}", length, progress, delay=1) as bar:
        while block := file.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    found = digest.hexdigest()
    return None if found == expected.lower() else f"has {name} {found} instead of {expected}"


@contextlib.contextmanager
def _disk_errors(path):
    """Say in one sentence what the disk refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            raise InputError(f"The disk is full at {path}: free some space and run this again.") from error
        reason = error.strerror or error
        raise InputError(f"{path} cannot be read or written ({reason}): choose another folder.") from error


def _bar(what, total, progress, **kwargs):
    return tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=not progress, **kwargs)


def _say(sentence):
    tqdm.write(sentence, file=sys.stderr)


def _length(path):
    return path.stat().st_size if path.exists() else 0

"""Writes files whole or not at all: under a temporary name first, then renamed."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError, reason


@contextmanager
def replacing(path):
    """Give a temporary path beside `path`, and rename it to `path` once the block ends well.

    Parameters
    ----------
    path : path
        Its folder is made if it is missing.

    Yields
    ------
    pathlib.Path

    Raises
    ------
    InputError
        If the disk is full, or the place may not be written.
    """
    path = Path(path)
    # The suffix stays last: Keras chooses the file format by it.
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({reason(error)}); free some space or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path, content):
    """Write a dict as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

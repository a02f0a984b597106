"""The one exception for bad input: a sentence that says what is wrong, where, and what to do."""

import os


class InputError(ValueError):
    """Input that cannot be used. The message is one sentence for the person who gave the input."""


def reason(error: OSError) -> str:
    """Say in a few words why the system refused (an `OSError`), since h5py's own text has several lines."""
    return os.strerror(error.errno) if error.errno else (str(error).splitlines() or ["unknown error"])[0]

"""How `pcam` talks: results go to standard output, all else goes to standard error, and a failure is one sentence."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import InputError, reason
from ..files import to_json

BAD_INPUT, FAILED = 2, 1  #: exit codes: the input cannot be used; the input was right, but something went wrong
_DEBUG = "pcam.debug"  # where Click keeps, for all commands, whether the traceback is wanted
_SAID = "pcam.said"  # and what was said, where once is enough
_MACHINE = {errno.ENOSPC, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}  # no input could be better


class CommandFailed(RuntimeError):
    """Something went wrong although the input was right. The message is one sentence."""


def say(message: str) -> None:
    """Tell a person something that is not the result. It goes to standard error, so that the result can be piped."""
    click.echo(message, err=True)


def say_once(*messages: str) -> None:
    """Say what this command has not said yet, since it may open the same data several times."""
    said = click.get_current_context().meta.setdefault(_SAID, set())
    for message in dict.fromkeys(messages):
        if message not in said:
            say(message)
            said.add(message)


def show(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result on standard output: a dict as JSON for a machine, or `text` for a person."""
    click.echo(to_json(result) if as_json else text)


def say_replaced(*paths: str | Path) -> None:
    """Name in one line, before the work, the files that are there already and will be replaced."""
    there = [str(path) for path in map(Path, paths) if path.is_file()]
    if there:
        say(f"Already there, and replaced once this ends well: {', '.join(there)}.")


@contextmanager
def own_surroundings() -> Iterator[None]:
    """Keep a shell or a notebook server from deciding how figures are drawn, and which letters cannot be printed.

    A letter that the console's code page lacks is printed as its number. What goes to a closed stream is dropped.
    """
    backend, out, before = os.environ.get("MPLBACKEND"), sys.stdout, (sys.stdout, sys.stderr)
    strictness = getattr(out, "errors", None)
    os.environ["MPLBACKEND"] = "agg"
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in before)  # noqa: SIM115
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        if hasattr(out, "reconfigure") and not out.closed:
            out.reconfigure(errors=strictness)
        del os.environ["MPLBACKEND"]
        os.environ.update({} if backend is None else {"MPLBACKEND": backend})


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM, with which clusters and shells end a program, work like Ctrl-C, so that half files are removed."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Command(click.Command):
    """A command with `--debug`, which shows where an error comes from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=lambda ctx, _, value: ctx.meta.update({_DEBUG: value}),
                help="Show the traceback of an error.",
            )
        )


class Group(click.Group):
    """Turns whatever goes wrong into one sentence on standard error, and an exit code."""

    command_class = Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with own_surroundings(), ending_in_order():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                # Pillow warns of each odd thing in a damaged image, but we say only once whether it can be read.
                warnings.filterwarnings("ignore", module="PIL")
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):  # Click's own ends
            raise
        except Exception as error:  # noqa: BLE001 (the last to catch it; nothing is swallowed)
            if ctx.meta.get(_DEBUG):
                traceback.print_exc()
            sentence, code = _account_for(error)
            say(f"pcam: {sentence}")
            sys.exit(code)


def _account_for(error: Exception) -> tuple[str, int]:
    """Give one sentence about an error, and the exit code that goes with it."""
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, InputError):
        by_machine = isinstance(error.__cause__, OSError) and error.__cause__.errno in _MACHINE
        return str(error), FAILED if by_machine else BAD_INPUT
    if isinstance(error, CommandFailed):
        return str(error), FAILED
    if isinstance(error, OSError):
        return (f"{error.filename or 'A file'} cannot be read or written ({reason(error)}); mend that first."), FAILED
    if isinstance(error, MemoryError):
        return "The memory is full; close other programs, or take fewer patches.", FAILED
    about = " ".join(str(error).split())
    return f"{type(error).__name__} ({about}) is a fault of this program; report what --debug shows.", FAILED

"""Exit codes, streams and sentences: what scripts and people rely on."""

import errno
import io
import json
import os
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from pcam_utils.cli.console import Command, CommandFailed, Group, own_surroundings, say, say_replaced, show
from pcam_utils.errors import InputError


@pytest.fixture
def fails():
    """Run a command that raises `error`; gives exit code and standard error."""

    def run(error, *arguments):
        @click.command(cls=Group)
        def main():
            pass

        @main.command(cls=Command)
        def work():
            raise error

        result = CliRunner().invoke(main, ["work", *arguments])
        assert isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


def full_disk():
    try:
        raise InputError("out.csv could not be written (No space left on device).") from OSError(errno.ENOSPC, "full")
    except InputError as error:
        return error


@pytest.mark.parametrize(
    "error, code, sentence",
    [
        (InputError("This is wrong."), 2, "pcam: This is wrong."),
        (click.BadParameter("no"), 2, "pcam: Invalid value: no"),
        (CommandFailed("This went wrong."), 1, "pcam: This went wrong."),
        (full_disk(), 1, "pcam: out.csv could not be written (No space left on device)."),
        (OSError(errno.EIO, "x", "a.h5"), 1, "pcam: a.h5 cannot be read or written (Input/output error); mend that"),
        (MemoryError(), 1, "pcam: The memory is full;"),
        (KeyError("a\nb"), 1, "pcam: KeyError ('a\\nb') is a fault of this program; report what --debug shows."),
    ],
)
def test_a_failure_is_one_sentence_and_an_exit_code(fails, error, code, sentence):
    found, output = fails(error)
    assert found == code and output.startswith(sentence) and len(output.splitlines()) == 1


def test_debug_shows_where_an_error_comes_from_and_keeps_the_exit_code(fails):
    code, output = fails(InputError("This is wrong."), "--debug")
    assert code == 2 and output.startswith("Traceback") and "raise error" in output
    assert output.endswith("\npcam: This is wrong.\n")


def test_options_that_do_not_exist_are_one_sentence_too(fails):
    code, output = fails(None, "--nonsense")
    assert (code, len(output.splitlines())) == (2, 1) and output.startswith("pcam: No such option")


def test_results_and_messages_go_to_different_streams(capsys):
    say("working")
    show({"auc": 0.5}, "AUC 0.5", as_json=True)
    show({"auc": 0.5}, "AUC 0.5", as_json=False)
    out, err = capsys.readouterr()
    assert err == "working\n" and out.endswith("}\nAUC 0.5\n")
    assert json.loads(out.removesuffix("AUC 0.5\n")) == {"auc": 0.5}


def test_only_what_is_there_is_named_as_replaced(tmp_path, capsys):
    (tmp_path / "a").touch()
    say_replaced(tmp_path / "a", tmp_path / "b")
    assert capsys.readouterr().err == f"Already there, and replaced once this ends well: {tmp_path / 'a'}.\n"
    say_replaced(tmp_path / "b")
    assert capsys.readouterr().err == ""


def shout(letter):
    @click.group(cls=Group)
    def main():
        pass

    @main.command()
    def now():
        show({}, f"a{letter}b", as_json=False)

    return main


@pytest.mark.parametrize("letter, printed", [("×", b"a\\xd7b\n"), ("\udcff", b"a\\udcffb\n"), ("я", b"a\xffb\n")])
def test_a_letter_that_the_console_lacks_is_printed_as_its_number(monkeypatch, letter, printed):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1251", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    shout(letter).main(["now"], standalone_mode=False)
    stream.flush()
    assert stream.buffer.getvalue() == printed and stream.errors == "strict"


@pytest.mark.parametrize("before", [None, "module://no_such_inline.backend_inline"])
def test_commands_draw_as_they_choose_and_leave_the_choice_of_others(monkeypatch, before):
    monkeypatch.delenv("MPLBACKEND")
    if before:
        monkeypatch.setenv("MPLBACKEND", before)
    with own_surroundings():
        assert os.environ["MPLBACKEND"] == "agg"
    assert os.environ.get("MPLBACKEND") == before


def test_streams_that_are_closed_lead_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with own_surroundings():
        say("into the void")
        assert not sys.stderr.isatty()
    assert sys.stderr is None


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGTERM that could be answered")
def test_sigterm_leaves_no_half_file(tmp_path):
    command = [sys.executable, "-m", "pcam_utils", "sample", tmp_path / "sample"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not any(tmp_path.rglob("*.h5")):
            time.sleep(0.05)
        process.terminate()
    assert (process.returncode, os.listdir(tmp_path)) == (143, [])

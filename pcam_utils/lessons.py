"""Executes the lessons, as a learner would run them cell by cell, and keeps what they show."""

from __future__ import annotations

import contextlib
import csv
import html
import os
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from .errors import InputError
from .files import replacing

FOLDER = Path("notebooks")
TIMEOUT_S = 6 * 3600  #: of one cell: on real data and without a GPU, training takes hours
_IMAGES = {"image/png", "image/jpeg"}
_NO_ALT = "No description has been provided for this image"  # what nbconvert writes where it finds no alt text


@dataclass(frozen=True)
class Result:
    """How one lesson went: its name, its seconds, and those of its slowest cell."""

    name: str
    seconds: float
    slowest_cell: float


def find_lessons(folder=FOLDER, numbers=()):
    """Paths of the lessons, in order; of those asked for by number ('03') alone, if any are. 2x, for Kaggle, are none.

    Parameters
    ----------
    folder : path
    numbers : collection of str

    Returns
    -------
    list of pathlib.Path
    """
    lessons = sorted(Path(folder).glob("[01][0-9]_*.ipynb"))
    if not lessons:
        raise InputError(f"There are no lessons in {folder}; run this where the course's notebooks folder is.")
    unknown = sorted(set(numbers) - {lesson.name[:2] for lesson in lessons})
    if unknown:
        raise InputError(
            f"There is no lesson {unknown[0]}; there are {', '.join(lesson.name[:2] for lesson in lessons)}."
        )
    return [lesson for lesson in lessons if not numbers or lesson.name[:2] in numbers]


def run_lessons(lessons, out, *, data=None, progress=None, say=print):
    """Execute lessons into a folder: notebooks, HTML pages, times.csv, and what the lessons themselves write.

    Parameters
    ----------
    lessons : list of path
    out : path
    data : path, optional
        Folder of patches; what `find_data` finds if left out.
    progress : callable, optional
        Makes a bar from `desc` and `total`, as `tqdm.tqdm` does.
    say : callable
        Told one line a lesson.

    Returns
    -------
    list of Result

    Raises
    ------
    InputError
        If a cell fails: which, in which lesson, and how. What came before it is kept.
    """
    out, results = Path(out), []
    for lesson in lessons:
        notebook, result = execute(lesson, out=out, data=data, progress=progress, keep=out / lesson.name)
        with replacing(out / f"{lesson.stem}.html") as temporary:
            temporary.write_text(as_page(notebook), encoding="utf-8")
        results.append(result)
        say(f"{result.name}: {result.seconds:.0f} s, slowest cell {result.slowest_cell:.0f} s")
    with replacing(out / "times.csv") as temporary, open(temporary, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("lesson", "seconds", "slowest_cell"))
        rows.writerows((r.name, f"{r.seconds:.2f}", f"{r.slowest_cell:.2f}") for r in results)
    return results


def execute(lesson, *, out, data=None, progress=None, keep=None):
    """Execute one lesson in its own folder.

    Parameters
    ----------
    lesson, out, data, progress
        See `run_lessons`.
    keep : path, optional
        Where the executed notebook is written, also if a cell fails.

    Returns
    -------
    nbformat.NotebookNode, Result
    """
    out = Path(out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(lesson, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        record_timing=False,  # would store the clock of this machine in the notebook
        resources={"metadata": {"path": str(Path(lesson).parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    clock = _Clock(client, progress, desc=lesson.stem, total=len(notebook.cells))
    try:
        with _environment(PCAM_OUT=out, PCAM_DATA=data and Path(data).absolute()), clock:
            client.execute()
    except CellExecutionError as error:
        raise InputError(f"{lesson.name} stopped in cell {clock.cell + 1}: {error.ename}: {error.evalue}") from error
    finally:
        _describe_figures(notebook)
        if keep:
            with replacing(keep) as temporary:
                nbformat.write(notebook, temporary)
    return notebook, Result(lesson.stem, sum(clock.seconds), max(clock.seconds))


def refresh(lesson, *, out, data=None, progress=None):
    """Execute a lesson and store its outputs in the notebook itself, without traces of the machine.

    Parameters
    ----------
    lesson, out, data, progress
        See `run_lessons`.

    Returns
    -------
    Result
    """
    notebook, result = execute(lesson, out=out, data=data, progress=progress)
    store(notebook, lesson)
    return result


def store(notebook, lesson):
    """Write an executed notebook over the lesson: outputs with alt text, no warnings, no traces of the machine."""
    _describe_figures(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    with replacing(lesson) as temporary:
        nbformat.write(nbformat.from_dict(notebook), temporary)


def as_page(notebook):
    """The executed notebook as one HTML page, figures with their alt text."""
    page, _ = HTMLExporter().from_notebook_node(notebook)
    # JupyterLab's template knows no alt text of figures, and nbconvert puts a phrase in its place.
    for alt in _alt_texts(notebook):
        page = page.replace(_NO_ALT, html.escape(alt, quote=True), 1)
    return page


def _describe_figures(notebook):
    """Give each figure the alt text that its cell carries, where screen readers and other tools look for it."""
    for cell, output in _figures(notebook):
        if cell.metadata.get("alt"):
            for kind in _IMAGES & output.data.keys():
                output.metadata[kind] = {**output.metadata.get(kind, {}), "alt": cell.metadata["alt"]}


def _alt_texts(notebook):
    return [cell.metadata.get("alt", _NO_ALT) for cell, _ in _figures(notebook)]


def _figures(notebook):
    """(cell, output) of each figure, in order."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [(cell, output) for cell in code for output in cell.outputs if _IMAGES & output.get("data", {}).keys()]


class _Clock:
    """Times the cells of a lesson, and moves its bar."""

    def __init__(self, client, progress, **about):
        self.seconds, self.cell = [0.0], 0
        self.bar = progress(**about) if progress else None
        client.on_cell_start = self._start
        client.on_cell_executed = self._end

    def _start(self, cell, cell_index):
        self.cell, self.begun = cell_index, time.perf_counter()

    def _end(self, cell, cell_index, execute_reply):
        self.seconds.append(time.perf_counter() - self.begun)
        if self.bar is not None:
            self.bar.update(cell_index + 1 - self.bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()


@contextlib.contextmanager
def _environment(**values):
    """Environment variables for the kernel; None leaves one as it is."""
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

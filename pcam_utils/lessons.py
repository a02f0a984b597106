"""Executes the lessons cell by cell, as a learner would, and keeps what they show."""

from __future__ import annotations

import csv
import html
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from tqdm.auto import tqdm

from .errors import InputError
from .files import replacing, require_mounted

FOLDER = Path("notebooks")
#: With this in its metadata, Colab opens a lesson on a GPU; lessons that train a network have it.
GPU = {"accelerator": "GPU", "colab": {"gpuType": "T4"}}
TIMEOUT_S = 6 * 3600  #: of one cell: on real data and without a GPU, training takes hours
WIDGET = "application/vnd.jupyter.widget-view+json"
_IMAGES = {"image/png", "image/jpeg"}
_NO_ALT = "No description has been provided for this image"  # what nbconvert writes where it finds no alt text


class LessonFailed(RuntimeError):
    """A cell of a lesson raised an error. The message is one sentence that names lesson, cell and error."""


@dataclass(frozen=True)
class Result:
    """How one lesson went: its name, its seconds, and those of its slowest cell."""

    name: str
    seconds: float
    slowest_cell: float


def find_lessons(folder: str | Path = FOLDER, numbers: Collection[str] = ()) -> list[Path]:
    """Find the lessons in a folder, in order. Notebooks from 20 on are for Kaggle and do not count as lessons.

    Parameters
    ----------
    folder : path
    numbers : collection of str
        Take only the lessons with these numbers, such as '03'. If no number is given, take all.

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


def run_lessons(
    lessons: Sequence[Path],
    out: str | Path,
    *,
    data: str | Path | None = None,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> list[Result]:
    """Execute lessons into a folder: notebooks, HTML pages, times.csv, and what the lessons themselves write.

    Parameters
    ----------
    lessons : list of path
    out : path
    data : path, optional
        Folder of patches. If left out, the one that `find_data` finds.
    progress : bool
        Show a bar of the cells, where somebody watches.
    say : callable
        Told one line a lesson.

    Returns
    -------
    list of Result

    Raises
    ------
    LessonFailed
        If a cell raises an error. What came before it is kept.
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


def files_in(out: str | Path, lessons: Sequence[Path]) -> list[Path]:
    """Paths of what `run_lessons` itself writes into the folder `out`."""
    pages = [Path(out) / f"{lesson.stem}{suffix}" for lesson in lessons for suffix in (".ipynb", ".html")]
    return [*pages, Path(out) / "times.csv"]


def execute(
    lesson: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    progress: bool = True,
    keep: str | Path | None = None,
) -> tuple[nbformat.NotebookNode, Result]:
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
    lesson, out = Path(lesson), Path(out).absolute()
    require_mounted(out)
    out.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(lesson, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        record_timing=False,  # would store the clock of this machine in the notebook
        resources={"metadata": {"path": str(lesson.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    told = {"PCAM_OUT": str(out)} | ({"PCAM_DATA": str(Path(data).absolute())} if data else {})
    # None: where nobody watches, there is no bar.
    bar = tqdm(desc=lesson.stem, total=len(notebook.cells), unit="cell", disable=not progress)
    clock = _Clock(client, bar)
    try:
        with bar:
            # Not how this process draws: a notebook's figures belong under its cells.
            client.execute(env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | told)
    except CellExecutionError as error:
        raise LessonFailed(f"{lesson.name} stopped in cell {clock.cell + 1}: {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        raise LessonFailed(
            f"{lesson.name} lost its Python process in cell {clock.cell + 1}; perhaps the memory was full."
        ) from error
    finally:
        _describe_figures(notebook)
        if keep:
            with replacing(keep) as temporary:
                nbformat.write(notebook, temporary)
    return notebook, Result(lesson.stem, sum(clock.seconds), max(clock.seconds))


def refresh(lesson: str | Path, *, out: str | Path, data: str | Path | None = None, progress: bool = True) -> Result:
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


def store(notebook: nbformat.NotebookNode, lesson: str | Path) -> None:
    """Write an executed notebook over the lesson: outputs with alt text, no warnings, no traces of the machine."""
    _describe_figures(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _passing(output)]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        **(GPU if "accelerator" in notebook.metadata else {}),
    }
    with replacing(lesson) as temporary:
        nbformat.write(nbformat.from_dict(notebook), temporary)


def _passing(output: nbformat.NotebookNode) -> bool:
    """True for outputs that only tell how a cell goes: warnings and bars (which may be widgets of ipywidgets)."""
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def as_page(notebook: nbformat.NotebookNode) -> str:
    """The executed notebook as one HTML page, figures with their alt text."""
    page, _ = HTMLExporter().from_notebook_node(notebook)
    # JupyterLab's template knows no alt text of figures, and nbconvert puts a phrase in its place.
    for alt in _alt_texts(notebook):
        page = page.replace(_NO_ALT, html.escape(alt, quote=True), 1)
    return page


def _describe_figures(notebook: nbformat.NotebookNode) -> None:
    """Copy the alt text of each cell to its figures, where screen readers and other tools look for it."""
    for cell, output in _figures(notebook):
        if cell.metadata.get("alt"):
            for kind in _IMAGES & output.data.keys():
                output.metadata[kind] = {**output.metadata.get(kind, {}), "alt": cell.metadata["alt"]}


def _alt_texts(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.metadata.get("alt", _NO_ALT) for cell, _ in _figures(notebook)]


def _figures(notebook: nbformat.NotebookNode) -> list[tuple[Any, Any]]:
    """(cell, output) of each figure, in order."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [(cell, output) for cell in code for output in cell.outputs if _IMAGES & output.get("data", {}).keys()]


class _Clock:
    """Times the cells of a lesson, and moves its bar."""

    def __init__(self, client: NotebookClient, bar: tqdm) -> None:
        self.seconds, self.cell, self.bar = [0.0], 0, bar
        client.on_cell_start = self._start
        client.on_cell_executed = self._end

    def _start(self, cell: Any, cell_index: int) -> None:
        self.cell, self.begun = cell_index, time.perf_counter()

    def _end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        self.seconds.append(time.perf_counter() - self.begun)
        self.bar.update(cell_index + 1 - self.bar.n)

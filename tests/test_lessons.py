import csv
import json
import os
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytest.importorskip("nbclient")

from pcam_utils import lessons
from pcam_utils.errors import InputError

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
WRITES = """
import os, pathlib
pathlib.Path(os.environ['PCAM_OUT'], 'made.txt').write_text(os.environ['PCAM_DATA'])
print('done')
"""
PASSING = """
import sys, tqdm.auto
print('oh', file=sys.stderr)
for _ in tqdm.auto.tqdm(range(3)): pass
"""


@pytest.fixture
def course(tmp_path):
    """A course of two lessons: one draws, one writes and complains."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    figure = new_code_cell(FIGURE, metadata={"alt": 'A line that rises from "1" to 2.'})
    write(folder / "00_draw.ipynb", [new_markdown_cell("# Draw"), figure])
    write(folder / "01_write.ipynb", [new_code_cell(WRITES), new_code_cell(PASSING)])
    write(folder / "notes.ipynb", [])
    return folder


def write(path, cells):
    nbformat.write(
        new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "mine"}}), path
    )


def test_lessons_are_found_in_order_and_by_number(course):
    assert [path.name for path in lessons.find_lessons(course)] == ["00_draw.ipynb", "01_write.ipynb"]
    assert [path.name for path in lessons.find_lessons(course, ["01"])] == ["01_write.ipynb"]
    with pytest.raises(InputError, match="no lesson 07; there are 00, 01"):
        lessons.find_lessons(course, ["07"])
    with pytest.raises(InputError, match="There are no lessons in"):
        lessons.find_lessons(course / "elsewhere")


def test_the_course_leaves_notebooks_pages_times_and_what_lessons_make(course, tmp_path, pcam):
    out, data = tmp_path / "out", tmp_path / "patches"
    result = pcam("course", data, "--out", out, "--lessons", course)
    assert result.exit_code == 0, result.stderr
    assert "2 lessons in" in result.stdout
    assert (out / "made.txt").read_text() == str(data)
    page = (out / "00_draw.html").read_text(encoding="utf-8")
    assert 'alt="A line that rises from &quot;1&quot; to 2."' in page and "No description" not in page
    assert nbformat.read(out / "01_write.ipynb", 4).cells[0].outputs[0].text == "done\n"
    with open(out / "times.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["lesson"] for row in rows] == ["00_draw", "01_write"]
    assert all(0 < float(row["slowest_cell"]) <= float(row["seconds"]) for row in rows)
    assert nbformat.read(course / "01_write.ipynb", 4).cells[0].outputs == []


def test_a_second_time_is_told_what_it_replaces_and_prints_json(course, tmp_path, pcam, monkeypatch):
    before = dict(os.environ)
    once, twice = (
        pcam("course", "--out", tmp_path / "out", "--lessons", course, "--lesson", "00", "--json") for _ in range(2)
    )
    (lesson,) = json.loads(twice.stdout)["lessons"]
    assert lesson["name"] == "00_draw" and 0 < lesson["slowest_cell"] <= lesson["seconds"]
    files = ", ".join(str(tmp_path / "out" / name) for name in ("00_draw.ipynb", "00_draw.html", "times.csv"))
    assert "replaced" not in once.stderr
    assert twice.stderr.splitlines()[0] == f"Already there, and replaced once this ends well: {files}."
    assert os.environ == before  # the kernel is told, not this process


def test_a_kernel_that_dies_is_one_sentence(course, tmp_path):
    write(course / "03_die.ipynb", [new_code_cell("import os\nos._exit(1)")])
    with pytest.raises(lessons.LessonFailed, match=r"03_die\.ipynb lost its Python process in cell 1; perhaps"):
        lessons.execute(course / "03_die.ipynb", out=tmp_path, progress=False)


def test_a_failing_cell_is_named_and_what_came_before_is_kept(course, tmp_path, pcam):
    write(course / "02_fail.ipynb", [new_markdown_cell("# Fail"), new_code_cell("print(1)"), new_code_cell("1 / 0")])
    result = pcam("course", "--out", tmp_path / "out", "--lessons", course, "--lesson", "02")
    assert result.exit_code == 1
    assert "02_fail.ipynb stopped in cell 3: ZeroDivisionError: division by zero" in result.stderr
    assert nbformat.read(tmp_path / "out" / "02_fail.ipynb", 4).cells[1].outputs[0].text == "1\n"


def test_refreshing_stores_outputs_without_traces_of_the_machine(course, tmp_path, pcam):
    result = pcam("course", tmp_path, "--out", tmp_path / "out", "--lessons", course, "--refresh")
    assert result.exit_code == 0, result.stderr
    draw, complain = (nbformat.read(course / name, 4) for name in ("00_draw.ipynb", "01_write.ipynb"))
    (figure,) = (output for output in draw.cells[1].outputs if "image/png" in output.get("data", {}))
    assert figure.metadata["image/png"]["alt"] == 'A line that rises from "1" to 2.'
    assert [cell.execution_count for cell in complain.cells] == [1, 2] and complain.cells[1].outputs == []
    assert complain.metadata.kernelspec.display_name == "Python 3" and "execution" not in complain.cells[0].metadata


@pytest.mark.parametrize("asks", [True, False])
def test_a_lesson_that_asks_for_a_gpu_goes_on_asking_and_nothing_else_of_its_metadata_is_kept(tmp_path, asks):
    metadata = {"accelerator": "GPU", "colab": {"gpuType": "A100", "provenance": ["somebody"]}} if asks else {}
    notebook = new_notebook(cells=[], metadata={**metadata, "widgets": {"a": 1}})
    lessons.store(notebook, tmp_path / "01.ipynb")
    stored = nbformat.read(tmp_path / "01.ipynb", 4).metadata
    assert {key: stored[key] for key in stored if key not in ("kernelspec", "language_info")} == (
        lessons.GPU if asks else {}
    )


def test_a_course_without_jupyter_says_what_to_install(monkeypatch, pcam):
    monkeypatch.delitem(sys.modules, "pcam_utils.lessons", raising=False)
    monkeypatch.delattr("pcam_utils.lessons", raising=False)
    monkeypatch.setitem(sys.modules, "nbclient", None)
    result = pcam("course")
    assert (
        result.exit_code == 2 and "nbclient" in result.stderr and 'pip install "pcam-utils[notebooks]"' in result.stderr
    )

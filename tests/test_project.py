"""The project's own promises: rooms in order, small modules, one list of dependencies, commands that exist."""

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers import ROOT, python

PACKAGE = ROOT / "pcam_utils"
MODULES = sorted(PACKAGE.rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 410, 60  # what one still sees through; a function's docstring does not count


@pytest.fixture(scope="module")
def pyproject():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib comes with Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_rooms_import_from_those_below_and_never_in_a_circle():
    pytest.importorskip("importlinter")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    result = python(code, cwd=ROOT, PYTHONPATH=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    "module",
    [
        "pcam_utils",
        "pcam_utils.data",
        "pcam_utils.simulated",
        "pcam_utils.evaluation.metrics",
        "pcam_utils.cli.commands",
    ],
)
def test_what_needs_no_network_starts_none_and_sets_no_variable(module):
    code = (
        "import os, sys; before = dict(os.environ)\n"
        f"import {module}\n"
        "new = {name for name in os.environ if os.environ[name] != before.get(name)}\n"
        "ours = [name for name in new if not name.startswith('KMP_')]  # scikit-learn sets those\n"
        "print(sorted({'keras', 'tensorflow', 'jax'} & set(sys.modules)), ours)"
    )
    assert python(code, check=True).stdout == "[] []\n"


@pytest.mark.parametrize("room", ["data", "simulated"])
def test_every_name_of_a_room_without_networks_comes_without_one(room):
    code = (
        f"import sys; from pcam_utils import {room}\n"
        f"for name in {room}.__all__: getattr({room}, name)\n"
        "print(sorted({'keras', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    assert python(code, check=True).stdout == "[]\n"


def test_modules_and_functions_stay_small_and_start_with_one_sentence():
    sizes = {}
    for path in MODULES:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix()
        lines = text.splitlines()
        assert re.fullmatch(r'""".+[.]"""', lines[0]), f"{name} does not start with one sentence"
        sizes[name] = len(lines), MODULE_LINES
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef):
                documented = ast.get_docstring(function) is not None and len(function.body) > 1
                length = function.end_lineno - function.body[documented].lineno + 1
                sizes[f"{name}, {function.name}"] = length, FUNCTION_LINES
    too_large = {what: lines for what, (lines, limit) in sizes.items() if lines > limit}
    assert not too_large


WHEEL = """
import sys
from setuptools.build_meta import build_wheel
build_wheel(sys.argv[1])
"""
INSTALLED = """
import pcam_utils
from pcam_utils.cli.commands import main
from pcam_utils.data.patches import Patches, Rows
from pcam_utils.models.shipped import read_weights, seen_in_training
import numpy as np
grey = Patches(Rows(np.full((1, 96, 96, 3), 128, np.uint8)), np.array(["a"]))
print(pcam_utils.__file__, len(read_weights()) > 100, seen_in_training(grey).shape)
main(["--version"])
"""


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone_with_all_of_its_rooms_and_weights_and_works(tmp_path):
    source, target = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(PACKAGE, source / "pcam_utils", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "tests").mkdir()  # which must stay out
    (source / "tests" / "__init__.py").write_text("")
    python(WHEEL, tmp_path, cwd=source, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    ours = {path.relative_to(source).as_posix() for path in (source / "pcam_utils").rglob("*") if path.is_file()}
    assert {name for name in files if ".dist-info/" not in name} == ours
    assert sum(name.endswith("/__init__.py") for name in ours) == 8 and sum("/weights/" in name for name in ours) >= 3
    shown = python(INSTALLED, cwd=tmp_path, PYTHONPATH=target, check=True).stdout
    assert shown.startswith(f"{target / 'pcam_utils' / '__init__.py'} True (1,)\n") and ", version " in shown


def test_the_book_has_a_chapter_on_every_module():
    listed = re.findall(r"automodule:: (\S+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    modules = [path.relative_to(ROOT).with_suffix("") for path in MODULES if not path.stem.startswith("__")]
    assert sorted(listed) == sorted(".".join(path.parts) for path in modules)


def test_environment_installs_what_pyproject_lists(pyproject):
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    wanted = set(project["dependencies"])
    wanted.update(*(extras[name] for name in ("tensorflow", "kaggle", "notebooks", "tests")))
    lines = re.findall(r"^ +- ([\w-]+[<>=].*)$", (ROOT / "environment.yml").read_text(), re.M)
    python = [line for line in lines if line.startswith("python>")]
    # Conda's imgaug brings an OpenCV of its own, its openslide-python an OpenSlide.
    assert "\n  - imgaug\n" in (ROOT / "environment.yml").read_text()
    assert set(lines) - set(python) == {name for name in wanted if not name.startswith(("opencv", "openslide-bin"))}
    assert python[0].startswith("python" + project["requires-python"])


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    section = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    listed = [line for line in section.splitlines() if re.search(r'^\s+"', line)]
    assert listed and all("#" in line for line in listed)


def test_readme_and_docs_name_only_make_targets_and_commands_that_exist(pcam):
    pages = ("README.md", "docs/install.md", "docs/commands.md")
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make (\w+)", text, re.M))
    assert {"run", "test"} <= targets and all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
    named = re.findall(r"`?make (\w[\w-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert {"check", "lesson-test"} <= set(named)
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in named)
    commands = set(re.findall(r"^pcam (\w+)", text, re.M))
    assert {"sample", "train", "evaluate", "predict"} <= commands
    assert all(pcam(command, "--help").exit_code == 0 for command in commands)


def test_the_readme_says_in_its_first_lines_what_it_is_about_and_has_a_row_for_every_lesson():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "breast cancer" in readme[:200] and "Not for diagnosis" in readme.split("## ")[0]
    listed = re.findall(r"^\| (\d\d) \| \[.+?\]\(notebooks/(\d\d)_\w+\.ipynb\) \| .+ \| (\d+) \|$", readme, re.M)
    assert [number for number, _, _ in listed] == sorted(path.name[:2] for path in ROOT.glob("notebooks/*.ipynb"))
    for number, file, minutes in listed:
        (lesson,) = ROOT.glob(f"notebooks/{file}_*.ipynb")
        assert number == file and f"**Minutes:** {minutes} to teach" in lesson.read_text(encoding="utf-8")


def test_badges_of_the_docs_agree_with_the_one_address(pyproject):
    repository = pyproject["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    badges = r"(?:mybinder\.org/v2/gh|colab\.research\.google\.com/github|codespaces\.new|git\+https://github\.com)/([\w-]+/[\w-]+)"
    named = [place for page in pages for place in re.findall(badges, page.read_text(encoding="utf-8"))]
    assert len(named) > 4 and set(named) == {repository}


def test_the_dev_container_runs_what_the_makefile_has_on_a_python_that_we_allow(pyproject):
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    make, *targets = container["postCreateCommand"].split()
    makefile = (ROOT / "Makefile").read_text()
    assert make == "make" and all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
    lowest = int(pyproject["project"]["requires-python"].removeprefix(">=3."))
    assert int(container["image"].rpartition(":3.")[2]) >= lowest


def test_links_inside_the_repository_resolve():
    for page in [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_no_file_names_the_machine_it_was_made_on():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    for name in files:
        if name.endswith((".png", ".h5")) or not (ROOT / name).is_file():
            continue
        text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        assert not re.search(r"/(home|root|tmp|Users)/\w", text), name


@pytest.mark.parametrize("schedule", ["Half a day", "A whole day"])
def test_schedules_add_up_with_the_minutes_that_lessons_name(schedule):
    section = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").split(f"## {schedule}")[1].split("\n## ")[0]
    rows = [
        (int(begin), int(minutes), what)
        for begin, minutes, what in re.findall(r"^\| (\d+) \| (\d+) \| (.+) \|$", section, re.M)
    ]
    ends = [begin + minutes for begin, minutes, _ in rows]
    assert len(rows) > 5 and [begin for begin, _, _ in rows] == [0, *ends[:-1]]
    for _, minutes, what in rows:
        for lesson in (ROOT / "notebooks").glob(f"{what[:2]}_*.ipynb"):
            named = re.search(r"\*\*Minutes:\*\* (\d+) to teach, (\d+) to run", lesson.read_text(encoding="utf-8"))
            assert minutes == int(named[1]) > int(named[2]), lesson.name


@pytest.mark.parametrize("schedule", ["Half a day", "A whole day"])
def test_nobody_sits_for_more_than_75_minutes(schedule):
    section = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8").split(f"## {schedule}")[1].split("\n## ")[0]
    sitting = 0
    for minutes, what in re.findall(r"^\| \d+ \| (\d+) \| (.+) \|$", section, re.M):
        sitting = 0 if what in ("break", "lunch") else sitting + int(minutes)
        assert sitting <= 75, what


def test_the_guide_has_a_chapter_on_every_lesson_with_questions_and_what_to_leave_out():
    guide = (ROOT / "docs" / "teaching_lessons.md").read_text(encoding="utf-8")
    chapters = {chapter[:2]: chapter for chapter in guide.split("\n## ")[1:]}
    for lesson in ROOT.glob("notebooks/*.ipynb"):
        chapter = chapters[lesson.name[:2]]
        for part in ("**Afterwards people can**", "**Say first.**", "| fine if |", "**Ask.**", "**Late?**"):
            assert part in chapter, (lesson.name, part)
        assert len(re.findall(r"^- \*.+\?\* ", chapter, re.M)) == 3, lesson.name
        text = lesson.read_text(encoding="utf-8")
        minutes = re.search(r"\*\*Minutes:\*\* (\d+) to teach", text)[1]
        assert re.search(rf"^\*{minutes} minutes", chapter, re.M), lesson.name
        for section in re.findall(r'"([^"]+?)[,.]?"', chapter.split("**Late?**")[1]):
            assert f'"## {section}\\n' in text, (lesson.name, section)


def test_numbers_that_the_guide_expects_stand_in_the_lessons():
    guide = (ROOT / "docs" / "teaching_lessons.md").read_text(encoding="utf-8")
    for chapter in guide.split("\n## ")[1:]:
        for lesson in ROOT.glob(f"notebooks/{chapter[:2]}_*.ipynb"):
            text = lesson.read_text(encoding="utf-8").replace(" %", "%").replace("−", "-")
            rows = re.findall(r"^\| .+? \| (.+?) \| .+ \|$", chapter, re.M)
            for number in re.findall(r"\d[\d,.]*\d%?|\d%", " ".join(rows[2:]).replace(" %", "%")):
                assert number in text, (lesson.name, number)

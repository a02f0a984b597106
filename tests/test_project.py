"""The project's own promises: one list of dependencies, a README whose commands exist, no word of where it was made."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib comes with Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_installs_what_pyproject_lists(project):
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


def test_modules_stay_small_and_start_with_one_sentence():
    for module in (ROOT / "pcam_utils").glob("*.py"):
        lines = module.read_text(encoding="utf-8").splitlines()
        assert re.fullmatch(r'""".+[.]"""', lines[0]), f"{module.name} does not start with one sentence"


def test_readme_names_only_make_targets_and_commands_that_exist(pcam):
    readme, makefile = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make (\w+)", readme, re.M))
    assert {"run", "test"} <= targets and all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
    commands = set(re.findall(r"^pcam (\w+)", readme, re.M))
    assert {"sample", "train", "evaluate", "predict"} <= commands
    assert all(pcam(command, "--help").exit_code == 0 for command in commands)


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

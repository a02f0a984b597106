"""Holds the lessons to their form; that they run and print what is stored in them is nbval's part (the Makefile)."""

import ast
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import numpy as np
import pytest

pytest.importorskip("nbclient")

from pcam_utils.lessons import GPU

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = re.search(r'Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
IMAGES = {"image/png", "image/jpeg"}

of_each_notebook = pytest.mark.parametrize("lesson", NOTEBOOKS, ids=lambda path: path.stem)
of_each_lesson = pytest.mark.parametrize(
    "lesson", [n for n in NOTEBOOKS if n.name[0] in "01"], ids=lambda path: path.stem
)


def read(lesson):
    return nbformat.read(lesson, as_version=4)


def code(lesson, tag=None):
    cells = [cell for cell in read(lesson).cells if cell.cell_type == "code"]
    return [cell for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


def trains(lesson):
    """True if it trains a network, and more of it where there is a GPU."""
    text = "\n".join(cell.source for cell in code(lesson))
    return ".compile(" in text and ("has_gpu()" in text or 'list_physical_devices("GPU")' in text)


def prose(lesson):
    return "\n".join(cell.source for cell in read(lesson).cells if cell.cell_type == "markdown")


def figures(lesson):
    return [
        (c, o, IMAGES & o.data.keys()) for c in code(lesson) for o in c.outputs if IMAGES & o.get("data", {}).keys()
    ]


@of_each_lesson
def test_a_lesson_is_valid_and_says_what_it_needs_and_gives(lesson):
    nbformat.validate(read(lesson))
    text = prose(lesson)
    assert text.startswith(f"# {lesson.name[:2]} · ") and len(re.findall(r"^# ", text, re.M)) == 1
    for part in (
        "**You will**",
        "**Minutes:**",
        "**Needs:**",
        "**Next:**",
        "## Set up",
        "## Exercises",
        "## Questions",
        "## Take-aways",
        "## Where to go next",
    ):
        assert part in text, part
    assert "not for diagnosis" in text.lower()


@of_each_notebook
def test_badges_and_installation_agree_with_the_one_address(lesson):
    place = f"{ADDRESS.removeprefix('https://github.com/')}/blob/main/notebooks/{lesson.name}"
    assert f"https://colab.research.google.com/github/{place}" in prose(lesson)
    assert f"https://kaggle.com/kernels/welcome?src=https://github.com/{place}" in prose(lesson)
    repository = place.partition("/blob/")[0]
    binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/notebooks/{lesson.name}"
    assert (binder in prose(lesson)) == (lesson.name[0] in "01")  # Binder lacks Kaggle's images
    installs = [
        line
        for cell in code(lesson)
        for line in cell.source.splitlines()
        if "%pip install --quiet" in line and "pcam" in line
    ]
    assert (lesson.name[0] in "01") == bool(installs)
    assert all(f'"pcam-utils @ git+{ADDRESS}"' in line for line in installs)


def test_where_the_package_cannot_be_had_a_lesson_says_what_to_do(tmp_path):
    """All lessons begin with the same lines, so one is run: where the package cannot be imported, nor fetched."""
    (lines,) = {code(lesson)[0].source for lesson in NOTEBOOKS if lesson.name[0] in "01"}
    (tmp_path / "start.ipy").write_text(f"import sys\nsys.modules['pcam_utils'] = None\n{lines}")
    nowhere = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "GIT_TERMINAL_PROMPT": "0",
        "PIP_NO_INPUT": "1",
    }
    command, environment = [sys.executable, "-m", "IPython", "--no-banner", "start.ipy"], os.environ | nowhere
    result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, env=environment, timeout=120)
    assert "Upload its wheel, and: %pip install" in result.stdout.splitlines()[-1], result.stdout


@pytest.mark.parametrize("place", ["course", "datasets/somebody/course/deeper"])
def test_on_kaggle_a_wheel_in_an_attached_data_set_is_installed_wherever_that_is_mounted(tmp_path, place):
    (lines,) = {code(lesson)[0].source for lesson in NOTEBOOKS if lesson.name[0] in "01"}
    wheel = tmp_path / place / "pcam_utils-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    shown = "lambda line: print(line, os.environ['PIP_FIND_LINKS'])"
    asked = f"get_ipython().register_magic_function({shown}, magic_name='pip')"
    lines = lines.replace("/kaggle/input", str(tmp_path))
    (tmp_path / "start.ipy").write_text(f"import os, sys\nsys.modules['pcam_utils'] = None\n{asked}\n{lines}")
    command = [sys.executable, "-m", "IPython", "--no-banner", "start.ipy"]
    result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert result.stdout.startswith(f'install --quiet "{wheel}" {wheel.parent}\n'), result.stdout


@of_each_lesson
def test_exactly_one_cell_holds_what_may_be_changed(lesson):
    (cell,) = code(lesson, "parameters")
    # Lesson 15 is about pictures of other things than tissue, and brings its own.
    assert ("DATA = None" if lesson.name.startswith("15") else "DATA = find_or_make_data()") in cell.source


@of_each_notebook
def test_outputs_are_stored_in_order_and_without_errors(lesson):
    cells = code(lesson)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output.get("name", output.output_type) for cell in cells for output in cell.outputs]
    assert "error" not in kinds and "stderr" not in kinds
    for cell in code(lesson, "nbval-check-output"):
        assert any(output.get("name") == "stdout" and output.text.strip() for output in cell.outputs), cell.source


@of_each_notebook
def test_nothing_of_the_machine_is_stored(lesson):
    notebook = read(lesson)
    about = dict(notebook.metadata)
    assert set(about.pop("language_info")) == {"name"} and about.pop("kernelspec")
    assert about == (GPU if trains(lesson) else {})
    for cell in notebook.cells:
        assert "execution" not in cell.metadata
    stored = json.dumps([cell.outputs for cell in code(lesson)])
    assert not re.search(r"/(root|home|tmp|work|usr|opt|Users|content)/|[A-Z]:\\\\|site-packages", stored)


@of_each_notebook
def test_a_lesson_stays_small(lesson):
    assert lesson.stat().st_size < 2e6
    assert all(len(json.dumps(output)) < 500e3 for cell in code(lesson) for output in cell.outputs)


@of_each_notebook
def test_every_figure_has_alt_text_and_a_caption(lesson):
    for cell, output, kinds in figures(lesson):
        alt = cell.metadata.get("alt", "")
        assert len(alt) > 30 and alt.endswith("."), cell.source
        assert all(output.metadata[kind]["alt"] == alt for kind in kinds)
    assert {cell.id for cell in code(lesson) if "alt" in cell.metadata} == {cell.id for cell, _, _ in figures(lesson)}
    captions = re.findall(r"^\*Figure (\d+)\.", prose(lesson), re.M)
    assert captions == [str(number + 1) for number in range(len(figures(lesson)))]


@of_each_notebook
def test_figures_of_patches_say_that_these_are_simulated(lesson):
    for cell, _, _ in figures(lesson):
        if "imshow" in cell.source:
            assert "{kind}" in cell.source or "simulated" in cell.source, cell.source


@of_each_lesson
def test_solutions_are_folded_everywhere_and_questions_have_folded_answers(lesson):
    solutions = code(lesson, "solution")
    assert 2 <= len(solutions) <= 4 and all(cell.source.startswith("# @title Solution\n") for cell in solutions)
    for cell in [code(lesson)[0], *solutions]:  # the first one installs
        assert cell.source.startswith("# @title ") and cell.metadata["cellView"] == "form"
        assert cell.metadata["jupyter"]["source_hidden"] and cell.metadata["_kg_hide-input"]
    for cell in solutions:  # stored outputs would give them away
        assert cell.metadata["jupyter"]["outputs_hidden"] and cell.metadata["_kg_hide-output"]
    assert prose(lesson).count("<details><summary>") == prose(lesson).count("</details>") == 3


@of_each_notebook
def test_links_inside_the_repository_resolve(lesson):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose(lesson)):
        assert link.startswith("https://") or (lesson.parent / link).exists(), link


def parsed(lesson):
    """Its code as one tree, but for lines that IPython alone understands."""
    return ast.parse(re.sub(r"^( *)[%!].*$", r"\1pass", "\n".join(cell.source for cell in code(lesson)), flags=re.M))


@of_each_lesson
def test_cells_that_claim_to_be_plain_name_nothing_of_the_package(lesson):
    """In lessons 03 to 05, whatever is not tagged 'package' runs without it."""
    nodes = [node for node in ast.walk(parsed(lesson)) if isinstance(node, ast.ImportFrom)]
    imported = {
        name.asname or name.name for node in nodes if node.module.startswith("pcam_utils") for name in node.names
    }
    if lesson.name[:2] in ("03", "04", "05"):
        for cell in code(lesson):
            if "package" not in cell.metadata.get("tags", []):
                used = set(re.findall(r"(?<![.\w])[A-Za-z_]\w*", cell.source)) & (imported | {"pcam_utils"})
                assert not used, (used, cell.source)


MAKES, RUNS = ("Model", "Sequential", "clone_model", "load_model"), ("predict", "evaluate", "fit", "train_on_batch")


def is_call(node, names, of_keras=False):
    """True for `….name(…)` with one of these names; of_keras: for `keras.….name(…)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names):
        return False
    root = node.func
    while isinstance(root, ast.Attribute):
        root = root.value
    return not of_keras or (isinstance(root, ast.Name) and root.id == "keras")


def decides(node):
    """Names of the networks for which this says whether XLA compiles them."""
    if isinstance(node, ast.Assign):
        return {ast.unparse(t.value) for t in node.targets if isinstance(t, ast.Attribute) and t.attr == "jit_compile"}
    if is_call(node, ("compile",)) and any(keyword.arg == "jit_compile" for keyword in node.keywords):
        return {ast.unparse(node.func.value)}
    return set()


@of_each_notebook
def test_what_runs_says_whether_xla_compiles_it(lesson):
    """Keras would compile each network as soon as a GPU is listed (tests/runtime/test_xla.py)."""
    tree = parsed(lesson)
    functions = {
        node.name: any(map(decides, ast.walk(node))) for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    decided, made = set().union(*map(decides, ast.walk(tree))), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            value = node.value
            by_function = (
                isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in functions
            )
            if by_function and functions[value.func.id]:
                continue  # which decides it
            if any(is_call(part, MAKES, of_keras=True) for part in ast.walk(value)):
                made |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        if is_call(node, RUNS):
            assert not is_call(node.func.value, MAKES, of_keras=True), ast.unparse(node)
    ran = {ast.unparse(node.func.value) for node in ast.walk(tree) if is_call(node, RUNS)}
    assert not (ran & made) - decided


def test_lesson_17_takes_another_backbone(monkeypatch):
    """Its cell, with a stand-in for timm: whatever the network gives becomes one row of numbers for each patch."""
    torch = pytest.importorskip("torch")
    (lesson,) = ROOT.glob("notebooks/17_*.ipynb")
    (cell,) = [cell.source for cell in code(lesson) if "timm.create_model" in cell.source]

    class Colours(torch.nn.Module):
        def __init__(self, tokens):
            super().__init__()
            self.tokens = tokens

        def forward(self, pictures):
            assert pictures.shape[1:] == (3, 224, 224)
            means = pictures.mean(dim=(2, 3))
            return torch.stack([means] * self.tokens, 1) if self.tokens else means

    wants = {"input_size": (3, 224, 224), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    fake = types.SimpleNamespace(data=types.SimpleNamespace(resolve_model_data_config=lambda _: wants))
    fake.create_model = lambda name, *, pretrained, num_classes, tokens: Colours(tokens)
    monkeypatch.setitem(sys.modules, "timm", fake)
    patches = np.full((40, 96, 96, 3), (0, 102, 255), "uint8")
    for tokens in (0, 5):
        names = {"EMBEDDER": "hf-hub:somebody/network", "OPTIONS": {"tokens": tokens}, "np": np}
        exec(cell, names)
        np.testing.assert_allclose(names["see"](patches), [[-2, -0.4, 2]] * 40, atol=1e-4)

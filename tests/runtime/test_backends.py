"""The same package on JAX, without TensorFlow, and with no backend at all; each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

JAX_RUN = """
import importlib.machinery, json, sys

class WithoutTensorFlow(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] == "tensorflow" else super().find_spec(name, path, target)

sys.meta_path = [WithoutTensorFlow if f is importlib.machinery.PathFinder else f for f in sys.meta_path]
from pcam_utils.runtime.backend import load_keras
assert load_keras().backend.backend() == "jax"
from pcam_utils.cli.commands import main
for command in json.loads(sys.argv[1]):
    main(command, standalone_mode=False)
"""


def on_jax(*commands):
    """Run these commands in one process that has JAX and no TensorFlow."""
    lines = json.dumps([[str(word) for word in command] for command in commands])
    result = python(JAX_RUN, lines, KERAS_BACKEND="jax")
    assert result.returncode == 0, result.stderr


def python(code, *arguments, **environment):
    variables = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"} | environment
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=variables, capture_output=True, text=True
    )


@pytest.mark.slow
def test_jax_trains_evaluates_and_predicts_without_tensorflow(pcam_folder, tmp_path):
    pytest.importorskip("jax")
    data, run = pcam_folder(n=40), tmp_path / "run"
    small = ["--backbone", "SmallCNN", "--weights", "none", "--epochs", "2"]
    on_jax(
        ["train", data, "--run", run, *small],
        ["evaluate", data, "--run", run, "--out", run / "test"],
        ["predict", data, "--run", run, "--out", run / "s.csv"],
    )
    assert (run / "test" / "metrics.json").exists() and len((run / "s.csv").read_text().split()) == 41


@pytest.mark.slow
def test_a_model_trained_on_one_backend_predicts_the_same_on_the_other(pcam_folder, tmp_path, pcam):
    pytest.importorskip("jax")
    data, run = pcam_folder(n=40), tmp_path / "run"
    assert (
        pcam("train", data, "--run", run, "--backbone", "SmallCNN", "--weights", "none", "--epochs", "1").exit_code == 0
    )
    assert pcam("predict", data, "--run", run, "--out", tmp_path / "one.csv").exit_code == 0
    on_jax(["predict", data, "--run", run, "--out", tmp_path / "other.csv"])
    one, other = ((tmp_path / name).read_text().split()[1:] for name in ("one.csv", "other.csv"))
    for row, other_row in zip(one, other):
        assert row.split(",")[0] == other_row.split(",")[0]
        assert float(row.split(",")[1]) == pytest.approx(float(other_row.split(",")[1]), abs=1e-4)


NO_BACKEND = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in ("tensorflow", "jax") else find(name, *a)
from pcam_utils.cli.commands import main
main(["predict", "data", "--model", "m.keras"])
"""


def test_no_backend_is_one_sentence_that_says_what_to_install():
    result = python(NO_BACKEND)
    assert result.returncode == 2
    assert result.stderr.startswith("pcam: Keras has no backend") and "pip install" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_backend_that_is_not_here_is_named():
    result = python("from pcam_utils.runtime.backend import load_keras; load_keras()", KERAS_BACKEND="torch")
    assert "InputError: KERAS_BACKEND is 'torch', but this course can use only tensorflow" in result.stderr


def test_help_needs_no_backend():
    shown = "from pcam_utils.cli.commands import main; main(['--help'], standalone_mode=False)"
    result = python(f"import sys; {shown}; print('keras' in sys.modules)")
    assert result.stdout.endswith("False\n") and "sample" in result.stdout

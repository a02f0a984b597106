"""What tests and doctests change of the process is put back after each."""

from helpers import ROOT

pytest_plugins = ["pytester"]

UNTIDY = """
import os, random, sys, types
import matplotlib, matplotlib.pyplot as plt, numpy as np
import pytest

class Config:
    policy = "float32"
    def dtype_policy(self): return self.policy
    def set_dtype_policy(self, policy): self.policy = policy

sys.modules["keras"] = keras = types.SimpleNamespace(config=Config())  # the real one takes seconds to start

def state():
    process = os.getcwd(), os.environ.get("PCAM_MADE_UP"), os.environ["HOME"], keras.config.policy
    drawing = matplotlib.rcParams["font.size"], plt.get_backend().lower(), len(plt.get_fignums())
    return *process, *drawing, random.getstate(), np.random.get_state()[1][0]

before = state()

def test_untidy(tmp_path):
    os.chdir(tmp_path)
    os.environ.update(PCAM_MADE_UP="1", HOME="nowhere")
    random.seed(5)
    np.random.seed(5)
    keras.config.set_dtype_policy("mixed_float16")
    matplotlib.rcParams["font.size"] = 99
    plt.switch_backend("svg")
    plt.figure()
    assert all(now != then for now, then in zip(state(), before))

def test_next():
    assert state() == before
"""

EXAMPLE = '''
"""
>>> open("left_behind.txt", "w").close()
"""
'''


def test_what_a_test_changes_of_the_process_is_put_back(pytester, monkeypatch):
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(UNTIDY)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_examples_in_docstrings_write_elsewhere(pytester):
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(EXAMPLE)
    pytester.runpytest_subprocess("--doctest-modules").assert_outcomes(passed=1)
    assert not (pytester.path / "left_behind.txt").exists()

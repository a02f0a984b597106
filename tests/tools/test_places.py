"""The fakes that stand in for a GPU and for ImageNet's file, in a lesson of four cells."""

import json
import sys

import nbformat
import pytest
from helpers import ROOT
from nbformat.v4 import new_code_cell, new_notebook

pytest.importorskip("nbconvert")
sys.path.insert(0, str(ROOT / "tools"))

import places

LESSON = [
    "QUICK = True",
    """
import keras
import numpy as np
from pcam_utils.models import build_model, choose_start
from pcam_utils.runtime import has_gpu, prepare
prepare(0, say=lambda line: print("memory" in line))
assert has_gpu() and not QUICK and choose_start() == "imagenet"
""",
    "held = np.ones(300_000_000, 'uint8')",
    """
del held
patches = np.zeros((2, 96, 96, 3), "uint8")
build_model("SmallCNN", "none").predict(patches, verbose=0)
keras.Sequential([keras.Input((96, 96, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]).predict(patches, verbose=0)
""",
    "1 / 0",
]


@pytest.mark.slow
def test_a_lesson_at_full_size_is_told_of_a_gpu_and_of_imagenet_and_xla_and_memory_are_counted(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(places, "OUT", tmp_path)
    monkeypatch.delenv("PCAM_WEIGHTS", raising=False)
    lesson = tmp_path / "00_lesson.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in LESSON]), lesson)
    *_, row = places.full([lesson], data=tmp_path)
    number, _, peak, _, networks, other = (part.strip() for part in row.strip("|").split("|"))
    assert number.startswith("00 failed") and "ZeroDivisionError" in number
    assert (networks, other) == ("1", "0")  # Keras's own decision, where nobody took it
    cells = [json.loads(line) for line in (tmp_path / "full" / "00_lesson.jsonl").read_text().splitlines()]
    assert [cell["cell"] for cell in cells] == ["QUICK = False", *LESSON[1:]]
    assert 0.2 < cells[2]["peak"] - cells[1]["peak"] < 0.4 and float(peak) >= cells[2]["peak"] - 0.1

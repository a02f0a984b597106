"""Executes the notebook as Kaggle does, on another machine: nothing of this course needs to be installed.

    python kaggle/run.py INPUT OUT --minutes 3

INPUT stands for /kaggle/input, OUT for /kaggle/working. The executed notebook is kept in OUT; `make refresh` stores it.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "20_kaggle_kernel.ipynb"


def run(folder, out, minutes):
    """Execute the notebook with these parameters, and give it back as it was, but for its outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    source = parameters.source
    out.mkdir(parents=True, exist_ok=True)
    parameters.source += (
        f"\nINPUT, OUT, MINUTES = Path({str(folder.absolute())!r}), Path({str(out.absolute())!r}), {minutes}"
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:  # packed images take 7.7 GB, if all are there
            os.environ["TMPDIR"] = scratch
            NotebookClient(notebook, timeout=None, record_timing=False).execute()
    finally:
        parameters.source = source
        nbformat.write(notebook, out / NOTEBOOK.name)
    return notebook


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Execute the Kaggle notebook elsewhere.")
    arguments.add_argument("input", type=Path, help="folder that holds histopathologic-cancer-detection")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--minutes", type=float, default=3)
    arguments.add_argument("--store", action="store_true", help="store its outputs in the repository's notebook")
    chosen = arguments.parse_args()
    executed = run(chosen.input, chosen.out, chosen.minutes)
    if chosen.store:
        from pcam_utils.lessons import store

        store(executed, NOTEBOOK)

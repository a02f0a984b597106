"""Runs tests and lessons with the lowest versions allowed, with Colab's, Kaggle's, and the newest: `make matrix`.

    python tools/matrix.py lowest    one of them

Each takes a clone of the last commit into build/matrix, and some 25 minutes on two cores. Python 3.10, 3.12 and 3.13
have to be there, as python3.10, python3.12 and python3.13. The table is kept in build/matrix/results.md.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "matrix"
CONSTRAINTS = ROOT / "tests" / "constraints"
#: Python, the extra with the backend, and where the versions come from.
ENVIRONMENTS = {
    "lowest": ("python3.10", "tensorflow-cpu", OUT / "lowest.txt"),
    "colab": ("python3.13", "tensorflow", CONSTRAINTS / "colab.txt"),
    "kaggle": ("python3.12", "tensorflow", OUT / "kaggle.txt"),
    "newest": ("python3.12", "tensorflow-cpu", None),
}


def lowest_versions():
    """Lines of pip's constraints: each package of pyproject.toml at the lowest version that is allowed there."""
    # By hand: Python 3.10, the oldest that we allow, has no reader of TOML.
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bounds = sorted(set(re.findall(r'"([\w-]+)>=([\d.]+)[,\d.<]*"', text)))
    return [f"{name}=={version}" for name, version in bounds if name != "setuptools"]


def kaggle_versions():
    """Lines of pip's constraints: what we know of Kaggle's image, and for the rest Colab's, on which it is built."""
    known = {}
    for name in ("colab.txt", "kaggle.txt"):
        lines = (CONSTRAINTS / name).read_text(encoding="utf-8").splitlines()
        known.update(line.split("==") for line in lines if "==" in line)
    return [f"{package}=={version}" for package, version in known.items()]


def run(name):
    """Run tests and lessons in one environment: a row of the table, and whether all passed."""
    python, backend, constraints = ENVIRONMENTS[name]
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    environment = {
        key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH")
    }
    if constraints:
        environment["PIP_CONSTRAINT"] = constraints.as_uri()  # a path may hold spaces
    begun = time.monotonic()
    with open(OUT / f"{name}.log", "w") as log:
        command = ["make", "test-run", f"PYTHON={python}", f"BACKEND={backend}"]
        passed = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log).returncode == 0
    minutes = (time.monotonic() - begun) / 60
    counts = re.findall(r"(\d+ passed.*?) in ", (OUT / f"{name}.log").read_text())
    versions = subprocess.run(
        [folder / ".venv/bin/python", "-m", "pip", "freeze"], capture_output=True, text=True
    ).stdout
    (OUT / f"{name}_freeze.txt").write_text(versions)
    main = ", ".join(re.findall(r"^((?:tensorflow|keras|numpy|jax)(?:[-_]cpu)?==\S+)", versions, re.M | re.I)).replace(
        "==", " "
    )
    what = "; ".join(counts) if passed else f"failed: see {name}.log"
    return f"| {name} | {python[6:]} | {main} | {what} | {minutes:.1f} |", passed


def main(names):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "lowest.txt").write_text("\n".join(lowest_versions()) + "\n")
    (OUT / "kaggle.txt").write_text("\n".join(kaggle_versions()) + "\n")
    rows, all_passed = ["| | Python | versions | tests; lessons | minutes |", "|---|---|---|---|---|"], True
    for name in names:
        row, passed = run(name)
        rows.append(row)
        all_passed &= passed
        print(row, flush=True)
    (OUT / "results.md").write_text("\n".join(rows) + "\n")
    return 0 if all_passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ENVIRONMENTS))

"""Prints the lowest versions that the metadata allows, as pip's constraints: `python tests/lowest.py > lowest.txt`."""

import re
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

if __name__ == "__main__":
    # By hand: Python 3.10, the oldest that we allow, has no reader of TOML.
    for name, version in sorted(set(re.findall(r'"([\w-]+)>=([\d.]+)[,\d<]*"', PYPROJECT.read_text(encoding="utf-8")))):
        if name != "setuptools":
            print(f"{name}=={version}")

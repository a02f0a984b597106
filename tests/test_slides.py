"""Slides of the lessons: every figure with its words, in one file that needs nothing else."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_lesson_has_its_slides_in_one_file(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "slides.py", tmp_path / "slides.html"], check=True)
    page = (tmp_path / "slides.html").read_text(encoding="utf-8")
    lessons = list((ROOT / "notebooks").glob("[01][0-9]_*.ipynb"))
    assert page.count("<h1") == 1 + 2 * len(lessons)  # a title and take-aways for each
    pictures = re.findall(r"<img [^>]+>", page)
    assert len(pictures) > len(lessons) and all(
        re.search(r'src="data:image/.+ alt="[^"]{30,}"', picture) for picture in pictures
    )
    assert page.count("<em>Figure") == len(pictures) - 1  # the first is that of the title
    assert "http" not in page

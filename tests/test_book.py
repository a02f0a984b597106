"""The book as readers find it: built without warnings, no broken link, every image described, nobody shut out."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("myst_nb", reason='the book is not installed: pip install -e ".[book]"')


class Page(HTMLParser):
    """Links, images and anchors of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.images, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.add(attributes.get("id") or attributes.get("name"))
        self.links += [attributes[key] for key in ("href", "src") if attributes.get(key)]
        if tag == "img":
            self.images.append(attributes)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", str(out)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stderr
    return {path: Page(path) for path in out.rglob("*.html")}


def test_every_lesson_and_page_is_a_chapter(book):
    names = {path.stem for path in book}
    wanted = {path.stem for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("docs/*.md")]}
    assert wanted <= names


def test_docstrings_are_a_page_and_not_markup(book):
    (api,) = (path for path in book if path.name == "api.html")
    assert "pcam_utils.data.sources.open_data" in book[api].anchors and ".. py:" not in api.read_text(encoding="utf-8")


def test_no_link_within_the_book_is_broken(book):
    for path, page in book.items():
        for link in page.links:
            if re.match(r"https?:|mailto:|data:|javascript:", link):
                continue
            target, _, anchor = unquote(re.sub(r"\?[^#]*", "", link)).partition("#")
            file = (path.parent / target).resolve() if target else path
            file = file / "index.html" if file.is_dir() else file
            assert file.exists(), f"{path.name} links to {link}"
            if anchor and file in book:
                assert anchor in book[file].anchors, f"{path.name} links to {link}"


def test_a_lesson_opens_elsewhere_and_the_first_use_of_a_word_of_the_glossary_leads_there(book):
    lessons = {path.name: page for path, page in book.items() if path.parent.name == "notebooks"}
    assert len(lessons) == len(list(ROOT.glob("notebooks/*.ipynb")))
    for name, page in lessons.items():
        places = ("colab.research", "kaggle.com") + ("mybinder",) * (name[0] in "01")  # Binder lacks Kaggle's images
        assert all(any(place in link for link in page.links) for place in places), name
        words = [link for link in page.links if "glossary.html#" in link]
        assert len(words) == len(set(words)) > 0


def test_links_out_of_the_book_have_the_form_of_addresses(book):
    outside = {link for page in book.values() for link in page.links if link.startswith("http")}
    assert outside and all(re.fullmatch(r"https?://[\w.-]+\.[a-z]+(/[^\s]*)?", link) for link in outside)


def test_every_image_is_described(book):
    for path, page in book.items():
        for image in page.images:
            assert len(image.get("alt") or "") > 8, (path.name, image)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_shuts_anybody_out(chromium, book, scheme):
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason='no axe: pip install -e ".[browser]"').Axe()
    found, tab = [], chromium.new_page(color_scheme=scheme)
    known = {("search.html", "page-has-heading-one")}  # the theme's own page
    for path in sorted(path for path in book if "_modules" not in path.parts):  # source code, all from one template
        tab.goto(path.as_uri(), wait_until="domcontentloaded")
        for fault in axe.run(tab)["violations"]:  # of any impact
            if (path.name, fault["id"]) not in known:
                found += [f"{path.name}: {fault['id']}: {node['html'][:120]}" for node in fault["nodes"]]
    assert not found, f"{len(found)}:\n" + "\n".join(sorted(set(found))[:40])

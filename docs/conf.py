"""The book: `make book` builds it from the repository's root, so links between its pages are those of the files."""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).parents[1]
ADDRESS = re.search(r'Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]

project = "Finding cancer in tissue images"
author = "the course's authors"
copyright = "the course's authors. MIT. Not for diagnosis"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "notebooks/[0-9]*.ipynb", "data/README.md", "CONTRIBUTING.md"]

PICTURES = ["docs/*.png", "docs/*.jpg", "docs/*.svg"]

nb_execution_mode = "off"  # the stored outputs are what the tests compare with
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
napoleon_google_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
viewcode_follow_imported_members = False  # else the sources list `builtins`, which has none

suppress_warnings = ["misc.highlighting_failure"]  # cells of a notebook that begin with an exclamation mark
html_domain_indices = False
html_static_path, html_css_files, html_js_files = ["_static"], ["book.css"], ["book.js"]

html_theme = "furo"
html_title = project
html_theme_options = {"source_repository": ADDRESS, "source_branch": "main", "source_directory": "./"}
# Colours with enough contrast for those who see less of it.
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"


def as_pages_of_a_book(app, name, source):
    """What the book needs to know of a page, told while it is read: the files themselves stay as they are."""
    text, folder = source[0], (ROOT / name).parent
    if Path(app.env.doc2path(name)).suffix == ".ipynb":
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            known = cell["metadata"]
            if "alt" in known:
                known["mystnb"] = {"image": {"alt": known["alt"]}}
            tags = known.setdefault("tags", [])
            if "solution" in tags or known.get("jupyter", {}).get("source_hidden"):
                tags.append("hide-cell" if "solution" in tags else "hide-input")
        text = json.dumps(notebook)

    def to_repository(link):  # of files that are no page
        target = (folder / link[1]).resolve()
        is_page = any(target.match(str(ROOT / pattern)) for pattern in [*include_patterns, *PICTURES])
        return (
            f"]({ADDRESS}/blob/main/{target.relative_to(ROOT)}{link[2]})"
            if target.exists() and not is_page
            else link[0]
        )

    text = re.sub(r"!\[(Open in \w+)\]\(https:[^)]+[.]svg\)", r"\1", text)  # badges are pictures from elsewhere
    source[0] = re.sub(r"\]\((?!https?:|#)([^)#\s]+)((?:#[^)\s]*)?)\)", to_repository, text)


def glossary():
    """Each word of the glossary, singular and plural, with its entry's anchor; of abbreviations the case matters."""
    entries = {}
    for heading in re.findall(r"^## (.+)$", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")  # as MyST and GitHub make them
        for word in heading.split(", "):
            plural = word[:-2] + "es" if word.endswith("is") else word + ("es" if word.endswith("ch") else "s")
            for form in (word, plural):
                entries[form if word.isupper() else form.lower()] = anchor
    return entries


def link_terms(app, doctree):
    """In a lesson, the first use of each word of the glossary leads there; not in code, headings or links."""
    if not app.env.docname.startswith("notebooks/"):
        return
    entries, linked = glossary(), set()
    words = sorted(entries, key=len, reverse=True)
    words = "|".join(re.escape(word) if word[:1].isupper() else f"(?i:{re.escape(word)})" for word in words)
    untouched = (nodes.title, nodes.literal, nodes.literal_block, nodes.reference, nodes.raw, addnodes.pending_xref)
    for text in list(doctree.findall(nodes.Text)):
        above = text.parent
        while above is not None and not isinstance(above, untouched):
            above = above.parent
        parts, end = [], 0
        for found in re.finditer(rf"(?<![\w-])({words})(?![\w-])", text) if above is None else ():
            anchor = entries.get(found[0]) or entries[found[0].lower()]
            if anchor not in linked:
                linked.add(anchor)
                place = f"../docs/glossary.html#{anchor}"
                link = nodes.reference("", "", nodes.inline(found[0], found[0]), refuri=place, internal=True)
                parts += [nodes.Text(text[end : found.start()]), link]
                end = found.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def name_levels(app, pagename, templatename, context, doctree):
    """The captions of the contents are headings; screen readers want to know of which level."""
    for part in ("furo_navigation_tree", "body"):
        context[part] = context.get(part, "").replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app):
    app.connect("html-page-context", name_levels, priority=900)  # after the theme made them
    app.connect("source-read", as_pages_of_a_book)
    app.connect("doctree-read", link_terms)

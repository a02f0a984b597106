"""Makes slides of the lessons: what each is about, its figures with captions, its take-aways. One file, no network.

python docs/slides.py build/slides.html
"""

import base64
import re
import sys
from html import escape
from pathlib import Path

import nbformat
from nbconvert.filters.markdown_mistune import markdown2html_mistune as html

ROOT = Path(__file__).parents[1]
STYLE = """
@page { size: 13.333in 7.5in; margin: 0; }
body { margin: 0; font: 3vh/1.35 system-ui, sans-serif; color: #111; background: #fff; scroll-snap-type: y mandatory; }
section { height: 100vh; box-sizing: border-box; padding: 4vh 6vw; scroll-snap-align: start; break-after: page;
          display: flex; flex-direction: column; justify-content: center; gap: 1.5vh; }
h1 { font-size: 6vh; margin: 0; } img { width: 100%; height: 60vh; object-fit: contain; }
h1 + p, h1 + ul { font-size: 4vh; } p { margin: 0; }
footer { font-size: 1.8vh; color: #555; } a { color: #0b57a4; }
@media (max-aspect-ratio: 1) {  /* a telephone: as much as there is to read, one slide below the other */
  body { font-size: 16px; scroll-snap-type: none; } section { height: auto; min-height: 100vh; }
  h1 { font-size: 26px; } h1 + p, h1 + ul { font-size: 18px; } img { height: auto; } footer { font-size: 12px; } }
"""
TITLE = "Finding cancer in tissue images"
FRONT = base64.b64encode((ROOT / "docs" / "front.jpg").read_bytes()).decode()
FIRST = (
    f"<h1>{TITLE}, hands on</h1>"
    f'<img src="data:image/jpeg;base64,{FRONT}" '
    'alt="A simulated slide, where a network sees tumour in it, and a score that climbs.">'
    "<p>We build a network that finds tumour in tissue, and then find out how far it can be trusted.</p>"
    "<p>The patches on these slides are simulated. Not for diagnosis.</p>"
)
KEYS = """
const slides = [...document.querySelectorAll("section")];
addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  const now = slides.findIndex(slide => slide.getBoundingClientRect().top > -innerHeight / 2);
  slides[Math.min(Math.max(now + step, 0), slides.length - 1)].scrollIntoView();
});
"""


def plain(text):
    """Markdown whose links, which would lead out of the file, are only their words."""
    text = re.sub(r" \(\[results\]\([^)]+\)\)", "", text)
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


def picture(cell):
    """The figure of a code cell as an image of its own, or None."""
    for output in cell.get("outputs", []):
        for kind in ("image/png", "image/jpeg"):
            if kind in output.get("data", {}):
                data = output.data[kind].replace("\n", "")
                return f'<img src="data:{kind};base64,{data}" alt="{escape(cell.metadata["alt"])}">'
    return None


def slides_of(lesson):
    """HTML of one lesson's slides: title, a slide a figure, take-aways."""
    cells = nbformat.read(lesson, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)", text)[1]
    about = re.search(r"\*\*You will\*\*.+?(?=\n\n)", text, re.S)[0]
    bodies = [f"<h1>{escape(title)}</h1>{html(plain(about))}"]
    for place, cell in enumerate(cells):
        if "solution" not in cell.metadata.get("tags", []) and (figure := picture(cell)):
            after = "\n\n".join(cell.source for cell in cells[place:] if cell.cell_type == "markdown")
            caption = re.search(r"\*Figure.+?(?=\n\n|\Z)", after, re.S)
            bodies.append(figure + html(plain(caption[0] if caption else "")))
    if points := re.search(r"## Take-aways\n(.+?)(?=\n## |\Z)", text, re.S):
        bodies.append(f"<h1>Take-aways</h1>{html(plain(points[1]))}")
    footer = f"<footer>{escape(title)} · not for diagnosis</footer>"
    return "".join(f"<section>{body}{footer}</section>\n" for body in bodies)


def main(out):
    lessons = sorted((ROOT / "notebooks").glob("[01][0-9]_*.ipynb"))
    body = f"<section>{FIRST}</section>\n" + "".join(map(slides_of, lessons))
    out.parent.mkdir(parents=True, exist_ok=True)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{TITLE}</title><style>{STYLE}</style>'
    out.write_text(f"{head}\n<main>{body}</main><script>{KEYS}</script></html>\n", encoding="utf-8")
    print(f"{out}: {body.count('<section>')} slides of {len(lessons)} lessons")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "slides.html"))

"""Lesson 01 as a person runs it, and lesson 05's slider as a person moves it: the real JupyterLab, in a browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
LESSON = ROOT / "notebooks" / "01_explore_the_data.ipynb"


def wait_for(what, seconds, every=0.5):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, f"nothing within {seconds} s"
        time.sleep(every)
    return found


@pytest.fixture
def lesson(tmp_path):
    """A copy of the lesson without its stored outputs: what is there in the end was made in the browser."""
    notebook = nbformat.read(LESSON, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    nbformat.write(notebook, tmp_path / LESSON.name)
    return tmp_path / LESSON.name


@pytest.fixture
def settings(tmp_path):
    """JupyterLab's settings: all cells on the page, also those out of sight; and no questions about news."""
    chosen = {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false"},
    }
    for name, values in chosen.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))
    return tmp_path / "settings"


@pytest.fixture
def slider(tmp_path):
    """The cells of lesson 05 that draw at a threshold and make the slider, on answers that cost nothing to make."""
    lesson = nbformat.read(LESSON.with_name("05_tta_and_roc.ipynb"), as_version=4)
    cells = [cell for cell in lesson.cells if "def draw_at" in cell.source or "ipywidgets.interact(" in cell.source]
    assert len(cells) == 2
    begin = """import ipywidgets, matplotlib.pyplot as plt, numpy as np
kind, score, y_test = "made-up ", np.linspace(0, 1, 100), np.arange(100) % 2"""
    for cell in (first := nbformat.v4.new_code_cell(begin), *cells):
        cell.update(outputs=[], execution_count=None)
    notebook = nbformat.v4.new_notebook(cells=[first, *cells], metadata=lesson.metadata)
    nbformat.write(notebook, tmp_path / "slider.ipynb")
    return "slider.ipynb"


@pytest.fixture
def address(tmp_path, settings):
    """JupyterLab, serving the copy's folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={tmp_path}",
    ]
    places = {
        "PCAM_DATA": ROOT / "data" / "sample",
        "PCAM_OUT": tmp_path / "out",
        "JUPYTERLAB_SETTINGS_DIR": settings,
        "PYTHONPATH": ROOT,
    }
    environment = os.environ | {"MPLBACKEND": ""} | {name: str(place) for name, place in places.items()}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *arguments], env=environment, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return urllib.request.urlopen(f"{address}/api", timeout=5).status == 200
        except OSError:
            return False

    try:
        wait_for(answers, 60)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def run_all_cells(chromium, address):
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    return page


@pytest.mark.skipif(not (ROOT / "data" / "sample").is_dir(), reason="there is no data/sample: run 'make data/sample'")
def test_lesson_01_runs_in_jupyterlab_and_shows_its_figures(chromium, address, lesson):
    def done():
        page.keyboard.press("ControlOrMeta+s")
        cells = [cell for cell in nbformat.read(lesson, as_version=4).cells if cell.cell_type == "code"]
        failed = [output.evalue for cell in cells for output in cell.outputs if output.output_type == "error"]
        assert not failed, failed
        return all(cell.execution_count for cell in cells) and cells

    page = run_all_cells(chromium, f"{address}/lab/tree/{lesson.name}?reset")
    cells = wait_for(done, 240, every=3)
    page.locator(".jp-RenderedImage img").first.scroll_into_view_if_needed()
    page.screenshot(path=lesson.parent / "jupyterlab.png")
    shown = page.locator(".jp-RenderedImage img").evaluate_all("images => images.map(i => i.naturalWidth)")
    stored = nbformat.read(LESSON, as_version=4)
    count = lambda cells: sum(o.output_type == "display_data" for c in cells for o in c.get("outputs", []))
    assert count(cells) == count(stored.cells) > 3
    assert shown and min(shown) > 200
    if os.environ.get("PCAM_SCREENSHOT"):
        shutil.copy(lesson.parent / "jupyterlab.png", os.environ["PCAM_SCREENSHOT"])


def test_the_slider_of_lesson_05_draws_anew_when_it_is_moved(chromium, address, slider):
    page = run_all_cells(chromium, f"{address}/lab/tree/{slider}?reset")
    handle, figure = page.locator(".noUi-handle"), page.locator(".widget-interact .jp-RenderedImage img")
    figure.wait_for(timeout=60_000)
    readout, seen = page.locator(".widget-readout"), {figure.get_attribute("src")}
    assert readout.inner_text() == "0.50"
    for shown in ("0.51", "0.52"):
        handle.press("ArrowRight")
        wait_for(lambda: figure.get_attribute("src") not in seen, 30)
        seen.add(figure.get_attribute("src"))
        assert readout.inner_text() == shown
    if os.environ.get("PCAM_SCREENSHOT"):
        page.screenshot(path=os.environ["PCAM_SCREENSHOT"])

"""What many tests need: tiny data in each layout, the command line, a browser. See also the conftest.py above."""

import inspect
import os
import shutil
import types

import pytest
from click.testing import CliRunner
from helpers import random_patches, write_kaggle, write_pcam

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib; not for the lessons, whose figures are inline


@pytest.fixture
def chromium():
    """A browser without a window: the system's, or Playwright's own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason='there is no playwright: pip install -e ".[browser]"')
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        program = found or playwright.chromium.executable_path
        if not os.path.exists(program):
            pytest.skip("no Chromium or Chrome is installed")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def listed_gpu(monkeypatch):
    """A GPU in TensorFlow's list of devices: what asks for one finds it. The CPU computes."""
    tf = pytest.importorskip("tensorflow")
    real, gpu = tf.config.list_physical_devices, tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    listed = lambda kind=None: real(kind) + [gpu] * (kind in (None, "GPU"))
    monkeypatch.setattr(tf.config, "list_physical_devices", listed)
    return gpu


@pytest.fixture
def xla(monkeypatch):
    """What TensorFlow is asked to compile with XLA; with a `fault`, the error that this raises in its place."""
    tf, state = pytest.importorskip("tensorflow"), types.SimpleNamespace(fault=None, compiled=[])
    real = tf.function

    def function(*body, jit_compile=None, **options):
        def broken(*_, **__):
            raise state.fault

        if jit_compile:
            state.compiled += body
        return broken if jit_compile and state.fault else real(*body, jit_compile=jit_compile, **options)

    monkeypatch.setattr(tf, "function", function)
    return state


@pytest.fixture
def pcam():
    """Run the command line in this process: `pcam("info", folder)` gives exit_code, stdout and stderr."""
    # Click kept the two streams apart only on request before 8.2, and always does since.
    options = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}

    def run(*arguments):
        from pcam_utils.cli.commands import main

        return CliRunner(**options).invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture(name="random_patches")
def random_patches_fixture():
    """Factory of (n, 96, 96, 3) uint8 noise, the same for the same seed: `helpers.random_patches`."""
    return random_patches


@pytest.fixture
def pcam_folder(tmp_path):
    """Factory of a folder in the official HDF5 layout: see `helpers.write_pcam`."""
    return lambda name="pcam", **choices: write_pcam(tmp_path / name, **choices)


@pytest.fixture
def kaggle_folder(tmp_path):
    """Factory of a folder in the Kaggle competition's layout: see `helpers.write_kaggle`."""
    return lambda name="kaggle", **choices: write_kaggle(tmp_path / name, **choices)

"""What many tests need: tiny data in each layout, a cache of their own, and the command line."""

import gzip
import inspect
import os
import shutil

os.environ["MPLBACKEND"] = "Agg"

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import SPLITS, STEM, write_csv, write_tiffs


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """A cache folder of the test's own (it does not exist yet), and no data named from outside."""
    folder = tmp_path_factory.mktemp("cache") / "pcam"
    monkeypatch.setenv("PCAM_CACHE", str(folder))
    monkeypatch.delenv("PCAM_DATA", raising=False)
    return folder


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
def pcam():
    """Run the command line in this process: `pcam("info", folder)` gives exit_code, stdout and stderr."""
    # Click kept the two streams apart only on request before 8.2, and always does since.
    options = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}

    def run(*arguments):
        from pcam_utils.cli.commands import main

        return CliRunner(**options).invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def random_patches():
    """Factory of (n, 96, 96, 3) uint8 noise, the same for the same seed."""

    def make(n, seed=0):
        return np.random.default_rng(seed).integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)

    return make


@pytest.fixture
def pcam_folder(tmp_path, random_patches):
    """Factory of a folder in the official HDF5 layout; images of split i are `random_patches(n, seed=i)`.

    Labels alternate 0, 1, 0, 1, …; each split has two slides of its own, in two halves. `images` and `labels` replace
    those of some splits, `storage` goes to h5py (chunks, compression), and `packed` leaves .h5.gz alone.
    """

    def make(
        name="pcam",
        *,
        splits=SPLITS,
        n=12,
        images=None,
        labels=None,
        meta=True,
        packed=False,
        simulated=False,
        **storage,
    ):
        folder = tmp_path / name
        folder.mkdir()
        for split in splits:
            x = (images or {}).get(split, random_patches(n, seed=SPLITS.index(split)))
            y = np.asarray((labels or {}).get(split, np.arange(len(x)) % 2), np.uint8)
            for key, values in (("x", x), ("y", y.reshape(-1, 1, 1, 1))):
                with h5py.File(folder / f"{STEM}{split}_{key}.h5", "w") as file:
                    dataset = file.create_dataset(key, data=values, **storage)
                    if simulated:
                        dataset.attrs["simulated"] = True
            if meta:
                slides = [f"{split}_slide_{2 * row // len(x)}" for row in range(len(x))]
                write_csv(folder / f"{STEM}{split}_meta.csv", ("", "wsi"), enumerate(slides))
        if packed:
            for path in folder.glob("*.h5"):
                with open(path, "rb") as plain, gzip.open(f"{path}.gz", "wb") as out:
                    shutil.copyfileobj(plain, out)
                path.unlink()
        return folder

    return make


@pytest.fixture
def kaggle_folder(tmp_path, random_patches):
    """Factory of a folder in the Kaggle competition's layout, in an order that is not alphabetical.

    Training images are `random_patches(n)`, test images `random_patches(n_test, seed=1)`; training labels alternate.
    """

    def make(name="kaggle", *, n=12, n_test=6, slides=None):
        folder = tmp_path / name
        train = write_tiffs(folder / "train", random_patches(n))
        test = write_tiffs(folder / "test", random_patches(n_test, seed=1))
        write_csv(folder / "train_labels.csv", ("id", "label"), [(i, row % 2) for row, i in enumerate(train)])
        write_csv(folder / "sample_submission.csv", ("id", "label"), [(i, 0) for i in test])
        if slides:
            write_csv(folder / "slides.csv", ("id", "slide"), zip(train, slides))
        return folder

    return make

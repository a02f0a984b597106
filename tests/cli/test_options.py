"""The names written out for the command line are those that the rooms know."""

import os
import subprocess
import sys

import click

from pcam_utils.cli import options
from pcam_utils.cli.commands import main


def test_names_on_the_command_line_are_those_of_the_rooms():
    from pcam_utils.data import download, packing
    from pcam_utils.evaluation import predictions
    from pcam_utils.models import networks
    from pcam_utils.simulated import sample

    assert tuple(download.SPLITS) == options.SPLITS
    assert tuple(sample.LAYOUTS) == options.SAMPLE_LAYOUTS
    assert tuple(networks.BACKBONES) == options.BACKBONES
    assert tuple(networks.HEADS) == options.HEADS
    assert tuple(predictions.TTA) == options.KINDS_OF_TTA
    assert tuple(predictions.MEANS) == options.MEANS
    assert tuple(packing.FITS) == options.FITS


def test_a_split_that_can_be_named_is_one_that_data_have(tmp_path, random_patches):
    from PIL import Image

    from pcam_utils.data import open_data

    Image.fromarray(random_patches(1)[0]).save(tmp_path / "a.png")
    assert (*options.SPLITS, *open_data(tmp_path).splits) == options.ALL_SPLITS


def test_help_waits_for_no_network():
    code = (
        "import sys; from pcam_utils.cli.commands import main\n"
        "for command in main.commands: main([command, '--help'], standalone_mode=False)\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--backbone" in result.stdout and result.stdout.endswith("[]\n")


def test_help_is_printed_on_a_console_of_any_code_page():
    code = (
        "from pcam_utils.cli.commands import main\n"
        "for command in main.commands: main([command, '--help'], standalone_mode=False)"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "\\x" not in result.stdout, result.stderr or result.stdout


def paths():
    """Each option and argument that is a path, by command and name."""
    return {
        (command.name, option.name): option.type
        for command in main.commands.values()
        for option in command.params
        if isinstance(option.type, click.Path)
    }


def test_a_tilde_is_followed_in_every_option(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(paths()) > 15
    for which, kind in paths().items():
        assert kind.convert("~/x.png", None, None) == tmp_path / "x.png", which


def test_every_place_that_is_written_is_tried_beforehand():
    written = {which: kind.write for which, kind in paths().items() if kind.write}
    assert written == {
        ("sample", "out"): "folder",
        ("download", "out"): "folder",
        ("info", "figure"): "file",
        ("train", "run"): "folder",
        ("evaluate", "out"): "folder",
        ("predict", "out"): "file",
        ("course", "out"): "folder",
    }


def test_a_tilde_is_followed_in_every_variable(monkeypatch, tmp_path):
    from pcam_utils.data import cache, sources
    from pcam_utils.runtime.places import results_folder

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("PCAM_DATA", "PCAM_CACHE", "PCAM_OUT"):
        monkeypatch.setenv(name, f"~/{name}")
    found = sources.find_data(), cache.cache_folder(), results_folder()
    assert found == (tmp_path / "PCAM_DATA", tmp_path / "PCAM_CACHE", tmp_path / "PCAM_OUT")

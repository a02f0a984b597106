"""The names written out for the command line are those that the rooms know."""

import subprocess
import sys

from pcam_utils.cli import options


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

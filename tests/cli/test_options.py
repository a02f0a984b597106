"""The names written out for the command line are those that the rooms know."""

import subprocess
import sys

from pcam_utils.cli import options


def test_names_on_the_command_line_are_those_of_the_rooms():
    from pcam_utils.data import download
    from pcam_utils.evaluation import predictions
    from pcam_utils.models import networks
    from pcam_utils.runtime import backend
    from pcam_utils.simulated import sample
    from pcam_utils.training import recipes

    assert tuple(download.SPLITS) == options.SPLITS
    assert tuple(sample.LAYOUTS) == options.LAYOUTS
    assert tuple(recipes.RECIPES) == options.RECIPES
    assert tuple(recipes.AUGMENTS) == options.AUGMENTS
    assert tuple(networks.BACKBONES) == options.BACKBONES
    assert tuple(networks.HEADS) == options.HEADS
    assert tuple(backend.PRECISIONS) == options.PRECISIONS
    assert tuple(predictions.VIEWS) == options.VIEWS
    assert tuple(predictions.MEANS) == options.MEANS


def test_help_waits_for_no_network():
    code = (
        "import sys; from pcam_utils.cli.commands import main\n"
        "for command in main.commands: main([command, '--help'], standalone_mode=False)\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--backbone" in result.stdout and result.stdout.endswith("[]\n")

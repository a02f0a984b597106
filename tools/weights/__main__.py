"""Makes the weights that come with the package, step by step.

python -m tools.weights gather JPEGS DATA --lossless KAGGLE   # real patches, as they came
python -m tools.weights teach DATA TEACHER                    # targets.npz: answers and features
python -m tools.weights learn DATA TEACHER RUN --epochs 40    # may be stopped, and goes on
python -m tools.weights ship RUN DATA                         # into pcam_utils/models/weights
python -m tools.weights card DATA --kaggle KAGGLE             # what docs/model_card.md says
python -m tools.weights transfer SAMPLE                       # what the start is worth on simulated patches
"""

import json
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, exists=True)
NEW = click.Path(path_type=Path)


@click.group(help=__doc__.split("\n")[0])
def main():
    """Modules are imported by the commands that need them: the teacher needs no Keras, the student no PyTorch."""


@main.command()
@click.argument("jpegs", type=FOLDER)
@click.argument("out", type=NEW)
@click.option("--lossless", type=FOLDER, multiple=True, help="Kaggle's training images: a folder, or a zip of WebP.")
def gather(jpegs, out, lossless):
    """Write real patches in the official layout, with the names of what they are."""
    from .gather import gather

    gather(jpegs, out, lossless=lossless, say=click.echo)


@main.command()
@click.argument("data", type=FOLDER)
@click.argument("out", type=NEW)
@click.option("--epochs", default=5, show_default=True)
@click.option("--pixels", default=160, show_default=True, help="Side that patches are enlarged to.")
@click.option("--weights", type=FOLDER, help="ImageNet weights of EfficientNet-Lite0, where its package is missing.")
@click.option("--seed", default=0, show_default=True)
def teach(data, out, **settings):
    """Fine-tune the teacher fold by fold, and write what it says of the patches it did not see."""
    from .teacher import teach

    train, valid = _splits(data)
    click.echo(json.dumps(teach(train, valid, out, **settings, say=click.echo), indent=1))


@main.command()
@click.argument("data", type=FOLDER)
@click.argument("teacher", type=FOLDER)
@click.argument("run", type=NEW)
@click.option("--epochs", default=40, show_default=True)
@click.option("--start", type=FOLDER, help="Weights to start from, as the package keeps them.")
@click.option("--batch", default=64, show_default=True)
@click.option("--backbone", default="NASNetMobile", show_default=True)
@click.option("--stop-after", type=float, help="Minutes after which no further epoch begins.")
@click.option("--seed", default=0, show_default=True)
def learn(data, teacher, run, **settings):
    """Train the student; called again, it goes on."""
    import numpy as np

    from .student import learn

    with np.load(teacher / "targets.npz") as targets:
        learn(*_splits(data), dict(targets), run, **settings, say=click.echo)


@main.command()
@click.argument("run", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option("--out", type=NEW, help="Elsewhere than in the package.")
def ship(run, data, out):
    """Calibrate a student on 'valid', and write it as the package's own classifier."""
    from pcam_utils.data import open_data
    from pcam_utils.models.shipped import FOLDER as OURS

    from .ship import ship

    record = ship(run, open_data(data, only=("train", "valid")), data / "train_names.csv", out or OURS)
    click.echo(json.dumps({key: record[key] for key in ("temperature", "calibration", "operating_point")}, indent=1))


@main.command()
@click.argument("jpegs", type=FOLDER)
@click.argument("out", type=NEW)
@click.option("--lossless", type=FOLDER, required=True, help="Folder of what 'gather --lossless' takes.")
@click.option(
    "--wheels", type=FOLDER, required=True, help="Folder of wheels that are missing there: keras and its needs."
)
@click.option("--teacher", type=FOLDER, required=True, help="ImageNet weights of EfficientNet-Lite0.")
@click.option("--start", type=FOLDER, help="Weights that the student starts from.")
def pack(jpegs, out, lossless, wheels, teacher, start):
    """Pack what a machine with a GPU needs into parts that can be carried there one by one."""
    from . import remote

    files = {"jpegs": jpegs, "lossless": lossless, "wheels": wheels, "teacher.pth": teacher, "start.npz": start}
    for part in remote.pack({name: path for name, path in files.items() if path}, out):
        click.echo(f"{part}: {part.stat().st_size / 2**20:.0f} MiB")


@main.command()
@click.argument("parts", type=FOLDER)
@click.argument("store", type=NEW)
def receive(parts, store):
    """There: keep the parts that this call carried."""
    from . import remote

    click.echo(", ".join(path.name for path in remote.receive(parts, store)))


@main.command()
@click.argument("store", type=FOLDER)
@click.argument("out", type=NEW)
@click.option("--minutes", default=7.5, show_default=True)
@click.option("--epochs", default=60, show_default=True, help="Of the student, over all calls.")
@click.option("--teacher-epochs", default=5, show_default=True)
@click.option("--pixels", default=160, show_default=True)
@click.option("--backbone", default="NASNetMobile", show_default=True)
@click.option("--table/--no-table", default=True, show_default=True, help="Also measure the machine.")
def run(store, out, **settings):
    """There: teach, learn and measure within so many minutes; call it again to go on."""
    from . import remote

    click.echo(json.dumps(remote.run(store, out, **settings)[-3:], indent=1))


def _splits(data):
    from pcam_utils.data import open_data

    opened = open_data(data, only=("train", "valid"))
    return opened.split("train"), opened.split("valid")


if __name__ == "__main__":
    from . import card, transfer

    main.add_command(card.card)
    main.add_command(transfer.transfer)
    main()

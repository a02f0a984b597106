"""The command line: `pcam` takes patches to a trained model, a ROC figure and a submission file."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import sys
import warnings
from pathlib import Path

import click

from .. import __version__
from ..errors import InputError, reason

# Modules are imported by the commands that need them: Keras alone takes seconds, and `pcam --help` should not.

DATA = click.argument("data", required=False, type=click.Path(path_type=Path))
TTA = click.option(
    "--tta",
    type=click.Choice(["none", "flips", "d4"]),
    default="flips",
    show_default=True,
    help="Average over 1, 4 or 8 views of each patch.",
)
MEAN = click.option("--mean", type=click.Choice(["arithmetic", "geometric"]), default="arithmetic", show_default=True)
FIT = click.option("--fit", type=click.Choice(["resize", "crop"]), help="What to do with images that are not 96×96.")
RUN = click.option("--run", type=click.Path(path_type=Path), help="Folder of a training run.")
MODEL = click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="A .keras file, or 'pcam', this package's own, which is used if no run is named.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


class _Group(click.Group):
    """Turns bad input into one sentence and exit code 2."""

    def invoke(self, ctx):
        try:
            with warnings.catch_warnings():
                # Pillow warns of each thing that is odd in a damaged image; whether it can be read is said once.
                warnings.filterwarnings("ignore", module="PIL")
                return super().invoke(ctx)
        except InputError as error:
            message = str(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has seen enough
                raise
            message = f"{error.filename or 'A file'} cannot be read or written ({reason(error)}); see to that first."
        click.echo(f"pcam: {message}", err=True)
        sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="pcam-utils")
def main():
    """Find cancer in tissue patches: a course's engine. Not for diagnosis.

    DATA is a folder: official PatchCamelyon HDF5, the Kaggle competition's folder, two folders of images, or
    images. Left out, it is PCAM_DATA, Kaggle's input, data/pcam, or the simulated sample.
    """


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(["pcam", "kaggle"]), default="pcam", show_default=True)
@click.option("--train", type=int, help="Training patches to render.")
@click.option("--valid", type=int, help="Validation patches to render.")
@click.option("--test", type=int, help="Test patches to render.")
@click.option("--seed", default=0, show_default=True)
def sample(out, layout, seed, **sizes):
    """Write the simulated sample: rendered pictures, not patients' tissue."""
    from ..simulated.sample import SPLIT_SIZES, write_sample

    sizes = {split: SPLIT_SIZES[split] if size is None else size for split, size in sizes.items()}
    with _bar("Rendering slides", "slide") as progress:
        write_sample(out, layout=layout, sizes=sizes, seed=seed, progress=progress)
    click.echo(f"{sum(sizes.values()):,} simulated patches are in {out}.")


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--split", "splits", multiple=True, help="train, valid or test; may be repeated; all if left out.")
@click.option("--source", type=click.Choice(["zenodo", "kaggle"]), default="zenodo", show_default=True)
def download(out, splits, source):
    """Download real patches: official PCam from Zenodo, or the Kaggle competition's."""
    from ..data import download as downloads

    if source == "kaggle":
        out = downloads.download_kaggle(out)
    else:
        out = downloads.download_pcam(out, splits=splits or downloads.SPLITS)
    click.echo(f"The patches are in {out}; look at them with: pcam info {out}")


@main.command()
@DATA
@click.option("--figure", type=click.Path(path_type=Path), help="Also draw some patches of each class, as PNG.")
@FIT
@JSON
def info(data, figure, fit, as_json):
    """Show what is there: layout, counts, slides, repeats, blank patches."""
    from ..data.contents import as_table, describe, examples

    opened = _open(data, fit=fit)
    facts = describe(opened, progress=_tqdm("Reading", "batch"))
    if figure:
        from ..evaluation.plots import plot_patches
        from .report import save_figure

        save_figure(plot_patches(examples(next(iter(opened.splits.values())))), figure)
    click.echo(json.dumps(facts, indent=2) if as_json else as_table(facts))


@main.command()
@DATA
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Folder that the run is kept in.")
@click.option(
    "--recipe",
    default="course",
    show_default=True,
    help="course, seed (the 2019 article's), or pcam (this package's weights').",
)
@click.option(
    "--backbone",
    default="NASNetMobile",
    show_default=True,
    help="NASNetMobile, EfficientNetV2B0, DenseNet121 or SmallCNN.",
)
@click.option("--weights", default="auto", show_default=True, help="auto, imagenet, pcam, none, or a file of weights.")
@click.option("--head", help="seed (max + average + flatten) or average; the recipe's own if left out.")
@click.option("--epochs", type=int, help="In all; the recipe's own number if left out.")
@click.option("--patience", type=int, help="Stop after so many epochs without a better validation AUC.")
@click.option(
    "--targets", help="CSV (id,label) of another model's probabilities, learned half and half with the labels."
)
@click.option(
    "--augment",
    help="full (all of augment.OPERATIONS), plain (symmetries and stain), imgaug (full, on the CPU: slow), "
    "or none; the recipe's own if left out.",
)
@click.option("--precision", default="float32", show_default=True, help="Or mixed_float16, mixed_bfloat16 (GPU).")
@click.option("--deterministic", is_flag=True, help="The same bits each time also on a GPU; slower.")
@click.option("--devices", default=1, show_default=True, help="GPUs of this machine to spread each batch over.")
@click.option("--valid-fraction", default=0.2, show_default=True, help="Share to choose by, where no split is given.")
@click.option("--seed", default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, with its own settings.")
@FIT
def train(data, run, resume, fit, **settings):
    """Train a model; keep the best by validation AUC."""
    from ..training import run as training
    from ..training.recipes import Settings

    record = training.train(
        _open(data, only=("train", "valid"), fit=fit),
        run,
        Settings(**settings),
        resume=resume,
        say=click.echo,
        progress=sys.stdout.isatty(),  # in a log file the bar would be thousands of lines
    )
    from ..evaluation.plots import plot_history
    from .report import save_figure

    save_figure(plot_history(training.read_history(run), simulated=record["simulated"]), run / "history.png")
    best = record["best"]
    click.echo(f"Best validation AUC {best['val_auc']:.4f}, after epoch {best['epoch']}: {run / 'best.keras'}")


@main.command()
@DATA
@RUN
@MODEL
@click.option("--split", help="train, valid or test; 'test' if it is labelled, else 'valid'.")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV (id,label) for a split without labels.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for metrics.json, roc.png and predictions.csv.")
@click.option("--baseline", is_flag=True, help="Also score what colour alone gives, from the training patches.")
@TTA
@MEAN
@FIT
@JSON
def evaluate(data, run, model, split, labels, out, baseline, tta, mean, fit, as_json):
    """Score a model: AUC with interval, sensitivity, specificity, ROC figure."""
    from . import report

    data = _data_folder(data)
    chosen, record = report.choose_model(run, model)
    patches = report.choose_split(functools.partial(_open, data, fit=fit), split, labels, run)
    metrics, probabilities = report.score(chosen, patches, record, tta=tta, mean=mean)
    metrics.update(model=str(run / "best.keras" if run else model or "pcam"), data=str(data))
    warning = report.overlap(patches, record)
    if warning:
        click.echo(f"pcam: {warning}", err=True)
    if baseline:
        metrics["colour_alone"] = report.score_colour(_open(data, only=("train",), fit=fit), patches, probabilities)
    if out:
        report.write(out, metrics, patches, probabilities)
    click.echo(json.dumps(metrics, indent=2) if as_json else report.as_table(metrics, out))


@main.command()
@DATA
@RUN
@MODEL
@click.option("--split", help="Split to predict; 'test' if left out and there is one.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("submission.csv"), show_default=True)
@TTA
@MEAN
@FIT
def predict(data, run, model, split, out, tta, mean, fit):
    """Predict probabilities of tumour: a CSV of id,label, in the order of the data."""
    from ..evaluation.predictions import predict as predict_patches
    from ..evaluation.predictions import write_submission
    from . import report

    chosen, _ = report.choose_model(run, model)
    patches = report.choose_images(functools.partial(_open, data, fit=fit), split)
    probabilities = predict_patches(chosen, patches, tta=tta, mean=mean)
    write_submission(out, patches.ids, probabilities)
    click.echo(f"{len(patches):,} predictions are in {out}; not for diagnosis.")


@main.command()
@DATA
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/course"), show_default=True)
@click.option(
    "--lesson", "numbers", multiple=True, help="Number of a lesson, such as 03; may be repeated; all if left out."
)
@click.option("--lessons", "folder", type=click.Path(path_type=Path), default=Path("notebooks"), show_default=True)
@click.option("--refresh", is_flag=True, help="Store the outputs in the lessons themselves.")
def course(data, out, numbers, folder, refresh):
    """Execute the lessons: notebooks, HTML pages, and what they make."""
    try:
        from .. import lessons
    except ModuleNotFoundError as error:
        raise InputError(f'Lessons need {error.name} to run; pip install "pcam-utils[notebooks]".') from error
    chosen = lessons.find_lessons(folder, numbers)
    if refresh:
        for lesson in chosen:
            lessons.refresh(lesson, out=out, data=data, progress=_tqdm(None, "cell"))
        click.echo(f"{len(chosen)} lessons are refreshed in {folder}.")
        return
    results = lessons.run_lessons(chosen, out, data=data, progress=_tqdm(None, "cell"), say=click.echo)
    total = sum(result.seconds for result in results)
    click.echo(f"{len(results)} lessons in {total / 60:.1f} minutes: open {out / (results[0].name + '.html')}.")


def _data_folder(data):
    from ..data.sources import find_data

    if data is not None:
        return data
    found = find_data()
    click.echo(f"DATA is not named: using {found}.", err=True)
    return found


def _open(data, **kwargs):
    from ..data.sources import open_data

    return open_data(_data_folder(data), **kwargs)


def _tqdm(description, unit):
    from tqdm import tqdm

    return functools.partial(tqdm, desc=description, unit=unit, delay=2, disable=None)  # None: where nobody watches


@contextlib.contextmanager
def _bar(description, unit):
    """A progress bar that is told (done, total)."""
    with _tqdm(description, unit)(total=0) as bar:

        def update(done, total):
            bar.total = total
            bar.update(done - bar.n)

        yield update

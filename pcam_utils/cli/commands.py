"""The command line: `pcam` goes from patches to a trained model, a ROC figure and a submission file."""

from __future__ import annotations

import functools
import sys
from dataclasses import asdict
from pathlib import Path

import click

from .. import __version__
from ..errors import InputError
from . import options
from .console import CommandFailed, Group, say, say_once, say_replaced, show
from .options import DATA, FIGURE, JSON, MEAN, MODEL, OUT_FILE, OUT_FOLDER, PATH, RUN, SEED, TTA, opening

# Rooms are imported by the commands that need them: Keras alone takes seconds, and `pcam train --help` should not.


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="pcam-utils")
def main():
    """Find cancer in patches of tissue: the commands of a course. Not for diagnosis.

    DATA is a folder: PatchCamelyon's HDF5, the Kaggle competition's files, WILDS' Camelyon17, BreakHis, IDC, an .npz
    of x and y, two folders of images (with or without train, val and test), or just images. If you leave it out, the
    first of these is taken: PCAM_DATA, Kaggle's input, data/pcam, or the simulated sample in data/sample.

    After bad input the exit code is 2. If something fails later, it is 1.
    """


@main.command()
@click.argument("out", type=OUT_FOLDER)
@click.option("--layout", type=click.Choice(options.SAMPLE_LAYOUTS), default="pcam", show_default=True)
@click.option("--train", type=int, help="Training patches to render.")
@click.option("--valid", type=int, help="Validation patches to render.")
@click.option("--test", type=int, help="Test patches to render.")
@SEED
@JSON
def sample(out, layout, train, valid, test, seed, as_json):
    """Write the simulated sample: rendered pictures, not patients' tissue."""
    from ..simulated.sample import SPLIT_SIZES, write_sample

    asked = {"train": train, "valid": valid, "test": test}
    sizes = {split: SPLIT_SIZES[split] if size is None else size for split, size in asked.items()}
    write_sample(out, layout=layout, sizes=sizes, seed=seed, progress=sys.stderr.isatty())
    made = {"out": out, "layout": layout, "seed": seed, "simulated": True, "patches": sizes}
    show(made, f"{sum(sizes.values()):,} simulated patches are in {out}.", as_json=as_json)


@main.command()
@click.argument("out", type=OUT_FOLDER)
@click.option(
    "--split", "splits", type=click.Choice(options.SPLITS), multiple=True, help="May be repeated. If left out, all."
)
@click.option("--source", type=click.Choice(options.SOURCES), default="zenodo", show_default=True)
@JSON
def download(out, splits, source, as_json):
    """Download real patches: official PCam from Zenodo, or the Kaggle competition's."""
    from ..data import download as downloads

    if source == "kaggle":
        if splits:
            raise InputError("Kaggle's data come whole; leave out --split, or take them from Zenodo.")
        out = downloads.download_kaggle(out)
    else:
        out = downloads.download_pcam(out, splits=splits or options.SPLITS)
    text = f"The patches are in {out}; look at them with: pcam info {out}"
    show({"out": out, "source": source}, text, as_json=as_json)


@main.command()
@DATA
@click.option("--figure", type=FIGURE, help="Also draw some patches of each class: a .png, .jpg, .pdf or .svg.")
@opening
@JSON
def info(data, figure, as_json, **how):
    """Show what is there: layout, counts, slides, repeats, blank patches."""
    from ..data.contents import as_table, describe, examples

    opened = _open(data, **how)
    facts = describe(opened, progress=sys.stderr.isatty())
    if figure:
        from ..evaluation.plots import plot_patches
        from .figures import drawing

        say_replaced(figure)
        with drawing(figure, size=(8.8, 3)) as ax:
            plot_patches(examples(next(iter(opened.splits.values()))), classes=opened.classes, columns=8, ax=ax)
    show(facts, as_table(facts), as_json=as_json)


@main.command()
@DATA
@click.option("--run", type=OUT_FOLDER, required=True, help="Folder that the run is kept in.")
@click.option(
    "--recipe",
    type=click.Choice(options.RECIPES),
    default="course",
    show_default=True,
    help="article is that of 2019; pcam is the one that made this package's weights.",
)
@click.option("--backbone", type=click.Choice(options.BACKBONES), default="NASNetMobile", show_default=True)
@click.option("--weights", default="auto", show_default=True, help="auto, imagenet, pcam, none, or a file of weights.")
@click.option(
    "--head", type=click.Choice(options.HEADS), help="If left out, the recipe's own. article joins all features."
)
@click.option("--epochs", type=int, help="In all. If left out, the recipe's own number.")
@click.option("--batch-size", type=int, help="Patches in each step. If left out, the recipe's own. On a GPU, try 256.")
@click.option("--patience", type=int, help="Stop after so many epochs without a better validation AUC.")
@click.option(
    "--targets",
    type=PATH,
    help="CSV (id,label) of another model's probabilities, to learn half from them and half from the labels.",
)
@click.option(
    "--augment",
    type=click.Choice(options.AUGMENTS),
    help="All operations, only symmetries and stain, or none. If left out, the recipe's own.",
)
@click.option("--precision", type=click.Choice(options.PRECISIONS), default="float32", show_default=True)
@click.option("--deterministic", is_flag=True, help="Give the same bits each time, also on a GPU. This is slower.")
@click.option("--devices", default=1, show_default=True, help="GPUs of this machine to spread each batch over.")
@click.option(
    "--valid-fraction",
    default=0.2,
    show_default=True,
    help="Share of the patches to choose by, if the data have no split.",
)
@SEED
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, or with more --epochs.")
@opening
@JSON
def train(data, run, resume, as_json, fit, positive, overlap, **settings):
    """Train a model; keep the best by validation AUC."""
    from ..evaluation.plots import plot_history
    from ..training import run as training
    from ..training.recipes import Settings
    from ..training.records import read_history, read_record
    from .figures import drawing

    if resume and (run / "run.json").exists():
        given = click.get_current_context().get_parameter_source
        typed = {name for name in settings if given(name) is click.core.ParameterSource.COMMANDLINE}
        kept = read_record(run)
        settings = kept["settings"] | {name: settings[name] for name in typed}
        fit = fit or kept.get("fit")
    record = training.train(
        lambda: _tell(_open(data, only=("train", "valid"), fit=fit, positive=positive, overlap=overlap)),
        run,
        Settings(**settings),
        resume=resume,
        say=say,
        progress=sys.stdout.isatty() and not as_json,  # in a log file the bar would be thousands of lines
    )
    with drawing(run / "history.png") as ax:
        plot_history(read_history(run), simulated=record["simulated"], ax=ax)
    best, file = record["best"], run / "best.keras"
    text = f"Best validation AUC {best['val_auc']:.4f}, after epoch {best['epoch']}: {file}"
    show({"run": run, "model": file, **record}, text, as_json=as_json)


@main.command()
@DATA
@RUN
@MODEL
@click.option(
    "--split", type=click.Choice(options.ALL_SPLITS), help="If left out, 'test' if it has labels, else 'valid'."
)
@click.option("--labels", type=PATH, help="CSV (id,label) for a split without labels.")
@click.option("--out", type=OUT_FOLDER, help="Folder for metrics.json, roc.png and predictions.csv.")
@click.option("--baseline", is_flag=True, help="Also score colour alone, learned from the training patches.")
@TTA
@MEAN
@opening
@JSON
def evaluate(data, run, model, split, labels, out, baseline, tta, mean, as_json, **how):
    """Score a model: AUC with interval, sensitivity, specificity, ROC figure."""
    from ..evaluation.predictions import predict as predict_patches
    from . import choosing, scoring

    data = _data_folder(data)
    say_replaced(*(scoring.files_in(out) if out else ()))
    learned = _open(data, only=("train",), **how).split("train") if baseline else None
    chosen, record = choosing.choose_model(run, model)
    patches = choosing.choose_split(functools.partial(_open_for, record, data, **how), split, labels, run, record)
    learned = learned and scoring.colour_patches(learned, patches)
    probabilities = predict_patches(chosen, patches, tta=tta, mean=mean, progress=sys.stderr.isatty())
    if out:
        scoring.keep(out / "predictions.csv", patches, probabilities)
    metrics = scoring.score(patches, probabilities, record, tta=tta, mean=mean)
    metrics.update(model=_name(run, model), data=str(data))
    for warning in filter(None, (scoring.all_alike(probabilities), scoring.overlap(patches, record))):
        say(f"pcam: {warning}")
    if learned:
        metrics["colour_alone"] = scoring.score_colour(learned, patches, probabilities)
    if out:
        scoring.write(out, metrics, patches, probabilities)
    show(metrics, scoring.as_table(metrics, out), as_json=as_json)


@main.command()
@DATA
@RUN
@MODEL
@click.option("--split", type=click.Choice(options.ALL_SPLITS), help="If left out, 'test', or all of a plain folder.")
@click.option("--out", type=OUT_FILE, default=Path("submission.csv"), show_default=True)
@TTA
@MEAN
@opening
@JSON
def predict(data, run, model, split, out, tta, mean, as_json, **how):
    """Predict probabilities of tumour: a CSV of id,label, in the order of the data."""
    from ..evaluation.predictions import predict as predict_patches
    from .choosing import choose_images, choose_model
    from .scoring import all_alike, keep

    data = _data_folder(data)
    say_replaced(out)
    chosen, record = choose_model(run, model)
    patches = choose_images(functools.partial(_open_for, record, data, **how), split)
    probabilities = predict_patches(chosen, patches, tta=tta, mean=mean, progress=sys.stderr.isatty())
    keep(out, patches, probabilities)
    if warning := all_alike(probabilities):
        say(f"pcam: {warning}")
    about = {"split": patches.name, "simulated": patches.simulated, "model": _name(run, model), "data": data}
    made = {"out": out, "patches": len(patches), "mean_probability": float(probabilities.mean()), **about}
    text = f"{len(patches):,} predictions are in {out}; not for diagnosis."
    show({**made, "tta": tta, "mean": mean}, text, as_json=as_json)


@main.command()
@click.option("--clear", is_flag=True, help="Remove it all. What is needed is made again.")
@JSON
def cache(clear, as_json):
    """Show what is kept of images and archives, packed or unpacked, so that they open at once."""
    from ..data.cache import cache_folder, cached_files
    from ..files import disk_errors

    folder, files = cache_folder(), cached_files()
    size = sum(file.stat().st_size for file in files)
    with disk_errors(folder):
        for file in files if clear else ():
            file.unlink(missing_ok=True)
    text = f"{len(files)} files of {size / 1e6:,.0f} MB {'were removed from' if clear else 'are in'} {folder}."
    show({"folder": folder, "files": files, "bytes": size, "cleared": clear}, text, as_json=as_json)


@main.command()
@DATA
@click.option("--out", type=OUT_FOLDER, default=Path("build/course"), show_default=True)
@click.option(
    "--lesson", "numbers", multiple=True, help="Number of a lesson, such as 03. May be repeated. If left out, all."
)
@click.option("--lessons", "folder", type=PATH, default=Path("notebooks"), show_default=True)
@click.option("--refresh", is_flag=True, help="Store the outputs in the lessons themselves.")
@JSON
def course(data, out, numbers, folder, refresh, as_json):
    """Execute the lessons: notebooks, HTML pages, and what they make."""
    try:
        from .. import lessons
    except ModuleNotFoundError as error:
        raise InputError(f'Lessons need {error.name} to run; pip install "pcam-utils[notebooks]".') from error
    chosen = lessons.find_lessons(folder, numbers)
    try:
        if refresh:
            results = [lessons.refresh(lesson, out=out, data=data, progress=sys.stderr.isatty()) for lesson in chosen]
            where = f"their outputs are stored in {folder}."
        else:
            say_replaced(*lessons.files_in(out, chosen))
            results = lessons.run_lessons(chosen, out, data=data, say=say, progress=sys.stderr.isatty())
            where = f"open {out / (results[0].name + '.html')}."
    except lessons.LessonFailed as error:
        raise CommandFailed(str(error)) from error
    total = sum(result.seconds for result in results)
    text = f"{len(results)} lessons in {total / 60:.1f} minutes: {where}"
    made = {"out": out, "seconds": total, "lessons": [asdict(result) for result in results]}
    show(made, text, as_json=as_json)


def _name(run, model):
    """Give the name that the record has for the model that `choosing.choose_model` loads."""
    return str(run / "best.keras" if run else model or "pcam")


def _data_folder(data):
    from ..data.sources import find_data

    if data is not None:
        return data
    found = find_data()
    say(f"DATA is not named: using {found}.")
    return found


def _open(data, **how):
    from ..data.sources import open_data

    return open_data(_data_folder(data), progress=sys.stderr.isatty(), **how)


def _open_for(record, data, **how):
    """Open data for the model that this record describes, if both mean the same by 0 and 1."""
    from .choosing import require_same_meaning

    opened = _open(data, **how)
    require_same_meaning(opened, record, chosen=how["positive"] is not None)
    return _tell(opened, record.get("classes"))


def _tell(opened, classes=None):
    """Say once what 0 and 1 mean (for patches without labels, what they mean to the model), and what was left out."""
    from ..data.contents import say_classes

    labelled = any(patches.labels is not None for patches in opened.splits.values())
    if opened.splits:
        say_once(f"{say_classes(opened.classes if labelled or not classes else classes)}.", *opened.notes)
    return opened

"""What a start is worth on patches of another kind: heads on frozen features, and all of the network trained."""

from __future__ import annotations

import click
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pcam_utils.data import open_data
from pcam_utils.evaluation import auc_difference, colour_scores, evaluate, predict
from pcam_utils.models import build_model, load_model
from pcam_utils.models.backbones import keras
from pcam_utils.runtime import FusedAdam, fused_batch_norm, prepare
from pcam_utils.runtime.backend import set_xla
from pcam_utils.training.feeding import batches

from .changes import change, symmetries

STARTS = ("none", "pcam")


@click.command()
@click.argument("sample", type=click.Path(exists=True))
@click.option("--number", "numbers", multiple=True, type=int, default=(200, 1000), show_default=True)
@click.option("--epochs", default=6, show_default=True, help="Of the whole network, over 1,000 patches; fewer, more.")
@click.option(
    "--start",
    "starts",
    multiple=True,
    type=click.Choice(STARTS),
    default=STARTS,
    show_default=True,
    help="Whose network is trained.",
)
@click.option("--fine/--no-fine", default=True, help="Also train all of the network.")
@click.option("--seed", default=0, show_default=True)
def transfer(sample, numbers, epochs, starts, fine, seed):
    """AUC on SAMPLE's test patches from each start and number of training patches, with paired differences.

    Whole slides are drawn for the intervals.
    """
    prepare(seed)
    data = open_data(sample)
    train, test = data.split("train"), data.split("test")
    order = np.random.default_rng(seed).permutation(len(train))
    click.echo(f"{len(test):,} test patches of {len(np.unique(test.slides))} slides")
    scores = {"as it is": predict(load_model("pcam"), test, tta="none", progress=False)}
    _tell("the classifier as it is", test, scores["as it is"])
    seen = {weights: _features(weights, train, test) for weights in STARTS}
    for number in numbers:
        some = train.take(order[:number])
        scores["colour"] = colour_scores(some.images, some.labels, test.images)
        _tell(f"{number}: colour alone", test, scores["colour"])
        for weights, (ours, theirs) in seen.items():
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
            head.fit(ours[order[:number]], some.labels)
            scores[weights, "frozen"] = head.predict_proba(theirs)[:, 1]
            _tell(f"{number}: {weights}, frozen", test, scores[weights, "frozen"])
            if fine and weights in starts:
                scores[weights, "fine"] = _fine_tuned(weights, some, test, epochs * 1000 // number, seed)
                _tell(f"{number}: {weights}, all trained", test, scores[weights, "fine"])
        for one, other in (
            (("pcam", "frozen"), ("none", "frozen")),
            (("pcam", "fine"), ("pcam", "frozen")),
            (("pcam", "fine"), ("none", "fine")),
            (("pcam", "frozen"), "colour"),
        ):
            if one in scores and other in scores:
                gap = auc_difference(test.labels, scores[one], scores[other], groups=test.slides)
                click.echo("{}: {} minus {}: {:+.3f} ({:+.3f} to {:+.3f})".format(number, one, other, *gap))


def _tell(name, test, probabilities):
    found = evaluate(test.labels, probabilities, slides=test.slides)
    click.echo(f"| {name} | {found['auc']:.3f} | {found['auc_low']:.3f} to {found['auc_high']:.3f} |")


def _features(weights, *tables):
    """What one backbone's global average says of each patch, mean of four views: an array (N, 1056) for each table."""
    model = build_model(weights=weights, head="average", say=lambda _: None)
    pooled = set_xla(keras.Model(model.inputs, model.get_layer("dropout").input))
    return [
        np.concatenate([
            np.mean([pooled.predict_on_batch(np.ascontiguousarray(view)) for view in symmetries(batch, 4)], axis=0)
            for batch in patches.batches()
        ])
        for patches in tables
    ]  # fmt: skip


def _fine_tuned(weights, train, test, epochs, seed):
    """Probabilities, mean of the same four views, of a network of which all was trained on a few varied patches."""
    keras.utils.set_random_seed(seed)
    model = build_model(weights=weights, head="average", say=lambda _: None)
    for layer in model.get_layer("backbone").layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    steps, rise = epochs * (len(train) // 32), len(train) // 64
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps - rise, 0, warmup_target=1e-3, warmup_steps=rise)
    model.compile(FusedAdam(rate), loss="binary_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(seed)
    varied = ((change(images, rng), labels) for images, labels in batches(train, 32, seed=seed))
    with fused_batch_norm():
        model.fit(varied, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    return np.concatenate([
        np.mean([model.predict_on_batch(np.ascontiguousarray(view))[:, 0] for view in symmetries(batch, 4)], axis=0)
        for batch in test.batches()
    ])  # fmt: skip

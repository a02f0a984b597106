"""Measures how near simulated patches come to real ones: texture, spectrum, colour, and what frozen features see.

    python benchmarks/simulator.py DATA --seed 0 --seed 1 --seed 2
    python benchmarks/simulator.py DATA --seed 11 --seed 12 --seed 13 --transfer

DATA holds real patches, of which *valid* alone is read. Each seed gives a sample, judged by its test split.
`--transfer` needs torch and the teacher's packages (tools/weights/teacher.py).
"""

import tempfile
from pathlib import Path

import click
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pcam_utils.data import open_data
from pcam_utils.data.patches import SIZE
from pcam_utils.evaluation import auc_difference, colour_features, colour_scores, evaluate
from pcam_utils.simulated import write_sample

CLASSES = {0: "no tumour", 1: "tumour"}
EACH = 600  #: real patches of a class
SHIFTS = range(1, 7)  #: pixels


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True)
@click.option("--transfer", is_flag=True, help="Heads on frozen features: 1,000 patches to learn from.")
def main(data, seeds, transfer):
    """Compare simulated patches with real ones."""
    valid = open_data(data, only=["valid"]).split("valid")
    rows = np.random.default_rng(0).permutation(len(valid))
    real = {c: valid.images[np.sort(rows[valid.labels[rows] == c][:EACH])] for c in CLASSES}
    pooled = {c: [] for c in CLASSES}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            sample = open_data(write_sample(Path(folder) / "sample", seed=seed, progress=False))
            train, test = sample.split("train"), sample.split("test")
            tell(f"seed {seed}: colour alone", test, colour_scores(train.images, train.labels, test.images))
            for label, images in pooled.items():
                images.append(test.images[test.labels == label])
                compare(f"seed {seed}, {CLASSES[label]}", real[label], images[-1])
            if transfer:
                judge_frozen(seed, train.take(np.random.default_rng(seed).permutation(len(train))[:1000]), test)
    for label, images in pooled.items():
        together = np.concatenate(images)
        compare(f"all, {CLASSES[label]}", real[label], together)
        for name, patches in (("real", real[label]), ("simulated", together)):
            values = patches.reshape(-1, 3)
            parts = (
                values.mean(0, dtype=np.float64),
                values.std(0, dtype=np.float64),
                patches.mean((1, 2), dtype=np.float64).std(0),
            )
            told = " | ".join(str(part.round().astype(int)) for part in parts)
            click.echo(f"  {name}, R G B: mean | standard deviation | spread of patch means: {told}")
    halves = {CLASSES[c]: distance(images[::2], images[1::2]) for c, images in real.items()}
    click.echo(f"spectra of two halves of the real patches: {halves}")


def density(images):
    """Optical density, mean of R, G and B, less its mean over the patch: (N, 96, 96)."""
    found = -np.log10((images.astype(np.float32) + 1) / 256).mean(3)
    return found - found.mean((1, 2), keepdims=True)


def autocorrelation(images):
    """Mean over patches and both directions, one number a shift."""
    found = density(images)
    power = (found**2).mean((1, 2))
    down = [((found[:, s:] * found[:, :-s]).mean((1, 2)) / power).mean() for s in SHIFTS]
    across = [((found[..., s:] * found[..., :-s]).mean((1, 2)) / power).mean() for s in SHIFTS]
    return (np.array(down) + across) / 2


def spectrum(images):
    """Natural logarithm of the power at 1 to 47 cycles a patch, mean over patches of unit variance."""
    found = density(images)
    found /= found.std((1, 2), keepdims=True) + 1e-6
    power = np.abs(np.fft.fft2(found)) ** 2
    frequency = np.fft.fftfreq(SIZE, 1 / SIZE)
    ring = np.rint(np.hypot(frequency[:, None], frequency)).astype(int).ravel()
    rings = np.stack([np.bincount(ring, one.ravel()) for one in power]) / np.bincount(ring)
    return np.log(rings[:, 1 : SIZE // 2] + 1e-9).mean(0)


def distance(images, others):
    """Root mean square of the difference of two spectra."""
    return round(float(np.sqrt(np.mean((spectrum(images) - spectrum(others)) ** 2))), 3)


def compare(name, real, images):
    ours, theirs = autocorrelation(images), autocorrelation(real)
    click.echo(
        f"{name}: autocorrelation {ours.round(2)}, real {theirs.round(2)}, difference {(ours - theirs).round(3)}"
    )
    click.echo(f"{name}: spectrum {distance(real, images)} from the real one")


def tell(name, patches, scores):
    found = evaluate(patches.labels, scores, slides=patches.slides)
    click.echo(f"{name}: AUC {found['auc']:.3f} ({found['auc_low']:.3f} to {found['auc_high']:.3f})")


def judge_frozen(seed, train, test):
    """What a head learns from each network's averaged features."""
    scores = {}
    for name, features in {"ImageNet": imagenet, "random": random_nasnet, "colour": colour_features}.items():
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=3000))
        head.fit(features(train.images), train.labels)
        scores[name] = head.predict_proba(features(test.images))[:, 1]
        tell(f"seed {seed}: frozen features, {name}", test, scores[name])
    gap = auc_difference(test.labels, scores["ImageNet"], scores["random"], groups=test.slides)
    click.echo("seed {}: ImageNet minus random {:+.3f} ({:+.3f} to {:+.3f})".format(seed, *gap))


def imagenet(images):
    """Averaged features of EfficientNet-Lite0 from ImageNet, at 160 pixels: (N, 1280)."""
    import torch

    from tools.weights import teacher

    network, found = teacher.load().eval(), []
    with torch.no_grad():
        for start in range(0, len(images), teacher.BATCH):
            batch = teacher.enlarged(images[start : start + teacher.BATCH], teacher.PIXELS)
            found.append(network.extract_features(batch).mean((2, 3)).cpu().numpy())
    return np.concatenate(found)


def random_nasnet(images):
    """Averaged features of NASNetMobile with random weights: (N, 1056)."""
    import keras

    from pcam_utils.models import build_model
    from pcam_utils.runtime.backend import set_xla

    keras.utils.set_random_seed(0)
    model = build_model(weights="none", head="average", say=lambda _: None)
    features = set_xla(keras.Model(model.inputs, model.get_layer("dropout").input))
    return features.predict(images[:], batch_size=64, verbose=0)


if __name__ == "__main__":
    main()

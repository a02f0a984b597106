"""NASNet-A-Mobile in PyTorch, layer for layer as Keras builds it, but for the padding of borders.

`speed.py peer` measures ours against it. Run as a script it proves that the two have the same number of weights:

    python benchmarks/nasnet_torch.py
"""

import torch
from torch import nn
from torch.nn import functional as F

STEM = 32  # channels


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=1 - 0.9997)


def pointwise(channels, filters):
    return nn.Conv2d(channels, filters, 1, bias=False)


class Separable(nn.Sequential):
    """Twice: ReLU, separable convolution, normalisation; the first one may halve the picture."""

    def __init__(self, channels, filters, size, stride=1):
        layers = []
        for inputs, step in ((channels, stride), (filters, 1)):
            depthwise = nn.Conv2d(inputs, inputs, size, step, size // 2, groups=inputs, bias=False)
            layers += [nn.ReLU(), depthwise, pointwise(inputs, filters), norm(filters)]
        super().__init__(*layers)


class Halve(nn.Module):
    """Half the picture twice, the second time a pixel further, side by side."""

    def __init__(self, channels, filters):
        super().__init__()
        self.left, self.right = (pointwise(channels, filters // 2) for _ in range(2))
        self.norm = norm(filters // 2 * 2)

    def forward(self, x):
        x = F.relu(x)
        moved = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.left(x[:, :, ::2, ::2]), self.right(moved[:, :, ::2, ::2])], 1))


class Cell(nn.Module):
    """A normal or a reduction cell. ``forward`` takes the pictures of the cell before it and of the one before that."""

    def __init__(self, channels, before, filters, reduction=False, halved=False):
        super().__init__()
        self.reduction = reduction
        self.squeeze = nn.Sequential(nn.ReLU(), pointwise(channels, filters), norm(filters))
        if halved:  # the picture of two cells back is twice as large as that of the cell before
            self.adjust = Halve(before, filters)
        elif before not in (filters, STEM):
            self.adjust = nn.Sequential(nn.ReLU(), pointwise(before, filters), norm(filters))
        else:
            self.adjust = nn.Identity()
        sizes = ((5, 2), (7, 2), (7, 2), (5, 2), (3, 1)) if reduction else ((5, 1), (3, 1), (5, 1), (3, 1), (3, 1))
        plain = isinstance(self.adjust, nn.Identity)
        reads = [filters, *[before if plain else filters] * 3, filters]  # the first cell takes the stem as it is
        self.ways = nn.ModuleList(
            Separable(inputs, filters, size, stride) for inputs, (size, stride) in zip(reads, sizes)
        )
        self.channels = filters * (4 if reduction else 6)

    def forward(self, x, before):
        before, x = self.adjust(before), self.squeeze(x)
        a, b, c, d, e = self.ways
        mean = lambda picture: F.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
        if not self.reduction:
            sums = [a(x) + b(before), c(before) + d(before), mean(x) + before, mean(before) * 2, e(x) + x]
            return torch.cat([before, *sums], 1)
        largest = F.max_pool2d(x, 3, 2, 1)
        first = a(x) + b(before)
        second = largest + c(before)
        third = F.avg_pool2d(x, 3, 2, 1) + d(before)
        return torch.cat([second, third, mean(first) + second, e(first) + largest], 1)


class NASNetMobile(nn.Module):
    """uint8 patches (n, 3, 96, 96) to logits (n, 1): the backbone, the average of its features, one number."""

    def __init__(self, cells=4, filters=44):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, bias=False), norm(STEM))
        plan = [(filters // 4, True), (filters // 2, True)]
        for stage in range(3):
            if stage:
                plan.append((filters * 2**stage, True))
            plan += [(filters * 2**stage, False)] * cells
        self.cells, channels, before, halved = nn.ModuleList(), STEM, STEM, False
        for width, reduction in plan:
            self.cells.append(Cell(channels, before, width, reduction, halved))
            before, channels, halved = channels, self.cells[-1].channels, reduction
        self.head = nn.Linear(channels, 1)

    def forward(self, pictures):
        x = before = self.stem(pictures / 127.5 - 1)
        for cell in self.cells:
            x, before = cell(x, before), x
        return self.head(F.relu(x).mean((2, 3)))


if __name__ == "__main__":
    from pcam_utils.models.networks import build_model

    model = NASNetMobile().eval()
    theirs = sum(tensor.numel() for name, tensor in model.state_dict().items() if "num_batches" not in name)
    ours = build_model(weights="none", head="average", say=lambda _: None).count_params()
    print(f"{theirs:,} weights in PyTorch, {ours:,} in Keras; logits: {tuple(model(torch.zeros(2, 3, 96, 96)).shape)}")
    assert theirs == ours

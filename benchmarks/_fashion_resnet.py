"""ResNet-20 on Fashion-MNIST: images, training and what to measure of a trained one."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hasten.bench.models.resnet import ResNet
from hasten.bench.workloads import fashion_mnist

__all__ = ["Images", "batches", "fashion", "invented", "logits", "new_model", "train"]

BATCH = 128
SHIFT = 2  # pixels by which images are moved at random


@dataclass(frozen=True)
class Images:
    """Images (n, 1, 28, 28), normalised, and their classes (n,)."""

    x: Tensor
    y: Tensor

    def __getitem__(self, part: slice | Tensor) -> Images:
        return Images(self.x[part], self.y[part])

    def __len__(self) -> int:
        return len(self.y)


def fashion(held_out: int, limit: int | None) -> tuple[Images, Images, Images]:
    """Images for training, `held_out` others of the same set, and the test's; at most `limit` of the first and last.

    The canonical order of the data says nothing about classes, but is no random one: the split is drawn, always alike.
    """
    every, test = Images(*fashion_mnist.train_data(0)), Images(*fashion_mnist.test_data())
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))
    return every[order[held_out:][:limit]], every[order[:held_out]], test[:limit]


def invented(held_out: int, limit: int) -> tuple[Images, Images, Images]:
    """The same three of noisy images of 12x12, one coarse pattern for each class."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(10, (2 * limit + held_out,), generator=g)
    patterns = torch.randn(10, 1, 3, 3, generator=g).repeat_interleave(4, 2).repeat_interleave(4, 3)
    x = patterns[y] + 0.3 * torch.randn(len(y), 1, 12, 12, generator=g)
    every = Images(x, y)
    return every[:limit], every[limit : limit + held_out], every[limit + held_out :]


def new_model(width: int, depth: int = 20) -> nn.Module:
    """Untrained, in the memory order that is fastest to train here."""
    return ResNet(depth, in_channels=1, width=width).to(memory_format=torch.channels_last)


def batches(images: Images, generator: torch.Generator, size: int = BATCH) -> Iterator[Images]:
    """Once through the images in random order, each one moved by up to two pixels and mirrored or not."""
    background = float(images.x[0].min())  # black, normalised
    for part in torch.randperm(len(images), generator=generator).split(size):
        x = F.pad(images.x[part], (SHIFT,) * 4, value=background)
        n, edge = len(part), images.x.shape[-1]
        first = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator) + torch.arange(edge)
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, first[1].flip(1), first[1])
        moved = x[torch.arange(n)[:, None, None], :, first[0][:, :, None], columns[:, None, :]]  # channels come last
        x = moved.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        yield Images(x, images.y[part])


def train(
    model: nn.Module,
    images: Images,
    optimizer: torch.optim.Optimizer,
    steps: int,
    loss: Callable[[Images, Tensor], Tensor],
    *,
    seed: int,
    label: str,
    size: int = BATCH,
    half: bool = False,
) -> None:
    """So many steps, each group's learning rate from nothing up to its own and down again (one cycle).

    Args:
        loss: of a batch and the model's logits.
        label: to begin the lines of progress with.
        size: images of a step.
        half: forward pass in bfloat16.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(seed)
    stream = (batch for _ in itertools.count() for batch in batches(images, generator, size))
    model.train()
    begun = time.perf_counter()
    for step in range(steps):
        batch = next(stream)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * min((step + 1) / (0.2 * steps), (steps - step) / (0.8 * steps))
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = model(batch.x)
        value = loss(batch, out.float())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step % 50 == 49 or step == steps - 1:
            rate = (step + 1) * size / (time.perf_counter() - begun)
            words = f"{label}: step {step + 1} of {steps}, loss {float(value.detach()):.3f}, {rate:.0f} images/s"
            print(words, file=sys.stderr, flush=True)
    model.eval()


@torch.no_grad()
def logits(model: nn.Module, images: Images, size: int = 500) -> Tensor:
    """(n, classes) of a model in evaluation mode."""
    return torch.cat([model(part) for part in images.x.split(size)])

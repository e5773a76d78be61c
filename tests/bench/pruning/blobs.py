"""A workload of a millisecond a step, for tests of pruning: random vectors by their largest element, and a width."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import nn

BATCH_SIZE = 16
DURATION = "30step"
LEARNING_RATE = 1e-2
WARMUP = 2
METRIC = "accuracy"
SECONDS_PER_STEP = 0.0


def model(width: int = 16):
    return nn.Sequential(
        nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3)
    )


def part(count, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator)
    return inputs, (inputs[:, :3] + 0.3 * torch.randn(count, 3, generator=generator)).argmax(1)


def data(seed):
    return part(320, 0), part(256, 1)


def loss(outputs, batch):
    if SECONDS_PER_STEP:
        time.sleep(SECONDS_PER_STEP)
    return F.cross_entropy(outputs, batch[1], reduction="none")


@torch.no_grad()
def metric(model, test):
    return (model(test[0]).argmax(1) == test[1]).float().mean().item()

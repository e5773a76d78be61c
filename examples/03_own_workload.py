"""A workload of your own is one file with four functions: this one. It asks about itself.

    python examples/03_own_workload.py
    hasten compare examples/03_own_workload.py --arms base,ema

The task: is a point inside a ring?
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import hasten
from hasten.methods import ema

SUMMARY = "points inside or outside a ring"
ARMS = "base,ema"
BATCH_SIZE, LEARNING_RATE = 64, 1e-2
DURATION, POINTS = "30ep", 3


def model():
    """A new model."""
    return nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def ring(count, seed):
    """Points (count, 2), and whether each lies in the ring (count,)."""
    points = 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 1
    radius = points.norm(dim=1)
    return points, ((radius > 0.4) & (radius < 0.8)).long()


def data(seed):
    """(train, test); the seed may change the training part, never the test part."""
    return ring(1024, 1 + seed), ring(512, 0)


def loss(outputs, batch):
    """One value per sample."""
    return cross_entropy(outputs, batch[1], reduction="none")


@torch.no_grad()
def metric(model, test):
    """Accuracy; higher is better unless the file says MINIMIZE = True."""
    points, inside = test
    return (model.eval()(points).argmax(1) == inside).float().mean().item()


def main():
    study = hasten.compare(__file__, {"base": [], "ema": [ema()]}, seeds=2, out="runs/ring", quiet=True)
    print(study.table())


if __name__ == "__main__":
    main()

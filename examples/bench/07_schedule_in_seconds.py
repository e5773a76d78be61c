"""A schedule in seconds: train for one second, and the learning rate is at zero when it ends.

    python examples/bench/07_schedule_in_seconds.py
    hasten schedule "over(warmup(cosine(), 0.1), '1s')" --length 1s

Nobody needs to know how many updates that is. Evaluation is off the clock. No two runs are equal: where the number of
updates is known, prefer `clock="step"`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hasten.schedules import LR, cosine, over, warmup


def ring(count, seed):
    """Points (count, 2), and whether each lies in the ring (count,)."""
    points = 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 1
    radius = points.norm(dim=1)
    return points, ((radius > 0.4) & (radius < 0.8)).long()


def main():
    torch.manual_seed(0)
    (points, inside), (others, truth) = ring(1024, 1), ring(512, 0)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rate = LR(optimizer, over(warmup(cosine(), 0.1), "1s"), clock="seconds")  # it counts from here on

    for end in (0.25, 0.5, 0.75, 1.0):
        while rate.t < end:
            batch = torch.randint(len(points), (64,))
            optimizer.zero_grad()
            cross_entropy(model(points[batch]), inside[batch]).backward()
            optimizer.step()
            rate.step()
        with rate.paused(), torch.no_grad():  # an evaluation takes nothing of the second
            accuracy = (model(others).argmax(1) == truth).float().mean().item()
        print(f"{rate.t:.2f} s, update {rate.updates}: rate {rate.multiplier:.3f}, accuracy {accuracy:.3f}")
    print(f"{len(rate.logged)} rates are on record")


if __name__ == "__main__":
    main()

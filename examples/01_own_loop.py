"""Four pieces in a plain training loop: BlurPool, label smoothing, an average of the weights, and a schedule.

    python examples/01_own_loop.py

Every piece works alone: delete the lines of one, and the rest goes on working.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from hasten.bench.workloads import digits
from hasten.losses import label_smoothing
from hasten.optim import EMA
from hasten.schedules import cosine, lr_scheduler, warmup
from hasten.surgery import apply_blurpool

EPOCHS, BATCH = 3, 64


def per_sample(outputs, batch):
    """A loss as the wrappers want it: one value per sample, not averaged."""
    return cross_entropy(outputs, batch[1], reduction="none")


def accuracy(model, images, classes):
    """Share of right answers."""
    with torch.no_grad():
        return (model.eval()(images).argmax(1) == classes).float().mean().item()


def main():
    torch.manual_seed(0)
    images, classes = digits.train_data(seed=0)
    model = digits.model()
    report = apply_blurpool(model, min_channels=8)  # surgery comes before the optimizer
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * (len(images) // BATCH)
    scheduler = lr_scheduler(optimizer, warmup(cosine(), 8), total=steps)
    smooth = label_smoothing(per_sample, smoothing=0.1)
    average = EMA(model, half_life=steps / 50)

    step = 0
    for _ in range(EPOCHS):
        for index in torch.randperm(len(images)).split(BATCH):
            model.train()
            batch = images[index], classes[index]
            optimizer.zero_grad()
            smooth(model(batch[0]), batch).mean().backward()
            optimizer.step()
            scheduler.step()
            average.step(step, steps)
            step += 1

    test = digits.test_data()
    print(f"blurred layers: {', '.join(report.changed)}")
    print(f"accuracy of the last weights:     {accuracy(model, *test):.3f}")
    print(f"accuracy of the averaged weights: {accuracy(average.evaluated(model), *test):.3f}")


if __name__ == "__main__":
    main()

"""AdamW in 5 bytes for each parameter instead of 16: cast the model, change the optimizer, free gradients at once.

    python examples/06_flash_optimizer.py

Each recipe trains a tiny GPT on Python's own source from the same weights. "at its peak" adds the most gradients that
were alive at a time to weights and state. A run this short says what the memory is, and nothing about quality.
"""

from __future__ import annotations

import torch

from hasten.bench.workloads import charlm
from hasten.optim import FlashAdamW, cast_model, enable_gradient_release, memory_report

STEPS, BATCH = 20, 8


def train(model, optimizer, inputs, targets, release=None):
    """Train; the most bytes of gradients that were alive at a time."""
    most = 0

    def gradients(*_):
        nonlocal most
        most = max(most, sum(p.grad.nbytes for p in model.parameters() if p.grad is not None))
        return True  # use this gradient

    if release:
        enable_gradient_release(model, optimizer, pre_step=gradients)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    for index in order[: STEPS * BATCH].split(BATCH):
        optimizer.zero_grad()
        outputs = model(inputs[index]).float()  # the loss in float32
        torch.nn.functional.cross_entropy(outputs.flatten(0, 1), targets[index].flatten()).backward()
        gradients()
        optimizer.step()  # under release: gradients are used and gone already
    return most


def main():
    inputs, targets = charlm.train_data(seed=0)
    recipes = {"AdamW": (False, False), "FlashAdamW": (True, False), "FlashAdamW, released": (True, True)}
    for name, (flash, release) in recipes.items():
        torch.manual_seed(0)
        model = charlm.model()
        if flash:
            cast_model(model, torch.bfloat16)  # before the optimizer is built
        optimizer = (FlashAdamW if flash else torch.optim.AdamW)(model.parameters(), lr=1e-3)
        most = train(model, optimizer, inputs, targets, release)
        optimizer.zero_grad()
        report = memory_report(optimizer)  # weights and state
        peak = (report.total + most) / report.parameters
        quality = charlm.metric(model, held_out())
        print(f"{name}: {peak:.2f} bytes per parameter at its peak, {quality:.2f} bits per byte")
    print(report)


def held_out(count=32):
    """A part of the test set, so that the example is quick."""
    inputs, targets = charlm.test_data()
    return inputs[:count], targets[:count]


if __name__ == "__main__":
    main()

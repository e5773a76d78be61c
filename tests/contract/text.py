"""A tiny text workload: the next token is a fixed function of this one. Milliseconds a step, learnable in a few."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hasten.bench.models import GPT

BATCH_SIZE, DURATION, OPTIMIZER, LEARNING_RATE, WARMUP, POINTS = 8, "6step", "adamw", 3e-2, 1, 2
VOCABULARY, CONTEXT, SAMPLES = 11, 6, 48


def model() -> nn.Module:
    return GPT(vocabulary=VOCABULARY, context=CONTEXT, width=8, depth=2, heads=2, expansion=2)


def sample(count: int, seed: int) -> dict[str, Tensor]:
    first = torch.randint(0, VOCABULARY, (count, 1), generator=torch.Generator().manual_seed(seed))
    tokens = [first]
    for _ in range(CONTEXT):
        tokens.append((3 * tokens[-1] + 1) % VOCABULARY)
    text = torch.cat(tokens, dim=1)
    return {"input_ids": text[:, :-1].contiguous(), "labels": text[:, 1:].contiguous()}


def data(seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return sample(SAMPLES, 0), sample(SAMPLES, 1)


def loss(outputs: Tensor, batch: Any) -> Tensor:
    flat = F.cross_entropy(outputs.flatten(0, 1), batch["labels"].flatten(), reduction="none")
    return flat.view(batch["labels"].shape).mean(1)


@torch.no_grad()
def metric(model: nn.Module, test: Any) -> float:
    model.eval()
    return -float(loss(model(test["input_ids"]).float(), test).mean())

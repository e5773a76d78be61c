"""A network, torch's SGD with `step_param`, and the plain loop: for the tests of gradient release."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

__all__ = ["StepwiseSGD", "data", "equal", "gradients", "make", "network", "train", "twins", "weights"]


class StepwiseSGD(torch.optim.SGD):
    """torch's SGD with `step_param`, by the same kernel."""

    def step_param(self, parameter: nn.Parameter) -> None:
        for group in self.param_groups:
            if any(parameter is p for p in group["params"]):
                state, buffers = self.state[parameter], [self.state[parameter].get("momentum_buffer")]
                with torch.no_grad():
                    sgd([parameter], [parameter.grad], buffers, foreach=False, lr=group["lr"], dampening=0.0,
                        weight_decay=group["weight_decay"], momentum=group["momentum"], nesterov=False,
                        maximize=False)  # fmt: skip
                state["momentum_buffer"] = buffers[0]
                return
        raise AssertionError("not one of my parameters")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def make(model: nn.Module, lr: float = 0.1) -> StepwiseSGD:
    return StepwiseSGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.01, foreach=False)


def data(seed: int = 0) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range = range(4)) -> list[Tensor]:
    """The plain loop, which does not know whether gradients are released."""
    for step in steps:
        optimizer.zero_grad()
        model(data(step)).square().mean().backward()
        optimizer.step()
    return weights(model)


def twins() -> tuple[nn.Sequential, nn.Sequential]:
    model = network()
    return model, copy.deepcopy(model)


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]

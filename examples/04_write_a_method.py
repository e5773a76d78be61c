"""A method of your own: a piece that works alone, and a card that says what it changes.

    python examples/04_write_a_method.py
    hasten compare examples/04_write_a_method.py

The method adds Gaussian noise to the inputs; the workload is the one of the digits.
"""

from __future__ import annotations

import torch

import hasten
from hasten.bench.workloads import load, module_of
from hasten.bench.workloads.digits import data, loss, metric, model  # noqa: F401 (this file is a workload)
from hasten.program import Card, Program, bind, method

ARMS = "base, noise=input_noise(0.2)"
OPTIMIZER, LEARNING_RATE, WARMUP = "sgd", 0.15, 8
DURATION, POINTS = "2ep", 2


def add_noise(batch, *, sigma=0.1, generator):
    """The piece: Gaussian noise on the inputs, from a generator that the caller holds."""
    inputs, targets = batch
    return inputs + sigma * torch.randn(inputs.shape, generator=generator).to(inputs), targets


@method(
    Card(
        summary="Add Gaussian noise to the inputs.",
        component="data",
        action="retrofit",
        touches={"batch": "append"},
        needs={"float_inputs"},
        cost="one draw for each input value",
    )
)
def input_noise(program: Program, name: str, sigma: float = 0.1) -> Program:
    """The method: the same program with one more batch transform."""
    return program.append("batch", name, bind(add_noise, sigma=sigma), stage=10)


def main():
    workload = load(__file__)  # read by content, so that worker processes run exactly this code
    own = module_of(workload)
    arms = {"base": [], "noise": [own.input_noise(0.2)]}
    study = hasten.compare(workload, arms, seeds=2, out="runs/noise", quiet=True)
    print(study.table())


if __name__ == "__main__":
    main()

"""A workload of a few milliseconds a step, for tests of the bench: random vectors by their largest element.

Its own methods break something: `breaks("raising")` takes `raising_loss`, and so on.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn

from hasten.program import Card, bind, method

BATCH_SIZE = 8
DURATION = "300step"
LEARNING_RATE = 1e-2
WARMUP = 5
POINTS = 3
WIDTH = 16
SECONDS_PER_STEP = 0.003  # so that what happens in the middle of a run does so on any machine


def model():
    return nn.Sequential(nn.Linear(4, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, 3))


def part(count, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator)
    return inputs, (inputs[:, :3] + 0.3 * torch.randn(count, 3, generator=generator)).argmax(1)


def data(seed):
    return part(64, 0), part(64, 1)


def loss(outputs, batch):
    time.sleep(SECONDS_PER_STEP)
    return F.cross_entropy(outputs, batch[1], reduction="none")


@torch.no_grad()
def metric(model, test):
    model.eval()
    return (model(test[0]).argmax(1) == test[1]).float().mean().item()


CALLS = Counter()


def later(name):
    """Whether to break now: not in the few steps that say what a study will cost."""
    CALLS[name] += 1
    return CALLS[name] > 10


def raising_loss(outputs, batch):
    if later("raising"):
        raise RuntimeError("this loss always raises")
    return loss(outputs, batch)


def leaving_loss(outputs, batch):
    sys.exit(7)


def hungry_loss(outputs, batch):
    if later("hungry"):
        torch.zeros(1 << 58)  # more bytes than any machine has
    return loss(outputs, batch)


def hungry_python_loss(outputs, batch):
    return loss(outputs, batch) + len(bytearray(1 << 60))


def killed_loss(outputs, batch):
    if later("killed"):
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    return loss(outputs, batch)


def printing_loss(outputs, batch):
    print('{"event": "died", "code": 0}\n' + "x" * 70_000)
    os.write(1, b'{"event": "done"}\nno end of line')
    if sys.stdin.readline():
        raise RuntimeError("the protocol's stdin is in reach")
    return loss(outputs, batch)


def forking_loss(outputs, batch):
    """Leave two processes behind that hold whatever they can inherit, and die."""
    if os.fork() == 0:
        time.sleep(600)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    print("left behind:", child.pid, flush=True)
    os.abort()


def full_disk_loss(outputs, batch):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")


def data_that_breaks_seed_1(seed):
    inputs, targets = part(64, 0)
    return (inputs * float("inf") if seed == 1 else inputs), targets


@method(Card(summary="Break the loss.", component="optimization", action="replace", touches={"loss": "replace"}))
def breaks(program, name, how: str):
    return program.set(loss=bind(globals()[f"{how}_loss"]))


@method(Card(summary="Break seed 1.", component="data", action="replace", touches={"data": "replace"}))
def not_finite(program, name):
    return program.set(data=bind(data_that_breaks_seed_1))

"""What a worker does with a task of a pruning study: train a dense model, or prune one and train it on.

    train_dense   from scratch: the start weights of a seed, or a narrower model
    fine_tune     from the start weights of the seed: prune, evaluate, train on with the masks held, evaluate

Sizes and times are measured off the training clock, in the same process, in turns with the dense model.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hasten._core.batch import get_inputs, take, to_device
from hasten._core.call import decode
from hasten._core.checks import NonFiniteError, refuse
from hasten._core.rng import fork
from hasten.program import Program

from .. import checkpoint as checkpoints
from ..build import build_model
from ..environment import calibrate
from ..source import BatchSource
from ..task import facts_of, task_of
from ..train import Task, evaluate, train
from .cut import SAMPLES, cut, held, measured

__all__ = ["BATCHES", "batches_of", "fine_tune", "train_dense"]

BATCHES = 4  # batches that strategies may look at: scores of a single one were worse than plain magnitudes

Tell = Callable[[dict[str, Any]], None]


def train_dense(task: dict[str, Any], tell: Tell, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train a model from scratch; its best weights go to `task["weights"]`, where others wait for them."""
    before, described = calibrate(), _described(task)
    result = _train(described, task, tell, should_stop)
    assert result.model is not None
    reference = Program.from_json(task["reference"], trust=True)
    dense, _ = build_model(reference, described.seed)  # only its sizes and its time count
    inputs = _inputs(described)
    cost = measured(result.model, dense.to(described.device), inputs)
    if task["weights"] is not None:
        checkpoints.save(Path(task["weights"]), {"model": result.model.state_dict()})
    return {**facts_of(result, before), "cost": cost}


def fine_tune(task: dict[str, Any], tell: Tell, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Prune the start weights by `task["strategy"]` to `task["ratio"]`, and train on; no strategy prunes nothing."""
    before, described = calibrate(), _described(task)
    dense = _start(described, Path(task["start"]))
    model = copy.deepcopy(dense)
    if task["strategy"] is not None:
        _prune(model, task, described)
    untuned = evaluate(
        model, described.metric, to_device(described.test(), described.device), seed=described.seed, step=0
    )
    if not math.isfinite(untuned):
        raise NonFiniteError(f"the metric became {untuned} before fine-tuning.")
    cost = measured(model, dense, _inputs(described), task["pattern"])
    result = _train(replace(described, model=model), task, tell, should_stop)
    assert result.model is not None
    if not held(result.model):
        raise RuntimeError("pruned entries came back during fine-tuning: the masks were not held")
    return {**facts_of(result, before), "cost": cost, "before": untuned}


def batches_of(program: Program, seed: int, device: str | torch.device, count: int = BATCHES) -> list[Any]:
    """The first batches of the training data, in the run's own order."""
    source = BatchSource(
        program.data.build()(seed), program.sampler.build(), batch_size=program.batch_size, seed=seed,
        device=torch.device(device),
    )  # fmt: skip
    return list(itertools.islice(source.batches(0), count))


def _described(task: dict[str, Any]) -> Task:
    """The training task; test data are kept for the next task of this process."""
    return task_of(task, test=functools.partial(_test_data, json.dumps(task["test"])))


@functools.lru_cache(maxsize=1)
def _test_data(text: str) -> Any:
    return decode(json.loads(text)).build()()


def _train(described: Task, task: dict[str, Any], tell: Tell, should_stop: Callable[[], bool]) -> Any:
    return train(
        described,
        checkpoint=Path(task["checkpoint"]),
        checkpoint_seconds=task["checkpoint_seconds"],
        observe=tell,
        should_stop=should_stop,
    )


def _start(described: Task, path: Path) -> nn.Module:
    """The dense model with the start weights of the seed."""
    state = checkpoints.load(path, described.device)
    if state is None:
        raise refuse(
            "hasten prune", "the start weights", f"no readable file {path}", "Delete it and run the command again."
        )
    model, _ = build_model(described.program, described.seed)
    model.load_state_dict(state["model"])
    return model.to(described.device)


def _prune(model: nn.Module, task: dict[str, Any], described: Task) -> None:
    with fork(described.seed, "prune"):  # for draws of the model's own: dropout while gradients are taken
        cut(
            model,
            task["strategy"],
            task["ratio"],
            pattern=task["pattern"],
            batches=batches_of(described.program, described.seed, described.device),
            loss=described.program.loss.build(),
            seed=described.seed,
        )


def _inputs(described: Task) -> Any:
    """The inputs whose prediction is timed."""
    batch = batches_of(described.program, described.seed, described.device, 1)[0]
    return get_inputs(take(batch, slice(SAMPLES)))

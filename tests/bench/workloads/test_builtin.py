"""What every built-in workload module offers: the four functions of a user's file, and settings that can be read."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType

import pytest
import torch

from hasten._core.clock import parse_duration
from hasten.bench.workloads import NAMES


@pytest.fixture(params=list(NAMES))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(f"hasten.bench.workloads.{request.param}")


def test_functions_have_the_signatures_of_a_users_file(module):
    def arguments(function) -> list[str]:
        return list(inspect.signature(function).parameters)

    assert arguments(module.data) == ["seed"]
    assert arguments(module.train_data) == ["seed"]
    assert arguments(module.test_data) == []
    assert arguments(module.loss) == ["outputs", "batch"]
    assert arguments(module.metric) == ["model", "test"]
    for parameter in inspect.signature(module.model).parameters.values():
        assert isinstance(parameter.default, (int, float, str, bool)), parameter


def test_settings(module):
    assert module.__name__.endswith(module.NAME)
    assert module.OPTIMIZER in ("sgd", "adamw")
    assert hasattr(module, "MOMENTUM") == (module.OPTIMIZER == "sgd")
    assert parse_duration(module.DURATION).value > 0
    assert module.LEARNING_RATE > 0
    assert module.WEIGHT_DECAY >= 0
    assert module.WARMUP >= 0
    assert module.POINTS >= 2
    assert module.MULT > 1
    assert isinstance(module.MINIMIZE, bool)
    assert module.SUMMARY
    assert "\n" not in module.SUMMARY


SHARED = ("MINIMIZE", "BATCH_SIZE", "OPTIMIZER", "LEARNING_RATE", "WEIGHT_DECAY", "WARMUP", "POINTS", "MULT", "ARMS")


@pytest.mark.parametrize(
    ("name", "like", "also"),
    [("cifar10_jpeg", "cifar10", ("METRIC", "TARGET", "DURATION", "MOMENTUM")), ("shakespeare", "charlm", ())],
)
def test_baselines_that_are_meant_to_be_the_same(name, like, also):
    one, other = (import_module(f"hasten.bench.workloads.{n}") for n in (name, like))
    settings = (*SHARED, *also)
    assert {s: getattr(one, s) for s in settings} == {s: getattr(other, s) for s in settings}


def test_importing_costs_no_optional_package(module):
    source = inspect.getsource(module)
    top_level = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in top_level if "sklearn" in line or "PIL" in line]


def test_models_are_seeded_by_the_global_generator(module):
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in module.model().parameters()])

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))

from __future__ import annotations

import ast
import importlib.util

import pytest
import torch

from hasten.bench.workloads.template import template


@pytest.fixture
def workload(tmp_path):
    path = tmp_path / "my_workload.py"
    path.write_text(template(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("my_workload_of_the_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_the_file_in_its_usage_line():
    assert "hasten compare spirals.py" in template("spirals.py")
    assert "hasten compare my_workload.py" in template()


def test_explains_every_function():
    tree = ast.parse(template())
    functions = {node.name: ast.get_docstring(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"model", "data", "loss", "metric"} <= set(functions)
    assert all(functions.values())
    assert max(map(len, template().splitlines())) <= 120
    assert 40 <= len(template().splitlines()) <= 75


def test_data_are_fixed(workload):
    (x, y), (test_x, test_y) = workload.data(0)
    other = workload.data(1)
    assert (x.shape, y.shape, test_x.shape, test_y.shape) == ((2048, 2), (2048,), (1024, 2), (1024,))
    assert torch.equal(test_x, other[1][0])
    assert not torch.equal(x[:1024], test_x)


def test_the_four_functions_reach_the_target(workload):
    train, test = workload.data(0)
    torch.manual_seed(0)
    model = workload.model()
    assert workload.metric(model, test) < 0.8
    optimizer = torch.optim.AdamW(model.parameters(), lr=workload.LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)
    for _ in range(int(workload.DURATION.removesuffix("ep"))):
        model.train()
        for index in torch.randperm(2048, generator=generator).view(-1, workload.BATCH_SIZE):
            batch = (train[0][index], train[1][index])
            losses = workload.loss(model(batch[0]), batch)
            assert losses.shape == (workload.BATCH_SIZE,)
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
    assert workload.metric(model, test) > workload.TARGET

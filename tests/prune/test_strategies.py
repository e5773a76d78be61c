from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

from hasten.prune import strategies
from hasten.prune.plan import compute
from hasten.prune.strategies import Strategy, get, names


def smallest_first(model: nn.Module, targets: object, data: object) -> dict[str, torch.Tensor]:
    return {name: -p.abs() for name, p in targets.parameters.items()}


def upside_down(power: int = 1) -> Strategy:
    return Strategy("upside_down", smallest_first, scope="layer", rounds=power)


def test_all_that_are_promised_are_there() -> None:
    assert set(names()) >= {
        "random", "global_magnitude", "layer_magnitude", "global_gradient", "layer_gradient", "global_activation",
        "layer_activation", "channel_l1", "channel_l2", "channel_activation", "lamp", "snip", "grasp", "synflow",
        "wanda", "sparsegpt", "owl", "movement",
    }  # fmt: skip
    assert all(get(name).name == name for name in names())


def test_options_are_literals() -> None:
    assert get("synflow(rounds=7)").rounds == 7
    assert get(" wanda( owl = True, spread=0.1 )").layerwise.spread == 0.1
    assert get("owl(propagate=False)").layerwise.propagate is False
    for text, message in [
        ("lampe", "Did you mean lamp"),
        ("synflow(7)", "a strategy like lamp or"),
        ("synflow(rounds=__import__('os'))", "a strategy like lamp or"),
        ("synflow(steps=3)", "options that synflow has"),
        ("synflow(rounds=0)", "at least 1 for rounds"),
        ("", "a strategy like lamp or"),
    ]:
        with pytest.raises(ValueError, match=message):
            get(text)
    with pytest.raises(TypeError, match="a strategy's name, a Strategy or a function, got 3"):
        get(3)


def test_a_function_is_a_strategy() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    masks = compute(model, smallest_first, sparsity=0.5)
    assert masks.strategy == "smallest_first"
    opposite = compute(model, "global_magnitude", sparsity=0.5)
    assert not any((masks[name] & opposite[name]).any() for name in masks)


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("upside_down", f"{__name__}:upside_down", strategies.GROUP),
        EntryPoint("ready", f"{__name__}:READY", strategies.GROUP),
        EntryPoint("wrong", f"{__name__}:dict", strategies.GROUP),
        EntryPoint("lamp", f"{__name__}:dict", strategies.GROUP),
    ]
    modules = {"upside_down": upside_down, "ready": upside_down(), "wrong": dict, "lamp": dict}
    monkeypatch.setattr(EntryPoint, "load", lambda self: modules[self.name])
    monkeypatch.setattr(strategies, "entry_points", lambda group: points if group == strategies.GROUP else [])
    assert names()[-3:] == ("ready", "upside_down", "wrong")
    assert get("upside_down(power=2)").rounds == 2
    assert get("ready").name == "upside_down"
    assert get("lamp").name == "lamp", "built-in names are not taken over"
    with pytest.raises(TypeError, match="a Strategy from the entry point 'wrong'"):
        get("wrong")
    with pytest.raises(ValueError, match="Did you mean ready"):
        get("redy")


def test_strategies_say_what_they_are() -> None:
    for fault, message in [
        ({"needs": "luck"}, "needs among weights, inputs, loss, got 'luck'"),
        ({"scope": "model"}, "scope among"),
        ({"score": None}, "either score= or layerwise="),
    ]:
        with pytest.raises(ValueError, match=message):
            Strategy(**({"name": "own", "score": smallest_first} | fault))


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (lambda m, t, d: 3, TypeError, "a dict of scores from own"),
        (lambda m, t, d: {}, ValueError, r"scores of floats of shape \(4, 4\) for 0.weight from own, got None"),
        (lambda m, t, d: {n: p[:1] for n, p in t.parameters.items()}, ValueError, r"shape \(1, 4\)"),
        (lambda m, t, d: {n: p > 0 for n, p in t.parameters.items()}, ValueError, "dtype torch.bool"),
        (lambda m, t, d: {n: p * float("nan") for n, p in t.parameters.items()}, ValueError, "NaN in 0.weight"),
    ],
)
def test_wrong_scores_are_refused(score: object, error: type[Exception], message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(error, match=message):
        compute(model, Strategy("own", score), sparsity=0.5)

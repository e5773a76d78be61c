"""Masks on a schedule: when, how many, which, what grows again; presets; states; ranks."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hasten import prune
from hasten.prune import Masks, SparseController, Unstructured, constant, cubic, one_shot
from hasten.prune.patterns import Block
from hasten.prune.phases import choose, due, exchange
from hasten.prune.presets import final_density, random_masks

PRESETS: dict[str, Callable[..., SparseController]] = {
    "gmp": prune.gmp, "set": prune.set_, "rigl": prune.rigl, "granet": prune.granet,
}  # fmt: skip


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 12, generator=generator), torch.randint(0, 4, (16,), generator=generator)


def backward(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    x, y = batch(step)
    nn.functional.cross_entropy(model(x), y).backward()


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, controller: SparseController, steps: int, first: int = 0
) -> None:
    for step in range(first, first + steps):
        backward(model, optimizer, step)
        optimizer.step()
        controller.step()


# The phases ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 80), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_final_density_is_always_projected(every: int, T: int, a: float, b: float) -> None:
    start, end = sorted((a, b))
    schedule = cubic(0.1, start=start, end=end)
    updates = [t for t in range(1, T + 1) if due(t, T, every, schedule)]
    assert schedule(0, T) == 0.1 or schedule(updates[-1], T) == 0.1
    assert all(t % every == 0 or schedule(t, T) == 0.1 for t in updates)


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=30), st.floats(0.0, 1.0), st.data())
def test_as_many_come_as_go(values: list[int], rate: float, data: st.DataObject) -> None:
    score = torch.tensor(values, dtype=torch.float32)
    growth = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=len(values), max_size=len(values)))).float()
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    after = exchange(score, growth, mask, rate, Unstructured())
    assert int(after.sum()) == int(mask.sum())
    assert int((mask & ~after).sum()) == int((after & ~mask).sum()) <= math.ceil(rate * int(mask.sum()))


def test_exchange_by_hand() -> None:
    score, mask = torch.tensor([4.0, 1.0, 3.0, 0.0, 0.0]), torch.tensor([True, True, True, False, False])
    grow = lambda *values: exchange(score, torch.tensor(values), mask, 1 / 3, Unstructured()).tolist()  # noqa: E731
    assert grow(0.0, 0.0, 0.0, 1.0, 2.0) == [True, False, True, False, True]
    assert grow(9.0, 5.0, 9.0, 1.0, 2.0) == mask.tolist()  # what has just gone may come back
    growth, mask = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[True, True, False, False]])
    blocks = exchange(score[:4].view(1, 4), growth, mask, 1.0, Block(1, 2))
    assert blocks.tolist() == [[False, False, True, True]]


def test_choose_is_exact_for_every_allocator() -> None:
    scores = {"a": torch.rand(7, 9), "b": torch.zeros(11, 3), "c": torch.rand(5)}
    for allocator in (None, prune.allocate.uniform, prune.allocate.erk):
        for density in (0.05, 0.31, 0.99, 1.0):
            masks = choose(scores, density, Unstructured(), allocator)
            assert sum(int(mask.sum()) for mask in masks.values()) == round(density * 101)


# The controller -----------------------------------------------------------------------------------------------------


def test_gradual_pruning_by_hand() -> None:
    """Every update keeps the largest of those that were kept, as many as the cubic says."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    controller = prune.gmp(model, optimizer, sparsity=0.9, every=5, start=0.1, end=0.6, steps=50)
    schedule, total = cubic(0.1, start=0.1, end=0.6), controller.masks.total
    assert controller.masks.density() == 1.0
    for t in range(1, 51):
        backward(model, optimizer, t)
        optimizer.step()
        before = {
            name: (p.detach().clone(), controller.masks[name].clone()) for name, p in controller.parameters.items()
        }
        controller.step()
        if due(t, 50, 5, schedule):
            keep = round(schedule(t, 50) * total)
            values = torch.cat([w.abs()[mask] for w, mask in before.values()])
            least = values.sort(descending=True).values[keep - 1]
            assert controller.masks.nonzeros == keep
            assert all(torch.equal(controller.masks[n], mask & (w.abs() >= least)) for n, (w, mask) in before.items())
        for name, parameter in controller.parameters.items():
            assert (parameter[~controller.masks[name]] == 0).all()
            assert (optimizer.state[parameter]["momentum_buffer"][~controller.masks[name]] == 0).all()
    assert controller.masks.nonzeros == round(0.1 * total)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_end_at_what_was_asked(name: str, make: Any) -> None:
    model = net()
    optimizer = make(model.parameters(), lr=0.05)
    controller = PRESETS[name](model, optimizer, compression=5.0, every=3, steps=31)
    started = controller.masks.density()
    assert started == pytest.approx(
        {"gmp": 1.0, "granet": 0.5}.get(name, final_density(model, compression=5.0)), abs=1e-3
    )
    seen = set()
    for step in range(31):
        train(model, optimizer, controller, 1, step)
        seen.add(tuple(controller.masks["0.weight"].flatten().tolist()))
    total = sum(p.numel() for p in model.parameters())
    left = sum(
        int(controller.masks[n].sum()) if n in controller.masks else p.numel() for n, p in model.named_parameters()
    )
    assert left == round(total / 5)
    assert len(seen) > 2  # masks move in all four
    assert controller.densities()["0.weight"] == controller.masks.density("0.weight")


def test_rigl_grows_where_the_gradient_is_largest() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    controller = prune.rigl(model, optimizer, sparsity=0.7, rate=0.3, every=4, steps=40)
    train(model, optimizer, controller, 3)
    before = {name: mask.clone() for name, mask in controller.masks.items()}
    backward(model, optimizer, 3)
    gradients = {name: p.grad.abs().clone() for name, p in controller.parameters.items()}
    optimizer.step()
    controller.step()
    rate = controller.rate(4, 40)
    for name, mask in controller.masks.items():
        come, gone = mask & ~before[name], before[name] & ~mask
        assert int(mask.sum()) == int(before[name].sum())
        assert int(come.sum()) == int(gone.sum()) <= math.ceil(rate * int(mask.sum()))
        assert (controller.parameters[name][come] == 0).all()
        if come.any():
            assert gradients[name][come].min() >= gradients[name][~before[name] & ~mask].max()
    assert any((mask & ~before[name]).any() for name, mask in controller.masks.items())


def test_seeds_decide_what_set_grows() -> None:
    def masks(seed: int) -> prune.Masks:
        torch.manual_seed(seed + 100)  # the global generator has no say
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        controller = prune.set_(model, optimizer, sparsity=0.8, every=2, steps=10, seed=seed)
        train(model, optimizer, controller, 10)
        return controller.masks

    assert masks(1) == masks(1)
    assert masks(1) != masks(2)


def test_fixed_patterns_blocks_and_one_shot() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    controller = SparseController(model, optimizer, "2:4", "global", one_shot(0.5, at=0.5), every=2, steps=8)
    assert list(controller.masks) == ["0.weight", "2.weight"]  # biases are no part of it
    train(model, optimizer, controller, 3)
    assert controller.masks.density() == 1.0
    train(model, optimizer, controller, 1, 3)
    assert all((mask.view(-1, 4).sum(1) == 2).all() for mask in controller.masks.values())
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    controller = SparseController(
        model, optimizer, "block(2,2)", "uniform", constant(0.25), regrow="gradient", every=2, steps=8
    )
    train(model, optimizer, controller, 8)
    for mask in controller.masks.values():
        blocks = mask.view(mask.shape[0] // 2, 2, -1, 2).sum(dim=(1, 3))
        assert set(blocks.flatten().tolist()) == {0, 4}
    assert controller.masks.density() == 0.25


def test_functions_of_ones_own() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[Tensor | None] = []

    def scorer(weight: Tensor, gradient: Tensor | None) -> Tensor:
        seen.append(gradient)
        return -weight.abs()

    controller = SparseController(
        model, optimizer, "unstructured", lambda shapes, density: dict.fromkeys(shapes, density),
        lambda t, T: 1.0 if t < 4 else 0.5, scorer, steps=6, every=100,
    )  # fmt: skip
    train(model, optimizer, controller, 6)
    assert controller.masks.density() == 0.5
    assert seen
    assert all(isinstance(gradient, Tensor) for gradient in seen)
    small, large = model[0].weight[controller.masks["0.weight"]], net()[0].weight
    assert small.abs().mean() < large.abs().mean()


def test_saliency_keeps_what_matters_to_the_loss() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    controller = SparseController(
        model, optimizer, "unstructured", "global", one_shot(0.3, at=0.5), "saliency", steps=2
    )
    train(model, optimizer, controller, 1)
    assert controller.masks.density() == pytest.approx(0.3, abs=1e-3)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="expected a gradient, got none. Start dense"):
        SparseController(model, optimizer, "unstructured", "global", constant(0.3), "saliency")
    assert not optimizer._optimizer_step_pre_hooks  # what is refused leaves nothing behind


def test_masks_to_start_from() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    initial = random_masks(model, 0.4, seed=3)
    assert sum(int(mask.sum()) for mask in initial.values()) == round(
        0.4 * sum(mask.numel() for mask in initial.values())
    )
    controller = SparseController(model, optimizer, "unstructured", "erk", constant(0.4), initial=initial, steps=5)
    train(model, optimizer, controller, 5)
    assert controller.masks == initial
    some = {"0.weight": initial["0.weight"]}
    with pytest.raises(ValueError, match=r"initial masks of 0\.weight, 0\.bias"):
        SparseController(model, optimizer, "unstructured", "erk", constant(0.4), initial=some)


def test_to_dense_lets_all_weights_train_from_zero() -> None:
    """A static random mask first, then a dense fine-tuning (arXiv 2303.10464)."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    controller = SparseController(model, optimizer, "unstructured", "uniform", constant(0.25), steps=20,
                                  initial=random_masks(model, 0.25))  # fmt: skip
    train(model, optimizer, controller, 10)
    dead = ~controller.masks["0.weight"]
    assert controller.to_dense() is model
    assert "0.weight_mask" not in model.state_dict()
    assert (model[0].weight[dead] == 0).all()
    assert (optimizer.state[model[0].weight]["exp_avg"][dead] == 0).all()
    train(model, optimizer, controller, 2, 10)
    assert (model[0].weight[dead] != 0).any()
    assert controller.densities() == {}


@pytest.mark.parametrize("name", PRESETS)
def test_a_saved_training_goes_on_with_the_same_bits(name: str) -> None:
    def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, SparseController]:
        model = net(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        return model, optimizer, PRESETS[name](model, optimizer, compression=4.0, every=3, steps=24)

    whole, first, second = make(0), make(0), make(7)
    train(*whole, 24)
    train(*first, 11)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*second, 13, 11)
    assert second[2].masks == whole[2].masks
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), second[0].parameters(), strict=True))


def test_another_model_goes_on_under_the_same_masks() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    controller = prune.gmp(model, optimizer, sparsity=0.8, every=2, steps=20)
    train(model, optimizer, controller, 9)
    masks = controller.masks
    other = net(4)
    stepped = torch.optim.SGD(other.parameters(), lr=0.1)
    controller.rebind(other, stepped)
    assert prune.masks_of(other) == masks
    train(other, stepped, controller, 2, 9)
    assert controller.masks.nonzeros < masks.nonzeros
    train(model, optimizer, controller, 0)
    backward(model, optimizer, 0)
    optimizer.step()  # the old one is no longer held
    assert (model[0].weight[~prune.masks_of(model)["0.weight"]] != 0).any()


def test_an_average_of_weights_is_masked_when_it_is_evaluated() -> None:
    model = net()
    controller = prune.gmp(
        model, torch.optim.SGD(model.parameters(), lr=0.1), sparsity=0.8, start=0.0, end=0.0, steps=2
    )
    assert controller.evaluated(model) is model
    twin = copy.deepcopy(model)
    nn.init.ones_(twin[0].weight)
    assert torch.equal(controller.evaluated(twin)[0].weight, controller.masks["0.weight"].float())


def test_an_update_waits_for_a_step_that_was_skipped() -> None:
    """As loss scaling skips them: without gradients nothing says what grows."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    controller = prune.rigl(model, optimizer, sparsity=0.7, every=2, steps=20)
    train(model, optimizer, controller, 1)
    masks = Masks({name: mask.clone() for name, mask in controller.masks.items()})
    controller.step()
    assert controller.masks == masks
    other = net(3)
    resumed = prune.rigl(other, torch.optim.SGD(other.parameters(), lr=0.1), sparsity=0.7, every=2, steps=20)
    resumed.load_state_dict(controller.state_dict())
    other.load_state_dict(model.state_dict())
    train(model, optimizer, controller, 1, 2)
    train(other, resumed.hold._optimizer, resumed, 1, 2)
    assert controller.masks != masks
    assert resumed.masks == controller.masks
    assert controller.masks.nonzeros == masks.nonzeros


def test_accumulated_gradients_are_used_whole() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    controller = prune.rigl(model, optimizer, sparsity=0.7, every=1, steps=10)
    optimizer.zero_grad()
    for step in range(2):
        x, y = batch(step)
        nn.functional.cross_entropy(model(x), y).backward()
    whole = {name: p.grad.clone() for name, p in controller.parameters.items()}
    optimizer.step()
    assert all(torch.equal(controller._gradients[name], gradient) for name, gradient in whole.items())
    controller.step()
    assert controller._gradients == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pattern": "3:2"}, "n of at most"),
        ({"allocator": "evenly"}, "allocator among global, uniform, erk, or a function, got 'evenly'"),
        ({"scorer": "size"}, "scorer among magnitude, saliency"),
        ({"regrow": "somewhere"}, "regrow among gradient, random"),
        ({"rate": constant(0.1)}, "rate= only with regrow="),
        ({"pattern": "2:4", "regrow": "random"}, "no regrowth with a pattern of fixed density"),
        ({"every": 0}, "whole number of at least 1 for every"),
        ({"pattern": "block(5,5)"}, r"pattern block\(5,5\): expected 0\.weight"),
        ({"ignore": ["nothing"]}, "ignore= what the model has"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    model = net()
    defaults = {"pattern": "unstructured", "allocator": "global", "schedule": cubic(0.1)}
    with pytest.raises(ValueError, match=words):
        SparseController(model, torch.optim.SGD(model.parameters(), lr=0.1), **{**defaults, **arguments})
    assert "0.weight_mask" not in model.state_dict()


def test_other_bad_input() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="maximum|at most"):
        prune.gmp(model, optimizer, compression=1000)
    with pytest.raises(ValueError, match=r"initial_density in \[0\.1, 1\], got 0"):
        prune.granet(model, optimizer, sparsity=0.9, initial_density=0.0)
    with pytest.raises(ValueError, match="an optimizer of the prunable parameters"):
        prune.gmp(model, torch.optim.SGD(net().parameters(), lr=0.1), sparsity=0.5)
    with pytest.raises(TypeError, match="a torch optimizer"):
        prune.gmp(model, None, sparsity=0.5)  # type: ignore[arg-type]
    controller = prune.gmp(model, optimizer, sparsity=0.5, every=1)
    with pytest.raises(ValueError, match="T, the length of the training, got None"):
        controller.step()
    model[0].weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"expected finite scores of 0\.weight"):
        controller.step(1, 10)

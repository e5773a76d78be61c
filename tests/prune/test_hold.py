"""Masked entries are exactly zero after every step of every optimizer, and the others train as with `weight * mask`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.prune.nets import Tied
from torch import Tensor, nn

from hasten import optim
from hasten.prune import Masks, apply, finalize, hold, keep_largest, masks_of

MAKE: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw_foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, weight_decay=0.01, initial_accumulator_value=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01, weight_decay=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01, weight_decay=0.01),
    "lamb": lambda p: optim.LAMB(p, lr=0.02),
    "lion": lambda p: optim.Lion(p, lr=0.003),
    "flash_adamw": lambda p: optim.FlashAdamW(p, lr=0.01, quantize=False),
    "flash_sgd": lambda p: optim.FlashSGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, quantize=False),
    "flash_lion": lambda p: optim.FlashLion(p, lr=0.003, quantize=False),
}
# Of these what a live entry gets depends on the masked ones by more than rounding: products of rows and columns, and
# scales that groups of neighbours share.
MIXING: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "muon": lambda p: optim.Muon(p, lr=0.02, weight_decay=0.01),
    "flash_adamw8": lambda p: optim.FlashAdamW(p, lr=0.01, weight_decay=0.1),
    "flash_sgd8": lambda p: optim.FlashSGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "flash_lion8": lambda p: optim.FlashLion(p, lr=0.003),
}
STEPS = 50


class Masking(nn.Module):
    """The reference: computes with `weight * mask`."""

    def __init__(self, masks: list[Tensor]) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, weights: list[Tensor], x: Tensor) -> Tensor:
        first, second = (weight * mask for weight, mask in zip(weights, self.masks, strict=True))
        return torch.tanh(x @ first.T) @ second.T


def start(dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, Masks]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16, bias=False), nn.Tanh(), nn.Linear(16, 8, bias=False)).to(dtype)
    scores = {name: torch.rand(p.shape) for name, p in net.named_parameters()}
    return net, Masks(dict(zip(scores, keep_largest(list(scores.values()), 100), strict=True)))


def batch(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(10, 12, generator=generator).to(dtype), torch.randn(10, 8, generator=generator).to(dtype)


def is_zero(net: nn.Module, optimizer: torch.optim.Optimizer, masks: Masks) -> None:
    """Weights and state are exactly 0 where masked, and not all of the others are."""
    for name, parameter in net.named_parameters():
        dead = ~masks[name]
        assert (parameter[dead] == 0).all()
        assert (parameter[~dead] != 0).all()
        for value in optimizer.state[parameter].values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                assert (value[dead] == 0).all()


@pytest.mark.parametrize("name", MAKE)
def test_live_entries_train_as_under_a_product_with_the_mask(name: str) -> None:
    net, masks = start()
    reference, model = [p.detach().clone() * masks[n] for n, p in net.named_parameters()], Masking(list(masks.values()))
    reference = [nn.Parameter(weight) for weight in reference]
    apply(net, masks)
    optimizer, other = MAKE[name](net.parameters()), MAKE[name](reference)
    hold(net, optimizer)
    for step in range(STEPS):
        x, y = batch(step)
        for stepped, output in ((optimizer, net(x)), (other, model(reference, x))):
            stepped.zero_grad()
            (output - y).square().mean().backward()
            stepped.step()
        is_zero(net, optimizer, masks)
    for (n, parameter), weight in zip(net.named_parameters(), reference, strict=True):
        torch.testing.assert_close(parameter[masks[n]], weight[masks[n]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MIXING)
def test_masked_entries_stay_zero_under_optimizers_that_mix(name: str, dtype: torch.dtype) -> None:
    net, masks = start(dtype)
    apply(net, masks)
    optimizer = MIXING[name](net.parameters())
    hold(net, optimizer)
    losses = []
    for step in range(STEPS):
        x, y = batch(step % 3, dtype)
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        is_zero(net, optimizer, masks)
    assert losses[-1] < losses[0]


def test_without_hold_weights_come_back() -> None:
    """What this file is about: the optimizer alone revives them."""
    net, masks = start()
    optimizer = torch.optim.AdamW(apply(net, masks).parameters(), lr=0.01)
    (net(batch(0)[0]) - batch(0)[1]).square().mean().backward()
    optimizer.step()
    assert (net[0].weight[~masks["0.weight"]] != 0).any()


def one_step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (net(batch(0)[0]) - batch(0)[1]).square().mean().backward()
    optimizer.step()


def test_masks_that_change_are_held_and_removal_lets_go() -> None:
    net, masks = start()
    optimizer = MAKE["adam"](apply(net, masks).parameters())
    held = hold(net, optimizer)
    one_step(net, optimizer)
    tighter = Masks({name: mask & (torch.rand(mask.shape) < 0.5) for name, mask in masks.items()})
    apply(net, tighter)
    one_step(net, optimizer)
    is_zero(net, optimizer, tighter)
    net.load_state_dict(copy.deepcopy(net.state_dict()), assign=False)
    assert held.active
    held.remove()
    held.remove()
    assert not held.active
    one_step(net, optimizer)
    assert (net[0].weight[~tighter["0.weight"]] != 0).any()


def test_masks_that_come_later_and_masks_that_go() -> None:
    net, masks = start()
    apply(net, {"0.weight": masks["0.weight"]})
    optimizer = MAKE["adam"](net.parameters())
    with hold(net, optimizer):
        apply(net, {"2.weight": masks["2.weight"]})
        one_step(net, optimizer)
        is_zero(net, optimizer, masks)
        finalize(net)
        one_step(net, optimizer)
        assert (net[0].weight[~masks["0.weight"]] != 0).any()


def test_parameters_that_the_optimizer_gets_later_are_held() -> None:
    net, masks = start()
    optimizer = MAKE["adam"](apply(net, masks)[0].parameters())
    hold(net, optimizer)
    one_step(net, optimizer)
    optimizer.add_param_group({"params": list(net[2].parameters())})
    one_step(net, optimizer)
    one_step(net, optimizer)
    is_zero(net, optimizer, masks)


def test_gradients_that_are_not_finite_do_no_harm_where_masked() -> None:
    net, masks = start()
    optimizer = MAKE["adamw"](apply(net, masks).parameters())
    hold(net, optimizer)
    one_step(net, optimizer)
    net[0].weight.grad[~masks["0.weight"]] = float("nan")
    optimizer.step()
    is_zero(net, optimizer, masks)


@pytest.mark.parametrize("as_keyword", [False, True])
def test_closures(as_keyword: bool) -> None:
    net, masks = start()
    twin = copy.deepcopy(apply(net, masks))
    plain, sam = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9), optim.SAM(
        torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.0)  # fmt: skip
    hold(net, sam)
    hold(twin, plain)

    def closure() -> Tensor:
        sam.zero_grad()
        loss = (net(batch(0)[0]) - batch(0)[1]).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        loss = sam.step(closure=closure) if as_keyword else sam.step(closure)
        assert loss.item() > 0
        one_step(twin, plain)
        is_zero(net, sam.base, masks)
        assert (net[0].weight.grad[~masks["0.weight"]] == 0).all()
    for mine, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_gradient_release() -> None:
    net, masks = start()
    optimizer = optim.FlashAdamW(apply(net, masks).parameters(), lr=0.01)
    optim.enable_gradient_release(net, optimizer)
    hold(net, optimizer)
    for step in range(3):
        (net(batch(step)[0]) - batch(step)[1]).square().mean().backward()
        optimizer.step()
        is_zero(net, optimizer, masks)


def test_gradients_can_be_masked_before_they_are_clipped() -> None:
    net, masks = start()
    optimizer = torch.optim.SGD(apply(net, masks).parameters(), lr=0.1)
    held = hold(net, optimizer)
    (net(batch(0)[0]) - batch(0)[1]).square().mean().backward()
    norm = sum(p.grad[masks[n]].square().sum() for n, p in net.named_parameters()).sqrt()
    held.zero_gradients()
    assert nn.utils.clip_grad_norm_(net.parameters(), 1.0).item() == pytest.approx(norm.item())


def test_tied_and_frozen_parameters_and_two_optimizers() -> None:
    torch.manual_seed(0)
    net = Tied()
    masks = Masks({"up.weight": torch.rand(4, 4) < 0.5, "up.bias": torch.tensor([True, False, True, False])})
    apply(net, masks)
    weights, biases = torch.optim.Adam([net.up.weight], lr=0.1), torch.optim.Adam([net.up.bias], lr=0.1)
    hold(net, weights), hold(net, biases)
    net(torch.randn(5, 4)).square().sum().backward()
    weights.step()
    biases.step()
    assert (net.down.weight[~masks["up.weight"]] == 0).all()
    assert net.up.bias[1] == net.up.bias[3] == 0
    net.up.weight.requires_grad_(False)
    net.zero_grad()
    weights.step()
    assert masks_of(net) == masks


def test_what_cannot_be_held_is_refused() -> None:
    net, masks = start()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match=r"expected a model with masks, got Sequential without\. Call prune\.apply first"
    ):
        hold(net, optimizer)
    apply(net, masks)
    with pytest.raises(ValueError, match="an optimizer of masked parameters, got SGD of others"):
        hold(net, torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1))
    with pytest.raises(TypeError, match='got LBFGS. Use mode="parametrize" with it'):
        hold(net, torch.optim.LBFGS(net.parameters()))
    with pytest.raises(TypeError, match="a torch optimizer"):
        hold(net, None)  # type: ignore[arg-type]
    covered, masks = start()
    apply(covered, masks, "parametrize")
    with pytest.raises(ValueError, match="They hold by themselves"):
        hold(covered, torch.optim.SGD(covered.parameters(), lr=0.1))

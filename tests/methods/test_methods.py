"""What each method writes into a program: slots, stages and arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.contract.battery import IMAGES, SMALL

from hasten import methods
from hasten.program import ORDERED, SINGLE, Method, Program, bind

BASE = IMAGES.program


def changes(method: Method) -> dict[str, Any]:
    """slot -> (name, stage) of what was appended, or "changed"."""
    program = BASE.then(method)
    found: dict[str, Any] = {}
    for slot in (*SINGLE, *ORDERED):
        new, old = getattr(program, slot), getattr(BASE, slot)
        if new != old:
            found[slot] = [(e.name, e.stage) for e in new if e not in old] if slot in ORDERED else "changed"
    return found


SLOTS: dict[str, dict[str, int | None]] = {
    "blurpool": {"surgery": 50},
    "channels_last": {"surgery": 90},
    "cutmix": {"batch": 60, "losses": 20},
    "ema": {"hooks": 80},
    "flash_adamw": {"optimizer": None, "precision": None, "surgery": 95},
    "flash_lion": {"optimizer": None, "precision": None, "surgery": 95},
    "flash_sgd": {"optimizer": None, "precision": None, "surgery": 95},
    "gradient_clipping": {"gradients": 50},
    "gradual_pruning": {"hooks": 20},
    "label_smoothing": {"losses": 10},
    "layer_freezing": {"hooks": 10},
    "mixup": {"batch": 60, "losses": 20},
    "progressive_resizing": {"batch": 30},
    "sam": {"optimizer": None},
    "selective_backprop": {"hooks": 40},
    "stochastic_depth": {"surgery": 60, "hooks": 90},
}


@pytest.mark.parametrize("name", SLOTS)
def test_slots_and_stages(name: str) -> None:
    """The stages are the contract's: shape before selection before mixing, freezing first and averages last."""
    for given in (name, "renamed"):
        expected = {slot: "changed" if stage is None else [(given, stage)] for slot, stage in SLOTS[name].items()}
        assert changes(SMALL[name].named(given)) == expected
    assert set(SMALL[name].card.touches) == set(SLOTS[name])


def test_every_method_is_in_that_table() -> None:
    assert set(SLOTS) == set(methods.catalogue())


@pytest.mark.parametrize(
    ("method", "slot", "arguments"),
    [
        (methods.blurpool(min_channels=8, blur_first=False), "surgery", {"min_channels": 8, "blur_first": False}),
        (methods.stochastic_depth(0.3, mode="sample"), "surgery", {"drop_rate": 0.3, "method": "sample"}),
        (methods.mixup(0.4, per_sample=True), "batch", {"alpha": 0.4, "per_sample": True}),
        (methods.cutmix(uniform_sampling=True), "batch", {"alpha": 1.0, "uniform_sampling": True}),
        (methods.progressive_resizing(mode="crop", increment=2), "batch", {"mode": "crop", "increment": 2}),
        (methods.label_smoothing(0.3), "losses", {"smoothing": 0.3}),
        (methods.gradient_clipping(2.0), "gradients", {"max_norm": 2.0}),
        (methods.gradient_clipping(2.0, "value"), "gradients", {"limit": 2.0}),
        (methods.gradient_clipping(0.02, "adaptive"), "gradients", {"clipping": 0.02}),
    ],
)
def test_arguments_reach_the_piece(method: Method, slot: str, arguments: dict[str, Any]) -> None:
    (entry,) = getattr(BASE.then(method), slot)
    assert arguments.items() <= dict(entry.call.args).items()


def test_arguments_reach_what_is_nested() -> None:
    scale = BASE.then(methods.progressive_resizing(0.4, 0.3, 0.1)).batch[0].call["scale"]
    assert scale["unit"] == "progress"
    assert [scale["schedule"][k] for k in ("initial_scale", "delay_fraction", "finetune_fraction")] == [0.4, 0.3, 0.1]
    hook = BASE.then(methods.ema(5, 0.1, 2, "epoch")).hooks[0].call
    assert (hook["when"], hook["unit"]) == ("after_step", "epoch")
    assert [hook["controller"][k] for k in ("half_life", "start", "update_interval")] == [5.0, 0.1, 2]
    frozen = BASE.then(methods.layer_freezing(0.2, 0.7)).hooks[0].call
    assert (frozen["when"], frozen["controller"]["start"], frozen["controller"]["level"]) == ("before_step", 0.2, 0.7)
    pruned = BASE.then(methods.gradual_pruning(8, 0.1, 0.6, 5, "erk")).hooks[0].call
    assert pruned["when"] == "after_step"
    assert [pruned["controller"][k] for k in ("compression", "start", "end", "every")] == [8.0, 0.1, 0.6, 5]
    assert pruned["controller"]["allocator"] == "erk"
    chosen = BASE.then(methods.selective_backprop(0.3, 0.1, 0.8, 4).named("pick")).hooks[0].call
    assert dict(chosen.args) == {"name": "pick", "keep": 0.3, "start": 0.1, "end": 0.8, "interrupt": 4}


def test_sam_wraps_whatever_optimizer_there_is() -> None:
    program = BASE.then(methods.sam(0.1, interval=2))
    assert program.optimizer["base"] == BASE.optimizer
    assert (program.optimizer["rho"], program.optimizer["interval"]) == (0.1, 2)


def test_methods_do_not_change_the_program_they_are_given() -> None:
    before = BASE.record()
    for method in SMALL.values():
        assert isinstance(method(BASE), Program)
    assert BASE.record() == before


def test_flash_methods_take_over_the_options_of_the_same_optimizer() -> None:
    adamw = bind(torch.optim.AdamW, lr=0.02, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3)
    made = BASE.replace(optimizer=adamw).then(methods.flash_adamw()).optimizer
    assert made.target.endswith(":FlashAdamW")
    assert (made["lr"], made["betas"], made["eps"], made["weight_decay"]) == (0.02, (0.8, 0.9), 1e-6, 0.3)
    changed = BASE.replace(optimizer=adamw).then(methods.flash_adamw(lr=0.5, weight_decay=0.0)).optimizer
    assert (changed["lr"], changed["betas"], changed["weight_decay"]) == (0.5, (0.8, 0.9), 0.0)
    sgd = BASE.then(methods.flash_sgd()).optimizer  # the program's is SGD
    assert all(sgd[name] == BASE.optimizer[name] for name in ("lr", "momentum", "nesterov", "weight_decay"))
    plain = BASE.then(methods.flash_sgd(momentum=0.5, master_weight_bits=0)).optimizer
    assert (plain["momentum"], plain["master_weight_bits"]) == (0.5, None)

"""Arguments out of range are refused when a method meets a program, before anything runs; the arm is named."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.battery import IMAGES

from hasten import methods
from hasten.bench.plan import make_plan


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        (methods.cutmix(alpha=-1.0), "alpha >= 0"),
        (methods.ema(half_life=0.0), "half_life > 0"),
        (methods.ema(unit="hours"), "unit among"),
        (methods.ema(update_interval=0), "at least 1 for update_interval"),
        (methods.flash_adamw(), "a learning rate, since the program's optimizer is of another kind"),
        (methods.flash_adamw(lr=0.1, master_weight_bits=16), "master_weight_bits among 0, 24, 32"),
        (methods.flash_lion(lr=0.0), "lr > 0"),
        (methods.flash_lion(beta1=1.0), "betas in"),
        (methods.flash_sgd(lr=0.1, momentum=1.0), "momentum below 1"),
        (methods.gradient_clipping(-1.0), "threshold > 0"),
        (methods.gradient_clipping(1.0, kind="nrom"), "Did you mean norm"),
        (methods.gradual_pruning(compression=0.5), "compression of at least 1"),
        (methods.gradual_pruning(start=0.9, end=0.5), "end in .0.9, 1."),
        (methods.gradual_pruning(every=0), "at least 1 for every"),
        (methods.gradual_pruning(allocator="globl"), "Did you mean global"),
        (methods.label_smoothing(1.5), "smoothing in"),
        (methods.layer_freezing(level=3.0), "level in"),
        (methods.layer_freezing(start=2.0), "start in"),
        (methods.mixup(alpha=-1.0), "alpha >= 0"),
        (methods.progressive_resizing(initial_scale=2.0), "initial_scale in"),
        (methods.progressive_resizing(delay_fraction=0.9, finetune_fraction=0.9), "delay_fraction . finetune_fraction"),
        (methods.sam(rho=-0.1), "rho >= 0"),
        (methods.sam(interval=0), "at least 1 for interval"),
        (methods.selective_backprop(start=0.9, end=0.5), "0 <= start <= end <= 1"),
        (methods.selective_backprop(interrupt=1), "interrupt 0 or at least 2"),
        (methods.selective_backprop(keep=0.0), "keep > 0"),
        (methods.stochastic_depth(drop_rate=-0.5), "drop_rate in"),
    ],
)
def test_an_argument_out_of_range_is_refused_with_the_arm_named(arm: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"arm 'bad': .*{reason}"):
        make_plan(IMAGES, {"base": [], "bad": arm}, seeds=1, points=1)

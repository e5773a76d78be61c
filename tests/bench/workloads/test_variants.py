"""Variants of a workload: each changes one thing, is another question, runs in workers, or says why it is not there."""

from __future__ import annotations

import dataclasses
import math
import re
import types
from typing import Any

import pytest
import torch
from tests.contract import images, text
from torch import nn

from hasten.bench.build import build_model
from hasten.bench.plan import make_plan
from hasten.bench.workloads import arms_of, load, module_of
from hasten.bench.workloads.base import Workload, from_module, warmed_up
from hasten.bench.workloads.variants import NAMES, Variant, names_of, variants
from hasten.methods import blurpool, label_smoothing
from hasten.program import Program, bind, call

IMAGES, TEXT = from_module(images, "images"), from_module(text, "text")


def one(workload: Workload, name: str) -> Variant:
    return variants(workload, name)[0]


def made(workload: Workload, name: str) -> Workload:
    found = one(workload, name).workload
    assert found is not None
    return found


def with_slots(workload: Workload, **slots: Any) -> Workload:
    return dataclasses.replace(workload, program=workload.program.replace(**slots))


def changed_slots(workload: Workload, variant: Workload) -> set[str]:
    before, after = workload.program.record(), variant.program.record()
    return {slot for slot in before if before[slot] != after[slot]}


@pytest.fixture(scope="module")
def digits() -> dict[str, Variant]:
    pytest.importorskip("sklearn", reason="needs the extra bench")
    return {variant.name: variant for variant in variants(load("digits"))}


def test_digits_has_all_of_them(digits: dict[str, Variant]) -> None:
    assert {name: variant.change for name, variant in digits.items()} == {
        "width": "width 16 instead of 8",
        "activation": "SiLU instead of ReLU (5)",
        "norm": "GroupNorm instead of BatchNorm2d (5)",
        "label_noise": "20 % of the training labels are another class",
        "batch": "batches of 128 instead of 64, learning rate 0.3 instead of 0.15 (linear rule)",
    }
    assert not any(variant.reason for variant in digits.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_each_can_be_planned(digits: dict[str, Variant], name: str) -> None:
    workload = digits[name].workload
    assert workload is not None
    arms = {"base": [], "blur": [blurpool()], "smooth": [label_smoothing(0.1)]}
    original = make_plan(load("digits"), arms, seeds=2)
    plan = make_plan(workload, arms, seeds=2)
    assert plan.identity() != original.identity()
    assert len(plan.curve.ends) == 4
    assert plan.budgets()[-1] == "15 ep"


@pytest.mark.parametrize("name", NAMES)
def test_each_is_another_question_about_the_same_test(digits: dict[str, Variant], name: str) -> None:
    original, workload = load("digits"), digits[name].workload
    assert workload is not None
    assert (workload.name, workload.program.workload) == (f"digits+{name}", f"digits+{name}")
    assert (workload.test, workload.metric, workload.minimize) == (original.test, original.metric, original.minimize)
    assert (workload.target, workload.paired_sd) == (None, None)  # measured on the original
    assert digits[name].change in workload.summary
    expected = {
        "width": {"model"},
        "activation": {"model"},
        "norm": {"model"},
        "label_noise": {"data"},
        "batch": {"batch_size", "optimizer", "schedule"},
    }
    assert changed_slots(original, workload) == {"workload", *expected[name]}


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_read_without_trust(digits: dict[str, Variant], name: str) -> None:
    workload = digits[name].workload
    assert workload is not None
    program = workload.program.then(blurpool())
    assert Program.from_json(program.to_json()) == program


@pytest.mark.parametrize("name", ["activation", "norm"])
def test_the_weights_start_as_those_of_the_original(digits: dict[str, Variant], name: str) -> None:
    workload = digits[name].workload
    assert workload is not None
    before, _ = build_model(load("digits").program, 3)
    after, _ = build_model(workload.program, 3)
    parameters = dict(before.named_parameters())
    assert list(parameters) == [key for key, _ in after.named_parameters()]
    assert all(torch.equal(value, parameters[key]) for key, value in after.named_parameters())


def wide(width: int = 4, hidden_dim: int = 6, widths: tuple[int, ...] = (5, 7), dropout: float = 0.5) -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(64, width), nn.Linear(width, widths[0]), nn.Linear(widths[0], widths[1])]
    return nn.Sequential(*layers, nn.Linear(widths[1], hidden_dim), nn.Linear(hidden_dim, 3))


def fixed(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def brittle(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(8, 3))


def named_oddly(width: str = "small", hidden: bool = True, widths: tuple[int, ...] = ()) -> nn.Module:
    return fixed()


def test_every_width_is_doubled() -> None:
    workload = with_slots(IMAGES, model=call(wide))
    found = one(workload, "width")
    assert found.change == "hidden_dim 12 instead of 6 and width 8 instead of 4 and widths 10-14 instead of 5-7"
    assert found.workload is not None
    assert found.workload.program.model == call(wide, width=8, hidden_dim=12, widths=(10, 14))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            images.model,
            r"its model takes no whole number under a name such as width \(it takes double, dropout, norm\)",
        ),
        (text.model, r"under a name such as width \(it takes nothing\)"),
        (named_oddly, r"it takes hidden, width, widths"),
        (fixed, "width twice as large gives a model that is no larger"),
        (brittle, "the changed model does not work: RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_why_there_is_no_wider_one(model: Any, reason: str) -> None:
    workload = with_slots(TEXT if model is text.model else IMAGES, model=call(model))
    found = one(workload, "width")
    assert (found.workload, found.change) == (None, "")
    assert re.search(reason, found.reason), found.reason


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def test_a_model_without_activations_or_norms() -> None:
    workload = with_slots(IMAGES, model=call(plain))
    assert "no activation modules; calls inside a forward function" in one(workload, "activation").reason
    assert one(workload, "norm").reason == "its model has no batch norm and no layer norm modules"
    assert one(workload, "width").workload is None


def mixed() -> nn.Module:
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Tanh()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 3))


def test_what_was_replaced_is_counted() -> None:
    workload = with_slots(IMAGES, model=call(mixed))
    assert (
        one(workload, "activation").change
        == "SiLU instead of ReLU (1), ReLU instead of Tanh (1), ReLU instead of GELU (1)"
    )
    assert one(workload, "norm").change == "GroupNorm instead of BatchNorm2d (2), RMSNorm instead of LayerNorm (1)"


def squares(outputs: torch.Tensor, batch: Any) -> torch.Tensor:
    return outputs.square().mean(1)


def regression(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = images.train_data(seed)
    return inputs, targets.float()


def test_label_noise_needs_classes() -> None:
    workload = with_slots(IMAGES, data=bind(regression), loss=bind(squares))
    assert one(workload, "label_noise").reason == "its targets are not class indices of the model's outputs"
    noisy = made(IMAGES, "label_noise").program.data
    assert (noisy["classes"], noisy["share"], noisy["source"]) == (3, 0.2, IMAGES.program.data)
    assert int((noisy.build()(5)[1] != images.train_data(5)[1]).sum()) == 10


def test_label_noise_of_text() -> None:
    noisy = made(TEXT, "label_noise").program.data
    assert noisy["classes"] == text.VOCABULARY
    assert int((noisy.build()(0)["labels"] != text.sample(48, 0)["labels"]).sum()) == round(0.2 * 48 * 6)


def test_larger_batches_see_the_same_samples() -> None:
    workload = made(IMAGES, "batch")
    program = workload.program
    assert (program.batch_size, program.duration, program.optimizer["lr"]) == (16, "48sample", 0.1)
    assert (workload.warmup, program.schedule) == (1, warmed_up(1))
    assert make_plan(workload, {"base": []}, seeds=1).curve.ends[-1] == 3
    adam = made(TEXT, "batch").program
    assert adam.optimizer["lr"] == pytest.approx(0.03 * math.sqrt(2))
    assert adam.optimizer["weight_decay"] == TEXT.program.optimizer["weight_decay"]


@pytest.mark.parametrize(("steps", "expected"), [(0, 0), (1, 1), (5, 3), (200, 100)])
def test_the_warm_up_is_as_long_in_epochs(steps: int, expected: int) -> None:
    module = types.ModuleType("made")
    vars(module).update({name: getattr(images, name) for name in ("model", "data", "loss", "metric")})
    module.WARMUP, module.BATCH_SIZE, module.DURATION = steps, 8, "40ep"  # type: ignore[attr-defined]
    workload = made(from_module(module, "made"), "batch")
    assert (workload.warmup, workload.program.schedule) == (expected, warmed_up(expected))
    assert workload.program.duration == "40ep"


def test_a_schedule_of_ones_own_stays() -> None:
    own = warmed_up(4)
    workload = with_slots(IMAGES, schedule=own)  # another warm-up than the workload's
    assert made(workload, "batch").program.schedule == own


def own_optimizer(groups: Any, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr)


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        (
            {"optimizer": bind(own_optimizer)},
            "how the learning rate of own_optimizer should follow the batch is not known",
        ),
        ({"optimizer": bind(torch.optim.Adagrad)}, "learning rate of Adagrad should follow"),
        ({"batch_size": 25}, "it has 48 training samples, fewer than a batch of 50"),
    ],
)
def test_why_there_are_no_larger_batches(slots: dict[str, Any], reason: str) -> None:
    assert reason in one(with_slots(IMAGES, **slots), "batch").reason


def test_names() -> None:
    assert names_of() == names_of("all") == names_of(["all"]) == names_of([]) == tuple(NAMES)
    assert names_of("batch, width") == names_of(("batch", "width")) == names_of(["batch,width"]) == ("width", "batch")
    for wrong in ("", [3], "width,,batch"):
        with pytest.raises(ValueError, match="expected names among"):
            names_of(wrong)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"variants: expected names among width, .*, got 'widht'\. Did you mean width\?"
    ):
        variants(IMAGES, ["widht"])
    with pytest.raises(ValueError, match="each name once"):
        names_of("width,width")
    assert [variant.name for variant in variants(IMAGES, "batch,activation")] == ["activation", "batch"]


def test_making_them_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    variants(IMAGES)
    assert torch.equal(torch.get_rng_state(), state)


def test_methods_of_the_workload_itself_are_kept() -> None:
    workload = dataclasses.replace(IMAGES, program=IMAGES.program.then(label_smoothing(0.1)))
    for variant in variants(workload):
        if variant.workload is not None:
            program = variant.workload.program
            assert [method.name for method in program.methods] == ["label_smoothing"]
            assert program.base is not None
            assert program.base.workload == f"images+{variant.name}"


def test_variants_of_a_users_file() -> None:
    workload = load(images.__file__)
    found = made(workload, "activation")
    assert found.program.workload == f"{workload.program.workload}+activation"
    assert found.program.digests() == workload.program.digests()  # the file travels with it
    assert module_of(found) is module_of(workload)
    assert Program.from_json(found.program.to_json(), trust=True) == found.program


def test_the_arms_of_a_variant_are_those_of_the_workload(digits: dict[str, Variant]) -> None:
    variant = digits["batch"].workload
    assert variant is not None
    assert arms_of(variant) == arms_of(load("digits"))

"""A workload out of a module or a file: defaults, what each constant does, and what it offers to methods."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.contract import images, text
from torch import Tensor

from hasten.bench.workloads import NAMES, arms_of, load, module_of
from hasten.bench.workloads.base import first_pass, from_module, halves, probe, provides, test_part, train_part
from hasten.program import bind
from hasten.schedules import cosine, warmup

FOUR = {name: getattr(images, name) for name in ("model", "data", "loss", "metric")}
FILE = Path(images.__file__)


def module(**constants: Any) -> types.ModuleType:
    made = types.ModuleType("made")
    vars(made).update({**FOUR, **constants})
    return made


def test_four_functions_are_enough() -> None:
    made = from_module(module(), "made")
    program = made.program
    assert (program.workload, program.duration, program.batch_size) == ("made", "10ep", 64)
    assert program.optimizer == bind(torch.optim.AdamW, lr=1e-3, weight_decay=0.01)
    assert program.schedule["schedule"] == call_of(warmup(cosine(), 10))
    assert (made.minimize, made.target, made.points, made.mult, made.warmup) == (False, None, 4, 2.0, 10)
    assert torch.equal(program.data.build()(0)[0], images.train_data(0)[0])
    assert torch.equal(made.test.build()()[1], images.test_data()[1])


def call_of(schedule: Any) -> Any:
    from hasten._core.call import _value

    return _value("", schedule, None)


def own_optimizer(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.7)


@pytest.mark.parametrize(
    ("constants", "expected"),
    [
        ({"OPTIMIZER": "sgd"}, bind(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)),
        ({"OPTIMIZER": "sgd", "MOMENTUM": 0, "LEARNING_RATE": 1}, bind(torch.optim.SGD, lr=1.0, weight_decay=5e-4)),
        ({"OPTIMIZER": "adamw", "WEIGHT_DECAY": 0}, bind(torch.optim.AdamW, lr=1e-3, weight_decay=0.0)),
        ({"OPTIMIZER": own_optimizer}, bind(own_optimizer)),
    ],
)
def test_optimizers(constants: dict[str, Any], expected: Any) -> None:
    assert from_module(module(**constants), "made").program.optimizer == expected


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="OPTIMIZER 'sgd', 'adamw' or a function of parameter groups, got 'adam'"):
        from_module(module(OPTIMIZER="adam"), "made")


def test_constants_of_the_curve_and_the_question() -> None:
    constants = {"MINIMIZE": True, "TARGET": 0.5, "POINTS": 3, "MULT": 1.5, "WARMUP": 0, "PAIRED_SD": 0.1}
    made = from_module(module(**constants, SUMMARY="one", DURATION="7step", BATCH_SIZE=5), "made")
    assert (made.minimize, made.target, made.points, made.mult, made.warmup) == (True, 0.5, 3, 1.5, 0)
    assert (made.paired_sd, made.summary) == (0.1, "one")
    assert (made.program.duration, made.program.batch_size) == ("7step", 5)
    assert made.program.schedule["schedule"] == call_of(cosine())


WRONG = [
    (
        "BATCH_SIZE",
        "64",
        TypeError,
        r"BATCH_SIZE a whole number of at least 1, got '64'\. For example BATCH_SIZE = 4\.",
    ),
    ("BATCH_SIZE", 64.0, TypeError, "BATCH_SIZE a whole number of at least 1, got 64.0"),
    ("BATCH_SIZE", True, TypeError, "BATCH_SIZE a whole number of at least 1, got True"),
    ("BATCH_SIZE", None, TypeError, "BATCH_SIZE a whole number of at least 1, got None"),
    ("BATCH_SIZE", 0, ValueError, "BATCH_SIZE a whole number of at least 1, got 0"),
    ("WARMUP", -1, ValueError, "WARMUP a whole number of at least 0, got -1"),
    ("WARMUP", 2.5, TypeError, "WARMUP a whole number of at least 0, got 2.5"),
    ("POINTS", 0, ValueError, "POINTS a whole number of at least 1"),
    ("MULT", 0.5, ValueError, "MULT a number of at least 1, got 0.5"),
    ("MULT", "2", TypeError, "MULT a number of at least 1, got '2'"),
    ("LEARNING_RATE", "1e-3", TypeError, "LEARNING_RATE a number above 0, got '1e-3'"),
    ("LEARNING_RATE", 0.0, ValueError, "LEARNING_RATE a number above 0, got 0.0"),
    ("LEARNING_RATE", float("nan"), ValueError, "LEARNING_RATE a number above 0, got nan"),
    ("WEIGHT_DECAY", -0.1, ValueError, "WEIGHT_DECAY a number of at least 0"),
    ("DURATION", 10, TypeError, "DURATION a training length, got 10. For example DURATION = '10ep', '500step' or"),
    ("DURATION", "10", ValueError, "DURATION a training length, got '10'"),
    ("MINIMIZE", 1, TypeError, "MINIMIZE True or False, got 1"),
    ("MINIMIZE", "False", TypeError, "MINIMIZE True or False, got 'False'"),
    ("TARGET", "0.9", TypeError, "TARGET a finite number or None, got '0.9'"),
    ("TARGET", float("inf"), ValueError, "TARGET a finite number or None, got inf"),
    ("PAIRED_SD", 0, ValueError, "PAIRED_SD a number above 0 or None, got 0"),
    ("METRIC", 3, TypeError, "METRIC a text, got 3"),
    ("SUMMARY", None, TypeError, "SUMMARY a text, got None"),
    ("OPTIMIZER", 3, TypeError, "OPTIMIZER 'sgd', 'adamw' or a function of parameter groups, got 3"),
]


@pytest.mark.parametrize(("name", "value", "error", "told"), WRONG)
def test_a_constant_of_another_kind_is_named(name: str, value: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=f"workload 'made': expected {told}"):
        from_module(module(**{name: value}), "made")


def test_momentum_is_checked_where_it_is_used() -> None:
    with pytest.raises(TypeError, match="MOMENTUM a number of at least 0, got '0.9'"):
        from_module(module(OPTIMIZER="sgd", MOMENTUM="0.9"), "made")


def test_constants_may_be_numpys() -> None:
    made = from_module(module(BATCH_SIZE=np.int64(8), LEARNING_RATE=np.float32(0.5), TARGET=np.float64(1)), "made")
    assert type(made.program.batch_size) is int
    assert made.program.optimizer["lr"] == 0.5
    assert type(made.target) is float


@pytest.mark.parametrize("missing", FOUR)
def test_a_missing_function_is_named_with_its_signature(missing: str) -> None:
    for value in (None, 3):
        with pytest.raises(TypeError, match=rf"workload 'made': expected a function {missing}\(.*\), got no {missing}"):
            from_module(module(**{missing: value}), "made")


def test_data_come_in_pairs() -> None:
    assert halves(("a", "b")) == ("a", "b")
    assert halves(["a", "b"]) == ("a", "b")
    for bad in (None, ("a",), {"a": 1, "b": 2}, "ab"):
        with pytest.raises(TypeError, match=r"data\(seed\): expected a pair \(train, test\), got .*return train, test"):
            halves(bad)
    assert train_part(3, source=lambda seed: (seed, "t")) == 3
    assert test_part(source=lambda seed: (seed, f"t{seed}")) == "t0"


IMAGE, TOKENS = torch.randn(2, 1, 4, 4), torch.ones(2, 6, dtype=torch.long)


def offered(inputs: Tensor, targets: Tensor, outputs: Tensor, losses: Tensor | None = None) -> set[str]:
    return set(provides((inputs, targets), outputs, torch.zeros(2) if losses is None else losses))


def test_what_a_workload_offers_is_read_off_a_batch() -> None:
    logits, classes = torch.randn(2, 3), torch.tensor([2, 0])
    entropy = F.cross_entropy(logits, classes, reduction="none")
    assert offered(IMAGE, classes, logits, entropy) == {"float_inputs", "images", "logits", "cross_entropy"}
    assert offered(IMAGE.byte(), classes, logits, entropy) == {"logits", "cross_entropy"}
    assert offered(torch.randn(2, 5), classes, logits, 2 * entropy) == {"float_inputs", "logits"}
    assert offered(IMAGE, torch.randn(2, 3), logits) == {"float_inputs", "images"}
    assert offered(TOKENS, classes, logits.half(), entropy) >= {"logits"}


def test_sequences_of_logits() -> None:
    logits, targets = torch.randn(2, 6, 9), torch.randint(0, 9, (2, 6))
    flat = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(2, 6)
    assert offered(TOKENS, targets, logits, flat.mean(1)) == {"logits", "cross_entropy"}
    assert offered(TOKENS, targets, logits, flat.sum(1)) == {"logits"}
    targets[0, 0] = -100
    assert offered(TOKENS, targets, logits) == {"logits"}


@pytest.mark.parametrize("targets", [torch.tensor([50, 3]), torch.tensor([-1, 0])])
def test_whole_numbers_that_are_no_classes(targets: Tensor) -> None:
    """Ages, counts: a regression with as many outputs as targets."""
    assert offered(IMAGE, targets, torch.randn(2, 1)) == {"float_inputs", "images"}


def test_outputs_that_are_no_tensor() -> None:
    assert set(provides((IMAGE, torch.tensor([0, 1])), {"logits": torch.randn(2, 3)}, torch.zeros(2))) == {
        "float_inputs", "images",
    }  # fmt: skip


def test_a_probe_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    assert probe(from_module(images, "images")) == {"float_inputs", "images", "logits", "cross_entropy"}
    assert probe(from_module(text, "text")) == {"logits", "cross_entropy"}
    assert torch.equal(torch.get_rng_state(), state)


def test_the_first_pass_shows_what_a_probe_sees() -> None:
    seen = first_pass(from_module(images, "images"))
    assert seen.samples == images.SAMPLES
    assert [tuple(part.shape) for part in (*seen.batch, seen.outputs, seen.losses)] == [
        (2, 1, 8, 8),
        (2,),
        (2, 3),
        (2,),
    ]
    assert not seen.outputs.requires_grad


def scalar_loss(outputs: Tensor, batch: Any) -> Tensor:
    return F.cross_entropy(outputs, batch[1])


def test_a_probe_refuses_a_reduced_loss() -> None:
    with pytest.raises(ValueError, match=r"loss: expected one value per sample, shape \(2,\), got .*reduction='none'"):
        probe(from_module(module(loss=scalar_loss), "made"))


def test_loading_by_name_by_path_or_as_it_is(tmp_path: Path) -> None:
    made = load(FILE)
    assert made.name == "images"
    assert made.program.workload.startswith("user:")
    assert load(str(FILE)) == made
    assert load(made) is made
    assert module_of(made) is not None
    assert load("digits").name == "digits"
    assert module_of(load("digits")) is None
    with pytest.raises(ValueError, match=r"expected a name or a Python file, got 'digit'\. Did you mean digits"):
        load("digit")
    with pytest.raises(ValueError, match="expected a Python file that exists"):
        load(tmp_path / "absent.py")


@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_workload_names_its_arms_and_says_what_it_is(name: str) -> None:
    from hasten.cli.arms import parse_arms

    made = load(name)
    assert made.summary
    assert len(parse_arms(arms_of(made))) >= 2


def test_arms_of_a_users_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(FILE.read_text() + "\nARMS = 'base,ema'\n")
    assert arms_of(load(mine)) == "base,ema"
    with pytest.raises(ValueError, match="expected --arms, or ARMS in the workload file, got neither"):
        arms_of(load(FILE))

"""Programs as values: set semantics, refusals with reasons, fingerprints, JSON."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten._core import sources
from hasten._core.clock import ramp
from hasten.program import Card, Method, Program, ProgramError, bind, call, method

NOTHING = bind(ramp, start=0, end=1)


def card(touches: dict[str, str], **more: object) -> Card:
    return Card("for a test", "data", "retrofit", touches, **more)  # type: ignore[arg-type]


METHODS = '''
from hasten._core.clock import ramp
from hasten.program import Card, Program, bind, method

def card(touches, **more):
    return Card("for a test", "data", "retrofit", touches, **more)

@method(card({"batch": "append"}))
def mix(program, name, alpha: float = 0.2):
    return program.append("batch", name, bind(ramp, start=alpha, end=1), stage=60)

@method(card({"batch": "append"}))
def crop(program, name):
    return program.append("batch", name, bind(ramp, start=0, end=1), stage=30)

@method(card({"batch": "append"}, after={"crop"}))
def alter(program, name):
    return program.append("batch", name, bind(ramp, start=5, end=6), stage=30)

@method(card({"optimizer": "replace"}))
def other_optimizer(program, name, lr: float = 1.0):
    return program.set(optimizer=bind(ramp, start=lr, end=9))

@method(card({"optimizer": "replace"}))
def third_optimizer(program, name):
    return program.set(optimizer=bind(ramp, start=7, end=9))

@method(card({"optimizer": "wrap"}))
def around(program, name):
    return program.set(optimizer=bind(ramp, start=program.optimizer, end=2))

@method(card({"optimizer": "wrap"}, after={"around"}))
def outer(program, name):
    return program.set(optimizer=bind(ramp, start=program.optimizer, end=3))

@method(card({"optimizer": "wrap"}))
def stray(program, name):
    return program.set(optimizer=bind(ramp, start=program.optimizer, end=4))

@method(card({"batch": "append"}, conflicts={"mix": "both mix the batch"}))
def cut(program, name):
    return program.append("batch", name, bind(ramp, start=1, end=1), stage=60)

@method(card({"batch": "append"}))
def liar(program, name):
    return program.set(precision="bf16")

@method(card({"precision": "wrap"}))
def liar_about_how(program, name):
    return program.set(precision="bf16")

@method(card({"hooks": "append"}, after={"hen"}))
def egg(program, name):
    return program.append("hooks", name, bind(ramp, start=0, end=1))

@method(card({"hooks": "append"}, after={"egg"}))
def hen(program, name):
    return program.append("hooks", name, bind(ramp, start=0, end=1))

@method(card({"model": "replace"}))
def needs_an_argument(program, name, width: int):
    return program.set(model=bind(ramp, start=width, end=0))
'''


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("methods") / "my_methods.py"
    path.write_text(METHODS)
    return sources.load(sources.read(path), path)


@pytest.fixture
def base() -> Program:
    return Program("w", *[NOTHING] * 7, "10ep", 32)  # type: ignore[arg-type]


def test_a_set_of_methods_is_the_same_program_however_it_was_written(m, base: Program) -> None:
    chosen = [m.mix(), m.crop(), m.alter(), m.other_optimizer(), m.around(), m.outer()]
    programs = [base.then(*order) for order in itertools.permutations(chosen)]
    assert len(set(programs)) == 1
    assert len({program.fingerprint() for program in programs}) == 1
    assert base.then(chosen[0]).then(*chosen[1:]) == programs[0]


def test_order_is_replace_then_wrap_and_entries_go_by_stage_after_and_name(m, base: Program) -> None:
    program = base.then(m.outer(), m.around(), m.other_optimizer(), m.mix(), m.alter(), m.crop())
    assert [entry.name for entry in program.batch] == ["crop", "alter", "mix"]  # by name alone: alter first
    assert program.optimizer["end"] == 3.0
    assert program.optimizer["start"]["end"] == 2.0
    assert program.optimizer["start"]["start"] == bind(ramp, start=1.0, end=9)


def test_a_base_entry_comes_first_within_its_stage(m, base: Program) -> None:
    augmented = base.append("batch", "zoom", NOTHING, stage=30)
    assert [entry.name for entry in augmented.then(m.crop()).batch] == ["zoom", "crop"]


def test_without_undoes_then(m, base: Program) -> None:
    both = base.then(m.mix(), m.around())
    assert both.without("mix") == base.then(m.around())
    assert both.without("mix").without("around") == base
    with pytest.raises(ValueError, match=r"Did you mean mix\?"):
        both.without("mixx")


def test_replace_changes_the_base_under_the_methods(m, base: Program) -> None:
    program = base.then(m.mix()).replace(duration="5ep")
    assert program.duration == "5ep"
    assert program.without("mix") == base.replace(duration="5ep")
    with pytest.raises(TypeError, match="Did you mean duration"):
        base.replace(durations="5ep")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("mix", "mix"), "'mix' twice.*named"),
        (("mix", "cut"), "cut conflicts with mix: both mix the batch"),
        (("other_optimizer", "third_optimizer"), "expected one method to replace optimizer"),
        (("around", "stray"), "around and stray both wrap optimizer"),
        (("egg", "hen"), "circular order"),
        (("liar",), r"changed precision \(replace\), but its card does not declare it"),
        (("liar_about_how",), r"changed precision \(replace\), but its card declares 'wrap'"),
    ],
)
def test_refusals_say_why(m, base: Program, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ProgramError, match=reason):
        base.then(*(getattr(m, name)() for name in names))


def test_two_instances_under_two_names(m, base: Program) -> None:
    program = base.then(m.mix(), m.mix(0.5).named("second"))
    assert [entry.name for entry in program.batch] == ["mix", "second"]
    with pytest.raises(ProgramError, match="cut conflicts with second"):
        base.then(m.mix().named("second"), m.cut())


def test_a_method_is_a_function_of_programs_and_shows_its_arguments(m, base: Program) -> None:
    assert m.mix(0.3)(base) == base.then(m.mix(alpha=0.3))
    assert str(m.mix(0.3)) == "mix(alpha=0.3)"
    assert m.mix(1) == m.mix(1.0) and hash(m.mix(1)) == hash(m.mix(1.0))
    with pytest.raises(TypeError):
        m.mix(beta=1)
    with pytest.raises(TypeError, match="width"):
        m.needs_an_argument()
    with pytest.raises(TypeError, match=r"Call it: mix\(\)"):
        base.then(m.mix)


def test_json_round_trip_and_trust(m, base: Program) -> None:
    program = base.then(m.mix(0.4).named("soft"), m.other_optimizer())
    text = program.to_json()
    with pytest.raises(ValueError, match="trust=True"):
        Program.from_json(text)
    again = Program.from_json(text, trust=True)
    assert again == program
    assert again.to_json() == text
    assert again.fingerprint() == program.fingerprint()
    assert Program.from_json(base.to_json()) == base


@pytest.mark.parametrize("target", ["os:system", "hasten.program:inspect.signature", "hasten._core.call:importlib.reload"])
def test_untrusted_code_is_never_reached(base: Program, target: str) -> None:
    data = json.loads(base.to_json())
    data["base"]["model"]["call"] = data["record"]["model"]["call"] = target
    with pytest.raises(ValueError, match="catalogue code only"):
        Program.from_json(json.dumps(data)).model.build()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"base": {}, "methods": [], "record": {}}', "null"])
def test_what_is_not_a_program_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Program.from_json|Program"):
        Program.from_json(text)


def test_the_fingerprint_covers_every_slot_and_not_the_provenance(m, base: Program) -> None:
    seen = {base.fingerprint()}
    changes = [
        {"workload": "v"}, {"model": bind(ramp, start=2, end=3)}, {"duration": "11ep"}, {"batch_size": 31},
        {"microbatch": 8}, {"precision": "bf16"}, {"compile": "inductor"},
    ]  # fmt: skip
    for change in changes:
        seen.add(base.set(**change).fingerprint())
    for slot in ("surgery", "batch", "losses", "gradients", "hooks", "predict"):
        seen.add(base.append(slot, "x", NOTHING).fingerprint())
    assert len(seen) == 1 + len(changes) + 6
    by_hand = base.append("batch", "mix", bind(ramp, start=0.2, end=1), stage=60)
    assert base.then(m.mix()).fingerprint() == by_hand.fingerprint()


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ({"duration": "10"}, "length"),
        ({"duration": "0ep"}, "length"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"microbatch": 0}, "microbatch"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_bad_slots(base: Program, slots: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        base.set(**slots)


def test_entry_names_are_unique_in_a_slot(base: Program) -> None:
    with pytest.raises(ProgramError, match="'x' twice"):
        base.append("batch", "x", NOTHING).append("batch", "x", NOTHING)
    with pytest.raises(ValueError, match="Did you mean hooks"):
        base.append("hook", "x", NOTHING)


def test_a_card_is_checked() -> None:
    with pytest.raises(ValueError, match="touches"):
        card({"batch": "change"})
    with pytest.raises(ValueError, match="is not a valid"):
        Card("x", "nonsense", "retrofit", {})
    with pytest.raises(ValueError, match="horizon"):
        card({}, horizon="sometimes")


def test_irreversible_methods_are_named(base: Program) -> None:
    assert base.irreversible == ()


@settings(max_examples=30, deadline=None)
@given(st.permutations(["mix", "crop", "alter", "other_optimizer", "around", "outer"]), st.integers(0, 6))
def test_then_is_a_fold_over_a_set(m, order: list[str], cut: int) -> None:
    base = Program("w", *[NOTHING] * 7, "10ep", 32)  # type: ignore[arg-type]
    made: list[Method] = [getattr(m, name)() for name in order]
    once, twice = base.then(*made), base.then(*made[:cut]).then(*made[cut:])
    assert once == twice
    assert once.record() == twice.record()


def test_torch_optimizers_are_catalogue_code(base: Program) -> None:
    program = base.set(optimizer=bind(torch.optim.SGD, lr=1))
    assert Program.from_json(program.to_json()) == program
    assert program.optimizer == bind(torch.optim.SGD, lr=1.0)
    assert call(ramp, t=0, start=0, end=1).build() == 0.0
    assert method is not None

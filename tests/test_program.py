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


METHODS = """
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

@method(card({"batch": "append"}))
def adder(program, name):
    return program.append("batch", name, bind(ramp, start=8, end=9))

@method(card({"batch": "replace"}))
def clearer(program, name):
    return program.set(batch=()).append("batch", name, bind(ramp, start=6, end=7))

@method(card({"batch": "append"}))
def forgetful(program, name):
    return program.set(batch=()).append("batch", name, bind(ramp, start=6, end=7))

@method(card({"workload": "replace"}))
def cheat(program, name):
    import dataclasses
    return dataclasses.replace(program, workload="an easier question")

@method(card({"loss": "replace"}))
def nothing(program, name):
    return None

@method(card({"hooks": "append"}, horizon="irreversible"))
def freezing(program, name):
    return program.append("hooks", name, bind(ramp, start=0, end=1))

@method(card({"model": "replace"}))
def needs_an_argument(program, name, width: int):
    return program.set(model=bind(ramp, start=width, end=0))
"""


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


def test_entries_stand_by_stage_also_without_methods(m, base: Program) -> None:
    program = base.append("losses", "late", NOTHING, stage=60).append("losses", "early", NOTHING, stage=10)
    more = program.append("losses", "last", NOTHING, stage=60)
    assert [entry.name for entry in more.losses] == ["early", "late", "last"]
    assert program.then(m.mix()).losses == program.losses


def test_replacing_a_slot_comes_before_appending_to_it(m, base: Program) -> None:
    """By name, `adder` would come first and be thrown away."""
    program = base.append("batch", "old", NOTHING).then(m.adder(), m.clearer())
    assert [entry.name for entry in program.batch] == ["adder", "clearer"]


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
        (("cheat",), "cheat: no method may change 'workload'"),
        (("nothing",), "nothing: expected the method to return a Program, got NoneType"),
        (("adder", "forgetful"), r"forgetful: changed batch \(replace\), but its card declares 'append'"),
    ],
)
def test_refusals_say_why(m, base: Program, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ProgramError, match=reason):
        base.then(*(getattr(m, name)() for name in names))


def test_slots_are_not_set_on_top_of_methods(m, base: Program) -> None:
    """The next `then` folds from the base again and would lose the change without a word."""
    program = base.then(m.mix())
    for change in (lambda: program.set(duration="5ep"), lambda: program.append("batch", "x", NOTHING)):
        with pytest.raises(ProgramError, match=r"expected a program without methods, got one with mix\. Use replace"):
            change()
    assert program.replace(duration="5ep").then(m.crop()).duration == "5ep"


def test_two_instances_under_two_names(m, base: Program) -> None:
    program = base.then(m.mix(), m.mix(0.5).named("second"))
    assert [entry.name for entry in program.batch] == ["mix", "second"]
    with pytest.raises(ProgramError, match="cut conflicts with second"):
        base.then(m.mix().named("second"), m.cut())


def test_a_method_is_a_function_of_programs_and_shows_its_arguments(m, base: Program) -> None:
    assert m.mix(0.3)(base) == base.then(m.mix(alpha=0.3))
    assert str(m.mix(0.3)) == "mix(alpha=0.3)"
    assert m.mix(1) == m.mix(1.0)
    assert hash(m.mix(1)) == hash(m.mix(1.0))
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


COMMAND = {"command": "true"}
ATTACKS = [
    ("os:system", COMMAND),
    ("hasten.program:inspect.signature", {}),
    ("hasten._core.call:resolve", {"target": "os:system"}),
    ("hasten._core.call:Call.build", {"self": {"call": "hasten._core.call:Call", "args": {}, "bind": False}}),
    ("hasten._core.sources:load", {"source": None, "entry": "/tmp/x.py"}),
    ("hasten.bench.report.export:write_text", {"path": "x", "text": "y"}),
    ("hasten.bench.workloads.download:fetch", {}),
    ("hasten.cli:main", {"arguments": ["new", "workload"]}),
    ("torch.optim.optimizer:torch.hub.load", {"repo_or_dir": "a/b", "model": "c"}),
    ("torch.optim.sgd:SGD.step", {}),
    ("torch.optimal:x", {}),
    ("hasten.methodsx:f", {}),
    ("user:0123456789abcdef:f", {}),
]


@pytest.mark.parametrize(("target", "args"), ATTACKS)
@pytest.mark.parametrize("where", ["model", "nested", "entry", "method"])
def test_untrusted_code_is_never_reached(
    base: Program, target: str, args: dict, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON from elsewhere names pieces that compute, and nothing that reads, writes, or builds other code."""
    data = json.loads(base.to_json())
    evil = {"call": target, "args": args, "bind": False}
    if where == "method":
        data["methods"] = [["mixup", evil]]
    else:
        harmless = {"call": "hasten._core.clock:ramp", "args": {"start": [evil]}, "bind": True}
        for record in (data["base"], data["record"]):
            slot = {"model": evil, "nested": harmless, "entry": [["x", {**harmless, "args": {"start": evil}}, 50]]}
            record["hooks" if where == "entry" else "model"] = slot[where]
    monkeypatch.setattr(Method, "of", lambda *a: pytest.fail("resolved a call of untrusted JSON"))
    with pytest.raises(ValueError, match="catalogue code only, got .*Read the code first, then pass trust=True"):
        Program.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", "7", '{"base": {}, "methods": [], "record": {}}',
        '{"base": [], "methods": [], "record": {}}', '{"base": {"nonsense": 1}, "methods": [], "record": {}}',
        "[" * 100_000,
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_not_a_program_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Program\.from_json: expected the JSON of a program, got \w+Error"):
        Program.from_json(text)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("base", "model"), 3, "Program: expected model as a Call, got 3. Write model=call"),
        (("base", "batch_size"), "8", "batch_size a whole number"),
        (("methods",), [["mix", 3]], "expected a method's call, got 3"),
        (
            ("methods",),
            [["x", {"call": "hasten._core.clock:ramp", "args": {}, "bind": True}]],
            "the name of a method, got",
        ),
        (("record", "duration"), "9ep", "expected methods that build the stored record, got another program"),
    ],
)
def test_json_that_does_not_fit_together(base: Program, path: tuple[str, ...], value: object, reason: str) -> None:
    data = json.loads(base.to_json())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises((ValueError, TypeError), match=reason):
        Program.from_json(json.dumps(data))


def test_a_method_that_changed_since_is_noticed(m, base: Program) -> None:
    """Stored methods are applied again; what they build must be what was stored."""
    text = base.then(m.mix(0.4)).to_json().replace('"start":0.4', '"start":0.3')
    with pytest.raises(ValueError, match="expected methods that build the stored record, got another program"):
        Program.from_json(text, trust=True)


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


def test_irreversible_methods_are_named(m, base: Program) -> None:
    assert base.then(m.mix()).irreversible == ()
    assert base.then(m.mix(), m.freezing(), m.freezing().named("more")).irreversible == ("freezing", "more")


def test_a_slot_takes_calls_only(base: Program) -> None:
    with pytest.raises(TypeError, match=r"Program: expected loss as a Call, got <function.*Write loss=call\(\.\.\.\)"):
        base.set(loss=lambda outputs, batch: outputs)


def test_equal_programs_are_equal_things(m, base: Program) -> None:
    assert {base.then(m.mix()): 1}[base.then(m.mix(0.2))] == 1
    assert "methods=" in repr(base.then(m.mix()))
    assert base.then(m.mix()).digests() == base.then(m.crop()).digests()
    assert base.digests() == frozenset()


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

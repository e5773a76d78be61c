"""A training program is a value; a method is a function from programs to programs.

A `Program` is a frozen record of everything that decides what is learned and at what cost. Nothing runs until somebody
runs it, so programs can be listed, compared, hashed, stored and re-run. Not in it: seed, device, threads, evaluation
data, metric and target: those belong to the run and to the workload, which no method may change.

`program.then(a, b)` applies methods as a *set*: it folds them from the base program in an order it computes
(`_order`), so `then(a, b) == then(b, a)`. After each method the record is compared with the one before, and a method
that changed what its card does not declare is refused (`_verify`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ._core import call as calls
from ._core.call import Call, bind, call, canonical, decode, encode
from ._core.card import Action, Card, Component, Map
from ._core.checks import near, refuse, refuse_type
from ._core.clock import Schedule, Scheduled, Tick, parse_duration

__all__ = [
    "Action", "Call", "Card", "Component", "Entry", "Hook", "Map", "Method", "MethodFactory", "Program", "ProgramError",
    "RunState", "Schedule", "Scheduled", "Tick", "bind", "call", "method",
]  # fmt: skip

ORDERED = ("surgery", "batch", "losses", "gradients", "hooks", "predict")
SINGLE = (
    "model", "data", "sampler", "loss", "param_groups", "optimizer", "schedule",
    "duration", "batch_size", "microbatch", "precision", "compile",
)  # fmt: skip
CALLS = SINGLE[:7]
PRECISIONS = ("fp32", "bf16")


class ProgramError(ValueError):
    """Methods or slots that do not fit together; the message says why and what to change."""


@dataclass(frozen=True)
class Entry:
    """One item of an ordered slot; `name` is its random stream and its state key, unique in the slot."""

    name: str
    call: Call
    stage: int = 50


@dataclass(frozen=True)
class Program:
    """Everything that decides what is learned and at what cost.

    Args:
        workload: identity of the question; no method may change it.
        model: factory `() -> nn.Module`.
        data: partial `(seed) -> training data`: tensors, a dict of tensors, or a map-style dataset.
        sampler: partial `(n, epoch, *, seed) -> order`, a LongTensor of sample indices.
        loss: partial `(outputs, batch) -> Tensor (batch,)`, one value per sample, unreduced.
        param_groups: partial `(model) -> list of groups`.
        optimizer: partial `(groups) -> Optimizer`.
        schedule: factory of a `Scheduled`, a multiplier of each group's learning rate.
        duration: training length, such as "15ep", "500step" or "2e6tok".
        batch_size: samples per optimizer step.
        microbatch: samples per forward pass; None is the whole batch.
        precision: "fp32", or "bf16" for autocast.
        compile: None, or a torch.compile backend such as "inductor" or "aot_eager".
        surgery: `(model, *, generator) -> Report`, before the optimizer is built.
        batch: `t(batch, *, generator, **args) -> batch`; any argument may be a `Scheduled`.
        losses: `loss -> loss`, innermost first.
        gradients: `f(params) -> None`, a pre-hook of the base optimizer's step.
        hooks: factories of a `Hook`.
        predict: `forward -> forward` at evaluation.
        base, methods: where the program came from; not part of the fingerprint.
    """

    workload: str
    model: Call
    data: Call
    sampler: Call
    loss: Call
    param_groups: Call
    optimizer: Call
    schedule: Call
    duration: str
    batch_size: int
    microbatch: int | None = None
    precision: str = "fp32"
    compile: str | None = None
    surgery: tuple[Entry, ...] = ()
    batch: tuple[Entry, ...] = ()
    losses: tuple[Entry, ...] = ()
    gradients: tuple[Entry, ...] = ()
    hooks: tuple[Entry, ...] = ()
    predict: tuple[Entry, ...] = ()
    base: Program | None = dataclasses.field(default=None, repr=False)
    methods: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        parse_duration(self.duration)
        for name in CALLS:
            if not isinstance(getattr(self, name), Call):
                fix = f"Write {name}=call(...) for a factory, {name}=bind(...) for a partial."
                raise refuse_type("Program", f"{name} as a Call", getattr(self, name), fix)
        for name in ("batch_size", "microbatch"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not (whole or (name == "microbatch" and value is None)):
                raise refuse("Program", f"{name} a whole number of at least 1", value)
        if self.precision not in PRECISIONS:
            raise refuse("Program", f"precision among {', '.join(PRECISIONS)}", repr(self.precision))
        for slot in ORDERED:
            names = [entry.name for entry in getattr(self, slot)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ProgramError(f"Program.{slot}: expected unique entry names, got {twice[0]!r} twice.")

    def then(self, *methods: Method) -> Program:
        """The program with these methods added; their order does not matter.

        Raises:
            ProgramError: a method twice, a conflict, a cycle, two replacements of one slot, two wraps of one slot
                without a declared order, or a method that changed what its card does not declare.
        """
        return _fold(self._base(), (*self.methods, *methods))

    def without(self, name: str) -> Program:
        """The program with the method of this name left out."""
        kept = tuple(method for method in self.methods if method.name != name)
        if len(kept) == len(self.methods):
            raise refuse("Program.without", "the name of a method in it", repr(name), near(name, self._names()))
        return _fold(self._base(), kept)

    def replace(self, **slots: Any) -> Program:
        """The same methods on a base with these slots changed: `program.replace(duration="5ep")`."""
        known = (*SINGLE, *ORDERED)
        for name in slots:
            if name not in known:
                raise refuse_type("Program.replace", "a slot", repr(name), near(name, known))
        return _fold(dataclasses.replace(self._base(), **slots), self.methods)

    def append(self, slot: str, name: str, what: Call, *, stage: int = 50) -> Program:
        """The program with one more entry in an ordered slot, behind those of its stage (for writing methods)."""
        if slot not in ORDERED:
            raise refuse("Program.append", f"a slot among {', '.join(ORDERED)}", repr(slot), near(slot, ORDERED))
        entries = sorted((*getattr(self, slot), Entry(name, what, stage)), key=lambda entry: entry.stage)
        return self.set(**{slot: tuple(entries)})

    def set(self, **slots: Any) -> Program:
        """The program with slots replaced as they stand (for writing methods).

        Raises:
            ProgramError: the program has methods already, which the next `then` would apply to the old slots.
        """
        if self.methods:
            names, fix = ", ".join(self._names()), "Use replace(...), which changes the slot below the methods."
            raise ProgramError(f"Program.set: expected a program without methods, got one with {names}. {fix}")
        return dataclasses.replace(self, **slots)

    @property
    def irreversible(self) -> tuple[str, ...]:
        """Names of methods whose effect depends on progress and cannot be undone: these need separate runs."""
        return tuple(m.name for m in self.methods if m.card.horizon == "irreversible")

    def record(self) -> dict[str, Any]:
        """The program as plain data, without where it came from: what the fingerprint is taken of."""
        fields = {name: encode(getattr(self, name)) for name in ("workload", *SINGLE)}
        for slot in ORDERED:
            fields[slot] = [[entry.name, encode(entry.call), entry.stage] for entry in getattr(self, slot)]
        return fields

    def fingerprint(self) -> str:
        """32 hex digits of SHA-256 of the canonical record; a user's source enters by its content digest."""
        return hashlib.sha256(canonical(self.record()).encode()).hexdigest()[:32]

    def calls(self) -> list[Call]:
        """Every call in the record, nested ones included."""
        single = [inner for name in SINGLE for inner in calls.walk(getattr(self, name))]
        return single + [inner for slot in ORDERED for entry in getattr(self, slot) for inner in calls.walk(entry.call)]

    def digests(self) -> frozenset[str]:
        """The digests of the user files that this program names."""
        named = [*self.calls(), *(method.call for method in self.methods)]
        return frozenset(c.target.split(":")[1] for c in named if c.target.startswith("user:"))

    def to_json(self) -> str:
        """Canonical JSON of the program: the base record and the methods."""
        methods = [[method.name, encode(method.call)] for method in self.methods]
        return canonical({"base": self._base().record(), "methods": methods, "record": self.record()})

    @classmethod
    def from_json(cls, text: str, *, trust: bool = False) -> Program:
        """The program of `to_json`. Building it imports what it names.

        Args:
            text: the JSON.
            trust: allow code beyond the catalogue (a user's file, any package). Without it only these are reached:
                hasten's rooms, methods and workloads, torch.optim, and packages of installed plug-ins.

        Raises:
            ValueError: not a program, code that is not trusted, or methods that no longer give the stored record.
        """
        try:
            data = json.loads(text)
            base = cls(**{name: _field(name, value) for name, value in data["base"].items()})
            methods = [(str(name), _method_call(value)) for name, value in data["methods"]]
            stored = data["record"]
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise refuse("Program.from_json", "the JSON of a program", f"{type(error).__name__}: {error}") from error
        if not trust:
            _check_trusted([*base.calls(), *(inner for _, what in methods for inner in calls.walk(what))])
        program = base.then(*(Method.of(name, what) for name, what in methods))
        if program.record() != stored:
            fix = "Re-run the study with this version, or use the version that wrote it."
            raise refuse("Program.from_json", "methods that build the stored record", "another program", fix)
        return program

    def _base(self) -> Program:
        return self.base if self.base is not None else dataclasses.replace(self, base=None, methods=())

    def _names(self) -> list[str]:
        return [method.name for method in self.methods]


def _field(name: str, value: Any) -> Any:
    if name in ORDERED:
        return tuple(Entry(str(entry), decode(what), int(stage)) for entry, what, stage in value)
    return decode(value)


def _method_call(data: Any) -> Call:
    what = decode(data)
    if not isinstance(what, Call):
        raise refuse_type("Program.from_json", "a method's call", what)
    return what


# What JSON may name without being trusted: pieces that compute, and nothing that reads, writes or builds other calls.
_CATALOGUE = (
    "hasten.methods", "hasten.optim", "hasten.schedules", "hasten.losses", "hasten.surgery", "hasten.data",
    "hasten._core.clock", "hasten._core.params", "hasten.bench.models", "hasten.bench.workloads.altered", "torch.optim",
)  # fmt: skip
_WORKLOADS = "hasten.bench.workloads."
_WORKLOAD_PARTS = ("model", "data", "train_data", "test_data", "train_part", "test_part", "loss", "metric")


def _check_trusted(named: Iterable[Call]) -> None:
    """Catalogue code only. `_core.call.resolve` also demands that the module defines what is named."""
    catalogue = (*_CATALOGUE, *(point.value.split(":")[0] for point in plug_ins()))
    for what in named:
        module, _, name = what.target.rpartition(":")
        piece = any(module == known or module.startswith(f"{known}.") for known in catalogue)
        part = module.startswith(_WORKLOADS) and name in _WORKLOAD_PARTS
        if not (piece or part) or "." in name:
            fix = "Read the code first, then pass trust=True."
            raise refuse("Program.from_json", "catalogue code only", repr(what.target), fix)


def plug_ins() -> list[Any]:
    """Entry points of others' methods (group `hasten.methods`); listing them imports nothing."""
    from importlib.metadata import entry_points

    return sorted(entry_points(group="hasten.methods"), key=lambda point: point.name)


@dataclass(frozen=True)
class Method:
    """One method with its arguments: a function from programs to programs.

    Args:
        name: the instance's name; entry names, random streams and state keys derive from it.
        call: the factory by name with its arguments.
        card: what it declares.
    """

    name: str
    call: Call
    card: Card = dataclasses.field(repr=False)

    @classmethod
    def of(cls, name: str, what: Call) -> Method:
        """The method behind a stored call (imports it)."""
        factory = calls.resolve(what.target)
        if not isinstance(factory, MethodFactory):
            raise refuse("method", "the name of a method", repr(what.target))
        return cls(name, what, factory.card)

    @property
    def kind(self) -> str:
        """The catalogue name, whatever the instance is called."""
        return self.call.target.rsplit(":", 1)[-1]

    def named(self, name: str) -> Method:
        """The same method under another name, for a second instance in one program."""
        return dataclasses.replace(self, name=name)

    def __call__(self, program: Program) -> Program:
        """`program.then(self)`."""
        return program.then(self)

    def apply(self, program: Program) -> Program:
        """The raw change, without ordering and checks."""
        factory = calls.resolve(self.call.target)
        return factory.function(program, self.name, **{key: calls._built(value) for key, value in self.call.args})

    def __str__(self) -> str:
        text = str(self.call)
        return text if self.name == self.kind else f"{self.name}={text}"


class MethodFactory:
    """What `@method(card)` makes of a function: call it with the method's arguments to get a `Method`."""

    def __init__(self, function: Callable[..., Program], card: Card) -> None:
        functools.update_wrapper(self, function)
        self.function, self.card, self.name = function, card, function.__name__
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[2:]  # after (program, name)
        self.__signature__ = signature.replace(parameters=own, return_annotation=Method)

    def __call__(self, *args: Any, **kwargs: Any) -> Method:
        """The method with these arguments."""
        given = self.__signature__.bind(*args, **kwargs).arguments
        filled = calls.fill(calls.name_of(self), self.__signature__.parameters, given, bound=False)
        return Method(self.name, dataclasses.replace(filled, bind=True), self.card)

    def __repr__(self) -> str:
        return f"<method {self.name}{self.__signature__}>"


def method(card: Card) -> Callable[[Callable[..., Program]], MethodFactory]:
    """Turn `def name(program, name, *, ...) -> Program` into a method with this card.

    The function must be pure: it returns a changed copy of the record, by `program.append`, `program.set` and `bind`.
    """
    return lambda function: MethodFactory(function, card)


def _fold(base: Program, methods: tuple[Method, ...]) -> Program:
    for item in methods:
        if not isinstance(item, Method):
            fix = f"Call it: {item.name}()." if isinstance(item, MethodFactory) else "Pass methods, such as blurpool()."
            raise refuse_type("Program.then", "methods", item, fix)
    _check_set(methods)
    ordered = _order(methods)
    program = dataclasses.replace(base, base=None, methods=())
    for item in ordered:
        changed = item.apply(program)
        _verify(item, program, changed)
        program = changed
    rank = {item.name: position for position, item in enumerate(_by_after(methods))}
    slots: dict[str, Any] = {
        slot: _sorted_entries(getattr(program, slot), getattr(base, slot), rank) for slot in ORDERED
    }
    return dataclasses.replace(program, **slots, base=base if methods else None, methods=ordered)


def _check_set(methods: tuple[Method, ...]) -> None:
    seen: dict[str, Method] = {}
    for item in methods:
        if item.name in seen:
            hint = f"Name the second one: {item.kind}(...).named('second')."
            raise ProgramError(f"Program.then: expected one instance per name, got {item.name!r} twice. {hint}")
        seen[item.name] = item
    for item in methods:
        for other in methods:
            reason = item.card.conflicts.get(other.kind) if other is not item else None
            if reason is not None:
                hint = "Leave one out."
                raise ProgramError(f"Program.then: {item.name} conflicts with {other.name}: {reason}. {hint}")


def _order(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    """The order of application: per slot replace before wrap and append, then `after`; ties by name."""
    before: dict[str, set[str]] = {item.name: set() for item in methods}
    for item in methods:
        before[item.name] |= {other.name for other in methods if other.kind in item.card.after and other is not item}
    reach = _reachable(before)
    for slot in (*SINGLE, *ORDERED):
        replacing = [item for item in methods if item.card.touches.get(slot) == "replace"]
        wrapping = [item for item in methods if item.card.touches.get(slot) == "wrap"]
        if len(replacing) > 1:
            names = " and ".join(sorted(item.name for item in replacing))
            raise ProgramError(f"Program.then: expected one method to replace {slot}, got {names}. Leave one out.")
        for one in wrapping:
            for two in wrapping:
                if one.name < two.name and two.name not in reach[one.name] and one.name not in reach[two.name]:
                    hint = "Their cards must say which one is `after` the other."
                    raise ProgramError(f"Program.then: {one.name} and {two.name} both wrap {slot}. {hint}")
            before[one.name] |= {item.name for item in replacing}
        for one in methods:
            if one.card.touches.get(slot) == "append":
                before[one.name] |= {item.name for item in replacing}
    by_name = {item.name: item for item in methods}
    return tuple(by_name[name] for name in _topological(before))


def _by_after(methods: tuple[Method, ...]) -> list[Method]:
    before = {
        item.name: {other.name for other in methods if other.kind in item.card.after and other is not item}
        for item in methods
    }
    by_name = {item.name: item for item in methods}
    return [by_name[name] for name in _topological(before)]


def _reachable(before: dict[str, set[str]]) -> dict[str, set[str]]:
    reach = {name: set(direct) for name, direct in before.items()}
    for _ in before:
        for name in reach:
            reach[name] |= {far for near_ in set(reach[name]) for far in reach[near_]}
    return reach


def _topological(before: dict[str, set[str]]) -> list[str]:
    waiting, done = {name: set(direct) for name, direct in before.items()}, []
    while waiting:
        free = sorted(name for name, direct in waiting.items() if not direct - set(done))
        if not free:
            names = " -> ".join(sorted(waiting))
            raise ProgramError(f"Program.then: the cards of {names} ask for a circular order. Leave one out.")
        done.append(free[0])
        del waiting[free[0]]
    return done


def _sorted_entries(entries: tuple[Entry, ...], base: tuple[Entry, ...], rank: dict[str, int]) -> tuple[Entry, ...]:
    """By stage; within a stage the base's own entries first, as they stood, then by `after`, then by name."""
    at = {entry.name: position for position, entry in enumerate(base)}

    def key(entry: Entry) -> tuple[int, int, int, str]:
        if entry.name in at:
            return entry.stage, 0, at[entry.name], ""
        return entry.stage, 1, rank.get(entry.name, len(rank)), entry.name

    return tuple(sorted(entries, key=key))


def _verify(item: Method, before: Program, after: Program) -> None:
    """Compare the record around a method with what its card declares."""
    if not isinstance(after, Program):
        raise ProgramError(f"{item.name}: expected the method to return a Program, got {type(after).__name__}.")
    for field in dataclasses.fields(Program):
        slot, old, new = field.name, getattr(before, field.name), getattr(after, field.name)
        if old == new:
            continue
        done = _change(slot, old, new)
        declared = item.card.touches.get(slot)
        if slot not in (*SINGLE, *ORDERED):
            raise ProgramError(f"{item.name}: no method may change {slot!r}.")
        allowed = {"wrap", "replace"} if declared == "replace" else {declared}
        if done not in allowed:
            said = f"declares {declared!r}" if declared else "does not declare it"
            raise ProgramError(f"{item.name}: changed {slot} ({done}), but its card {said}. Fix the card's `touches`.")


def _change(slot: str, old: Any, new: Any) -> str:
    if slot in ORDERED:
        return "append" if [entry for entry in new if entry in old] == list(old) else "replace"
    if isinstance(old, Call) and isinstance(new, Call) and any(inner == old for inner in calls.walk(new)):
        return "wrap"
    return "replace"


class RunState(Protocol):
    """What a hook sees of a run. It is passed in and never stored."""

    program: Program
    seed: int
    tick: Tick
    model: nn.Module  # always the raw module, never compiled or wrapped
    optimizer: Any

    def score(self, batch: Any) -> Tensor:
        """Losses (batch,) in evaluation mode, without gradients; charged to the clock and to the ledger."""
        ...

    def generator(self, name: str) -> Any:
        """The random stream of this entry at this step."""
        ...


class Hook(Protocol):
    """Code that runs inside the loop. Every method is optional; `run` is passed in and never stored.

    `setup(run)` after every (re)build of model and optimizer, re-entrant · `before_step(run)` for all time-driven
    change · `on_batch(batch, run) -> batch` in one stage order with `Program.batch` · `on_loss(losses, batch, run)
    -> losses` in the first closure pass only, not while scoring · `after_step(run)`, gradients still readable ·
    `for_eval(model, run) -> model`, folded last in first out, never swapping weights in place · `state_dict()` and
    `load_state_dict(state)`.
    """

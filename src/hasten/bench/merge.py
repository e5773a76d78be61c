"""`merge`: runs of one question that were measured in several folders, as one study.

Seeds 0 to 4 here, 5 to 9 there: both are halves of the same study if they ask the same question (`Plan.identity`) in
the same environment on the same machine. A run that was measured in both must have come out the same to the bit; both
attempts are kept. The inputs are only read, and the output appears when it is whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hasten._core.checks import check, refuse

from . import durable
from .archive import appearing, check_free, opened
from .book import ENDED, counting, log_name, with_drift
from .report.words import joined
from .store import LOCK, NotDeterministicError, Store, StoreError

__all__ = ["merge"]

MACHINE = ("system", "processor", "cores")  # facts that must agree; the load at the start need not

Run = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One input: what it is called, where it lies, its facts and its runs."""

    name: str
    folder: Path
    facts: dict[str, Any]
    runs: list[Run]

    @property
    def machine(self) -> dict[str, Any]:
        """What the machine is, without what changes from hour to hour."""
        found = self.facts.get("machine") or {}
        return {name: found[name] for name in MACHINE if name in found}


@dataclass(frozen=True)
class Moved:
    """An attempt in its input and in the new study."""

    part: Part
    run: Run
    new: Run


def merge(
    studies: Sequence[str | Path], out: str | Path, *, allow_mixed: bool = False, command: str | None = None
) -> Path:
    """Put the runs of several studies that ask the same question into one new study, which `compare` can resume.

    The seeds are those of all inputs together. Sources and logs come along, checkpoints do not: a run that has not
    ended starts again. The report says for ever that the study was merged, and from what.

    Args:
        studies: folders or archives, at least two.
        out: the new study's folder; it must not exist, or be empty.
        allow_mixed: also merge studies of different machines. Times of one seed are comparable where all its runs come
            from one machine; the report names the seeds where they do not.
        command: what the report shows as the study's origin.

    Returns:
        `out`.

    Raises:
        ValueError: another question, environment or machine; or `out` holds something.
        NotDeterministicError: a run that was measured twice came out differently.
        StoreError: an input is no study, or cannot be read.

    Example:
        >>> merge(["runs/monday", "runs/tuesday"], "runs/both")  # doctest: +SKIP
    """
    out = Path(out)
    check(len(studies) >= 2, "merge", "at least two studies", [str(path) for path in studies], "Name their folders.")
    places = [Path(path).resolve() for path in studies]
    check(len(set(places)) == len(places), "merge", "each study once", [str(path) for path in studies])
    inside = [str(place) for place in places if out.resolve().is_relative_to(place)]
    check(not inside, "merge", "an output outside the inputs", str(out), "Pass another folder with --out.")
    check_free(out, "merge --out")
    with contextlib.ExitStack() as stack:
        parts = [_read(str(path), stack.enter_context(opened(path))) for path in studies]
        for part in parts[1:]:
            _check_question(parts[0], part)
            _check_environment(parts[0], part)
        mixed = _check_machines(parts, allow_mixed)
        merged = _merged_runs(parts, out.resolve())
        runs = [moved.new for moved in merged]
        if not mixed:  # one usual speed for all; on different machines each part keeps its own
            runs = with_drift(runs)
        facts = _facts(parts, merged, command)
        facts["merged"] = _origin(parts, merged, mixed)
        with appearing(out) as aside:
            _take_files(aside, parts, merged)
            with contextlib.closing(Store(aside)) as store:
                store.fill(facts, runs)  # last: before it the folder is no study
            (aside / LOCK).unlink()
    return out


def _read(name: str, folder: Path) -> Part:
    with contextlib.closing(Store(folder, read_only=True)) as store:
        facts, runs = store.snapshot()
    check("plan" in facts, "merge", "a study that has begun", name, "Run `hasten compare` first.")
    return Part(name, folder, facts, runs)


# What must agree ------------------------------------------------------------------------------------------------------


def _check_question(one: Part, other: Part) -> None:
    if one.facts["identity"] == other.facts["identity"]:
        return
    mine, theirs = _question(one), _question(other)
    differs = [name for name in mine if mine[name] != theirs[name]] or ["the code, the data or the metric"]
    fix = "Only runs of one question can be one study; to see several on one page: hasten report A B."
    raise refuse("merge", f"the question of {one.name}", f"another {joined(differs)} in {other.name}", fix)


def _question(part: Part) -> dict[str, Any]:
    plan = part.facts["plan"]
    return {
        "workload": plan["workload"],
        "arms": {arm["name"]: arm["fingerprint"] for arm in plan["arms"]},
        "baseline": plan["baseline"],
        "curve": (plan["curve"], plan["ends"]),
        "metric": (plan["metric"], plan["minimize"]),
    }


def _check_environment(one: Part, other: Part) -> None:
    if one.facts["environment_digest"] == other.facts["environment_digest"]:
        return
    got = f"{_differences(one.facts['environment'], other.facts['environment'])} in {other.name}"
    fix = "Other versions and settings change bits and speed: run the missing seeds in one environment."
    raise refuse("merge", f"the environment of {one.name}", got, fix)


def _check_machines(parts: list[Part], allow_mixed: bool) -> bool:
    """Whether the machines differ, if they may."""
    one = parts[0]
    other = next((part for part in parts[1:] if part.machine != one.machine), None)
    if other is not None and not allow_mixed:
        got = f"{_differences(one.machine, other.machine)} in {other.name}"
        fix = "Times of two machines do not belong together; with --allow-mixed the report says so for ever."
        raise refuse("merge", f"the machine of {one.name}", got, fix)
    return other is not None


def _differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {other.get(name)} (not {one.get(name)})" for name in names) or "another one"


# Runs -----------------------------------------------------------------------------------------------------------------


def _merged_runs(parts: list[Part], out: Path) -> list[Moved]:
    """Every attempt, numbered anew where several studies tried one run."""
    found: list[Moved] = []
    tries: dict[tuple[Any, ...], list[Moved]] = {}
    for part in parts:
        for run in part.runs:
            place = run["key"].values()[:-1]
            before = tries.setdefault(place, [])
            others = [moved for moved in before if moved.part is not part]
            for other in others:
                _check_equal(other, part, run)
            if any(_measured(other.run) == _measured(run) for other in others):
                continue  # the same measurement, copied with its folder
            key, data = replace(run["key"], attempt=len(before)), run["data"]
            if "log" in data:
                data = {**data, "log": str(out / "logs" / log_name(key))}
            status = "interrupted" if run["status"] == "running" else run["status"]
            before.append(Moved(part, run, {**run, "key": key, "status": status, "data": data}))
            found.append(before[-1])
    return found


def _measured(run: Run) -> Any:
    """An attempt without what was written beside it later."""
    data = {name: value for name, value in run["data"].items() if name not in ("log", "drifted", "calibration")}
    times = {when: run["data"].get("calibration", {}).get(when) for when in ("before", "after")}
    return run["status"], data, times, run["points"]


def _check_equal(moved: Moved, other: Part, second: Run) -> None:
    """Two attempts at one run must agree in every point they share, and in the weights they ended with."""
    one, first, key = moved.part, moved.run, second["key"]
    fix = "The run is not deterministic, or its code read something that has changed: no study of it can be trusted."
    known = {point["point"]: point["metric"] for point in first["points"]}
    for point in second["points"]:
        metric = known.get(point["point"], point["metric"])
        if metric != point["metric"]:
            raise NotDeterministicError(
                f"merge: point {point['point']} of {key.arm}, seed {key.seed} is {metric!r} in {one.name} and "
                f"{point['metric']!r} in {other.name}. {fix}"
            )
    weights = {run["data"].get("weights") for run in (first, second) if run["status"] == "done"} - {None, ""}
    if len(weights) > 1:
        raise NotDeterministicError(
            f"merge: {key.arm}, seed {key.seed} ends with other weights in {one.name} than in {other.name}. {fix}"
        )


# Facts ----------------------------------------------------------------------------------------------------------------


def _facts(parts: list[Part], merged: list[Moved], command: str | None) -> dict[str, Any]:
    first = parts[0].facts
    seeds = _seeds(parts)
    margins = {part.facts.get("margin") for part in parts}
    logs = {moved.run["data"]["log"]: moved.new["data"]["log"] for moved in merged if "log" in moved.run["data"]}
    notes = [note for part in parts for note in part.facts.get("notes") or []]
    for old, new in logs.items():
        notes = [note.replace(old, new) for note in notes]
    return {
        **first,
        "plan": {**first["plan"], "seeds": seeds},
        "curves": max((part.facts.get("curves") or [] for part in parts), key=len) or None,  # one may have controls
        "created": min(part.facts["created"] for part in parts),
        "command": command or "hasten.bench.merge.merge(...)",
        "machine": _machine([part.facts.get("machine") or {} for part in parts]),
        "margin": margins.pop() if len(margins) == 1 else None,
        "power": first.get("power") if seeds == first["plan"]["seeds"] else None,  # it was planned for other seeds
        "notes": list(dict.fromkeys(notes)),
        "status": _status(parts, [moved.new for moved in merged], seeds),
    }


def _seeds(parts: list[Part]) -> list[int]:
    return sorted({seed for part in parts for seed in part.facts["plan"]["seeds"]})


def _machine(machines: list[dict[str, Any]]) -> dict[str, Any]:
    """The facts of all machines, side by side where they differ."""
    found = {}
    for name in {name: None for machine in machines for name in machine}:
        values = list(dict.fromkeys(machine.get(name) for machine in machines))
        found[name] = values[0] if len(values) == 1 else "; ".join(map(str, values))
    return found


def _status(parts: list[Part], runs: list[Run], seeds: list[int]) -> str:
    """Complete if every input was, or if together they have every run; else as the `compare` that was stopped says."""
    said = {part.facts.get("status") for part in parts}
    keys = [run["key"] for run in runs if run["status"] in ENDED]
    firsts, ended = {key.first for key in keys}, {(key.arm, key.seed, key.first) for key in keys}
    arms = [arm["name"] for arm in parts[0].facts["plan"]["arms"]]
    whole = bool(firsts) and all((arm, seed, first) in ended for arm in arms for seed in seeds for first in firsts)
    if said == {"complete"} or whole:
        return "complete"
    return "budget" if said <= {"complete", "budget"} else "interrupted"


def _origin(parts: list[Part], merged: list[Moved], mixed: bool) -> list[str]:
    """What every later report must say."""
    new = [part for part in parts if any(moved.part is part for moved in merged)]
    pieces = [f"{_seeds_text(part.facts['plan']['seeds'])} (begun {part.facts['created']})" for part in new]
    said = [note for part in parts for note in part.facts.get("merged") or []]
    copies = "" if len(new) == len(parts) else f" {len(parts) - len(new)} more held nothing that these do not."
    count = f"{len(new)} studies" if len(new) > 1 else "one study"
    said.append(f"Merged from {count}: {', '.join(pieces)}.{copies}")
    if mixed:
        machines = [f"{_machine_text(part)}: {_seeds_text(part.facts['plan']['seeds'])}" for part in parts]
        said.append(
            f"Measured on different machines ({'; '.join(machines)}). Speedups and gains compare runs of one seed and "
            "are then averaged over machines; absolute times are averages over machines."
        )
        said += _pairs_across(merged)
    if len({part.facts.get("margin") for part in parts}) > 1:
        said.append("The merged studies had declared different margins, so none of them is used.")
    return list(dict.fromkeys(said))


def _pairs_across(merged: list[Moved]) -> list[str]:
    """The seeds whose counting runs come from more than one machine."""
    chosen = counting([moved.new for moved in merged])
    found: dict[int, list[dict[str, Any]]] = {}
    for moved in merged:
        key, machines = moved.new["key"], found.setdefault(moved.new["key"].seed, [])
        if key in chosen and moved.part.machine not in machines:
            machines.append(moved.part.machine)
    seeds = sorted(seed for seed, machines in found.items() if len(machines) > 1)
    if not seeds:
        return []
    return [f"Times of different machines are compared with each other in {_seeds_text(seeds)}."]


def _seeds_text(seeds: list[int]) -> str:
    """Seeds for people.

    >>> _seeds_text([0, 1, 2]), _seeds_text([3]), _seeds_text([1, 5])
    ('seeds 0 to 2', 'seed 3', 'seeds 1, 5')
    """
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def _machine_text(part: Part) -> str:
    return ", ".join(f"{value} cores" if name == "cores" else str(value) for name, value in part.machine.items())


# Files ----------------------------------------------------------------------------------------------------------------


def _take_files(aside: Path, parts: list[Part], merged: list[Moved]) -> None:
    """The users' files and the logs of all inputs; what is not the log of a run gets its input's number in front."""
    for number, part in enumerate(parts):
        for path in sorted((part.folder / "sources").rglob("*.py")):
            _copy(path, aside / path.relative_to(part.folder))
        of_runs = {log_name(run["key"]) for run in part.runs}
        for path in sorted((part.folder / "logs").glob("*.log")):
            if path.name not in of_runs:
                _copy(path, aside / "logs" / f"{number}-{path.name}")
    for moved in merged:
        path = moved.part.folder / "logs" / log_name(moved.run["key"])
        if path.is_file():
            _copy(path, aside / "logs" / log_name(moved.new["key"]))


def _copy(path: Path, target: Path) -> None:
    data = path.read_bytes()
    if target.exists() and target.read_bytes() != data:
        raise StoreError(f"{path}: expected the same text as in another study under the same digest. It was changed.")
    durable.make_folder(target.parent)
    durable.write_atomically(target, data)

"""Does the verdict survive? One study of a workload and one of each of its variants, and what became of the verdicts.

    found = robustness("digits", {"base": [], "blur": [blurpool()]}, names=("width", "batch"))
    print(found.table())

The studies are ordinary ones in subfolders of one folder (`original`, `width`, ...): each can be opened, reported and
gone on with alone, and the same call goes on with all of them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten._core.call import walk
from hasten._core.checks import check, refuse, refuse_type
from hasten._core.clock import parse_seconds
from hasten.program import Program

from . import durable
from .book import Book
from .environment import digest, environment
from .estimate import estimate
from .plan import Arms, Plan, make_plan
from .progress import Progress
from .store import FILE, Store, StoreError
from .study import Study, check_margin, check_pair, open_study, run_study, workers_of
from .survival import ORIGINAL, arm_row, notes_of, table
from .workloads import Workload, load
from .workloads.variants import NAMES, variants

__all__ = ["INDEX", "Plans", "Robustness", "open_robustness", "plan_robustness", "robustness", "run"]

INDEX = "robustness.json"  # in the folder: which studies belong together, and what they said when they last ran
VERSION = 1
AGAIN = "The same command goes on."


@dataclass(frozen=True)
class Plans:
    """The original study and one for each variant, laid out and checked; nothing has run.

    Args:
        original: the study of the workload as it is.
        variants: variant -> its study.
        changes: variant -> what was changed, in words.
        unavailable: variant -> why there is none.
        notes: what a reader must know of these arms in these variants.
    """

    original: Plan
    variants: Mapping[str, Plan]
    changes: Mapping[str, str]
    unavailable: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def every(self) -> dict[str, Plan]:
        """All studies by name, the original first: the names of the subfolders."""
        return {ORIGINAL: self.original, **self.variants}

    def folder(self) -> Path:
        """Where they run by default; the same question finds it again, with more variants, too."""
        return Path("runs") / f"{self.original.workload.name}-variants-{self.original.identity()[:8]}"

    def seconds(self) -> float | None:
        """Expected training time of all studies on one thread (see `estimate`); None if it is not known."""
        found = [estimate(plan) for plan in self.every().values()]
        return None if None in found else sum(one.seconds for one in found if one is not None)

    def text(self) -> str:
        """The studies in a few lines."""
        jobs = sum(len(plan.jobs()) for plan in self.every().values())
        lines = [f"{len(self.every())} studies, {jobs} runs in all:", f"  {ORIGINAL}"]
        lines += [f"  {name}: {change}" for name, change in self.changes.items()]
        return "\n".join([*lines, *(f"  without {name}: {reason}" for name, reason in self.unavailable.items())])


def plan_robustness(
    workload: str | Path | Workload,
    arms: Arms,
    *,
    names: str | Sequence[str] | None = None,
    duration: str | None = None,
    **options: Any,
) -> Plans:
    """Make the variants, check every study and lay it out (see `robustness`). Nothing is trained.

    Raises:
        ValueError, TypeError: as `compare`; an unknown variant, or not one that can be made.
    """
    question = load(workload)
    if duration is not None:  # before variants are made: larger batches take fewer steps of the same training length
        question = dataclasses.replace(question, program=question.program.replace(duration=duration))
    original = make_plan(question, arms, **options)
    check_pair(original)
    for name, arm in arms.items():
        if isinstance(arm, Program):
            fix = "Pass its methods: list(program.methods)."
            raise refuse_type("robustness", f"arm {name!r} as a list of methods", "a program of one workload", fix)
    plans, changes, unavailable = {}, {}, {}
    for variant in variants(question, names):
        try:
            if variant.workload is None:
                unavailable[variant.name] = variant.reason
            else:
                plans[variant.name] = make_plan(variant.workload, arms, **options)
                changes[variant.name] = variant.change
        except (ValueError, TypeError) as error:  # a method finds nothing to change in it, too few steps for the points
            unavailable[variant.name] = str(error)
    if not plans:
        got = "; ".join(f"{name}: {reason}" for name, reason in unavailable.items())
        raise refuse("robustness", "a variant that can be made", f"none of {len(unavailable)} ({got})")
    return Plans(original, plans, changes, unavailable, tuple(_own_rates(plans)))


def _own_rates(plans: Mapping[str, Plan]) -> Iterator[str]:
    """Arms with an optimizer of their own keep its learning rate when the batch grows."""
    if "batch" not in plans:
        return
    arms, base = plans["batch"].arms, plans["batch"].workload.program
    for name, program in arms.items():
        if base.optimizer not in walk(program.optimizer):
            yield f"batch: {name} replaces the optimizer; its own learning rate does not follow the batch."


def robustness(
    workload: str | Path | Workload,
    arms: Arms,
    *,
    names: str | Sequence[str] | None = None,
    budget: str | float | None = None,
    margin: float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> Robustness:
    """Compare the arms on a workload and on variants of it: does each verdict survive?

    Every variant changes one thing (see `hasten.bench.workloads.variants`) and is a study of its own, with the same
    arms, seeds and budgets. Use it before you act on a verdict, or publish one; it costs a study for each variant.

    Args:
        workload: as in `hasten.compare`.
        arms: as in `hasten.compare`, but lists of methods only: a program belongs to one workload.
        names: variants such as ("width", "batch") or "width,batch"; None for all that can be made.
        budget: wall time of everything, such as "1h". Each study in turn gets its share of what is left, in proportion
            to its expected work, so that they reach about as many seeds; what one does not use goes to the next.
        margin, workers, quiet: as in `hasten.compare`, for every study.
        out: the folder; default `runs/<workload>-variants-<8 hex digits of the question>`.
        options: `seeds`, `baseline`, `curve`, `duration`, `points`, `mult`, `device` and more of `hasten.compare`.

    Returns:
        The answer: `print(found.table())`, `found.verdicts()`, `found.studies["width"].table()`.

    Raises:
        ValueError, TypeError: as `hasten.compare`; an unknown variant, or not one that can be made.
        StoreError: a subfolder holds another study or cannot be written.

    Example:
        >>> from hasten.methods import blurpool
        >>> found = robustness("digits", {"base": [], "blur": [blurpool()]}, names="width")  # doctest: +SKIP
        >>> found.verdicts()["blur"]  # doctest: +SKIP
        'pays; survives in the one variant.'
    """
    plans = plan_robustness(workload, arms, names=names, **options)
    return run(plans, budget=budget, margin=margin, out=out, workers=workers, quiet=quiet)


def run(
    plans: Plans,
    *,
    budget: str | float | None = None,
    margin: float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> Robustness:
    """Run what is missing of every study (see `robustness`); `options` are those of `run_study`, such as `command`.

    Ctrl-C ends the study that runs, as ever, and begins no further one.
    """
    check_margin(margin)
    workers_of(workers, plans.original.device)
    seconds = None if budget is None else parse_seconds(budget)
    folder = Path(out) if out is not None else plans.folder()
    if (folder / FILE).exists():
        raise refuse(
            "robustness", "a folder for several studies", f"{folder}, a study's", "Pass another one with --out."
        )
    _write_index(folder, plans)  # before any study, so that the folder says what it is however this ends
    shares, progress, every = _Shares(plans, folder, seconds), Progress(quiet=quiet), plans.every()
    for position, (name, plan) in enumerate(every.items(), start=1):
        share = shares.of(name)
        if share == 0:
            continue
        if not quiet:
            progress.note(f"study {position} of {len(every)}: {plan.workload.name}")
        study = run_study(
            plan, budget=share, margin=margin, out=folder / name, workers=workers, quiet=quiet, **options
        )  # fmt: skip
        if study.status == "interrupted":
            break
    return open_robustness(folder)


class _Shares:
    """How a total of wall time is divided: each study in turn gets its share of what is left.

    Args:
        plans: the studies.
        folder: where they are, as far as they have come.
        seconds: the total, or None for no end.
        clock: the time in seconds.
    """

    def __init__(
        self, plans: Plans, folder: Path, seconds: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds, self.clock, self.begun = seconds, clock, clock()
        self.work = {} if seconds is None else _work(plans, folder)

    def of(self, name: str) -> float | None:
        """Seconds for this study; 0 if nothing is left for it, None for a study without an end or without work."""
        if self.seconds is None or not self.work[name]:
            return None
        names = list(self.work)
        ahead = sum(self.work[other] for other in names[names.index(name) :])
        left = self.seconds - (self.clock() - self.begun)
        return max(0.0, left * self.work[name] / ahead)


def _work(plans: Plans, folder: Path) -> dict[str, float]:
    """Expected work that is left in each study: seconds, or steps where no time is known of one of them."""
    every = plans.every()
    left = {name: _left(plan, folder / name) for name, plan in every.items()}
    times = {name: found.seconds for name, plan in every.items() if (found := estimate(plan)) is not None}
    whole = times if len(times) == len(every) else {name: float(plan.steps()) for name, plan in every.items()}
    return {name: whole[name] * left[name] for name in every}


def _left(plan: Plan, folder: Path) -> float:
    """The share of a study's runs that have not ended."""
    if not (folder / FILE).exists():
        return 1.0
    try:
        store = Store(folder, read_only=True)
    except StoreError:  # not begun; or whatever it is, running it will say
        return 1.0
    try:
        return len(Book(plan, store, digest(environment(plan.device))).pending()) / len(plan.jobs())
    finally:
        store.close()


class Robustness:
    """Studies of a workload and its variants, and what became of the verdicts. Made by `robustness`.

    Args:
        folder: the folder of all of them.
        data: the answer as plain data (see `to_json`).
        studies: name -> study, the original first; those that have begun.
    """

    def __init__(self, folder: Path, data: dict[str, Any], studies: dict[str, Study]) -> None:
        self.folder, self.data, self.studies = folder, data, studies

    @property
    def status(self) -> str:
        """ "complete", "budget" (ended early), "interrupted" or "running"."""
        return str(self.data["status"])

    def verdicts(self) -> dict[str, str]:
        """Arm -> its verdict and whether it survives, in plain words."""
        return {arm["name"]: arm["sentence"] for arm in self.data["arms"]}

    def table(self, width: int = 100) -> str:
        """The answer as plain text."""
        return table(self.data, width=width, color=False, unicode=True)

    def to_json(self) -> str:
        """The answer as JSON: per arm its verdicts, the counts confirmed, unproven and contradicted, a sentence."""
        return json.dumps(self.data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def reports(self) -> list[Path]:
        """Write the page of every study into its folder."""
        return [study.report() for study in self.studies.values()]

    def __repr__(self) -> str:
        return f"<Robustness {self.data['workload']!r}, {self.status}, in {self.folder}>"


def open_robustness(folder: str | Path) -> Robustness:
    """The studies in a folder of `robustness`, as far as they have come. Nothing that they name is imported.

    Raises:
        ValueError: not such a folder.
    """
    index, path = _read_index(Path(folder)), Path(folder)
    studies: dict[str, Study] = {}
    for name in (ORIGINAL, *index["changes"]):
        if (path / name / FILE).exists():
            studies[name] = open_study(path / name)
    return Robustness(path, _data(index, studies), studies)


def _data(index: Mapping[str, Any], studies: Mapping[str, Study]) -> dict[str, Any]:
    """The answer as plain data."""
    found = {name: study.analysis for name, study in studies.items() if study.analysis is not None}
    verdicts = {
        name: {arm["name"]: arm["verdict"] for arm in analysis["arms"] if arm["name"] != analysis["baseline"]}
        for name, analysis in found.items()
    }
    held = [name for name in index["changes"] if name in verdicts]
    arms = [
        arm_row(arm, verdict, {name: verdicts[name].get(arm, "not proven") for name in held})
        for arm, verdict in verdicts.get(ORIGINAL, {}).items()
    ]
    missing = {name: _missing(studies.get(name)) for name in (ORIGINAL, *index["changes"]) if name not in found}
    alphas = [analysis["alpha"] for analysis in found.values()]
    return {
        "version": VERSION,
        "workload": index["workload"],
        "status": _status(index, studies),
        "changes": dict(index["changes"]),
        "arms": arms,
        "unavailable": {**index["unavailable"], **missing},
        "notes": [*(notes_of(len(found), alphas[0]) if held and arms else []), *index["notes"]],
    }


def _missing(study: Study | None) -> str:
    """Why a study has no verdicts."""
    if study is None:
        return f"not run yet. {AGAIN}"
    notes = study.data["notes"]
    return f"no verdict ({study.status}): {notes[-1]}" if notes else f"no verdict ({study.status}). {AGAIN}"


def _status(index: Mapping[str, Any], studies: Mapping[str, Study]) -> str:
    found = {study.status for study in studies.values()}
    for status in ("running", "interrupted", "budget"):
        if status in found:
            return status
    return "complete" if len(studies) == 1 + len(index["changes"]) else "budget"


def _write_index(folder: Path, plans: Plans) -> None:
    """Say which studies belong together; variants that were asked for earlier still do."""
    earlier = _read_index(folder)["changes"] if (folder / INDEX).is_file() else {}
    changes = {**earlier, **plans.changes}
    index = {
        "version": VERSION,
        "workload": plans.original.workload.name,
        "changes": {name: changes[name] for name in NAMES if name in changes},
        "unavailable": {name: reason for name, reason in plans.unavailable.items() if name not in earlier},
        "notes": list(plans.notes),
    }
    try:
        durable.make_folder(folder)
        durable.write_atomically(folder / INDEX, (json.dumps(index, indent=2) + "\n").encode())
    except OSError as error:
        raise StoreError(durable.explain(error)) from error


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise refuse("robustness", f"a folder with {INDEX}", str(folder), "Run `robustness` first.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["version"]
        check(version == VERSION, str(path), f"version {VERSION}", version, "Read it with a newer hasten.")
        texts = [index["workload"], *index["notes"]]
        texts += [text for part in ("changes", "unavailable") for pair in index[part].items() for text in pair]
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise refuse(str(path), "the index of several studies", f"{type(error).__name__}: {error}") from error
    plain = all(isinstance(text, str) for text in texts) and all(name.isidentifier() for name in index["changes"])
    check(plain, str(path), "texts, and names of subfolders", index)
    return index

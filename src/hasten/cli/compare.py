"""`hasten compare`: which of these pays?"""

from __future__ import annotations

import json as json_
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from . import Interrupted, UsageError, command_line, offline
from .arms import parse_arms
from .expected import plan_text, several_text

__all__ = ["compare"]


def compare(
    workload: str | None = None,
    *,
    arms: str | None = None,
    baseline: str | None = None,
    seeds: int = 5,
    curve: str = "auto",
    duration: str | None = None,
    points: int | None = None,
    mult: float | None = None,
    decay: float | None = None,
    calibrate: bool = False,
    variants: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    budget: str | None = None,
    margin: float | None = None,
    out: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    dry_run: bool = False,
    no_download: Annotated[bool, Parameter(name="--offline")] = False,
    from_: Path | None = None,
    minimize: bool = False,
    json: bool = False,
) -> int:
    """Compare ways to train on a workload, and report which pay, at which budgets, and how sure that is.

    The study lives in a folder; the same command resumes it after an interruption.

    Parameters
    ----------
    workload
        digits, charlm, fashion_mnist, cifar10, cifar10_jpeg, shakespeare, sst2, wikitext2_small, or a Python file of
        your own.
    arms
        For example 'base,blur=blurpool,both=blurpool+label_smoothing(0.1)'. The first is the baseline.
    baseline
        The arm that the others are compared with.
    seeds
        Seeds per arm.
    curve
        auto, cyclic (one run gives every point), separate (one run per point) or branch (a trunk, a decay per point).
    duration
        Training length: 15ep, 500step, 2e6tok.
    points
        Budgets on the curve.
    mult
        Ratio of successive cycle lengths.
    decay
        With branch curves: the share of every budget that decays.
    calibrate
        Also run the baseline in the other kinds of curve, and report what the kind does to its levels.
    variants
        Ask the same of variants of the workload: does the verdict survive? All, or among width, activation, norm,
        label_noise, batch.
    budget
        Wall time: 90s, 10min, 2h. A seed that is not expected to fit is not started.
    margin
        The loss in the metric that you would accept.
    out
        The study's folder.
    workers
        Processes (default: physical cores).
    device
        cpu or cuda.
    dry_run
        Print what would run, and stop.
    no_download
        Never download data.
    from_
        Statistics on your own logs instead: a CSV file with the columns arm, seed, time, metric.
    minimize
        With --from: a lower metric is better.
    json
        Print the result as JSON on standard output.
    """
    offline(no_download)
    if from_ is not None:
        _refuse_beside_logs(
            workload=workload, arms=arms, budget=budget, out=out, dry_run=dry_run or None, variants=variants,
            calibrate=calibrate or None, decay=decay, duration=duration, points=points, mult=mult, workers=workers,
            seeds=None if seeds == 5 else seeds, curve=None if curve == "auto" else curve,
            device=None if device == "cpu" else device,
        )  # fmt: skip
        return _from_logs(from_, baseline=baseline, margin=margin, minimize=minimize, as_json=json)
    if workload is None:
        raise UsageError("compare: expected a workload. For example: hasten compare digits")
    if minimize:
        raise UsageError("compare: expected --minimize with --from only. A workload says MINIMIZE = True in its file.")
    _check_settings(budget, margin, workers)
    asked = {
        "baseline": baseline, "seeds": seeds, "curve": curve, "duration": duration, "points": points, "mult": mult,
        "decay": decay, "calibrate": calibrate, "device": device,
    }  # fmt: skip
    running = {"budget": budget, "margin": margin, "out": out, "workers": workers}
    if variants is not None:
        return _survive(workload, arms, variants, asked, running, dry_run=dry_run, as_json=json)
    return _study(_plan(workload, arms, **asked), running, dry_run=dry_run, as_json=json)


def _study(plan: Any, running: dict[str, Any], *, dry_run: bool, as_json: bool) -> int:
    """Run one study and show what it says."""
    from hasten.bench.report.export import to_json
    from hasten.bench.report.terminal import table
    from hasten.bench.study import run_study

    print(plan_text(plan, running["budget"], running["workers"]), file=sys.stderr)
    if dry_run:
        return _planned([plan], as_json)
    study = run_study(plan, **running, command=command_line())
    page = study.report()
    _show(study.data, table, to_json if as_json else None)
    print(f"Report: {page}", file=sys.stderr)
    return _status(study.status, [study])


def _survive(
    workload: str, arms: str | None, names: list[str], asked: dict[str, Any], running: dict[str, Any], *, dry_run: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Run a study and those of the workload's variants, and show which verdicts survive."""
    from hasten.bench.robustness import plan_robustness, run
    from hasten.bench.survival import table

    plans = _plan(workload, arms, planner=plan_robustness, names=",".join(names) or None, **asked)
    print(plan_text(plans.original, None, running["workers"]), file=sys.stderr)
    print(f"{plans.text()}\n{several_text(plans, running['budget'], running['workers'])}", file=sys.stderr)
    if dry_run:
        return _planned(list(plans.every().values()), as_json)
    found = run(plans, **running, command=command_line())
    pages = found.reports()
    _show(found.data, table, (lambda data: found.to_json()) if as_json else None)
    print(f"Reports: {', '.join(map(str, pages))}", file=sys.stderr)
    return _status(found.status, list(found.studies.values()))


def _planned(plans: list[Any], as_json: bool) -> int:
    """The end of a dry run; as JSON one object per study."""
    if as_json:
        from hasten.bench.results import describe

        shown = [{**describe(plan), "runs": len(plan.jobs()), "steps": plan.steps()} for plan in plans]
        print(json_.dumps([{key: study[key] for key in _PLANNED} for study in shown], indent=1))
    return 0


_PLANNED = ("title", "workload", "curve", "curve_reason", "baseline", "seeds", "duration", "budgets", "ends", "metric",
            "minimize", "runs", "steps")  # fmt: skip


def _status(status: str, studies: list[Any]) -> int:
    """The exit status of one study or several."""
    if status == "interrupted":
        raise Interrupted
    if any(study.status == "budget" and _complete_seeds(study) < 3 for study in studies):
        return 3
    return 0 if studies and all(map(_comparable, studies)) else 1


def _refuse_beside_logs(**given: Any) -> None:
    """Options that logs cannot follow are refused, not ignored."""
    for name, value in given.items():
        if value is not None:
            word = name if name == "workload" else f"--{name.replace('_', '-')}"
            raise UsageError(f"compare: expected no {word} beside --from, which only reads the file.")


def _check_settings(budget: str | None, margin: float | None, workers: int | None) -> None:
    """What concerns the running and not the plan, checked before anything is done."""
    from hasten._core.clock import parse_seconds
    from hasten.bench.study import check_margin, workers_of

    try:
        if budget is not None:
            parse_seconds(budget)
        check_margin(margin)
        workers_of(workers, "cpu")
    except ValueError as error:
        raise UsageError(str(error)) from error


def _plan(workload: str, arms: str | None, *, planner: Any = None, **options: Any) -> Any:
    """The checked plan (of several studies, by their planner); whatever is wrong is a matter of usage, nothing ran."""
    from hasten.bench.study import check_pair, plan_study
    from hasten.bench.workloads import arms_of, load, module_of

    try:
        loaded = load(workload)
        text = arms if arms is not None else arms_of(loaded)
        plan = (planner or plan_study)(loaded, parse_arms(text, module_of(loaded)), **options)
        if planner is None:
            check_pair(plan)
        return plan
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def _comparable(study: Any) -> bool:
    """Whether the baseline and some other arm finished a run; if not, nothing was compared."""
    finished = {run["arm"] for run in study.data["runs"] if run["status"] == "done"}
    return study.data["study"]["baseline"] in finished and len(finished) > 1


def _complete_seeds(study: Any) -> int:
    """The smallest number of seeds, over the arms, of which every run has ended."""
    asked = study.data["study"]
    runs = len(asked["ends"]) if asked["curve"] == "separate" else 1
    ended = Counter((run["arm"], run["seed"]) for run in study.data["runs"] if run["counts"])
    complete = [arm for (arm, _), count in ended.items() if count >= runs]
    return min(complete.count(arm["name"]) for arm in asked["arms"])


def _from_logs(path: Path, *, baseline: str | None, margin: float | None, minimize: bool, as_json: bool) -> int:
    from hasten.bench.results import data_from_logs

    if not path.is_file():
        raise UsageError(f"compare --from: expected a CSV file that exists, got {str(path)!r}.")
    try:
        data = data_from_logs(path, baseline=baseline, margin=margin, minimize=minimize)
    except UnicodeDecodeError as error:
        raise UsageError(f"compare --from: expected a CSV file in UTF-8, got other bytes in {path}.") from error
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    from hasten.bench.report.export import to_json
    from hasten.bench.report.terminal import table

    _show(data, table, to_json if as_json else None)
    return 0


def _show(data: dict[str, Any], table: Any, to_json: Any) -> None:
    """Print the answer: as a table for this terminal, or as JSON where `to_json` is given."""
    if to_json is not None:
        print(to_json(data))
        return
    terminal = sys.stdout.isatty()
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    width = shutil.get_terminal_size().columns if terminal else 100
    print(table(data, width=width, color=terminal and "NO_COLOR" not in os.environ, unicode=unicode))

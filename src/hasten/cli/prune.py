"""`hasten prune`: which pruning strategy keeps most, at equal compression, equal work and equal time?"""

from __future__ import annotations

import json as json_
import os
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from . import Interrupted, UsageError, command_line, offline
from .expected import span

__all__ = ["prune"]

UNMARKED = "  no classifier found: the last layer is pruned, too, unless it has is_classifier = True"
BESIDE = 0.4  # seconds that a run takes besides: its sizes and times, and how fast the machine is


def prune(
    workload: str | None = None,
    *,
    strategies: str | None = None,
    ratios: str | None = None,
    seeds: int = 3,
    train: str | None = None,
    finetune: str | None = None,
    rate: float | None = None,
    pattern: str | None = None,
    budget: str | None = None,
    out: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    dry_run: bool = False,
    no_download: Annotated[bool, Parameter(name="--offline")] = False,
    json: bool = False,
) -> int:
    """Prune a workload's model by several strategies to several ratios, and report what each costs and saves.

    Every strategy begins with the same trained weights and trains on for as long. Random pruning, the unpruned model
    trained on and narrower dense models are always compared too. The study lives in a folder; the same command resumes
    it after an interruption.

    Parameters
    ----------
    workload
        digits, charlm, fashion_mnist, cifar10, cifar10_jpeg, shakespeare, sst2, wikitext2_small, or a Python file of
        your own.
    strategies
        For example random,global_magnitude,lamp. Random pruning is added.
    ratios
        Compression ratios, such as 1,2,4,8: parameters of the whole model / those that are left.
    seeds
        Seeds per strategy and ratio.
    train
        Length of the dense training: 5ep, 500step, 2e6tok (default: the workload's).
    finetune
        Length of training on after pruning (default: a fifth of the training).
    rate
        Learning rate of training on, as a share of the training's.
    pattern
        Which sets of entries are kept or masked together: unstructured, block(4,4), channel, head.
    budget
        Wall time: 90s, 10min, 2h. A seed that is not expected to fit is not started.
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
    json
        Print the result as JSON on standard output.
    """
    from hasten.bench.pruning import run_prune
    from hasten.bench.pruning.terminal import table

    offline(no_download)
    if workload is None:
        raise UsageError("prune: expected a workload. For example: hasten prune digits")
    given = {
        "strategies": None if strategies is None else _names(strategies),
        "ratios": None if ratios is None else _numbers(ratios),
        "seeds": seeds, "train": train, "finetune": finetune, "rate": rate, "pattern": pattern, "device": device,
    }  # fmt: skip
    plan = _plan(workload, budget, workers, {name: value for name, value in given.items() if value is not None})
    print(_plan_text(plan, budget, workers), file=sys.stderr)
    if dry_run:
        return _planned(plan, json)
    study = run_prune(plan, budget=budget, out=out, workers=workers, command=command_line())
    page = study.report()
    if json:
        print(study.json(), end="")
    else:
        _show(study.data, table)
    print(f"Report: {page}", file=sys.stderr)
    return _status(study)


def _names(text: str) -> list[str]:
    """The strategies; commas inside parentheses are arguments."""
    from .arms import split

    return split(text, "--strategies")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--ratios: expected numbers such as 1,2,4,8, got {text!r}.") from None


def _plan(workload: str, budget: str | None, workers: int | None, options: dict[str, Any]) -> Any:
    """The checked plan; whatever is wrong is a matter of usage, nothing ran."""
    from hasten._core.clock import parse_seconds
    from hasten.bench.pruning import plan_prune
    from hasten.bench.study import workers_of
    from hasten.prune import NoClassifierWarning

    try:
        if budget is not None:
            parse_seconds(budget)
        workers_of(workers, "cpu", "hasten prune")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoClassifierWarning)  # the text of the plan says it
            return plan_prune(workload, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def _plan_text(plan: Any, budget: str | None, workers: int | None) -> str:
    """Strategies, ratios, controls, runs, expected time, in a few lines."""
    from hasten.bench.estimate import costs
    from hasten.bench.study import workers_of

    total, prunable = plan.parameters
    jobs, seeds, steps = plan.jobs(), len(plan.seeds), plan.steps
    ratios = ", ".join(f"{ratio:g}" for ratio in plan.ratios)
    narrow = "; ".join(f"{one.change} ({one.parameters:,} parameters)" for one in plan.smaller.values())
    processes = workers_of(workers, plan.device)
    found = costs(plan.start, plan.workload, plan.device, plan.steps[0])
    lines = [
        f"{plan.workload.name}: {plan.workload.summary}" if plan.workload.summary else plan.workload.name,
        f"  {total:,} parameters, {prunable:,} of them prunable; {plan.pattern}",
        *([] if plan.classifier else [UNMARKED]),
        f"  strategies: {', '.join(plan.strategies)}",
        f"  compression ratios: {ratios} (1 is the unpruned control)",
        f"  smaller dense controls: {narrow or f'none, {plan.without_smaller}'}",
        f"{len(jobs)} runs over {seeds} seed{'s' * (seeds > 1)}, {plan.total_steps():,} steps: {steps[0]:,} of "
        f"training, {steps[1]:,} of training on after pruning",
        f"the epoch is chosen on {plan.held_out[0]:,} held-out training samples by {plan.held_out[1]}",
    ]
    if found is None:
        return "\n".join([*lines, "expected: unknown; the model could not take a few steps here"])
    seconds = (found.step * plan.total_steps() + (2 * found.evaluation + BESIDE) * len(jobs)) / processes
    limit, word = f", budget {budget}" if budget else "", "processes" if processes > 1 else "process"
    lines.append(f"expected: about {span(seconds)} on {processes} {word}{limit}, and some to start")
    return "\n".join(lines)


def _planned(plan: Any, as_json: bool) -> int:
    """The end of a dry run."""
    if as_json:
        from hasten.bench.pruning.results import describe

        print(json_.dumps({**describe(plan), "runs": len(plan.jobs()), "total_steps": plan.total_steps()}, indent=1))
    return 0


def _status(study: Any) -> int:
    """The exit status: interrupted, budget over before three seeds were complete, nothing finished, done."""
    if study.status == "interrupted":
        raise Interrupted
    asked = study.data["study"]
    done = Counter(run["seed"] for run in study.rows() if run["status"] == "done" and run["arm"] in asked["strategies"])
    wanted = len(asked["strategies"]) * (len(asked["ratios"]) - 1)
    complete = sum(count == wanted for count in done.values())
    if study.status == "budget" and complete < 3:
        return 3
    return 0 if done else 1


def _show(data: dict[str, Any], table: Any) -> None:
    """Print the table for this terminal."""
    terminal = sys.stdout.isatty()
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    width = shutil.get_terminal_size().columns if terminal else 100
    print(table(data, width=width, color=terminal and "NO_COLOR" not in os.environ, unicode=unicode))

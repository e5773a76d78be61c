"""What a study is expected to cost, in words, before it runs."""

from __future__ import annotations

from typing import Any

__all__ = ["plan_text", "several_text", "span"]


def plan_text(plan: Any, budget: str | None, workers: int | None) -> str:
    """Arms, runs, curve, expected time and disk, in a few lines."""
    jobs = plan.jobs()
    lines = [f"{plan.workload.name}: {plan.workload.summary}"] if plan.workload.summary else [plan.workload.name]
    for name, program in plan.arms.items():
        methods = " + ".join(str(method) for method in program.methods) or "the baseline program"
        lines.append(f"  {name}: {methods}")
    lines.append(f"{len(jobs)} runs over {len(plan.seeds)} seeds, {plan.steps():,} steps; {plan.reason}")
    if plan.controls:
        kinds = " and ".join(control.curve.kind for control in plan.controls)
        lines.append(f"among them to calibrate: {plan.baseline} in {kinds} curves")
    lines.append(f"budgets: {', '.join(plan.budgets())}")
    lines.append(_expectation(plan, budget, workers))
    return "\n".join(lines)


def _expectation(plan: Any, budget: str | None, workers: int | None) -> str:
    from hasten.bench.estimate import estimate
    from hasten.bench.study import workers_of

    processes = workers_of(workers, plan.device)
    found = estimate(plan)
    if found is None:
        return "expected: unknown; the baseline could not take a few steps here"
    megabytes = (found.checkpoint_bytes * processes + 4096 * len(plan.jobs())) / 1e6
    limit, word = f", budget {budget}" if budget else "", "processes" if processes > 1 else "process"
    return (
        f"expected: about {span(found.seconds / processes)} on {processes} {word}{limit}, and some to start; "
        f"{megabytes:.1f} MB of disk"
    )


def span(seconds: float) -> str:
    """A time in words."""
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def several_text(plans: Any, budget: str | None, workers: int | None) -> str:
    """The expected time of all studies of a workload's variants, in a line."""
    from hasten.bench.study import workers_of

    seconds, processes = plans.seconds(), workers_of(workers, plans.original.device)
    if seconds is None:
        return "expected for all: unknown; a baseline could not take a few steps here"
    return f"expected for all: about {span(seconds / processes)}{f', budget {budget}' if budget else ''}"

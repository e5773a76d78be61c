"""`hasten.compare`: which of these pays, on this workload, on this machine, and how sure are we?"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hasten._core.checks import check, finite, refuse
from hasten._core.clock import parse_seconds
from hasten._core.machine import logical_cores, physical_cores

from .archive import opened
from .driver import Driver, Settings
from .energy import why_absent
from .environment import digest, environment
from .plan import Arms, Plan, make_plan
from .progress import Progress
from .results import curves_of, describe, study_data
from .store import FILE, Store
from .workloads import Workload, load

__all__ = ["Study", "compare", "open_study", "plan_study", "run_study"]


class Study:
    """A study on disk and what it says. Made by `hasten.compare` and `open_study`."""

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder, self.data = folder, data

    @property
    def status(self) -> str:
        """ "complete", "budget" (ended early), "interrupted" or "running"."""
        return str(self.data["study"]["status"])

    @property
    def analysis(self) -> dict[str, Any] | None:
        """The statistics as plain data (`hasten.bench.stats`), or None while there is no complete pair of runs."""
        return self.data["analysis"]

    def verdicts(self) -> dict[str, str]:
        """Arm -> its verdict in plain words."""
        return {arm["name"]: arm["sentence"] for arm in (self.analysis or {"arms": []})["arms"]}

    def rows(self) -> list[dict[str, Any]]:
        """One row per run and point that counts, for your own analysis."""
        return [
            {"arm": run["arm"], "seed": run["seed"], **point}
            for run in self.data["runs"]
            if run["counts"]
            for point in run["points"]
        ]

    def table(self, width: int = 100) -> str:
        """The terminal report as plain text."""
        from .report.terminal import table

        return table(self.data, width=width, color=False, unicode=True)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one self-contained HTML page; beside it nothing.

        Default: `report.html` in the folder; of an archive its name with `.html`, beside it.
        """
        from .report.export import write_report

        default = self.folder.with_suffix(".html") if self.folder.is_file() else self.folder / "report.html"
        target = Path(path) if path is not None else default
        write_report(self.data, target)
        return target

    def __repr__(self) -> str:
        return f"<Study {self.data['study']['title']!r}, {self.status}, in {self.folder}>"


def plan_study(workload: str | Path | Workload, arms: Arms, **options: Any) -> Plan:
    """Check a study and lay it out without running it (see `compare` for the arguments)."""
    return make_plan(load(workload), arms, **options)


def compare(
    workload: str | Path | Workload,
    arms: Arms,
    *,
    seeds: int | Sequence[int] = 5,
    baseline: str | None = None,
    curve: str = "auto",
    duration: str | None = None,
    points: int | None = None,
    mult: float | None = None,
    decay: float | None = None,
    calibrate: bool = False,
    budget: str | float | None = None,
    margin: float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> Study:
    """Train every arm from several seeds, measure whole accuracy-versus-time curves, and say which arm pays.

    Arms with the same seed see the same initial weights, data order and draws, so every comparison is paired. Runs are
    interleaved over one single-threaded process per core. The study lives in a folder: the same call resumes it.

    Args:
        workload: the name of a built-in workload, or the path of a Python file (`hasten new workload` writes one).
        arms: name -> list of methods (or a `Program`). The first is the baseline unless `baseline` names another.
        seeds: how many, or which.
        baseline: the arm that the others are compared with.
        curve: "cyclic" (one run yields every point), "separate" (one run per point), "branch" (one trunk at a constant
            rate, a decay of its own for every point), or "auto": cyclic unless an arm does something that a cyclic run
            cannot show.
        duration: training length such as "15ep"; default: the workload's.
        points: budgets on the curve; default: the workload's.
        mult: ratio of successive cycle lengths, at least 1; default: the workload's.
        decay: of a branch curve, the share of every budget (after the warm-up) that decays, in (0, 1); default 0.2.
        calibrate: also run the baseline in the two other kinds of curve, to see what the kind does to the levels.
        budget: wall time such as "10min"; a seed that is not expected to fit is not started.
        margin: the loss in the metric that you would accept, given beforehand, for "no loss" statements.
        out: the study's folder; default `runs/<workload>-<8 hex digits of the question>`.
        workers: processes; default: the number of physical cores.
        device: "cpu" or "cuda".
        quiet: no progress, notes only.

    Returns:
        The study: `print(study.table())`, `study.verdicts()`, `study.report("report.html")`.

    Raises:
        ValueError, TypeError: arms that conflict, a method that finds nothing to change, an unknown workload.
        StoreError: a folder that holds another study or cannot be written.

    Example:
        >>> import hasten
        >>> from hasten.methods import blurpool
        >>> study = hasten.compare("digits", {"base": [], "blur": [blurpool()]}, seeds=5)  # doctest: +SKIP
        >>> study.verdicts()["blur"]  # doctest: +SKIP
    """
    plan = plan_study(
        workload, arms, seeds=seeds, baseline=baseline, curve=curve, duration=duration, points=points, mult=mult,
        decay=decay, calibrate=calibrate, device=device,
    )  # fmt: skip
    check_pair(plan)
    return run_study(plan, budget=budget, margin=margin, out=out, workers=workers, quiet=quiet)


def run_study(
    plan: Plan,
    *,
    budget: str | float | None = None,
    margin: float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
    command: str | None = None,
    checkpoint_seconds: float = 20.0,
    retry_drifted: bool = True,
) -> Study:
    """Run a plan (see `compare`); `command` is what the report shows as its origin."""
    check_margin(margin)
    settings = Settings(
        workers=workers_of(workers, plan.device),
        budget=None if budget is None else parse_seconds(budget),
        checkpoint_seconds=checkpoint_seconds,
        retry_drifted=retry_drifted,
    )
    folder = Path(out) if out is not None else default_folder(plan)
    progress = Progress(quiet=quiet)
    _check_folder(folder)
    store = Store(folder)
    try:
        driver = Driver(plan, store, settings, progress)
        margin = _first_margin(store, margin)
        store.put("plan", describe(plan))
        if plan.controls or store.get("curves") is None:  # a study keeps the controls it was once given
            store.put("curves", curves_of(plan))
        store.put("title", describe(plan)["title"])
        store.put("environment_digest", digest(environment(plan.device)))
        store.put("energy", why_absent(plan.device, settings.workers) or "measured")
        store.put("command", command)
        store.put("margin", margin)
        power = power_of(plan)
        store.put("power", power)
        if power and not quiet:
            progress.note(power["text"])
        driver.run()
        return Study(folder, study_data(store))
    finally:
        store.close()


def check_pair(plan: Plan) -> None:
    """Refuse a comparison of one arm before it has cost anything."""
    fix = "Add an arm to compare, for example {'base': [], 'blur': [blurpool()]}."
    check(len(plan.arms) >= 2, "compare", "at least two arms", list(plan.arms), fix)


def _check_folder(folder: Path) -> None:
    """Never write into a folder that holds something else: its files might carry our names."""
    if folder.is_dir() and not (folder / FILE).exists() and (folder / "report.html").exists():
        fix = "Pass another folder with --out."
        raise refuse("compare", "an empty folder or a study's", f"{folder} with a report.html of something else", fix)


def _first_margin(store: Store, margin: float | None) -> float | None:
    """The margin of a study is decided before its runs: a later one is refused; `hasten report --margin` shows it."""
    known, begun = store.get("margin"), store.get("plan") is not None
    if begun and margin is not None and margin != known:
        fix = "Leave --margin out, or see another one with: hasten report --margin."
        raise refuse("compare", f"the margin this study began with ({known})", margin, fix)
    return known if begun else margin


def check_margin(margin: float | None) -> None:
    """Refuse a margin that is no loss; checked before anything runs or is read."""
    if margin is not None:
        check(finite("compare", "margin", margin) >= 0, "compare", "margin >= 0", margin, "Pass the loss you accept.")


def workers_of(asked: int | None, device: str, verb: str = "compare") -> int:
    """How many processes: as asked, else one per physical core, and one on a GPU."""
    if asked is not None:
        check(asked >= 1, verb, "workers >= 1", asked)
        return asked
    return 1 if device != "cpu" else physical_cores() or logical_cores()


def default_folder(plan: Plan) -> Path:
    """`runs/<workload>-<8 hex digits>`: the same question finds its folder again."""
    return Path("runs") / f"{plan.workload.name}-{plan.identity()[:8]}"


def power_of(plan: Plan) -> dict[str, Any] | None:
    """What the study can detect, from the spread that a record measured on this workload; None if none did."""
    sd, others, seeds = plan.workload.paired_sd, len(plan.arms) - 1, len(plan.seeds)
    if sd is None or not others or seeds < 2:
        return None
    from .stats.power import plan as power

    found = power(seeds=seeds, arms=others, budgets=len(plan.curve.ends), targets=3, sd_metric=sd)
    return {"text": found.text(), "mde": {"metric": found.metric_family, "alone": found.metric_alone}}


def open_study(folder: str | Path, *, margin: float | None = None) -> Study:
    """The study in a folder or in an archive of `hasten archive`, as far as it has come.

    Nothing that it names is imported.
    """
    check_margin(margin)
    with opened(folder) as place, contextlib.closing(Store(place, read_only=True)) as store:
        if store.get("plan") is None:
            pruning = store.get("pruning") is not None
            fix = "Open it alone: hasten report FOLDER." if pruning else "Run `hasten compare` first."
            got = f"{folder}, a study of hasten prune" if pruning else str(folder)
            raise refuse("report", "a study that has begun", got, fix)
        return Study(Path(folder), study_data(store, margin=margin))

"""`hasten.prune_curve`: which pruning strategy keeps most, at equal compression, equal work and equal time?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hasten._core.checks import refuse
from hasten._core.clock import parse_seconds

from ..archive import opened
from ..driver import Driver, Settings
from ..durable import write_atomically
from ..environment import digest, environment
from ..progress import Progress
from ..store import FILE, Store
from ..study import workers_of
from ..workloads import Workload, load
from .plan import PATTERN, RATE, STRATEGIES, PrunePlan, make_prune_plan
from .results import describe, prune_data

__all__ = ["PruneStudy", "is_prune_study", "open_prune_study", "plan_prune", "prune_curve", "run_prune"]

FACT = "pruning"  # the fact of the store that only these studies have


class PruneStudy:
    """A pruning study on disk and what it says. Made by `hasten.prune_curve` and `open_prune_study`."""

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder, self.data = folder, data

    @property
    def status(self) -> str:
        """ "complete", "budget" (ended early), "interrupted" or "running"."""
        return str(self.data["study"]["status"])

    def rows(self) -> list[dict[str, Any]]:
        """One row per run that counts, for your own analysis."""
        return [run for run in self.data["runs"] if run["counts"]]

    def curves(self) -> list[dict[str, Any]]:
        """One row per arm and ratio: means over seeds with their intervals, sizes, work and time."""
        return list(self.data["rows"])

    def sentences(self) -> list[str]:
        """What was found, in plain words."""
        from .words import answer

        return answer(self.data)

    def table(self, width: int = 100) -> str:
        """The terminal report as plain text."""
        from .terminal import table

        return table(self.data, width=width, color=False, unicode=True)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one self-contained HTML page; default: `report.html` in the folder."""
        from .page import render

        default = self.folder.with_suffix(".html") if self.folder.is_file() else self.folder / "report.html"
        target = Path(path) if path is not None else default
        write_atomically(target, render(self.data).encode())
        return target

    def json(self) -> str:
        """Everything as JSON; the same study gives the same text."""
        return json.dumps(self.data, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"

    def __repr__(self) -> str:
        return f"<PruneStudy {self.data['study']['title']!r}, {self.status}, in {self.folder}>"


def plan_prune(workload: str | Path | Workload, **options: Any) -> PrunePlan:
    """Check a pruning study and lay it out without training anything (see `prune_curve` for the arguments)."""
    return make_prune_plan(load(workload), **options)


def prune_curve(
    workload: str | Path | Workload,
    strategies: Sequence[str] = STRATEGIES,
    *,
    ratios: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    train: str | None = None,
    finetune: str | None = None,
    rate: float = RATE,
    pattern: str = PATTERN,
    budget: str | float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> PruneStudy:
    """Prune by every strategy to every ratio from the same weights, train on for as long, and compare honestly.

    Per seed one dense model is trained; everything else of the seed begins with its weights. Random pruning, the
    unpruned model trained on for as long, and narrower dense models trained from scratch for both lengths together are
    always among what is compared. The epoch is chosen on samples held out of the training data, and results are on the
    test data. The study lives in a folder: the same call resumes it.

    Args:
        workload: the name of a built-in workload, or the path of a Python file.
        strategies: names of `hasten.prune.strategies`, each with a pattern of its own where it is written
            `channel_l2@channel`.
        ratios: compression ratios, at least 1: parameters of the whole model / those that are left. Default: 1, 2, 4,
            8, 16, 32, as far as the model can be pruned.
        seeds: how many, or which.
        train: length of the dense training, such as "5ep"; default: the workload's.
        finetune: length of training on; default: the workload's, or a fifth of `train`.
        rate: learning rate of training on, as a share of the training's; it falls to 0 along a cosine.
        pattern: which sets of entries are kept or masked together: "unstructured", "block(4,4)", "channel", "head".
        budget: wall time such as "10min"; a seed that is not expected to fit is not started.
        out: the study's folder; default `runs/<workload>-prune-<8 hex digits of the question>`.
        workers: processes; default: the number of physical cores.
        device: "cpu" or "cuda".
        quiet: no progress, notes only.

    Returns:
        The study: `print(study.table())`, `study.sentences()`, `study.report("report.html")`.

    Raises:
        ValueError, TypeError: an unknown strategy, a ratio that cannot be reached (the message says the largest), a
            model without prunable layers.
        StoreError: a folder that holds another study or cannot be written.

    Example:
        >>> import hasten
        >>> study = hasten.prune_curve("digits", ["random", "global_magnitude"], ratios=[2, 8])  # doctest: +SKIP
        >>> print(study.table())  # doctest: +SKIP

    Source: the protocol of arXiv 2003.03033.
    """
    plan = plan_prune(
        workload, strategies=strategies, ratios=ratios, seeds=seeds, train=train, finetune=finetune, rate=rate,
        pattern=pattern, device=device,
    )  # fmt: skip
    return run_prune(plan, budget=budget, out=out, workers=workers, quiet=quiet)


def run_prune(
    plan: PrunePlan,
    *,
    budget: str | float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
    command: str | None = None,
    checkpoint_seconds: float = 20.0,
) -> PruneStudy:
    """Run a plan (see `prune_curve`); `command` is what the report shows as its origin."""
    settings = Settings(
        workers=workers_of(workers, plan.device, "hasten prune"),
        budget=None if budget is None else parse_seconds(budget),
        checkpoint_seconds=checkpoint_seconds,
        retry_drifted=False,  # times are ratios of models that took turns
    )
    folder = Path(out) if out is not None else default_folder(plan)
    if folder.is_dir() and not (folder / FILE).exists() and (folder / "report.html").exists():
        got = f"{folder} with a report.html of something else"
        raise refuse("hasten prune", "an empty folder or a study's", got, "Pass another folder with --out.")
    with contextlib.closing(Store(folder)) as store:
        driver = Driver(plan, store, settings, Progress(quiet=quiet))
        for name, value in {
            FACT: describe(plan),
            "title": describe(plan)["title"],
            "environment_digest": digest(environment(plan.device)),
            "command": command,
        }.items():
            store.put(name, value)
        driver.run()
        return PruneStudy(folder, prune_data(store))


def default_folder(plan: PrunePlan) -> Path:
    """`runs/<workload>-prune-<8 hex digits>`: the same question finds its folder again."""
    return Path("runs") / f"{plan.workload.name}-prune-{plan.identity()[:8]}"


def is_prune_study(folder: str | Path) -> bool:
    """Whether a folder or an archive holds a pruning study."""
    with opened(folder) as place, contextlib.closing(Store(place, read_only=True)) as store:
        return store.get(FACT) is not None


def open_prune_study(folder: str | Path) -> PruneStudy:
    """The pruning study in a folder, as far as it has come. Nothing that it names is imported."""
    with opened(folder) as place, contextlib.closing(Store(place, read_only=True)) as store:
        if store.get(FACT) is None:
            raise refuse("report", "a pruning study", str(folder), "Run `hasten prune` first.")
        return PruneStudy(Path(folder), prune_data(store))

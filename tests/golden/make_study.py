"""Makes `study-schema-1/`, a synthetic study as schema 1 writes it: two arms, four seeds, every way a run can end.

The study must stay readable for ever, so the files are made once per schema: `python -m tests.golden.make_study`.
`expected.json` is what was written, `expected-report.json` what the report of that version says of it.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("study-schema-1")
TINY = Path(__file__).parents[1] / "bench" / "tiny.py"


def result(seconds: float, **data: Any) -> dict[str, Any]:
    """What a worker says at the end of a run."""
    phases = ("setup", "loader", "batch", "forward", "backward", "optimizer", "hooks")
    return {
        "phases": {name: round(0.1 * seconds * (k + 1), 3) for k, name in enumerate(phases)},
        "excluded": {"data": 0.01, "evaluation": 0.02, "checkpoint": 0.03, "counting": 0.04, "reporting": 0.005},
        "scored_samples": 0,
        "inference": {"ms": 0.25, "flops": 1024.0},
        "parameters": 131,
        "weights": "0123456789abcdef",
        "resumed": False,
        "stopped": False,
        "calibration": {"before": 0.01, "after": 0.011},
        **data,
    }


def make() -> None:
    """Write the study and what must be read from it."""
    from hasten.bench.book import Book
    from hasten.bench.results import describe
    from hasten.bench.store import Store
    from hasten.bench.study import plan_study
    from hasten.methods import label_smoothing

    plan = plan_study(TINY, {"base": [], "smooth": [label_smoothing(0.1)]}, seeds=4)
    store = Store(FOLDER)
    environment = {"python": "3.11.0", "torch": "2.6.0", "numpy": "1.26.4", "threads": 1, "device": "cpu"}
    facts = {
        "identity": plan.identity(),
        "machine": {"system": "Synthetic 1.0", "processor": "None", "cores": 2, "load at start": 0.5},
        "created": "2026-01-02 03:04:05",
        "environment": environment,
        "environment_digest": "e" * 16,
        "plan": describe(plan),
        "title": describe(plan)["title"],
        "command": "hasten compare tiny.py",
        "margin": None,
        "power": None,
        "notes": ["a note"],
        "status": "complete",
    }
    for name, value in facts.items():
        store.put(name, value)
    book = Book(plan, store, "e" * 16)
    for job in plan.jobs():
        gain = 0.03 * (job.arm == "smooth")
        points = [
            {"point": k, "step": end, "epoch": end / 8, "seconds": 0.01 * end + 0.001 * job.seed, "flops": 1e5 * end,
             "metric": 0.5 + 0.1 * k + 0.01 * job.seed + gain, "train_loss": 1.0 / (k + 1), "memory": 10**8}
            for k, end in enumerate(plan.curve.ends)
        ]  # fmt: skip
        endings: list[tuple[str, dict[str, Any], int]] = [("done", result(points[-1]["seconds"]), 3)]
        if (job.arm, job.seed) == ("base", 1):
            endings = [("interrupted", {}, 1), ("done", result(2.0, resumed=True), 3)]
        elif (job.arm, job.seed) == ("smooth", 2):
            slow = {"before": 0.02, "after": 0.03, "ratio": 2.5}
            endings = [("done", result(9.0, drifted=True, calibration=slow), 3), endings[0]]
        elif (job.arm, job.seed) == ("smooth", 3):
            endings = [("failed", {"error": "the training loss became nan at step 40."}, 1)]
        for status, data, count in endings:
            key = book.next_key(job)
            store.put_run(key, status, data)
            for point in points[:count]:
                store.add_point(key, point)
    runs = [{**run, "key": list(run["key"].values())} for run in store.runs()]
    store.close()
    (FOLDER / "study.lock").unlink()
    expected = {"facts": {name: value for name, value in facts.items() if name != "plan"}, "runs": runs}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


COLUMNS = ("arm", "workload", "seed", "point", "step", "epoch", "time", "metric", "attempt", "status", "flags")


def say() -> None:
    """Write what a report says of the study."""
    from hasten.bench.report import to_csv
    from hasten.bench.study import open_study

    study = open_study(FOLDER)
    arms = {arm["name"]: arm for arm in study.data["analysis"]["arms"]}
    effects = {name: [*arm["budgets"], *arm["targets"]] for name, arm in arms.items()}
    expected = {
        "sentences": study.verdicts(),
        "verdicts": {name: [effect["verdict"] for effect in found] for name, found in effects.items()},
        "effects": {name: [effect["value"] for effect in found] for name, found in effects.items()},
        "p_holm": {name: [effect["p_holm"] for effect in found] for name, found in effects.items()},
        "levels": {name: [point["metric"] for point in arm["curve"]] for name, arm in arms.items()},
        "overall": {name: arm["overall"] for name, arm in arms.items()},
        "notes": study.data["notes"],
        "csv": [[row[name] for name in COLUMNS] for row in csv.DictReader(io.StringIO(to_csv(study.data)))],
        "csv_columns": list(COLUMNS),
    }
    (FOLDER / "expected-report.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    make()
    say()

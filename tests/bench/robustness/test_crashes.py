"""Power cuts at every moment of a sequence of writes: what was acknowledged is there, and nothing is damaged.

A small library (`recorder.c`, loaded with LD_PRELOAD) records what a process does to files; `crashes.py` says which
states of the disk its operations allow, and each of them is opened. The same is done with careless writers, which must
be caught: a test that cannot fail shows nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.bench.robustness import crashes
from tests.bench.robustness.tools import HERE, environment

from hasten.bench import checkpoint
from hasten.bench.store import Store, StoreError

PRELUDE = """
import ctypes, json, os, sys
from pathlib import Path
root, how = Path(sys.argv[1]), sys.argv[2]
mark = ctypes.CDLL(None).record_mark
"""

STORE = """
from hasten.bench.store import RunKey, Store

def snapshot():
    names = [name for name, in store.db.execute("SELECT name FROM study ORDER BY name")]
    return {"facts": {name: store.get(name) for name in names},
            "runs": [[list(run["key"].values()), run["status"], run["data"], run["points"]] for run in store.runs()]}

store = Store(root / "runs" / "study")
if how != "as it is":
    store.db.execute(f"PRAGMA synchronous = {how}")
steps = [lambda: store.put("identity", "abc"), lambda: store.put("plan", {"text": "p" * 9000})]
for seed in range(2):
    key = RunKey("base", "f" * 16, "e" * 16, seed, "cyclic:10,20", 0)
    points = [{"point": n, "metric": n / 3, "seconds": n + 0.5} for n in range(2)]
    steps.append(lambda key=key: store.put_run(key, "running", {}))
    steps += [lambda key=key, point=point: store.add_point(key, point) for point in points]
    steps.append(lambda key=key: store.put_run(key, "done", {"phases": {"forward": 0.1}, "text": "d" * 3000}))
steps += [lambda: store.put("plan", {"text": "q" * 5000}), lambda: store.put("status", "complete")]
snapshots = [snapshot()]
mark(0)
for number, step in enumerate(steps, 1):
    step()
    snapshots.append(snapshot())
    mark(number)
print(json.dumps(snapshots))
"""

CHECKPOINT = """
import torch
from hasten.bench import checkpoint, durable

def careless(path, data):
    if how == "in place":
        path.write_bytes(data)
    else:  # "not synced"
        aside = path.with_suffix(".new")
        aside.write_bytes(data)
        os.replace(aside, path)
        durable.sync_folder(path.parent)

if how != "as it is":
    checkpoint.write_atomically = careless
durable.make_folder(root / "checkpoints")
for number in range(3):
    checkpoint.save(root / "checkpoints" / "run.pt", {"step": number, "weights": torch.full((700,), float(number))})
    mark(number)
"""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory) -> Path:
    """The compiled recorder."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    options = ["-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(HERE / "recorder.c"), "-ldl"]
    subprocess.run([compiler, *options], check=True)
    return library


@pytest.fixture
def states(recorder, tmp_path):
    """`states(code, how)`: what the code prints, and every state that a power cut while it ran can leave."""

    def record(code: str, how: str) -> tuple[str, list[tuple[crashes.Tree, int]]]:
        root, log = tmp_path / "recorded", tmp_path / "log"
        root.mkdir()
        spied = {"LD_PRELOAD": str(recorder), "RECORD_ROOT": str(root), "RECORD_LOG": str(log)}
        process = subprocess.run(
            [sys.executable, "-c", PRELUDE + code, str(root), how],
            env={**environment(), **spied},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout, crashes.crash_states(log, root)

    return record


def losses_of_store(found: list[tuple[crashes.Tree, int]], snapshots: list, folder: Path) -> list[str]:
    """What is wrong in which state."""
    wrong = []
    for number, (tree, acknowledged) in enumerate(found):
        root = folder / str(number)
        crashes.write(tree, root)
        try:
            content = content_of(root / "runs" / "study")
        except (StoreError, ValueError) as error:
            wrong.append(f"state {number}: {error}")
            continue
        if content not in snapshots[max(0, acknowledged) :]:
            facts, runs = sorted(content["facts"]), len(content["runs"])
            wrong.append(f"state {number}: {acknowledged} writes were acknowledged, found {facts} and {runs} runs")
        shutil.rmtree(root)
    return wrong


def content_of(folder: Path) -> dict[str, Any]:
    """Everything that a store holds."""
    store = Store(folder)
    try:
        names = [name for (name,) in store.db.execute("SELECT name FROM study ORDER BY name")]
        facts = {name: store.get(name) for name in names}
        runs = [[list(run["key"].values()), run["status"], run["data"], run["points"]] for run in store.runs()]
        return {"facts": facts, "runs": runs}
    finally:
        store.close()


@pytest.mark.parametrize("how", ["as it is", "FULL"])
def test_a_power_cut_loses_no_write_that_the_store_acknowledged(states, tmp_path, how):
    printed, found = states(STORE, how)
    wrong = losses_of_store(found, json.loads(printed), tmp_path)
    print(f"store, {how}: {len(found)} states, {len(wrong)} of them wrong")
    assert len(found) > 100
    if how == "as it is":
        assert wrong == []
    else:  # FULL does not sync the removal of the journal, so that a committed write may be rolled back
        assert wrong


def losses_of_checkpoint(found: list[tuple[crashes.Tree, int]], folder: Path) -> list[str]:
    wrong = []
    for number, (tree, acknowledged) in enumerate(found):
        root = folder / str(number)
        crashes.write(tree, root)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                state = checkpoint.load(root / "checkpoints" / "run.pt")
            except RuntimeWarning as warning:
                wrong.append(f"state {number}: {warning}")
                continue
        step = -1 if state is None else state["step"]
        whole = state is None or torch.equal(state["weights"], torch.full((700,), float(step)))
        if step < acknowledged or not whole:
            wrong.append(f"state {number}: {acknowledged} was acknowledged, found {step}, whole: {whole}")
        shutil.rmtree(root)
    return wrong


@pytest.mark.parametrize("how", ["as it is", "in place", "not synced"])
def test_a_power_cut_leaves_the_old_or_the_new_checkpoint(states, tmp_path, how):
    _, found = states(CHECKPOINT, how)
    wrong = losses_of_checkpoint(found, tmp_path)
    print(f"checkpoint, {how}: {len(found)} states, {len(wrong)} of them wrong")
    assert len(found) > 8
    assert bool(wrong) is (how != "as it is")

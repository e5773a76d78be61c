"""Run a function in several processes that form one gloo group on the CPU.

    def on_each_rank(rank, world, width): ...        # at the top level of a module under tests/

    results = run_distributed(on_each_rank, 2, width=8)

A fresh interpreter imports the function by name, so anything it needs must be importable, and forks a process for each
rank: imports take longer than most checks. What a rank returns (pickled with `torch.save`) comes back by rank. The
first process to fail ends the others, and its traceback is the message of the error.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[3]


class RankError(AssertionError):
    """A process of the group failed or ran out of time."""


def run_distributed(function: Callable[..., Any], world: int = 2, *, timeout: float = 60, **options: Any) -> list[Any]:
    """`function(rank, world, **options)` in `world` processes; what each returned, by rank.

    Args:
        function: at the top level of a module under tests/.
        world: number of processes.
        timeout: seconds, the start of the interpreters included.
        **options: anything that `torch.save` stores.

    Raises:
        RankError: with the log of the rank that failed first, or of all ranks where the time ran out.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(options, folder / "options")
        work = (function.__module__, function.__qualname__, world, folder, timeout)
        command = [sys.executable, "-m", "tests.optim.flash.distributed", *map(str, work)]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True
            )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            logs = "\n".join(f"rank {rank}:\n{_log(folder, rank)}" for rank in range(world))
            raise RankError(f"no end in time.\n{_log(folder)}\n{logs}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the ranks too
            process.wait()
        if status:
            rank = min(range(world), key=lambda rank: _failed_at(folder, rank))
            raise RankError(f"rank {rank} failed ({_log(folder).strip()}):\n{_log(folder, rank)}")
        return [torch.load(folder / f"result{rank}", weights_only=False) for rank in range(world)]


def _failed_at(folder: Path, rank: int) -> float:
    note = folder / f"failed{rank}"
    return float(note.read_text()) if note.exists() else math.inf


def _log(folder: Path, rank: int | str = "") -> str:
    log = folder / f"log{rank}"
    return log.read_text(errors="replace")[-4000:] if log.exists() else "not started"


def _main(module: str, function: str, world: str, folder: str, timeout: str) -> None:
    """Fork the ranks, and wait until all have ended well, or one has not."""
    # What every rank would import itself; the last one is what torch's optimizers import at their first step.
    for name in ("torch.distributed.checkpoint.state_dict", "torch.distributed.fsdp", "torch._dynamo"):
        importlib.import_module(name)
    found = getattr(importlib.import_module(module), function)
    torch.set_num_threads(1)
    ranks = {}
    for rank in range(int(world)):
        pid = os.fork()
        if pid == 0:
            _rank(found, rank, int(world), Path(folder), float(timeout))
        ranks[pid] = rank
    for _ in range(int(world)):
        pid, status = os.wait()
        if status:
            note = Path(f"{folder}/failed{ranks[pid]}")
            if not note.exists():  # a signal has ended it
                note.write_text(str(time.time()))
            time.sleep(0.5)  # perhaps it failed because another one did: let that one's note be written
            sys.exit(f"exit status {os.waitstatus_to_exitcode(status)} of rank {ranks[pid]}")


def _rank(function: Callable[..., Any], rank: int, world: int, folder: Path, timeout: float) -> None:
    """What a forked process does; it does not return."""
    with open(folder / f"log{rank}", "wb") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    try:
        store = dist.FileStore(f"{folder}/store", world)
        wait = timedelta(seconds=timeout)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=wait)
        torch.manual_seed(0)
        result = function(rank, world, **torch.load(folder / "options", weights_only=False))
        torch.save(result, folder / f"result{rank}")
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        (folder / f"failed{rank}").write_text(str(time.time()))
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # at an ordinary exit, threads of gloo or autograd now and then end the process with SIGABRT


if __name__ == "__main__":
    _main(*sys.argv[1:])

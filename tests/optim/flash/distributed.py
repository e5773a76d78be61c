"""Run a function in several processes that form one gloo group on the CPU.

    def on_each_rank(rank, world, width): ...        # at the top level of a module under tests/

    results = run_distributed(on_each_rank, 2, width=8)

Each process is a fresh interpreter that imports the function by name, so anything it needs must be importable; its
return value (pickled with `torch.save`) comes back by rank. The first process to fail ends the others, and its
traceback is the message of the error.
"""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
import tempfile
import time
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
        folder, processes = Path(name), []
        torch.save(options, folder / "options")
        try:
            for rank in range(world):
                work = (function.__module__, function.__qualname__, rank, world, folder, timeout)
                command = [sys.executable, "-m", "tests.optim.flash.distributed", *map(str, work)]
                with open(folder / f"log{rank}", "wb") as log:
                    processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT))
            _wait(processes, folder, time.monotonic() + timeout)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return [torch.load(folder / f"result{rank}", weights_only=False) for rank in range(world)]


def _wait(processes: list[subprocess.Popen], folder: Path, deadline: float) -> None:
    """Until all have ended well, or one has not."""
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            time.sleep(0.5)  # the others fail because one did: let its note of the time be written
            break
        if time.monotonic() > deadline:
            logs = "\n".join(f"rank {rank}:\n{_log(folder, rank)}" for rank in range(len(processes)))
            raise RankError(f"no end in time.\n{logs}")
        time.sleep(0.02)
    failed = [rank for rank, process in enumerate(processes) if process.poll()]
    if failed:
        rank = min(failed, key=lambda rank: _failed_at(folder, rank))
        raise RankError(f"rank {rank} failed (exit status {processes[rank].returncode}):\n{_log(folder, rank)}")


def _failed_at(folder: Path, rank: int) -> float:
    note = folder / f"failed{rank}"
    return float(note.read_text()) if note.exists() else math.inf


def _log(folder: Path, rank: int) -> str:
    return (folder / f"log{rank}").read_text(errors="replace")[-4000:]


def _main(module: str, function: str, rank: str, world: str, folder: str, timeout: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", int(world))
    wait = timedelta(seconds=float(timeout))
    dist.init_process_group("gloo", store=store, rank=int(rank), world_size=int(world), timeout=wait)
    try:
        torch.manual_seed(0)
        options = torch.load(f"{folder}/options", weights_only=False)
        result = getattr(importlib.import_module(module), function)(int(rank), int(world), **options)
        torch.save(result, f"{folder}/result{rank}")
        dist.barrier()
    except BaseException:
        Path(f"{folder}/failed{rank}").write_text(str(time.time()))
        raise
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # at an ordinary exit, threads of gloo or autograd now and then end the process with SIGABRT


if __name__ == "__main__":
    _main(*sys.argv[1:])

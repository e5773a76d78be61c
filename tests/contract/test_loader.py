"""The promise `workers`: a dataset gives the same batches with any number of loader processes, from any step on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract import images
from tests.contract.battery import FLASH, IMAGES, NAMES, SMALL, bits, compatible, killed_after, run

from hasten._core import sources
from hasten.bench.source import BatchSource
from hasten.data.order import shuffled
from hasten.program import bind

CPU = torch.device("cpu")
PROGRAM = IMAGES.program.replace(data=bind(images.dataset))
MINE = """
import random, torch
from helper import noise

class Mine:
    def __len__(self):
        return 7
    def __getitem__(self, i):
        return noise(i) + random.random(), i
"""
HELPER = """
import torch
def noise(i):
    return i + torch.rand(2)
"""


def batches(dataset: Any, workers: int, *, first: int, count: int, size: int = 8) -> list[Any]:
    source = BatchSource(dataset, shuffled, batch_size=size, seed=3, device=CPU, workers=workers)
    made = source.batches(first)
    found = list(itertools.islice(made, count))
    made.close()  # type: ignore[attr-defined]
    return found


def same(one: list[Any], two: list[Any]) -> None:
    for a, b in zip(one, two, strict=True):
        assert type(a) is type(b) is tuple
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_batches_do_not_depend_on_workers_nor_on_where_one_starts() -> None:
    """Fourteen steps of six an epoch, with augmentation drawn from the global generators of torch and of Python."""
    before = torch.get_rng_state()
    straight = batches(images.Augmented(), 0, first=0, count=14)
    same(batches(images.Augmented(), 0, first=4, count=10), straight[4:])
    same(batches(images.Augmented(), 2, first=4, count=10), straight[4:])
    assert torch.equal(torch.get_rng_state(), before)
    again = [batch for batch in straight[:6] if torch.equal(batch[0], straight[6][0])]
    assert not again  # another epoch, another order and other draws


def test_a_dataset_of_a_users_file_reaches_the_loader_processes(tmp_path: Path) -> None:
    """The class lives in a file that no path leads to; the process gets the file, and what it imports."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text(HELPER)
    module = sources.load(sources.read(tmp_path / "mine.py"), tmp_path / "mine.py")
    same(batches(module.Mine(), 1, first=0, count=4, size=3), batches(module.Mine(), 0, first=0, count=4, size=3))


def test_every_method_promises_it() -> None:
    assert all("workers" in SMALL[name].card.exact for name in NAMES)


@pytest.mark.parametrize("left_out", ["mixup", "cutmix"])
def test_a_run_with_everything_is_the_same_with_workers(left_out: str, tmp_path: Path) -> None:
    names = [name for name in NAMES if name not in (left_out, *FLASH[1:])]
    assert compatible(*names)
    program = PROGRAM.then(*(SMALL[name] for name in names))
    straight = run(program, cycles=((0, 8, 0),))
    if left_out == "mixup":  # one start of two processes is enough
        assert bits(run(program, cycles=((0, 8, 0),), workers=2)) == bits(straight)
    with killed_after(3):
        run(program, cycles=((0, 8, 0),), checkpoint=tmp_path / "c.pt")
    assert bits(run(program, cycles=((0, 8, 0),), checkpoint=tmp_path / "c.pt")) == bits(straight)

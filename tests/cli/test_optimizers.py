"""`hasten memory MODEL`: the bytes of optimizers on a model that is never allocated."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from hasten.bench.optimizer_memory import DEFAULT, OPTIMIZERS, optimizer_footprint
from hasten.cli import main
from hasten.cli.optimizers import choices, table

Hasten = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hasten(capsys: pytest.CaptureFixture[str]) -> Hasten:
    def run(*words: str) -> tuple[int, str, str]:
        status = main(["memory", *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_table() -> None:
    found = [optimizer_footprint(lambda: nn.Linear(1024, 1024, bias=False), name) for name in ("adamw", "flash_adamw")]
    lines = table(found).splitlines()
    assert lines[0].split() == ["weights", "gradients", "state", "total", "per", "parameter", "of", "adamw"]
    assert lines[1].split() == ["adamw", "4.0", "MiB", "4.0", "MiB", "8.0", "MiB", "16.0", "MiB", "16.00", "100", "%"]
    assert lines[2].split()[-3:] == ["7.13", "45", "%"]


def test_choices() -> None:
    assert choices(None) == DEFAULT
    assert choices("all") == tuple(OPTIMIZERS)
    assert choices(" lion, adamw,lion ") == ("lion", "adamw")


def test_a_model_from_the_command_line(hasten: Hasten) -> None:
    status, out, _ = hasten("gpt_small")
    assert status == 0
    assert "gpt_small, 124,439,808 parameters" in out
    assert "flash_adamw+release" in out
    _, out, _ = hasten("digits", "--optimizers", "sgd,flash_sgd", "--json")
    data = json.loads(out)
    assert [row["name"] for row in data["optimizers"]] == ["sgd", "flash_sgd"]
    assert data["optimizers"][0]["parameters"] == 17_890


def test_a_model_of_the_folder_one_is_in(hasten: Hasten, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_model_of_mine.py").write_text("from torch import nn\n\n\ndef build():\n    return nn.Linear(9, 3)\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", [entry for entry in before if entry])  # as in an installed command
    status, out, _ = hasten("a_model_of_mine:build", "--optimizers", "adamw")
    monkeypatch.delitem(sys.modules, "a_model_of_mine")
    assert status == 0
    assert "a_model_of_mine:build, 30 parameters" in out
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(("words", "told"), [
    (("gpt_smal",), "gpt_small"),
    (("gpt_small", "--optimizers", "adam"), "the name of an optimizer, got 'adam'. Did you mean"),
    (("gpt_small", "--optimizers", "adamw+release"), "behind a flash optimizer"),
    (("gpt_small", "--optimizers", ","), "expected names of optimizers, got none"),
    (("gpt_small", "--arms", "base"), "either --optimizers or --arms"),
    (("no.such.module:f",), "a function that builds a model"),
    (("builtins:int",), "a function that returns an nn.Module"),
])  # fmt: skip
def test_usage(hasten: Hasten, words: tuple[str, ...], told: str) -> None:
    status, _, err = hasten(*words)
    assert status == 2
    assert told in err

from __future__ import annotations

import pytest
import torch

from hasten.bench import checkpoint

STATE = {
    "step": 7,
    "fingerprint": "abc",
    "points": [{"metric": 0.1 + 0.2}],
    "run": {"weights": torch.arange(5.0), "half": torch.ones(2, dtype=torch.bfloat16), "none": None},
}


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    path = tmp_path / "run.pt"
    checkpoint.save(path, STATE)
    state = checkpoint.load(path)
    assert state is not None
    assert state["points"] == STATE["points"]
    assert torch.equal(state["run"]["weights"], STATE["run"]["weights"])
    assert state["run"]["half"].dtype == torch.bfloat16
    assert list(tmp_path.iterdir()) == [path]


def test_the_last_one_counts(tmp_path):
    path = tmp_path / "run.pt"
    for step in (1, 2):
        checkpoint.save(path, {**STATE, "step": step})
    assert checkpoint.load(path)["step"] == 2


def test_none_where_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path / "run.pt") is None


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[::-1]])
def test_a_damaged_one_is_warned_of_and_not_used(tmp_path, damage):
    path = tmp_path / "run.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match=r"run\.pt: cannot use this checkpoint, it is damaged .* starts again"):
        assert checkpoint.load(path) is None


def test_another_version_is_warned_of_and_not_used(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    checkpoint.save(path, STATE)
    monkeypatch.undo()
    with pytest.warns(RuntimeWarning, match="it is not of version 1"):
        assert checkpoint.load(path) is None


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    path = tmp_path / "run.pt"
    torch.save({"version": 1, "evil": Evil()}, path)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert checkpoint.load(path) is None
    assert capsys.readouterr().out == ""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.private import without_places


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('File "/home/ann/my stuff/x.py", line 3, in f', 'File ".../x.py", line 3, in f'),
        ("No such file or directory: '/home/ann'", "No such file or directory: '...'"),
        ("at /Users/ann/, then", "at ..., then"),
        ("log:/srv/acme/x.log", "log:.../x.log"),
        ("file:///srv/acme/x y", ".../x y"),
        (r"C:\Users\ann\acme\x.py failed", ".../x.py failed"),
        (r"open \\server\ann\x.py", "open .../x.py"),
        ("/opt/venv/lib/python3.11/site-packages/torch/nn/modules.py", ".../torch/nn/modules.py"),
        ("/usr/lib/python3.12/concurrent/futures/thread.py", ".../concurrent/futures/thread.py"),
        ("/tmp/a/b (log: /tmp/c/d).", ".../b (log: .../d)."),
    ],
)
def test_only_the_end_of_a_path_stays(text, left):
    assert without_places(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/a/b/c",
        "1/2 and and/or, 3 / 4, images/s",
        "src/hasten/bench/store.py, ../data/x.npz",
        "hasten compare digits --arms 'base,blur=blurpool' --budget 10min",
    ],
)
def test_what_names_no_place_stays_as_it_is(text):
    assert without_places(text) == text
    assert without_places({"command": text}) == {"command": text}


def test_the_files_of_the_study_keep_their_path_in_it(tmp_path):
    text = f"failed (log: {tmp_path}/logs/base-0.log), read {tmp_path.parent}/data.npz"
    assert without_places(text, tmp_path) == "failed (log: logs/base-0.log), read .../data.npz"


def test_a_home_with_spaces(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/data/people/Ann Smith"))
    assert without_places("in /data/people/Ann Smith/acme/x.py: no") == "in .../x.py: no"


def test_commands_are_read_word_by_word():
    command = "hasten compare '/home/ann/my work/w.py' --out=/srv/acme/s --from 'C:\\acme\\x.csv'"
    assert without_places({"command": command}) == {"command": "hasten compare .../w.py --out=.../s --from .../x.csv"}
    assert without_places({"command": "an unclosed ' quote /srv/acme/x"}) == {"command": "an unclosed ' quote .../x"}


def test_names_of_arms_stay_and_everything_else_in_plain_data_is_read():
    data = {
        "arms": [{"name": "/a/b", "methods": ["load('/srv/acme/x.npz')"]}],
        "baseline": "/a/b",
        "n": 3,
        "none": None,
    }
    assert without_places(data) == {
        "arms": [{"name": "/a/b", "methods": ["load('.../x.npz')"]}], "baseline": "/a/b", "n": 3, "none": None
    }  # fmt: skip


FOLDERS = st.lists(st.from_regex(r"[a-z]{3,8}secret", fullmatch=True), min_size=1, max_size=4)


@given(FOLDERS, st.sampled_from(["", "'", '"']), st.sampled_from([" ", "(", "=", "\n", "["]))
def test_no_folder_of_a_path_is_left_and_twice_is_once(folders, quote, before):
    text = f"error{before}{quote}/{'/'.join(folders)}/end.py{quote}\nmore"
    found = without_places(text)
    assert "secret" not in found
    assert ".../end.py" in found
    assert without_places(found) == found

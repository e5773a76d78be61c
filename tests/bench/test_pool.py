from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.robustness.tools import alive, wait_for

from hasten.bench import pool as module
from hasten.bench.pool import Pool, Worker, parse_event

ECHO = """
import json, sys
print('{"event": "ready"}', flush=True)
for line in sys.stdin:
    print(json.dumps({"event": "echo", "text": json.loads(line)["text"]}), flush=True)
"""


@pytest.fixture
def start(tmp_path, monkeypatch) -> Callable[..., Pool]:
    """`start(code)`: a pool whose workers run this Python code; ended after the test."""
    pools: list[Pool] = []

    def begin(code: str, size: int = 1) -> Pool:
        monkeypatch.setattr(module, "COMMAND", ("-c", code))
        pools.append(Pool(size, tmp_path).__enter__())
        return pools[-1]

    yield begin
    for pool in pools:
        pool.end()


def hear(pool: Pool) -> dict:
    heard = pool.next_event(30)
    assert heard is not None
    return heard[1]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('{"event": "ready"}\n', {"event": "ready"}),
        ('{"event": "re', None),
        ("a print\n", None),
        ("3\n", None),
        ("[]\n", None),
        ('{"no": "event"}\n', None),
        ("\n", None),
        ("[" * 100_000, None),
    ],
)
def test_only_events_are_events(line, event):
    assert parse_event(line) == event


@given(st.text())
def test_no_print_can_stop_the_listener(text):
    event = parse_event(text)
    assert event is None or "event" in event


def test_messages_go_both_ways_however_long(start):
    pool = start(ECHO)
    assert hear(pool) == {"event": "ready"}
    for text in ("short", "line\nbreak", "x" * 5_000_000):
        pool.workers[0].send({"text": text})
        assert hear(pool) == {"event": "echo", "text": text}
    assert pool.next_event(0.01) is None


def test_death_is_the_last_event_and_sending_to_the_dead_is_no_error(start):
    pool = start("""print('{"event": "one"}\\n\\xff\\xfe{"event": "tw', end="", flush=True); raise SystemExit(3)""")
    assert hear(pool) == {"event": "one"}
    assert hear(pool) == {"event": "died", "code": 3}
    for _ in range(3):
        pool.workers[0].send({"text": "x" * 100_000})
    assert pool.next_event(0.05) is None


def test_bytes_that_are_no_text_do_not_deafen_the_driver(start):
    pool = start("""import os; os.write(1, b'\\xff\\xfe\\n{"event": "fine"}\\n')""")
    assert hear(pool) == {"event": "fine"}
    assert hear(pool) == {"event": "died", "code": 0}


def test_a_dead_worker_is_replaced_at_its_place(start):
    pool = start(ECHO, size=2)
    hear(pool), hear(pool)
    first, second = pool.workers
    first.end()
    assert hear(pool)["event"] == "died"
    pool.replace(first)
    assert pool.workers[1] is second
    assert pool.workers[0] is not first
    assert not pool.workers[0].ready
    assert hear(pool) == {"event": "ready"}
    pool.replace(second)  # alive, but of no more use
    assert second.process.returncode is not None
    pool.workers[0].send({"text": "still here"})
    assert {"event": "echo", "text": "still here"} in [hear(pool) for _ in range(3)]


def test_the_end_of_a_pool_ends_its_processes_and_leaves_no_zombie(start):
    pool = start(ECHO, size=3)
    processes = [worker.process for worker in pool.workers]
    pool.end()
    pool.end()  # again is no error
    assert all(process.returncode is not None for process in processes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("how", ["end", "crash"])
def test_what_a_worker_started_ends_with_it(start, how):
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], stdout=subprocess.DEVNULL)"
    then = "time.sleep(600)" if how == "end" else "os.abort()"
    pool = start(
        f"import json, os, subprocess, sys, time; c = {child};"
        f"print(json.dumps({{'event': 'started', 'pid': c.pid}}), flush=True); {then}"
    )
    pid = hear(pool)["pid"]
    if how == "end":
        pool.workers[0].end()
    assert hear(pool)["event"] == "died"
    wait_for(lambda: not alive(pid))


def test_a_pool_that_cannot_be_started_whole_leaves_nothing(tmp_path, monkeypatch):
    started: list[Worker] = []

    class Second(Worker):
        def __init__(self, *arguments) -> None:
            if started:
                raise OSError("no more processes")
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(module, "COMMAND", ("-c", ECHO))
    monkeypatch.setattr(module, "Worker", Second)
    with pytest.raises(OSError, match="no more processes"), Pool(2, tmp_path):
        pass
    assert started[0].process.returncode is not None


def test_workers_have_one_thread_and_the_drivers_import_path(start, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as in a notebook
    monkeypatch.chdir(tmp_path)
    pool = start(
        "import json, os, sys; threads = os.environ['OMP_NUM_THREADS'];"
        "print(json.dumps({'event': 'env', 'path': sys.path, 'threads': threads}))"
    )
    event = hear(pool)
    assert event["threads"] == "1"
    assert {os.getcwd(), *filter(None, sys.path)} <= set(event["path"])


def test_what_a_worker_prints_on_stderr_is_in_its_log(start):
    pool = start("import sys; print('cannot import torch', file=sys.stderr)")
    assert hear(pool)["event"] == "died"
    assert pool.workers[0].log.read_text() == "cannot import torch\n"


def test_a_file_of_the_current_folder_does_not_replace_a_module_of_python(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise RuntimeError('imported the wrong queue')")
    monkeypatch.chdir(tmp_path)
    with Pool(1, tmp_path) as pool:
        assert hear(pool) == {"event": "ready"}, pool.workers[0].log.read_text()


def test_events_of_several_workers_say_whose_they_are(start):
    pool = start(ECHO, size=2)
    ready = [pool.next_event(30)[0] for _ in range(2)]
    assert set(map(id, ready)) == set(map(id, pool.workers))
    pool.workers[1].send({"text": json.dumps("x")})
    assert pool.next_event(30)[0] is pool.workers[1]

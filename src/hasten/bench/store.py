"""The store of one study: a SQLite file that only one driver at a time writes, readable for ever.

Key of a point: (arm, program fingerprint, environment digest, seed, curve, point, attempt); the arm's name is in it so
that the same program under two names is an A/A control with times of its own. A run that was interrupted and
resumed, or that the machine's drift spoiled, is kept beside the attempt that counts. Every write is committed when it
returns: with a rollback journal and `synchronous=EXTRA`, what was acknowledged survives a kill and a power cut. (With
FULL, a power cut may bring a committed transaction's journal back, because its removal is not yet on the disk.)
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import durable

__all__ = ["FILE", "LOCK", "SCHEMA", "NotDeterministicError", "RunKey", "Store", "StoreError"]

FILE = "study.sqlite"
LOCK = "study.lock"  # an empty SQLite file; whoever holds its lock writes the study
SCHEMA = 1  # PRAGMA user_version; a reader of a newer schema refuses, older ones stay readable
APPLICATION = 0x48415354  # PRAGMA application_id, "HAST": tells our files from other people's
NAMES = {"study", "run", "point"}  # all that a study holds: no view or trigger of somebody else's is ever run
PATIENCE = 30.0  # seconds to wait for somebody who reads the study while we write

_TABLES = f"""
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE run (
    arm TEXT NOT NULL, fingerprint TEXT NOT NULL, environment TEXT NOT NULL, seed INTEGER NOT NULL, curve TEXT NOT NULL,
    first INTEGER NOT NULL, attempt INTEGER NOT NULL,
    status TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (arm, fingerprint, environment, seed, curve, first, attempt)
);
CREATE TABLE point (
    arm TEXT NOT NULL, fingerprint TEXT NOT NULL, environment TEXT NOT NULL, seed INTEGER NOT NULL, curve TEXT NOT NULL,
    first INTEGER NOT NULL, attempt INTEGER NOT NULL, point INTEGER NOT NULL,
    metric REAL NOT NULL, seconds REAL NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (arm, fingerprint, environment, seed, curve, first, attempt, point)
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA}
"""


class StoreError(RuntimeError):
    """The study's folder cannot be used; the message says why and what to do."""


class NotDeterministicError(StoreError):
    """A point was computed twice with different results."""


@dataclass(frozen=True)
class RunKey:
    """Identity of one attempt at one run; `first` is the index of the first point the run yields."""

    arm: str
    fingerprint: str
    environment: str
    seed: int
    curve: str
    first: int
    attempt: int = 0

    def values(self) -> tuple[Any, ...]:
        """The key's columns in order."""
        return self.arm, self.fingerprint, self.environment, self.seed, self.curve, self.first, self.attempt


class Store:
    """Open (or create) the store in `folder`; only one process at a time may have it open for writing.

    Args:
        folder: the study's folder.
        read_only: change nothing. Reading is possible while a driver writes, and in a folder that cannot be written.

    Raises:
        StoreError: the folder cannot be written, another process writes it, or the file is not a study of ours, is
            damaged, or is newer than us.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder, self.path = folder, folder / FILE
        self._opened = contextlib.ExitStack()
        try:
            if read_only:
                self._open_to_read()
            else:
                self._open_to_write()
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise StoreError(_explain(self.path, error)) from error
            raise

    def _open_to_read(self) -> None:
        if not self.path.is_file():
            raise StoreError(f"{self.folder}: expected a study, found no {FILE}. Pass the folder of a study.")
        # Not mode=ro, which could not finish what a killed driver left half-done; without permission rw reads only.
        self.db = self._connect(self.path, "rw")
        if self._is_new():
            raise StoreError(f"{self.folder}: the study has not begun. Run `hasten compare` first.")
        self.db.execute("PRAGMA query_only = ON")

    def _open_to_write(self) -> None:
        try:
            durable.make_folder(self.folder)
        except OSError as error:
            raise StoreError(durable.explain(error)) from error
        lock = self._connect(self.folder / LOCK, "rwc", patience=0.0)
        lock.execute("BEGIN EXCLUSIVE")  # the system lets go of it when the process ends, however it ends
        self.db = self._connect(self.path, "rwc")
        new = self._is_new()
        self.db.execute("PRAGMA synchronous = EXTRA")
        if new:
            with self._transaction():
                for statement in _TABLES.split(";"):
                    self.db.execute(statement)

    def _connect(self, path: Path, mode: str, *, patience: float = PATIENCE) -> sqlite3.Connection:
        uri = f"{path.resolve().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)
        self._opened.callback(connection.close)
        return connection

    def _is_new(self) -> bool:
        """Whether the file is still empty; a file that is not a healthy study of a schema we know is refused."""
        version, application = (
            self.db.execute(f"PRAGMA {n}").fetchone()[0] for n in ("user_version", "application_id")
        )
        tables = self.db.execute("SELECT type, name FROM sqlite_master").fetchall()
        if (version, application, tables) == (0, 0, []):
            return True
        if application != APPLICATION:
            raise StoreError(f"{self.path}: a database, but not a study of hasten's. Pass another folder with --out.")
        if version > SCHEMA:
            raise StoreError(f"{self.path}: written by a newer hasten (schema {version}). Update hasten to read it.")
        kinds = {(kind, name) for kind, name in tables if not name.startswith("sqlite_autoindex_")}
        if kinds != {("table", name) for name in NAMES}:
            raise StoreError(f"{self.path}: holds other tables than a study's. {_DAMAGED}")
        found = self.db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreError(f"{self.path}: {found}. {_DAMAGED}")
        return False

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(_explain(self.path, error)) from error
            raise

    def close(self) -> None:
        """Close the file and let others write."""
        self._opened.close()

    def get(self, name: str) -> Any:
        """A fact about the study, or None."""
        row = self._query("SELECT value FROM study WHERE name = ?", (name,))
        return json.loads(row[0][0]) if row else None

    def put(self, name: str, value: Any) -> None:
        """Write a fact about the study."""
        with self._transaction():
            self.db.execute("INSERT OR REPLACE INTO study VALUES (?, ?)", (name, _dump(value)))

    def add_point(self, key: RunKey, point: dict[str, Any]) -> None:
        """Record a point, once an attempt. In whatever attempt, a recomputed point must equal the stored one.

        Raises:
            NotDeterministicError: it differs, so something that decides the result is not in the key.
        """
        stored = self._query(
            f"SELECT attempt, metric FROM point WHERE {_RUN} AND point = ?", (*key.values()[:-1], point["point"])
        )
        for attempt, metric in stored:
            if metric != point["metric"]:
                raise NotDeterministicError(
                    f"point {point['point']} of {key.arm}, seed {key.seed} was {metric!r} in attempt {attempt} and is "
                    f"now {point['metric']!r}. The run is not deterministic, or code changed outside what is hashed: "
                    "draw random numbers from torch, numpy or random only, and read no files that change."
                )
        if key.attempt in [attempt for attempt, _ in stored]:
            return
        with self._transaction():
            self.db.execute("INSERT INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(key, point))

    def put_run(self, key: RunKey, status: str, data: dict[str, Any]) -> None:
        """Record how an attempt stands: "running", "interrupted", "stopped", "failed" or "done"."""
        with self._transaction():
            row = (*key.values(), status, _dump(data))
            self.db.execute(
                f"INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT ({_KEY}) "
                "DO UPDATE SET status = excluded.status, data = excluded.data",  # keeps its place in the order
                row,
            )

    def fill(self, facts: Mapping[str, Any], runs: Sequence[dict[str, Any]]) -> None:
        """Write a whole study into an empty store, in one transaction: all of it is there, or nothing.

        Args:
            facts: what `facts` returns.
            runs: what `runs` returns.
        """
        points = [(run["key"], point) for run in runs for point in run["points"]]
        with self._transaction():
            self.db.executemany(
                "INSERT INTO study VALUES (?, ?)", [(name, _dump(facts[name])) for name in sorted(facts)]
            )
            self.db.executemany(
                "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*run["key"].values(), run["status"], _dump(run["data"])) for run in runs],
            )
            self.db.executemany(
                "INSERT INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(key, point) for key, point in points],
            )

    def snapshot(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """`facts` and `runs` as they were at one moment, also while a driver writes (it waits as long as we read)."""
        self._query("BEGIN", ())
        try:
            return self.facts(), self.runs()
        finally:
            self._query("COMMIT", ())

    def facts(self) -> dict[str, Any]:
        """Everything that `put` wrote."""
        return {name: json.loads(value) for name, value in self._query("SELECT * FROM study ORDER BY name", ())}

    def runs(self) -> list[dict[str, Any]]:
        """Every attempt in the order they were started: {"key": RunKey, "status", "data", "points"}."""
        points: dict[RunKey, list[dict[str, Any]]] = {}
        for row in self._query("SELECT * FROM point ORDER BY rowid", ()):
            points.setdefault(RunKey(*row[:7]), []).append(json.loads(row[10]))
        found = []
        for row in self._query("SELECT * FROM run ORDER BY rowid", ()):
            key = RunKey(*row[:7])
            of_run = sorted(points.get(key, []), key=lambda point: point["point"])
            found.append({"key": key, "status": row[7], "data": json.loads(row[8]), "points": of_run})
        return found

    def _query(self, text: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self.db.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(_explain(self.path, error)) from error


_KEY = "arm, fingerprint, environment, seed, curve, first, attempt"
_RUN = "arm = ? AND fingerprint = ? AND environment = ? AND seed = ? AND curve = ? AND first = ?"


def _row(key: RunKey, point: dict[str, Any]) -> tuple[Any, ...]:
    return (*key.values(), point["point"], point["metric"], point["seconds"], _dump(point))


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


_DAMAGED = "The file is damaged or not a study: move it away and run the same command again."

# Start of SQLite's error name -> the fix.
_FIXES = {
    "SQLITE_FULL": durable.FREE_SPACE,
    "SQLITE_IOERR": "The disk is full or failing: make room, or pass another folder with --out.",
    "SQLITE_READONLY": durable.OTHER_FOLDER,
    "SQLITE_CANTOPEN": durable.OTHER_FOLDER,
    "SQLITE_PERM": durable.OTHER_FOLDER,
    "SQLITE_BUSY": "Another process is writing this study: wait for it, or pass another folder with --out.",
    "SQLITE_NOTADB": _DAMAGED,
    "SQLITE_CORRUPT": _DAMAGED,
}


def _explain(path: Path, error: sqlite3.Error) -> str:
    """What SQLite reports and the fix."""
    name = getattr(error, "sqlite_errorname", "")
    fixes = [fix for start, fix in _FIXES.items() if name.startswith(start)]
    return f"{path}: {error}. {fixes[0] if fixes else 'Run the same command again; finished runs are kept.'}"

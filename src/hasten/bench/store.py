"""The store of one study: a SQLite file that only the driver writes, readable for ever.

Key of a point: (arm, program fingerprint, environment digest, seed, curve, point, attempt); the arm's name is in it so
that the same program under two names is an A/A control with times of its own. A run that was interrupted and
resumed, or that the machine's drift spoiled, is kept beside the attempt that counts. Every statement is committed when
it returns (rollback journal, `synchronous=FULL`): what was acknowledged survives a kill or a power cut.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FILE", "SCHEMA", "RunKey", "Store", "StoreError"]

FILE = "study.sqlite"
SCHEMA = 1  # PRAGMA user_version; a reader of a newer schema refuses, older ones stay readable

_TABLES = """
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
"""


class StoreError(RuntimeError):
    """The study's folder cannot be used; the message says why and what to do."""


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
    """Open (or create) the store in `folder`.

    Raises:
        StoreError: the folder cannot be written, the file is not a study of ours, is damaged, or is newer than us.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder, self.path = folder, folder / FILE
        if not read_only:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{folder}: cannot create the study's folder ({error.strerror}). Pass --out.") from error
        elif not self.path.is_file():
            raise StoreError(f"{folder}: expected a study, found no {FILE}. Pass the folder of a study.")
        try:
            self._open(read_only)
        except sqlite3.DatabaseError as error:
            raise StoreError(_explain(self.path, error)) from error

    def _open(self, read_only: bool) -> None:
        mode = "ro" if read_only else "rwc"
        self.db = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version > SCHEMA:
            raise StoreError(f"{self.path}: written by a newer hasten (schema {version}). Update hasten to read it.")
        if version == 0 and tables:
            raise StoreError(f"{self.path}: a database, but not a study of hasten's. Pass another folder.")
        if not read_only:
            self.db.execute("PRAGMA synchronous = FULL")
            if not tables:
                with self._transaction():
                    for statement in _TABLES.split(";"):
                        self.db.execute(statement)
                    self.db.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            with contextlib.suppress(sqlite3.DatabaseError):
                self.db.execute("ROLLBACK")
            raise StoreError(_explain(self.path, error)) from error
        except BaseException:
            with contextlib.suppress(sqlite3.DatabaseError):
                self.db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def get(self, name: str) -> Any:
        """A fact about the study, or None."""
        row = self._query("SELECT value FROM study WHERE name = ?", (name,))
        return json.loads(row[0][0]) if row else None

    def put(self, name: str, value: Any) -> None:
        """Write a fact about the study."""
        with self._transaction():
            self.db.execute("INSERT OR REPLACE INTO study VALUES (?, ?)", (name, _dump(value)))

    def add_point(self, key: RunKey, point: dict[str, Any]) -> None:
        """Record a point once. The same point again must agree: a recomputed point equals the stored one.

        Raises:
            StoreError: it differs from what is stored, so something that decides the result is not in the key.
        """
        stored = self._query(f"SELECT metric FROM point WHERE {_KEY} AND point = ?", (*key.values(), point["point"]))
        if stored:
            if stored[0][0] != point["metric"]:
                raise StoreError(
                    f"{self.path}: point {point['point']} of seed {key.seed} was {stored[0][0]!r} and is now "
                    f"{point['metric']!r}. The run is not deterministic, or code changed outside what is hashed."
                )
            return
        with self._transaction():
            row = (*key.values(), point["point"], point["metric"], point["seconds"], _dump(point))
            self.db.execute("INSERT INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def put_run(self, key: RunKey, status: str, data: dict[str, Any]) -> None:
        """Record how a run stands: "running", "done", "failed" or "stopped"."""
        with self._transaction():
            row = (*key.values(), status, _dump(data))
            self.db.execute("INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

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
        except sqlite3.DatabaseError as error:
            raise StoreError(_explain(self.path, error)) from error


_KEY = "arm = ? AND fingerprint = ? AND environment = ? AND seed = ? AND curve = ? AND first = ? AND attempt = ?"


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _explain(path: Path, error: sqlite3.DatabaseError) -> str:
    """The fix for what SQLite reports."""
    text = str(error)
    if "full" in text:
        fix = "The disk is full: free some space and run the same command again, nothing finished is lost."
    elif "readonly" in text or "unable to open" in text:
        fix = "The folder cannot be written: pass another one with --out."
    elif "locked" in text:
        fix = "Another process is writing this study: wait for it, or pass another folder with --out."
    elif "not a database" in text or "malformed" in text:
        fix = "The file is damaged or not a study: move it away and run the same command again."
    else:
        fix = "Run the same command again; finished runs are kept."
    return f"{path}: {text}. {fix}"

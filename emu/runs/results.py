"""A file of results: what each run of a matrix has found, in SQLite.

`runs` has one row per run of a matrix, `cells` one per cell that was answered; a cell of a run
stands there once or not at all. Rows are written as they come in, so an interrupted run keeps
what it has done and can be taken up again. Calls and console are compressed.

The file names its kind (application_id) and schema (user_version). Whatever is another kind,
another schema or damaged is refused in one line and left as it is. Transactions are short and
take the write lock at their beginning, so several matrices may write one file at once; that works
wherever SQLite's locks do, which is not so on every network file system.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from emu.base.errors import ResultsError
from emu.runs.matrix import Result
from emu.runs.rows import INSERT, SELECT, from_row, to_row

APPLICATION = 0x4856_434D  # "HVCM"
SCHEMA = 1
PATIENCE = 60.0
"""Seconds to wait for another writer, whose transactions take milliseconds."""
EVERY = 0.5
"""Seconds between two transactions of a run, so that a disk's flushes do not slow it down."""

_TABLES = f"""
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, version TEXT NOT NULL, command TEXT NOT NULL,
    total INTEGER NOT NULL, finished INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE cells (
    run INTEGER NOT NULL REFERENCES runs, place INTEGER NOT NULL, key TEXT NOT NULL,
    guest TEXT NOT NULL, profile TEXT NOT NULL, conduit TEXT NOT NULL, cpus INTEGER NOT NULL,
    core TEXT NOT NULL, services TEXT NOT NULL, setup TEXT NOT NULL, image TEXT NOT NULL,
    ending TEXT NOT NULL, status INTEGER NOT NULL, detail TEXT NOT NULL, console BLOB NOT NULL,
    calls BLOB NOT NULL, verdicts TEXT NOT NULL, total_calls INTEGER NOT NULL,
    cycles INTEGER NOT NULL, instructions INTEGER NOT NULL, seconds REAL NOT NULL,
    UNIQUE (run, key)
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA};
"""


class Run(NamedTuple):
    """A run as the list shows it; `done` of its `total` cells are there."""

    id: int
    started: str
    version: str
    command: str
    total: int
    finished: bool
    done: int


class ResultsFile:
    """An open file of results. Errors are `ResultsError`."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        self.path = path
        if not create and not os.path.isfile(path):
            self.refuse("there is no such file")
        with self._guard():
            self._base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            try:
                self._check(create)
            except BaseException:
                self._base.close()
                raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def refuse(self, why: str) -> NoReturn:
        """Say in one line why this file cannot be used."""
        raise ResultsError(f"{self.path}: {why}")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if "not a database" in str(error) or "malformed" in str(error):
                self.refuse(f"is damaged or no file of results ({error}); it was left as it is")
            self.refuse(f"cannot be used: {error}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, with the write lock from the beginning."""
        with self._guard():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._base.execute("ROLLBACK")
                raise

    def _check(self, create: bool) -> None:
        """Refuse what is not ours and whole; make the tables of a new file."""
        if create and self._is_new():
            with self._transaction() as base:
                if self._is_new():  # nobody was faster
                    for statement in filter(str.strip, _TABLES.split(";")):
                        base.execute(statement)
        if self._pragma("application_id") != APPLICATION:
            self.refuse("is no file of results; it was left as it is")
        if (schema := self._pragma("user_version")) != SCHEMA:
            self.refuse(
                f"has schema {schema}, this hvcemu knows {SCHEMA}; it was left as it is, "
                "name another file"
            )
        if (verdict := self._pragma("quick_check")) != "ok":
            self.refuse(f"is damaged ({str(verdict).splitlines()[0]}); it was left as it is")

    def _is_new(self) -> bool:
        count = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return bool(count == 0 and self._pragma("application_id") == 0)

    def _pragma(self, name: str) -> Any:
        return self._base.execute(f"PRAGMA {name}").fetchone()[0]

    # -- writing ------------------------------------------------------------------------------

    def begin(self, started: str, version: str, command: str, total: int) -> int:
        """A new run; returns its number."""
        with self._transaction() as base:
            row = base.execute(
                "INSERT INTO runs (started, version, command, total) VALUES (?, ?, ?, ?)",
                (started, version, command, total),
            )
            assert row.lastrowid is not None
            return row.lastrowid

    def store(self, run: int, rows: Iterable[tuple[int, Result]]) -> None:
        """Results with their places in the matrix; what is there already stays."""
        packed = [to_row(run, place, result) for place, result in rows]
        with self._transaction() as base:
            base.executemany(INSERT, packed)

    def finish(self, run: int) -> None:
        """All cells are there."""
        with self._transaction() as base:
            base.execute("UPDATE runs SET finished = 1 WHERE id = ?", (run,))

    def forget(self, run: int) -> None:
        """Remove a run."""
        with self._transaction() as base:
            base.execute("DELETE FROM cells WHERE run = ?", (run,))
            base.execute("DELETE FROM runs WHERE id = ?", (run,))

    # -- reading ------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """Every run, the oldest first."""
        with self._guard():
            rows = self._base.execute(
                "SELECT id, started, version, command, total, finished, "
                "(SELECT count(*) FROM cells WHERE run = runs.id) FROM runs ORDER BY id"
            ).fetchall()
        return [Run(*row)._replace(finished=bool(row[5])) for row in rows]

    def run(self, number: int | None = None) -> Run:
        """A run by its number, or the latest that is finished."""
        runs = self.runs()
        if number is None:
            if finished := [run for run in runs if run.finished]:
                return finished[-1]
            self.refuse("has no finished run")
        for run in runs:
            if run.id == number:
                return run
        known = ", ".join(str(run.id) for run in runs) or "none"
        self.refuse(f"has no run {number}; it has {known}")

    def results(self, run: int) -> list[Result]:
        """The cells of a run in the order of the matrix."""
        with self._guard():
            rows = self._base.execute(SELECT, (run,)).fetchall()
        try:
            return [from_row(row) for row in rows]
        except (ValueError, TypeError, KeyError, zlib.error) as error:
            self.refuse(f"run {run} is damaged: {error}")


class Recorder:
    """Writes the results of one run as they come in, a few times a second at most."""

    def __init__(self, file: ResultsFile, run: int) -> None:
        self._file, self._run = file, run
        self._rows: list[tuple[int, Result]] = []
        self._next = 0.0

    def add(self, rows: Iterable[tuple[int, Result]]) -> None:
        """Take results with their places."""
        self._rows += rows
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        if self._rows:
            self._file.store(self._run, self._rows)
        self._rows = []
        self._next = time.monotonic() + EVERY

"""A mutation campaign: many mutants on all processors, kept in a file, and gone on with later.

The file is JSON lines: the first says what is mutated (schema, setup, digest of the image, seed,
budget), each further one is a mutant's result. A campaign that was interrupted goes on behind its
last whole line; a file of another campaign is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from emu.base.endings import STATUS_FAULT, Ending
from emu.base.errors import EmuError
from emu.judge.faults import Mutation
from emu.judge.mutate import Class, Result, Subject, prepare, run_mutant
from emu.judge.trial import Setup
from emu.runs.processes import HEADROOM, pool_of

SCHEMA = 1
BATCH = 16
"""Mutants a process takes at a time: enough to make the hand-over cheap, few enough to watch."""


class Record(NamedTuple):
    """The file of a campaign, open for more, and what it holds already."""

    path: Path
    done: dict[str, Result]

    def append(self, result: Result) -> None:
        """Keep one more result."""
        _append(self.path, result._asdict())


def _append(path: Path, entry: dict[str, Any]) -> None:
    """One more line; a disk that is full costs that line and no other."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise EmuError(f"{path}: {error.strerror}") from None


def header(setup: Setup, seed: int, budget: int | None, limit: int | None) -> dict[str, Any]:
    """What makes a campaign the same."""
    digest = hashlib.sha256(Path(setup.image).read_bytes()).hexdigest()
    return {
        "type": "campaign", "schema": SCHEMA, "setup": json.loads(json.dumps(setup._asdict())),
        "image": digest, "seed": seed, "budget": budget, "limit": limit,
    }  # fmt: skip


def open_record(path: str, head: dict[str, Any]) -> Record:
    """Begin a campaign's file, or go on with it; EmuError where it is another's."""
    file = Path(path)
    if not file.exists() or not file.stat().st_size:
        _append(file, head)
        return Record(file, {})
    data = file.read_bytes()
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    try:
        found = [json.loads(line) for line in lines]
        same = bool(found) and found[0] == head
        done = {entry["mutant"]: _result(entry) for entry in found[1:]} if same else {}
    except (ValueError, KeyError, TypeError) as error:
        raise EmuError(f"{path}: is no campaign's file, or damaged: {error}") from None
    if not same:
        raise EmuError(f"{path}: belongs to another campaign; give another file, or delete it")
    with file.open("rb+") as whole:
        whole.truncate(data.rfind(b"\n") + 1)  # a line that was being written
    return Record(file, done)


def _result(entry: dict[str, Any]) -> Result:
    return Result(**{**entry, "verdict": Class(entry["verdict"]),
                     "ending": Ending(entry["ending"])})


def run_all(
    subject: Subject, setup: Setup, mutants: Sequence[Mutation], jobs: int, limit: int | None
) -> Iterator[Result]:
    """Every mutant's result, in order; one that costs its process is a crash."""
    if jobs == 1 or len(mutants) < 2 * BATCH:
        yield from (run_mutant(subject, mutation) for mutation in mutants)
        return
    left = list(mutants)
    while left:
        batches = [tuple(left[n : n + BATCH]) for n in range(0, len(left), BATCH)]
        try:
            with pool_of(jobs, HEADROOM + 2 * setup.memory, _begin, setup, limit) as pool:
                for results in pool.map(_batch, batches):
                    del left[: len(results)]
                    yield from results
        except BrokenProcessPool:
            suspects, left = left[:BATCH], left[BATCH:]
            yield from (_alone(setup, limit, mutation) for mutation in suspects)


def _alone(setup: Setup, limit: int | None, mutation: Mutation) -> Result:
    """One mutant in a process of its own."""
    try:
        with pool_of(1, HEADROOM + 2 * setup.memory, _begin, setup, limit) as pool:
            return pool.submit(_batch, (mutation,)).result()[0]
    except BrokenProcessPool:
        return Result(str(mutation), Class.CRASH, Ending.LOST, STATUS_FAULT,
                      "the process that ran it died", 0)


_subject: list[Subject] = []


def _begin(setup: Setup, limit: int | None) -> None:
    _subject[:] = [prepare(setup, limit=limit)]


def _batch(mutants: tuple[Mutation, ...]) -> list[Result]:
    return [run_mutant(_subject[0], mutation) for mutation in mutants]


def default_jobs(mutants: int) -> int:
    """One process for each processor, where there is work for them."""
    return min(os.cpu_count() or 1, max(1, mutants // (4 * BATCH)))


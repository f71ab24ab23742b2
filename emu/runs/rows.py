"""A result as a row of the file of results, and back: the table's columns in their order."""

from __future__ import annotations

import json
import zlib
from typing import Any

from emu.base.endings import Ending
from emu.judge.discovery import Verdict
from emu.judge.trial import CallLine, Outcome, Setup
from emu.runs.matrix import Cell, Result

COLUMNS = (
    "run", "place", "key", "guest", "profile", "conduit", "cpus", "core", "services", "setup",
    "image", "ending", "status", "detail", "console", "calls", "verdicts", "total_calls",
    "cycles", "instructions", "seconds",
)  # fmt: skip
INSERT = f"""
INSERT OR IGNORE INTO cells ({", ".join(COLUMNS)})
VALUES ({", ".join("?" * len(COLUMNS))})
"""
SELECT = """
SELECT guest, profile, setup, image, ending, status, detail, console, calls, verdicts,
       total_calls, cycles, instructions, seconds
FROM cells WHERE run = ? ORDER BY place
"""


def _pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)


def _unpack(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))


def to_row(run: int, place: int, result: Result) -> tuple[Any, ...]:
    """What INSERT takes."""
    cell, outcome, digest = result
    setup = cell.setup
    return (
        run, place, cell.key, cell.guest, cell.profile, setup.conduit, setup.cpus, setup.core,
        cell.services, json.dumps(setup), digest, str(outcome.ending), outcome.status,
        outcome.detail, _pack(outcome.console), _pack(outcome.calls),
        json.dumps(outcome.verdicts), outcome.total_calls, outcome.cycles, outcome.instructions,
        outcome.seconds,
    )  # fmt: skip


def from_row(row: tuple[Any, ...]) -> Result:
    """From what SELECT gives; ValueError, TypeError, KeyError or zlib.error where it is damaged."""
    guest, profile, setup, digest, ending, status, detail, console, calls, verdicts, *rest = row
    outcome = Outcome(
        Ending(ending), status, detail, _unpack(console),
        tuple(CallLine(*line) for line in _unpack(calls)),
        tuple(Verdict(*verdict) for verdict in json.loads(verdicts)), *rest,
    )  # fmt: skip
    return Result(Cell(guest, profile, read_setup(setup)), outcome, digest)


def read_setup(text: str) -> Setup:
    """A setup from its JSON; lists are tuples again."""
    setup = Setup(*json.loads(text))
    return setup._replace(
        services=tuple((str(name), bool(on)) for name, on in setup.services),
        registers=tuple((str(name), int(value)) for name, value in setup.registers),
        deny=tuple((int(base), int(count)) for base, count in setup.deny),
    )

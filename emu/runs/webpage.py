"""Results as one HTML page that opens from the disk: grid, filters, trace and console of each cell.

The page is `webpage.html` with the results in it as JSON; it loads nothing and sends nothing (its
own Content-Security-Policy forbids it). A guest may print anything: `<` is escaped within the
JSON, and the script writes text, never markup. What many cells share, traces above all, is stored
once; of a long trace or console the page holds a part and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emu.judge.discovery import RULES
from emu.runs.exports import Origin
from emu.runs.grid import make_grid, word
from emu.runs.matrix import Result, is_good

CALLS_MAX = 500
CONSOLE_MAX = 1 << 16
"""Calls and characters of one cell that are on the page: it is for looking at, JSON has all."""
_TEMPLATE = Path(__file__).with_name("webpage.html")


class _Shared:
    """Values that are stored once; a place is their number."""

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        return self._places.setdefault(value, len(self._places))

    def values(self) -> list[Any]:
        return list(self._places)


def page(results: Sequence[Result], origin: Origin, allowed: frozenset[int]) -> str:
    """The whole page."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    data = json.dumps(page_data(results, origin, allowed), separators=(",", ":"))
    return template.replace("@DATA@", escaped(data))


def escaped(data: str) -> str:
    """JSON that cannot end the script element it stands in (HTML §4.12.1.3, restrictions)."""
    return data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def page_data(
    results: Sequence[Result], origin: Origin, allowed: frozenset[int]
) -> dict[str, Any]:
    """What the script of the page reads."""
    grid, traces, texts = make_grid(results), _Shared(), _Shared()
    cells = [
        _cell(result, row, column, traces, texts, allowed)
        for (row, column), result in grid.places.items()
    ]
    rules = {verdict.rule for result in results for verdict in result.outcome.verdicts}
    return {
        **origin._asdict(),
        "rows": grid.rows,
        "columns": grid.columns,
        "cells": cells,
        "traces": traces.values(),
        "texts": texts.values(),
        "rules": {name: RULES[name]._asdict() for name in sorted(rules) if name in RULES},
    }


def _cell(
    result: Result, row: str, column: str, traces: _Shared, texts: _Shared,
    allowed: frozenset[int],
) -> dict[str, Any]:  # fmt: skip
    cell, outcome, digest = result
    # A trace without its cycles is the same on many profiles.
    calls = outcome.calls[:CALLS_MAX]
    return {
        "row": row, "column": column, "name": str(cell), "guest": cell.guest,
        "profile": cell.profile, "good": is_good(outcome, allowed), "word": word(outcome),
        "ending": outcome.ending, "status": outcome.status, "detail": outcome.detail,
        "trace": traces.place(tuple(tuple(call)[1:] for call in calls)),
        "at": [call.cycles for call in calls],
        "calls": outcome.total_calls,
        "console": texts.place(outcome.console[-CONSOLE_MAX:]),
        "printed": len(outcome.console),
        "verdicts": [list(verdict) for verdict in outcome.verdicts],
        "cycles": outcome.cycles, "instructions": outcome.instructions,
        "seconds": round(outcome.seconds, 6), "digest": digest,
        "image": cell.setup.image, "memory": cell.setup.memory, "seed": cell.setup.seed,
        "append": cell.setup.append,
    }  # fmt: skip

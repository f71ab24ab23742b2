"""What `hvcemu linux-discovery` has found, as a table and as JSON.

One table, profiles across: above what Linux has reported, below the calls it has made, so that two
kernels or two hypervisors differ in a row. Where it is wider than the terminal it is cut into
tables below each other. A row that is empty for every profile is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emu.base.errors import one_line
from emu.base.savefile import write_text
from emu.cli.printing import terminal_columns
from emu.runs.linux_discovery import END, FACTS, Found
from emu.runs.progress import wants_colour

_DIM, _GREEN, _YELLOW, _RED, _BOLD, _OFF = (
    "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[0m",
)  # fmt: skip
EMPTY = "–"
BAD = ("not started", "PTP")
"""Facts that are news only where something went wrong."""


class Look(NamedTuple):
    """Colour, and the terminal's columns (0: no limit)."""

    colour: bool = False
    width: int = 0


def look_here() -> Look:
    """As this standard output has it."""
    return Look(wants_colour(sys.stdout), terminal_columns() or 0)


class Row(NamedTuple):
    """A title and a cell for each profile; `bad` colours what is there as a warning."""

    title: str
    cells: tuple[str, ...]
    bad: bool = False


def report(rows: Sequence[Found], look: Look) -> Iterator[str]:
    """All lines."""
    releases = dict.fromkeys(row.release for row in rows if row.release)
    yield f"Linux {', '.join(map(one_line, releases)) or 'said nothing'}, to its line {END!r}"
    table = _rows(rows)
    for columns in _cuts(rows, table, look.width):
        yield ""
        yield from _lines([rows[n].profile for n in columns],
                          [row._replace(cells=tuple(row.cells[n] for n in columns))
                           for row in table], look)  # fmt: skip
    for row in rows:
        if not row.finished:
            why = row.outcome.detail.splitlines()[:1]
            text = ": ".join([f"{row.profile}: did not get there ({row.outcome.ending})", *why])
            yield _paint(one_line(text), _RED, look)


def _rows(rows: Sequence[Found]) -> list[Row]:
    facts = [_row(name, [row.reported.get(name, "") for row in rows], bad=name in BAD)
             for name in dict.fromkeys(fact.name for fact in FACTS)]  # fmt: skip
    # In the order of the calls, as of the profile below which most functions are called.
    by_length = sorted(rows, key=lambda row: len(row.calls.made), reverse=True)
    functions = dict.fromkeys(name for row in by_length for name in row.calls.made)
    calls = [_row(f"  {name}", [row.calls.made.get(name, 0) or "" for row in rows])
             for name in functions]  # fmt: skip
    ends = [
        _row("NOT_SUPPORTED", [row.calls.not_supported or "" for row in rows], bad=True),
        _row("unknown", [row.calls.unknown or "" for row in rows], bad=True),
        _row("UNDEFINED", [row.calls.undefined or "" for row in rows], bad=True),
    ]
    total = _row("calls made", [row.outcome.total_calls for row in rows])
    return [*filter(_says, facts), total, *calls, *filter(_says, ends)]


def _row(title: str, cells: Iterable[object], *, bad: bool = False) -> Row:
    return Row(one_line(title), tuple(one_line(str(cell)) for cell in cells), bad)


def _says(row: Row) -> bool:
    return any(row.cells)


def _cuts(rows: Sequence[Found], table: Sequence[Row], width: int) -> Iterator[list[int]]:
    """Which profiles stand in one table."""
    title = max(len(row.title) for row in table)
    columns: list[int] = []
    used = title
    for n, row in enumerate(rows):
        wide = 2 + max(len(row.profile), *(len(line.cells[n]) for line in table))
        if width and columns and used + wide > width:
            yield columns
            columns, used = [], title
        columns.append(n)
        used += wide
    yield columns


def _lines(profiles: Sequence[str], table: Sequence[Row], look: Look) -> Iterator[str]:
    title = max(len(row.title) for row in table)
    widths = [max(len(name), *(len(row.cells[n] or EMPTY) for row in table))
              for n, name in enumerate(profiles)]  # fmt: skip
    heads = "".join(f"  {name:<{w}}" for name, w in zip(profiles, widths, strict=True))
    yield _paint(f"{'':<{title}}{heads}".rstrip(), _BOLD, look)
    for row in table:
        padded = [f"{cell or EMPTY:<{w}}" for cell, w in zip(row.cells, widths, strict=True)]
        cells = [_paint(text, _colour(row, cell), look)
                 for text, cell in zip(padded, row.cells, strict=True)]  # fmt: skip
        yield "  ".join([f"{row.title:<{title}}", *cells]).rstrip()


def _colour(row: Row, cell: str) -> str:
    if not cell:
        return _DIM
    return _YELLOW if row.bad or cell in ("affected", "broken") else _GREEN


def _paint(text: str, colour: str, look: Look) -> str:
    return f"{colour}{text}{_OFF}" if look.colour else text


# -- JSON ---------------------------------------------------------------------------------------


def as_json(image: str, rows: Sequence[Found]) -> dict[str, Any]:
    """Everything, the same on every host."""
    return {
        "image": image,
        "end": END,
        "facts": {fact.name: fact.source for fact in FACTS},
        "profiles": {
            row.profile: {
                "release": row.release,
                "finished": row.finished,
                "ending": str(row.outcome.ending),
                "detail": row.outcome.detail,
                "cycles": row.outcome.cycles,
                "reported": dict(row.reported),
                "calls": dict(row.calls.made),
                "total_calls": row.outcome.total_calls,
                "not_supported": row.calls.not_supported,
                "unknown": row.calls.unknown,
                "undefined": row.calls.undefined,
                "console": row.outcome.console,
            }
            for row in rows
        },
    }


def write_json(path: str, image: str, rows: Sequence[Found]) -> None:
    """To a file, or to standard output for `-`."""
    import json

    text = json.dumps(as_json(image, rows), indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        write_text(Path(path), text)

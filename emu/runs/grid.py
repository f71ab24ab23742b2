"""Results as a grid of short words, guests down and profiles across, and its lines for a terminal.

What does not vary is not shown: a row names vCPUs, core, services, memory and seed only where
the matrix has several of them, a column names the conduit only where one was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from emu.base.endings import Ending
from emu.base.errors import one_line
from emu.judge.trial import Outcome
from emu.runs.compare import ending_text
from emu.runs.matrix import Cell, Result, is_good, size_text

_GREEN, _YELLOW, _RED, _MAGENTA, _DIM, _OFF = (
    "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[35m", "\x1b[2m", "\x1b[0m",
)  # fmt: skip
EMPTY = "–"
"""Where a combination does not exist: a service that only some profiles have."""

# How a row tells its varied axes: what is compared, and how it is written.
_AXES: tuple[tuple[Callable[[Cell], Any], Callable[[Cell], str]], ...] = (
    (lambda cell: cell.setup.cpus, lambda cell: f"×{cell.setup.cpus}"),
    (lambda cell: cell.setup.core, lambda cell: cell.setup.core),
    (lambda cell: cell.services, lambda cell: cell.services),
    (lambda cell: cell.setup.memory, lambda cell: size_text(cell.setup.memory)),
    (lambda cell: cell.setup.seed, lambda cell: f"seed={cell.setup.seed}"),
)


class Grid(NamedTuple):
    """Titles of rows and columns in the order of the matrix, and who stands where."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    places: dict[tuple[str, str], Result]


def make_grid(results: Sequence[Result]) -> Grid:
    """The grid of some results."""
    varied = [
        text for value, text in _AXES if len({value(result.cell) for result in results}) > 1
    ]
    places = {}
    for result in results:
        cell = result.cell
        row = " ".join(filter(None, (cell.guest, *(text(cell) for text in varied))))
        places[row, " ".join(filter(None, (cell.profile, cell.setup.conduit)))] = result
    rows, columns = (tuple(dict.fromkeys(key[n] for key in places)) for n in (0, 1))
    return Grid(rows, columns, places)


def word(outcome: Outcome) -> str:
    """An outcome in a word or two."""
    broken = len({verdict.rule for verdict in outcome.verdicts})
    rules = f"{broken} rule{'s' * (broken > 1)}" if broken else ""
    if outcome.status == 0 and outcome.ending in (Ending.OFF, Ending.EXIT):
        return rules or "ok"
    text = ending_text(outcome)
    return f"{text}, {rules}" if rules else text


def reason(outcome: Outcome) -> str:
    """Why a cell is not good: the first line of what is known."""
    parts = dict.fromkeys(verdict.rule for verdict in outcome.verdicts)
    first = next(iter(outcome.detail.splitlines()), "")
    if first and outcome.ending not in (Ending.OFF, Ending.EXIT):
        parts = {first: None} | parts
    return one_line("; ".join(parts))


# -- for a terminal -----------------------------------------------------------------------------


class Look(NamedTuple):
    """How it is shown: which statuses count as good, colour, and columns (0: no limit)."""

    allowed: frozenset[int] = frozenset()
    colour: bool = False
    width: int = 0


def table_lines(results: Sequence[Result], look: Look) -> Iterator[str]:
    """The grid as aligned columns; a list where it is wider than the terminal."""
    grid = make_grid(results)
    texts = [[one_line(row), *(_text(grid, row, c) for c in grid.columns)] for row in grid.rows]
    titles = ["", *map(one_line, grid.columns)]
    widths = [max(map(len, column)) for column in zip(titles, *texts, strict=True)]
    if look.width and sum(widths) + 2 * len(widths) - 2 > look.width:
        yield from list_lines(results, look)
        return
    yield "  ".join(f"{t:<{w}}" for t, w in zip(titles, widths, strict=True)).rstrip()
    for row, cells in zip(grid.rows, texts, strict=True):
        padded = [f"{t:<{w}}" for t, w in zip(cells, widths, strict=True)]
        for n, column in enumerate(grid.columns, 1):
            padded[n] = _paint(padded[n], grid.places.get((row, column)), look)
        yield "  ".join(padded).rstrip()


def list_lines(results: Iterable[Result], look: Look) -> Iterator[str]:
    """One line per cell."""
    for result in results:
        text = f"{word(result.outcome):<10}"
        yield f"{_paint(text, result, look)}  {one_line(str(result.cell))}"


def reason_lines(
    results: Iterable[Result], look: Look, *, every: bool = False
) -> Iterator[str]:
    """One line for each cell that is not good; without `every` where the table has not said all."""
    for result in results:
        why = reason(result.outcome)
        if (why or every) and not is_good(result.outcome, look.allowed):
            text = word(result.outcome) + (f": {why}" if why else "")
            yield f"{one_line(str(result.cell))}: {_paint(text, result, look)}"


def _text(grid: Grid, row: str, column: str) -> str:
    found = grid.places.get((row, column))
    return word(found.outcome) if found else EMPTY


def _paint(text: str, result: Result | None, look: Look) -> str:
    return f"{_colour(result, look)}{text}{_OFF}" if look.colour else text


def _colour(result: Result | None, look: Look) -> str:
    if result is None:
        return _DIM
    if is_good(result.outcome, look.allowed):
        return _GREEN
    if result.outcome.ending in (Ending.LOST, Ending.REFUSED):
        return _MAGENTA
    return _YELLOW if result.outcome.status == 0 else _RED

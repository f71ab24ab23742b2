"""Two runs of a matrix, cell by cell: what a guest did otherwise than before.

Calls are compared by what a guest can see: vCPU, conduit, call and result in their order; when
they were answered and why is not compared, nor are host seconds. Cycles may differ by a
tolerance in percent of the old value. Verdicts are compared by rule and text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from emu.base.errors import one_line
from emu.judge.trial import CallLine, Outcome
from emu.runs.matrix import Cell, Result, cells_text

DIFF_LINES = 40
"""Lines of a diff that are shown of one cell."""


class Change(NamedTuple):
    """A cell that is not as before: in which respects, and a unified diff where there is one."""

    cell: Cell
    what: tuple[str, ...]
    diff: tuple[str, ...]


class Comparison(NamedTuple):
    """What has changed, and the cells that only one of the runs has."""

    changes: tuple[Change, ...]
    new: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    same: int

    def lines(self) -> Iterator[str]:
        """For people."""
        for change in self.changes:
            yield f"changed: {change.cell}: {'; '.join(change.what)}"
            yield from (f"    {one_line(line)}" for line in change.diff[:DIFF_LINES])
            if (more := len(change.diff) - DIFF_LINES) > 0:
                yield f"    … and {more:,} lines more"
        yield from (f"new: {cell}" for cell in self.new)
        yield from (f"missing: {cell}" for cell in self.missing)
        yield f"{cells_text(self.same)} as before, {len(self.changes):,} changed, " \
              f"{len(self.new):,} new, {len(self.missing):,} missing"


def compare(
    old: Sequence[Result], new: Sequence[Result], tolerance: float = 0.0
) -> Comparison:
    """The cells of `new` against those of `old`; `tolerance` is in percent of cycles."""
    before = {result.cell.key: result for result in old}
    after = {result.cell.key: result for result in new}
    both = [(before[key], result) for key, result in after.items() if key in before]
    changes = tuple(
        change for one, other in both
        if (change := _change(other.cell, one.outcome, other.outcome, tolerance))
    )  # fmt: skip
    return Comparison(
        changes,
        tuple(result.cell for key, result in after.items() if key not in before),
        tuple(result.cell for key, result in before.items() if key not in after),
        len(both) - len(changes),
    )


def _change(cell: Cell, old: Outcome, new: Outcome, tolerance: float) -> Change | None:
    what: list[str] = []
    diff: list[str] = []
    if (old.ending, old.status) != (new.ending, new.status):
        what.append(f"was {ending_text(old)}, is {ending_text(new)}")
    if (were := _verdicts(old)) != (are := _verdicts(new)):
        what.append("other verdicts")
        diff += _diff(were, are, "verdicts")
    if (were := _calls(old)) != (are := _calls(new)) or old.total_calls != new.total_calls:
        what.append(f"other calls ({old.total_calls:,} were made, now {new.total_calls:,})")
        diff += _diff(were, are, "calls")
    if old.console != new.console:
        what.append("another console")
        diff += _diff(old.console.splitlines(), new.console.splitlines(), "console")
    if abs(new.cycles - old.cycles) > old.cycles * tolerance / 100:
        what.append(f"{old.cycles:,} cycles before, {new.cycles:,} now{_percent(old, new)}")
    return Change(cell, tuple(what), tuple(diff)) if what else None


def ending_text(outcome: Outcome) -> str:
    """An ending with its status where that says more."""
    return f"{outcome.ending} {outcome.status}" if outcome.ending == "exit" else outcome.ending


def _percent(old: Outcome, new: Outcome) -> str:
    return f" ({(new.cycles / old.cycles - 1) * 100:+.2f}%)" if old.cycles else ""


def _verdicts(outcome: Outcome) -> list[str]:
    return sorted(f"{verdict.rule}: {verdict.text}" for verdict in outcome.verdicts)


def _calls(outcome: Outcome) -> list[str]:
    return [_line(call) for call in outcome.calls]


def _line(call: CallLine) -> str:
    return f"cpu{call.vcpu} {call.by} {call.call} -> {call.result}"


def _diff(old: Sequence[str], new: Sequence[str], what: str) -> Iterator[str]:
    """A unified diff of the first `LONGEST` lines."""
    names = f"{what} before", f"{what} now"
    return difflib.unified_diff(old[:LONGEST], new[:LONGEST], *names, lineterm="", n=1)


LONGEST = 2_000
"""Lines of a text that are compared for the diff: `difflib` takes quadratic time."""

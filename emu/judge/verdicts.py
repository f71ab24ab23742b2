"""Verdicts for people: which rules a guest broke, where and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from emu.judge.discovery import Verdict


def verdict_lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Verdicts for people."""
    for verdict in verdicts:
        where = f" at {verdict.place}" if verdict.place else f" at {verdict.pc:#x}"
        yield f"{verdict.rule}: {verdict.text}"
        yield f"  vCPU {verdict.vcpu}{where}, cycle {verdict.cycles:,}"


def verdict_summary(verdicts: Sequence[Verdict]) -> str:
    """How many rules, and what to type next."""
    broken = len({verdict.rule for verdict in verdicts})
    if not broken:
        return "no rule broken"
    return f"{broken} rule{'s' * (broken > 1)} broken; `hvcemu rules NAME` explains each"

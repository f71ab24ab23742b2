"""What a guest did wrong while it found out what lies below it: rules, and verdicts on a run.

skeleton
"""

from __future__ import annotations

from typing import Any, NamedTuple

from emu.instrument import Instrument


class Rule(NamedTuple):
    """Something a guest must not do; `source` is the specification that says so."""

    name: str
    title: str
    source: str
    example: str
    fix: str


class Verdict(NamedTuple):
    """A rule that was broken: when, by which vCPU, where, and what exactly happened."""

    rule: str
    cycles: int
    vcpu: int
    pc: int
    place: str
    text: str


RULES: dict[str, Rule] = {}


class Inspector(Instrument):
    """Watches a run and judges it."""

    def __init__(self, vm: Any) -> None:
        self._found: list[Verdict] = []

    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(self._found)

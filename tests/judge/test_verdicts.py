"""Verdicts for people."""

from __future__ import annotations

import pytest

from emu.judge.discovery import Verdict
from emu.judge.verdicts import verdict_lines, verdict_summary

HERE = Verdict("conduit-unknown", 12_345_678, 3, 0x4008_0010, "main+0x10", "HVC before /psci")
NOWHERE = HERE._replace(rule="dirty-function-id", place="", cycles=7, vcpu=0)


def test_a_verdict_is_two_lines():
    """What, by its rule's name; and who, where and when: by symbol, or by address without one."""
    assert list(verdict_lines([HERE, NOWHERE])) == [
        "conduit-unknown: HVC before /psci",
        "  vCPU 3 at main+0x10, cycle 12,345,678",
        "dirty-function-id: HVC before /psci",
        "  vCPU 0 at 0x40080010, cycle 7",
    ]
    assert list(verdict_lines(())) == []


@pytest.mark.parametrize(
    ("verdicts", "summary"),
    [
        ([], "no rule broken"),
        ([HERE], "1 rule broken; `hvcemu rules NAME` explains each"),
        ([HERE, HERE._replace(cycles=9)], "1 rule broken; `hvcemu rules NAME` explains each"),
        ([HERE, NOWHERE], "2 rules broken; `hvcemu rules NAME` explains each"),
    ],
)
def test_rules_are_counted_once(verdicts, summary):
    assert verdict_summary(verdicts) == summary

"""Results as a table."""

import pytest

from emu.base.endings import Ending
from emu.runs.grid import Look, make_grid, reason, reason_lines, table_lines, word
from matrix_kit import BROKEN, outcome, result

FAULT = outcome(Ending.FAULT, 121, detail="undefined instruction\nmore")


@pytest.mark.parametrize(
    ("made", "text", "why"),
    [
        (outcome(), "ok", ""),
        (outcome(Ending.EXIT, 0, detail="0"), "ok", ""),
        (outcome(Ending.EXIT, 3, detail="3"), "exit 3", ""),
        (FAULT, "fault", "undefined instruction"),
        (outcome(verdicts=(BROKEN, BROKEN)), "1 rule", "made-up-rule"),
        (outcome(verdicts=(BROKEN, BROKEN._replace(rule="b"))), "2 rules", "made-up-rule; b"),
        (outcome(Ending.LIMIT, 124, verdicts=(BROKEN,)), "limit, 1 rule", "made-up-rule"),
        (outcome(Ending.LOST, 121, detail="\x1b[2J"), "lost", "\\x1b[2J"),
    ],
)
def test_words(made, text, why):
    assert (word(made), reason(made)) == (text, why)


def test_only_what_varies_is_shown():
    plain = make_grid([result(), result(profile="none")])
    assert (plain.rows, plain.columns) == (("hello",), ("kvm-6.12", "none"))
    varied = make_grid([
        result(conduit=conduit, cpus=cpus, memory=cpus << 20)
        for cpus in (1, 4) for conduit in ("hvc", "smc")
    ])  # fmt: skip
    assert varied.rows == ("hello ×1 1M", "hello ×4 4M")
    assert varied.columns == ("kvm-6.12 hvc", "kvm-6.12 smc")
    assert len(varied.places) == 4


RESULTS = [
    result("a"), result("a", "none", outcome(Ending.EXIT, 3)), result("long-name", made=FAULT)
]


def test_a_table():
    assert list(table_lines(RESULTS, Look())) == [
        "           kvm-6.12  none",
        "a          ok        exit 3",
        "long-name  fault     –",
    ]


def test_a_list_where_the_table_is_too_wide():
    assert len(list(table_lines(RESULTS, Look(width=27)))) == 3
    assert list(table_lines(RESULTS, Look(width=26))) == [
        "ok          a kvm-6.12", "exit 3      a none", "fault       long-name kvm-6.12",
    ]  # fmt: skip


def test_colour_only_when_it_is_wanted():
    assert "\x1b" not in "".join(table_lines(RESULTS, Look()))
    shown = "\n".join(table_lines(RESULTS, Look(colour=True)))
    for piece in ("\x1b[32mok", "\x1b[31mexit 3", "\x1b[31mfault", "\x1b[2m–"):
        assert piece in shown
    assert "\x1b[32mexit 3" in "".join(table_lines(RESULTS, Look(frozenset({3}), colour=True)))
    lost = result(made=outcome(Ending.LOST, 121)), result("b", made=outcome(verdicts=(BROKEN,)))
    shown = "".join(table_lines(lost, Look(colour=True)))
    assert "\x1b[35mlost" in shown
    assert "\x1b[33m1 rule" in shown


def test_reasons():
    assert list(reason_lines(RESULTS, Look())) == [
        "long-name kvm-6.12: fault: undefined instruction"
    ]
    assert next(reason_lines(RESULTS, Look(), every=True)) == "a none: exit 3"
    assert len(list(reason_lines(RESULTS, Look(frozenset({3})), every=True))) == 1

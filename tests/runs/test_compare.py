"""What counts as a change, and what is said of it."""

import pytest

from emu.base.endings import Ending
from emu.runs.compare import DIFF_LINES, compare
from matrix_kit import BROKEN, HELLO, outcome, result

OTHER = HELLO._replace(result="0x0")


def lines(old, new, tolerance=0.0):
    return list(compare([result(made=old)], [result(made=new)], tolerance).lines())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"ending": Ending.FAULT, "status": 121}, "was off, is fault"),
        ({"ending": Ending.EXIT, "status": 3}, "was off, is exit 3"),
        ({"verdicts": (BROKEN,)}, "other verdicts"),
        ({"calls": (OTHER,)}, "other calls"),
        ({"calls": (HELLO._replace(by="smc"),)}, "other calls"),
        ({"calls": (HELLO._replace(vcpu=1),)}, "other calls"),
        ({"calls": (), "total_calls": 0}, "1 were made, now 0"),
        ({"total_calls": 2}, "1 were made, now 2"),
        ({"console": "bye\n"}, "another console"),
        ({"cycles": 1001}, "1,000 cycles before, 1,001 now (+0.10%)"),
        ({"cycles": 0}, "1,000 cycles before, 0 now (-100.00%)"),
    ],
)
def test_a_change(more, says):
    first, *_, last = lines(outcome(), outcome(**more))
    assert first.startswith("changed: hello kvm-6.12: ")
    assert says in first
    assert last == "0 cells as before, 1 changed, 0 new, 0 missing"


@pytest.mark.parametrize(
    "more",
    [
        {"seconds": 9.0}, {"detail": "told otherwise"}, {"instructions": 7},
        {"calls": (HELLO._replace(cycles=5, why="somebody else"),)},
        {"verdicts": ()},
    ],
)  # fmt: skip
def test_no_change(more):
    assert lines(outcome(), outcome(**more)) == ["1 cell as before, 0 changed, 0 new, 0 missing"]


@pytest.mark.parametrize(
    ("cycles", "tolerance", "changed"),
    [(1050, 5.0, 0), (950, 5.0, 0), (1051, 5.0, 1), (949, 5.0, 1), (1000, 0.0, 0)],
)
def test_tolerance(cycles, tolerance, changed):
    found = compare([result()], [result(made=outcome(cycles=cycles))], tolerance)
    assert len(found.changes) == changed


def test_a_verdict_elsewhere_is_the_same_verdict():
    one, other = (outcome(verdicts=(BROKEN._replace(pc=pc, cycles=pc),)) for pc in (4, 8))
    assert len(lines(one, other)) == 1


def test_the_calls_are_shown_as_a_unified_diff():
    shown = lines(outcome(), outcome(calls=(OTHER,)))
    assert "    -cpu0 hvc PSCI_VERSION() -> 0x10001 (version 1.1)" in shown
    assert "    +cpu0 hvc PSCI_VERSION() -> 0x0" in shown


def test_a_console_does_nothing_to_the_terminal():
    shown = lines(outcome(), outcome(console="\x1b[2Jgone\n"))
    assert "    +\\x1b[2Jgone" in shown


def test_long_diffs_are_cut():
    many = outcome(console="".join(f"{n}\n" for n in range(5000)))
    shown = lines(outcome(), many)
    assert len(shown) == DIFF_LINES + 3
    assert "lines more" in shown[-2]


def test_new_and_missing_cells_are_listed():
    found = compare([result("a"), result("b")], [result("b"), result("c")])
    assert list(found.lines()) == [
        "new: c kvm-6.12", "missing: a kvm-6.12", "1 cell as before, 0 changed, 1 new, 1 missing",
    ]  # fmt: skip

"""`hvcemu doctor` as a user meets it."""

import pytest

from emu.cli import doctor
from emu.cli.doctor import Check


def test_this_host(hvcemu):
    status, out, _ = hvcemu("doctor")
    assert status == 0
    assert out.endswith("everything vital works\n")


@pytest.mark.parametrize(
    ("vital", "answer"),
    [
        (True, (1, "BAD it                    broken\nsomething vital is broken, see BAD above\n")),
        (False, (0, "--  it                    broken\neverything vital works\n")),
    ],
)
def test_a_check_that_fails(hvcemu, monkeypatch, vital, answer):
    monkeypatch.setattr(doctor, "checks", lambda: [Check("it", False, "broken", vital)])
    assert hvcemu("doctor")[:2] == answer

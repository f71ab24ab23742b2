"""Descriptions of calls: read as they are meant, and refused with their line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.callspec import Argument, CallSpec, Field, parse
from emu.errors import EmuError

TEXT = """
# SDEI, as an example
smc: EVENT_STATUS: 0xC6000025
    arg1: event
        field: number: [0,30] = {0, 2-7}   # some
        field: vendor: [31,31]
    arg2 = 0x10
smc: PSCI_VERSION
"""


def test_a_description_is_read():
    assert parse(TEXT) == [
        CallSpec("EVENT_STATUS", 0xC600_0025, [
            Argument(1, "event", [Field("number", 0, 30, ((0, 0), (2, 7))),
                                  Field("vendor", 31, 31)]),
            Argument(2, "arg2", [Field("value", 0, 63, ((16, 16),))]),
        ]),
        CallSpec("PSCI_VERSION", 0x8400_0000, []),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "calls: describes no call"),
        ("arg1: a", "calls:1: begin with a call"),
        ("smc: NO_SUCH", "calls:1: no function is known as NO_SUCH"),
        ("smc: A: nonsense", "calls:1: 'nonsense' is not a number"),
        ("smc: A: 1\nfield: x: [0,1]", "calls:2: a field belongs to an argument"),
        ("smc: A: 1\narg8: x", "arg8: arguments are arg1 to arg7"),
        ("smc: A: 1\narg1: x\narg1: y", "calls:3: arg1 is described twice"),
        ("smc: A: 1\narg1: x\nfield: f: [3,2]", r"\[3,2\] are no bits"),
        ("smc: A: 1\narg1: x\nfield: f: [0,64]", r"\[0,64\] are no bits"),
        ("smc: A: 1\narg1: x\nfield: f: [0,7]\nfield: g: [7,9]", "field g overlaps field f"),
        ("smc: A: 1\narg1: x\nfield: f: [0,1] = {4}", "field f cannot hold 0x4-0x4"),
        ("smc: A: 1\narg1: x\nfield: f: [0,1] = {2-1}", "cannot hold"),
        ("smc: A: 1\nwhat is this", "calls:2: 'what is this' is none of"),
    ],
)
def test_a_mistake_names_its_line(text, says):
    with pytest.raises(EmuError, match=says):
        parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(EmuError):
        assert parse(text)

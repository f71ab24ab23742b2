"""Descriptions of calls: read as they are meant, and refused with their line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import EmuError
from emu.judge.callspec import Argument, CallSpec, Field, parse

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
            Argument(2, "arg2", [Field("value", 0, 63, ((16, 16),), fixed=True)]),
        ]),
        CallSpec("PSCI_VERSION", 0x8400_0000, []),
    ]  # fmt: skip


def test_the_form_of_tf_a_tests():
    """smc_fuzz/psci_smc_calls.txt and sdei_smc_calls.txt, in miniature."""
    spec = parse(
        "define AFFINITY_ID = 0xc4000004\n"
        "smc: PSCI_AFFINITY_INFO_AARCH64_CALL AFFINITY_ID\n"
        "\targ1:affinfo\n\t\tfield:res1:[40,63] := 0\n\t\tfield:aff3:[32,39] = 0\n"
        "\targ2:lowafflevel\n\t\tfield:lal:[63,0] = 0\n"
        "smc: SDEI_EVENT_STATUS_CALL\n        arg1:bev\n                field:bev:[0,31] = 0\n"
        "smc: SDEI_VERSION_CALL 0xC4000020\n        arg1-arg17 = 0\n"
    )
    affinity, status, version = spec
    assert (affinity.fid, status.fid, version.fid) == (0xC400_0004, 0xC400_0028, 0xC400_0020)
    assert affinity.arguments[0].fields == [
        Field("res1", 40, 63, ((0, 0),), fixed=True), Field("aff3", 32, 39, ((0, 0),)),
    ]  # fmt: skip
    assert affinity.arguments[1].fields == [Field("lal", 0, 63, ((0, 0),))]
    assert [argument.number for argument in version.arguments] == list(range(1, 18))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "calls: describes no call"),
        ("arg1: a", "calls:1: begin with a call"),
        ("smc: NO_SUCH", "calls:1: no function is known as NO_SUCH"),
        ("smc: A: nonsense", "calls:1: 'nonsense' is not a number"),
        ("smc: A: 1\nfield: x: [0,1]", "calls:2: a field belongs to an argument"),
        ("smc: A: 1\narg18: x", "arg18: arguments are arg1 to arg17"),
        ("smc: A: 1\narg7-arg9 = 1", "arg8: only arg1 to arg7 may be other than 0"),
        ("smc: A B", "'B' is not a number"),
        ("smc: A: 1\narg1: x\narg1: y", "calls:3: arg1 is described twice"),
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

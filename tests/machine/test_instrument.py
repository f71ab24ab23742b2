"""An instrument hears everything and changes nothing."""

from __future__ import annotations

import dataclasses

import pytest

from emu.base.exits import Deadline
from emu.base.smccc import UNDEF, Call
from emu.machine.instrument import CallRecord, ExceptionRecord, Instrument

CALL = CallRecord(1, 1, 0x4000_0000, Call((0,)), UNDEF, "why", "source")
EXCEPTION = ExceptionRecord(1, 1, 0, 0x4000_0000, 0x4000_0200, 0x5600_0000, None)


def test_the_base_does_nothing():
    silent = Instrument()
    assert silent.on_call(CALL) is None
    assert silent.on_exception(EXCEPTION) is None
    assert silent.on_exit(Deadline()) is None


@pytest.mark.parametrize("record", [CALL, EXCEPTION])
def test_records_are_frozen(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.pc = 0

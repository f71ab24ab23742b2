"""The encodings of the ICC registers, and whom an SGI reaches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm import icc
from emu.arm.arbiter import Arbiter, State, Vcpu
from emu.arm.arch import SysReg
from emu.arm.interrupts import ALL, Bank

# IHI 0069, "AArch64 System register descriptions": op0 is 3 and op1 0 in all of them.
ENCODINGS = [
    ("PMR", 4, 6, 0), ("IAR0", 12, 8, 0), ("EOIR0", 12, 8, 1), ("HPPIR0", 12, 8, 2),
    ("BPR0", 12, 8, 3), ("AP0R0", 12, 8, 4), ("AP1R0", 12, 9, 0), ("DIR", 12, 11, 1),
    ("RPR", 12, 11, 3), ("SGI1R", 12, 11, 5), ("ASGI1R", 12, 11, 6), ("SGI0R", 12, 11, 7),
    ("IAR1", 12, 12, 0), ("EOIR1", 12, 12, 1), ("HPPIR1", 12, 12, 2), ("BPR1", 12, 12, 3),
    ("CTLR", 12, 12, 4), ("SRE", 12, 12, 5), ("IGRPEN0", 12, 12, 6), ("IGRPEN1", 12, 12, 7),
]  # fmt: skip


@pytest.mark.parametrize(("name", "crn", "crm", "op2"), ENCODINGS)
def test_encodings(name, crn, crm, op2):
    assert getattr(icc, f"ICC_{name}_EL1") == SysReg(3, 0, crn, crm, op2)


AFFINITIES = (0x0, 0x1, 0xF, 0x10, 0x23, 0x100, 0x101, 0x1_0001, 0x7_0102_0301)


def registers() -> icc.SystemRegisters:
    vcpus = [Vcpu(Bank(group=ALL)) for _ in AFFINITIES]
    return icc.SystemRegisters(Arbiter(State(vcpus=vcpus), len(vcpus)), AFFINITIES)


fields = st.sampled_from([0, 1, 2, 3, 7])


@given(fields, fields, fields, fields, st.integers(0, 0xFFFF), st.booleans(), st.integers(0, 15))
def test_whom_an_sgi_reaches(aff3, aff2, aff1, selector, listed, everybody, sgi):
    """ICC_SGI1R_EL1's fields, one target after the other."""
    found = registers()
    value = aff3 << 48 | selector << 44 | everybody << 40 | aff2 << 32 | sgi << 24 | aff1 << 16
    assert found.write(2, icc.ICC_SGI1R_EL1, value | listed)
    for n, (vcpu, affinity) in enumerate(zip(found.arbiter.state.vcpus, AFFINITIES, strict=True)):
        above, aff0 = (aff3, aff2, aff1), affinity & 0xFF
        mine = (affinity >> 32, affinity >> 16 & 0xFF, affinity >> 8 & 0xFF)
        named = above == mine and aff0 >> 4 == selector and listed >> (aff0 & 0xF) & 1
        reached = n != 2 if everybody else bool(named)
        assert vcpu.private.latch == reached << sgi


def test_affinities_that_have_to_be_declared():
    found = registers()
    assert (found.a3v, found.rss) == (True, True)
    plain = icc.SystemRegisters(Arbiter(State(vcpus=[Vcpu()]), 1), [0x1_010F])
    assert (plain.a3v, plain.rss) == (False, False)
    assert found.read(0, icc.ICC_CTLR_EL1) == 0x4_8400
    assert plain.read(0, icc.ICC_CTLR_EL1) == 0x400

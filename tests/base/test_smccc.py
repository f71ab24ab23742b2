"""The calling convention: identifiers, arguments, replies (abi/A)."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base import smccc
from emu.base.smccc import (
    UNDEF,
    Call,
    Conduit,
    FunctionId,
    Owner,
    Ret,
    Retry,
    uuid_text,
    uuid_words,
)

u32 = st.integers(0, 0xFFFF_FFFF)
u64 = st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
ONES = 0xFFFF_FFFF_FFFF_FFFF

# --- identifiers (abi/A §A1, §A2) -------------------------------------------------------------

IDS = [  # identifier, fast, smc64, owner, number
    (0x8000_0000, True, False, Owner.ARM, 0),
    (0x8100_0001, True, False, Owner.CPU, 1),
    (0x8200_0002, True, False, Owner.SIP, 2),
    (0x8300_0003, True, False, Owner.OEM, 3),
    (0xC400_0003, True, True, Owner.STANDARD_SECURE, 3),
    (0xC500_0021, True, True, Owner.STANDARD_HYP, 0x21),
    (0x8600_FF01, True, False, Owner.VENDOR_HYP, 0xFF01),
    (0x8700_FF01, True, False, Owner.VENDOR_EL3, 0xFF01),
    (0x4600_0001, False, True, Owner.VENDOR_HYP, 1),
    (0xBF00_FF01, True, False, 63, 0xFF01),
]


@pytest.mark.parametrize(("value", "fast", "smc64", "owner", "number"), IDS)
def test_identifier_fields(value, fast, smc64, owner, number):
    fid = FunctionId(value)
    assert (fid.fast, fid.smc64, fid.owner, fid.number) == (fast, smc64, owner, number)
    assert FunctionId.of(owner, number, smc64=smc64, fast=fast) == value
    assert str(fid) == repr(fid) == f"0x{value:08X}"


def test_reserved_bits_and_sve_hint():
    assert FunctionId(0x84FE_0000).reserved == 0x7F
    assert FunctionId(0x8401_0000).reserved == 0
    assert FunctionId(0x8401_0003).sve_hint
    assert not FunctionId(0x8400_0003).sve_hint


@given(u64)
def test_identifier_is_w0_and_round_trips(x0):
    fid = FunctionId(x0)
    assert fid == x0 & 0xFFFF_FFFF == Call((x0,)).fid
    built = FunctionId.of(fid.owner, fid.number, smc64=fid.smc64, fast=fid.fast)
    assert built | fid.reserved << 17 | fid.sve_hint << 16 == fid


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "Arm architecture"),
        (4, "standard secure services"),
        (6, "vendor-specific hypervisor"),
        (8, "reserved"),
        (47, "reserved"),
        (48, "trusted applications"),
        (49, "trusted applications"),
        (50, "trusted OS"),
        (63, "trusted OS"),
    ],
)
def test_owner_in_words(number, text):
    assert Owner.describe(number) == text


# --- arguments (abi/A §A4: SMC32 ignores the upper halves) -------------------------------------


def test_arguments():
    wide = (0xC400_0003, 0x1_2345_6789_0000_0001 & ONES, ONES)
    assert Call(wide).arg(2) == ONES
    assert Call((0x8400_0003, *wide[1:])).arg(2) == 0xFFFF_FFFF
    assert Call(wide).arg32(2) == 0xFFFF_FFFF
    assert Call(wide).conduit is Conduit.HVC
    assert (Call(wide).imm, Call(wide).vcpu) == (0, 0)


# --- replies -----------------------------------------------------------------------------------


@given(st.integers(-(2**70), 2**70), st.lists(st.integers(-(2**70), 2**70), max_size=17))
def test_registers_are_64_bits(x0, more):
    for ret in (Ret.value(x0), Ret.only(x0, *more), Ret.success(x0, x0, x0)):
        assert all(0 <= x <= ONES for x in ret)
    assert all(0 <= x < 2**32 for x in Ret.words(x0, x0, x0, x0))
    assert Ret.only(x0, *more)[1:] == tuple(x & ONES for x in more)


def test_named_replies():
    assert Ret.value(-1) == Ret.not_supported() == (ONES, 0, 0, 0)
    assert Ret.success(1, 2, 3) == (0, 1, 2, 3)
    assert Ret.success() == (0, 0, 0, 0)
    assert Ret.only(-1) == (ONES,)
    assert Ret.untouched() == ()
    assert Ret.words(-1, 0, 1 << 32, 5) == (0xFFFF_FFFF, 0, 0, 5)
    assert Ret.success(1, 2, 3).first(2) == (0, 1)
    assert Ret.untouched().first(1) == ()


def test_return_codes():
    assert (smccc.SUCCESS, smccc.NOT_SUPPORTED) == (0, -1)
    assert (smccc.NOT_REQUIRED, smccc.INVALID_PARAMETER) == (-2, -3)


def test_signs():
    assert Ret.value(-2).signed == -2
    assert Ret.value(2).signed == 2
    assert Ret.value(-2).x0 == ONES - 1


def test_too_many_registers():
    assert len(Ret.only(0, *range(17))) == 18
    with pytest.raises(ValueError, match="18 registers"):
        Ret.only(0, *range(18))
    with pytest.raises(ValueError, match="18 registers"):
        Ret.retry(*range(19))


def test_text():
    assert repr(Ret.only(1, 255)) == "Ret(x0=0x1, x1=0xff)"
    assert repr(Ret.untouched()) == "Ret()"
    assert repr(Ret.retry(1)) == "Retry(x0=0x1)"
    assert repr(UNDEF) == "UNDEF"


@pytest.mark.parametrize("registers", [(), (1,), (-1, 2), tuple(range(18))])
def test_a_reply_after_which_the_call_is_made_again(registers):
    again = Ret.retry(*registers)
    assert again == tuple(x & ONES for x in registers)
    assert type(again) is Retry
    assert type(again.first(1)) is Retry, "fewer registers, and still made again"
    assert type(Ret.only(1).first(1)) is Ret


# --- UIDs (abi/A §A6: first byte in bits 7:0 of w0) --------------------------------------------

UIDS = [
    ("28b46fb6-2ec5-11e9-a9ca-4b564d003a74", 0xB66FB428, 0xE911C52E, 0x564BCAA9, 0x743A004D),
    ("58ba324d-6447-24cd-756c-ef8e24705916", 0x4D32BA58, 0xCD244764, 0x8EEF6C75, 0x16597024),
    ("a71812dc-c698-4369-9acf-79d18ddee667", 0xDC1218A7, 0x694398C6, 0xD179CF9A, 0x67E6DE8D),
    ("c1d58fcd-a453-5fdb-9265-ce36673d5f14", 0xCD8FD5C1, 0xDB5F53A4, 0x36CE6592, 0x145F3D67),
    ("f863386f-4b39-4cbd-9220-ce1641e59f6f", 0x6F3863F8, 0xBD4C394B, 0x16CE2092, 0x6F9FE541),
    ("5b908d10-63f8-e847-ae2d-c0fb5641f6e2", 0x108D905B, 0x47E8F863, 0xFBC02DAE, 0xE2F64156),
    ("b6011dca-57c4-407e-83f0-a7eddaf0df6c", 0xCA1D01B6, 0x7E40C457, 0xEDA7F083, 0x6CDFF0DA),
]


@pytest.mark.parametrize(("text", "w0", "w1", "w2", "w3"), UIDS)
def test_uid_words(text, w0, w1, w2, w3):
    assert uuid_words(text) == (w0, w1, w2, w3)
    assert uuid_text((w0, w1, w2, w3)) == text


@given(st.uuids(), st.lists(u32, min_size=4, max_size=4))
def test_uid_round_trip(value, words):
    assert uuid_text(uuid_words(str(value))) == str(value)
    assert list(uuid_words(uuid_text(words))) == words
    assert uuid.UUID(uuid_text(words)).bytes[:4] == words[0].to_bytes(4, "little")

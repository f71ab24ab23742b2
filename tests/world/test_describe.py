"""Calls and answers in words."""

import pytest

from emu.base import exits
from emu.base.smccc import UNDEF, Call, Conduit, Ret
from emu.watch.explain import make_call
from emu.world.abis.xen import Xen
from emu.world.describe import (
    answer_text,
    arguments,
    call_text,
    known_ids,
    meant,
    registers_text,
    subject,
    subject_of,
)
from emu.world.monitor import El2


def test_a_name_comes_from_the_profile_then_any_service_then_the_books():
    assert subject(0x8400_0053, El2("kvm-6.12")).name == "TRNG_RND32"
    assert subject(0x8400_0053, El2("none")).name == "TRNG_RND32"
    assert subject(0xC400_0190).name == "RSI_VERSION"
    assert subject(0x8200_1234).name == "0x82001234"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ((0x8400_0000,), "PSCI_VERSION()"),
        ((0xC400_0003, 1, 0x4008_0000, 7),
         "CPU_ON(target_affinity=0x1, entry_point=0x40080000, context_id=0x7)"),
        ((0x8400_000A, 0x8000_0000), "PSCI_FEATURES(SMCCC_VERSION)"),
        ((0x8400_000A, 0x8400_0099), "PSCI_FEATURES(0x84000099)"),
        ((0x8400_0063, 0x1_0000), "FFA_VERSION(x1=0x10000)"),
        ((0x8600_9999, 0, 5), "0x86009999(x1=0x0, x2=0x5)"),
    ],
)  # fmt: skip
def test_a_call_as_one_would_write_it(call, text):
    made = make_call(*call)
    assert call_text(made, subject(made.fid)) == text


# x0 of HVC #0xEA1 is an argument, unless the guest meant a call by SMCCC.
@pytest.mark.parametrize(
    ("x0", "conduit", "imm", "xens"),
    [
        (2, Conduit.HVC, 0xEA1, True),  # PSCI 0.1 CPU_ON, were it HVC #0
        (2, Conduit.HVC, 0, False),
        (2, Conduit.SMC, 0xEA1, False),
        (0xFFFF_8000_8999_0000, Conduit.HVC, 0xEA1, True),
        (0x8400_0000, Conduit.HVC, 0xEA1, False),
    ],
)
def test_what_a_guest_meant(x0, conduit, imm, xens):
    """Below KVM, which reads every HVC by SMCCC."""
    el2 = El2("kvm-6.12")
    made = el2.read((x0, 7, *[0] * 14, 18), conduit, imm)
    assert type(made) is Call
    assert (type(meant(made)) is Xen) == xens
    what = subject_of(made, el2)
    assert (what.name == "console_io") == xens
    if xens:
        assert call_text(made, what) == f"console_io(x0={x0:#x}, x1=0x7)"
        assert answer_text(Ret.only(-38), what) == "ENOSYS (-38)"


def test_a_number_without_a_name():
    assert subject(Xen.id_of(99)).name == "xen 0x63"
    assert subject(Xen.id_of(1 << 40 | 17)).name == "xen 0x10000000011"


def test_arguments_of_smc32_are_32_bits_wide():
    made = make_call(0x8400_0003, 0xDEAD_BEEF_0000_0001, 0, 0)
    assert arguments(made, subject(made.fid).function)["target_affinity"] == 1


@pytest.mark.parametrize(
    ("fid", "answer", "text"),
    [
        (0x8400_0000, Ret.value(0x1_0001), "0x10001 (version 1.1)"),
        (0x8400_0003, Ret.value(-4), "ALREADY_ON (-4)"),
        (0x8400_0003, Ret.value(-77), "-77"),
        (0x8400_0004, Ret.value(1), "OFF (1)"),
        (0x8400_0053, Ret.success(0, 0, 5), "SUCCESS (0) x3=0x5"),
        (0xC500_0021, Ret.value(0x90A_0000), "0x90a0000"),
        (0x8600_FF01, Ret.words(0xB66FB428, 0xE911C52E, 0x564BCAA9, 0x743A004D),
         "28b46fb6-2ec5-11e9-a9ca-4b564d003a74 (KVM)"),
        (0x8600_FF01, Ret.words(1, 2, 3, 4), "01000000-0200-0000-0300-000004000000"),
        (0x8600_FF01, Ret.not_supported(), "NOT_SUPPORTED (-1)"),
        (0x8400_0000, Ret.untouched(), "registers untouched"),
        (0x8400_0000, Ret.retry(), "to be made again"),
        (0x8400_0000, Ret.retry(0x8400_0000, 1), "to be made again"),
        (0x8400_0000, UNDEF, "UNDEF"),
        (0x8400_0008, exits.SystemEvent(kind=exits.EventKind.SHUTDOWN),
         "SHUTDOWN (leaves the guest)"),
        (0x8400_0008, exits.Hypercall(call=make_call(0x8400_0008)), "forwarded to user space"),
    ],
)  # fmt: skip
def test_an_answer_in_words(fid, answer, text):
    assert answer_text(answer, subject(fid)) == text


def test_registers_are_shown_in_full():
    assert registers_text(Ret.value(-1))[:2] == ["x0  0xffffffffffffffff", "x1  0x0000000000000000"]


def test_known_ids_are_sorted_and_unique():
    ids = known_ids()
    assert ids == sorted(set(ids))
    assert len(ids) > 100

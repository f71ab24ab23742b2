"""Xen's hypercalls as an ABI, held against recordings of Debian's Xen 4.20.4 on a Cortex-A57.

The recordings are worlds/xen420-hypercalls.rec.xz and xen420-plan.rec.xz; tables name their lines.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.abi import is_abi
from emu.base.smccc import NOT_SUPPORTED, UNDEF, Call, Conduit, Ret
from emu.world.abis import abi_class, owner_of
from emu.world.abis.xen import ENOSYS, TAG, Xen
from emu.world.describe import call_text, meant, subject
from emu.world.monitor import El2
from kit import ONES, PROFILES, ask, machine
from kit import Request as By

HVC, SMC = Conduit.HVC, Conduit.SMC
NO_SUCH = Ret.only(-38)


def poisoned(x0: int, number: int) -> tuple[int, ...]:
    """The registers as the recorder had them: poison, and what a line names (FORMAT.md)."""
    x = [0xA5A5_C3C3_0000_0000 + 0x0101_0101 * (0x40 + n) for n in range(17)]
    return (x0, 0x4003_6000, *x[2:16], number)


# xen420-hypercalls.rec.xz:1204-1212: with x0 = 0 and 17 in x16.
WAYS = [
    ("hvc", 0x0, (ONES,)),  # by SMCCC
    ("hvc", 0xEA0, UNDEF),
    ("hvc", 0xEA2, UNDEF),
    ("smc", 0xEA1, UNDEF),
    ("smc", 0x0, (ONES,)),
    ("smc", 0x2, UNDEF),
    ("hvc", 0xFFFF, UNDEF),
]


@pytest.mark.parametrize(("conduit", "imm", "answer"), WAYS)
def test_one_instruction_leads_to_it(conduit, imm, answer):
    el2 = machine("xen")
    assert el2.answer(el2.read(poisoned(0, 17), Conduit(conduit), imm)) == answer


def test_the_instruction_is_its_own():
    assert TAG == 0xEA1
    assert owner_of(HVC, TAG) is abi_class("xen") is Xen
    assert is_abi(Xen)
    assert machine("xen").reading(HVC, TAG) == (Xen, 17)


# Numbers in x16 that Xen 4.20 knows nothing of: xen420-plan.rec.xz:1270-1325, x0 to x2 zero;
# those above 0x3f xen420-hypercalls.rec.xz:77-78 and 1115-1116.
UNKNOWN = [
    *range(0x7), 0x8, 0x9, 0xA, 0xB, 0xE, 0xF, 0x10, 0x13, 0x16, 0x17, 0x19, 0x1A, 0x1B, 0x1C,
    0x1E, 0x1F, 0x21, 0x25, 0x26, 0x27, 0x28, *range(0x2B, 0x42), 0x8011, 1 << 32 | 0x11,
]  # fmt: skip


@pytest.mark.parametrize("number", UNKNOWN, ids=hex)
def test_a_number_nobody_has_is_enosys_in_x0_alone(number):
    el2 = machine("xen")
    assert el2.answer(el2.read(poisoned(0, number), HVC, TAG)) == NO_SUCH == Xen.unknown


# Numbers that Xen 4.20 answers, by line of xen420-plan.rec.xz: these are not modelled.
OTHERS = {
    0x7: 1277, 0xD: 1282, 0x15: 1287, 0x22: 1297, 0x23: 1298, 0x24: 1299, 0x2A: 1304, 0x12: 1357,
    0x1D: 1362, 0x20: 1372, 0xC: 1390,
}  # fmt: skip


@pytest.mark.parametrize("number", OTHERS, ids=hex)
def test_a_number_that_is_not_modelled_is_as_one_that_is_unknown(number):
    el2 = machine("xen")
    assert el2.answer(el2.read(poisoned(0, number), HVC, TAG)) == NO_SUCH


@given(st.integers(0, ONES).filter(lambda n: n != 17), st.integers(0, ONES))
def test_all_64_bits_of_the_number_count(number, x0):
    assert EL2.answer(EL2.read(poisoned(x0, number), HVC, TAG)) == NO_SUCH


EL2 = El2("xen")


@given(st.integers(0, ONES), st.integers(0, ONES))
def test_x0_is_an_argument_and_no_function(x0, other):
    """The way is chosen by x16 alone; an identifier of PSCI's in x0 is nothing special."""
    call = EL2.read(poisoned(x0, other), HVC, TAG)
    assert EL2.route_of(call) is EL2.route_of(EL2.read(poisoned(0x8400_0000, other), HVC, TAG))


# -- in words ------------------------------------------------------------------------------------

# xen 4.20 include/public/xen.h.
NAMES = {
    0: "set_trap_table", 1: "mmu_update", 12: "memory_op", 13: "multicall", 17: "xen_version",
    18: "console_io", 20: "grant_table_op", 24: "vcpu_op", 26: "mmuext_op", 29: "sched_op",
    32: "event_channel_op", 33: "physdev_op", 34: "hvm_op", 35: "sysctl", 36: "domctl",
    37: "kexec_op", 38: "tmem_op", 39: "argo_op", 40: "xenpmu_op", 41: "dm_op", 42: "hypfs_op",
}  # fmt: skip


@pytest.mark.parametrize(("number", "name"), NAMES.items())
def test_hypercalls_have_their_names(number, name):
    what = subject(Xen.id_of(number))
    assert what.name == name
    assert "xen 4.20" in what.source
    assert what.codes[-ENOSYS] == "ENOSYS"
    assert what.codes[NOT_SUPPORTED] == "EPERM", "−1 is another error here"


@pytest.mark.parametrize("number", [11, 43, 0x8011, ONES])
def test_a_number_without_a_name(number):
    assert subject(Xen.id_of(number)).name == f"xen {number:#x}"


def test_arguments_are_named_by_their_registers():
    call = Xen.make(12, 6, 0x4003_6000)
    assert call_text(call, subject(call.id)) == "memory_op(x0=0x6, x1=0x40036000)"


# -- where nobody is Xen -------------------------------------------------------------------------

OTHER_WORLDS = [name for name in PROFILES if name != "xen"]


@pytest.mark.parametrize("profile", OTHER_WORLDS)
def test_elsewhere_the_same_instruction_is_a_call_by_smccc(profile):
    """KVM ignores immediates: a hypercall's x0 is an identifier there. It is told as Xen's."""
    el2 = machine(profile)
    call = el2.read(poisoned(2, 29), HVC, TAG)
    assert type(call) is Call
    assert meant(call) == Xen(*call)
    assert meant(call).number == 29
    assert el2.answer(call) in (Ret.value(-1), Ret.only(-1), UNDEF)


@pytest.mark.parametrize("x0", [0x8400_0000, 0x8000_0000, 0xC600_FF01 & ~(1 << 30)])
def test_a_known_function_by_another_immediate_is_no_hypercall(x0):
    call = machine("kvm-6.12").read(poisoned(x0, 17), HVC, TAG)
    assert meant(call) is call


def test_by_registers_alone():
    """`hvcemu call` and scripts give registers."""
    assert ask(machine("xen"), By(0, (0,) * 15 + (17,), imm=TAG)) == (0x4_0016,)

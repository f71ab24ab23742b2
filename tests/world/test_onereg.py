"""KVM's register identifiers (linux Documentation/virt/kvm/api.rst, struct kvm_regs)."""

import contextlib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.arch import VCPU_REGISTERS
from emu.base.errors import OneRegError
from emu.world import onereg
from emu.world.onereg import (
    CORE,
    Group,
    check_pstate,
    find_core,
    make,
    split,
    system_id,
    system_register,
)


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        # As every VMM writes them (linux arch/arm64/include/uapi/asm/kvm.h, api.rst §4.68).
        ("X0", 0x6030_0000_0010_0000), ("X1", 0x6030_0000_0010_0002),
        ("X30", 0x6030_0000_0010_003C), ("SP_EL0", 0x6030_0000_0010_003E),
        ("PC", 0x6030_0000_0010_0040), ("PSTATE", 0x6030_0000_0010_0042),
        ("SP_EL1", 0x6030_0000_0010_0044), ("ELR_EL1", 0x6030_0000_0010_0046),
        ("SPSR_EL1", 0x6030_0000_0010_0048), ("SPSR_FIQ", 0x6030_0000_0010_0050),
        ("V0", 0x6040_0000_0010_0054), ("V31", 0x6040_0000_0010_00D0),
        ("FPSR", 0x6020_0000_0010_00D4), ("FPCR", 0x6020_0000_0010_00D5),
    ],
)  # fmt: skip
def test_core_identifiers(name, identifier):
    core = next(core for core in CORE if core.name == name)
    assert core.id == identifier
    assert find_core(identifier) is core


@pytest.mark.parametrize(
    ("identifier", "number"),
    [
        (0x6030_0000_0010_0001, errno.EINVAL),  # the middle of x0
        (0x6020_0000_0010_0000, errno.EINVAL),  # half of x0
        (0x6030_0000_0010_0054, errno.EINVAL),  # half of v0
        (0x6040_0000_0010_00D4, errno.ENOENT),  # reaches the end of struct kvm_regs
        (0x6030_0000_0010_00D8, errno.ENOENT),  # behind it
        (0x6030_0000_0010_FFFF, errno.ENOENT),
        (0x4030_0000_0010_0000, errno.EINVAL),  # another architecture
        (0, errno.EINVAL),
    ],
)
def test_what_is_no_core_register(identifier, number):
    with pytest.raises(OneRegError) as refused:
        find_core(identifier)
    assert refused.value.errno == number


def test_system_register_identifiers():
    assert system_id(VCPU_REGISTERS["SCTLR_EL1"]) == 0x6030_0000_0013_C080
    assert system_id(VCPU_REGISTERS["VBAR_EL1"]) == 0x6030_0000_0013_C600
    assert system_id(VCPU_REGISTERS["TPIDR_EL0"]) == 0x6030_0000_0013_DE82
    for encoding in VCPU_REGISTERS.values():
        assert system_register(system_id(encoding)) == encoding


def test_firmware_identifiers():
    # abi/C §C4.
    assert make(Group.FW, 0) == 0x6030_0000_0014_0000
    assert make(Group.FW_FEAT_BMAP, 3) == 0x6030_0000_0016_0003


@given(st.sampled_from(list(Group)), st.integers(0, 0xFFFF), st.integers(0, 8))
def test_identifiers_are_put_together_and_taken_apart(group, number, log2_size):
    assert split(make(group, number, log2_size)) == (1 << log2_size, group, number)


@given(st.integers(0, (1 << 64) - 1))
def test_any_number_is_taken_apart_or_refused(identifier):
    for function in (split, find_core):
        with contextlib.suppress(OneRegError):
            function(identifier)


@pytest.mark.parametrize("mode", [0b0000, 0b0100, 0b0101, 0b1_0000])
def test_pstate_of_an_aarch64_vcpu(mode):
    check_pstate(0x3C0 | mode)


@pytest.mark.parametrize("mode", [0b0001, 0b1000, 0b1001, 0b1100, 0b1_0011])
def test_pstate_it_cannot_be_in(mode):
    with pytest.raises(OneRegError) as refused:
        check_pstate(mode)
    assert refused.value.errno == errno.EINVAL


def test_an_aarch32_vcpu_has_other_modes():
    check_pstate(0b1_0011, aarch32=True)
    with pytest.raises(OneRegError):
        check_pstate(0b0101, aarch32=True)


def test_core_registers_do_not_overlap():
    ends = 0
    for core in sorted(CORE, key=lambda core: core.offset):
        assert core.offset >= ends
        ends = core.offset + (1 << core.log2_size) // 4
    assert ends <= onereg.CORE_WORDS

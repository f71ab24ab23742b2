"""Numbers and structures a VMM writes and reads."""

from emu.kvm import abi as kvm_abi
from emu.kvm.abi import FILTER, HypercallExit, filter_bytes


def test_the_filter_structure():
    # abi/C §C5: 24 bytes, base, nr_functions, action, pad.
    data = filter_bytes(0xC600_0000, 16, 2)
    assert len(data) == FILTER.size == 24
    assert data == bytes.fromhex("000000c6" "10000000" "02") + bytes(15)


def test_capabilities_have_the_sheets_numbers():
    # abi/B §B5 and abi/D §D2, D3.
    assert (kvm_abi.CAP_MP_STATE, kvm_abi.CAP_ARM_PSCI, kvm_abi.CAP_ARM_PSCI_0_2) == (14, 87, 102)
    assert (kvm_abi.CAP_STEAL_TIME, kvm_abi.CAP_PTP_KVM) == (187, 198)
    assert (kvm_abi.CAP_SYSTEM_EVENT_DATA, kvm_abi.CAP_ARM_SYSTEM_SUSPEND) == (215, 216)
    assert (kvm_abi.CAP_ARM_MP_HALTED, kvm_abi.CAP_ARM_HVC_TO_USER) == (199, 200)
    assert (kvm_abi.CAP_ARM_PSCI_TO_USER, kvm_abi.CAP_ARM_REG_SCOPE) == (201, 210)


def test_an_exit_carries_no_arguments_unless_given():
    assert HypercallExit(nr=1) == HypercallExit(1, 0, (0,) * 6, 0)

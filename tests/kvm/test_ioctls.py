"""The VM's side: capabilities, the SMCCC filter as a device attribute, memory."""

import errno

import pytest

from emu.base.errors import KvmError
from emu.kvm.abi import (
    CAP_ARM_HVC_TO_USER,
    CAP_ARM_PSCI_0_2,
    CAP_ARM_SYSTEM_SUSPEND,
    CAP_MP_STATE,
    CAP_PTP_KVM,
    CAP_STEAL_TIME,
    PSCI_0_2,
    SMCCC_FILTER,
    SVE,
    VM_SMCCC_CTRL,
    HostCore,
    filter_bytes,
)
from emu.kvm.ioctls import Kvm
from emu.world.onereg import Group, make


def refusal(function, *args):
    with pytest.raises(KvmError) as refused:
        function(*args)
    return refused.value.errno


def vm_of(profile="kvm-6.12"):
    vm = Kvm(profile).create_vm()
    vm.create_vcpu(0).init()
    return vm


@pytest.mark.parametrize(
    ("capability", "old", "new"),
    [
        # abi/B §B5 capabilities, abi/C §C8 versions.
        (CAP_MP_STATE, 1, 1), (CAP_ARM_PSCI_0_2, 1, 1), (CAP_STEAL_TIME, 0, 1),
        (CAP_PTP_KVM, 0, 1), (CAP_ARM_SYSTEM_SUSPEND, 0, 1), (CAP_ARM_HVC_TO_USER, 0, 0),
        (99_999, 0, 0), ("a name", 0, 0),
    ],
)  # fmt: skip
def test_capabilities(capability, old, new):
    assert Kvm("kvm-4.15").check_extension(capability) == old
    assert vm_of("kvm-6.12").check_extension(capability) == new


def test_enabling_capabilities():
    vm = vm_of()
    assert refusal(vm.enable_cap, 99_999) == errno.EINVAL
    assert refusal(vm.enable_cap, CAP_MP_STATE) == errno.EINVAL
    assert refusal(vm.enable_cap, CAP_ARM_SYSTEM_SUSPEND, 1) == errno.EINVAL
    assert vm.vm.el2.hypercall(0x8400_000A, 0xC400_000E).signed == -1
    vm.enable_cap(CAP_ARM_SYSTEM_SUSPEND)
    assert vm.vm.el2.hypercall(0x8400_000A, 0xC400_000E).x0 == 0


@pytest.mark.parametrize(
    ("data", "number"),
    [
        # abi/C §C5: the checks, in their order.
        (None, errno.EFAULT),
        (b"short", errno.EFAULT),
        (filter_bytes(0xC600_0000, 1, 1, pad=b"\0" * 14 + b"\1"), errno.EINVAL),
        (filter_bytes(0xFFFF_FFFF, 2, 1), errno.EINVAL),
        (filter_bytes(0xC600_0000, 1, 3), errno.EINVAL),
        (filter_bytes(0xC600_0000, 0, 1), errno.EINVAL),
        (filter_bytes(0, 0, 1), errno.EEXIST),  # wraps to everything; 7.2 closed the hole
        (filter_bytes(0x8000_0000, 1, 1), errno.EEXIST),
        (filter_bytes(0x7FFF_FFFF, 2, 1), errno.EEXIST),
        (filter_bytes(0xC000_FFFF, 1, 0), errno.EEXIST),
        (filter_bytes(0x8400_0052, 1, 1), errno.EEXIST),
    ],
)
def test_filter_checks_in_order(data, number):
    vm = vm_of()
    vm.set_device_attr(VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(0x8400_0050, 4, 1))
    assert refusal(vm.set_device_attr, VM_SMCCC_CTRL, SMCCC_FILTER, data) == number


def test_an_empty_range_at_zero_in_the_newest_kernel():
    attribute = (VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(0, 0, 1))
    assert refusal(vm_of("kvm-7.2").set_device_attr, *attribute) == errno.EINVAL


def test_the_filter_closes_when_a_vcpu_has_run():
    vm = vm_of()
    vm.vcpus[0].run(1)
    good, bad = filter_bytes(0x8400_0050, 4, 1), filter_bytes(0x8400_0050, 0, 1)
    assert refusal(vm.set_device_attr, VM_SMCCC_CTRL, SMCCC_FILTER, good) == errno.EBUSY
    assert refusal(vm.set_device_attr, VM_SMCCC_CTRL, SMCCC_FILTER, bad) == errno.EINVAL
    reserved = filter_bytes(0x8000_0000, 1, 1)
    assert refusal(vm.set_device_attr, VM_SMCCC_CTRL, SMCCC_FILTER, reserved) == errno.EBUSY


def test_attributes_that_are_not_there():
    vm = vm_of()
    vm.has_device_attr(VM_SMCCC_CTRL, SMCCC_FILTER)
    for group, attribute in ((0, 1), (1, 0), (9, 9)):
        assert refusal(vm.has_device_attr, group, attribute) == errno.ENXIO
        assert refusal(vm.set_device_attr, group, attribute, b"") == errno.ENXIO
    # Before the filter there was no such ioctl on a VM at all.
    assert refusal(vm_of("kvm-6.1").has_device_attr, 0, 0) == errno.EINVAL
    assert refusal(vm.get_device_attr, 0, 0, bytes(24)) == errno.EINVAL


def test_creating_vcpus():
    vm = Kvm().create_vm()
    vm.create_vcpu(0)
    assert vm.create_vcpu(0x102).index == 1
    assert vm.vm.machine.mpidrs() == [0x8000_0000, 0x8000_1002]
    assert refusal(vm.create_vcpu, 0) == errno.EEXIST
    assert refusal(vm.create_vcpu, 512) == errno.EINVAL
    assert refusal(vm.create_vcpu, -1) == errno.EINVAL


def test_guest_memory():
    vm = vm_of()
    vm.write(0x4000_0000, b"hello")
    assert vm.read(0x4000_0000, 5) == b"hello"


@pytest.mark.parametrize(
    ("machine_type", "good"), [(0, True), (32, True), (44, True), (31, False), (48, False)]
)
def test_machine_types_are_address_sizes(machine_type, good):
    if good:
        Kvm().create_vm(machine_type)
    else:
        assert refusal(Kvm().create_vm, machine_type) == errno.EINVAL


def test_memory_regions():
    vm = Kvm().create_vm(memory=0)
    vm.set_user_memory_region(0x1_0000, 0x2_0000)
    assert refusal(vm.set_user_memory_region, 0x2_0000, 0x1000) == errno.EEXIST
    assert refusal(vm.set_user_memory_region, 0x4_0001, 0x1000) == errno.EINVAL
    vm.write(0x1_0000, b"x")


def test_another_core_below_the_same_kernel():
    # Recorded on QEMU's `max`: 48-bit addresses and more, SVE, other workaround levels.
    name = "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3"
    host = HostCore(levels={name: 0}, features=frozenset({SVE}), ipa_bits=48)
    vm = Kvm("kvm-6.12", host=host).create_vm(48)
    assert refusal(Kvm("kvm-6.12").create_vm, 48) == errno.EINVAL
    vcpu = vm.create_vcpu(0)
    vcpu.init(features=(SVE,))
    assert refusal(vcpu.get_reg_list) == errno.EPERM
    assert vcpu.get_one_reg(make(Group.FW, 3)) == 0
    assert refusal(vm_of().create_vcpu(1).init, 5, (PSCI_0_2, SVE)) == errno.EINVAL

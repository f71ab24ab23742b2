"""The vCPU's side: life, ONE_REG, MP state, the stolen-time attribute."""

import errno
import itertools
import struct

import pytest

from emu.arm.arch import VCPU_REGISTERS
from emu.base import exits
from emu.base.errors import KvmError
from emu.kvm.abi import (
    CAP_ARM_SYSTEM_SUSPEND,
    FWD_TO_USER,
    POWER_OFF,
    PSCI_0_2,
    PVTIME_IPA,
    VCPU_PVTIME_CTRL,
    filter_bytes,
)
from emu.kvm.ioctls import Kvm
from emu.world import onereg
from emu.world.onereg import CORE, Group, make, system_id
from emu.world.service import MpState

ID = {core.name: core.id for core in CORE}
PSCI_VERSION, WA_1, WA_2, WA_3 = (make(Group.FW, n) for n in range(4))
STD, STD_HYP, VENDOR, VENDOR_2 = (make(Group.FW_FEAT_BMAP, n) for n in range(4))
CODE = 0x4000_0000
HVC, WFI, STORE, LOAD = 0xD400_0002, 0xD503_207F, 0xB900_00A4, 0xB940_00A4  # w4, [x5]


def refusal(function, *args):
    with pytest.raises(KvmError) as refused:
        function(*args)
    return refused.value.errno


def vcpu_of(profile="kvm-6.12", features=(PSCI_0_2,), modes=None):
    vcpu = Kvm(profile, modes).create_vm().create_vcpu(0)
    vcpu.init(features=features)
    return vcpu


def run(vcpu, *words, **registers):
    vcpu.kvm_vm.write(CODE, struct.pack(f"<{len(words)}I", *words))
    vcpu.set_one_reg(ID["PC"], CODE)
    for name, value in registers.items():
        vcpu.set_one_reg(ID[name], value)
    return vcpu.run()


def test_nothing_before_init():
    vcpu = Kvm().create_vm().create_vcpu(0)
    for function, *args in (
        (vcpu.get_reg_list,), (vcpu.get_one_reg, STD), (vcpu.set_one_reg, STD, 0), (vcpu.run,),
    ):  # fmt: skip
        assert refusal(function, *args) == errno.ENOEXEC
    # The MP state needs no init (recorded from linux 6.1).
    assert vcpu.get_mp_state() is MpState.RUNNABLE
    assert refusal(vcpu.set_mp_state, 1) == errno.EINVAL


def test_init():
    vcpu = Kvm().create_vm().create_vcpu(0)
    assert refusal(vcpu.init, 99) == errno.EINVAL
    assert refusal(vcpu.init, 5, (40,)) == errno.ENOENT
    vcpu.init(features=(PSCI_0_2, POWER_OFF))
    assert vcpu.get_mp_state() is MpState.STOPPED
    vcpu.init(features=(PSCI_0_2, POWER_OFF))
    assert refusal(vcpu.init, 5, (POWER_OFF,)) == errno.EINVAL


def test_features_are_the_vms_in_newer_kernels():
    # Recorded from linux 6.12, 6.17 and 7.2.
    vm = Kvm("kvm-6.12").create_vm()
    first, second = vm.create_vcpu(0), vm.create_vcpu(1)
    first.init(features=(PSCI_0_2, POWER_OFF))
    first.init(features=(PSCI_0_2,))  # POWER_OFF may change
    assert refusal(second.init, 5, ()) == errno.EINVAL
    assert refusal(second.init, 5, (31,)) == errno.ENOENT
    second.init(features=(PSCI_0_2, POWER_OFF))


@pytest.mark.parametrize(
    ("name", "value"),
    [("X0", 1 << 63), ("SP_EL0", 0x1000), ("SP_EL1", 0x2000), ("PC", CODE), ("ELR_EL1", 4),
     ("V3", 1 << 127 | 5), ("FPCR", 0)],
)  # fmt: skip
def test_core_registers_are_read_back(name, value):
    vcpu = vcpu_of()
    vcpu.set_one_reg(ID[name], value)
    assert vcpu.get_one_reg(ID[name]) == value


def test_reset_state():
    # abi/B §B4: EL1h, all masked, everything else zero.
    vcpu = vcpu_of()
    assert vcpu.get_one_reg(ID["PSTATE"]) == 0x3C5
    assert all(vcpu.get_one_reg(ID[f"X{n}"]) == 0 for n in range(31))
    assert vcpu.get_one_reg(ID["SPSR_FIQ"]) == 0


def test_pstate_selects_the_stack():
    vcpu = vcpu_of()
    vcpu.set_one_reg(ID["SP_EL0"], 0x1000)
    vcpu.set_one_reg(ID["SP_EL1"], 0x2000)
    vcpu.set_one_reg(ID["PSTATE"], 0x3C0)  # EL0t
    assert (vcpu.get_one_reg(ID["SP_EL0"]), vcpu.get_one_reg(ID["SP_EL1"])) == (0x1000, 0x2000)
    assert refusal(vcpu.set_one_reg, ID["PSTATE"], 0x3C9) == errno.EINVAL


def test_pstate_keeps_what_the_vmm_wrote_until_it_runs():
    vcpu = vcpu_of()
    vcpu.set_one_reg(ID["PSTATE"], 0x1_0000_0005)  # recorded from linux 6.1: all 64 bits
    assert vcpu.get_one_reg(ID["PSTATE"]) == 0x1_0000_0005
    vcpu.set_one_reg(ID["PSTATE"], 0x1_0000_0010)
    assert vcpu.get_one_reg(ID["PSTATE"]) == 0x1_0000_0010


def test_values_the_kernel_cannot_read():
    vcpu = vcpu_of()
    for identifier in (ID["X0"], STD, make(Group.FW, 9)):
        assert refusal(vcpu.set_one_reg, identifier, None) == errno.EFAULT
    assert refusal(vcpu.set_one_reg, make(Group.FW, 0, onereg.U32), None) == errno.ENOENT


def test_an_interrupt_line_wakes():
    vcpu = vcpu_of()
    run(vcpu, WFI, WFI)
    vcpu.irq_line(True)
    assert isinstance(vcpu.run(), exits.Wfi)
    assert vcpu.get_one_reg(ID["PC"]) == CODE + 8
    vcpu.set_mp_state(MpState.SUSPENDED)
    assert vcpu.run().kind is exits.EventKind.WAKEUP
    assert vcpu.get_mp_state() is MpState.SUSPENDED


def test_psci_0_1_is_one_vcpus_own():
    # Recorded from linux 6.1: a vCPU without the feature speaks 0.1, the other does not.
    vm = Kvm("kvm-6.1").create_vm()
    old, new = vm.create_vcpu(0), vm.create_vcpu(1)
    old.init(features=())
    new.init(features=(PSCI_0_2,))
    new.set_one_reg(STD, 0)
    assert [v.get_one_reg(PSCI_VERSION) for v in (old, new)] == [0x1, 0x1_0001]
    assert [v.get_one_reg(STD) for v in (old, new)] == [0, 0]


@pytest.mark.parametrize("name", ["SCTLR_EL1", "VBAR_EL1", "TTBR0_EL1", "TPIDR_EL0", "MAIR_EL1"])
def test_system_registers_are_read_back(name):
    vcpu = vcpu_of()
    identifier = system_id(VCPU_REGISTERS[name])
    assert identifier in vcpu.get_reg_list()
    vcpu.set_one_reg(identifier, 0x30D0_0800)
    assert vcpu.get_one_reg(identifier) == 0x30D0_0800


def test_registers_that_are_not_there():
    vcpu = vcpu_of()
    assert refusal(vcpu.get_one_reg, 0x6030_0000_0013_FFFF) == errno.ENOENT
    assert refusal(vcpu.get_one_reg, make(Group.FW, 99)) == errno.ENOENT
    assert refusal(vcpu.get_one_reg, make(Group.FW, 0, onereg.U32)) == errno.ENOENT
    assert refusal(vcpu.get_one_reg, 0x4030_0000_0010_0000) == errno.EINVAL


@pytest.mark.parametrize(("profile", "count"), [("kvm-5.17", 4), ("kvm-6.1", 7), ("kvm-6.17", 8)])
def test_firmware_registers_are_listed(profile, count):
    # abi/C §C4: 4 in 5.17, 7 in 5.19, 8 in 6.15 and later.
    groups = (Group.FW, Group.FW_FEAT_BMAP)
    listed = [i for i in vcpu_of(profile).get_reg_list() if onereg.split(i).group in groups]
    assert len(listed) == count
    assert len(set(listed)) == count


@pytest.mark.parametrize(
    ("identifier", "value", "number"),
    [
        # abi/C §C4, SET rules.
        (PSCI_VERSION, 0x1, errno.EINVAL), (PSCI_VERSION, 0x2, None),
        (PSCI_VERSION, 0x1_0001, None), (PSCI_VERSION, 0x1_0003, errno.EINVAL),
        (WA_1, 0x10, errno.EINVAL), (WA_1, 3, errno.EINVAL), (WA_1, 2, None), (WA_1, 0, None),
        (WA_2, 0x20, errno.EINVAL), (WA_2, 0x13, errno.EINVAL), (WA_2, 0, None),
        (WA_2, 1, None), (WA_2, 3, errno.EINVAL), (WA_3, 1, None), (WA_3, 2, errno.EINVAL),
        (STD, 0, None), (STD, 1, None), (STD, 2, errno.EINVAL), (STD_HYP, 3, errno.EINVAL),
        (VENDOR, 3, None), (VENDOR, 4, errno.EINVAL), (VENDOR_2, 0, errno.ENOENT),
    ],
)  # fmt: skip
def test_writes_of_firmware_registers(identifier, value, number):
    vcpu = vcpu_of("kvm-6.12")
    if number is None:
        vcpu.set_one_reg(identifier, value)
    else:
        assert refusal(vcpu.set_one_reg, identifier, value) == number


def test_workaround_levels_are_accepted_and_not_stored():
    vcpu = vcpu_of()
    vcpu.set_one_reg(WA_1, 0)
    assert vcpu.get_one_reg(WA_1) == 2


def test_psci_version_has_no_ebusy():
    vcpu = vcpu_of()
    run(vcpu, WFI)
    vcpu.set_one_reg(PSCI_VERSION, 0x2)
    assert vcpu.get_one_reg(PSCI_VERSION) == 0x2


def test_without_the_psci_feature_it_is_0_1():
    vcpu = vcpu_of(features=())
    assert vcpu.get_one_reg(PSCI_VERSION) == 0x1
    vcpu.set_one_reg(PSCI_VERSION, 0x1)
    assert refusal(vcpu.set_one_reg, PSCI_VERSION, 0x2) == errno.EINVAL
    run(vcpu, HVC, WFI, X0=0x8400_0000)
    assert vcpu.get_one_reg(ID["X0"]) == (1 << 64) - 1


@pytest.mark.parametrize("state", range(11))
def test_mp_states(state):
    # abi/B §B5: RUNNABLE 0, STOPPED 5, SUSPENDED 10; HALTED only in the series of 2021.
    vcpu = vcpu_of()
    if state in (0, 5, 10):
        vcpu.set_mp_state(state)
        assert vcpu.get_mp_state() == state
    else:
        assert refusal(vcpu.set_mp_state, state) == errno.EINVAL


def test_suspended_came_with_5_19():
    assert refusal(vcpu_of("kvm-5.17").set_mp_state, MpState.SUSPENDED) == errno.EINVAL


def test_a_stopped_vcpu_does_not_run():
    vcpu = vcpu_of()
    vcpu.set_mp_state(MpState.STOPPED)
    assert isinstance(run(vcpu, WFI), exits.Wfi)
    assert vcpu.get_one_reg(ID["PC"]) == CODE


def test_mmio_exits_and_their_completion():
    vcpu = vcpu_of()
    exit = run(vcpu, STORE, LOAD, WFI, X4=0x1234_5678_9ABC, X5=0x0A00_0000)
    assert (exit.address, exit.size, exit.is_write, exit.data) == (0xA00_0000, 4, True, 0x5678_9ABC)
    assert vcpu.get_one_reg(ID["PC"]) == CODE
    exit = vcpu.run()
    assert (exit.is_write, vcpu.get_one_reg(ID["PC"])) == (False, CODE + 4)
    exit.data = 0xFFFF_0001
    assert isinstance(vcpu.run(), exits.Wfi)
    assert vcpu.get_one_reg(ID["X4"]) == 0xFFFF_0001


@pytest.mark.parametrize(
    ("word", "data", "value"),
    [
        (0x3940_00A4, 0x80, 0x80), (0x3980_00A4, 0x80, (1 << 64) - 0x80),  # ldrb, ldrsb x
        (0x39C0_00A4, 0x80, 0xFFFF_FF80), (0x7980_00A4, 0x8000, (1 << 64) - 0x8000),  # ldrsb w
        (0xB980_00A4, 1 << 31, (1 << 64) - (1 << 31)), (0xF940_00A4, 1 << 63, 1 << 63),
    ],
)  # fmt: skip
def test_loads_extend_as_they_say(word, data, value):
    vcpu = vcpu_of()
    run(vcpu, word, WFI, X5=0x0A00_0000).data = data
    vcpu.run()
    assert vcpu.get_one_reg(ID["X4"]) == value


def test_system_events_stop_every_vcpu():
    vcpu = vcpu_of()
    exit = run(vcpu, HVC, WFI, X0=0x8400_0008)
    assert exit.kind is exits.EventKind.SHUTDOWN
    assert vcpu.get_mp_state() is MpState.STOPPED


def test_system_suspend_leaves_the_registers():
    vcpu = vcpu_of()
    vcpu.kvm_vm.enable_cap(CAP_ARM_SYSTEM_SUSPEND)
    exit = run(vcpu, HVC, WFI, X0=0xC400_000E, X1=0x1111, X2=0x2222)
    assert exit.kind is exits.EventKind.SUSPEND
    assert [vcpu.get_one_reg(ID[f"X{n}"]) for n in range(3)] == [0xC400_000E, 0x1111, 0x2222]
    vcpu.set_mp_state(MpState.RUNNABLE)
    run(vcpu, HVC, WFI, X0=0x8400_000E, X1=0x1_0000_1111)  # narrowed in place (recorded)
    assert vcpu.get_one_reg(ID["X1"]) == 0x1111
    assert vcpu.get_one_reg(ID["PC"]) == CODE + 4


def test_the_stolen_time_attribute():
    # abi/C §C6, in KVM's order.
    vcpu = vcpu_of()
    attribute = (VCPU_PVTIME_CTRL, PVTIME_IPA)
    vcpu.has_device_attr(*attribute)
    assert vcpu.get_device_attr(*attribute) == (1 << 64) - 1
    assert refusal(vcpu.set_device_attr, *attribute, None) == errno.EFAULT
    assert refusal(vcpu.set_device_attr, *attribute, CODE + 32) == errno.EINVAL
    assert refusal(vcpu.set_device_attr, *attribute, 0x9_0000_0000) == errno.EINVAL
    run(vcpu, HVC, WFI, X0=0xC500_0021)
    assert vcpu.get_one_reg(ID["X0"]) == (1 << 64) - 1
    vcpu.set_device_attr(*attribute, CODE + 0x1000)
    assert refusal(vcpu.set_device_attr, *attribute, CODE + 0x1000) == errno.EEXIST
    assert vcpu.get_device_attr(*attribute) == CODE + 0x1000
    vcpu._vcpu.waiting = False
    run(vcpu, HVC, WFI, X0=0xC500_0021)
    assert vcpu.get_one_reg(ID["X0"]) == CODE + 0x1000
    assert refusal(vcpu.has_device_attr, VCPU_PVTIME_CTRL, 1) == errno.ENXIO
    assert refusal(vcpu_of("kvm-4.15").has_device_attr, *attribute) == errno.ENXIO


def test_asking_for_a_hypercall_that_was_none():
    vcpu = vcpu_of()
    run(vcpu, WFI)
    assert refusal(vcpu.hypercall_exit) == errno.EINVAL
    assert refusal(vcpu.answer, 0) == errno.EINVAL


# -- two vCPUs: each has its own kvm_run -------------------------------------------------------

FORWARDED, NOWHERE, RUNS = 0xC600_0100, 0x5000_0000, 5
CALL_X6 = [0xAA06_03E0, HVC]  # mov x0, x6
LOOP = [*CALL_X6, 0xB900_00A0, LOAD, STORE, 0x17FF_FFFB]  # str w0, [x5] behind the call; b


def pair():
    """Two vCPUs about to run one loop: a call of the VMM's, its reply stored, a load, stored."""
    vm = Kvm("kvm-6.12").create_vm()
    vm.set_device_attr(0, 0, filter_bytes(FORWARDED, 2, FWD_TO_USER))
    vm.write(CODE, struct.pack(f"<{len(LOOP)}I", *LOOP))
    vcpus = [vm.create_vcpu(n) for n in range(2)]
    for n, vcpu in enumerate(vcpus):
        vcpu.init(features=(PSCI_0_2,))
        for name, value in (("PC", CODE), ("X5", NOWHERE), ("X6", FORWARDED + n)):
            vcpu.set_one_reg(ID[name], value)
    return vcpus


def turn(vcpu, by_register):
    """One KVM_RUN and what a VMM does about it; what it has seen."""
    exit = vcpu.run(10_000)
    mine = 0x10 * (vcpu.index + 1)
    seen = type(exit).__name__, vcpu.get_one_reg(ID["PC"]) - CODE
    if isinstance(exit, exits.Mmio) and exit.is_write:
        return *seen, exit.data
    if isinstance(exit, exits.Mmio):
        exit.data = mine + 1
    elif by_register:
        vcpu.set_one_reg(ID["X0"], mine)
    else:
        vcpu.answer(mine)
    return seen


def expected(n):
    mine = 0x10 * (n + 1)
    return [("Hypercall", 8), ("Mmio", 8, mine), ("Mmio", 12), ("Mmio", 16, mine + 1),
            ("Hypercall", 8)]  # fmt: skip


@pytest.mark.parametrize("by_register", [False, True], ids=["answer", "SET_ONE_REG"])
def test_every_order_of_two_vcpus_runs(by_register):
    """252 of them; after each run the VMM looks at the other vCPU as well."""
    for first in itertools.combinations(range(2 * RUNS), RUNS):
        vcpus, seen = pair(), ([], [])
        for at in range(2 * RUNS):
            n = 0 if at in first else 1
            seen[n].append(turn(vcpus[n], by_register))
            other = vcpus[1 - n]
            before = other.get_one_reg(ID["X0"]), other.get_one_reg(ID["PC"])
            assert (other.get_one_reg(ID["X0"]), other.get_one_reg(ID["PC"])) == before
        assert seen == (expected(0), expected(1)), first


def test_a_vmm_that_owns_psci_prepares_the_target_before_it_answers():
    """Its PC and x0 are written, it is made runnable, and then the caller hears of it."""
    vm = Kvm("kvm-6.12", {"psci.owner": "user"}).create_vm()
    caller, target = vm.create_vcpu(0), vm.create_vcpu(1)
    caller.init(features=(PSCI_0_2,))
    target.init(features=(PSCI_0_2, POWER_OFF))
    assert isinstance(run(caller, HVC, STORE, X0=0xC400_0003, X1=1, X5=NOWHERE), exits.Hypercall)
    vm.write(CODE + 0x800, struct.pack("<I", 0xB900_00A0))  # str w0, [x5]
    for name, value in (("PC", CODE + 0x800), ("X0", 0x77), ("X5", NOWHERE)):
        target.set_one_reg(ID[name], value)
    target.set_mp_state(MpState.RUNNABLE)
    caller.answer(0)
    assert isinstance(caller.run(10_000), exits.Mmio)
    assert caller.get_one_reg(ID["X0"]) == 0
    assert target.run(10_000).data == 0x77


def test_complete_finishes_its_own_access():
    vcpus = pair()
    for vcpu in vcpus:
        vcpu.run(10_000)
        vcpu.answer(1)
        vcpu.run(10_000)
    vcpus[0].complete()
    assert [vcpu.get_one_reg(ID["PC"]) - CODE for vcpu in vcpus] == [12, 8]

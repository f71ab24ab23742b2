"""The VMM's side: what the ioctls accept, list and refuse, in every phase of a VM's life.

Registers, device attributes, MP states, capabilities, creation and init; each before init,
after it, and after the first KVM_RUN, where KVM makes a difference (abi/B §B5, abi/C §C4-C6).
"""

from __future__ import annotations

from kvm_recorder import ids
from kvm_recorder.plan import (
    AFTER,
    BMAP,
    CORE,
    DENY,
    EL1_32BIT,
    FORWARD,
    FW,
    GENERIC_V8,
    HANDLE,
    PC,
    POWER_OFF,
    PSCI_0_2,
    PSTATE,
    RAM,
    RAM_SIZE,
    RECORDS,
    RUNNABLE,
    STOPPED,
    SYSREG,
    UNMAPPED,
    Plan,
    le64,
    smccc_filter,
)

WIDTHS = range(9)  # KVM_REG_SIZE_U8 to U2048, as the code in bits 52 and up
SIZE_SHIFT = 52
CAPABILITIES = range(0x110)
MP_STATES = (*range(13), 0xFF, 0x8000_0000, 0xFFFF_FFFF)
FIRMWARE = [*(FW | n for n in range(4)), *(BMAP | n for n in range(4))]
VERSIONS = (0, 1, 2, 3, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003, 0x1_0004, 0x2_0000, 0xFFFF_FFFF,
            1 << 32, 1 << 32 | 2, (1 << 64) - 1)
LEVELS = (*range(8), 0xF, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20, 0x22, 0x100, 1 << 32, 1 << 63,
          (1 << 64) - 1)
BITMAPS = (*range(9), 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1)
SPSR_MODES = (0, 1, 4, 5, 8, 9, 0xC, 0xD, 0xF, 0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x1A, 0x1B,
              0x1F)


def resized(reg: int, width: int) -> int:
    """The same register under another size code."""
    return reg & ~(0xF << SIZE_SHIFT) | width << SIZE_SHIFT


def capabilities(plan: Plan) -> None:
    """KVM_CHECK_EXTENSION of every number, by both file descriptors, and the init target."""
    plan.new_vm()
    for fd in "sm":
        for cap in CAPABILITIES:
            plan.add("cap", fd, cap)
    plan.add("target")
    plan.add("vm", 32)
    plan.add("vm", 40)
    for bits in (1, 31, 33, 48, 52, 53, 256):
        plan.add("vm", bits)


def enabling(plan: Plan) -> None:
    """KVM_ENABLE_CAP of every number, each on a VM of its own."""
    for cap in CAPABILITIES:
        plan.new_vm()
        plan.add("enable", "m", cap)
    plan.machine()
    for cap in CAPABILITIES:
        plan.add("enable", 0, cap)
    for words in ((216, 1), (216, 0x8000_0000), (216, 0, 1), (216, 0, 0, 1), (216,), (216,)):
        plan.add("enable", "m", *words)
    plan.call(ids.PSCI_VERSION)
    plan.add("enable", "m", 216)


def creation(plan: Plan) -> None:
    """Everything in the wrong order: no vCPU, no init, and init in every form."""
    plan.new_vm()
    plan.add("vcpu", 0)
    plan.add("vcpu", 1, 0)
    plan.add("vcpu", 2, 0x1000)
    plan.add("list", 0, 0)
    plan.add("list", 0, 0x1000)
    plan.add("dump", 0)
    plan.get(0, *FIRMWARE, PC, PSTATE, SYSREG | 0xC080)
    for reg in (*FIRMWARE, PC, PSTATE):
        plan.set(0, reg, 0)
    plan.add("mpget", 0)
    for state in MP_STATES:
        plan.mp(0, state)
    plan.add("mpget", 0)
    for attr in (0, 1):
        for verb in ("has", "get", "set"):
            plan.attr(0, verb, 2, attr, le64(RECORDS))
    plan.run(0)
    plan.call(ids.PSCI_VERSION)
    plan.filter(0x8400_0000, 1, DENY)
    plan.add("irq", 0, 1)
    plan.add("init", 0, GENERIC_V8, PSCI_0_2)
    plan.guest()
    plan.run_end(0)


def init_targets(plan: Plan) -> None:
    for target in (*range(8), 0x7FFF_FFFF, 0xFFFF_FFFF):
        plan.new_vm()
        plan.add("vcpu", 0)
        plan.add("init", 0, target, PSCI_0_2)
        plan.add("init", 0, GENERIC_V8, PSCI_0_2)
        plan.add("init", 0, target, PSCI_0_2)


def init_features(plan: Plan) -> None:
    for word in range(7):
        for bit in range(32 if word < 2 else 2):
            features = [0] * 7
            features[word] = 1 << bit
            plan.new_vm()
            plan.add("vcpu", 0)
            plan.add("init", 0, GENERIC_V8, *features)
            plan.add("list", 0, 0)
            plan.add("mpget", 0)
    for first in range(8):
        for second in range(8):
            plan.new_vm()
            plan.add("vcpu", 0)
            plan.add("vcpu", 1)
            plan.add("init", 0, GENERIC_V8, first)
            plan.add("init", 0, GENERIC_V8, second)
            plan.add("init", 1, GENERIC_V8, second)
            plan.add("mpget", 0)
            plan.get(0, FW)


def init_after_run(plan: Plan) -> None:
    """Init again after the first run: a reset of the vCPU."""
    plan.machine()
    plan.call(ids.PSCI_VERSION)
    for features in (PSCI_0_2, PSCI_0_2 | POWER_OFF, 0, EL1_32BIT | PSCI_0_2, 1 << 31):
        plan.add("init", 0, GENERIC_V8, features)
        plan.add("mpget", 0)
        plan.get(0, PC, PSTATE, CORE | 2 * 28, *FIRMWARE)
    plan.add("vcpu", 2)
    plan.add("init", 2, GENERIC_V8, PSCI_0_2)
    plan.get(2, *FIRMWARE)


def register_list(plan: Plan) -> None:
    plan.machine()
    for room in (0, 1, 8, 0x40, 0x80, 0xC0, 0xE0, 0xF0, 0x100, 0x120, 0x140, 0x180, 0x1000):
        plan.add("list", 0, room)
    plan.add("dump", 0)
    plan.call(ids.PSCI_VERSION)
    plan.add("list", 0, 0x1000)
    for features in (0, EL1_32BIT | PSCI_0_2):
        plan.machine(features)
        plan.add("list", 0, 0x1000)


def firmware_sizes(plan: Plan) -> None:
    """Wrong sizes, unknown numbers, other architectures, pointers that lead nowhere."""
    plan.machine()
    for reg in FIRMWARE:
        for width in WIDTHS:
            plan.get(0, resized(reg, width))
            plan.set(0, resized(reg, width), bytes(1 << width))
    for base in (FW, BMAP):
        for number in (*range(4, 0x12), 0x20, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF):
            plan.get(0, base | number)
            plan.set(0, base | number, 0)
    for coproc in (*range(0x10), *range(0x17, 0x20), 0xFFF):
        plan.get(0, 0x6030_0000_0000_0000 | coproc << 16)
        plan.set(0, 0x6030_0000_0000_0000 | coproc << 16, 0)
    for architecture in range(0x10):
        plan.get(0, FW & (1 << 60) - 1 | architecture << 60)
        plan.set(0, FW & (1 << 60) - 1 | architecture << 60, 0x1_0000)
    for bit in (*range(28, 52), 56, 57, 58, 59):
        plan.get(0, FW | 1 << bit)
        plan.get(0, BMAP | 1 << bit)
    for reg in (*FIRMWARE, PC, SYSREG | 0xC080, FW | 9):
        plan.add("get", 0, reg, "-")
        plan.set(0, reg, None)


def firmware_values(plan: Plan) -> None:
    """Each value written and read back, before the first run, with and without PSCI 0.2."""
    for features in (0, PSCI_0_2):
        plan.section(f"firmware-values features {features}")
        plan.machine(features)
        for value in VERSIONS:
            plan.set(0, FW, value)
            plan.get(0, FW)
            plan.get(1, FW)
        for number in (1, 2, 3):
            for value in LEVELS:
                plan.set(0, FW | number, value)
                plan.get(0, FW | number)
        for number in range(4):
            for value in BITMAPS:
                plan.set(0, BMAP | number, value)
                plan.get(0, BMAP | number)
                plan.get(1, BMAP | number)


def firmware_after_run(plan: Plan) -> None:
    """After any vCPU ran: the same value, another, an invalid one, by either vCPU."""
    for number, value in ((0, 1), (0, 0), (1, 1), (1, 0), (2, 3), (2, 1), (3, 0), (3, 2)):
        plan.section(f"firmware-after-run {number} = {value}")
        plan.machine()
        plan.set(0, BMAP | number, value)
        plan.call(ids.PSCI_VERSION)
        for vcpu in (0, 1):
            for write in (value, value ^ 1, 4, 1 << 63, value):
                plan.set(vcpu, BMAP | number, write)
                plan.get(vcpu, BMAP | number)
    plan.section("firmware-after-run others")
    plan.machine()
    plan.call(ids.PSCI_VERSION)
    for value in (0x1_0000, 0x2, 0x1_0003, 0x1, 0):
        plan.set(1, FW, value)
        plan.get(0, FW)
        plan.calls(ids.PSCI_VERSION)
    for number in (1, 2, 3):
        for value in LEVELS:
            plan.set(0, FW | number, value)
            plan.get(0, FW | number)


def core_registers(plan: Plan) -> None:
    """Every offset of struct kvm_regs under three sizes, and the bounds of pc and pstate."""
    plan.machine()
    for offset in range(0xE0):
        for width in (2, 3, 4):
            plan.get(0, resized(CORE | offset, width))
    for offset in (0, 1, 0x3E, 0x3F, 0x40, 0x42, 0x43, 0x44, 0x48, 0x50, 0x52, 0x54, 0xD4, 0xD8,
                   0xFFF, 0xFFFF):
        for width in WIDTHS:
            plan.set(0, resized(CORE | offset, width), bytes(1 << width))
    for reg in (CORE, CORE | 0x3E, PC, CORE | 0x44, CORE | 0x46):
        for value in (0, 1, 2, 3, 1 << 31, 1 << 32, 1 << 48, 1 << 55, 1 << 63, (1 << 64) - 1):
            plan.set(0, reg, value)
            plan.get(0, reg)
    for mode in SPSR_MODES:
        for flags in (0, 0x3C0, 0xF000_0000, 0x30_0000, 1 << 32):
            plan.set(0, PSTATE, mode | flags)
            plan.get(0, PSTATE)


def system_registers(plan: Plan) -> None:
    """Each register of the list rewritten with its own value, with ones and with zero."""
    plan.machine()
    writable = (0xC080, 0xC081, 0xC082, 0xC100, 0xC101, 0xC102, 0xC288, 0xC290, 0xC300, 0xC3A0,
                0xC510, 0xC518, 0xC600, 0xC681, 0xC684, 0xC708, 0xDE82, 0xDE83)
    identity = (0xC000, 0xC005, 0xC006, 0xC020, 0xC021, 0xC028, 0xC030, 0xC031, 0xC038, 0xC039,
                0xC03A, 0xD801, 0xC801)
    unknown = (0xC00F, 0xC7FF, 0x0000, 0xFFFF, 0xC085, 0xE5DF)
    for number in (*writable, *identity, *unknown):
        for value in (0, 0x1234_5678_9ABC_DEF0, (1 << 64) - 1):
            plan.set(0, SYSREG | number, value)
            plan.get(0, SYSREG | number)
        for width in (2, 4):
            plan.get(0, resized(SYSREG | number, width))


def filter_checks(plan: Plan) -> None:
    """Every check of the filter in its order (abi/C §C5)."""
    plan.machine()
    for group in (0, 1, 2, 3, 5, 0xFFFF_FFFF):
        for attr in (0, 1, 2, 1 << 32, (1 << 64) - 1):
            plan.attr("m", "has", group, attr, None)
            plan.attr("m", "get", group, attr, smccc_filter(0, 0, 0))
            if (group, attr) != (0, 0):
                plan.attr("m", "set", group, attr, smccc_filter(0x8600_0000, 1, DENY))
    plan.attr("m", "set", 0, 0, None)
    for index in range(15):
        pad = bytes(index) + b"\x01" + bytes(14 - index)
        plan.filter(0x8400_0000, 1, DENY, pad)
    plan.filter(0x8000_0000, 0, 9, b"\xff" * 15)
    for action in (*range(3, 9), 0x7F, 0x80, 0xFF):
        plan.filter(0x8400_0000, 1, action)
        plan.filter(0x8000_0000, 1, action)
    for base, count in ((0xFFFF_FFFF, 2), (0x8400_0000, 0x8000_0000), (1, 0xFFFF_FFFF + 1 - 1),
                        (0xFFFF_FFFF, 0xFFFF_FFFF), (0x8400_0000, 0), (0xFFFF_FFFF, 0),
                        (0x8000_0000, 0), (1, 0), (0, 0)):
        plan.filter(base, count, DENY)
    for base in (0x8000_0000, 0xC000_0000):
        for start, count in ((base, 1), (base - 1, 2), (base - 1, 1), (base + 0xFFFF, 1),
                             (base + 0xFFFF, 2), (base + 0x1_0000, 1), (base - 2, 0x2_0000)):
            for action in (HANDLE, DENY, FORWARD):
                plan.filter(start, count, action)
    plan.filter(0, 0xFFFF_FFFF, DENY)


def filter_overlaps(plan: Plan) -> None:
    plan.machine()
    plan.filter(0x8400_0010, 0x10, DENY)
    for base, count in ((0x8400_0010, 0x10), (0x8400_0000, 0x10), (0x8400_0000, 0x11),
                        (0x8400_001F, 1), (0x8400_0020, 1), (0x8400_0021, 0x10),
                        (0x8400_0000, 0x100), (0xFFFF_FFFF, 1), (0xFFFF_FFFF, 1), (0, 1)):
        for action in (HANDLE, DENY, FORWARD):
            plan.filter(base, count, action)
    plan.sweep(ids.PSCI)


def filter_nothing_at_zero(plan: Plan) -> None:
    """base 0, nr_functions 0 on a VM without any range, by each action, and what it did."""
    for action in (HANDLE, DENY, FORWARD):
        plan.machine()
        plan.filter(0, 0, action)
        plan.filter(0, 1, action)
        plan.sweep([0, ids.PSCI_VERSION, 0xFFFF_FFFF])


def filter_after_run(plan: Plan) -> None:
    plan.machine()
    plan.filter(0x8400_0010, 0x10, DENY)
    plan.call(ids.PSCI_VERSION)
    plan.filter(0x8600_0000, 1, DENY)
    plan.filter(0x8000_0000, 1, DENY)
    plan.filter(0x8400_0010, 1, DENY)
    plan.filter(0x8600_0000, 1, 3)
    plan.filter(0x8600_0000, 0, DENY)
    plan.filter(0x8600_0000, 1, DENY, b"\x01" + bytes(14))
    plan.filter(0, 0, DENY)
    plan.attr("m", "set", 0, 0, None)
    plan.attr("m", "set", 0, 1, smccc_filter(0x8600_0000, 1, DENY))
    plan.attr("m", "has", 0, 0, None)
    plan.section("filter-after-run of another vCPU")
    plan.machine()
    plan.mp(1, RUNNABLE)
    plan.run_end(1)
    plan.filter(0x8600_0000, 1, DENY)
    plan.section("filter before the vCPUs")
    plan.new_vm()
    plan.filter(0x8600_0000, 1, DENY)
    plan.add("vcpu", 0)
    plan.filter(0x8600_0001, 1, DENY)
    plan.add("init", 0, GENERIC_V8, PSCI_0_2)
    plan.guest()
    plan.prepare(0)
    plan.sweep([0x8600_0000, 0x8600_0001])


def mp_states(plan: Plan) -> None:
    """Every state written and read on a fresh vCPU and on one that ran; KVM_RUN in each."""
    plan.machine()
    for ran in (False, True):
        for vcpu in (0, 1):
            for state in MP_STATES:
                plan.mp(vcpu, state)
                plan.add("mpget", vcpu)
        plan.mp(0, RUNNABLE)
        if not ran:
            plan.call(ids.PSCI_VERSION)
    for state in (0, 3, 5, 10):
        plan.section(f"mp-states run in {state}")
        plan.machine()
        plan.set(0, PC, AFTER)
        plan.mp(0, state)
        plan.run(0, wait=True)
        plan.add("irq", 0, 1)
        plan.run(0, wait=True)
        plan.add("irq", 0, 0)
        plan.mp(0, RUNNABLE)
        plan.run(0)
        plan.mp(0, STOPPED)
        plan.run(0)


def stolen_time_attribute(plan: Plan) -> None:
    """KVM_ARM_VCPU_PVTIME_IPA: every refusal, and the value read back (abi/C §C6)."""
    plan.machine()
    for group in (0, 1, 2, 3, 4, 5, 6, 0xFFFF_FFFF):
        for attr in (0, 1, 2, 3, 4, 5):
            plan.attr(0, "has", group, attr, None)
    for attr in (0, 1):
        plan.attr(0, "get", 2, attr, bytes(8))
    plan.attr(0, "get", 2, 0, None)
    plan.attr(0, "set", 2, 0, None)
    plan.attr(0, "set", 2, 1, le64(RECORDS))
    for ipa in (RECORDS + 1, RECORDS + 8, RECORDS + 32, RECORDS + 63, UNMAPPED + 4, UNMAPPED,
                1 << 40, 1 << 63, (1 << 64) - 64, (1 << 64) - 1, RAM + RAM_SIZE, RAM - 64):
        plan.attr(0, "set", 2, 0, le64(ipa))
        plan.attr(0, "get", 2, 0, bytes(8))
    plan.attr(0, "set", 2, 0, le64(RECORDS))
    plan.attr(0, "get", 2, 0, bytes(8))
    for ipa in (RECORDS, RECORDS + 64, RECORDS + 1, UNMAPPED):
        plan.attr(0, "set", 2, 0, le64(ipa))
    plan.attr(0, "get", 2, 0, bytes(8))
    plan.attr(0, "get", 2, 0, None)
    plan.call(ids.PSCI_VERSION)
    plan.attr(0, "set", 2, 0, le64(RECORDS + 64))
    plan.attr(1, "set", 2, 0, le64(RAM + RAM_SIZE - 64))  # after the first run of another
    plan.attr(1, "get", 2, 0, bytes(8))

"""What a recording is made of: a list of operations, each one line for the VMM in main.c.

A `Plan` is built by methods named after KVM's ioctls (linux Documentation/virt/kvm/api.rst).
Their arguments go into a line of words, numbers in hexadecimal, and that same line stands in
the recording, so that whoever replays a file needs no plan. `sections.py` lists the plan's
parts; each begins with a VM of its own, so one part can be left out and the others stay true.

The guest is made here too: behind the trapping instruction, x0-x17 go into memory and a store
to where there is none ends the run; vectors each end it with an address of their own (run.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

RAM = 0x1_0000
RAM_SIZE = 0x2_0000
CODE = RAM  # run.c: CODE_IPA
SAVING = CODE + 4  # what follows the instruction: x0-x17 into memory, then the end
AFTER = CODE + 0x100  # the end alone: where a started vCPU enters
VECTORS = RAM + 0x800
SAVED = RAM + 0x3000  # what x27 holds (run.c: SAVED_IPA)
RECORDS = RAM + 0x4000  # stolen time; any 64-byte aligned address in memory does
MMIO = 0x0900_0000  # what x28 holds, except in a vCPU fresh from reset, where it is 0
END_STORE = 0x2000  # no memory this far from either, so that a store comes out as KVM_EXIT_MMIO
VECTOR_STORES = END_STORE + 0x100  # run.c: VECTOR_STORES, of the low bits
LOW_VECTORS, LOW_SIZE = 0, 0x1000  # VBAR_EL1 is 0 after a reset
UNMAPPED = 0x4000_0000

GENERIC_V8 = 5  # KVM_ARM_TARGET_GENERIC_V8, uapi asm/kvm.h
POWER_OFF, EL1_32BIT, PSCI_0_2 = 1, 2, 4  # KVM_ARM_VCPU_*, as bits of features[0]

RUNNABLE, STOPPED, SUSPENDED = 0, 5, 10  # KVM_MP_STATE_*, uapi linux/kvm.h

CORE = 0x6030_0000_0010_0000  # KVM_REG_ARM_CORE, 64 bits; + offset in struct kvm_regs / 4
PC, PSTATE = CORE | 0x40, CORE | 0x42
FW = 0x6030_0000_0014_0000  # KVM_REG_ARM_FW: PSCI version, workarounds 1 to 3
BMAP = 0x6030_0000_0016_0000  # KVM_REG_ARM_FW_FEAT_BMAP: STD, STD_HYP, VENDOR_HYP, _2
SYSREG = 0x6030_0000_0013_0000  # KVM_REG_ARM64_SYSREG
VBAR_EL1, SCTLR_EL1 = SYSREG | 0xC600, SYSREG | 0xC080  # (3,0,12,0,0) and (3,0,1,0,0)
MPIDR_EL1 = SYSREG | 0xC005  # (3,0,0,0,5)

HANDLE, DENY, FORWARD = 0, 1, 2  # enum kvm_smccc_filter_action

# Functions that a vCPU leaves by waiting or not at all (abi/B §B5): the VMM must end the wait,
# and put the vCPUs back to where the next call expects them.
WAITING = {0x8400_0001, 0xC400_0001, 0x95C1_BA5E}
STOPPING = {0x8400_0002, 0x8400_0008, 0x8400_0009, 0x8400_000E, 0xC400_000E, 0x8400_0012,
            0xC400_0012, 0x8400_0015, 0xC400_0015, 0x95C1_BA5F}
STARTING = {0x8400_0003, 0xC400_0003, 0x95C1_BA60}


def le64(value: int) -> bytes:
    """The eight bytes of a register as the guest's memory has them."""
    return struct.pack("<Q", value & (1 << 64) - 1)


def store(offset: int) -> int:
    """`str wzr, [x28, #offset]` (Arm ARM C6.2: STR immediate, unsigned offset, 32 bits)."""
    return 0xB900_0000 | offset // 4 << 10 | 28 << 5 | 31


def save(reg: int) -> int:
    """`stp xN, xN+1, [x27, #8 * N]` (Arm ARM C6.2: STP, signed offset, 64 bits)."""
    return 0xA900_0000 | reg << 15 | reg + 1 << 10 | 27 << 5 | reg


BACK = 0x17FF_FFFF  # b .-4: whoever runs on ends the run again


def smccc_filter(base: int, count: int, action: int, pad: bytes = bytes(15)) -> bytes:
    """struct kvm_smccc_filter, uapi asm/kvm.h."""
    return struct.pack("<IIB15s", base, count, action, pad)


class Plan:
    """Lines for the VMM. Methods take what the ioctl takes; a vCPU is named by its index."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *words: object) -> None:
        """One operation; integers become hexadecimal words."""
        text = (f"{w:x}" if isinstance(w, int) else str(w) for w in words)
        self.lines.append(" ".join(text))

    def section(self, name: str) -> None:
        self.add("section", name)

    def set(self, vcpu: int, reg: int, value: int | bytes | None) -> None:
        """KVM_SET_ONE_REG; None is a NULL pointer."""
        data = le64(value) if isinstance(value, int) else value
        self.add("set", vcpu, reg, "-" if data is None else data.hex())

    def get(self, vcpu: int, *regs: int) -> None:
        """KVM_GET_ONE_REG of each."""
        for reg in regs:
            self.add("get", vcpu, reg)

    def mp(self, vcpu: int, state: int) -> None:
        self.add("mpset", vcpu, state)

    def attr(self, fd: str | int, verb: str, group: int, attr: int, data: bytes | None) -> None:
        """KVM_HAS/SET/GET_DEVICE_ATTR on the VM ("m") or a vCPU."""
        self.add("attr", fd, verb, group, attr, "-" if data is None else data.hex())

    def filter(self, base: int, count: int, action: int, pad: bytes = bytes(15)) -> None:
        """KVM_ARM_VM_SMCCC_FILTER of KVM_ARM_VM_SMCCC_CTRL."""
        self.attr("m", "set", 0, 0, smccc_filter(base, count, action, pad))

    # -- machines -----------------------------------------------------------------------------

    def new_vm(self) -> None:
        """A VM with memory and no vCPU."""
        self.add("vm")
        self.add("ram", RAM, RAM_SIZE)
        self.add("ram", LOW_VECTORS, LOW_SIZE, 1)

    def machine(self, features: int = PSCI_0_2, ids: Sequence[int] = (0, 1)) -> None:
        """A VM whose vCPU 0 runs and whose others are powered off, ready for `call`."""
        self.new_vm()
        for index, vcpu_id in enumerate(ids):
            self.add("vcpu", index, vcpu_id)
        for index in range(len(ids)):
            self.add("init", index, GENERIC_V8, features | (POWER_OFF if index else 0))
        self.guest()
        self.prepare(0)

    def guest(self) -> None:
        """The code that every call runs."""
        self.add("write", SAVING, *map(save, range(0, 18, 2)), store(END_STORE), BACK)
        self.add("write", AFTER, store(END_STORE), BACK)
        for vector in range(16):
            for base in (VECTORS, LOW_VECTORS):
                word = store(VECTOR_STORES + 4 * vector)
                self.add("write", base + 0x80 * vector, word, BACK)

    def prepare(self, vcpu: int) -> None:
        """What a vCPU needs before its first call: where to save and store, and vectors."""
        self.set(vcpu, CORE | 2 * 27, SAVED)
        self.set(vcpu, CORE | 2 * 28, MMIO)
        self.set(vcpu, VBAR_EL1, VECTORS)

    # -- calls --------------------------------------------------------------------------------

    def call(self, x0: int, *args: int, conduit: str = "h", imm: int = 0, el: int = 1,
             vcpu: int = 0) -> None:
        """One trapped instruction; registers not given are poisoned (run.c: poison)."""
        fid = x0 & 0xFFFF_FFFF
        self.add("call", vcpu, conduit, imm, el, int(fid in WAITING), x0, *args)

    def calls(self, x0: int, *args: int, conduit: str = "h", imm: int = 0, el: int = 1) -> None:
        """The same from vCPU 0, and everything put back that the function may have changed."""
        self.call(x0, *args, conduit=conduit, imm=imm, el=el)
        fid = x0 & 0xFFFF_FFFF
        if fid in STOPPING:
            self.mp(0, RUNNABLE)
        if fid in STARTING:
            self.mp(1, STOPPED)

    def sweep(self, fids: Iterable[int], *args: int, conduits: str = "hs", imm: int = 0) -> None:
        """Each function by each conduit."""
        for fid in fids:
            for conduit in conduits:
                self.calls(fid, *args, conduit=conduit, imm=imm)

    def run_end(self, vcpu: int) -> None:
        """KVM_RUN, of nothing but the store that ends it."""
        self.set(vcpu, PC, AFTER)
        self.run(vcpu)

    def run(self, vcpu: int, *, wait: bool = False) -> None:
        """KVM_RUN from wherever the vCPU is."""
        self.add("run", vcpu, int(wait))

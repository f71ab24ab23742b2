"""The one importer of Unicorn: runs guest code up to a cycle, and takes its exceptions.

Unicorn executes A64 instructions and reports what it cannot do. The rest is here: telling HVC
from SMC from UNDEFINED and with which immediate, EL1 exception entry, WFI, semihosting calls,
exact counts, deadlines, counter registers, external aborts, and one context for each vCPU.

The hooks come in two halves with one result: `emu/_native.c` where the package could compile
it, `hooks.py` otherwise (or with HVCEMU_NATIVE=0). No hook holds a reference to the engine
outside `run()`, or lets a Python error through C: the error is kept, the run is stopped, and it
continues from there.

Syndrome and fault address are in no register Unicorn offers, only in its opaque context, whose
layout is private. `_calibrate` finds the offsets by provoking them, once in a process.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import mmap
import os
import struct
from typing import Any, Protocol

import unicorn
from unicorn import arm64_const as a64
from unicorn.unicorn_py3.unicorn import uclib

from emu import arch
from emu.bus import Device
from emu.clock import COUNTER_HZ, CYCLES_PER_TICK
from emu.el1 import StormWatch, take_exception
from emu.errors import EngineError
from emu.hooks import (
    INTR_BRK,
    INTR_CALLBACK,
    INTR_DATA_ABORT,
    INTR_HVC,
    INTR_PREFETCH_ABORT,
    INTR_SVC,
    INTR_UNDEFINED,
    NEVER,
    REPLIES,
    Context,
    Layout,
    PythonHooks,
    Unicorn,
    code_address,
)
from emu.smccc import Conduit

try:
    from emu import _native as _built
except ImportError:
    _built = None
_native: Any = _built

UNTIL = 0xFFFF_FFFF_FFFF_FFF1
"""Where Unicorn would stop by itself: an odd address, which no branch target can be."""
TCG_BUFFER = 16 << 20
"""Bytes for translated code: 1 GiB by default, far more than any guest here fills."""
TLB_FLUSH = 0x4000_0000 | unicorn.unicorn_const.UC_CTL_TLB_FLUSH
"""uc_ctl_flush_tlb: UC_CTL_WRITE(UC_CTL_TLB_FLUSH, 0) (unicorn.h)."""
MAP_GRANULE = 0x1000

X_REGISTERS = tuple(getattr(a64, f"UC_ARM64_REG_X{n}") for n in range(31))
_REGISTERS = {
    **{f"X{n}": reg for n, reg in enumerate(X_REGISTERS)},
    **{
        name: getattr(a64, f"UC_ARM64_REG_{name}")
        for name in (
            "PC", "SP", "PSTATE", "SP_EL0", "SP_EL1", "ELR_EL1", "ESR_EL1", "FAR_EL1", "VBAR_EL1"
        )
    },
}
_SYSTEM_REGISTERS = {
    "SPSR_EL1": arch.SPSR_EL1,
    "SCTLR_EL1": arch.SCTLR_EL1,
    "CNTFRQ_EL0": arch.CNTFRQ_EL0,
    "HCR_EL2": arch.HCR_EL2,
    "VMPIDR_EL2": arch.VMPIDR_EL2,
    "SCR_EL3": arch.SCR_EL3,
}


class Stop(enum.Enum):
    """Why `Engine.run` came back."""

    DEADLINE = "deadline"
    WFI = "wfi"
    ASKED = "asked"
    FAULT = "fault"


class Traps(Protocol):
    """Who hears of what the engine does not decide. Called from inside a hook."""

    def hypercall(self, conduit: Conduit, imm: int, x: tuple[int, ...]) -> tuple[int, ...] | None:
        """Answer with the registers to write, or None to stop before the next instruction."""

    def semihosting(self) -> bool:
        """Serve the HLT #0xF000 that PC is on; False when it is not a call that exists."""

    def took_exception(self, esr: int, far: int | None, pc: int, vector: int) -> None:
        """An exception was entered; for those who watch."""

    def absent(self, address: int) -> str | None:
        """The name of a device that belongs at this physical address but is not modelled."""


def describe_layout() -> str:
    """Which Unicorn this is, and where its context holds what it has no register for."""
    layout = _calibrate()
    return (
        f"{unicorn.__version__}: context of {layout.size} bytes, syndrome at {layout.syndrome}, "
        f"fault address at {layout.fault_address}, monitor at {layout.exclusive_address}"
    )


def native_available() -> bool:
    """Whether the native half was built."""
    return _native is not None


def native_wanted() -> bool:
    """Whether the environment lets the native half be used (HVCEMU_NATIVE is not 0)."""
    return os.environ.get("HVCEMU_NATIVE", "1") != "0"


_UNMAPPED = ctypes.CFUNCTYPE(
    ctypes.c_bool, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int,
    ctypes.c_int64, ctypes.c_void_p,
)  # fmt: skip
_READ = ctypes.CFUNCTYPE(
    ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p
)
_WRITE = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p
)


def _native_hooks(
    opened: Unicorn, context: Context, layout: Layout, cycles_per_tick: int
) -> Any:
    names = (
        "emu_start emu_stop reg_read reg_write reg_read_batch reg_write_batch context_save hook_add"
    )
    functions = tuple(
        ctypes.cast(getattr(uclib, f"uc_{name}"), ctypes.c_void_p).value for name in names.split()
    )
    hooks = _native.Hooks(
        opened.handle.value, context.address, layout.syndrome, functions, opened.registers,
        opened.pc, cycles_per_tick, Conduit.HVC, Conduit.SMC,
    )  # fmt: skip
    hooks.deadline = NEVER
    return hooks


class Engine:
    """One Unicorn instance. `cycles` and `instructions` count what has been retired."""

    def __init__(self, *, native: bool | None = None) -> None:
        if native and not native_available():
            raise EngineError("the native half was not built; reinstall with a C compiler")
        self.layout = _calibrate()
        self._uc, self._unicorn = _open()
        self._uch = self._unicorn.handle
        self._scratch = Context(self._unicorn)
        use_native = native_available() and native_wanted() if native is None else native
        build = _native_hooks if use_native else PythonHooks
        self.native = use_native
        self.hooks = build(self._unicorn, self._scratch, self.layout, CYCLES_PER_TICK)
        self.fault = ""
        self._storm = StormWatch()
        self._traps: Traps | None = None
        self._ram: list[tuple[int, int, mmap.mmap, Any]] = []
        self._mmio: list[Any] = []
        self._unmapped: list[tuple[int, int]] = []
        self._watch_unmapped()
        self.reset_context = Context(self._unicorn)
        self.save(self.reset_context)

    # -- time -------------------------------------------------------------------------------

    @property
    def cycles(self) -> int:
        return int(self.hooks.cycles)

    @cycles.setter
    def cycles(self, value: int) -> None:
        self.hooks.cycles = value

    @property
    def instructions(self) -> int:
        return int(self.hooks.instructions)

    # -- registers and contexts -----------------------------------------------------------------

    def get(self, name: str) -> int:
        """Read a register by its architectural name."""
        if name in _REGISTERS:
            return int(self._uc.reg_read(_REGISTERS[name]))
        return int(self._uc.cpr_read(*_SYSTEM_REGISTERS[name]))

    def set(self, name: str, value: int) -> None:
        """Write a register by its architectural name."""
        if name in _REGISTERS:
            self._uc.reg_write(_REGISTERS[name], value)
        else:
            self._uc.cpr_write(*_SYSTEM_REGISTERS[name], value)

    def arguments(self, count: int) -> tuple[int, ...]:
        """x0 onward."""
        return tuple(int(self._uc.reg_read(reg)) for reg in X_REGISTERS[:count])

    def write_reply(self, values: tuple[int, ...]) -> None:
        """Write x0 onward."""
        for reg, value in zip(X_REGISTERS, values, strict=False):
            self._uc.reg_write(reg, value)

    def new_context(self) -> Context:
        """Room for one more vCPU."""
        return Context(self._unicorn)

    def save(self, context: Context) -> None:
        """Keep the running vCPU's registers."""
        self._unicorn.require(uclib.uc_context_save(self._uch, context.pointer))

    def restore(self, context: Context) -> None:
        """Bring another vCPU's registers in. Its exclusive monitor is found clear.

        Other vCPUs have run since it was saved; Unicorn compares values, so that a store
        exclusive after A-B-A would succeed where the architecture's monitor had been lost.
        """
        place = context.address + self.layout.exclusive_address
        ctypes.c_uint64.from_address(place).value = NEVER
        self._unicorn.require(uclib.uc_context_restore(self._uch, context.pointer))
        self._unicorn.require(uclib.uc_ctl(self._uch, TLB_FLUSH))

    # -- memory -----------------------------------------------------------------------------

    def map_ram(self, base: int, size: int) -> None:
        """Memory that costs nothing until it is touched."""
        block = mmap.mmap(-1, size)
        pin = (ctypes.c_char * size).from_buffer(block)
        self._uc.mem_map_ptr(base, size, unicorn.UC_PROT_ALL, ctypes.addressof(pin))
        self._ram.append((base, size, block, pin))

    def map_device(self, base: int, size: int, device: Device) -> None:
        """Let a device answer the accesses to [base, base + size)."""

        def read(_uc: int, offset: int, width: int, _user: int) -> int:
            return device.read(offset, width)

        def write(_uc: int, offset: int, width: int, value: int, _user: int) -> None:
            device.write(offset, width, value)

        callbacks = _READ(read), _WRITE(write)
        self._mmio.append(callbacks)
        self._unicorn.require(
            uclib.uc_mmio_map(
                self._uch, base, size, code_address(callbacks[0]), None,
                code_address(callbacks[1]), None,
            )
        )

    def read(self, address: int, size: int) -> bytes:
        """Guest-physical RAM; raises IndexError outside it."""
        block, offset = self._locate(address, size)
        return block[offset : offset + size]

    def write(self, address: int, data: bytes) -> None:
        """Write guest-physical RAM; code translated from it is forgotten."""
        block, offset = self._locate(address, len(data))
        block[offset : offset + len(data)] = data
        if self.instructions:
            self._uc.ctl_remove_cache(address, address + len(data))

    def _locate(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        for base, length, block, _ in self._ram:
            if base <= address and address + size <= base + length:
                return block, address - base
        raise IndexError(f"no RAM at {address:#x}")

    def read_virtual(self, address: int, size: int) -> bytes | None:
        """Memory as the running vCPU sees it, None where it is not mapped."""
        buffer = ctypes.create_string_buffer(size)
        error = uclib.uc_vmem_read(
            self._uch, ctypes.c_uint64(address), unicorn.UC_PROT_READ, buffer,
            ctypes.c_size_t(size),
        )
        return None if error else buffer.raw

    def write_virtual(self, address: int, data: bytes) -> bool:
        """Write memory as the running vCPU sees it; False where it is not mapped."""
        error = uclib.uc_vmem_write(
            self._uch, ctypes.c_uint64(address), unicorn.UC_PROT_WRITE, data,
            ctypes.c_size_t(len(data)),
        )
        return not error

    # -- running ----------------------------------------------------------------------------

    def run(self, until: int, traps: Traps) -> Stop:
        """Run the vCPU whose registers are loaded until cycle `until`, or until told to stop.

        The block that would start at or after `until` does not start.
        """
        self._traps, self.fault = traps, ""
        self.hooks.deadline = until
        try:
            while True:
                error = self.hooks.start(
                    self.get("PC"), UNTIL, traps.hypercall, self._on_exception
                )
                if error:
                    self._on_error(error)
                if self.fault:
                    return Stop.FAULT
                if self.hooks.asked:
                    return Stop.ASKED
                if self.hooks.late:
                    return Stop.DEADLINE
                if not error:
                    return Stop.WFI
        finally:
            self._traps = None

    def stop(self) -> None:
        """From inside a hook: come back before the next instruction."""
        self.hooks.stop()

    def inject_undefined(self) -> None:
        """Answer the call just trapped with an Undefined Instruction exception at EL1."""
        pc = self.get("PC") - arch.INSN_SIZE
        self.hooks.refund(pc)
        self._take(arch.syndrome(arch.EC_UNKNOWN), None, pc)

    def _on_exception(self, intno: int) -> None:
        """An exception Unicorn reports: serve semihosting, or enter EL1."""
        pc = self.get("PC")
        if intno == INTR_UNDEFINED and self._serve_semihosting(pc):
            return
        uclib.uc_context_save(self._uch, self._scratch.pointer)
        base = self._scratch.address
        esr = ctypes.c_uint32.from_address(base + self.layout.syndrome).value
        if intno in (INTR_PREFETCH_ABORT, INTR_DATA_ABORT):
            far = ctypes.c_uint64.from_address(base + self.layout.fault_address).value
            if intno == INTR_DATA_ABORT:
                self.hooks.refund(pc)
            self._take(esr, far, pc)
        elif intno in (INTR_UNDEFINED, INTR_BRK):
            self.hooks.refund(pc)
            self._take(esr, None, pc)
        elif intno == INTR_SVC:
            self._take(esr, None, pc)
        else:
            self._fail(f"Unicorn reports exception {intno}, which is not modelled")

    def _serve_semihosting(self, pc: int) -> bool:
        word = self.read_virtual(pc, arch.INSN_SIZE)
        if word is None or int.from_bytes(word, "little") != arch.WORD_HLT_SEMIHOSTING:
            return False
        if arch.current_el(self.get("PSTATE")) == 0:
            return False
        assert self._traps is not None
        if not self._traps.semihosting():
            return False
        self.set("PC", pc + arch.INSN_SIZE)
        self.hooks.refund(pc + arch.INSN_SIZE)
        return True

    def _watch_unmapped(self) -> None:
        # The cell again instead of self, so that the callback makes no reference cycle.
        seen = self._unmapped

        def on_unmapped(
            _uc: int, access: int, address: int, _size: int, _value: int, _user: int
        ) -> bool:
            seen.append((access, address))
            return False

        self._unmapped_callback = _UNMAPPED(on_unmapped)
        self._unicorn.hook(unicorn.UC_HOOK_MEM_UNMAPPED, self._unmapped_callback)

    def _on_error(self, error: int) -> None:
        """An access nobody claims: a synchronous external abort, as a bus gives it."""
        if not self._unmapped:
            self._fail(f"Unicorn stopped: {uclib.uc_strerror(error).decode()}")
            return
        access, address = self._unmapped[-1]
        self._unmapped.clear()
        assert self._traps is not None
        if name := self._traps.absent(address):
            self._fail(f"the guest reached for the {name} at {address:#x}, "
                       "which this machine does not have yet")
            return
        self._external_abort(access, address)

    def _external_abort(self, access: int, address: int) -> None:
        """Unicorn tells the physical address; FAR is valid only where that is the virtual one."""
        pc = self.get("PC")
        fetch = access == unicorn.UC_MEM_FETCH_UNMAPPED
        translated = self.get("SCTLR_EL1") & arch.SCTLR_M
        iss = arch.FSC_EXTERNAL | (arch.ISS_FNV if translated else 0)
        if access == unicorn.UC_MEM_WRITE_UNMAPPED:
            iss |= arch.ISS_WNR
        if not fetch:
            self.hooks.refund(pc)
        esr = arch.syndrome(self._abort_class(fetch), iss)
        self._take(esr, None if translated else address, pc)

    def _abort_class(self, fetch: bool) -> int:
        lower = arch.current_el(self.get("PSTATE")) == 0
        if fetch:
            return arch.EC_INSTRUCTION_ABORT_LOWER if lower else arch.EC_INSTRUCTION_ABORT_SAME
        return arch.EC_DATA_ABORT_LOWER if lower else arch.EC_DATA_ABORT_SAME

    def _take(self, esr: int, far: int | None, return_address: int) -> None:
        if arch.exception_class(esr) != arch.EC_SVC64 and self._storm.repeats(
            esr, far, return_address, self.get("ELR_EL1")
        ):
            self._fail("the guest takes the same exception for ever")
            return
        pc = self.get("PC")
        vector = take_exception(self, esr, far, return_address)
        assert self._traps is not None
        self._traps.took_exception(esr, far, pc, vector)

    def _fail(self, reason: str) -> None:
        self.fault = reason
        self.hooks.stop()


def _open() -> tuple[Any, Unicorn]:
    """A Unicorn in the state EL1 finds below a hypervisor: HVC enabled, AArch64, EL1h."""
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    uc.ctl_set_tcg_buffer_size(TCG_BUFFER)
    uc.reg_write(a64.UC_ARM64_REG_PSTATE, arch.PSTATE_EL1H_MASKED)
    # Any system register write after PSTATE rebuilds Unicorn's cached flags.
    uc.cpr_write(*arch.SCR_EL3, arch.SCR_EL3_RUN)
    uc.cpr_write(*arch.HCR_EL2, arch.HCR_EL2_RUN)
    uc.cpr_write(*arch.SCTLR_EL1, arch.SCTLR_EL1_RESET)
    uc.cpr_write(*arch.CNTFRQ_EL0, COUNTER_HZ)
    registers = X_REGISTERS[:REPLIES]
    return uc, Unicorn(uclib, uc._uch, registers, a64.UC_ARM64_REG_PC)


CALIBRATION_IMM = 0xA5C3
CALIBRATION_BASE = 0x7A5C_3000
_HVC_CALIBRATION = 0xD400_0002 | CALIBRATION_IMM << 5
_LDXR_X1_X0 = 0xC85F_7C01
_MOV_X0_0 = 0xD280_0000


@functools.cache
def _calibrate() -> Layout:
    """Find the syndrome, the fault address and the exclusive monitor in a context.

    Each is provoked with a rare value. A value that is found nowhere or more than once, and an
    HVC that does not trap, mean a Unicorn this engine does not know: it is refused.
    """
    uc, opened = _open()
    uch = opened.handle
    size = int(uclib.uc_context_size(uch))
    uc.mem_map(CALIBRATION_BASE, MAP_GRANULE)
    context = Context(opened)
    seen: dict[int, bytes] = {}

    def on_interrupt(_uc: int, intno: int, _user: int) -> None:
        uclib.uc_context_save(uch, context.pointer)
        seen[intno] = ctypes.string_at(context.address, size)
        uclib.uc_emu_stop(uch)

    callback = INTR_CALLBACK(on_interrupt)
    opened.hook(unicorn.UC_HOOK_INTR, callback)

    def run(*words: int, start: int = CALIBRATION_BASE) -> bytes:
        uc.mem_write(CALIBRATION_BASE, struct.pack(f"<{len(words)}I", *words))
        uc.ctl_remove_cache(CALIBRATION_BASE, CALIBRATION_BASE + MAP_GRANULE)
        uclib.uc_emu_start(uch, start, UNTIL, 0, 0)
        uclib.uc_context_save(uch, context.pointer)
        return ctypes.string_at(context.address, size)

    run(_HVC_CALIBRATION)
    if INTR_HVC not in seen:
        raise EngineError("HVC does not trap on this Unicorn: use unicorn>=2.1.4,<2.2")
    syndrome = _only(seen[INTR_HVC], struct.pack("<I", 0x5A00_0000 | CALIBRATION_IMM), "syndrome")
    address = CALIBRATION_BASE + 0x808
    uc.reg_write(X_REGISTERS[0], address)
    blob = run(_LDXR_X1_X0, _MOV_X0_0, arch.WORD_WFI)
    exclusive = _only(blob, struct.pack("<Q", address), "exclusive monitor")
    fault = syndrome + 8  # struct exception { u32 syndrome, fsr; u64 vaddress; … }
    # With translation on over an empty table the next fetch faults at a rare address.
    rare = 0x12_3456_7000
    uc.mem_write(CALIBRATION_BASE, bytes(MAP_GRANULE))
    uc.reg_write(a64.UC_ARM64_REG_TTBR0_EL1, CALIBRATION_BASE)
    uc.cpr_write(*arch.TCR_EL1, arch.TCR_EL1_48_BITS)
    uc.cpr_write(*arch.SCTLR_EL1, arch.SCTLR_EL1_RESET | arch.SCTLR_M)
    uclib.uc_emu_start(uch, rare, UNTIL, 0, 0)
    blob = seen.get(INTR_PREFETCH_ABORT, bytes(size))
    if struct.unpack_from("<Q", blob, fault)[0] != rare:
        raise _refused("fault address")
    return Layout(size, syndrome, fault, exclusive)


def _only(blob: bytes, pattern: bytes, what: str) -> int:
    where = blob.find(pattern)
    if where < 0 or blob.find(pattern, where + 1) >= 0:
        raise _refused(what)
    return where


def _refused(what: str) -> EngineError:
    return EngineError(
        f"cannot find the {what} in Unicorn {unicorn.__version__}'s context: "
        "use unicorn>=2.1.4,<2.2"
    )

"""Runs guest code up to a cycle, and takes its exceptions.

Unicorn executes A64 instructions and reports what it cannot do. The rest is here: telling HVC
from SMC from UNDEFINED and with which immediate, EL1 exception entry, WFI, semihosting calls,
exact counts, deadlines, counter registers, external aborts, and one context for each vCPU.

The hooks come in two halves with one result: `_hooks.c` where the package could compile it,
`hooks.py` otherwise (or with HVCEMU_NATIVE=0). No hook holds a reference to the engine
outside `run()`, or lets a Python error through C: the error is kept, the run is stopped, and it
continues from there.
"""

from __future__ import annotations

import ctypes
import enum
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from emu.arm import arch
from emu.arm.arch import SysReg
from emu.arm.cores import DEFAULT_CORE, has_pan
from emu.arm.timers import NEVER, Timers
from emu.base.clock import COUNTER_HZ
from emu.base.errors import EngineError
from emu.base.smccc import Conduit
from emu.cycles.block_costs import BlockCosts
from emu.engine.calibrate import calibrate
from emu.engine.calls import REPLIES
from emu.engine.cpu import (
    CODE_CALLBACK,
    HOOK_CODE,
    HOOK_MEM_READ,
    HOOK_MEM_UNMAPPED,
    MEM_FETCH_UNMAPPED,
    MEM_WRITE_UNMAPPED,
    MEMORY_CALLBACK,
    UNMAPPED_CALLBACK,
    X_REGISTERS,
    Context,
    Cpu,
    function_address,
    register_number,
)
from emu.engine.exceptions import (
    INTR_BRK,
    INTR_DATA_ABORT,
    INTR_PREFETCH_ABORT,
    INTR_SVC,
    INTR_UNDEFINED,
    NAMED,
)
from emu.engine.hooks import PythonHooks
from emu.engine.memory import Memory
from emu.engine.mmio import Devices
from emu.engine.taken import ExceptionLog, Taken

try:
    import emu.engine._native as _built
except ImportError:
    _built = None
_native: Any = _built

UNTIL = 0xFFFF_FFFF_FFFF_FFF1
"""Where Unicorn would stop by itself: an odd address, which no branch target can be."""


MONITOR = {"exclusive_address": NEVER, "exclusive_low": 0, "exclusive_high": 0}
"""What a load-exclusive left: its address and the pair it loaded, as Unicorn keeps them side by
side (qemu v5.0 target/arm/cpu.h: exclusive_addr, _val, _high); beside each, the value when clear.
"""


WIDEST = 8
"""Instructions a cycle, of the widest core there is a model of: Neoverse V1 decodes eight
(its software optimization guide, §2.1)."""


class Stop(enum.Enum):
    """Why `Engine.run` came back."""

    DEADLINE = "deadline"
    WFI = "wfi"
    ASKED = "asked"
    FAULT = "fault"


class Access(NamedTuple):
    """An access to guest-physical memory; `value` is what a store would write."""

    kind: int
    address: int
    size: int
    value: int

    @property
    def is_write(self) -> bool:
        return self.kind == MEM_WRITE_UNMAPPED

    @property
    def is_fetch(self) -> bool:
        return self.kind == MEM_FETCH_UNMAPPED


Listener = Callable[[int, int], None]
"""Hears of an access or an instruction: (address, size)."""


class Traps(Protocol):
    """Who hears of what the engine does not decide. Called from inside a hook."""

    def hypercall(self, conduit: Conduit, imm: int, x: tuple[int, ...]) -> tuple[int, ...] | None:
        """Answer with the registers to write, or None to stop before the next instruction."""

    def semihosting(self) -> bool:
        """Serve the HLT #0xF000 that PC is on; False when it is not a call that exists."""

    def trap(self, pc: int) -> bool:
        """Serve the HLT of ours (arch.WORD_HLT_TRAP) at `pc`; False when nobody put it there."""

    @property
    def watches_exceptions(self) -> bool:
        """Whether `took_exception` is to be called."""

    def took_exception(self, taken: Taken, vector: int) -> None:
        """An exception was entered; the engine keeps the last ones (taken.py)."""

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        """An access at EL1 to a register of the GIC or the PMU: what is read; None is UNDEFINED.

        After a write any number will do.
        """

    def attach(self, address: int) -> bool:
        """Map the device that belongs at this physical address; False when there is none."""

    def absent(self, address: int) -> str | None:
        """The name of a device that belongs at this physical address but is not modelled."""

    def unclaimed(self, access: Access) -> bool:
        """An access nobody claims: True to stop before it, False for an external abort."""


def native_available() -> bool:
    """Whether the native half was built."""
    return _native is not None


def native_wanted() -> bool:
    """Whether the environment lets the native half be used (HVCEMU_NATIVE is not 0)."""
    return os.environ.get("HVCEMU_NATIVE", "1") != "0"


_NATIVE_FUNCTIONS = (
    "uc_emu_start", "uc_emu_stop", "uc_reg_read", "uc_reg_write", "uc_reg_read_batch",
    "uc_reg_write_batch", "uc_context_save", "uc_hook_add", "uc_vmem_translate", "uc_ctl",
    "uc_vmem_read",
)  # fmt: skip
"""What the native half calls, in the order of `_hooks.h:Api`."""


def _native_hooks(
    cpu: Cpu, context: Context, offsets: tuple[int, int], log: ExceptionLog, *, has_pan: bool
) -> Any:
    hooks = _native.Hooks(
        cpu.handle.value, context.address, *offsets,
        tuple(map(function_address, _NATIVE_FUNCTIONS)), X_REGISTERS[:REPLIES],
        tuple(map(register_number, NAMED)), (Conduit.HVC, Conduit.SMC),
        ctypes.addressof(log), has_pan,
    )  # fmt: skip
    hooks.deadline = NEVER
    return hooks


def _listener(seen: list[Access]) -> Callable[[int, int, int, int, int, int], bool]:
    """Notes an access nobody claims. Not a method: it would make a reference cycle."""

    def on_unmapped(_uc: int, kind: int, address: int, size: int, value: int, _user: int) -> bool:
        seen.append(Access(kind, address, size, value & (1 << 8 * min(size, 8)) - 1))
        return False

    return on_unmapped


def _keeper(failures: list[BaseException], hooks: Any) -> Callable[[BaseException], None]:
    """Keeps an error from inside C for the end of the run, and lets no further block begin.

    Stopped at once, Unicorn would repeat the access that failed.
    """
    weak = weakref.ref(hooks)

    def keep(failure: BaseException) -> None:
        failures.append(failure)
        if running := weak():
            running.deadline = 0

    return keep


class Engine:
    """One Unicorn instance. `cycles` and `instructions` count what has been retired."""

    def __init__(self, *, core: str = DEFAULT_CORE, native: bool | None = None) -> None:
        if native and not native_available():
            raise EngineError("the native half was not built; reinstall with a C compiler")
        self.layout = calibrate()
        self.core = core
        self.cpu = Cpu(core)
        self.get, self.set = self.cpu.get, self.cpu.set
        memory = Memory(self.cpu)
        self.memory = memory
        self.ram, self.has_ram = memory.ram, memory.has
        self.read, self.write_data, self.overlaps_ram = memory.read, memory.write, memory.overlaps
        self.read_virtual, self.write_virtual = self.cpu.read_virtual, self.cpu.write_virtual
        self.set("CNTFRQ_EL0", COUNTER_HZ)
        self._scratch = Context(self.cpu)
        use_native = native_available() and native_wanted() if native is None else native
        build = _native_hooks if use_native else PythonHooks
        self.native = use_native
        self.exceptions = ExceptionLog()
        offsets = self.layout.syndrome, self.layout.fault_address
        self.hooks = build(
            self.cpu, self._scratch, offsets, self.exceptions, has_pan=has_pan(core)
        )
        self.use_timers(Timers())
        self.fault = ""
        self.block_costs: BlockCosts | None = None
        self.misprediction = 0
        """Sixteenths of a cycle that a mispredicted branch costs."""
        self.width = 1
        """Instructions that may be retired in one cycle."""
        self._left = False
        self._failures: list[BaseException] = []
        self._keep = _keeper(self._failures, self.hooks)
        stream = _native.Stream if use_native else None
        self._devices = Devices(self.cpu, self._keep, stream, self.hooks)
        self.map_device, self.hand_on = self._devices.map, self._devices.hand_on
        self._translated = self._stale = False
        self._watches: list[int] = []
        self._traps: Traps | None = None
        self._unmapped: list[Access] = []
        self._on_unmapped = UNMAPPED_CALLBACK(_listener(self._unmapped))
        self._holes: list[int] = []
        self.reset_context = Context(self.cpu)
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

    def account(self, costs: BlockCosts) -> None:
        """From now on a block costs what a core model says; without it an instruction is a cycle.

        Before the first run: what is translated already is not looked at again.
        """
        self.block_costs, self.width = costs, WIDEST
        self.hooks.account(costs)

    @property
    def running(self) -> bool:
        """Whether a run is in progress, as it is while a handler is asked."""
        return self._traps is not None

    # -- registers and contexts -----------------------------------------------------------------

    def read_register(self, name: str) -> int:
        """Read a register of the vCPU as the architecture has it: SP_ELx is the bank's SP."""
        if name[0] == "V" and name[1:].isdecimal():
            return self.cpu.get_vector(int(name[1:]))
        return self.get("SP" if name == self._current_bank() else name)

    def write_register(self, name: str, value: int) -> None:
        """Write one likewise; a new PSTATE brings its own bank's SP and rebuilds the flags."""
        if name[0] == "V" and name[1:].isdecimal():
            self.cpu.set_vector(int(name[1:]), value)
        elif name == "PSTATE":
            self.set(self._current_bank(), self.get("SP"))
            self.set("PSTATE", value)
            self.set("SP", self.get(self._current_bank()))
            self.set("SPSR_EL1", self.get("SPSR_EL1"))
        else:
            self.set("SP" if name == self._current_bank() else name, value)

    def _current_bank(self) -> str:
        pstate = self.get("PSTATE")
        return "SP_EL1" if arch.current_el(pstate) and pstate & arch.PSTATE_SPSEL else "SP_EL0"

    def arguments(self, count: int) -> tuple[int, ...]:
        """x0 onward."""
        return self.cpu.read_x(count)

    def write_reply(self, values: tuple[int, ...]) -> None:
        """Write x0 onward."""
        if values:
            self.cpu.write_x(values)

    def new_context(self) -> Context:
        """Room for one more vCPU."""
        return Context(self.cpu)

    def save(self, context: Context) -> None:
        """Keep the running vCPU's registers."""
        self.cpu.save(context)

    def restore(self, context: Context) -> None:
        """Bring another vCPU's registers in. Its exclusive monitor is found clear.

        Other vCPUs have run since it was saved; Unicorn compares values, so that a store
        exclusive after A-B-A would succeed where the architecture's monitor had been lost.
        """
        place = context.address + self.layout.exclusive_address
        ctypes.c_uint64.from_address(place).value = NEVER
        self.cpu.restore(context)

    def take_back(self, context: Context) -> None:
        """Bring the running vCPU's own registers back in, its exclusive monitor among them."""
        self.cpu.restore(context)

    def context_bytes(self, context: Context | None = None) -> bytes:
        """The running vCPU's registers, or a saved one's, in Unicorn's own form."""
        if context is None:
            self.save(self._scratch)
            context = self._scratch
        return ctypes.string_at(context.address, self.layout.size)

    def set_context_bytes(self, data: bytes, context: Context | None = None) -> None:
        """Bring back what `context_bytes` has given; exclusive monitor and all."""
        place = context or self._scratch
        ctypes.memmove(place.address, data, len(data))
        if context is None:
            self.cpu.restore(place)

    def forget_code(self) -> None:
        """Drop all translated code, before the next run."""
        self._stale = self._translated

    def read_vcpu(self, context: Context | None = None) -> dict[str, int]:
        """All that a guest can change in a vCPU (cpu.py), of the running one or another.

        The monitor is the running one's alone: `restore` clears every other's.
        """
        self.save(self._scratch)
        if context is not None:
            self.cpu.restore(context)
        values = self.cpu.state()
        if context is None:
            values.update(zip(MONITOR, self._monitor(), strict=True))
        # Also where nothing was changed: the run after this is the run after `write_vcpu`,
        # which finds no old translations either.
        self.cpu.restore(self._scratch)
        return values

    def write_vcpu(self, values: Mapping[str, int]) -> None:
        """Give the running vCPU what `read_vcpu` has read."""
        self.cpu.restore(self.reset_context)
        self.cpu.set_state(values)
        self.save(self._scratch)
        monitor = self._monitor()
        monitor[:] = [values.get(name, clear) for name, clear in MONITOR.items()]
        self.cpu.restore(self._scratch)

    def _monitor(self) -> Any:
        return (ctypes.c_uint64 * len(MONITOR)).from_address(
            self._scratch.address + self.layout.exclusive_address
        )

    # -- memory -----------------------------------------------------------------------------

    def map_ram(self, base: int, size: int) -> None:
        """One more RAM."""
        self.memory.map(base, size)
        self._watch_holes()

    def _watch_holes(self) -> None:
        """Hear of accesses outside RAM, and of those only.

        Where a hook of Unicorn's covers memory, every store there takes the slow way
        (unicorn 2.1.4 qemu/accel/tcg/cputlb.c:notdirty_write): a kernel boots half as fast.
        """
        while self._holes:
            self.cpu.unhook(self._holes.pop())
        for begin, end in self.memory.holes():
            handle = self.cpu.hook(HOOK_MEM_UNMAPPED, self._on_unmapped, begin=begin, end=end)
            self._holes.append(handle)

    def write(self, address: int, data: bytes) -> None:
        """Write guest-physical RAM; all translated code is forgotten (cpu.py:forget_code)."""
        self.write_data(address, data)
        if self._translated:
            self._forget_code()
            self._translated = self._traps is not None  # a run in progress goes on translating

    def _forget_code(self) -> None:
        """Unicorn tells the hooks of no block it translates before one has ended with a branch
        (2.1.4 qemu/accel/tcg/cpu-exec.c:tb_find): they are told here that old places are void."""
        self.cpu.forget_code()
        self.hooks.forget_places()

    # -- running ----------------------------------------------------------------------------

    def watch_reads(self, begin: int, end: int, listener: Listener) -> int:
        """Call `listener(address, size)` for loads from these physical addresses; a handle.

        All loads become slower while there is one. An error it raises comes out of `run()`.
        """
        seen = self._guarded(listener)

        def on_read(_uc: int, _kind: int, address: int, size: int, _value: int, _user: int) -> None:
            seen(address, size)

        return self._hook(HOOK_MEM_READ, MEMORY_CALLBACK(on_read), begin, end)

    def watch_code(self, begin: int, end: int, listener: Listener) -> int:
        """Call `listener(address, size)` before each instruction at these virtual addresses.

        In a run, from the next block on.
        """
        seen = self._guarded(listener)

        def on_code(_uc: int, address: int, size: int, _user: int) -> None:
            seen(address, size)

        return self._hook(HOOK_CODE, CODE_CALLBACK(on_code), begin, end)

    def unwatch(self, handle: int) -> None:
        """End a watch."""
        if handle in self._watches:
            self._watches.remove(handle)
            self.cpu.unhook(handle)

    def unwatch_all(self) -> None:
        """End every watch."""
        while self._watches:
            self.unwatch(self._watches[-1])

    def _hook(self, kind: int, callback: Any, begin: int, end: int) -> int:
        """What is translated already knows nothing of a new hook: it is, before the next block.

        Not at once: a block cut in two would count, and ask for interrupts, twice.
        """
        if self.running:
            self.hooks.stale = True
        elif self._translated:
            self._stale = True
        self._watches.append(self.cpu.hook(kind, callback, begin=begin, end=end))
        return self._watches[-1]

    def _guarded(self, listener: Listener) -> Listener:
        """A listener whose error is kept for the end of the run."""
        keep = self._keep

        def heard(address: int, size: int) -> None:
            try:
                listener(address, size)
            except BaseException as failure:
                keep(failure)

        return heard

    def run(self, until: int, traps: Traps) -> Stop:
        """Run the vCPU whose registers are loaded until cycle `until`, or until told to stop.

        The block that would start at or after `until` does not start.
        """
        if self._traps is not None:
            raise EngineError("this engine is running: return from the handler first")
        self._traps, self.fault, self._left = traps, "", False
        self.hooks.deadline = until
        self.hooks.watched = traps.watches_exceptions
        if self._stale or self.hooks.stale:
            self._forget_code()
            self._stale = self.hooks.stale = False
        self._translated = True
        self._devices.fix_status()
        try:
            while True:
                self._unmapped.clear()
                error = self.hooks.start(
                    self.get("PC"), UNTIL, traps.hypercall, self._on_exception,
                    self._on_system_register,
                )
                self.hand_on()
                if error:
                    self._on_error(error)
                if self._failures:
                    raise self._failures[0]
                if self.fault:
                    return Stop.FAULT
                if self.hooks.asked or self._left:
                    return Stop.ASKED
                if self.hooks.late:
                    return Stop.DEADLINE
                if not error:
                    return Stop.WFI
        finally:
            self._traps = None
            self._failures.clear()
            self.cpu.bury()

    def stop(self) -> None:
        """From inside a hook: come back before the next instruction."""
        self.hooks.stop()

    def inject_undefined(self, traps: Traps) -> None:
        """Answer the call just trapped with an Undefined Instruction exception at EL1."""
        self._take(arch.syndrome(arch.EC_UNKNOWN), None, self._uncount_call(), traps)

    def unmake_call(self) -> None:
        """Let the call just trapped be still to come: PC is on it."""
        self.set("PC", self._uncount_call())

    def make_call_again(self) -> None:
        """Put PC on the call just trapped: it was made, and is made once more."""
        self.set("PC", self.get("PC") - arch.INSN_SIZE)

    def _uncount_call(self) -> int:
        self.hooks.take_back_last()
        return int(self.get("PC")) - arch.INSN_SIZE

    def inject_abort(self, far: int, traps: Traps) -> None:
        """A synchronous external data abort at EL1, before the next instruction."""
        esr = arch.syndrome(self._abort_class(fetch=False), arch.FSC_EXTERNAL)
        self._take(esr, far, self.get("PC"), traps)

    def _on_system_register(
        self, reg: tuple[int, int, int, int, int], is_write: bool, value: int
    ) -> int | None:
        assert self._traps is not None
        return self._traps.system_register(SysReg(*reg), is_write, value)

    def _on_exception(self, intno: int) -> None:
        """An exception Unicorn reports: serve semihosting, or enter EL1."""
        self.hand_on()
        pc = self.get("PC")
        self.save(self._scratch)
        base = self._scratch.address
        esr = ctypes.c_uint32.from_address(base + self.layout.syndrome).value
        stepped = arch.exception_class(esr) in (arch.EC_STEP_LOWER, arch.EC_STEP_SAME)
        if intno == INTR_UNDEFINED and not stepped and self._serve_halt(pc):
            return
        if intno in (INTR_PREFETCH_ABORT, INTR_DATA_ABORT):
            far = ctypes.c_uint64.from_address(base + self.layout.fault_address).value
            if intno == INTR_DATA_ABORT:
                self.hooks.refund(pc)
            self._take(esr, far, pc)
        elif intno in (INTR_UNDEFINED, INTR_BRK):
            if not (stepped and esr & arch.ISS_ISV):  # else the instruction before was executed
                self.hooks.refund(pc)
            self._take(esr, None, pc)
        elif intno == INTR_SVC:
            self._take(esr, None, pc)
        else:
            self._fail(f"Unicorn reports exception {intno}, which is not modelled")

    def _serve_halt(self, pc: int) -> bool:
        """Serve an HLT that stands for a call of the host."""
        found = self.read_virtual(pc, arch.INSN_SIZE)
        word = 0 if found is None else int.from_bytes(found, "little")
        if arch.current_el(self.get("PSTATE")) == 0:
            return False
        assert self._traps is not None
        if word == arch.WORD_HLT_TRAP:
            self.hooks.refund(pc)  # it stands for what is not the guest's
            return self._traps.trap(pc)
        return word == arch.WORD_HLT_SEMIHOSTING and self._serve_semihosting(pc)

    def _serve_semihosting(self, pc: int) -> bool:
        assert self._traps is not None
        if not self._traps.semihosting():
            return False
        self.set("PC", pc + arch.INSN_SIZE)
        self.hooks.refund(pc + arch.INSN_SIZE)
        return True

    def _on_error(self, error: int) -> None:
        """An access nobody claims: a synchronous external abort, as a bus gives it."""
        if not self._unmapped:
            self._fail(f"Unicorn stopped: {self.cpu.error_text(error)}")
            return
        access = self._unmapped[-1]
        if not access.is_fetch:
            self.hooks.refund(self.get("PC"))
        assert self._traps is not None
        if self._traps.attach(access.address):
            return  # and the instruction is executed again
        if name := self._traps.absent(access.address):
            self._fail(f"the guest reached for the {name} at {access.address:#x}, "
                       "which this machine does not have")
        elif not access.is_fetch and self._traps.unclaimed(access):
            self._left = True
        else:
            self._external_abort(access)

    def _external_abort(self, access: Access) -> None:
        """Unicorn tells the physical address; FAR is valid only where that is the virtual one."""
        translated = self.get("SCTLR_EL1") & arch.SCTLR_M
        iss = arch.FSC_EXTERNAL | (arch.ISS_FNV if translated else 0)
        if access.is_write:
            iss |= arch.ISS_WNR
        esr = arch.syndrome(self._abort_class(access.is_fetch), iss)
        self._take(esr, None if translated else access.address, self.get("PC"))

    def _abort_class(self, fetch: bool) -> int:
        lower = arch.current_el(self.get("PSTATE")) == 0
        if fetch:
            return arch.EC_INSTRUCTION_ABORT_LOWER if lower else arch.EC_INSTRUCTION_ABORT_SAME
        return arch.EC_DATA_ABORT_LOWER if lower else arch.EC_DATA_ABORT_SAME

    def _take(
        self, esr: int, far: int | None, return_address: int, traps: Traps | None = None
    ) -> None:
        svc = arch.exception_class(esr) == arch.EC_SVC64
        taken = Taken(return_address - (arch.INSN_SIZE if svc else 0), esr, far)
        if self.exceptions.note(taken, self.get("ELR_EL1")):
            self._fail("the guest takes the same exception for ever")
            return
        syndrome = (esr,) if far is None else (esr, far)
        vector = self.hooks.take(arch.VECTOR_SYNC, syndrome, return_address)
        traps = traps or self._traps
        assert traps is not None
        if traps.watches_exceptions:
            traps.took_exception(taken, vector)

    def take_interrupt(self, kind: int) -> None:
        """Between two runs: enter VECTOR_IRQ or VECTOR_FIQ before the next instruction."""
        self.hooks.take(kind, (), self.get("PC"))

    def use_timers(self, timers: Timers) -> None:
        """The generic timer of the vCPU whose registers are loaded; again when it was changed."""
        self._timers = timers
        self.hooks.use_timers(ctypes.addressof(timers))

    def _fail(self, reason: str) -> None:
        self.fault = reason
        self.hooks.stop()

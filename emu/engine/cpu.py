"""Unicorn's shared library, called directly: one `Cpu` is one instance of it.

This is the only file that knows where Unicorn comes from. Its Python package is not imported
where its library can be found beside it: the import takes as long as all the rest of a short
run (55 of 115 ms), and a call through its classes several times as long as one through ctypes.
Where the library is not in its usual place (Windows, LIBUNICORN_PATH), the package finds it.

Numbers are those of unicorn 2.1.4, include/unicorn/unicorn.h and arm64.h; a test compares them
with the package's.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from emu.arm import arch
from emu.arm.cores import CORES, DEFAULT_CORE
from emu.base.errors import EngineError

ARCH_ARM64, MODE_ARM = 2, 0
PROT_READ, PROT_WRITE, PROT_EXEC, PROT_ALL = 1, 2, 4, 7
MEM_WRITE_UNMAPPED, MEM_FETCH_UNMAPPED = 20, 21
HOOK_INTR, HOOK_INSN, HOOK_BLOCK = 1 << 0, 1 << 1, 1 << 3
HOOK_CODE, HOOK_MEM_READ = 1 << 2, 1 << 10
HOOK_MEM, MEM_WRITE = 1 << 10 | 1 << 11, 17
HOOK_MEM_UNMAPPED = 0b111 << 4
INS_MRS, INS_MSR, INS_SYS = 1, 2, 3
CTL_WRITE = 1 << 30
CTL_TB_REMOVE_CACHE = CTL_WRITE | 2 << 26 | 9
CTL_TB_FLUSH = CTL_WRITE | 10
CTL_TLB_FLUSH = CTL_WRITE | 11
CTL_CPU_MODEL = CTL_WRITE | 1 << 26 | 7
CTL_TCG_BUFFER_SIZE = CTL_WRITE | 1 << 26 | 13
TCG_BUFFER = 16 << 20
"""Bytes for translated code: 1 GiB by default, far more than any guest here fills."""

_MODELS = {"cortex-a57": 0, "cortex-a53": 1, "cortex-a72": 2, "max": 3}
"""UC_CPU_ARM64_*."""
_DEFAULT_MODEL = "cortex-a72"
"""Unicorn's own."""

X_REGISTERS = (*range(199, 228), 1, 2)
"""UC_ARM64_REG_X0 to X30."""
_REGISTERS: dict[str, int] = {
    **{f"X{n}": number for n, number in enumerate(X_REGISTERS)},
    "SP": 4,
    "PC": 260,
    "PSTATE": 265,
    "ELR_EL1": 267,
    "SP_EL0": 270,
    "SP_EL1": 271,
    "ESR_EL1": 277,
    "FAR_EL1": 281,
    "VBAR_EL1": 287,
    "FPCR": 291,
    "FPSR": 292,
}
"""UC_ARM64_REG_*."""
REG_CP_REG = 290
_PC = _REGISTERS["PC"]
_ONLY_PC = (ctypes.c_int32 * 1)(_PC)
_SYSTEM_REGISTERS = {
    **{name: place for name, place in arch.VCPU_REGISTERS.items() if name not in _REGISTERS},
    **arch.DEBUG_REGISTERS,
    **arch.PMU_REGISTERS,
    "SPSR_EL1": arch.SPSR_EL1,
    "CNTFRQ_EL0": arch.CNTFRQ_EL0,
    "HCR_EL2": arch.HCR_EL2,
    "VMPIDR_EL2": arch.VMPIDR_EL2,
    "SCR_EL3": arch.SCR_EL3,
}

PAGE = 4096
"""Unicorn's page, whatever granule the guest uses."""
VECTORS = 32
_VECTOR_0 = 104
"""UC_ARM64_REG_Q0; the others follow."""
_VECTOR_SIZE = 16
_LAST = ("PSTATE", "SP", "SPSR_EL1", "PC")
"""Written in this order behind all others: SPSR_EL1 through the system register interface
rebuilds the flags that a write of PSTATE leaves as they were."""
_NOT_THE_GUESTS = ("CNTFRQ_EL0", "HCR_EL2", "VMPIDR_EL2", "SCR_EL3")
_FIRST = [name for name in (*_REGISTERS, *_SYSTEM_REGISTERS) if name not in _NOT_THE_GUESTS]
STATE = (*(name for name in _FIRST if name not in _LAST), *_LAST)
"""Every register a guest at EL1 can change, but Q0 to Q31; what Unicorn keeps besides is EL2's
and EL3's, which the engine sets. The timers' are left out: they keep nothing (timer_hook.py)."""

class CpReg(ctypes.Structure):
    """uc_arm64_cp_reg: a system register by its encoding."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("crn", "crm", "op0", "op1", "op2")),
        ("value", ctypes.c_uint64),
    ]

    crn: int
    crm: int
    op0: int
    op1: int
    op2: int
    value: int


INTR_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
BLOCK_CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
)
MRS_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(CpReg), ctypes.c_void_p
)  # fmt: skip
UNMAPPED_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_bool, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int,
    ctypes.c_int64, ctypes.c_void_p,
)  # fmt: skip
CODE_CALLBACK = BLOCK_CALLBACK
MEMORY_CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64,
    ctypes.c_void_p,
)  # fmt: skip
READ_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p
)
WRITE_CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p
)


@functools.cache
def library() -> Any:
    """Unicorn's library, with the prototypes ctypes would guess wrong."""
    lib = _load()
    u64, pointer, integer = ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int
    for name, arguments in {
        "uc_emu_start": (pointer, u64, u64, u64, ctypes.c_size_t),
        "uc_emu_stop": (pointer,),
        "uc_close": (pointer,),
        "uc_mem_map_ptr": (pointer, u64, u64, ctypes.c_uint32, pointer),
        "uc_mmio_map": (pointer, u64, u64, pointer, pointer, pointer, pointer),
        "uc_reg_read": (pointer, integer, pointer),
        "uc_reg_write": (pointer, integer, pointer),
        "uc_reg_read_batch": (pointer, pointer, pointer, integer),
        "uc_reg_write_batch": (pointer, pointer, pointer, integer),
        "uc_context_alloc": (pointer, pointer),
        "uc_context_save": (pointer, pointer),
        "uc_context_restore": (pointer, pointer),
        "uc_context_free": (pointer,),
        "uc_context_size": (pointer,),
        # The fixed part of the variadic ones.
        "uc_ctl": (pointer, ctypes.c_uint32),
        "uc_hook_add": (pointer, pointer, integer, pointer, pointer, u64, u64),
        "uc_vmem_read": (pointer, u64, ctypes.c_uint32, pointer, ctypes.c_size_t),
        "uc_vmem_translate": (pointer, u64, ctypes.c_uint32, pointer),
        "uc_vmem_write": (pointer, u64, ctypes.c_uint32, pointer, ctypes.c_size_t),
    }.items():
        getattr(lib, name).argtypes = arguments
    lib.uc_context_size.restype = ctypes.c_size_t
    lib.uc_strerror.restype = ctypes.c_char_p
    lib.uc_version.restype = ctypes.c_uint32
    return lib


def _load() -> ctypes.CDLL:
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("Unicorn is not installed: pip install 'unicorn>=2.1.4,<2.2'")
    name = {"linux": "libunicorn.so.2", "darwin": "libunicorn.2.dylib"}.get(sys.platform)
    path = os.path.join(spec.submodule_search_locations[0], "lib", name or "")
    if "LIBUNICORN_PATH" not in os.environ and os.path.isfile(path):
        # A handle of our own: prototypes set here do not disturb those of the package.
        return ctypes.CDLL(path)
    from unicorn.unicorn_py3.unicorn import uclib

    return ctypes.CDLL(uclib._name)


def version() -> str:
    """Unicorn's version, such as 2.1.4."""
    packed = library().uc_version(None, None)
    return f"{packed >> 24}.{packed >> 16 & 0xFF}.{packed >> 8 & 0xFF}"


def code_address(callback: Any) -> ctypes.c_void_p:
    """Where C finds a callback. `ctypes.cast` would tie it into a reference cycle."""
    return ctypes.c_void_p.from_address(ctypes.addressof(callback))


def function_address(name: str) -> int:
    """Where C finds one of Unicorn's functions."""
    address = code_address(getattr(library(), name)).value
    assert address is not None
    return address


class Context:
    """One vCPU's registers in Unicorn's own form; freed with the object."""

    __slots__ = ("pointer",)

    def __init__(self, cpu: Cpu) -> None:
        self.pointer = ctypes.c_void_p()
        cpu.require(library().uc_context_alloc(cpu.handle, ctypes.byref(self.pointer)))

    @property
    def address(self) -> int:
        value = self.pointer.value
        assert value is not None
        return value

    def __del__(self) -> None:
        if self.pointer:
            library().uc_context_free(self.pointer)


class Cpu:
    """One Unicorn instance, in the state EL1 finds below a hypervisor: EL1h, HVC enabled."""

    def __init__(self, core: str = DEFAULT_CORE) -> None:
        if core not in CORES:
            raise EngineError(f"no core {core!r}; there is {', '.join(CORES)}")
        self.lib = library()
        self.handle = ctypes.c_void_p()
        self.require(self.lib.uc_open(ARCH_ARM64, MODE_ARM, ctypes.byref(self.handle)))
        self._keep: list[Any] = []
        self._hooks: dict[int, Any] = {}
        self._dead: list[Any] = []
        self._word = ctypes.c_uint64()
        self._numbers = (ctypes.c_int32 * len(X_REGISTERS))(*X_REGISTERS)
        self._values = (ctypes.c_uint64 * len(X_REGISTERS))()
        first = ctypes.addressof(self._values)
        self._places = (ctypes.c_void_p * len(X_REGISTERS))(
            *range(first, first + 8 * len(X_REGISTERS), 8)
        )
        self._place = ctypes.byref(self._word)
        self._word_place = (ctypes.c_void_p * 1)(ctypes.addressof(self._word))
        buffer = ctypes.c_uint32(TCG_BUFFER)
        executes = CORES[core].executes
        if executes != _DEFAULT_MODEL:
            model = ctypes.c_int(_MODELS[executes])
            self.require(self.lib.uc_ctl(self.handle, CTL_CPU_MODEL, model))
        self.require(self.lib.uc_ctl(self.handle, CTL_TCG_BUFFER_SIZE, buffer))
        self.set("PSTATE", arch.PSTATE_EL1H_MASKED)
        # Any system register write after PSTATE rebuilds Unicorn's cached flags.
        self.set("SCR_EL3", arch.SCR_EL3_RUN)
        self.set("HCR_EL2", arch.HCR_EL2_RUN)
        self.set("SCTLR_EL1", arch.SCTLR_EL1_RESET)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.lib.uc_close(self.handle)

    def require(self, error: int) -> None:
        """Refuse to go on after an error that should not be possible."""
        if error:
            raise EngineError(f"Unicorn: {self.error_text(error)}")

    def error_text(self, error: int) -> str:
        """A uc_err in words."""
        text: bytes = self.lib.uc_strerror(error)
        return text.decode()

    # -- registers --------------------------------------------------------------------------

    def get(self, name: str) -> int:
        """Read a register by its architectural name."""
        number = _REGISTERS.get(name)
        if number is None:
            cell = CpReg(*_encoding(name), 0)
            self.lib.uc_reg_read(self.handle, REG_CP_REG, ctypes.byref(cell))
            value: int = cell.value
            return value
        self._word.value = 0
        self.lib.uc_reg_read(self.handle, number, self._place)
        return self._word.value

    def get_system(self, reg: arch.SysReg) -> int:
        """Read a system register by its encoding."""
        cell = CpReg(reg.crn, reg.crm, reg.op0, reg.op1, reg.op2, 0)
        self.lib.uc_reg_read(self.handle, REG_CP_REG, ctypes.byref(cell))
        return cell.value

    def set(self, name: str, value: int) -> None:
        """Write a register by its architectural name."""
        number = _REGISTERS.get(name)
        if number is None:
            cell = CpReg(*_encoding(name), value)
            self.lib.uc_reg_write(self.handle, REG_CP_REG, ctypes.byref(cell))
        else:
            self._word.value = value
            if number == _PC:
                # Not uc_reg_write, which also sets skip_sync_pc_on_exit: until the next start, a
                # store that fails then finds PC at its block's beginning (unicorn 2.1.4 uc.c:
                # uc_reg_write, cputlb.c:store_helper). uc_reg_write_batch writes PC and no more.
                self.lib.uc_reg_write_batch(self.handle, _ONLY_PC, self._word_place, 1)
            else:
                self.lib.uc_reg_write(self.handle, number, self._place)

    def read_x(self, count: int) -> tuple[int, ...]:
        """x0 onward, in one call."""
        self.lib.uc_reg_read_batch(self.handle, self._numbers, self._places, count)
        return tuple(self._values[:count])

    def write_x(self, values: tuple[int, ...]) -> None:
        """Write x0 onward, in one call."""
        self._values[: len(values)] = list(values)
        self.lib.uc_reg_write_batch(self.handle, self._numbers, self._places, len(values))

    def write_destination(self, number: int, value: int) -> None:
        """Write the register an MRS hook names by Unicorn's number."""
        self._word.value = value
        self.lib.uc_reg_write(self.handle, number, self._place)

    def get_vector(self, number: int) -> int:
        """Read Q0 to Q31, 128 bits."""
        buffer = ctypes.create_string_buffer(_VECTOR_SIZE)
        self.lib.uc_reg_read(self.handle, _VECTOR_0 + number, buffer)
        return int.from_bytes(buffer.raw, "little")

    def set_vector(self, number: int, value: int) -> None:
        """Write Q0 to Q31."""
        buffer = ctypes.create_string_buffer(value.to_bytes(_VECTOR_SIZE, "little"), _VECTOR_SIZE)
        self.lib.uc_reg_write(self.handle, _VECTOR_0 + number, buffer)

    def state(self) -> dict[str, int]:
        """`STATE` and the vectors."""
        values = {name: self.get(name) for name in STATE}
        return values | {f"Q{n}": self.get_vector(n) for n in range(VECTORS)}

    def set_state(self, values: Mapping[str, int]) -> None:
        """Write what `state` has read."""
        for n in range(VECTORS):
            self.set_vector(n, values[f"Q{n}"])
        for name in STATE:
            self.set(name, values[name])

    def save(self, context: Context) -> None:
        """Copy all registers out."""
        self.require(self.lib.uc_context_save(self.handle, context.pointer))

    def restore(self, context: Context) -> None:
        """Copy all registers in; translations of the old address space are dropped."""
        self.require(self.lib.uc_context_restore(self.handle, context.pointer))
        self.require(self.lib.uc_ctl(self.handle, CTL_TLB_FLUSH))

    def context_size(self) -> int:
        """Bytes of a context, counted from its own address."""
        return int(self.lib.uc_context_size(self.handle))

    # -- memory -----------------------------------------------------------------------------

    def map_memory(self, base: int, size: int, address: int) -> None:
        """Make host memory at `address` guest-physical RAM."""
        self.require(self.lib.uc_mem_map_ptr(self.handle, base, size, PROT_ALL, address))

    def map_device(
        self, base: int, size: int, read: Callable[..., int], write: Callable[..., None]
    ) -> None:
        """Call `read(offset, width)` and `write(offset, width, value)` for accesses there."""
        callbacks = (
            READ_CALLBACK(lambda _uc, offset, width, _user: read(offset, width)),
            WRITE_CALLBACK(lambda _uc, offset, width, value, _user: write(offset, width, value)),
        )
        self._keep.append(callbacks)
        reader, writer = (code_address(callback) for callback in callbacks)
        self.map_registers(base, size, (reader, writer, None))

    def map_registers(self, base: int, size: int, places: tuple[Any, Any, Any]) -> None:
        """The same with C functions and what they are given last."""
        read, write, user = places
        self.require(self.lib.uc_mmio_map(self.handle, base, size, read, user, write, user))

    def forget_code(self) -> None:
        """Drop all translated code.

        All of it, because Unicorn looks a range up through the guest's own translation: what
        the MMU does not map at its physical address would be left as it was.
        """
        self.require(self.lib.uc_ctl(self.handle, CTL_TB_FLUSH))

    def forget_page(self, address: int) -> None:
        """Drop what was translated from a page that holds code, where it is mapped."""
        start = address & ~(PAGE - 1)
        begin, end = ctypes.c_uint64(start), ctypes.c_uint64(start + PAGE)
        self.require(self.lib.uc_ctl(self.handle, CTL_TB_REMOVE_CACHE, begin, end))

    def translate(self, address: int, prot: int) -> int | None:
        """The guest-physical address behind a virtual one; None where `prot` is not allowed."""
        error = self.lib.uc_vmem_translate(self.handle, address, prot, self._place)
        return None if error else self._word.value

    def read_virtual(self, address: int, size: int) -> bytes | None:
        """Memory as the guest's translation shows it, None where it is not mapped."""
        buffer = ctypes.create_string_buffer(size)
        error = self.lib.uc_vmem_read(self.handle, address, PROT_READ, buffer, size)
        return None if error else buffer.raw

    def read_code(self, address: int, size: int) -> bytes | None:
        """What is executed at a virtual address, None where nothing can be."""
        buffer = ctypes.create_string_buffer(size)
        error = self.lib.uc_vmem_read(self.handle, address, PROT_EXEC, buffer, size)
        return None if error else buffer.raw

    def write_virtual(self, address: int, data: bytes) -> bool:
        """Write memory as the guest's translation shows it; False where it is not mapped."""
        return not self.lib.uc_vmem_write(self.handle, address, PROT_WRITE, data, len(data))

    # -- running ----------------------------------------------------------------------------

    def hook(
        self, kind: int, callback: Any, *extra: Any, begin: int = 1, end: int = 0
    ) -> int:
        """Register a hook for the addresses from `begin` to `end`, or for all; its handle."""
        handle = ctypes.c_size_t()
        self.require(
            self.lib.uc_hook_add(
                self.handle, ctypes.byref(handle), kind, code_address(callback), None,
                ctypes.c_uint64(begin), ctypes.c_uint64(end), *extra,
            )
        )  # fmt: skip
        self._hooks[handle.value] = callback
        return handle.value

    def unhook(self, handle: int) -> None:
        """Take a hook away; code translated while it was there stays slow and correct."""
        self.require(self.lib.uc_hook_del(self.handle, ctypes.c_size_t(handle)))
        self._dead.append(self._hooks.pop(handle))  # it may be the one that is being called

    def bury(self) -> None:
        """Free the callbacks of hooks taken away: none of them is being called any more."""
        self._dead.clear()

    def start(self, pc: int, until: int) -> int:
        """Run; returns a uc_err."""
        return int(self.lib.uc_emu_start(self.handle, pc, until, 0, 0))

    def stop(self) -> None:
        """From inside a hook: let start() return."""
        self.lib.uc_emu_stop(self.handle)


def register_number(name: str) -> int:
    """Unicorn's number of a register that is not a system register."""
    return _REGISTERS[name]


def is_register(name: str) -> bool:
    """Whether a guest at EL1 has a register of this name, V0 to V31 apart."""
    return name in STATE


def _encoding(name: str) -> tuple[int, int, int, int, int]:
    register = _SYSTEM_REGISTERS[name]
    return register.crn, register.crm, register.op0, register.op1, register.op2

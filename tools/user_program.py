"""Runs one AArch64 Linux program on the engine: benchmarks that real hardware has run.

The package emulates no operating system, and neither does this: it has the two dozen system calls
that a libc start-up and a benchmark that prints its result need, and says so when another comes.
The program runs at EL0 with the MMU off; its SVC is taken to EL1, where the vector is an HLT that
asks us and an ERET. Known are static programs, static PIEs and programs with an interpreter, such
as musl's, from a file that the user names. System calls: linux v6.12
include/uapi/asm-generic/unistd.h; the initial stack: the same arch/arm64/include/asm/elf.h and
fs/binfmt_elf.c:create_elf_tables.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from emu.arm import arch  # noqa: E402
from emu.arm.arch import SysReg  # noqa: E402
from emu.arm.timers import NEVER  # noqa: E402
from emu.base.errors import BootError, EmuError  # noqa: E402
from emu.base.smccc import Conduit  # noqa: E402
from emu.engine.engine import Access, Engine  # noqa: E402
from emu.engine.taken import Taken  # noqa: E402

MIB = 1 << 20
PAGE = 4096
RAM = 0x1_0000, 128 * MIB - 0x1_0000
"""Page 0 is left out, so that a null pointer is noticed."""
VECTORS = RAM[0]
PIE, INTERPRETER, MAPPED, STACK_TOP = 16 * MIB, 32 * MIB, 48 * MIB, 128 * MIB
STACK = 1 * MIB
CPACR_FPEN = 3 << 20  # DDI 0487, CPACR_EL1.FPEN: no trap of FP and SIMD
SCTLR_EL0 = 1 << 26 | 1 << 15 | 1 << 14  # SCTLR_EL1.UCI, UCT, DZE: cache instructions at EL0
WORD_ERET = 0xD69F_03E0
SVC_VECTOR = arch.VECTOR_SYNC + 0x400  # from a lower EL, AArch64

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")  # gABI chapter 4
_PHDR = struct.Struct("<IIQQQQQQ")  # gABI chapter 5
_PT_LOAD, _PT_INTERP, _ET_EXEC, _ET_DYN, _EM_AARCH64 = 1, 3, 2, 3, 183
# include/uapi/linux/auxvec.h
_AT_NULL, _AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_BASE = 0, 3, 4, 5, 6, 7
_AT_ENTRY, _AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_HWCAP = 9, 11, 12, 13, 14, 16
_AT_CLKTCK, _AT_SECURE, _AT_RANDOM = 17, 23, 25
HWCAP = 0x3  # FP and ASIMD: no ifunc of the C library's takes a way that Unicorn's A72 lacks


class Loaded(NamedTuple):
    """A program in memory."""

    base: int
    entry: int
    end: int
    headers: int
    header_count: int
    interpreter: str


class Finished(NamedTuple):
    """What became of a program."""

    status: int
    output: bytes
    cycles: int
    instructions: int


class ProgramError(EmuError):
    """A program does something that this runner has not got."""


def load(engine: Engine, path: Path, base: int) -> Loaded:
    """Put an ELF's segments into memory; position-independent ones at `base`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BootError(f"{path}: {error.strerror}") from None
    if data[:6] != b"\x7fELF\2\1" or len(data) < _EHDR.size:
        raise BootError(f"{path}: not a 64-bit little-endian ELF")
    ehdr = _EHDR.unpack_from(data)
    kind, machine, entry, phoff, phentsize, phnum = (ehdr[n] for n in (1, 2, 4, 5, 9, 10))
    if machine != _EM_AARCH64 or kind not in (_ET_EXEC, _ET_DYN):
        raise BootError(f"{path}: not a program for AArch64")
    base = base if kind == _ET_DYN else 0
    interpreter, end, start = "", 0, None
    for number in range(phnum):
        kind, _, offset, vaddr, _, filesz, memsz, _ = _PHDR.unpack_from(
            data, phoff + number * phentsize
        )
        if kind == _PT_INTERP:
            interpreter = data[offset : offset + filesz].rstrip(b"\0").decode()
        if kind == _PT_LOAD:
            if not engine.has_ram(base + vaddr, memsz):
                raise BootError(f"{path}: a segment at {base + vaddr:#x} lies outside of memory")
            engine.write(base + vaddr, data[offset : offset + filesz] + bytes(memsz - filesz))
            start = base + vaddr - offset if start is None else start
            end = max(end, base + vaddr + memsz)
    if start is None:
        raise BootError(f"{path}: no loadable segment")
    return Loaded(base, base + entry, end, start + phoff, phnum, interpreter)


def find_beside(path: Path, wanted: str) -> Path | None:
    """A program's dynamic linker in the folder of the program, or in the root that it lies in."""
    folder = path.resolve().parent
    places = [folder / Path(wanted).name, *(root / wanted.lstrip("/") for root in folder.parents)]
    # The host's own, in the last of them, is another architecture's, or may be.
    return next((place for place in places[:-1] if place.is_file()), None)


class UserProgram:
    """A program, ready to `run`. `output` is what it has written so far."""

    watches_exceptions = False

    def __init__(
        self,
        path: Path,
        arguments: Sequence[str] = (),
        *,
        interpreter: Path | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.engine = engine or Engine()
        self.output = bytearray()
        self.status: int | None = None
        self.engine.map_ram(*RAM)
        program = load(self.engine, path, PIE)
        first, at = program, 0
        if program.interpreter:
            interpreter = interpreter or find_beside(path, program.interpreter)
            if interpreter is None:
                raise BootError(
                    f"{path}: needs {program.interpreter}; give a copy with --interpreter"
                )
            first = load(self.engine, interpreter, INTERPRETER)
            at = first.base
        self._break = self._least_break = -(-program.end // PAGE) * PAGE
        self._mapped = MAPPED
        stack = self._stack([str(path), *arguments], program, at)
        self._set_up(first.entry, stack)
        self._error: Exception | None = None

    def _set_up(self, entry: int, stack: int) -> None:
        engine = self.engine
        words = [arch.WORD_HLT_TRAP] * (arch.VECTOR_TABLE // 4)
        words[SVC_VECTOR // 4 + 1] = WORD_ERET
        engine.write(VECTORS, struct.pack(f"<{len(words)}I", *words))
        engine.set("VBAR_EL1", VECTORS)
        engine.set("CPACR_EL1", CPACR_FPEN)
        engine.set("SCTLR_EL1", engine.get("SCTLR_EL1") | SCTLR_EL0)
        engine.write_register("PSTATE", 0)
        engine.write_register("SP", stack)
        engine.set("PC", entry)

    def _stack(self, words: list[str], program: Loaded, base: int) -> int:
        """The strings at the top, below them argc, argv, envp and auxv; the stack pointer."""
        top, places = STACK_TOP, []
        for word in words:
            data = word.encode() + b"\0"
            top -= len(data)
            self.engine.write(top, data)
            places.append(top)
        random = top = (top - 16) & ~15
        auxiliary = {
            _AT_PHDR: program.headers, _AT_PHENT: _PHDR.size, _AT_PHNUM: program.header_count,
            _AT_PAGESZ: PAGE, _AT_BASE: base, _AT_ENTRY: program.entry, _AT_UID: 1000,
            _AT_EUID: 1000, _AT_GID: 1000, _AT_EGID: 1000, _AT_HWCAP: HWCAP, _AT_CLKTCK: 100,
            _AT_SECURE: 0, _AT_RANDOM: random,
        }  # fmt: skip
        values = [len(words), *places, 0, 0]
        for key, value in auxiliary.items():
            values += key, value
        values += _AT_NULL, 0
        top = (top - 8 * len(values)) & ~15
        self.engine.write(top, struct.pack(f"<{len(values)}Q", *values))
        return top

    def run(self, limit: int = NEVER) -> Finished:
        """Run to the end of the program; EmuError when it cannot go on or is not done in time."""
        stop = self.engine.run(limit, self)
        if self._error is not None:
            raise self._error
        if self.status is None:
            raise ProgramError(f"the program has not ended: {self.engine.fault or stop.value}")
        return Finished(
            self.status, bytes(self.output), self.engine.cycles, self.engine.instructions
        )

    # -- what the engine asks (engine.py: Traps) --------------------------------------------------

    def trap(self, pc: int) -> bool:
        """An exception was taken: a system call, or the end."""
        try:
            self._serve(pc)
        except Exception as error:
            self._error = error
            self.engine.stop()
        return True

    def _serve(self, pc: int) -> None:
        engine = self.engine
        esr, elr = engine.get("ESR_EL1"), engine.get("ELR_EL1")
        if pc != VECTORS + SVC_VECTOR or arch.exception_class(esr) != arch.EC_SVC64:
            raise ProgramError(f"exception at {elr:#x}: {arch.describe_esr(esr)}")
        number = engine.get("X8")
        call = _CALLS.get(number)
        if call is None:
            raise ProgramError(f"system call {number} at {elr - 4:#x} is not known")
        engine.set("X0", call(self, *engine.arguments(6)) & (1 << 64) - 1)
        engine.set("PC", pc + arch.INSN_SIZE)

    def hypercall(self, conduit: Conduit, imm: int, x: tuple[int, ...]) -> tuple[int, ...] | None:
        return None

    def semihosting(self) -> bool:
        return False

    def took_exception(self, taken: Taken, vector: int) -> None:
        pass

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        return None

    def attach(self, address: int) -> bool:
        return False

    def absent(self, address: int) -> str | None:
        return None

    def unclaimed(self, access: Access) -> bool:
        self._error = ProgramError(f"access to {access.address:#x}, where there is no memory")
        return True

    # -- system calls -----------------------------------------------------------------------------

    def _write(self, fd: int, address: int, size: int, *_: int) -> int:
        if fd not in (1, 2):
            return -errno.EBADF
        if size:
            self.output += self.engine.read(address, size)
        return size

    def _writev(self, fd: int, address: int, count: int, *_: int) -> int:
        total = 0
        for place, size in struct.iter_unpack("<QQ", self.engine.read(address, 16 * count)):
            total += self._write(fd, place, size)
        return total

    def _brk(self, address: int, *_: int) -> int:
        if self._least_break <= address < INTERPRETER:
            self._break = address
        return self._break

    def _mmap(self, address: int, size: int, _prot: int, flags: int, fd: int, _off: int) -> int:
        if not flags & 0x20:  # MAP_ANONYMOUS
            return -errno.ENODEV
        size = -(-size // PAGE) * PAGE
        if not flags & 0x10:  # MAP_FIXED
            address, self._mapped = self._mapped, self._mapped + size
        if address + size > STACK_TOP - STACK:
            return -errno.ENOMEM
        self.engine.write_data(address, bytes(size))
        return address

    def _clock_gettime(self, _clock: int, address: int, *_: int) -> int:
        """A nanosecond is a cycle here: the time a program prints means nothing."""
        cycles = self.engine.cycles
        self.engine.write_data(address, struct.pack("<QQ", *divmod(cycles, 1_000_000_000)))
        return 0

    def _times(self, address: int, *_: int) -> int:
        ticks = self.engine.cycles // 10_000_000
        if address:
            self.engine.write_data(address, struct.pack("<QQQQ", ticks, 0, 0, 0))
        return ticks

    def _exit(self, status: int, *_: int) -> int:
        self.status = status & 0xFF
        self.engine.stop()
        return 0

    def _zero(self, *_: int) -> int:
        return 0

    def _thread(self, *_: int) -> int:
        return 1

    def _no_file(self, *_: int) -> int:
        return -errno.ENOENT

    def _no_terminal(self, *_: int) -> int:
        return -errno.ENOTTY

    def _not_here(self, *_: int) -> int:
        return -errno.ENOSYS


_CALLS: dict[int, Callable[..., int]] = {
    29: UserProgram._no_terminal,  # ioctl
    48: UserProgram._no_file,  # faccessat
    56: UserProgram._no_file,  # openat
    57: UserProgram._zero,  # close
    62: UserProgram._no_terminal,  # lseek: the output is no file
    64: UserProgram._write,
    66: UserProgram._writev,
    78: UserProgram._no_file,  # readlinkat
    79: UserProgram._no_file,  # newfstatat
    80: UserProgram._no_terminal,  # fstat
    93: UserProgram._exit,
    94: UserProgram._exit,  # exit_group
    96: UserProgram._thread,  # set_tid_address
    98: UserProgram._zero,  # futex: nobody waits
    99: UserProgram._zero,  # set_robust_list
    113: UserProgram._clock_gettime,
    122: UserProgram._zero,  # sched_setaffinity
    124: UserProgram._zero,  # sched_yield
    134: UserProgram._zero,  # rt_sigaction
    135: UserProgram._zero,  # rt_sigprocmask
    153: UserProgram._times,
    160: UserProgram._not_here,  # uname
    172: UserProgram._thread,  # getpid
    174: UserProgram._zero,  # getuid
    178: UserProgram._thread,  # gettid
    214: UserProgram._brk,
    215: UserProgram._zero,  # munmap
    222: UserProgram._mmap,
    226: UserProgram._zero,  # mprotect: the MMU is off
    233: UserProgram._zero,  # madvise
    261: UserProgram._not_here,  # prlimit64
    278: UserProgram._not_here,  # getrandom
    293: UserProgram._not_here,  # rseq
}


def main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="user_program.py", description=__doc__.split("\n")[0])
    parser.add_argument("--interpreter", type=Path, help="the program's dynamic linker")
    parser.add_argument("program", type=Path)
    parser.add_argument("argument", nargs="*")
    options = parser.parse_args(arguments)
    try:
        program = UserProgram(options.program, options.argument, interpreter=options.interpreter)
        done = program.run()
    except EmuError as error:
        print(f"user_program: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(done.output.decode(errors="replace"))
    print(f"status {done.status}, {done.instructions:,} instructions, {done.cycles:,} cycles")
    return 0


if __name__ == "__main__":
    sys.exit(main())

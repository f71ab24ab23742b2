"""What the engine's tests share: A64 words by name, a machine of one RAM, and who hears its traps.

Encodings are DDI 0487's, chapter C6; each builder names the instruction it makes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from emu.arm import arch
from emu.arm.timers import NEVER
from emu.engine.engine import Engine, Stop, native_available

NATIVE = pytest.param(
    True,
    id="native",
    marks=pytest.mark.skipif(
        not native_available(), reason="the native half was not built: it needs a C compiler"
    ),
)
HALVES = [pytest.param(False, id="python"), NATIVE]
halves = pytest.mark.parametrize("native", HALVES)

# -- words ----------------------------------------------------------------------------------------

NOP, WFI, ERET, ISB = arch.WORD_NOP, arch.WORD_WFI, 0xD69F_03E0, 0xD503_3FDF
XZR, SP = 31, 31
EQ, NE = 0, 1
CNTFRQ, CNTPCT, CNTVCT = (3, 3, 14, 0, 0), (3, 3, 14, 0, 1), (3, 3, 14, 0, 2)
ESR_EL1, FAR_EL1, ELR_EL1 = (3, 0, 5, 2, 0), (3, 0, 6, 0, 0), (3, 0, 4, 0, 1)
SPSR_EL1, MPIDR_EL1, SCTLR_EL1 = (3, 0, 4, 0, 0), (3, 0, 0, 0, 5), (3, 0, 1, 0, 0)
VBAR_EL1, TTBR0_EL1, TCR_EL1 = (3, 0, 12, 0, 0), (3, 0, 2, 0, 0), (3, 0, 2, 0, 2)
ICC_PMR_EL1 = (3, 0, 4, 6, 0)


def hvc(imm: int = 0) -> int:
    return 0xD400_0002 | imm << 5


def smc(imm: int = 0) -> int:
    return 0xD400_0003 | imm << 5


def svc(imm: int = 0) -> int:
    return 0xD400_0001 | imm << 5


def brk(imm: int = 0) -> int:
    return 0xD420_0000 | imm << 5


def hlt(imm: int = 0) -> int:
    return 0xD440_0000 | imm << 5


def udf(imm: int = 0) -> int:
    return imm


def movz(rd: int, imm: int, half: int = 0) -> int:
    return 0xD280_0000 | half << 21 | imm << 5 | rd


def movk(rd: int, imm: int, half: int) -> int:
    return 0xF280_0000 | half << 21 | imm << 5 | rd


def mov(rd: int, value: int) -> list[int]:
    """As many instructions as the number needs."""
    halves = [(n, value >> 16 * n & 0xFFFF) for n in range(1, 4)]
    return [movz(rd, value & 0xFFFF), *(movk(rd, imm, n) for n, imm in halves if imm)]


def add(rd: int, rn: int, imm: int) -> int:
    return 0x9100_0000 | imm << 10 | rn << 5 | rd


def subs(rd: int, rn: int, imm: int) -> int:
    return 0xF100_0000 | imm << 10 | rn << 5 | rd


def eor(rd: int, rn: int, rm: int) -> int:
    return 0xCA00_0000 | rm << 16 | rn << 5 | rd


def madd(rd: int, rn: int, rm: int) -> int:
    return 0x9B00_0000 | rm << 16 | rd << 10 | rn << 5 | rd


def b(words: int) -> int:
    return 0x1400_0000 | words & 0x3FF_FFFF


def b_if(condition: int, words: int) -> int:
    return 0x5400_0000 | (words & 0x7_FFFF) << 5 | condition


def cbz(rt: int, words: int) -> int:
    return 0xB400_0000 | (words & 0x7_FFFF) << 5 | rt


def tbz(rt: int, bit: int, words: int) -> int:
    return 0x3600_0000 | (bit & 31) << 19 | (words & 0x3FFF) << 5 | rt


def br(rn: int) -> int:
    return 0xD61F_0000 | rn << 5


def ldr(rt: int, rn: int) -> int:
    return 0xF940_0000 | rn << 5 | rt


def store(rt: int, rn: int) -> int:
    return 0xF900_0000 | rn << 5 | rt


def ldr_w(rt: int, rn: int) -> int:
    return 0xB940_0000 | rn << 5 | rt


def str_w(rt: int, rn: int) -> int:
    return 0xB900_0000 | rn << 5 | rt


def ldxr(rt: int, rn: int) -> int:
    return 0xC85F_7C00 | rn << 5 | rt


def stxr(rs: int, rt: int, rn: int) -> int:
    return 0xC800_7C00 | rs << 16 | rn << 5 | rt


def mrs(rt: int, register: tuple[int, int, int, int, int]) -> int:
    op0, op1, crn, crm, op2 = register
    return 0xD530_0000 | (op0 - 2) << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | rt


def msr(register: tuple[int, int, int, int, int], rt: int) -> int:
    return mrs(rt, register) & ~(1 << 21)


# -- a machine --------------------------------------------------------------------------------

RAM, RAM_SIZE = 0x4000_0000, 1 << 20
CODE, VECTORS, TABLES, DATA = RAM, RAM + 0x8000, RAM + 0x1_0000, RAM + 0x2_0000
NOWHERE = 0x0F00_0000
EL0_ALIAS, UNMAPPED = 0x8000_0000, 0xC000_0000
"""With the MMU on: the RAM once more, for EL0, and an address without a translation."""
EL0T, EL1T, EL1H = 0x3C0, 0x3C4, 0x3C5


class Recorder:
    """Traps, written down. `reply` is what a call gets: a tuple, None, or a function of it."""

    def __init__(self, reply: Any = (), *, absent: str | None = None) -> None:
        self.calls: list[tuple[str, int, tuple[int, ...]]] = []
        self.exceptions: list[tuple[int, int | None, int, int]] = []
        self.reply, self.name = reply, absent
        self.semihost: Callable[[], bool] = lambda: False

    def hypercall(self, conduit: Any, imm: int, x: tuple[int, ...]) -> tuple[int, ...] | None:
        self.calls.append((str(conduit), imm, x))
        answer = self.reply(conduit, imm, x) if callable(self.reply) else self.reply
        return answer  # type: ignore[no-any-return]

    def semihosting(self) -> bool:
        return self.semihost()

    def trap(self, pc: int) -> bool:
        return False

    watches_exceptions = True

    def took_exception(self, taken: Any, vector: int) -> None:
        self.exceptions.append((taken.esr, taken.far, taken.pc, vector))

    def system_register(self, reg: Any, is_write: bool, value: int) -> int | None:
        return None

    def attach(self, address: int) -> bool:
        return False

    def absent(self, address: int) -> str | None:
        return self.name

    def unclaimed(self, access: object) -> bool:
        return False


def code(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def machine(native: bool, *words: int, at: int = CODE) -> Engine:
    """An engine about to execute `words`; every vector is a WFI."""
    engine = Engine(native=native)
    engine.map_ram(RAM, RAM_SIZE)
    engine.write(VECTORS, code(*[WFI] * 0x200))
    engine.set("VBAR_EL1", VECTORS)
    engine.write(at, code(*words))
    engine.set("PC", at)
    return engine


def turn_mmu_on(engine: Engine) -> None:
    """1 GiB blocks: the low one and RAM for EL1, RAM again at EL0_ALIAS for EL0."""
    block, accessed, el0 = 1, 1 << 10, 1 << 6
    level1 = (accessed | block, RAM | accessed | block, RAM | accessed | el0 | block, 0)
    engine.write(TABLES, struct.pack("<Q", TABLES + 0x1000 | 3))
    engine.write(TABLES + 0x1000, struct.pack("<4Q", *level1))
    engine.set("TTBR0_EL1", TABLES)
    engine.set("TCR_EL1", arch.TCR_EL1_48_BITS)
    engine.set("SCTLR_EL1", engine.get("SCTLR_EL1") | arch.SCTLR_M)


def at_level(engine: Engine, pstate: int, *, words: list[int], mmu: bool = False) -> int:
    """Bring the vCPU to an exception level with `words` before it; returns their address."""
    engine.write(CODE, code(*words))
    address = CODE
    if mmu:
        turn_mmu_on(engine)
        address = EL0_ALIAS if pstate == EL0T else CODE
    engine.set("PSTATE", pstate)
    engine.set("SPSR_EL1", 0)  # any system register: rebuilds the cached flags
    engine.set("PC", address)
    return address


def go(engine: Engine, traps: Recorder | None = None, until: int = NEVER) -> Stop:
    return engine.run(until, traps or Recorder())

"""What the core models' tests share: blocks by words, and what any model must hold to.

Encodings are DDI 0487's, chapter C6; engine_kit.py has more of them.
"""

from __future__ import annotations

import struct

from emu.cycles.model import SIXTEENTHS, BlockCost, CostModel

RET = 0xD65F_03C0
UDF = 0x0000_0001
SVE_ADD = 0x0420_0000  # add z0.b, z0.b, z0.b


def mul(rd: int, rn: int, rm: int) -> int:
    return 0x9B00_7C00 | rm << 16 | rn << 5 | rd


def add_register(rd: int, rn: int, rm: int, lsl: int = 0) -> int:
    return 0x8B00_0000 | rm << 16 | lsl << 10 | rn << 5 | rd


def mov(rd: int, rm: int) -> int:
    return 0xAA00_03E0 | rm << 16 | rd


def ldp(rt: int, rt2: int, rn: int) -> int:
    return 0xA940_0000 | rt2 << 10 | rn << 5 | rt


def lslv(rd: int, rn: int, rm: int) -> int:
    return 0x9AC0_2000 | rm << 16 | rn << 5 | rd


def fadd(rd: int, rn: int, rm: int) -> int:
    return 0x1E60_2800 | rm << 16 | rn << 5 | rd


def sdiv(rd: int, rn: int, rm: int) -> int:
    return 0x9AC0_0C00 | rm << 16 | rn << 5 | rd


def post_index(rt: int, rn: int, imm: int) -> int:
    return 0xF840_0400 | imm << 12 | rn << 5 | rt


def code(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def loop(*words: int) -> bytes:
    """A block that branches back to its own start while x30 is not zero."""
    return code(*words, 0xB500_0000 | (-len(words) & 0x7_FFFF) << 5 | 30)


def cycles(model: CostModel, block: bytes) -> float:
    return model.block(block).total / SIXTEENTHS


def check(cost: BlockCost, block: bytes) -> None:
    """What engines rely on."""
    assert len(cost.prefix) == len(block) // 4 + 1
    assert cost.prefix[0] == 0
    assert list(cost.prefix) == sorted(cost.prefix)
    assert all(isinstance(entry, int) for entry in cost.prefix)
    assert not block or cost.total > 0, "time never stands still"

"""Code that changes, in either half: unicorn.md §5."""

from __future__ import annotations

import pytest

from emu.engine.engine import Stop
from engine_kit import (
    CODE,
    NE,
    TABLES,
    WFI,
    add,
    b_if,
    code,
    go,
    halves,
    machine,
    movz,
    subs,
    turn_mmu_on,
)

IC_IVAU_X11, IC_IVAU_X10, IC_IALLU = 0xD50B_752B, 0xD50B_752A, 0xD508_751F
DSB, ISB, BLR_X11, RET = 0xD503_3F9F, 0xD503_3FDF, 0xD63F_0160, 0xD65F_03C0
STR_W12_X10, STR_X12_X10_64 = 0xB900_014C, 0xF900_214C
ROUTINE = CODE + 0x4000


def map_writable_alias(engine, alias: int, page: int) -> None:
    """A page once more, for EL1 to write and not to execute."""
    turn_mmu_on(engine)
    tables = TABLES + 0x2000, TABLES + 0x3000
    pxn, accessed = 1 << 53, 1 << 10
    for place, value in (
        (TABLES + 0x1000 + 8 * (alias >> 30), tables[0] | 3),
        (tables[0] + 8 * (alias >> 21 & 511), tables[1] | 3),
        (tables[1] + 8 * (alias >> 12 & 511), page | pxn | accessed | 3),
    ):
        engine.write(place, value.to_bytes(8, "little"))


@halves
@pytest.mark.parametrize(
    ("maintenance", "seen"),
    [([IC_IVAU_X11], 2), ([IC_IVAU_X10], 2), ([IC_IALLU], 2), ([], 1)],
    ids=["ivau", "ivau-alias", "iallu", "none"],
)
def test_code_written_through_another_mapping(native, maintenance, seen):
    """As a kernel writes a program: by an address that EL1 cannot execute.

    The architecture asks for IC; without it, here as on hardware, the old code runs on.
    """
    words = [
        BLR_X11, add(1, 0, 0), STR_X12_X10_64, STR_W12_X10, DSB, *maintenance, DSB, ISB, BLR_X11,
        WFI,
    ]  # fmt: skip
    engine = machine(native, *words)
    engine.write(ROUTINE, code(movz(0, 1), RET))
    map_writable_alias(engine, 0x8000_7000, ROUTINE)
    engine.set("X10", 0x8000_7000)
    engine.set("X11", ROUTINE)
    engine.set("X12", movz(0, 2))
    while (stop := go(engine)) is Stop.DEADLINE:
        assert engine.hooks.stale
    assert stop is Stop.WFI
    assert (engine.get("X1"), engine.get("X0")) == (1, seen)


@halves
@pytest.mark.parametrize("line", [0, 1, 63])
def test_a_loop_over_the_lines_of_a_page(native, line):
    """Whichever line was changed, a loop over all of them shows it."""
    words = [BLR_X11, add(1, 0, 0), STR_W12_X10, STR_W12_X10, DSB,
             0xD50B_752E, add(14, 14, 64), subs(3, 3, 1), b_if(NE, -3),  # ic ivau, x14
             DSB, ISB, BLR_X11, WFI]  # fmt: skip
    engine = machine(native, *words)
    engine.write(ROUTINE + 64 * line, code(movz(0, 1), RET))
    map_writable_alias(engine, 0x8000_7000, ROUTINE)
    engine.set("X10", 0x8000_7000 + 64 * line)
    engine.set("X11", ROUTINE + 64 * line)
    engine.set("X12", movz(0, 2))
    engine.set("X14", 0x8000_7000)
    engine.set("X3", 64)
    assert go(engine) is Stop.WFI
    assert (engine.get("X1"), engine.get("X0")) == (1, 2)

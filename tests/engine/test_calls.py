"""HVC and SMC in either half: what a handler is told, and what it may answer."""

from __future__ import annotations

import pytest

from emu.arm.timers import NEVER
from emu.base.smccc import Conduit
from emu.engine.calls import check_reply
from emu.engine.engine import Engine, Stop
from engine_kit import (
    CODE,
    DATA,
    EL0T,
    EL1H,
    NOP,
    VECTORS,
    WFI,
    Recorder,
    at_level,
    go,
    halves,
    hvc,
    machine,
    smc,
    turn_mmu_on,
)

IMMEDIATES = (0, 1, 0x1234, 0xFFFF)
UNKNOWN = 0x0200_0000
OTHERS = [f"X{n}" for n in range(4, 31)]


def fill_registers(engine: Engine) -> None:
    for n in range(31):
        engine.set(f"X{n}", 0x1111_0000_0000_0000 + n)
    engine.set("SP", DATA)


# -- HVC and SMC: unicorn.md §1 ------------------------------------------------------------------


@halves
@pytest.mark.parametrize("imm", IMMEDIATES)
@pytest.mark.parametrize(("conduit", "word"), [("hvc", hvc), ("smc", smc)])
@pytest.mark.parametrize("mmu", [False, True])
def test_call_is_trapped_with_conduit_immediate_and_arguments(native, imm, conduit, word, mmu):
    engine = machine(native, NOP, word(imm), WFI)
    if mmu:
        turn_mmu_on(engine)
    fill_registers(engine)
    seen = []

    def reply(*_):
        seen.append(engine.get("PC"))
        return (0xA, 0xB, 0xC, 0xFFFF_FFFF_FFFF_FFFF)

    traps = Recorder(reply)
    before = [engine.get(name) for name in OTHERS]
    assert go(engine, traps) is Stop.WFI
    assert traps.calls == [(conduit, imm, tuple(0x1111_0000_0000_0000 + n for n in range(8)))]
    assert seen == [CODE + 8]
    assert engine.arguments(4) == (0xA, 0xB, 0xC, 0xFFFF_FFFF_FFFF_FFFF)
    assert [engine.get(name) for name in OTHERS] == before
    assert engine.get("SP") == DATA
    assert engine.get("PSTATE") & 0x3DF == EL1H
    assert engine.get("PC") == CODE + 12
    assert engine.instructions == engine.cycles == 3


@halves
@pytest.mark.parametrize("count", [0, 1, 4, 18])
def test_reply_touches_only_its_registers(native, count):
    engine = machine(native, hvc(), WFI)
    fill_registers(engine)
    go(engine, Recorder(tuple(range(count))))
    expected = [*range(count), *(0x1111_0000_0000_0000 + n for n in range(count, 31))]
    assert list(engine.arguments(31)) == expected


@halves
def test_conduit_is_the_enumeration(native):
    engine = machine(native, hvc(), smc(), WFI)
    seen = []
    go(engine, Recorder(lambda conduit, *_: seen.append(conduit) or ()))
    assert seen == [Conduit.HVC, Conduit.SMC]
    assert all(isinstance(conduit, Conduit) for conduit in seen)


@halves
@pytest.mark.parametrize("word", [hvc(7), smc(7)])
@pytest.mark.parametrize("mmu", [False, True])
def test_call_from_el0_is_undefined(native, word, mmu):
    engine = machine(native)
    address = at_level(engine, EL0T, mmu=mmu, words=[NOP, word])
    traps = Recorder()
    assert go(engine, traps) is Stop.WFI
    assert traps.calls == []
    assert traps.exceptions == [(UNKNOWN, None, address + 4, VECTORS + 0x400)]
    assert engine.instructions == 2  # the NOP, and the WFI at the vector


# -- replies --------------------------------------------------------------------------------------

BAD = [
    ((-1,), OverflowError),
    ((1 << 64,), OverflowError),
    ((0,) * 19, TypeError),
    (("x0",), TypeError),
    ((1.5,), TypeError),
    ((None,), TypeError),
    ([1], TypeError),
    ("x", TypeError),
    (5, TypeError),
    (0, TypeError),
    (False, TypeError),
]


@halves
@pytest.mark.parametrize(("reply", "error"), BAD, ids=[str(row[0])[:12] for row in BAD])
def test_reply_no_register_can_hold(native, reply, error):
    engine = machine(native, hvc(), WFI)
    engine.set("X0", 0x77)
    with pytest.raises(error):
        go(engine, Recorder(lambda *_: reply))
    assert engine.get("X0") == 0x77
    assert engine.get("PC") == CODE + 4
    assert go(engine) is Stop.WFI


def test_reply_is_checked_alike():
    check_reply(())
    check_reply((0, NEVER, True))
    for reply, error in BAD:
        with pytest.raises(error):
            check_reply(reply)

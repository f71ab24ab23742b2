"""What Unicorn reports, and the entry to EL1, in either half."""

from __future__ import annotations

import pytest

from emu.arm import arch
from emu.cycles.tracks import FIQ, IRQ, SERROR
from emu.engine import engine as engine_module
from emu.engine.engine import Stop
from emu.engine.exceptions import exception_key
from emu.engine.taken import ExceptionLog, Taken
from engine_kit import (
    CODE,
    DATA,
    EL0_ALIAS,
    EL0T,
    EL1H,
    EL1T,
    ELR_EL1,
    ERET,
    ESR_EL1,
    ICC_PMR_EL1,
    NOP,
    NOWHERE,
    UNMAPPED,
    VECTORS,
    WFI,
    Recorder,
    add,
    at_level,
    brk,
    code,
    go,
    halves,
    hlt,
    hvc,
    ldr,
    machine,
    mrs,
    smc,
    svc,
    turn_mmu_on,
    udf,
)

UNKNOWN = 0x0200_0000

@pytest.mark.parametrize(
    ("kind", "syndrome", "key"),
    [
        (arch.VECTOR_SYNC, (0x5600_0000,), arch.EC_SVC64),
        (arch.VECTOR_SYNC, (0x9600_0010, NOWHERE), 0x25),
        (arch.VECTOR_IRQ, (), IRQ),
        (arch.VECTOR_FIQ, (), FIQ),
        (arch.VECTOR_SERROR, (), SERROR),
    ],
)
def test_what_an_exception_is_told_as(kind, syndrome, key):
    assert exception_key(kind, syndrome) == key


def bare(*words: int):
    """A Unicorn of our own: no hooks, reset state."""
    import unicorn

    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    uc.ctl_set_tcg_buffer_size(4 << 20)
    uc.mem_map(CODE, 0x1000)
    uc.mem_write(CODE, code(*words))
    return uc


@pytest.mark.parametrize(
    ("word", "intno", "after"),
    [(hvc(), 1, 0), (smc(), 13, 4), (svc(), 2, 4), (brk(), 7, 0), (udf(), 1, 0),
     (hlt(0xF000), 1, 0), (mrs(0, ICC_PMR_EL1), 1, 0)],
)  # fmt: skip
def test_unicorn_at_reset(word, intno, after):
    """The contract itself: exception number and PC in an INTR hook, HVC off until enabled."""
    import unicorn
    from unicorn import arm64_const as a64

    uc = bare(word)
    seen = []

    def on_interrupt(uc, number, _):
        seen.append((number, uc.reg_read(a64.UC_ARM64_REG_PC) - CODE))
        uc.emu_stop()

    uc.hook_add(unicorn.UC_HOOK_INTR, on_interrupt)
    uc.emu_start(CODE, engine_module.UNTIL)
    assert seen == [(intno, after)]


SYNCHRONOUS = [
    # word, ESR, how far ELR is behind it
    pytest.param(svc(0x1234), 0x5600_1234, 4, id="svc"),
    pytest.param(udf(0), UNKNOWN, 0, id="udf"),
    pytest.param(udf(0xFFFF), UNKNOWN, 0, id="udf-ffff"),
    pytest.param(brk(0xFFFF), 0xF200_FFFF, 0, id="brk"),
    pytest.param(hlt(0), UNKNOWN, 0, id="hlt"),
    pytest.param(hlt(0xF000), UNKNOWN, 0, id="semihosting-unserved"),
    pytest.param(mrs(0, ICC_PMR_EL1), UNKNOWN, 0, id="gic-register"),
]
LEVELS = [
    pytest.param(EL1T, 0x000, id="el1t"),
    pytest.param(EL1H, 0x200, id="el1h"),
    pytest.param(EL0T, 0x400, id="el0t"),
]


@halves
@pytest.mark.parametrize("mmu", [False, True], ids=["mmu-off", "mmu-on"])
@pytest.mark.parametrize(("pstate", "offset"), LEVELS)
@pytest.mark.parametrize(("word", "esr", "behind"), SYNCHRONOUS)
def test_synchronous_exception(native, mmu, pstate, offset, word, esr, behind):
    engine = machine(native)
    address = at_level(engine, pstate, mmu=mmu, words=[NOP, word, NOP])
    engine.set("SP_EL0", DATA)
    engine.set("SP_EL1", DATA + 0x100)
    if pstate == EL1H:
        engine.set("SP", DATA + 0x100)
    else:
        engine.set("SP", DATA)
    engine.set("FAR_EL1", 0xFA5)
    traps = Recorder()
    assert go(engine, traps) is Stop.WFI
    assert engine.get("ESR_EL1") == esr
    assert engine.get("ELR_EL1") == address + 4 + behind
    assert engine.get("FAR_EL1") == 0xFA5
    assert engine.get("SPSR_EL1") & 0x3DF == pstate
    assert engine.get("PSTATE") & 0x3DF == EL1H
    assert engine.get("PC") == VECTORS + offset + 4
    assert engine.get("SP") == DATA + 0x100
    assert engine.get("SP_EL0") == DATA
    assert traps.exceptions == [(esr, None, address + 4, VECTORS + offset)]
    assert engine.instructions == 2 + (behind == 4)


@halves
@pytest.mark.parametrize("pstate", [EL0T, EL1T, EL1H])
def test_eret_returns_to_where_it_was(native, pstate):
    """SVC and back twice: level, stack and flags are as before."""
    engine = machine(native)
    turn_mmu_on(engine)
    for offset in (0x000, 0x200, 0x400):
        engine.write(VECTORS + offset, code(add(9, 9, 1), ERET))
    at_level(engine, pstate, mmu=True, words=[svc(1), add(10, 10, 1), svc(2), udf()])
    engine.set("SP", DATA + 0x40)
    engine.set("PSTATE", pstate | 1 << 30)  # Z
    engine.set("SPSR_EL1", 0)
    traps = Recorder()
    base = EL0_ALIAS if pstate == EL0T else CODE

    def once(taken, vector):
        traps.exceptions.append((taken.esr, taken.far, taken.pc, vector))
        if taken.esr == UNKNOWN:
            traps.state = engine.get("SPSR_EL1")
            engine.stop()

    traps.took_exception = once
    assert go(engine, traps) is Stop.ASKED
    assert [e[0] for e in traps.exceptions] == [0x5600_0001, 0x5600_0002, UNKNOWN]
    assert [e[2] for e in traps.exceptions] == [base, base + 8, base + 12]
    assert traps.state == pstate | 1 << 30
    assert (engine.get("X9"), engine.get("X10")) == (2, 1)
    assert engine.get("SP_EL1" if pstate == EL1H else "SP_EL0") == DATA + 0x40
    assert engine.instructions == 1 + 2 + 1 + 1 + 2


@halves
def test_guest_reads_what_exception_entry_wrote(native):
    """By MRS, as a guest does it."""
    engine = machine(native, svc(0x77))
    engine.write(VECTORS + 0x200, code(mrs(1, ESR_EL1), mrs(2, ELR_EL1), mrs(3, (3, 0, 4, 0, 0)),
                                       mrs(4, (3, 0, 4, 2, 2)), WFI))
    go(engine)
    assert engine.get("X1") == 0x5600_0077
    assert engine.get("X2") == CODE + 4
    assert engine.get("X3") == EL1H
    assert engine.get("X4") == 1 << 2  # CurrentEL


class Unheard(Recorder):
    """Watches no exceptions: the native half takes them without Python."""

    watches_exceptions = False


@halves
@pytest.mark.parametrize(
    ("word", "esr", "far", "behind"),
    [
        pytest.param(svc(0x1234), 0x5600_1234, None, 4, id="svc"),
        pytest.param(brk(0xFFFF), 0xF200_FFFF, None, 0, id="brk"),
        pytest.param(udf(0), UNKNOWN, None, 0, id="udf"),
        pytest.param(ldr(0, 1), 0x9600_0005, UNMAPPED, 0, id="translation-fault"),
    ],
)
def test_what_nobody_watches_is_entered_and_noted_alike(native, word, esr, far, behind):
    engine = machine(native, NOP, word, NOP)
    turn_mmu_on(engine)
    engine.set("X1", UNMAPPED)
    engine.set("FAR_EL1", 0xFA5)
    traps = Unheard()
    assert go(engine, traps) is Stop.WFI
    assert traps.exceptions == []
    assert engine.exceptions.state == (Taken(CODE + 4, esr, far), None, 0)
    assert (engine.get("ESR_EL1"), engine.get("FAR_EL1")) == (esr, far or 0xFA5)
    assert (engine.get("ELR_EL1"), engine.get("SPSR_EL1")) == (CODE + 4 + behind, EL1H)
    assert (engine.get("PC"), engine.get("PSTATE") & 0x3DF) == (VECTORS + 0x204, EL1H)
    assert engine.instructions == engine.cycles == 2 + (behind == 4)


@halves
def test_a_storm_nobody_watches_ends_alike(native):
    engine = machine(native, brk())
    engine.write(VECTORS + 0x200, code(brk()))
    assert go(engine, Unheard()) is Stop.FAULT
    assert engine.exceptions.state == (
        Taken(VECTORS + 0x200, 0xF200_0000, None), Taken(CODE, 0xF200_0000, None),
        ExceptionLog.LIMIT,
    )

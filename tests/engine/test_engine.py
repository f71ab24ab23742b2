"""The engine, and through it the facts about Unicorn that it stands on (hooks: test_hooks.py)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from emu.arm import arch
from emu.arm.timers import NEVER
from emu.base.errors import EngineError
from emu.base.smccc import Conduit
from emu.engine import engine as engine_module
from emu.engine.engine import Engine, Stop
from engine_kit import (
    CODE,
    DATA,
    EL0_ALIAS,
    EL0T,
    EL1H,
    EL1T,
    ELR_EL1,
    EQ,
    ERET,
    ESR_EL1,
    ICC_PMR_EL1,
    ISB,
    MPIDR_EL1,
    NOP,
    NOWHERE,
    RAM,
    RAM_SIZE,
    SCTLR_EL1,
    SPSR_EL1,
    TABLES,
    UNMAPPED,
    VECTORS,
    WFI,
    Recorder,
    add,
    at_level,
    b,
    b_if,
    br,
    brk,
    code,
    go,
    halves,
    hlt,
    hvc,
    ldr,
    ldr_w,
    ldxr,
    machine,
    mov,
    movz,
    mrs,
    msr,
    smc,
    store,
    str_w,
    stxr,
    subs,
    svc,
    turn_mmu_on,
    udf,
)  # fmt: skip

IMMEDIATES = (0, 1, 0x1234, 0xFFFF)
UNKNOWN = 0x0200_0000
OTHERS = [f"X{n}" for n in range(4, 31)]
pytestmark = pytest.mark.filterwarnings("error")


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


# -- exceptions: §2 --------------------------------------------------------------------------

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


ABORTS = [
    # name, words with the address in x1, access bits, EC at the same level
    pytest.param(ldr(0, 1), 0, 0x25, id="read"),
    pytest.param(store(0, 1), 1 << 6, 0x25, id="write"),
    pytest.param(br(1), 0, 0x21, id="fetch"),
]


@halves
@pytest.mark.parametrize(("word", "wnr", "ec"), ABORTS)
@pytest.mark.parametrize("pstate", [EL0T, EL1H])
def test_external_abort_with_the_mmu_off(native, word, wnr, ec, pstate):
    engine = machine(native)
    at_level(engine, pstate, mmu=False, words=[NOP, word, NOP, NOP])
    engine.set("X1", NOWHERE)
    lower = pstate == EL0T
    esr = (ec - lower) << 26 | 1 << 25 | 0x10 | wnr
    fetch = ec == 0x21
    traps = Recorder()
    assert go(engine, traps) is Stop.WFI
    elr = NOWHERE if fetch else CODE + 4
    assert traps.exceptions == [(esr, NOWHERE, elr, VECTORS + (0x400 if lower else 0x200))]
    assert engine.get("ESR_EL1") == esr
    assert engine.get("ELR_EL1") == elr
    assert engine.get("FAR_EL1") == NOWHERE
    assert engine.get("SPSR_EL1") & 0x3DF == pstate
    assert engine.instructions == 2 + fetch


@halves
@pytest.mark.parametrize(("word", "wnr", "ec"), ABORTS)
def test_external_abort_with_the_mmu_on_has_no_valid_far(native, word, wnr, ec):
    engine = machine(native)
    at_level(engine, EL1H, mmu=True, words=[NOP, word, NOP, NOP])
    engine.set("X1", NOWHERE)
    engine.set("FAR_EL1", 0xFA5)
    go(engine)
    assert engine.get("ESR_EL1") == ec << 26 | 1 << 25 | 1 << 10 | 0x10 | wnr
    assert engine.get("FAR_EL1") == 0xFA5


@halves
@pytest.mark.parametrize("pstate", [EL0T, EL1H])
@pytest.mark.parametrize(("word", "wnr", "ec"), ABORTS)
def test_translation_fault(native, word, wnr, ec, pstate):
    """A level 1 hole: Unicorn's own syndrome and fault address."""
    engine = machine(native)
    address = at_level(engine, pstate, mmu=True, words=[NOP, word, NOP, NOP])
    engine.set("X1", UNMAPPED + 0x18)
    go(engine)
    esr = engine.get("ESR_EL1")
    assert esr >> 26 == ec - (pstate == EL0T)
    assert esr & 0x7F == wnr | 0x05
    assert engine.get("FAR_EL1") == UNMAPPED + 0x18
    assert engine.get("ELR_EL1") == (UNMAPPED + 0x18 if ec == 0x21 else address + 4)


@halves
def test_permission_fault_from_el0(native):
    engine = machine(native)
    at_level(engine, EL0T, mmu=True, words=[ldr(0, 1)])
    engine.set("X1", DATA)
    go(engine)
    assert engine.get("ESR_EL1") >> 26 == 0x24
    assert engine.get("ESR_EL1") & 0x3F == 0x0D
    assert engine.get("FAR_EL1") == DATA


@halves
def test_table_walk_to_nowhere_is_an_abort_not_a_crash(native):
    engine = machine(native, ldr(0, 1))
    engine.set("TTBR0_EL1", NOWHERE)
    engine.set("TCR_EL1", arch.TCR_EL1_48_BITS)
    engine.set("SCTLR_EL1", engine.get("SCTLR_EL1") | 1)
    traps = Recorder()
    assert go(engine, traps) is Stop.FAULT
    assert traps.exceptions


@halves
def test_guest_turns_its_mmu_on(native):
    """TTBR0, TCR and SCTLR by MSR; the next fetch goes through the tables."""
    engine = machine(native)
    turn_mmu_on(engine)
    engine.set("SCTLR_EL1", arch.SCTLR_EL1_RESET)
    words = [*mov(1, TABLES), msr((3, 0, 2, 0, 0), 1), *mov(1, 16), msr((3, 0, 2, 0, 2), 1),
             mrs(1, SCTLR_EL1), add(1, 1, 1), msr(SCTLR_EL1, 1), ISB,
             *mov(2, EL0_ALIAS + (DATA - RAM)), ldr(3, 2), WFI]
    engine.write(CODE, code(*words))
    engine.write(DATA, b"\x2a")
    assert go(engine) is Stop.WFI
    assert engine.get("X3") == 0x2A
    assert engine.instructions == len(words)


@halves
def test_absent_device_is_a_fault_that_names_it(native):
    engine = machine(native, NOP, ldr(0, 1), NOP, WFI)
    engine.set("X1", 0x0800_0000)
    assert go(engine, Recorder(absent="GICv3 distributor")) is Stop.FAULT
    assert "GICv3 distributor at 0x8000000" in engine.fault
    assert engine.get("PC") == CODE + 4
    assert engine.instructions == 1


@halves
def test_storm_ends_in_a_fault(native):
    """Vectors in the void: the abort of the vector's own fetch repeats for ever."""
    engine = machine(native, udf())
    engine.set("VBAR_EL1", NOWHERE)
    traps = Recorder()
    assert go(engine, traps) is Stop.FAULT
    assert "same exception for ever" in engine.fault
    assert len(traps.exceptions) == 1 + 1000  # the UDF, and the vector before it is given up
    assert engine.instructions == 0
    assert go(engine, traps) is Stop.FAULT  # asked again, it says so again


@halves
def test_svc_loop_is_no_storm(native):
    engine = machine(native, svc(), b(-1))
    engine.write(VECTORS + 0x200, code(ERET))
    assert go(engine, until=9_000) is Stop.DEADLINE
    assert engine.instructions == 9_000


# -- software step -------------------------------------------------------------------------------

MDSCR_EL1 = (2, 0, 0, 2, 2)
KDE_SS = 1 << 13 | 1
DAIFSET_D, DAIFCLR_D, LSR_X9_26 = 0xD503_48DF, 0xD503_48FF, 0xD35A_FD29
HLT_SEMIHOSTING = arch.WORD_HLT_SEMIHOSTING
SET_SPSR_SS = [mrs(9, SPSR_EL1), 0xB26B_0129, msr(SPSR_EL1, 9), ERET]
"""A handler that steps on: SPSR_EL1.SS (bit 21) is set by ORR X9, X9, #0x200000."""


def stepped(
    native: bool, *words: int, semihost: Callable[[], bool] = lambda: False
) -> tuple[Engine, list[int], list[int]]:
    """A machine that steps through code with MDSCR_EL1 in x1: PC and ISV at each step."""
    engine = machine(native, *words)
    engine.write(VECTORS + 0x200, code(*SET_SPSR_SS))
    engine.set("X1", KDE_SS)
    traps = Recorder()
    traps.semihost = semihost
    while go(engine, traps) is Stop.DEADLINE:
        pass
    steps = [(esr, pc) for esr, _, pc, _ in traps.exceptions if esr >> 26 in (0x32, 0x33)]
    return engine, [pc - CODE for _, pc in steps], [esr >> 24 & 1 for esr, _ in steps]


@halves
def test_software_step_at_el1(native):
    """DDI 0487, D2: pending when PSTATE.D is cleared, then after each instruction.

    It is DAIFClr that Unicorn alone would not notice (hooks.py).
    """
    program = (msr(MDSCR_EL1, 1), DAIFCLR_D, add(2, 2, 1), b(1), add(2, 2, 1), DAIFSET_D, WFI)
    engine, pcs, isv = stepped(native, *program)
    assert (pcs[:4], isv[:4]) == ([8, 12, 16, 20], [0, 1, 1, 1])
    assert engine.get("X2") == 2
    assert engine.instructions == len(program) + len(SET_SPSR_SS) * len(pcs)


@halves
def test_a_step_to_a_semihosting_call_comes_before_it(native):
    calls: list[int] = []
    program = (msr(MDSCR_EL1, 1), DAIFCLR_D, NOP, HLT_SEMIHOSTING, DAIFSET_D, WFI)
    engine, pcs, _ = stepped(native, *program, semihost=lambda: calls.append(len(calls)) or True)
    assert pcs[:2] == [8, 12]
    assert calls == [0]
    assert engine.instructions == len(program) + len(SET_SPSR_SS) * len(pcs)


@halves
def test_software_step_seen_from_the_other_side(native):
    """Unmasked first, then asked for."""
    engine, pcs, isv = stepped(native, DAIFCLR_D, msr(MDSCR_EL1, 1), NOP, DAIFSET_D, WFI)
    assert (pcs[:2], isv[:2]) == ([8, 12], [0, 1])
    assert engine.instructions == 5 + len(SET_SPSR_SS) * len(pcs)


@halves
def test_no_step_without_kernel_debugging(native):
    """MDSCR_EL1.SS alone steps EL0 only."""
    engine = machine(native, msr(MDSCR_EL1, 1), DAIFCLR_D, NOP, NOP, WFI)
    engine.set("X1", 1)
    traps = Recorder()
    assert go(engine, traps) is Stop.WFI
    assert traps.exceptions == []


@halves
def test_software_step_of_el0(native):
    """As a debugger steps a process: set up at EL1, entered by ERET."""
    engine = machine(native, msr(MDSCR_EL1, 1), msr(SPSR_EL1, 2), msr(ELR_EL1, 3), ERET)
    user = CODE + 0x100
    engine.write(user, code(add(4, 4, 1), b(2), NOP, add(4, 4, 1), svc(0)))
    engine.write(VECTORS + 0x400, code(
        mrs(9, ESR_EL1), LSR_X9_26, subs(9, 9, 0x32), b_if(EQ, 2), WFI, *SET_SPSR_SS,
    ))
    for name, value in (("X1", 1), ("X2", 1 << 21), ("X3", user)):
        engine.set(name, value)
    traps = Recorder()
    assert go(engine, traps) is Stop.WFI
    found = [(esr >> 26, pc - user) for esr, _, pc, _ in traps.exceptions]
    assert found == [(0x32, 4), (0x32, 12), (0x32, 16), (0x15, 16)]
    assert engine.get("X4") == 2


# -- semihosting --------------------------------------------------------------------------------


@halves
@pytest.mark.parametrize("mmu", [False, True])
def test_semihosting_is_served_and_passed_over(native, mmu):
    engine = machine(native)
    at_level(engine, EL1H, mmu=mmu, words=[NOP, hlt(0xF000), movz(1, 7), WFI])
    traps = Recorder()
    seen = []
    traps.semihost = lambda: seen.append(engine.get("PC")) or True
    assert go(engine, traps) is Stop.WFI
    assert seen == [CODE + 4]
    assert traps.exceptions == []
    assert engine.get("X1") == 7
    assert engine.instructions == 4


@halves
def test_semihosting_from_el0_is_undefined(native):
    engine = machine(native)
    at_level(engine, EL0T, mmu=True, words=[hlt(0xF000)])
    traps = Recorder()
    traps.semihost = lambda: pytest.fail("EL0 has no debugger")
    go(engine, traps)
    assert traps.exceptions[0][0] == UNKNOWN


# -- stopping: §3 ---------------------------------------------------------------------------------


@halves
def test_wfi_stops_behind_itself_and_goes_on(native):
    engine = machine(native, NOP, WFI, movz(3, 1), WFI)
    assert go(engine) is Stop.WFI
    assert (engine.get("PC"), engine.instructions) == (CODE + 8, 2)
    assert go(engine) is Stop.WFI
    assert (engine.get("PC"), engine.get("X3"), engine.instructions) == (CODE + 16, 1, 4)


@halves
@pytest.mark.parametrize(
    "word", [0xD503_205F, 0xD503_203F, 0xD503_209F], ids=["wfe", "yield", "sev"]
)
def test_other_hints_continue(native, word):
    engine = machine(native, word, movz(3, 1), WFI)
    assert go(engine) is Stop.WFI
    assert engine.get("X3") == 1


@halves
@pytest.mark.parametrize("until", [0, 1, 3, 4, 5, 39, 40, 41])
def test_deadline_is_the_first_block_that_would_start_at_or_after_it(native, until):
    """Blocks of four: the loop stops at the first multiple of four not below the deadline."""
    engine = machine(native, add(1, 1, 1), NOP, NOP, b(-3))
    assert go(engine, until=until) is Stop.DEADLINE
    assert engine.cycles == engine.instructions == -(-until // 4) * 4
    assert engine.get("X1") == engine.cycles // 4
    assert engine.get("PC") == CODE


@halves
def test_deadline_already_over_runs_nothing(native):
    engine = machine(native, add(1, 1, 1), b(-1))
    go(engine, until=10)
    before = engine.get("X1")
    assert go(engine, until=10) is Stop.DEADLINE
    assert go(engine, until=3) is Stop.DEADLINE
    assert engine.get("X1") == before


@halves
def test_stop_in_a_call_comes_before_the_next_instruction(native):
    engine = machine(native, hvc(), add(1, 1, 1), WFI)
    assert go(engine, Recorder(lambda *_: engine.stop() or (5,))) is Stop.ASKED
    assert engine.get("PC") == CODE + 4
    assert engine.get("X0") == 5
    assert (engine.get("X1"), engine.instructions) == (0, 1)
    assert go(engine) is Stop.WFI
    assert engine.get("X1") == 1


@halves
def test_no_answer_stops_with_the_registers_as_they_were(native):
    engine = machine(native, hvc(), WFI)
    fill_registers(engine)
    before = engine.arguments(31)
    assert go(engine, Recorder(None)) is Stop.ASKED
    assert engine.arguments(31) == before
    assert engine.get("PC") == CODE + 4
    engine.write_reply((1, 2))
    assert engine.arguments(3) == (1, 2, before[2])


@halves
def test_engine_is_not_entered_twice(native):
    engine = machine(native, hvc(), WFI)
    traps = Recorder(lambda *_: engine.run(NEVER, Recorder()))
    with pytest.raises(EngineError, match="running"):
        go(engine, traps)
    assert go(engine) is Stop.WFI


@halves
@pytest.mark.parametrize("pstate", [EL1H, EL1T])
def test_inject_undefined(native, pstate):
    engine = machine(native)
    at_level(engine, pstate, mmu=False, words=[NOP, hvc(), NOP])
    traps = Recorder()
    traps.reply = lambda *_: engine.inject_undefined(traps) or ()
    assert go(engine, traps) is Stop.WFI
    vector = VECTORS + (0x200 if pstate == EL1H else 0)
    assert traps.exceptions == [(UNKNOWN, None, CODE + 4, vector)]
    assert engine.get("ELR_EL1") == CODE + 4
    assert engine.get("ESR_EL1") == UNKNOWN
    assert engine.instructions == 2


@halves
def test_inject_undefined_after_the_run(native):
    """The answer to a forwarded call, given while nothing runs."""
    engine = machine(native, NOP, hvc())
    traps = Recorder(None)
    assert go(engine, traps) is Stop.ASKED
    engine.inject_undefined(traps)
    assert traps.exceptions == [(UNKNOWN, None, CODE + 4, VECTORS + 0x200)]
    assert go(engine, traps) is Stop.WFI
    assert engine.instructions == 2


# -- several vCPUs: §6 ----------------------------------------------------------------------------


@halves
def test_exclusive_pair_fails_after_another_vcpu_ran(native):
    """A-B-A: Unicorn compares values, the architecture's monitor is lost."""
    engine = machine(native, ldxr(1, 0), hvc(), stxr(2, 3, 0), WFI)
    engine.set("X0", DATA)
    first, second = engine.new_context(), engine.new_context()
    engine.save(second)
    assert go(engine, Recorder(None)) is Stop.ASKED
    engine.save(first)
    engine.restore(second)
    engine.restore(first)
    assert go(engine) is Stop.WFI
    assert engine.get("X2") == 1


@halves
def test_exclusive_pair_survives_a_deadline(native):
    engine = machine(native, ldxr(1, 0), b(1), stxr(2, 3, 0), WFI)
    engine.set("X0", DATA)
    engine.set("X3", 9)
    assert go(engine, until=1) is Stop.DEADLINE
    assert engine.get("PC") == CODE + 8
    assert go(engine) is Stop.WFI
    assert engine.get("X2") == 0
    assert engine.read(DATA, 8) == struct.pack("<Q", 9)


@halves
def test_contexts_hold_all_of_a_vcpu(native):
    engine = machine(native, NOP, WFI)
    fill_registers(engine)
    engine.set("VMPIDR_EL2", 0x8000_0003)
    turn_mmu_on(engine)
    one = engine.new_context()
    engine.save(one)
    engine.restore(engine.reset_context)
    assert engine.arguments(31) == (0,) * 31
    assert engine.get("PSTATE") == EL1H
    assert engine.get("SCTLR_EL1") == arch.SCTLR_EL1_RESET
    assert engine.get("VBAR_EL1") == 0
    engine.restore(one)
    assert engine.get("X30") == 0x1111_0000_0000_001E
    assert engine.get("SP") == DATA
    assert engine.get("VMPIDR_EL2") == 0x8000_0003
    assert engine.get("SCTLR_EL1") & 1


@halves
def test_translations_do_not_outlive_a_switch(native):
    """Two vCPUs with different tables at one virtual address."""
    engine = machine(native, ldr(1, 0), WFI)
    off = engine.new_context()
    engine.set("X0", EL0_ALIAS + (DATA - RAM))
    engine.save(off)
    turn_mmu_on(engine)
    engine.write(DATA, b"\x11")
    assert go(engine) is Stop.WFI
    assert engine.get("X1") == 0x11
    engine.restore(off)
    traps = Recorder()
    go(engine, traps)
    assert traps.exceptions[0][1] == EL0_ALIAS + (DATA - RAM)  # MMU off: nobody lives there


@halves
def test_vmpidr_is_what_the_guest_reads(native):
    engine = machine(native, mrs(0, MPIDR_EL1), WFI)
    engine.set("VMPIDR_EL2", 0x8000_0102)
    go(engine)
    assert engine.get("X0") == 0x8000_0102


# -- memory and devices: §5 --------------------------------------------------------------------


@halves
def test_ram_is_read_and_written(native):
    engine = machine(native, ldr(1, 0), store(0, 0), WFI)
    engine.set("X0", DATA)
    engine.write(DATA, struct.pack("<Q", 0x1234))
    go(engine)
    assert engine.get("X1") == 0x1234
    assert engine.read(DATA, 8) == struct.pack("<Q", DATA)


@halves
@pytest.mark.parametrize(
    ("address", "size"), [(RAM - 1, 2), (RAM + RAM_SIZE - 1, 2), (0, 1), (NOWHERE, 4)]
)
def test_memory_outside_ram_is_an_index_error(native, address, size):
    engine = machine(native, WFI)
    with pytest.raises(IndexError, match=f"{address:#x}"):
        engine.read(address, size)
    with pytest.raises(IndexError):
        engine.write(address, bytes(size))


@halves
def test_rewritten_code_is_what_runs(native):
    engine = machine(native, movz(0, 1), WFI)
    go(engine)
    engine.write(CODE, code(movz(0, 2)))
    engine.set("PC", CODE)
    go(engine)
    assert engine.get("X0") == 2


@halves
def test_rewritten_code_where_nothing_was_retired(native):
    """The count is zero, and yet the UDF has been translated."""
    engine = machine(native, udf())
    engine.set("VBAR_EL1", CODE - 0x200)
    assert go(engine) is Stop.FAULT
    assert engine.instructions == 0
    engine.write(CODE, code(movz(0, 2), WFI))
    assert go(engine) is Stop.WFI
    assert engine.get("X0") == 2


@halves
def test_rewritten_code_behind_a_translation(native):
    """Code runs at a virtual address whose physical one is not mapped as such."""
    engine = machine(native, WFI)
    at_level(engine, EL0T, mmu=True, words=[movz(0, 1), svc()])
    engine.write(TABLES + 0x1008, bytes(8))  # the identity entry of RAM goes away
    engine.set("VBAR_EL1", EL0_ALIAS + 0x8000)
    engine.set("SCTLR_EL1", engine.get("SCTLR_EL1"))
    traps = Recorder()
    traps.took_exception = lambda *_: engine.stop()
    assert go(engine, traps) is Stop.ASKED
    engine.write(CODE, code(movz(0, 2)))
    engine.set("PSTATE", EL0T)
    engine.set("SPSR_EL1", 0)
    engine.set("PC", EL0_ALIAS)
    assert go(engine, traps) is Stop.ASKED
    assert engine.get("X0") == 2


@halves
def test_code_rewritten_from_a_handler(native):
    engine = machine(native, hvc(), movz(1, 1), subs(2, 2, 1), 0x54FF_FFA1, WFI)  # b.ne to hvc
    engine.set("X2", 2)
    values = iter((5, 6))

    def reply(*_):
        engine.write(CODE + 4, code(movz(1, next(values))))
        return ()

    go(engine, Recorder(reply))
    assert engine.get("X1") == 6


@halves
def test_guest_rewrites_its_own_code(native):
    """IC IVAU, DSB, ISB between, as the architecture asks."""
    new = code(movz(5, 9), WFI)
    engine = machine(
        native, ldr(1, 0), store(1, 3), 0xD50B_7523, 0xD503_3B9F, ISB, br(3),
    )
    engine.write(DATA, new)
    engine.write(CODE + 0x400, code(movz(5, 1), WFI))
    engine.set("X0", DATA)
    engine.set("X3", CODE + 0x400)
    engine.set("PC", CODE + 0x400)
    go(engine)
    assert engine.get("X5") == 1
    engine.set("PC", CODE)
    go(engine)
    assert engine.get("X5") == 9


@halves
def test_virtual_memory(native):
    engine = machine(native, WFI)
    turn_mmu_on(engine)
    engine.write(DATA, b"hello")
    assert engine.read_virtual(EL0_ALIAS + (DATA - RAM), 5) == b"hello"
    assert engine.read_virtual(UNMAPPED, 1) is None
    assert engine.read_virtual(0xFFFF_0000_0000_0000, 4) is None
    assert engine.read_virtual(DATA, 0) == b""
    assert engine.write_virtual(EL0_ALIAS + (DATA - RAM), b"J")
    assert engine.read(DATA, 5) == b"Jello"
    assert not engine.write_virtual(UNMAPPED, b"x")
    assert go(engine) is Stop.WFI


@halves
def test_virtual_memory_with_the_mmu_off(native):
    engine = machine(native, WFI)
    assert engine.read_virtual(CODE, 4) == code(WFI)
    assert engine.read_virtual(NOWHERE, 4) is None
    assert not engine.write_virtual(NOWHERE, b"x")


class Register:
    """A device of one register that remembers what was asked."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []

    def read(self, offset: int, width: int) -> int:
        self.log.append(("read", offset, width))
        return 0x5A

    def write(self, offset: int, width: int, value: int) -> None:
        self.log.append(("write", offset, width, value))


@halves
@pytest.mark.parametrize("mmu", [False, True])
def test_device(native, mmu):
    engine = machine(native, ldr_w(1, 0), str_w(2, 0), 0x3900_1002, WFI)  # strb w2, [x0, #4]
    if mmu:
        turn_mmu_on(engine)
    device = Register()
    engine.map_device(0x0900_0000, 0x1000, device)
    engine.set("X0", 0x0900_0008)
    engine.set("X2", 0x1_2345_6789)
    assert go(engine) is Stop.WFI
    assert device.log == [("read", 8, 4), ("write", 8, 4, 0x2345_6789), ("write", 12, 1, 0x89)]
    assert engine.get("X1") == 0x5A
    assert engine.instructions == 4


@halves
def test_wide_access_to_a_device_comes_in_two(native):
    engine = machine(native, ldr(1, 0), WFI)
    device = Register()
    engine.map_device(0x0900_0000, 0x1000, device)
    engine.set("X0", 0x0900_0000)
    go(engine)
    assert device.log == [("read", 0, 4), ("read", 4, 4)]


@halves
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("word", [ldr_w(1, 0), str_w(1, 0)], ids=["read", "write"])
def test_error_in_a_device_comes_out_of_run(native, error, word):
    """At the next block, with the access done once and the count exact."""
    engine = machine(native, NOP, word, b(1), add(2, 2, 1), WFI)
    calls = []

    class Broken:
        def read(self, offset, width):
            calls.append(offset)
            raise error("device")

        def write(self, offset, width, value):
            calls.append(offset)
            raise error("device")

    engine.map_device(0x0900_0000, 0x1000, Broken())
    engine.set("X0", 0x0900_0000)
    with pytest.raises(error, match="device"):
        go(engine)
    assert (engine.get("PC"), engine.instructions) == (CODE + 12, 3)
    assert go(engine) is Stop.WFI
    assert (len(calls), engine.get("X2"), engine.instructions) == (1, 1, 5)


@halves
def test_jump_into_a_device_is_a_fault(native):
    engine = machine(native, br(0))
    engine.map_device(0x0900_0000, 0x1000, Register())
    engine.set("X0", 0x0900_0000)
    traps = Recorder()
    stop = go(engine, traps)
    assert stop is Stop.FAULT or traps.exceptions


# -- construction --------------------------------------------------------------------------------


def test_native_half_that_was_not_built(monkeypatch):
    monkeypatch.setattr(engine_module, "_native", None)
    assert not engine_module.native_available()
    with pytest.raises(EngineError, match="not built"):
        Engine(native=True)
    assert not Engine().native


def test_environment_chooses_the_python_half(monkeypatch):
    monkeypatch.setenv("HVCEMU_NATIVE", "0")
    assert not Engine().native
    monkeypatch.delenv("HVCEMU_NATIVE")
    assert Engine().native is engine_module.native_available()


@halves
def test_cycles_can_be_set(native):
    engine = machine(native, NOP, WFI)
    engine.cycles = 1000
    go(engine)
    assert (engine.cycles, engine.instructions) == (1002, 2)

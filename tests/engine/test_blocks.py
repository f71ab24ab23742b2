"""Blocks in either half: exact counts, deadlines, software step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import places
from emu.arm import arch
from emu.arm.timers import NEVER
from emu.base import exits
from emu.engine.cpu import BLOCK_CALLBACK
from emu.engine.engine import UNTIL, Engine, Stop
from emu.machine.vm import Vm
from engine_kit import (
    CNTPCT,
    CNTVCT,
    CODE,
    DATA,
    EL1H,
    ELR_EL1,
    EQ,
    ERET,
    ESR_EL1,
    NE,
    NOP,
    NOWHERE,
    RAM,
    SPSR_EL1,
    VBAR_EL1,
    VECTORS,
    WFI,
    Recorder,
    add,
    b,
    b_if,
    brk,
    cbz,
    code,
    eor,
    go,
    halves,
    hvc,
    ldr,
    machine,
    madd,
    mov,
    movz,
    mrs,
    msr,
    smc,
    store,
    subs,
    svc,
    tbz,
    udf,
)
from guest_kit import LOAD

GUESTS = sorted(places.GUESTS.glob("*.elf"))
HOOK_CODE = 1 << 2
"""unicorn.h: UC_HOOK_CODE, called before every instruction."""
BIG = {"spin.elf", "hvc_loop.elf", "coremarkish.elf", "stolen_time.elf", "memory_walk.elf"}

# -- exact counts -----------------------------------------------------------------------------


def count_by_hand(engine: Engine) -> list[int]:
    """Every instruction that begins, told by Unicorn one at a time."""
    began = [0]

    def on_code(_uc: int, _address: int, _size: int, _user: int) -> None:
        began[0] += 1

    engine.cpu.hook(HOOK_CODE, BLOCK_CALLBACK(on_code))
    return began


def not_retired(exceptions) -> int:
    """Exceptions whose instruction began and did not finish: not SVC, and no failed fetch."""
    fetches = (arch.EC_INSTRUCTION_ABORT_LOWER, arch.EC_INSTRUCTION_ABORT_SAME)
    unfinished = [e for e in exceptions if arch.exception_class(e) not in (arch.EC_SVC64, *fetches)]
    return len(unfinished)


class Counted:
    """An instrument that keeps the syndromes."""

    def __init__(self) -> None:
        self.syndromes: list[int] = []

    def on_call(self, record) -> None: ...

    def on_exit(self, exit) -> None: ...

    def on_exception(self, record) -> None:
        self.syndromes.append(record.esr)


@halves
@pytest.mark.parametrize("profile", ["kvm-6.12", "none"])
@pytest.mark.parametrize("guest", GUESTS, ids=lambda path: path.stem)
def test_count_of_a_guest_is_that_of_its_instructions(native, guest, profile):
    watch = Counted()
    vm = Vm(guest, profile=profile, native=native, cpus=2, instruments=[watch])
    began = count_by_hand(vm.engine)
    limit = 20_000 if guest.name in BIG else 400_000
    vm.run(limit)
    assert began[0] > 100
    assert vm.stats().instructions == began[0] - not_retired(watch.syndromes)
    assert vm.stats().cycles == vm.stats().instructions


OPERATIONS = st.one_of(
    st.builds(add, st.integers(0, 7), st.integers(0, 7), st.integers(0, 4095)),
    st.builds(eor, *[st.integers(0, 7)] * 3),
    st.builds(madd, *[st.integers(0, 7)] * 3),
    st.builds(movz, st.integers(0, 7), st.integers(0, 0xFFFF), st.integers(0, 3)),
    st.builds(subs, st.integers(0, 7), st.integers(0, 7), st.integers(0, 4095)),
    # Forward over at most three instructions; the program's end is padded.
    st.builds(cbz, st.integers(0, 7), st.integers(1, 4)),
    st.builds(tbz, st.integers(0, 7), st.integers(0, 31), st.integers(1, 4)),
    st.builds(b_if, st.integers(0, 13), st.integers(1, 4)),
    st.builds(b, st.integers(1, 4)),
)
BODIES = st.lists(OPERATIONS, min_size=1, max_size=40)
ENDINGS = {
    "wfi": WFI,
    "udf": udf(),
    "load from nowhere": ldr(0, 8),
    "store to nowhere": store(0, 8),
    "brk": brk(),
}


def loop(body: list[int], turns: int) -> list[int]:
    """The body `turns` times, by x9."""
    padded = [*body, NOP, NOP, NOP]
    return [movz(9, turns), *padded, subs(9, 9, 1), b_if(NE, -len(padded) - 1)]


def bare_count(words: list[int]) -> int:
    """A Unicorn of our own that knows nothing of the engine: how many instructions begin."""
    import unicorn
    from unicorn import arm64_const as a64

    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    uc.ctl_set_tcg_buffer_size(4 << 20)
    uc.mem_map(RAM, 0x10000)
    uc.mem_write(CODE, code(*words))
    uc.reg_write(a64.UC_ARM64_REG_X8, NOWHERE)
    uc.reg_write(a64.UC_ARM64_REG_PSTATE, EL1H)  # where ours starts; Unicorn's own has Z set
    count = [0]

    def on_code(uc, address, size, user):
        count[0] += 1

    uc.hook_add(unicorn.UC_HOOK_CODE, on_code)
    try:
        uc.emu_start(CODE, UNTIL)
    except unicorn.UcError as error:
        if error.errno not in (6, 7, 21):  # unclaimed read, write; an exception without a hook
            raise
    return count[0]


@halves
@settings(max_examples=60, deadline=None)
@given(body=BODIES, turns=st.integers(1, 5), ending=st.sampled_from(sorted(ENDINGS)))
def test_count_of_any_program_is_that_of_a_bare_unicorn(native, body, turns, ending):
    words = [*loop(body, turns), NOP, ENDINGS[ending], NOP, NOP]
    engine = machine(native, *words)
    engine.set("X8", NOWHERE)
    assert go(engine) is Stop.WFI
    # Where the last instruction faults, the WFI at the vector retires in its stead.
    assert engine.instructions == engine.cycles == bare_count(words)


@halves
def test_fault_in_the_middle_of_a_block_gives_the_rest_back(native):
    """Handler skips the load; what follows it is charged once."""
    engine = machine(native, NOP, ldr(0, 8), NOP, NOP, WFI)
    engine.write(VECTORS + 0x200, code(
        mrs(1, (3, 0, 4, 0, 1)), add(1, 1, 4), 0xD518_4021, ERET))  # msr elr_el1, x1
    engine.set("X8", NOWHERE)
    assert go(engine) is Stop.WFI
    assert engine.instructions == 1 + 4 + 3


# -- deadlines ----------------------------------------------------------------------------------

# Eight turns of: a call, an SVC (handler: three instructions), a counter read, a store, a skip.
BUSY = loop(
    [hvc(3), svc(1), mrs(2, CNTVCT), eor(3, 3, 2), store(3, 10), add(4, 4, 1), tbz(4, 0, 2),
     madd(5, 3, 4), smc(2)],
    8,
)  # fmt: skip


def busy(native: bool) -> Engine:
    engine = machine(native, *BUSY, WFI)
    engine.write(VECTORS + 0x200, code(add(6, 6, 1), mrs(7, CNTPCT), ERET))
    engine.set("X10", DATA)
    return engine


def outcome(engine: Engine, traps: Recorder):
    registers = engine.arguments(31)
    return (registers, engine.get("PC"), engine.instructions, engine.cycles, traps.calls,
            traps.exceptions, engine.read(DATA, 8))  # fmt: skip


def uncut(native: bool):
    engine, traps = busy(native), Recorder(lambda *a: (len(traps.calls),))
    assert go(engine, traps) is Stop.WFI
    return outcome(engine, traps)


@halves
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 160), max_size=12))
def test_cutting_a_run_changes_nothing(native, cuts):
    engine, traps = busy(native), Recorder(lambda *a: (len(traps.calls),))
    for until in [*sorted(cuts), NEVER]:
        stop = go(engine, traps, until)
        if stop is Stop.WFI:
            break
        assert stop is Stop.DEADLINE
    assert outcome(engine, traps) == uncut(native)


def test_both_halves_agree_on_it():
    if not Engine().native:
        pytest.skip("the native half was not built: it needs a C compiler")
    assert uncut(True) == uncut(False)


@halves
def test_every_cut_is_a_block_boundary(native):
    """Cycle by cycle: no deadline is overshot by more than the block it falls into."""
    engine, traps = busy(native), Recorder(())
    last = 0
    for until in range(1, 200):
        if go(engine, traps, until) is Stop.WFI:
            break
        assert engine.cycles >= until
        assert engine.cycles - last <= 8
        last = engine.cycles
    assert until > 100


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

    It is DAIFClr that Unicorn alone would not notice (blocks.py).
    """
    program = (msr(MDSCR_EL1, 1), DAIFCLR_D, add(2, 2, 1), b(1), add(2, 2, 1), DAIFSET_D, WFI)
    engine, pcs, isv = stepped(native, *program)
    assert (pcs[:4], isv[:4]) == ([8, 12, 16, 20], [0, 1, 1, 1])
    assert engine.get("X2") == 2
    assert engine.instructions == len(program) + len(SET_SPSR_SS) * len(pcs)


@halves
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a72"])
def test_software_step_on_a_core_with_a_model(tmp_path, native, core):
    """Where a step is due Unicorn makes a block of no instruction: it costs nothing."""
    path = tmp_path / "guest.bin"
    body = [msr(MDSCR_EL1, 1), DAIFCLR_D, add(2, 2, 1), b(1), add(2, 2, 1), DAIFSET_D, WFI]
    words = [*mov(0, LOAD + 0x800), msr(VBAR_EL1, 0), *mov(1, KDE_SS), *body]
    path.write_bytes(code(*words).ljust(0xA00, b"\0") + code(*SET_SPSR_SS))
    vm = Vm(path, load=LOAD, core=core, native=native)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert vm.engine.get("X2") == 2
    steps = 5  # pending at once, and behind each of four
    assert vm.stats().instructions == len(words) + steps * len(SET_SPSR_SS)


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

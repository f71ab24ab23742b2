"""The engine, and through it the facts about Unicorn that it stands on."""

from __future__ import annotations

import struct

import pytest

from emu.arm import arch
from emu.arm.timers import NEVER
from emu.base.errors import EngineError
from emu.engine import engine as engine_module
from emu.engine.engine import Engine, Stop
from engine_kit import (
    CODE,
    DATA,
    EL0_ALIAS,
    EL0T,
    EL1H,
    EL1T,
    ERET,
    ESR_EL1,
    ISB,
    MPIDR_EL1,
    NE,
    NOP,
    NOWHERE,
    RAM,
    RAM_SIZE,
    SCTLR_EL1,
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
    store,
    str_w,
    stxr,
    subs,
    svc,
    turn_mmu_on,
    udf,
)

UNKNOWN = 0x0200_0000
pytestmark = pytest.mark.filterwarnings("error")


def fill_registers(engine: Engine) -> None:
    for n in range(31):
        engine.set(f"X{n}", 0x1111_0000_0000_0000 + n)
    engine.set("SP", DATA)


# -- aborts: §2 ------------------------------------------------------------------------------

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


STRB, STP = 0x3900_0001, 0xA900_0C02  # strb w1, [x0]; stp x2, x3, [x0]
TOUCHES = {"ldr": ldr(1, 0), "str": store(1, 0), "strb": STRB, "stp": STP}
RETURN_FROM_SVC = [mrs(9, ESR_EL1), 0xD35A_FD29, subs(9, 9, 0x15), b_if(NE, 2), ERET, WFI]
"""A handler: LSR X9, X9, #26 is the class of the exception, 0x15 that of SVC."""


def after_svc(native: bool, word: int) -> Engine:
    """A machine that goes through an exception and a branch, and then touches what x0 points to."""
    engine = machine(native, svc(), b(1), add(21, 21, 1), NOP, word, WFI)
    engine.write(VECTORS + 0x200, code(*RETURN_FROM_SVC))
    engine.set("X0", NOWHERE)
    return engine


@halves
@pytest.mark.parametrize("word", TOUCHES.values(), ids=TOUCHES)
def test_an_abort_after_an_exception_is_at_its_own_address(native, word):
    """ELR_EL1 is the access's, not its block's beginning (cpu.py:set)."""
    engine, traps = after_svc(native, word), Recorder()
    assert go(engine, traps) is Stop.WFI
    assert [pc - CODE for _, _, pc, _ in traps.exceptions] == [0, 16]
    assert engine.get("ELR_EL1") == CODE + 16
    assert engine.get("X21") == 1


@halves
@pytest.mark.parametrize("word", TOUCHES.values(), ids=TOUCHES)
def test_a_device_met_after_an_exception_is_touched_once(native, word):
    """It is mapped at its first touch, and only the access is made again."""
    engine, traps, device = after_svc(native, word), Recorder(), Register()

    def attach(address: int) -> bool:
        engine.map_device(NOWHERE, 0x1000, device)
        return True

    traps.attach = attach
    assert go(engine, traps) is Stop.WFI
    assert engine.get("X21") == 1
    assert len(device.log) == {STP: 4, STRB: 1}.get(word, 2), "in words"
    assert engine.get("PC") == CODE + 24


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
def test_stores_to_data_are_fast_with_the_mmu_on(native):
    """No hook covers RAM: Unicorn would send every store the slow way."""
    engine = machine(native, WFI)
    ram = [(base, base + len(block)) for base, block, _ in engine.ram()]
    for begin, end in engine.memory.holes():
        assert all(end < low or begin >= high for low, high in ram)


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

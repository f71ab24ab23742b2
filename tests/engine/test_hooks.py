"""The hooks in either half: counts, deadlines, counter registers, replies, errors, lifetime."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import places
from emu.arm import arch
from emu.arm.timers import NEVER
from emu.engine.cpu import BLOCK_CALLBACK
from emu.engine.engine import UNTIL, Engine, Stop
from emu.engine.hooks import check_reply
from emu.machine.vm import Vm
from engine_kit import (
    CNTFRQ,
    CNTPCT,
    CNTVCT,
    CODE,
    DATA,
    EL1H,
    ERET,
    NE,
    NOP,
    NOWHERE,
    RAM,
    TABLES,
    VECTORS,
    WFI,
    XZR,
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
    movz,
    mrs,
    smc,
    store,
    subs,
    svc,
    tbz,
    turn_mmu_on,
    udf,
)  # fmt: skip

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


# -- counter registers ----------------------------------------------------------------------------


@halves
@pytest.mark.parametrize("register", [CNTVCT, CNTPCT], ids=["cntvct", "cntpct"])
@pytest.mark.parametrize("rt", [0, 1, 15, 28, 29, 30])
@pytest.mark.parametrize("before", [0, 15, 16, 17, 95])
def test_counter_is_exact_inside_a_block(native, register, rt, before):
    engine = machine(native, *[NOP] * before, mrs(rt, register), *[NOP] * 40, WFI)
    engine.set(f"X{rt}", 0xFFFF_FFFF_FFFF_FFFF)
    assert go(engine) is Stop.WFI
    assert engine.get(f"X{rt}") == before // 16


@halves
def test_counter_into_nothing(native):
    """xzr stays zero, and SP, which shares its number, stays what it was."""
    engine = machine(native, *[NOP] * 40, mrs(XZR, CNTVCT), add(1, 31, 0), eor(2, 31, 31), WFI)
    engine.set("SP", DATA)
    engine.set("X2", 7)
    go(engine)
    assert (engine.get("X1"), engine.get("X2"), engine.get("SP")) == (DATA, 0, DATA)


@halves
def test_counter_frequency(native):
    engine = machine(native, mrs(0, CNTFRQ), WFI)
    go(engine)
    assert engine.get("X0") == 62_500_000


@halves
def test_counter_follows_the_cycles(native):
    engine = machine(native, mrs(0, CNTVCT), WFI)
    engine.cycles = 16 * 0x1_2345_6789
    go(engine)
    assert engine.get("X0") == 0x1_2345_6789


@halves
def test_other_registers_are_unicorns(native):
    engine = machine(native, mrs(0, (3, 0, 4, 2, 2)), mrs(1, (3, 3, 14, 3, 1)), WFI)
    engine.set("X0", 9)
    go(engine)
    assert engine.get("X0") == 1 << 2  # CurrentEL


# -- replies and errors -----------------------------------------------------------------------

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


class Odd(BaseException):
    """Not even an Exception."""


@halves
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, Odd, StopIteration])
@pytest.mark.parametrize("word", [hvc(), smc()])
def test_error_in_a_call_comes_out_of_run(native, error, word):
    engine = machine(native, NOP, word, movz(1, 3), WFI)

    def fail(*_):
        raise error("told")

    with pytest.raises(error, match="told"):
        go(engine, Recorder(fail))
    assert (engine.get("PC"), engine.get("X1"), engine.instructions) == (CODE + 8, 0, 2)
    assert go(engine) is Stop.WFI
    assert (engine.get("X1"), engine.instructions) == (3, 4)


@halves
def test_error_where_an_exception_is_watched(native):
    engine = machine(native, udf())
    traps = Recorder()

    def fail(*_):
        raise ValueError("watcher")

    traps.took_exception = fail
    with pytest.raises(ValueError, match="watcher"):
        go(engine, traps)
    assert go(engine) is Stop.WFI
    assert engine.get("PC") == VECTORS + 0x204


@halves
def test_error_in_semihosting(native):
    engine = machine(native, 0xD45E_0000, WFI)
    traps = Recorder()

    def fail():
        raise ValueError("console")

    traps.semihost = fail
    with pytest.raises(ValueError, match="console"):
        go(engine, traps)
    assert engine.get("PC") == CODE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@halves
def test_interrupt_from_the_keyboard(native):
    """SIGINT while the guest runs: Python raises it in the next call.

    Where it strikes on the way into a callback, ctypes may lose it, and in a finaliser Python
    does (and says so, which is the warning ignored here); the next one is not lost.
    """
    engine = machine(native, hvc(), b(-1))
    armed, done = [True], threading.Event()

    def interrupt(*_):
        if armed:
            raise KeyboardInterrupt

    def pester():
        while not done.wait(0.05):
            os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGINT, interrupt)
    thread = threading.Thread(target=pester)
    thread.start()
    try:
        interrupted = False
        go(engine)
    except KeyboardInterrupt:
        armed.clear()
        interrupted = True
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, previous)
    assert interrupted
    assert go(engine, until=engine.cycles + 100) is Stop.DEADLINE


@halves
def test_gone_watchers_are_let_go(native):
    """Nothing of a run stays behind in the hooks."""
    engine = machine(native, hvc(), WFI)
    traps = Recorder()
    gone = weakref.ref(traps)
    go(engine, traps)
    del traps
    assert gone() is None


# -- lifetime -----------------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def virtual_size() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc/self/status")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmSize"))
    return int(line.split()[1]) << 10


@halves
def test_engine_is_freed_by_its_last_reference(native, no_collector):
    engine = machine(native, hvc(), udf())
    engine.map_device(0x0900_0000, 0x1000, Recorder())
    context = engine.new_context()
    engine.save(context)
    go(engine, Recorder(lambda *_: (1,)))
    gone = weakref.ref(engine), weakref.ref(engine.cpu)
    del engine
    assert [ref() for ref in gone] == [None, None]
    del context  # a context may outlive its engine


@halves
def test_engine_that_failed_is_freed(native, no_collector):
    engine = machine(native, hvc(), WFI)
    gone = weakref.ref(engine)

    def fail(*_):
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        go(engine, Recorder(fail))
    gc.enable()
    del engine
    gc.collect()  # pytest keeps the traceback in a cycle of its own
    assert gone() is None


@halves
def test_vm_is_freed_by_its_last_reference(native, no_collector):
    guest = GUESTS[0].with_name("psci_cpu_on.elf")
    vm = Vm(guest, cpus=2, native=native)
    vm.run(20_000)
    gone = [weakref.ref(thing) for thing in (vm, vm.engine, vm.engine.cpu, vm.machine, vm.el2)]
    del vm
    assert [ref() for ref in gone] == [None] * 5


@halves
def test_two_hundred_vms_take_no_room(native, no_collector):
    guest = GUESTS[0].with_name("hello.elf")

    def one() -> None:
        vm = Vm(guest, native=native)
        vm.run()

    for _ in range(10):
        one()
    before = virtual_size()
    for _ in range(200):
        one()
    assert virtual_size() - before < 16 << 20


# -- code that changes: unicorn.md §5 -------------------------------------------------------------

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


@halves
def test_stores_to_data_are_fast_with_the_mmu_on(native):
    """No hook covers RAM: Unicorn would send every store the slow way."""
    engine = machine(native, WFI)
    ram = [(base, base + len(block)) for base, block, _ in engine.ram()]
    for begin, end in engine.memory.holes():
        assert all(end < low or begin >= high for low, high in ram)

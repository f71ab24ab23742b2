"""Cycles that can be believed: the same whatever the half, the slices and who watches, and those
of what really ran.

The core model here charges each word by itself (timing_kit.py), so that a sum tells which words
were executed; what is promised of any model is that the sums are right, not what is in them.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

import pytest

from emu.arm.arch import SysReg
from emu.arm.timers import NEVER
from emu.base import exits
from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import Event
from emu.engine.engine import Engine, Stop, native_available
from emu.machine.vm import Vm
from emu.watch.trace import TextTrace
from engine_kit import (
    CNTVCT,
    CODE,
    DATA,
    ERET,
    ISB,
    NE,
    NOP,
    RAM,
    TABLES,
    TTBR0_EL1,
    UNMAPPED,
    WFI,
    Recorder,
    add,
    b,
    b_if,
    code,
    eor,
    go,
    halves,
    hvc,
    machine,
    mov,
    movz,
    mrs,
    msr,
    store,
    subs,
    tbz,
    turn_mmu_on,
)
from places import GUESTS
from timing_kit import ByWord, Even, by_word, counted, elapsed, frames, lines, price, total

LIMIT = 400_000
"""Cycles of each guest: most end before, and the Python half need not run long."""
CORE = "cortex-a53"
"""Any that has a timing; what it costs is the test's own model."""
PIECES = (LIMIT, 10_007, 211)

# -- one guest, every way to run it ----------------------------------------------------------------

PMCR, PMCNTENSET, PMCCNTR = (3, 3, 9, 12, 0), (3, 3, 9, 12, 1), (3, 3, 9, 13, 0)
PMEVTYPER0, PMEVCNTR0 = (3, 3, 14, 12, 0), (3, 3, 14, 8, 0)
INST_RETIRED = 8
KEPT = RAM + 0x9_0000
"""Where the guest below keeps what it reads."""
LOAD = RAM + 0x8_0000
READER = [
    *mov(0, 0x8000_0001), msr(PMCNTENSET, 0), movz(0, INST_RETIRED), msr(PMEVTYPER0, 0),
    movz(0, 1), msr(PMCR, 0), *mov(8, KEPT), movz(9, 300),
    mrs(1, PMCCNTR), eor(2, 2, 1), mrs(3, CNTVCT), mrs(4, PMEVCNTR0), eor(2, 2, 4),
    store(1, 8), add(8, 8, 8), store(3, 8), add(8, 8, 8), store(4, 8), add(8, 8, 8),
    hvc(), subs(9, 9, 1), b_if(NE, -13),
    *mov(0, 0x8400_0008), hvc(),
]  # fmt: skip
"""Reads every counter in mid-block, 300 times with a call between, and switches the machine off."""


IAR1, EOIR1, PMR = (3, 0, 12, 12, 0), (3, 0, 12, 12, 1), (3, 0, 4, 6, 0)
IGRPEN1, SGI1R = (3, 0, 12, 12, 7), (3, 0, 12, 11, 5)
CNTV_TVAL, CNTV_CTL, VBAR = (3, 3, 14, 3, 0), (3, 3, 14, 3, 1), (3, 0, 12, 0, 0)
DAIFCLR_I, LT = 0xD503_42FF, 0xB
TIMER, SGI, TICKS, VECTOR_IRQ = 27, 1, 12, 0x280
IRQ_VECTORS, SECONDARY = LOAD + 0x1000, LOAD + 0x800
IRQ_HANDLER = [
    mrs(20, IAR1), subs(25, 20, TIMER), b_if(NE, 4), msr(CNTV_TVAL, 26), msr(SGI1R, 27),
    add(21, 21, 1), msr(EOIR1, 20), add(28, 28, 1), ERET,
]  # fmt: skip
INTERRUPTED = [
    *mov(0, IRQ_VECTORS), msr(VBAR, 0), *mov(0, 0xC400_0003), movz(1, 1), *mov(2, SECONDARY), hvc(),
    movz(26, 1_000), *mov(27, SGI << 24 | 1 << 1), movz(1, 1), msr(CNTV_TVAL, 26), msr(CNTV_CTL, 1),
    DAIFCLR_I, add(5, 5, 1), eor(6, 6, 5), tbz(5, 6, 2), WFI, subs(7, 21, TICKS), b_if(LT, -5),
    *mov(0, 0x8400_0008), hvc(),
]  # fmt: skip
"""A timer that is set anew at each of `TICKS` interrupts, half of the time awaited in WFI; each
sends an interrupt to the other vCPU, which counts them."""
OTHER = [*mov(0, IRQ_VECTORS), msr(VBAR, 0), DAIFCLR_I, WFI, add(8, 8, 1), b(-2)]


def open_gic(vm: Vm) -> None:
    """What a driver does: groups on, priorities admitted, these two enabled."""
    vm.board.device("gic")
    vm.board.gic.distributor.write(0, 4, 0x12)
    for vcpu in range(len(vm.machine.vcpus)):
        vm.board.gic.write_register(vcpu, SysReg(*PMR), 0xF8)
        vm.board.gic.write_register(vcpu, SysReg(*IGRPEN1), 1)
        vm.board.gic.redistributors.write(0x2_0000 * vcpu + 0x1_0100, 4, 1 << TIMER | 1 << SGI)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guests")
    image = bytearray(0x1800)
    for place, words in (
        (0, INTERRUPTED), (SECONDARY - LOAD, OTHER),
        (IRQ_VECTORS - LOAD + VECTOR_IRQ, IRQ_HANDLER),
    ):  # fmt: skip
        image[place : place + 4 * len(words)] = code(*words)
    (folder / "interrupted.bin").write_bytes(image)
    (folder / "reader.bin").write_bytes(code(*READER))
    return folder


@pytest.fixture(autouse=True)
def _by_word(monkeypatch):
    monkeypatch.setattr("emu.machine.vm.block_costs_of", lambda *_: BlockCosts(ByWord()))


RAW = ("reader", "interrupted")


def machine_for(
    name: str, cpus: int, native: bool, watched: bool, folder: Path, timing: str = "block"
) -> Vm:
    said: list[str] = []
    vm = Vm(
        folder / f"{name}.bin" if name in RAW else GUESTS / f"{name}.elf",
        load=LOAD if name in RAW else None, cpus=cpus, native=native, core=CORE, timing=timing,
        freq=1_300_000_000, trap_costs="kvm-vhe", seed=7,
    )  # fmt: skip
    if watched:
        trace = TextTrace(vm.el2, said.append, calls=True, exceptions=True, colour=False)
        vm.instruments.append(trace)
    if name == "hvc_loop":
        address = vm.image.symbols.address("loop_count")
        assert address is not None
        vm.engine.write(address, (100).to_bytes(8, "little"))
        vm.filter(0x8400_0000, 1, "forward")
    if name == "interrupted":
        open_gic(vm)
    vm.follow()
    return vm


def counters(vm: Vm) -> dict[str, Any]:
    """Every number there is to compare."""
    vm.board.leave(vm.machine.vcpus[vm.current])  # its monitor counts up to now
    assert vm.tolls is not None
    return {
        "stats": vm.stats(), "fraction": vm.engine.hooks.fraction, "lines": lines(vm.engine),
        "frames": frames(vm.engine), "calls": vm.tolls.calls, "counter": vm.clock.counter,
        "ns": vm.clock.nanoseconds, "stolen": [vcpu.stolen for vcpu in vm.machine.vcpus],
        "pmu": [vcpu.pmu.state for vcpu in vm.machine.vcpus],
        "timers": [vcpu.timers.state for vcpu in vm.machine.vcpus],
        "kept": vm.engine.read(KEPT, 3 * 8 * 300), "console": str(vm.console),
        "ends": vm.engine.hooks.ends(0),
        "predictors": [vcpu.predictor and vcpu.predictor.state for vcpu in vm.machine.vcpus],
        "caches": [vcpu.caches and vcpu.caches.state for vcpu in vm.machine.vcpus],
        "last_level": bytes(vm.machine.last_level or b""),
        "registers": (vm.engine.arguments(31), vm.engine.get("PC")),
    }  # fmt: skip


def run_in_pieces(vm: Vm, piece: int) -> exits.Exit:
    """Run to the guest's end or `LIMIT`, coming back after every so many cycles."""
    while True:
        exit = vm.run(min(piece, LIMIT - vm.clock.cycles))
        if isinstance(exit, exits.Hypercall):
            exit.ret = 0x1_0001
        elif not isinstance(exit, exits.Deadline) or vm.clock.cycles >= LIMIT:
            return exit


_references: dict[tuple[str, int, str], tuple[exits.Exit, dict[str, Any]]] = {}


def reference(name: str, cpus: int, timing: str, folder: Path) -> tuple[exits.Exit, dict[str, Any]]:
    """The Python half, in one piece, with nobody who watches."""
    if (name, cpus, timing) not in _references:
        vm = machine_for(name, cpus, False, False, folder, timing)
        _references[name, cpus, timing] = run_in_pieces(vm, LIMIT), counters(vm)
    return _references[name, cpus, timing]


@halves
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "traced"])
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    ("cpus", "timing"),
    [(1, "block"), (4, "block"), (1, "branch"), (4, "branch"), (1, "cache"), (4, "cache")],
)
@pytest.mark.parametrize(
    "name",
    ["hello", "hvc_loop", "exceptions", "psci_cpu_on", "stolen_time", "ptp", "trng", *RAW],
)
def test_every_counter_is_the_same_however_a_guest_is_run(
    name, cpus, timing, piece, watched, native, folder
):
    vm = machine_for(name, cpus, native, watched, folder, timing)
    exit = run_in_pieces(vm, piece)
    expected_exit, expected = reference(name, cpus, timing, folder)
    found = counters(vm)
    for what, value in expected.items():
        assert found[what] == value, what
    assert (type(exit), exit.cycles) == (type(expected_exit), expected_exit.cycles)


@pytest.mark.parametrize("timing", ["block", "branch", "cache"])
@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("name", ["hello", "hvc_loop", "psci_cpu_on", "exceptions", *RAW])
def test_nothing_is_lost_between_blocks_and_traps(name, cpus, timing, folder):
    """The clock is the blocks, the traps, the exceptions and the time nobody ran."""
    vm = machine_for(name, cpus, native_available(), False, folder, timing)
    idle = [0]
    vm.scheduler.pace = lambda cycles: (idle.append(cycles), cycles)[1]
    run_in_pieces(vm, LIMIT)
    tree = vm.engine.hooks.frames()
    above = sum(sixteenths for kind, *_, sixteenths, _ in tree if kind == 3)
    taken = sum(calls for kind, _, _, calls, *_ in tree if kind == 2)
    entries = taken * vm.engine.hooks.exception_cost
    assert elapsed(vm.engine) == counted(vm.engine) + above + entries + sum(idle) * SIXTEENTHS
    assert elapsed(vm.engine) == sum(frame[4] for frame in tree) + sum(idle) * SIXTEENTHS
    assert vm.stats().instructions == sum(frame[5] for frame in tree)


def test_the_reader_reads_counters_that_agree(folder):
    """In mid-block each is what it was before its own instruction, to the cycle."""
    vm = machine_for("reader", 1, native_available(), False, folder)
    run_in_pieces(vm, LIMIT)
    kept = struct.unpack("<900Q", vm.engine.read(KEPT, 7200))
    for turn in range(300):
        assert kept[3 * turn + 2] == 7 + 14 * turn, "instructions since the monitor was switched on"
    assert vm.tolls is not None
    call = vm.tolls.costs.hvc * SIXTEENTHS
    turn = total(READER[-17:-3]) + call
    assert READER[-17] == mrs(1, PMCCNTR)
    monitor_on = READER.index(msr(PMCR, 0))
    for n in range(300):
        # The monitor counts whole cycles of the clock, from the one it was switched on in.
        began = total(READER[:monitor_on])
        now = total(READER[: len(READER) - 17]) + n * turn
        assert kept[3 * n] == now // SIXTEENTHS - began // SIXTEENTHS
        at_counter = now + total(READER[-17:-15])
        assert kept[3 * n + 1] == at_counter // SIXTEENTHS * 625 // 13_000


def test_the_interrupted_guest_is_interrupted(folder):
    """Else it would show nothing: each timer's tick, and the other vCPU's interrupts."""
    vm = machine_for("interrupted", 4, native_available(), False, folder)
    assert isinstance(run_in_pieces(vm, LIMIT), exits.SystemEvent)
    totals: dict[int, int] = {}
    for kind, key, _, calls, *_ in frames(vm.engine):
        if kind == 3 and key >= Event.INTERRUPT:
            totals[key] = totals.get(key, 0) + calls
    assert totals[Event.IPI] == TICKS
    assert totals[Event.INTERRUPT] >= 2 * TICKS - 2
    assert totals[Event.WAKE] > TICKS
    assert totals[Event.CPU_ON] == 1


# -- what really ran -------------------------------------------------------------------------------

RET, DSB = 0xD65F_03C0, 0xD503_3B9F
TLBI_VMALLE1 = 0xD508_871F
SITE = CODE + 0x1000
"""Where the code lies that changes, in a page of its own."""
OLD, NEW = movz(5, 0x1111), movz(5, 0x2222)
assert price(OLD) != price(NEW)


def blr(rn: int) -> int:
    return 0xD63F_0000 | rn << 5


def ic_ivau(rt: int) -> int:
    return 0xD50B_7520 | rt


def pair(*words: int) -> int:
    """Two words as a doubleword to store."""
    return int.from_bytes(code(*words), "little")


MAINTENANCE = {
    "as the architecture asks": [ic_ivau(3), DSB, ISB], "none but ISB": [ISB], "none": [],
}  # fmt: skip


@halves
@pytest.mark.parametrize("mmu", [False, True], ids=["mmu-off", "mmu-on"])
@pytest.mark.parametrize("after", MAINTENANCE.values(), ids=list(MAINTENANCE))
def test_code_that_the_guest_rewrites(native, after, mmu):
    """OLD and NEW in turn at one address, ten times."""
    one_turn = [store(1, 3), *after, blr(3), OLD, RET, store(2, 3), *after, blr(3), NEW, RET]
    loop = [word for word in one_turn if word not in (OLD, NEW, RET)] + [subs(9, 9, 1)]
    words = [*loop, b_if(NE, -len(loop)), WFI]
    engine = machine(native, *words)
    if mmu:
        turn_mmu_on(engine)
    engine.write(SITE, code(OLD, RET))
    for number, value in ((1, pair(OLD, RET)), (2, pair(NEW, RET)), (3, SITE), (9, 10)):
        engine.set(f"X{number}", value)
    by_word(engine)
    assert go(engine) is Stop.WFI
    assert engine.get("X5") == 0x2222
    assert elapsed(engine) == 10 * total([*one_turn, subs(9, 9, 1), b_if(NE, -len(loop))]) + total(
        [WFI]
    )


@halves
def test_code_that_the_host_rewrites_while_the_guest_calls(native):
    engine = machine(native, hvc(), OLD, subs(9, 9, 1), b_if(NE, -3), WFI)
    engine.set("X9", 4)
    by_word(engine)
    versions = [OLD, NEW, NEW, OLD]
    waiting = list(versions)

    def reply(*_: object) -> tuple[int, ...]:
        engine.write(CODE + 4, code(waiting.pop(0)))
        return ()

    assert go(engine, Recorder(reply)) is Stop.WFI
    each = [hvc(), subs(9, 9, 1), b_if(NE, -3)]
    assert elapsed(engine) == 4 * total(each) + total(versions) + total([WFI])


@halves
def test_code_that_the_host_rewrites_between_two_runs(native):
    """All translations are gone, and new ones lie where the old ones lay."""
    engine = machine(native, NOP)
    by_word(engine)
    expected = 0
    for value in range(50):
        engine.write(CODE, code(movz(5, value), NOP, WFI))
        engine.set("PC", CODE)
        assert go(engine) is Stop.WFI
        expected += total([movz(5, value), NOP, WFI])
        assert elapsed(engine) == expected


# -- one virtual address, several things -----------------------------------------------------------

PAGES = RAM + 0xA_0000
"""Code that is mapped at `UNMAPPED`: a page for each."""
PAGE_HERE, NOT_GLOBAL, NOT_EXECUTABLE = 1 << 10 | 3, 1 << 11, 1 << 53
"""Flags of a page descriptor: valid and accessed; nG; PXN (DDI 0487, D8.3)."""


def page_table(engine: Engine, root: int, physical: int, flags: int = 0) -> int:
    """Tables at `root` that map RAM as it is and one page at `UNMAPPED`; its descriptor's place."""
    block = 1 << 10 | 1
    engine.write(root, struct.pack("<Q", root + 0x1000 | 3))
    engine.write(root + 0x1000, struct.pack("<4Q", block, RAM | block, 0, root + 0x2000 | 3))
    engine.write(root + 0x2000, struct.pack("<Q", root + 0x3000 | 3))
    engine.write(root + 0x3000, struct.pack("<Q", physical | PAGE_HERE | flags))
    return root + 0x3000


def translated(native: bool, *words: int) -> Engine:
    """An engine with the MMU on and OLD and NEW in two pages; X3 is where one of them is mapped."""
    engine = machine(native, *words)
    turn_mmu_on(engine)
    engine.write(PAGES, code(OLD, RET))
    engine.write(PAGES + 0x1000, code(NEW, RET))
    engine.set("X3", UNMAPPED)
    by_word(engine)
    return engine


@halves
def test_a_page_that_is_mapped_anew(native):
    """OLD, NEW, OLD … at one virtual address, by a store to the table and TLBI."""
    call = [DSB, TLBI_VMALLE1, DSB, ISB, blr(3)]
    loop = [store(1, 4), *call, store(2, 4), *call, subs(9, 9, 1)]
    engine = translated(native, *loop, b_if(NE, -len(loop)), WFI)
    place = page_table(engine, TABLES, PAGES)
    descriptors = (PAGES | PAGE_HERE, PAGES + 0x1000 | PAGE_HERE)
    for number, value in zip((1, 2, 4, 9), (*descriptors, place, 20), strict=True):
        engine.set(f"X{number}", value)
    assert go(engine) is Stop.WFI
    assert engine.get("X5") == 0x2222
    each = [*loop, b_if(NE, -len(loop)), OLD, RET, NEW, RET]
    assert elapsed(engine) == 20 * total(each) + total([WFI])


@halves
def test_two_address_spaces_with_different_code_at_one_address(native):
    """By TTBR0_EL1 and its ASID alone: no TLBI, no maintenance."""
    switch = [msr(TTBR0_EL1, 1), ISB, blr(3), msr(TTBR0_EL1, 2), ISB, blr(3)]
    loop = [*switch, subs(9, 9, 1)]
    engine = translated(native, *loop, b_if(NE, -len(loop)), WFI)
    roots = (RAM + 0xB_0000, RAM + 0xC_0000)
    for root, page in zip(roots, (PAGES, PAGES + 0x1000), strict=True):
        page_table(engine, root, page, NOT_GLOBAL)
    for number, value in zip((1, 2, 9), (roots[0] | 1 << 48, roots[1] | 2 << 48, 20), strict=True):
        engine.set(f"X{number}", value)
    assert go(engine) is Stop.WFI
    assert engine.get("X5") == 0x2222
    each = [*loop, b_if(NE, -len(loop)), OLD, RET, NEW, RET]
    assert elapsed(engine) == 20 * total(each) + total([WFI])


@halves
def test_a_block_that_was_translated_and_did_not_begin(native):
    """A deadline came first, another address space ran a block at its address, and what is
    translated there now lies where other code of that address lay."""
    engine = translated(native, WFI)
    spaces = [engine.new_context(), engine.new_context()]
    for n, context in enumerate(spaces):
        root = RAM + 0xB_0000 + n * 0x1_0000
        page_table(engine, root, PAGES + n * 0x1000)
        engine.write(PAGES + n * 0x1000, code(movz(5, n), WFI))
        engine.set("TTBR0_EL1", root)
        engine.set("PC", UNMAPPED)
        engine.save(context)

    def run(space: int, until: int = NEVER) -> int:
        engine.restore(spaces[space])
        before = elapsed(engine)
        assert go(engine, until=until) is (Stop.WFI if until else Stop.DEADLINE)
        return elapsed(engine) - before

    code_of = [[movz(5, n), WFI] for n in range(2)]
    assert [run(0), run(1)] == list(map(total, code_of))
    code_of[1][0] = movz(5, 0x7777)
    engine.write(PAGES + 0x1000, code(*code_of[1]))
    assert run(0) == total(code_of[0])
    assert run(1, until=0) == 0
    assert run(0) == total(code_of[0])
    assert run(1) == total(code_of[1])
    assert engine.get("X5") == 0x7777


@halves
def test_lines_that_are_cleaned_one_by_one_with_code_run_between(native):
    """However little time that takes: a loop over lines is told by its instructions."""
    line = SITE + 64
    engine = machine(
        native, blr(4), store(1, 6), store(1, 6), ic_ivau(3), blr(4), store(2, 6), ic_ivau(4), DSB,
        ISB, blr(4), WFI,
    )  # fmt: skip
    turn_mmu_on(engine)
    page_table(engine, TABLES, SITE, NOT_EXECUTABLE)
    engine.write(line, code(OLD, RET))
    values = {1: pair(OLD, RET), 2: pair(NEW, RET), 3: SITE, 4: line, 6: UNMAPPED + 64}
    for number, value in values.items():
        engine.set(f"X{number}", value)
    engine.account(BlockCosts(Even(1)))
    assert go(engine) is Stop.WFI
    assert engine.get("X5") == 0x2222


# -- more code than Unicorn keeps ------------------------------------------------------------------

MUCH, MUCH_BASE = 3_000, 0x5000_0000
HOOK_EDGE = 1 << 15
"""unicorn.h: UC_HOOK_EDGE_GENERATED, called when a block was translated."""


EDGE_CALLBACK = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)


@halves
def test_translated_code_that_is_thrown_away(native):
    """So many blocks that its buffer is full several times: each is charged for what it is."""
    engine = machine(native, *mov(3, MUCH_BASE), movz(9, 3), blr(3), subs(9, 9, 1), b_if(NE, -2),
                     WFI)  # fmt: skip
    engine.map_ram(MUCH_BASE, 4 << 20)
    blocks = [[movz(5, n), *[store(5, 7)] * 60, b(1)] for n in range(MUCH)]
    words = [*(word for block in blocks for word in block), RET]
    engine.write(MUCH_BASE, code(*words))
    engine.set("X7", DATA)
    by_word(engine)
    translations = [0]

    def on_translated(*_: object) -> None:
        translations[0] += 1

    engine.cpu.hook(HOOK_EDGE, EDGE_CALLBACK(on_translated))
    assert go(engine) is Stop.WFI
    assert translations[0] > 2 * MUCH, "else nothing was thrown away"
    head = [*mov(3, MUCH_BASE), movz(9, 3), WFI]
    each = [blr(3), *words, subs(9, 9, 1), b_if(NE, -2)]
    assert elapsed(engine) == total(head) + 3 * total(each)
    assert elapsed(engine) == counted(engine)

"""Cycles that can be believed: the same whatever the half, the slices and who watches, and those
of what really ran.

The core model here charges each word by itself (timing_kit.py), so that a sum tells which words
were executed; what is promised of any model is that the sums are right, not what is in them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from emu import exits
from emu.charges import Charges
from emu.cost import SIXTEENTHS
from emu.engine import native_available
from emu.trace import TextTrace
from emu.vm import Vm
from engine_kit import (
    CNTVCT,
    NE,
    RAM,
    add,
    b_if,
    code,
    eor,
    halves,
    hvc,
    mov,
    movz,
    mrs,
    msr,
    store,
    subs,
)  # fmt: skip
from timing_kit import ByWord, counted, elapsed, frames, lines, total

GUESTS = Path(__file__).parent.parent / "guests" / "bin"
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


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reader") / "reader.bin"
    path.write_bytes(code(*READER))
    return path


@pytest.fixture(autouse=True)
def _by_word(monkeypatch):
    monkeypatch.setattr("emu.vm.charges_of", lambda _core: Charges(ByWord()))


def machine_for(name: str, cpus: int, native: bool, watched: bool, reader: Path) -> Vm:
    said: list[str] = []
    vm = Vm(
        GUESTS / f"{name}.elf" if name != "reader" else reader,
        load=None if name != "reader" else LOAD, cpus=cpus, native=native, core=CORE,
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
    vm.follow()
    return vm


def counters(vm: Vm) -> dict[str, Any]:
    """Every number there is to compare."""
    vm.board.leave(vm.machine.vcpus[vm.current])  # its monitor counts up to now
    assert vm.accounts is not None
    return {
        "stats": vm.stats(), "fraction": vm.engine.hooks.fraction, "lines": lines(vm.engine),
        "frames": frames(vm.engine), "calls": vm.accounts.calls, "counter": vm.clock.counter,
        "ns": vm.clock.nanoseconds, "stolen": [vcpu.stolen for vcpu in vm.machine.vcpus],
        "pmu": [vcpu.pmu.state for vcpu in vm.machine.vcpus],
        "timers": [vcpu.timers.state for vcpu in vm.machine.vcpus],
        "kept": vm.engine.read(KEPT, 3 * 8 * 300), "console": str(vm.console),
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


_references: dict[tuple[str, int], tuple[exits.Exit, dict[str, Any]]] = {}


def reference(name: str, cpus: int, reader: Path) -> tuple[exits.Exit, dict[str, Any]]:
    """The Python half, in one piece, with nobody who watches."""
    if (name, cpus) not in _references:
        vm = machine_for(name, cpus, False, False, reader)
        _references[name, cpus] = run_in_pieces(vm, LIMIT), counters(vm)
    return _references[name, cpus]


@halves
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "traced"])
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize(
    "name",
    ["hello", "hvc_loop", "exceptions", "psci_cpu_on", "stolen_time", "ptp", "trng", "reader"],
)
def test_every_counter_is_the_same_however_a_guest_is_run(
    name, cpus, piece, watched, native, reader
):
    vm = machine_for(name, cpus, native, watched, reader)
    exit = run_in_pieces(vm, piece)
    expected_exit, expected = reference(name, cpus, reader)
    found = counters(vm)
    for what, value in expected.items():
        assert found[what] == value, what
    assert (type(exit), exit.cycles) == (type(expected_exit), expected_exit.cycles)


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("name", ["hello", "hvc_loop", "psci_cpu_on", "exceptions", "reader"])
def test_nothing_is_lost_between_blocks_and_traps(name, cpus, reader):
    """The clock is the blocks, the traps, the exceptions and the time nobody ran."""
    vm = machine_for(name, cpus, native_available(), False, reader)
    idle = [0]
    vm.pace = lambda cycles: (idle.append(cycles), cycles)[1]
    run_in_pieces(vm, LIMIT)
    tree = vm.engine.hooks.frames()
    above = sum(sixteenths for kind, *_, sixteenths, _ in tree if kind == 3)
    taken = sum(calls for kind, _, _, calls, *_ in tree if kind == 2)
    entries = taken * vm.engine.hooks.exception_cost
    assert elapsed(vm.engine) == counted(vm.engine) + above + entries + sum(idle) * SIXTEENTHS
    assert elapsed(vm.engine) == sum(frame[4] for frame in tree) + sum(idle) * SIXTEENTHS
    assert vm.stats().instructions == sum(frame[5] for frame in tree)


def test_the_reader_reads_counters_that_agree(reader):
    """In mid-block each is what it was before its own instruction, to the cycle."""
    vm = machine_for("reader", 1, native_available(), False, reader)
    run_in_pieces(vm, LIMIT)
    kept = struct.unpack("<900Q", vm.engine.read(KEPT, 7200))
    for turn in range(300):
        assert kept[3 * turn + 2] == 7 + 14 * turn, "instructions since the monitor was switched on"
    assert vm.accounts is not None
    call = vm.accounts.costs.hvc * SIXTEENTHS
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

"""Where the cycles went: every sum is the clock's, by vCPU, function, exception, trap and block."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.smccc import Ret
from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import SMC_KEY, Event
from emu.cycles.tracks import FIQ, IRQ, SERROR, Frame, Kind
from emu.engine.engine import native_available
from emu.machine.vm import Vm
from emu.watch.ledger import NAMELESS, Ledger, exception_name, trap_name, with_below
from engine_kit import halves
from kit import CPU_ON, Watch
from places import GUESTS
from timing_kit import ByWord

LIMIT = 4_000_000


@pytest.fixture(autouse=True)
def _by_word(monkeypatch):
    monkeypatch.setattr("emu.machine.vm.block_costs_of", lambda *_: BlockCosts(ByWord()))


def spent(name: str, native: bool, **options: object) -> tuple[Vm, Ledger]:
    settings = {"core": "cortex-a53", "trap_costs": "kvm-vhe", "cpus": 2} | options
    vm = Vm(GUESTS / f"{name}.elf", native=native, **settings)  # type: ignore[arg-type]
    vm.follow()
    vm.run(LIMIT)
    return vm, Ledger(vm)


GUEST = pytest.mark.parametrize("name", ["hello", "psci_cpu_on", "exceptions", "stolen_time"])


@halves
@GUEST
def test_every_sum_is_the_clock(name, native):
    vm, ledger = spent(name, native)
    vcpus = list(ledger.vcpus())
    assert ledger.total == vm.clock.cycles * SIXTEENTHS + vm.engine.hooks.fraction
    assert sum(vcpu.within for vcpu in vcpus) + ledger.idle == ledger.total
    assert ledger.idle >= 0
    assert sum(vcpu.instructions for vcpu in vcpus) == vm.stats().instructions
    entries = vm.engine.hooks.exception_cost * sum(use.times for use in ledger.exceptions())
    traps = sum(f.sixteenths for f in ledger.frames if f.kind == Kind.TRAP)
    blocks = sum(block.spent for block in ledger.blocks)
    assert blocks + entries + traps + ledger.idle == ledger.total
    functions = ledger.functions()
    assert sum(use.own for use in functions) == blocks
    assert sum(use.instructions for use in functions) == vm.stats().instructions
    assert [use.own for use in functions] == sorted((use.own for use in functions), reverse=True)


@halves
def test_a_function_is_known_by_its_symbol_and_the_code_inside_it(native):
    vm, ledger = spent("hello", native)
    uses = {use.name: use for use in ledger.functions()}
    assert {"main", "strlen", "puts", "_start"} <= uses.keys()
    assert uses["main"].times == 1
    assert uses["main"].within > uses["main"].own
    assert uses["strlen"].times > 10
    assert uses["strlen"].within == uses["strlen"].own, "it calls nobody"
    at = vm.image.symbols.address("strlen")
    assert at is not None
    assert ledger.function_at(at) == ledger.function_at(at + 4) == "strlen"
    assert ledger.function_at(0x10) == NAMELESS


def test_blocks_the_dearest_first():
    _, ledger = spent("hello", native_available())
    costs = [block.spent for block in ledger.blocks]
    assert costs == sorted(costs, reverse=True)
    for block in ledger.blocks:
        assert block.spent <= block.charge.total * block.runs
        assert block.instructions <= len(block.charge.code) // 4 * block.runs


def test_unknown_words_are_counted_as_often_as_they_ran():
    _, ledger = spent("hello", native_available())
    assert ledger.unknown == sum(
        sum(int.from_bytes(b.charge.code[n : n + 4], "little") % 7 == 0
            for n in range(0, len(b.charge.code), 4)) * b.runs
        for b in ledger.blocks
    )  # fmt: skip
    assert ledger.unknown > 0


@halves
def test_calls_and_events_are_told_apart(native):
    watch = Watch()
    _, ledger = spent("psci_cpu_on", native, instruments=[watch])
    granted = [r for r in watch.calls if r.call.x[0] == CPU_ON and r.answer == Ret.success()]
    events = {use.name: use for use in ledger.events()}
    assert events["vCPU switched on"].times == len(granted) > 0
    assert events["device access, to the VMM"].times > 5
    calls = [f for f in ledger.frames if f.kind == Kind.TRAP and f.key < Event.INTERRUPT]
    assert calls
    assert not {trap_name(f.key) for f in calls} & events.keys()


@halves
def test_a_vcpu_that_is_switched_on_again_begins_at_the_top(native):
    """psci_cpu_on does so several times."""
    _, ledger = spent("psci_cpu_on", native)
    mains = [f for f in ledger.frames if ledger.name(f) == "secondary_main"]
    assert [(ledger.frames[f.parent].kind, f.calls > 1) for f in mains] == [(Kind.VCPU, True)]


def test_exceptions_by_class():
    _, ledger = spent("exceptions", native_available())
    uses = {use.name: use for use in ledger.exceptions()}
    assert len(uses) > 2
    for use in uses.values():
        assert use.name.startswith("<")
        assert use.within >= use.own > 0


# -- on paper --------------------------------------------------------------------------------------


def frame(kind: Kind, key: int, parent: int, calls: int = 1, own: int = 16) -> Frame:
    return Frame(kind, key, parent, calls, own, 1)


def paper(*frames: Frame) -> Ledger:
    """A machine with these frames, and no symbols."""
    hooks = SimpleNamespace(frames=lambda: frames, lines=list, fraction=3)
    nameless = SimpleNamespace(name=lambda _address: None)
    return Ledger(SimpleNamespace(  # type: ignore[arg-type]
        engine=SimpleNamespace(hooks=hooks, charges=BlockCosts(ByWord())),
        tolls=None, clock=SimpleNamespace(cycles=10), image=SimpleNamespace(symbols=nameless),
    ))  # fmt: skip


def test_a_frame_inside_its_like_counts_once():
    """Recursion: what is below is not told twice."""
    ledger = paper(
        frame(Kind.VCPU, 0, 0), frame(Kind.EXCEPTION, 0x15, 0), frame(Kind.FUNCTION, 8, 1),
        frame(Kind.EXCEPTION, 0x15, 2, calls=4), frame(Kind.EXCEPTION, 0x15, 0, calls=2),
    )  # fmt: skip
    (use,) = ledger.exceptions()
    assert (use.times, use.own, use.within) == (7, 48, 64)


def test_names_of_frames():
    ledger = paper(frame(Kind.VCPU, 3, 0))
    assert ledger.name(frame(Kind.VCPU, 3, 0)) == "vCPU 3"
    assert ledger.name(frame(Kind.FUNCTION, 0x4000, 0)) == "0x4000"
    assert ledger.name(frame(Kind.EXCEPTION, IRQ, 0)) == "<IRQ>"
    assert ledger.name(frame(Kind.TRAP, 0x8400_0000, 0)) == "[hvc PSCI_VERSION]"
    assert ledger.total == 163


@pytest.mark.parametrize(
    ("key", "name"), [(IRQ, "IRQ"), (FIQ, "FIQ"), (SERROR, "SError"), (0x3F, "class 0x3f")]
)
def test_exceptions_without_a_class_and_classes_without_a_name(key, name):
    assert exception_name(key) == name


def test_every_event_has_a_name_and_calls_tell_their_conduit():
    assert len({trap_name(event) for event in Event}) == len(Event)
    assert trap_name(0x8400_0008) == "hvc SYSTEM_OFF"
    assert trap_name(0x8400_0008 | SMC_KEY) == "smc SYSTEM_OFF"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 100)), min_size=1, max_size=40))
def test_what_is_below_is_in_each_that_is_above(drawn):
    frames = [
        frame(Kind.FUNCTION, 0, min(parent, n) if parent <= n else n, own=own)
        for n, (parent, own) in enumerate(drawn)
    ]
    within = with_below(frames, (f.sixteenths for f in frames))
    for n in range(len(frames)):
        below = []
        for m, f in enumerate(frames):
            at = m
            while at != n and frames[at].parent != at:
                at = frames[at].parent
            if at == n:
                below.append(f.sixteenths)
        assert within[n] == sum(below)

"""GICv2: register tables, banking, SGIs with their senders, groups, and a slow reference."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.arm.interrupts import LINES, SPURIOUS
from emu.base.errors import StateError
from emu.base.state import from_state, to_state
from emu.machine.devices.gic.gicv2 import GicV2, State

IGROUPR, ISENABLER, ISPENDR, ICPENDR, ISACTIVER = 0x80, 0x100, 0x200, 0x280, 0x300
IPRIORITYR, ITARGETSR, ICFGR, SGIR, CPENDSGIR, SPENDSGIR = 0x400, 0x800, 0xC00, 0xF00, 0xF10, 0xF20
CTLR, PMR, BPR, IAR, EOIR, RPR, HPPIR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18
ABPR, AIAR, AEOIR, AHPPIR = 0x1C, 0x20, 0x24, 0x28
APR0, NSAPR0, IIDR, DIR = 0xD0, 0xE0, 0xFC, 0x1000
ALL = 0xFFFF_FFFF
ACKCTL, FIQEN, CBPR, EOIMODE = 4, 8, 0x10, 0x200
SGI, PPI, SPI = 3, 27, 40
OTHER_GROUP = 1022


class Machine:
    """A controller and the accesses of a guest in one word each."""

    def __init__(self, cpus: int = 2, state: State | None = None) -> None:
        self.changes = 0
        self.gic = GicV2(cpus, self.change, state)

    def change(self) -> None:
        self.changes += 1

    def on(self, control: int = 3) -> Machine:
        self.set(0, 3)
        for cpu in range(self.gic.vcpus):
            self.write(PMR, 0xF8, cpu)
            self.write(CTLR, control, cpu)
        return self

    def set(self, offset: int, value: int, cpu: int = 0, width: int = 4) -> None:
        self.gic.current = cpu
        self.gic.distributor.write(offset, width, value)

    def get(self, offset: int, cpu: int = 0, width: int = 4) -> int:
        self.gic.current = cpu
        return self.gic.distributor.read(offset, width)

    def write(self, offset: int, value: int, cpu: int = 0) -> None:
        self.gic.current = cpu
        self.gic.cpu_interface.write(offset, 4, value)

    def read(self, offset: int, cpu: int = 0) -> int:
        self.gic.current = cpu
        return self.gic.cpu_interface.read(offset, 4)

    def bit(self, kind: int, intid: int, cpu: int = 0) -> None:
        self.set(kind + intid // 32 * 4, 1 << intid % 32, cpu)

    def raised(self, intid: int, cpu: int = 0, priority: int = 0x80) -> Machine:
        """An enabled level interrupt whose line is high; an SPI goes to this vCPU."""
        self.set(IPRIORITYR + intid, priority, cpu, 1)
        self.set(ITARGETSR + intid, 1 << cpu, cpu, 1)
        self.bit(ISENABLER, intid, cpu)
        self.gic.set_level(intid, True, cpu)
        return self


DISTRIBUTOR = [
    ("GICD_CTLR", 0x000, 0, 3),
    ("GICD_TYPER", 0x004, 0x28, 0x28),
    ("GICD_IIDR", 0x008, 0x4B00_343B, 0x4B00_343B),
    ("GICD_IGROUPR0", 0x080, 0, ALL),
    ("GICD_IGROUPR8", 0x0A0, 0, ALL),
    ("GICD_IGROUPR9", 0x0A4, 0, 0),
    ("GICD_ISENABLER0", 0x100, 0xFFFF, ALL),
    ("GICD_ICENABLER0", 0x180, 0xFFFF, 0),
    ("GICD_ISPENDR0", 0x200, 0, 0xFFFF_0000),
    ("GICD_ISACTIVER1", 0x304, 0, ALL),
    ("GICD_IPRIORITYR0", 0x400, 0, 0xF8F8_F8F8),
    ("GICD_IPRIORITYR71", 0x51C, 0, 0xF8F8_F8F8),
    ("GICD_IPRIORITYR72", 0x520, 0, 0),
    ("GICD_ITARGETSR0", 0x800, 0x0101_0101, 0x0101_0101),
    ("GICD_ITARGETSR7", 0x81C, 0x0101_0101, 0x0101_0101),
    ("GICD_ITARGETSR8", 0x820, 0, 0x0303_0303),
    ("GICD_ITARGETSR71", 0x91C, 0, 0x0303_0303),
    ("GICD_ITARGETSR72", 0x920, 0, 0),
    ("GICD_ICFGR0", 0xC00, 0xAAAA_AAAA, 0xAAAA_AAAA),
    ("GICD_ICFGR1", 0xC04, 0, 0),
    ("GICD_ICFGR2", 0xC08, 0, 0xAAAA_AAAA),
    ("GICD_NSACR0", 0xE00, 0, 0),
    ("GICD_SGIR", 0xF00, 0, 0),
    ("GICD_SPENDSGIR0", 0xF20, 0, 0x0303_0303),
    ("ICPIDR4", 0xFD0, 0x04, 0x04),
    ("ICPIDR2", 0xFE8, 0x2B, 0x2B),
    ("ICCIDR3", 0xFFC, 0xB1, 0xB1),
    ("beyond", 0x1000, 0, 0),
]
INTERFACE = [
    ("GICC_CTLR", CTLR, 0, 0x21F),
    ("GICC_PMR", PMR, 0, 0xF8),
    ("GICC_BPR", BPR, 2, 7),
    ("GICC_IAR", IAR, SPURIOUS, SPURIOUS),
    ("GICC_RPR", RPR, 0xFF, 0xFF),
    ("GICC_HPPIR", HPPIR, SPURIOUS, SPURIOUS),
    ("GICC_ABPR", ABPR, 3, 7),
    ("GICC_AIAR", AIAR, SPURIOUS, SPURIOUS),
    ("GICC_AHPPIR", AHPPIR, SPURIOUS, SPURIOUS),
    ("GICC_APR0", APR0, 0, ALL),
    ("GICC_APR1", APR0 + 4, 0, 0),
    ("GICC_NSAPR0", NSAPR0, 0, ALL),
    ("GICC_IIDR", IIDR, 0x04B2_043B, 0x04B2_043B),
    ("GICC_DIR", DIR, 0, 0),
]


@pytest.mark.parametrize(("name", "offset", "reset", "written"), DISTRIBUTOR)
def test_distributor(name, offset, reset, written):
    machine = Machine()
    assert machine.get(offset) == reset
    machine.set(offset, ALL)
    assert machine.get(offset) == written


@pytest.mark.parametrize(("name", "offset", "reset", "written"), INTERFACE)
def test_interface(name, offset, reset, written):
    machine = Machine()
    assert machine.read(offset) == reset
    machine.write(offset, ALL)
    assert machine.read(offset) == written
    assert machine.read(offset, 1) == reset


def test_private_registers_are_banked():
    machine = Machine()
    machine.set(ISENABLER, 1 << PPI, cpu=1)
    machine.set(IPRIORITYR + PPI, 0x40, cpu=1, width=1)
    assert (machine.get(ISENABLER, 0), machine.get(ISENABLER, 1)) == (0xFFFF, 0x800_FFFF)
    assert (machine.get(IPRIORITYR + PPI, 0, 1), machine.get(IPRIORITYR + PPI, 1, 1)) == (0, 0x40)
    assert machine.get(ITARGETSR, 1) == 0x0202_0202


@pytest.mark.parametrize("cpus", [0, 9])
def test_one_to_eight_vcpus(cpus):
    with pytest.raises(ValueError, match="1 to 8 vCPUs"):
        GicV2(cpus)


# -- the life of an interrupt --------------------------------------------------------------


def test_group_0_is_an_irq_until_fiqen():
    machine = Machine().on().raised(SPI)
    assert (machine.gic.asserted, machine.gic.asserted_fiq) == (1, 0)
    machine.write(CTLR, 3 | FIQEN)
    assert (machine.gic.asserted, machine.gic.asserted_fiq) == (0, 1)
    machine.bit(IGROUPR, SPI)
    assert (machine.gic.asserted, machine.gic.asserted_fiq) == (1, 0)


def test_acknowledge_and_end():
    machine = Machine().on().raised(SPI)
    assert machine.read(HPPIR) == SPI
    assert machine.read(IAR) == SPI
    assert machine.gic.asserted == 0
    assert machine.read(RPR) == 0x80
    assert machine.read(APR0) == 1 << 16
    machine.write(EOIR, SPI)
    assert machine.gic.asserted == 1
    machine.gic.set_level(SPI, False)
    assert machine.read(IAR) == SPURIOUS


def test_an_edge_and_the_mode_of_two_steps():
    machine = Machine().on(3 | EOIMODE)
    machine.set(ICFGR + SPI // 16 * 4, 2 << SPI % 16 * 2)
    machine.raised(SPI)
    machine.gic.set_level(SPI, False)
    assert machine.read(IAR) == SPI
    machine.write(EOIR, SPI)
    assert machine.read(RPR) == 0xFF
    assert machine.get(ISACTIVER + 4) == 1 << SPI - 32
    machine.write(DIR, SPI)
    assert machine.get(ISACTIVER + 4) == 0
    assert machine.gic.asserted == 0


def test_group_1_needs_its_own_registers():
    machine = Machine().on().raised(SPI)
    machine.bit(IGROUPR, SPI)
    assert machine.gic.asserted == 1
    assert machine.read(IAR) == OTHER_GROUP
    assert machine.read(HPPIR) == OTHER_GROUP
    assert machine.read(AHPPIR) == SPI
    assert machine.read(AIAR) == SPI
    assert machine.read(NSAPR0) == 1 << 16
    machine.write(AEOIR, SPI)
    assert machine.gic.asserted == 1
    machine.write(PMR, 0x80)
    assert machine.read(IAR) == SPURIOUS


def test_group_1_with_ackctl():
    machine = Machine().on(3 | ACKCTL).raised(SPI)
    machine.bit(IGROUPR, SPI)
    assert machine.read(HPPIR) == SPI
    assert machine.read(IAR) == SPI
    machine.write(EOIR, SPI)
    assert machine.gic.asserted == 1


def test_group_0_is_not_for_the_alias():
    machine = Machine().on().raised(SPI)
    assert machine.read(AHPPIR) == SPURIOUS
    assert machine.read(AIAR) == SPURIOUS


def test_a_common_binary_point():
    machine = Machine().on(3 | CBPR)
    machine.write(BPR, 4)
    assert machine.read(ABPR) == 5


# -- who gets it ---------------------------------------------------------------------------


def test_the_least_target_gets_it():
    machine = Machine(3).on().raised(SPI)
    for targets, asserted in ((0b110, 0b010), (0b100, 0b100), (0, 0), (0xF8, 0), (0b111, 0b001)):
        machine.set(ITARGETSR + SPI, targets, width=1)
        assert machine.gic.asserted == asserted


def test_a_single_vcpu_needs_no_target():
    machine = Machine(1).on().raised(SPI)
    machine.set(ITARGETSR + SPI, 0, width=1)
    assert machine.gic.asserted == 1


@pytest.mark.parametrize(
    ("value", "targets"),
    [(0b101 << 16, 0b101), (0xFF << 16, 0b111), (1 << 24, 0b101), (2 << 24, 0b010), (3 << 24, 0)],
)
def test_sgi_filters(value, targets):
    machine = Machine(3).on()
    machine.set(SGIR, value | SGI, cpu=1)
    assert machine.gic.asserted == targets


def test_an_sgi_is_taken_once_for_each_sender():
    machine = Machine(3).on()
    for sender in (2, 1, 2):
        machine.set(SGIR, 1 << 16 | SGI, cpu=sender)
    assert machine.get(SPENDSGIR) == 0b110 << 24
    assert machine.get(ISPENDR) == 1 << SGI
    assert machine.read(HPPIR) == 1 << 10 | SGI
    assert machine.read(IAR) == 1 << 10 | SGI
    assert machine.gic.asserted == 0
    machine.write(EOIR, 1 << 10 | SGI)
    assert machine.read(IAR) == 2 << 10 | SGI
    assert machine.get(CPENDSGIR) == 0
    machine.write(EOIR, 2 << 10 | SGI)
    assert machine.read(IAR) == SPURIOUS


def test_sgis_are_made_pending_by_their_senders_only():
    machine = Machine().on()
    machine.set(ISPENDR, ALL)
    assert machine.gic.asserted == 0
    machine.set(SPENDSGIR + SGI, 0b11, width=1)
    assert machine.gic.asserted == 1
    machine.set(ICPENDR, ALL)
    machine.set(CPENDSGIR + SGI, 0b01, width=1)
    assert machine.gic.asserted == 1
    machine.set(CPENDSGIR + SGI, 0b10, width=1)
    assert machine.gic.asserted == 0


# -- what the machine is told --------------------------------------------------------------


def test_changes_are_told():
    machine = Machine().on()
    assert machine.changes == 0
    machine.raised(SPI)
    machine.raised(PPI)
    assert machine.changes == 1
    machine.read(IAR)
    assert machine.changes == 2


def test_a_saved_state_of_another_machine_is_refused():
    state = Machine(2).gic.state
    with pytest.raises(StateError, match="number of vCPUs"):
        Machine(3, state)
    state.banked[1].sources.pop()
    with pytest.raises(StateError, match="number of SGIs"):
        Machine(2, state)
    state.targets.pop()
    with pytest.raises(StateError, match="targets"):
        Machine(2, state)


def test_a_restored_controller_signals_what_was_signalled_without_telling():
    machine = Machine().on().raised(SPI)
    copy = Machine(2, machine.gic.state)
    assert (copy.gic.asserted, copy.changes) == (1, 0)


@given(st.integers(0, 0x2FFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
def test_no_access_fails(offset, width, value):
    machine = Machine(8)
    for device in (machine.gic.distributor, machine.gic.cpu_interface):
        device.write(offset, width, value)
        assert 0 <= device.read(offset, width) < 1 << 8 * width


# -- the reference -------------------------------------------------------------------------


class Reference:
    """The specification in sets, recomputed from the start for every question."""

    def __init__(self, cpus: int) -> None:
        self.cpus = range(cpus)
        self.line, self.sent, self.active, self.group1 = set(), set(), set(), set()
        self.prio, self.targets = {}, {}
        self.control = [3 for _ in self.cpus]
        self.stack = [[] for _ in self.cpus]

    def key(self, cpu, intid):
        return (cpu, intid) if intid < 32 else (None, intid)

    def senders(self, key):
        return [c for c in self.cpus if (*key, c) in self.sent]

    def waiting(self, cpu):
        keys = [(cpu, n) for n in range(32)]
        keys += [(None, n) for n in range(32, 64) if self.first_target(n) == cpu]
        ready = [k for k in keys if (k in self.line or self.senders(k)) and k not in self.active]
        return sorted(ready, key=lambda k: (self.prio.get(k, 0), k[1]))

    def first_target(self, intid):
        return next((c for c in self.cpus if self.targets.get(intid, 0) >> c & 1), None)

    def signalled(self, cpu):
        for key in self.waiting(cpu)[:1]:
            if self.prio.get(key, 0) < min((p for p, _ in self.stack[cpu]), default=0xF8):
                return key
        return None

    def asserted(self, fiq):
        result = 0
        for cpu in self.cpus:
            key = self.signalled(cpu)
            if key is not None:
                as_fiq = key not in self.group1 and bool(self.control[cpu] & FIQEN)
                result |= (as_fiq == fiq) << cpu
        return result

    def acknowledge(self, cpu, alias):
        key = self.signalled(cpu)
        if key is None:
            return SPURIOUS
        if key in self.group1 and not alias and not self.control[cpu] & ACKCTL:
            return OTHER_GROUP
        if key not in self.group1 and alias:
            return SPURIOUS
        self.active.add(key)
        self.stack[cpu].append((self.prio.get(key, 0), key in self.group1))
        if key[1] >= 16:
            return key[1]
        sender = self.senders(key)[0]
        self.sent.discard((*key, sender))
        return sender << 10 | key[1]

    def end(self, cpu, alias, intid):
        key, stack = self.key(cpu, intid), self.stack[cpu]
        ran = min(stack, default=(0xFF, False), key=lambda p: (p[0], not p[1]))
        if stack:
            stack.remove(ran)
        both = self.control[cpu] & ACKCTL and not alias
        fits = both or (key in self.group1) == alias
        if fits and self.prio.get(key, 0) == ran[0] and not self.control[cpu] & EOIMODE:
            self.active.discard(key)


CPUS = 3
cpu_ids = st.integers(0, CPUS - 1)
sgis, lined = st.integers(0, 2), st.sampled_from([16, 31, 32, 33])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("level"), cpu_ids, lined, st.sampled_from([True, True, False])),
        st.tuples(st.just("prio"), cpu_ids, sgis | lined, st.sampled_from([0x20, 0x40, 0x80])),
        st.tuples(st.just("group"), cpu_ids, sgis | lined, st.booleans()),
        st.tuples(st.just("target"), st.just(0), st.sampled_from([32, 33]), st.integers(0, 7)),
        st.tuples(st.just("sgi"), cpu_ids, sgis, st.integers(0, 7)),
        st.tuples(st.just("ack"), cpu_ids, st.just(0), st.booleans()),
        st.tuples(st.just("take"), cpu_ids, st.just(0), st.none()),
        st.tuples(st.just("take"), cpu_ids, st.just(0), st.none()),
        st.tuples(st.just("eoi"), cpu_ids, sgis | lined, st.booleans()),
        st.tuples(st.just("last"), cpu_ids, st.just(0), st.none()),
        st.tuples(st.just("dir"), cpu_ids, sgis | lined, st.none()),
        st.tuples(st.just("control"), cpu_ids, st.just(0),
                  st.sampled_from([3, 3 | ACKCTL, 3 | FIQEN, 3 | ACKCTL | EOIMODE])),
    ),
    min_size=20,
    max_size=60,
)  # fmt: skip


class Both:
    """Does every step to the controller and to the reference."""

    def __init__(self) -> None:
        self.machine = Machine(CPUS).on()
        self.reference = Reference(CPUS)
        self.taken: list[list[tuple[int, bool]]] = [[] for _ in range(CPUS)]
        self.machine.set(ISENABLER + 4, ALL)
        for cpu in range(CPUS):
            self.machine.set(ISENABLER, ALL, cpu)

    def step(self, what, cpu, intid, value):
        getattr(self, "do_" + what)(cpu, intid, value)

    def do_level(self, cpu, intid, value):
        self.machine.gic.set_level(intid, value, cpu)
        line = self.reference.line
        (line.add if value else line.discard)(self.reference.key(cpu, intid))

    def do_prio(self, cpu, intid, value):
        self.machine.set(IPRIORITYR + intid, value, cpu, 1)
        self.reference.prio[self.reference.key(cpu, intid)] = value

    def do_group(self, cpu, intid, value):
        offset, bit = IGROUPR + intid // 32 * 4, 1 << intid % 32
        old = self.machine.get(offset, cpu)
        self.machine.set(offset, old | bit if value else old & ~bit, cpu)
        group1 = self.reference.group1
        (group1.add if value else group1.discard)(self.reference.key(cpu, intid))

    def do_target(self, cpu, intid, value):
        self.machine.set(ITARGETSR + intid, value, cpu, 1)
        self.reference.targets[intid] = value

    def do_sgi(self, cpu, intid, value):
        self.machine.set(SGIR, value << 16 | intid, cpu)
        self.reference.sent |= {(c, intid, cpu) for c in range(CPUS) if value >> c & 1}

    def do_ack(self, cpu, intid, alias):
        taken = self.machine.read(AIAR if alias else IAR, cpu)
        assert taken == self.reference.acknowledge(cpu, alias)
        if taken not in (SPURIOUS, OTHER_GROUP):
            self.taken[cpu].append((taken, alias))

    def do_take(self, cpu, intid, value):
        """As a handler does: by the register that reaches what waits."""
        self.do_ack(cpu, intid, self.machine.read(HPPIR, cpu) == OTHER_GROUP)

    def do_eoi(self, cpu, intid, alias):
        self.machine.write(AEOIR if alias else EOIR, intid, cpu)
        self.reference.end(cpu, alias, intid & 0x3FF)

    def do_last(self, cpu, intid, value):
        if self.taken[cpu]:
            self.do_eoi(cpu, *self.taken[cpu].pop())

    def do_dir(self, cpu, intid, value):
        self.machine.write(DIR, intid, cpu)
        if self.reference.control[cpu] & EOIMODE:
            self.reference.active.discard(self.reference.key(cpu, intid))

    def do_control(self, cpu, intid, value):
        self.machine.write(CTLR, value, cpu)
        self.reference.control[cpu] = value

    def compare(self) -> None:
        assert self.machine.gic.asserted == self.reference.asserted(fiq=False)
        assert self.machine.gic.asserted_fiq == self.reference.asserted(fiq=True)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_it_does_what_the_reference_does(steps):
    both = Both()
    for step in steps:
        both.step(*step)
        both.compare()


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_the_state_is_all_there_is(steps):
    both = Both()
    for step in steps:
        both.step(*step)
        state = from_state(State, json.loads(json.dumps(to_state(both.machine.gic.state))))
        assert state == both.machine.gic.state
        both.machine = Machine(CPUS, state)
        both.compare()


def test_only_ppis_and_spis_have_lines():
    with pytest.raises(ValueError, match="no input line"):
        Machine().gic.set_level(LINES, True)

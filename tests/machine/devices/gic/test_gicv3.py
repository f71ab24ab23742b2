"""GICv3: register tables, the life of an interrupt as IHI 0069 tells it, and a slow reference."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.arm import icc
from emu.arm.arch import SysReg, mpidr
from emu.arm.interrupts import LINES, SPURIOUS
from emu.base.errors import StateError
from emu.base.state import from_state, to_state
from emu.machine.devices.gic.gicv3 import REDISTRIBUTOR, GicV3, State

CTLR, TYPER, IGROUPR, ISENABLER, ICENABLER = 0x0, 0x4, 0x80, 0x100, 0x180
ISPENDR, ICPENDR, ISACTIVER, ICACTIVER = 0x200, 0x280, 0x300, 0x380
IPRIORITYR, ICFGR, IROUTER = 0x400, 0xC00, 0x6000
WAKER, SGI_BASE = 0x14, 0x10000
ALL = 0xFFFF_FFFF
SGI, PPI, SPI = 3, 27, 40
IRM = 1 << 31


class Machine:
    """A controller with everything on, and the accesses of a guest in one word each."""

    def __init__(self, cpus: int = 2, state: State | None = None) -> None:
        self.changes = 0
        self.gic = GicV3([mpidr(n) for n in range(cpus)], self.change, state)

    def change(self) -> None:
        self.changes += 1

    def on(self) -> Machine:
        self.gic.distributor.write(CTLR, 4, 3)
        for cpu in range(len(self.gic.affinities)):
            self.gic.redistributors.write(cpu * REDISTRIBUTOR + WAKER, 4, 0)
            self.write(cpu, icc.ICC_PMR_EL1, 0xF8)
            self.write(cpu, icc.ICC_IGRPEN0_EL1, 1)
            self.write(cpu, icc.ICC_IGRPEN1_EL1, 1)
        return self

    def frame(self, cpu: int, intid: int):
        if intid >= 32:
            return self.gic.distributor, 0
        return self.gic.redistributors, cpu * REDISTRIBUTOR + SGI_BASE

    def bit(self, kind: int, intid: int, cpu: int = 0) -> None:
        """Write one bit to a register of bits: ISENABLER and so on."""
        device, base = self.frame(cpu, intid)
        device.write(base + kind + intid // 32 * 4, 4, 1 << intid % 32)

    def is_set(self, kind: int, intid: int, cpu: int = 0) -> bool:
        device, base = self.frame(cpu, intid)
        return bool(device.read(base + kind + intid // 32 * 4, 4) >> intid % 32 & 1)

    def group(self, intid: int, group: int, cpu: int = 0) -> None:
        device, base = self.frame(cpu, intid)
        offset = base + IGROUPR + intid // 32 * 4
        bit = 1 << intid % 32
        old = device.read(offset, 4)
        device.write(offset, 4, old | bit if group else old & ~bit)

    def priority(self, intid: int, value: int, cpu: int = 0) -> None:
        device, base = self.frame(cpu, intid)
        device.write(base + IPRIORITYR + intid, 1, value)

    def edge(self, intid: int) -> None:
        self.gic.distributor.write(ICFGR + intid // 16 * 4, 4, 2 << intid % 16 * 2)

    def route(self, intid: int, value: int) -> None:
        self.gic.distributor.write(IROUTER + 8 * intid, 8, value)

    def read(self, cpu: int, key: SysReg) -> int:
        value = self.gic.read_register(cpu, key)
        assert value is not None
        return value

    def write(self, cpu: int, key: SysReg, value: int) -> None:
        assert self.gic.write_register(cpu, key, value)

    def take(self, cpu: int = 0) -> int:
        return self.read(cpu, icc.ICC_IAR1_EL1)

    def end(self, intid: int, cpu: int = 0) -> None:
        self.write(cpu, icc.ICC_EOIR1_EL1, intid)

    def raised(self, intid: int, cpu: int = 0, priority: int = 0x80) -> Machine:
        """An enabled level interrupt whose line is high."""
        self.priority(intid, priority, cpu)
        self.bit(ISENABLER, intid, cpu)
        self.gic.set_level(intid, True, cpu)
        return self


# -- what the registers are ----------------------------------------------------------------

DISTRIBUTOR = [
    ("GICD_CTLR", 0x0000, 0x50),
    ("GICD_TYPER", 0x0004, 9 << 19 | 8),
    ("GICD_IIDR", 0x0008, 0x4B00_343B),
    ("GICD_TYPER2", 0x000C, 0),
    ("GICD_STATUSR", 0x0010, 0),
    ("GICD_IGROUPR0", 0x0080, 0),
    ("GICD_IGROUPR1", 0x0084, ALL),
    ("GICD_IGROUPR8", 0x00A0, ALL),
    ("GICD_IGROUPR9", 0x00A4, 0),
    ("GICD_ISENABLER1", 0x0104, 0),
    ("GICD_IPRIORITYR8", 0x0420, 0),
    ("GICD_ITARGETSR8", 0x0820, 0),
    ("GICD_ICFGR0", 0x0C00, 0),
    ("GICD_ICFGR2", 0x0C08, 0),
    ("GICD_IGRPMODR1", 0x0D04, 0),
    ("GICD_NSACR2", 0x0E08, 0),
    ("GICD_IROUTER32", 0x6100, 0),
    ("GICD_PIDR4", 0xFFD0, 0x44),
    ("GICD_PIDR0", 0xFFE0, 0x92),
    ("GICD_PIDR2", 0xFFE8, 0x3B),
    ("GICD_CIDR3", 0xFFFC, 0xB1),
]
REDISTRIBUTORS = [
    ("GICR_CTLR", 0x0000, 6),
    ("GICR_IIDR", 0x0004, 0x4B00_043B),
    ("GICR_TYPER", 0x0008, 0x0000),
    ("GICR_TYPER+4", 0x000C, 0),
    ("GICR_STATUSR", 0x0010, 0),
    ("GICR_WAKER", 0x0014, 6),
    ("GICR_SYNCR", 0x00C0, 0),
    ("GICR_PIDR0", 0xFFE0, 0x93),
    ("GICR_PIDR2", 0xFFE8, 0x3B),
    ("GICR_IGROUPR0", 0x10080, ALL),
    ("GICR_ISENABLER0", 0x10100, 0xFFFF),
    ("GICR_IGROUPR1", 0x10084, 0),
    ("GICR_IPRIORITYR0", 0x10400, 0),
    ("GICR_ICFGR0", 0x10C00, 0xAAAA_AAAA),
    ("GICR_ICFGR1", 0x10C04, 0),
    ("GICR_IGRPMODR0", 0x10D00, 0),
    ("GICR_NSACR", 0x10E00, 0),
    ("GICR_TYPER of the last", 0x20008, 0x110),
    ("GICR_TYPER+4 of the last", 0x2000C, 1),
    ("beyond the last", 0x40008, 0),
]


@pytest.mark.parametrize(("name", "offset", "value"), DISTRIBUTOR)
def test_distributor_after_reset(name, offset, value):
    assert Machine().gic.distributor.read(offset, 4) == value


@pytest.mark.parametrize(("name", "offset", "value"), REDISTRIBUTORS)
def test_redistributors_after_reset(name, offset, value):
    assert Machine().gic.redistributors.read(offset, 4) == value


def test_typer_in_one_access_and_with_all_affinities():
    assert Machine().gic.redistributors.read(REDISTRIBUTOR + 8, 8) == 1 << 32 | 0x110
    gic = GicV3([0x8000_0000, 0x12_8034_5678])
    assert gic.redistributors.read(REDISTRIBUTOR + 8, 8) == 0x1234_5678_0000_0110
    assert gic.distributor.read(TYPER, 4) == 1 << 26 | 1 << 24 | 9 << 19 | 8
    assert gic.read_register(0, icc.ICC_CTLR_EL1) == 1 << 18 | 1 << 15 | 4 << 8


WRITTEN = [
    ("GICD_CTLR", CTLR, 0x53),
    ("GICD_TYPER", TYPER, 9 << 19 | 8),
    ("GICD_IGROUPR1", 0x84, ALL),
    ("GICD_ISENABLER0", 0x100, 0),
    ("GICD_ISENABLER8", 0x120, ALL),
    ("GICD_ISENABLER9", 0x124, 0),
    ("GICD_IPRIORITYR0", 0x400, 0),
    ("GICD_IPRIORITYR71", 0x51C, 0xF8F8_F8F8),
    ("GICD_IPRIORITYR72", 0x520, 0),
    ("GICD_ITARGETSR8", 0x820, 0),
    ("GICD_ICFGR1", 0xC04, 0),
    ("GICD_ICFGR2", 0xC08, 0xAAAA_AAAA),
    ("GICD_ICFGR17", 0xC44, 0xAAAA_AAAA),
    ("GICD_ICFGR18", 0xC48, 0),
    ("GICD_IGRPMODR1", 0xD04, 0),
    ("GICD_IROUTER31", 0x60F8, 0),
    ("GICD_IROUTER32", 0x6100, 0x80FF_FFFF),
    ("GICD_IROUTER32+4", 0x6104, 0),
    ("GICD_IROUTER287", 0x68F8, 0x80FF_FFFF),
    ("GICD_IROUTER288", 0x6900, 0),
]


@pytest.mark.parametrize(("name", "offset", "value"), WRITTEN)
def test_what_a_written_register_keeps(name, offset, value):
    distributor = Machine().gic.distributor
    distributor.write(offset, 4, ALL)
    assert distributor.read(offset, 4) == value


INTERFACE = [
    ("PMR", icc.ICC_PMR_EL1, 0, 0xF8),
    ("BPR0", icc.ICC_BPR0_EL1, 2, 7),
    ("BPR1", icc.ICC_BPR1_EL1, 3, 7),
    ("AP0R0", icc.ICC_AP0R0_EL1, 0, ALL),
    ("AP1R0", icc.ICC_AP1R0_EL1, 0, ALL),
    ("CTLR", icc.ICC_CTLR_EL1, 0x400, 0x403),
    ("SRE", icc.ICC_SRE_EL1, 7, 7),
    ("IGRPEN0", icc.ICC_IGRPEN0_EL1, 0, 1),
    ("IGRPEN1", icc.ICC_IGRPEN1_EL1, 0, 1),
]


@pytest.mark.parametrize(("name", "key", "reset", "written"), INTERFACE)
def test_interface_registers(name, key, reset, written):
    machine = Machine()
    assert machine.read(0, key) == reset
    machine.write(0, key, 2**64 - 1)
    assert machine.read(0, key) == written
    assert machine.read(1, key) == reset
    machine.write(0, key, 0)
    assert machine.read(0, key) == {"BPR0": 2, "BPR1": 3, "CTLR": 0x400, "SRE": 7}.get(name, 0)


READ_ONLY = (icc.ICC_IAR0_EL1, icc.ICC_IAR1_EL1, icc.ICC_HPPIR0_EL1, icc.ICC_HPPIR1_EL1,
             icc.ICC_RPR_EL1)  # fmt: skip
WRITE_ONLY = (icc.ICC_EOIR0_EL1, icc.ICC_EOIR1_EL1, icc.ICC_DIR_EL1, icc.ICC_SGI0R_EL1,
              icc.ICC_SGI1R_EL1, icc.ICC_ASGI1R_EL1)  # fmt: skip


def test_what_is_undefined():
    gic = Machine().gic
    assert not any(gic.write_register(0, key, 0) for key in READ_ONLY)
    assert all(gic.read_register(0, key) is None for key in WRITE_ONLY)
    for key in (SysReg(3, 0, 12, 8, 5), SysReg(3, 0, 12, 9, 1), SysReg(3, 0, 12, 0, 0)):
        assert gic.read_register(0, key) is None
        assert not gic.write_register(0, key, 0)


def test_a_common_binary_point_hides_that_of_group_1():
    machine = Machine()
    machine.write(0, icc.ICC_BPR1_EL1, 5)
    machine.write(0, icc.ICC_CTLR_EL1, 1)
    machine.write(0, icc.ICC_BPR1_EL1, 7)
    assert machine.read(0, icc.ICC_BPR1_EL1) == 3
    machine.write(0, icc.ICC_BPR0_EL1, 7)
    assert machine.read(0, icc.ICC_BPR1_EL1) == 7
    machine.write(0, icc.ICC_CTLR_EL1, 0)
    assert machine.read(0, icc.ICC_BPR1_EL1) == 5


def test_bytes_of_priorities_only():
    gic = Machine().gic
    gic.distributor.write(IPRIORITYR + 41, 1, 0xA4)
    gic.distributor.write(ISENABLER + 5, 1, 0xFF)
    gic.redistributors.write(SGI_BASE + IPRIORITYR + 2, 1, 0x47)
    assert gic.distributor.read(IPRIORITYR + 40, 4) == 0xA000
    assert gic.distributor.read(IPRIORITYR + 41, 1) == 0xA0
    assert gic.distributor.read(ISENABLER + 4, 4) == 0
    assert gic.redistributors.read(SGI_BASE + IPRIORITYR, 8) == 0x40_0000


# -- the life of an interrupt --------------------------------------------------------------


def test_a_level_interrupt_is_pending_for_as_long_as_its_line_is_high():
    machine = Machine().on().raised(PPI, cpu=1)
    assert machine.gic.asserted == 0b10
    assert machine.take(1) == PPI
    assert machine.gic.asserted == 0
    assert machine.is_set(ISPENDR, PPI, 1)
    assert machine.is_set(ISACTIVER, PPI, 1)
    machine.end(PPI, 1)
    assert machine.gic.asserted == 0b10
    machine.gic.set_level(PPI, False, 1)
    assert machine.gic.asserted == 0
    assert machine.take(1) == SPURIOUS


def test_an_edge_is_remembered_once():
    machine = Machine().on()
    machine.edge(SPI)
    machine.raised(SPI)
    machine.gic.set_level(SPI, False)
    assert machine.gic.asserted == 1
    assert machine.take() == SPI
    machine.gic.set_level(SPI, True)
    assert machine.gic.asserted == 0  # active and pending
    machine.end(SPI)
    assert machine.gic.asserted == 1
    assert machine.take() == SPI
    machine.end(SPI)
    assert machine.gic.asserted == 0  # still high, but no edge since


def test_software_can_make_pending_and_take_back():
    machine = Machine().on()
    machine.bit(ISENABLER, SPI)
    machine.bit(ISPENDR, SPI)
    assert machine.gic.asserted == 1
    machine.bit(ICPENDR, SPI)
    assert machine.gic.asserted == 0
    machine.gic.set_level(SPI, True)
    machine.bit(ICPENDR, SPI)
    assert machine.gic.asserted == 1  # the level stays


def test_what_is_active_is_not_signalled():
    machine = Machine().on()
    machine.bit(ISACTIVER, SPI)
    machine.raised(SPI)
    assert machine.gic.asserted == 0
    machine.bit(ICACTIVER, SPI)
    assert machine.gic.asserted == 1


MASKS = {
    "GICD_CTLR": lambda m: m.gic.distributor.write(CTLR, 4, 1),
    "IGRPEN1": lambda m: m.write(0, icc.ICC_IGRPEN1_EL1, 0),
    "PMR": lambda m: m.write(0, icc.ICC_PMR_EL1, 0x80),
    "ICENABLER": lambda m: m.bit(ICENABLER, SPI),
    "IROUTER": lambda m: m.route(SPI, 0x100),
    "running": lambda m: m.write(0, icc.ICC_AP1R0_EL1, 1 << 16),
}


@pytest.mark.parametrize("mask", MASKS)
def test_each_gate_holds_it_back(mask):
    machine = Machine().on().raised(SPI)
    assert machine.gic.asserted == 1
    MASKS[mask](machine)
    assert machine.gic.asserted == 0
    assert machine.take() == SPURIOUS
    assert machine.is_set(ISPENDR, SPI)


def test_pending_is_seen_behind_the_mask():
    machine = Machine().on().raised(SPI)
    machine.write(0, icc.ICC_PMR_EL1, 0)
    assert machine.read(0, icc.ICC_HPPIR1_EL1) == SPI
    assert machine.read(0, icc.ICC_HPPIR0_EL1) == SPURIOUS
    assert machine.read(1, icc.ICC_HPPIR1_EL1) == SPURIOUS


def test_the_most_urgent_first_then_the_least_intid():
    machine = Machine().on()
    for intid, priority in ((60, 0x40), (50, 0x80), (PPI, 0x80), (100, 0x10)):
        machine.raised(intid, priority=priority)
    order = []
    while (intid := machine.take()) != SPURIOUS:
        order.append(intid)
        machine.gic.set_level(intid, False)
        machine.end(intid)
    assert order == [100, 60, PPI, 50]


def test_preemption_nests_and_unwinds():
    machine = Machine().on().raised(50, priority=0x80)
    assert machine.take() == 50
    assert machine.read(0, icc.ICC_RPR_EL1) == 0x80
    machine.raised(51, priority=0x80)
    assert machine.gic.asserted == 0
    machine.raised(52, priority=0x78)
    assert machine.take() == 52
    assert machine.read(0, icc.ICC_AP1R0_EL1) == 1 << 15 | 1 << 16
    machine.gic.set_level(52, False)
    machine.end(52)
    assert machine.read(0, icc.ICC_RPR_EL1) == 0x80
    machine.gic.set_level(50, False)
    machine.end(50)
    assert machine.read(0, icc.ICC_RPR_EL1) == 0xFF
    assert machine.take() == 51


@pytest.mark.parametrize(("point", "preempts"), [(3, True), (4, False), (7, False)])
def test_the_binary_point_makes_subpriorities(point, preempts):
    machine = Machine().on().raised(50, priority=0x88)
    machine.write(0, icc.ICC_BPR1_EL1, point)
    assert machine.take() == 50
    machine.raised(51, priority=0x80)
    assert machine.gic.asserted == preempts


def test_eoi_mode_1_drops_first_and_deactivates_later():
    machine = Machine().on()
    machine.write(0, icc.ICC_DIR_EL1, SPI)
    machine.write(0, icc.ICC_CTLR_EL1, 2)
    machine.raised(SPI)
    assert machine.take() == SPI
    machine.end(SPI)
    assert machine.read(0, icc.ICC_RPR_EL1) == 0xFF
    assert machine.is_set(ISACTIVER, SPI)
    assert machine.gic.asserted == 0
    machine.write(0, icc.ICC_DIR_EL1, SPI)
    assert not machine.is_set(ISACTIVER, SPI)
    assert machine.gic.asserted == 1


def test_dir_does_nothing_in_eoi_mode_0():
    machine = Machine().on().raised(SPI)
    machine.take()
    machine.write(0, icc.ICC_DIR_EL1, SPI)
    assert machine.is_set(ISACTIVER, SPI)


def test_the_end_of_what_does_not_exist_changes_nothing():
    machine = Machine().on().raised(SPI)
    machine.take()
    for intid in (SPURIOUS, LINES, 0xFF_FFFF):
        machine.end(intid)
    assert machine.read(0, icc.ICC_RPR_EL1) == 0x80


def test_the_end_of_another_one_drops_but_leaves_active():
    machine = Machine().on().raised(50, priority=0x80)
    machine.take()
    machine.raised(51, priority=0x40)
    machine.take()
    machine.end(50)
    assert machine.is_set(ISACTIVER, 50)
    assert machine.is_set(ISACTIVER, 51)
    assert machine.read(0, icc.ICC_RPR_EL1) == 0x80


def test_group_0_is_an_fiq():
    machine = Machine().on().raised(SPI)
    machine.group(SPI, 0)
    assert (machine.gic.asserted, machine.gic.asserted_fiq) == (0, 1)
    assert machine.take() == SPURIOUS
    assert machine.read(0, icc.ICC_HPPIR0_EL1) == SPI
    assert machine.read(0, icc.ICC_IAR0_EL1) == SPI
    assert machine.read(0, icc.ICC_AP0R0_EL1) == 1 << 16
    assert machine.gic.asserted_fiq == 0
    machine.end(SPI)  # of group 1: the priority drops, nothing more
    assert machine.is_set(ISACTIVER, SPI)
    assert machine.read(0, icc.ICC_RPR_EL1) == 0xFF
    machine.bit(ICACTIVER, SPI)
    assert machine.read(0, icc.ICC_IAR0_EL1) == SPI
    machine.write(0, icc.ICC_EOIR0_EL1, SPI)
    assert machine.gic.asserted_fiq == 1
    machine.gic.distributor.write(CTLR, 4, 2)
    assert machine.gic.asserted_fiq == 0


def test_the_end_drops_the_more_urgent_group():
    machine = Machine().on().raised(50, priority=0x80)
    machine.take()
    machine.group(51, 0)
    machine.raised(51, priority=0x40)
    assert machine.read(0, icc.ICC_IAR0_EL1) == 51
    assert machine.read(0, icc.ICC_RPR_EL1) == 0x40
    machine.gic.set_level(51, False)
    machine.write(0, icc.ICC_EOIR0_EL1, 51)
    assert machine.read(0, icc.ICC_AP0R0_EL1) == 0
    assert machine.read(0, icc.ICC_RPR_EL1) == 0x80


# -- who gets it ---------------------------------------------------------------------------


def test_an_spi_goes_where_its_router_says():
    machine = Machine(18).on().raised(SPI)
    assert machine.gic.asserted == 1
    machine.route(SPI, 0x101)  # vCPU 17 is the second of the second cluster
    assert machine.gic.asserted == 1 << 17
    machine.route(SPI, 0x109)
    assert machine.gic.asserted == 0
    assert machine.is_set(ISPENDR, SPI)
    machine.gic.distributor.write(IROUTER + 8 * SPI, 4, 2)
    assert machine.gic.asserted == 1 << 2


def sgi(machine: Machine, cpu: int, value: int, key: SysReg = icc.ICC_SGI1R_EL1) -> int:
    machine.write(cpu, key, value | SGI << 24)
    return machine.gic.asserted


def test_an_sgi_to_a_list():
    machine = Machine(18).on()
    assert sgi(machine, 0, 0b1001) == 0b1001
    assert machine.take(3) == SGI
    assert sgi(machine, 0, 1 << 16 | 0b10) == 1 | 1 << 17
    assert sgi(machine, 0, 1 << 16 | 0b100) == 1 | 1 << 17  # no such vCPU
    assert sgi(machine, 0, 1 << 32 | 0b10) == 1 | 1 << 17
    assert sgi(machine, 0, 1 << 48 | 0b10) == 1 | 1 << 17


def test_an_sgi_with_a_range_selector():
    gic = GicV3([0, 0x25])
    gic.distributor.write(CTLR, 4, 2)
    gic.write_register(1, icc.ICC_PMR_EL1, 0xFF)
    gic.write_register(1, icc.ICC_IGRPEN1_EL1, 1)
    gic.write_register(0, icc.ICC_SGI1R_EL1, 1 << 5)
    assert gic.asserted == 0
    gic.write_register(0, icc.ICC_SGI1R_EL1, 2 << 44 | 1 << 5)
    assert gic.asserted == 2


def test_an_sgi_to_all_others():
    machine = Machine(4).on()
    assert sgi(machine, 2, 1 << 40 | 0xFFFF) == 0b1011


@pytest.mark.parametrize("key", [icc.ICC_SGI0R_EL1, icc.ICC_ASGI1R_EL1])
def test_sgis_of_group_0(key):
    machine = Machine().on()
    assert sgi(machine, 0, 1, key) == 0
    machine.group(SGI, 0)
    sgi(machine, 0, 1, key)
    assert machine.gic.asserted_fiq == 1
    machine.bit(ICPENDR, SGI)
    sgi(machine, 0, 1)
    assert machine.gic.asserted_fiq == 1


def test_one_of_n_goes_to_the_first_that_could_take_it_and_stays():
    machine = Machine(3).on()
    machine.route(SPI, IRM)
    machine.write(0, icc.ICC_PMR_EL1, 0)
    machine.raised(SPI)
    assert machine.gic.asserted == 0b010
    machine.write(0, icc.ICC_PMR_EL1, 0xF8)
    assert machine.gic.asserted == 0b010
    assert machine.take(0) == SPURIOUS
    assert machine.take(1) == SPI
    assert machine.gic.asserted == 0
    machine.end(SPI, 1)
    assert machine.gic.asserted == 0b001
    machine.write(0, icc.ICC_IGRPEN1_EL1, 0)
    assert machine.gic.asserted == 0b010  # the first no longer listens
    machine.gic.redistributors.write(REDISTRIBUTOR + WAKER, 4, 2)
    assert machine.gic.asserted == 0b100
    machine.gic.set_level(SPI, False)
    assert machine.gic.asserted == 0
    assert machine.gic.state.core.offers == {}


def test_a_second_one_of_n_waits_until_someone_is_free():
    machine = Machine(2).on()
    for intid in (50, 51, 52):
        machine.route(intid, IRM)
        machine.raised(intid)
    assert machine.gic.asserted == 1  # all three were offered to the first
    assert machine.take(0) == 50
    assert machine.take(1) == SPURIOUS
    machine.route(51, 1)
    assert machine.take(1) == 51


def test_there_is_nothing_beyond_the_last_redistributor():
    machine = Machine(1).on().raised(PPI)
    machine.gic.redistributors.write(REDISTRIBUTOR + SGI_BASE + ICENABLER, 4, ALL)
    assert machine.gic.redistributors.read(REDISTRIBUTOR + SGI_BASE + ISENABLER, 4) == 0
    assert machine.gic.asserted == 1


def test_waker():
    machine = Machine()
    machine.gic.redistributors.write(WAKER, 4, 0)
    assert machine.gic.redistributors.read(WAKER, 4) == 0
    assert machine.gic.redistributors.read(REDISTRIBUTOR + WAKER, 4) == 6


# -- what the machine is told --------------------------------------------------------------


def test_changes_are_told_once_each():
    machine = Machine().on()
    assert machine.changes == 0
    machine.raised(SPI)
    assert machine.changes == 1
    machine.gic.set_level(SPI, True)
    machine.raised(PPI)
    assert machine.changes == 1
    machine.take()
    machine.gic.set_level(PPI, False)
    assert machine.changes == 2


@pytest.mark.parametrize("intid", [0, 15, LINES, -1])
def test_only_ppis_and_spis_have_lines(intid):
    with pytest.raises(ValueError, match="no input line"):
        Machine().gic.set_level(intid, True)


def test_a_saved_state_of_another_machine_is_refused():
    state = Machine(2).gic.state
    with pytest.raises(StateError, match="has 2 vCPUs, not 3"):
        Machine(3, state)
    state.core.offers = {31: 0}
    with pytest.raises(StateError, match="does not exist"):
        Machine(2, state)
    state.core.shared.pop()
    with pytest.raises(StateError, match="number of interrupts"):
        Machine(2, state)
    state.routers.pop()
    with pytest.raises(StateError, match="number of routes"):
        Machine(2, state)


def test_a_restored_controller_signals_what_was_signalled_without_telling():
    machine = Machine().on().raised(SPI)
    copy = Machine(2, machine.gic.state)
    assert (copy.gic.asserted, copy.changes) == (1, 0)


@given(st.integers(0, 0x5FFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
def test_no_access_fails(offset, width, value):
    machine = Machine()
    for device in (machine.gic.distributor, machine.gic.redistributors):
        device.write(offset, width, value)
        assert 0 <= device.read(offset, width) < 1 << 8 * width


# -- the reference -------------------------------------------------------------------------


class Reference:
    """The specification in sets, recomputed from the start for every question."""

    def __init__(self, cpus: int) -> None:
        self.cpus = range(cpus)
        self.enabled = {(cpu, n) for cpu in self.cpus for n in range(16)}
        self.latch, self.line, self.active, self.group0 = set(), set(), set(), set()
        self.edge = set(self.enabled)
        self.prio, self.route = {}, {}
        self.pmr = [0xF8 for _ in self.cpus]
        self.bpr0 = [2 for _ in self.cpus]
        self.bpr1 = [3 for _ in self.cpus]
        self.split = [False for _ in self.cpus]
        self.stack = [[] for _ in self.cpus]  # (group priority, group) of what runs

    def key(self, cpu, intid):
        return (cpu, intid) if intid < 32 else (None, intid)

    def pending(self, key):
        return key in self.latch or (key in self.line and key not in self.edge)

    def waiting(self, cpu):
        """All that could be signalled to a vCPU, most urgent first."""
        keys = [(cpu, n) for n in range(32)]
        keys += [(None, n) for n in range(32, 64) if self.route.get(n, 0) == cpu]
        ready = [k for k in keys if self.pending(k) and k in self.enabled and k not in self.active]
        return sorted(ready, key=lambda k: (self.prio.get(k, 0), k[1]))

    def group_priority(self, cpu, key):
        bits = self.bpr0[cpu] + 1 if key in self.group0 else self.bpr1[cpu]
        return self.prio.get(key, 0) >> bits << bits

    def signalled(self, cpu):
        for key in self.waiting(cpu)[:1]:
            running = min((p for p, _ in self.stack[cpu]), default=0xFF)
            if self.prio.get(key, 0) < self.pmr[cpu] and self.group_priority(cpu, key) < running:
                return key
        return None

    def asserted(self, fiq):
        found = {cpu: self.signalled(cpu) for cpu in self.cpus}
        return sum(1 << c for c, k in found.items() if k is not None and (k in self.group0) == fiq)

    def acknowledge(self, cpu, group):
        key = self.signalled(cpu)
        if key is None or (key in self.group0) != (group == 0):
            return SPURIOUS
        self.latch.discard(key)
        self.active.add(key)
        self.stack[cpu].append((self.group_priority(cpu, key), group))
        return key[1]

    def end(self, cpu, group, intid):
        key, stack = self.key(cpu, intid), self.stack[cpu]
        ran = min(stack, default=(0xFF, None), key=lambda p: (p[0], -p[1]))
        if stack:
            stack.remove(ran)
        fits = (key in self.group0) == (group == 0) and self.group_priority(cpu, key) == ran[0]
        if fits and not self.split[cpu]:
            self.active.discard(key)

    def set_level(self, key, level):
        if level and key not in self.line:
            if key in self.edge:
                self.latch.add(key)
            self.line.add(key)
        elif not level:
            self.line.discard(key)


CPUS = 2
INTIDS = (0, 1, 16, 31, 32, 33, 63)
cpu_ids = st.integers(0, CPUS - 1)
sgis, lined, spis = (st.sampled_from(INTIDS[part]) for part in (slice(2), slice(2, 7), slice(4, 7)))
intids = st.sampled_from(INTIDS)
priorities = st.sampled_from([0x40, 0x48, 0x80, 0xFF])
groups = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("level"), cpu_ids, lined, st.booleans()),
        st.tuples(st.just("level"), cpu_ids, lined, st.just(True)),
        st.tuples(st.just("enable"), cpu_ids, intids, st.booleans()),
        st.tuples(st.just("pend"), cpu_ids, intids, st.booleans()),
        st.tuples(st.just("active"), cpu_ids, intids, st.booleans()),
        st.tuples(st.just("prio"), cpu_ids, intids, priorities),
        st.tuples(st.just("group"), cpu_ids, intids, groups),
        st.tuples(st.just("edge"), cpu_ids, spis, st.just(True)),
        st.tuples(st.just("route"), st.integers(0, CPUS), spis, st.none()),
        st.tuples(st.just("sgi"), cpu_ids, sgis, st.integers(0, (1 << CPUS) - 1)),
        st.tuples(st.just("ack"), cpu_ids, st.just(0), groups),
        st.tuples(st.just("take"), cpu_ids, st.just(0), st.none()),
        st.tuples(st.just("take"), cpu_ids, st.just(0), st.none()),
        st.tuples(st.just("eoi"), cpu_ids, intids, groups),
        st.tuples(st.just("last"), cpu_ids, st.just(0), st.none()),
        st.tuples(st.just("dir"), cpu_ids, intids, st.none()),
        st.tuples(st.just("pmr"), cpu_ids, st.just(0), priorities),
        st.tuples(st.just("bpr0"), cpu_ids, st.just(0), st.integers(0, 4)),
        st.tuples(st.just("bpr1"), cpu_ids, st.just(0), st.integers(0, 5)),
        st.tuples(st.just("mode"), cpu_ids, st.just(0), st.booleans()),
    ),
    min_size=20,
    max_size=60,
)
IAR = (icc.ICC_IAR0_EL1, icc.ICC_IAR1_EL1)
EOIR = (icc.ICC_EOIR0_EL1, icc.ICC_EOIR1_EL1)


class Both:
    """Does every step to the controller and to the reference."""

    def __init__(self) -> None:
        self.machine = Machine(CPUS).on()
        self.reference = Reference(CPUS)
        self.taken: list[list[tuple[int, int]]] = [[] for _ in range(CPUS)]
        for cpu in range(CPUS):
            for intid in INTIDS:
                self.do_enable(cpu, intid, True)
                self.do_prio(cpu, intid, 0x80)

    def step(self, what, cpu, intid, value):
        getattr(self, "do_" + what)(cpu, intid, value)

    def _both(self, kinds, held, cpu, intid, value):
        self.machine.bit(kinds[not value], intid, cpu)
        key = self.reference.key(cpu, intid)
        (held.add if value else held.discard)(key)

    def do_level(self, cpu, intid, value):
        self.machine.gic.set_level(intid, value, cpu)
        self.reference.set_level(self.reference.key(cpu, intid), value)

    def do_enable(self, *step):
        self._both((ISENABLER, ICENABLER), self.reference.enabled, *step)

    def do_pend(self, *step):
        self._both((ISPENDR, ICPENDR), self.reference.latch, *step)

    def do_active(self, *step):
        self._both((ISACTIVER, ICACTIVER), self.reference.active, *step)

    def do_prio(self, cpu, intid, value):
        self.machine.priority(intid, value, cpu)
        self.reference.prio[self.reference.key(cpu, intid)] = value & 0xF8

    def do_group(self, cpu, intid, value):
        self.machine.group(intid, value, cpu)
        group0 = self.reference.group0
        (group0.discard if value else group0.add)(self.reference.key(cpu, intid))

    def do_edge(self, cpu, intid, value):
        self.machine.edge(intid)
        neighbours = {(None, n) for n in range(intid // 16 * 16, intid // 16 * 16 + 16)}
        self.reference.edge -= neighbours  # the write clears the other 15
        self.reference.edge.add((None, intid))

    def do_route(self, cpu, intid, value):
        self.machine.route(intid, cpu)
        self.reference.route[intid] = cpu

    def do_sgi(self, cpu, intid, value):
        self.machine.write(cpu, icc.ICC_SGI1R_EL1, intid << 24 | value)
        self.reference.latch |= {(n, intid) for n in range(CPUS) if value >> n & 1}

    def do_ack(self, cpu, intid, group):
        taken = self.machine.read(cpu, IAR[group])
        assert taken == self.reference.acknowledge(cpu, group)
        if taken != SPURIOUS:
            self.taken[cpu].append((taken, group))

    def do_take(self, cpu, intid, value):
        """As a handler does: of the group that is signalled, if any is."""
        self.do_ack(cpu, intid, 0 if self.machine.gic.asserted_fiq >> cpu & 1 else 1)

    def do_eoi(self, cpu, intid, group):
        self.machine.write(cpu, EOIR[group], intid)
        self.reference.end(cpu, group, intid)

    def do_last(self, cpu, intid, value):
        if self.taken[cpu]:
            self.do_eoi(cpu, *self.taken[cpu].pop())

    def do_dir(self, cpu, intid, value):
        self.machine.write(cpu, icc.ICC_DIR_EL1, intid)
        if self.reference.split[cpu]:
            self.reference.active.discard(self.reference.key(cpu, intid))

    def do_pmr(self, cpu, intid, value):
        self.machine.write(cpu, icc.ICC_PMR_EL1, value)
        self.reference.pmr[cpu] = value & 0xF8

    def do_bpr0(self, cpu, intid, value):
        self.machine.write(cpu, icc.ICC_BPR0_EL1, value)
        self.reference.bpr0[cpu] = max(value, 2)

    def do_bpr1(self, cpu, intid, value):
        self.machine.write(cpu, icc.ICC_BPR1_EL1, value)
        self.reference.bpr1[cpu] = max(value, 3)

    def do_mode(self, cpu, intid, value):
        self.machine.write(cpu, icc.ICC_CTLR_EL1, 2 * value)
        self.reference.split[cpu] = value

    def compare(self) -> None:
        gic = self.machine.gic
        assert gic.asserted == self.reference.asserted(fiq=False)
        assert gic.asserted_fiq == self.reference.asserted(fiq=True)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_it_does_what_the_reference_does(steps):
    both = Both()
    for step in steps:
        before = both.machine.gic.asserted, both.machine.gic.asserted_fiq
        told = both.machine.changes
        both.step(*step)
        both.compare()
        after = both.machine.gic.asserted, both.machine.gic.asserted_fiq
        assert (both.machine.changes != told) == (before != after)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_the_state_is_all_there_is(steps):
    both = Both()
    for step in steps:
        both.step(*step)
        document = json.loads(json.dumps(to_state(both.machine.gic.state)))
        state = from_state(State, document)
        assert state == both.machine.gic.state
        both.machine = Machine(CPUS, state)
        both.compare()

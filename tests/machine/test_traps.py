"""What happens at a trap: a service's answer, its memory, registers and interrupts; who is told."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from emu.arm.arch import SysReg
from emu.base import exits
from emu.base.errors import EmuError
from emu.base.smccc import UNDEF, Ret, Retry
from emu.machine.instrument import Instrument
from emu.world.service import Service, fn
from engine_kit import (
    ERET,
    NOP,
    VBAR_EL1,
    WFI,
    add,
    b,
    code,
    halves,
    hvc,
    ldr_w,
    mov,
    movz,
    mrs,
    msr,
    smc,
    str_w,
    svc,
)
from guest_kit import FORWARDED, LOAD, call, forwarding, two
from kit import ONES, Watch

RAM, END = 0x4000_0000, 0x4400_0000
"""64 MiB, as much as a machine with a small image has."""
ADD, FAIL, WIDE, COPY, RUDE, AGAIN, RING = range(0xC600_0100, 0xC600_0107)


# -- services of one's own -----------------------------------------------------------------------


class Adder(Service):
    name = "adder"

    @fn(ADD)
    def add(self, call):
        return Ret.success(call.arg(1) + call.arg(2))


def test_service_of_ones_own(build):
    vm = build(call(ADD, 40, 2), WFI, services=[Adder])
    vm.run()
    assert vm.engine.arguments(2) == (0, 42)


class Failing(Service):
    name = "failing"

    @fn(FAIL)
    def fail(self, call):
        raise ZeroDivisionError("mine")


@halves
def test_service_that_fails(build, native):
    vm = build(call(FAIL), movz(5, 1), WFI, services=[Failing], native=native)
    with pytest.raises(ZeroDivisionError, match="mine"):
        vm.run()
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 1


# -- registers -----------------------------------------------------------------------------------


class Wide(Service):
    """Sees as many registers as it asks for, and no more than any other otherwise."""

    name = "wide"

    @fn(WIDE, reads=18)
    def wide(self, call):
        assert len(call.x) == 18
        return Ret.only(sum(call.x[8:]))

    @fn(WIDE | 0x8000, reads=31)
    def widest(self, call):
        return Ret.only(call.x[30])

    @fn(WIDE | 0x4000)
    def narrow(self, call):
        return Ret.only(len(call.x))


@halves
@pytest.mark.parametrize("conduit", [hvc, smc])
def test_a_function_sees_the_registers_it_reads(build, native, conduit):
    values = [word for n in range(1, 31) for word in mov(n, 0x1_0000 << n)]
    words = [*mov(0, WIDE), conduit(), 0xAA00_03F3]  # mov x19, x0
    words += [*mov(0, WIDE | 0x8000), conduit(), 0xAA00_03F4]  # mov x20, x0
    words += [*mov(0, WIDE | 0x4000), conduit(), WFI]
    vm = build(values, words, services=[Wide], native=native)
    vm.run()
    assert vm.engine.get("X19") == sum(0x1_0000 << n for n in range(8, 18))
    assert vm.engine.get("X20") == 0x1_0000 << 30
    assert vm.engine.get("X0") == 8


# -- guest memory --------------------------------------------------------------------------------


class Copier(Service):
    """Adds one to the doubleword at x1; x0 = −14 where there is none."""

    name = "copier"
    no_memory = Ret.only(-14)

    @fn(COPY)
    def increment(self, call):
        place = self.host.memory(call.arg(1), 8, align=8)
        place.write((int.from_bytes(place.read(), "little") + 1).to_bytes(8, "little"))
        return Ret.only(0)


class Rude(Copier):
    name = "rude"
    no_memory = None

    @fn(RUDE)
    def increment(self, call):
        return super().increment(call)


NOWHERE = {
    "before RAM": (RAM - 8, "is outside RAM"),
    "behind RAM": (END, "is outside RAM"),
    "nothing": (0, "is outside RAM"),
    "the UART": (0x0900_0000, "is outside RAM"),
    "the last bytes there are": (ONES - 7, "is outside RAM"),
    "a virtual address": (0xFFFF_0000_4000_0000, "is outside RAM"),
    "misaligned": (RAM + 4, "is not aligned to 8"),
    "across the end and misaligned": (END - 4, "is not aligned to 8"),
}


@halves
@pytest.mark.parametrize("where", [RAM, LOAD + 0x1_0000, END - 8], ids=hex)
def test_guest_memory_is_read_and_written(build, native, where):
    vm = build(mov(1, where), mov(0, COPY), hvc(), mov(0, COPY), hvc(), WFI, services=[Copier],
               native=native)  # fmt: skip
    before = int.from_bytes(vm.engine.read(where, 8), "little")
    vm.run()
    assert vm.engine.get("X0") == 0
    assert vm.engine.read(where, 8) == (before + 2).to_bytes(8, "little")


@halves
@pytest.mark.parametrize("what", NOWHERE)
def test_memory_that_is_not_there_is_the_interfaces_own_error(build, native, what):
    vm = build(mov(1, NOWHERE[what][0]), mov(2, 2), mov(0, COPY), hvc(), WFI, services=[Copier],
               native=native)  # fmt: skip
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(3) == (ONES - 13, NOWHERE[what][0], 2)


@halves
@pytest.mark.parametrize("what", NOWHERE)
def test_a_service_without_an_answer_to_that_is_named(build, native, what):
    address, why = NOWHERE[what]
    vm = build(mov(1, address), mov(0, RUDE), hvc(), WFI, services=[Rude], native=native)
    with pytest.raises(EmuError) as caught:
        vm.run()
    assert str(caught.value) == (
        f"{Rude.__module__}.Rude: INCREMENT asks for guest memory {address:#x}..{address + 8:#x} "
        f"{why}; its no_memory may name the reply to such a call"
    )


# -- a call that is made once more ---------------------------------------------------------------


class Long(Service):
    """Does one unit of work for each time, x1 of them, and counts in x2 what is done."""

    name = "long"

    @dataclass
    class State:
        """How often it was asked."""

        asked: int = 0

    @fn(AGAIN)
    def work(self, call):
        self.state.asked += 1
        left, done = call.arg(1), call.arg(2)
        return Ret.retry(call.x[0], left - 1, done + 1) if left else Ret.only(0, 0, done)


@halves
@pytest.mark.parametrize("units", [0, 1, 2, 100])
def test_a_call_is_made_again(build, native, units):
    watch = Watch()
    words = [*mov(1, units), *mov(2, 0), *mov(0, AGAIN), hvc(), add(5, 5, 1), WFI]
    vm = build(words, services=[Long], native=native, instruments=[watch])
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(6) == (0, 0, units, 0, 0, 1)
    assert vm.monitor.services["long"].state.asked == units + 1
    assert vm.stats().calls == units + 1
    assert vm.stats().instructions == len(words) + units
    pcs = {record.pc for record in watch.calls}
    assert pcs == {LOAD + 4 * words.index(hvc())}
    assert [type(record.answer) for record in watch.calls] == [*[Retry] * units, Ret]


@halves
def test_time_may_be_cut_while_a_call_is_made_again(build, native):
    """Each is an instruction of its own: a deadline and another vCPU's turn come between."""
    words = [*mov(1, 50), *mov(2, 0), *mov(0, AGAIN), hvc(), WFI]
    whole = build(words, services=[Long], native=native)
    whole.run()
    cut = build(words, services=[Long], native=native)
    while isinstance(cut.run(3), exits.Deadline):
        pass
    assert cut.stats() == whole.stats()
    assert cut.engine.arguments(3) == whole.engine.arguments(3) == (0, 0, 50)


@pytest.mark.parametrize("profile", ["xen", "qemu-tcg", "kvm-4.15", "kvm-6.12"])
def test_it_is_made_again_however_few_registers_a_profile_writes(build, profile):
    class Twice(Service):
        name = "twice"
        seen = 0

        @fn(0x8200_0042)
        def twice(self, call):
            self.seen += 1
            return Ret.retry(call.x[0]) if self.seen == 1 else Ret.only(7)

    vm = build(call(0x8200_0042), WFI, services=[Twice], profile=profile)
    vm.run()
    assert (vm.engine.get("X0"), vm.stats().calls) == (7, 2)


@halves
def test_the_vmm_may_let_it_be_made_again(build, native):
    vm = build(call(FORWARDED, 1), movz(20, 9), WFI, native=native)
    vm.filter(FORWARDED, action="forward")
    for turn in range(1, 4):
        exit = vm.run()
        assert isinstance(exit, exits.Hypercall)
        assert exit.call.x[1] == turn
        exit.ret = Ret.retry(FORWARDED, turn + 1)
    exit = vm.run()
    exit.ret = 0
    assert isinstance(vm.run(), exits.Wfi)
    assert (vm.engine.get("X0"), vm.engine.get("X20"), vm.stats().calls) == (0, 9, 4)


# -- interrupts ----------------------------------------------------------------------------------


class Bell(Service):
    """RING(vcpu, intid, level)."""

    name = "bell"

    @fn(RING)
    def ring(self, call):
        self.host.interrupt(call.arg32(1), call.arg32(2), bool(call.arg(3)))
        return Ret.only(0)


VECTORS = LOAD + 0x2000
DAIFCLR_I = 0xD503_42FF
GICD, GICR, GICC = 0x0800_0000, 0x080A_0000, 0x0801_0000
IAR1, EOIR1, PMR = SysReg(3, 0, 12, 12, 0), SysReg(3, 0, 12, 12, 1), SysReg(3, 0, 4, 6, 0)
IGRPEN1 = SysReg(3, 0, 12, 12, 7)


def poke(address: int, value: int) -> list[int]:
    return [*mov(1, address), *mov(2, value), str_w(2, 1)]


def gic_on(version: int, intid: int, vcpu: int = 0) -> list[int]:
    """What a driver does, and interrupts unmasked."""
    vectors = [*mov(1, VECTORS), msr(VBAR_EL1, 1)]
    enable = GICR + 0x2_0000 * vcpu + 0x1_0100 if version == 3 and intid < 32 else (
        GICD + 0x100 + intid // 32 * 4
    )
    words = [*vectors, *poke(enable, 1 << intid % 32)]
    if version == 3:
        words += [*poke(GICD, 0x12), *mov(2, 0xF8), msr(PMR, 2), movz(2, 1), msr(IGRPEN1, 2)]
    else:
        target = GICD + 0x800 + intid & ~3
        words += [*poke(GICD, 1), *poke(GICC + 4, 0xF8), *poke(GICC, 1)]
        words += poke(target, 0x0101_0101) if intid >= 32 else []
    return [*words, DAIFCLR_I]


def handler(version: int, intid: int, vcpu: int = 0) -> list[int]:
    """x20 is which one, x21 how many; the service is asked to lower the line."""
    lower = call(RING, vcpu, intid, 0)
    if version == 3:
        return [mrs(20, IAR1), add(21, 21, 1), *lower, msr(EOIR1, 20), ERET]
    take = [*mov(22, GICC + 0xC), ldr_w(20, 22), add(21, 21, 1)]
    return [*take, *lower, *mov(22, GICC + 0x10), str_w(20, 22), ERET]


def with_handler(words: list[int], at_irq: list[int]) -> list[int]:
    """Code at LOAD and a handler at VECTORS + 0x280: IRQ at EL1h."""
    gap = (VECTORS + 0x280 - LOAD) // 4 - len(words)
    assert gap >= 0
    return [*words, *[WFI] * gap, *at_irq]


@halves
@pytest.mark.parametrize("gic", [2, 3])
@pytest.mark.parametrize("intid", [31, 24, 70])
def test_a_services_interrupt_reaches_the_guest(build, native, gic, intid):
    words = [*gic_on(gic, intid), *call(RING, 0, intid, 1), add(23, 21, 0), WFI]
    vm = build(with_handler(words, handler(gic, intid)), gic=gic, services=[Bell], native=native)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert (vm.engine.get("X20"), vm.engine.get("X21")) == (intid, 1)
    assert vm.engine.get("X23") == 1, "before the instruction behind the call"


@halves
@pytest.mark.parametrize("gic", [2, 3])
def test_a_line_that_is_lowered_in_time_is_not_taken(build, native, gic):
    words = [*gic_on(gic, 31), 0xD503_42DF, *call(RING, 0, 31, 1), *call(RING, 0, 31, 0),
             DAIFCLR_I, NOP, WFI]  # msr daifset, #2 first
    vm = build(with_handler(words, handler(gic, 31)), gic=gic, services=[Bell], native=native)
    vm.run(1_000_000)
    assert vm.engine.get("X21") == 0


@halves
def test_it_wakes_the_vcpu_whose_ppi_it_is(build, native):
    """CPU 1 sleeps; CPU 0 rings for it, and hears nothing itself."""
    spin = [*mov(9, 40_000), 0xF100_0529, 0x54FF_FFE1]  # subs x9, x9, #1; b.ne .-4
    first = [*gic_on(3, 31), *spin, *call(RING, 1, 31, 1), WFI, b(-1)]
    second = [*gic_on(3, 31, vcpu=1), WFI, add(23, 21, 0), WFI, b(-1)]
    words = with_handler(two(first, second), handler(3, 31, vcpu=1))
    vm = build(words, cpus=2, services=[Bell], native=native)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert [vm.cpu(n).x[21] for n in range(2)] == [0, 1]
    assert (vm.cpu(1).x[20], vm.cpu(1).x[23]) == (31, 1)


@halves
@pytest.mark.parametrize("intid", [0, 15, 1020])
def test_an_interrupt_that_is_no_line_is_the_services_mistake(build, native, intid):
    vm = build(call(RING, 0, intid, 1), WFI, services=[Bell], native=native)
    with pytest.raises(EmuError, match=f"INTID {intid} is no line"):
        vm.run()


# -- calls that leave for the VMM ----------------------------------------------------------------


@halves
@pytest.mark.parametrize("conduit", [hvc, smc])
def test_forwarded_call_carries_x0_to_x17(build, native, conduit):
    watch = Watch()
    vm = forwarding(build, conduit, native=native, instruments=[watch])
    exit = vm.run()
    assert isinstance(exit, exits.Hypercall)
    assert exit.call.x == (FORWARDED, *(0x1000 + n for n in range(1, 18)))
    assert exit.call.conduit == conduit.__name__
    assert exit.forward_to == "me"
    assert exit.vcpu == 0
    assert watch.calls == []  # not yet answered
    pc = vm.engine.get("PC")
    exit.ret = Ret.success(1, 2, 3)
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(6) == (0, 1, 2, 3, 0x1004, 0x1005)
    assert vm.engine.get("X20") == 9
    (record,) = watch.calls
    assert record.answer == Ret.success(1, 2, 3)
    assert record.pc == pc - 4
    assert "forward" in record.why


def test_every_exit_up_to_the_last(build):
    vm = build(call(FORWARDED), call(FORWARDED), call(0x8400_0008))
    vm.filter(FORWARDED, action="forward")
    kinds = [type(exit) for exit in vm.exits()]
    assert kinds == [exits.Hypercall, exits.Hypercall, exits.SystemEvent]
    assert vm.stats().calls == 3


def test_forwarding_from_two_cpus(build):
    vm = build(two([*call(FORWARDED, 1), WFI], [*call(FORWARDED, 2), WFI]), cpus=2)
    vm.filter(FORWARDED, action="forward")
    seen = []
    while isinstance(exit := vm.run(), exits.Hypercall):
        seen.append((exit.vcpu, exit.call.vcpu, exit.call.x[1]))
        exit.ret = 0
    assert seen == [(0, 0, 1), (1, 1, 2)]


@halves
def test_a_run_may_stop_with_pc_on_a_call(build, native):
    vm = build(call(ADD, 40, 2), WFI, services=[Adder], native=native)
    vm.traps.stops_before_call = True
    exit = vm.run()
    assert isinstance(exit, exits.Deadline)
    assert vm.engine.read(vm.engine.get("PC"), 4) == code(hvc())
    assert vm.stats().calls == 0
    before = vm.stats().instructions
    assert not vm.traps.stops_before_call
    assert isinstance(vm.run(), exits.Wfi)
    assert (vm.engine.get("X1"), vm.stats().instructions - before) == (42, 2)


# -- what it costs -------------------------------------------------------------------------------


@halves
def test_a_call_is_charged(build, native):
    """Its entry, its handler and the way back; a call made again is another call."""
    words = [*mov(1, 3), *mov(2, 0), *mov(0, AGAIN), hvc(), WFI]
    vm = build(words, services=[Long], native=native, trap_costs="kvm-vhe")
    vm.run()
    costs = vm.tolls.costs
    (cost,) = vm.tolls.calls.values()
    assert cost == (4, 4 * costs.hvc_entry.cycles, 4 * costs.hvc_handler.cycles,
                    4 * costs.hvc_return.cycles)  # fmt: skip
    assert vm.clock.cycles == vm.stats().instructions + cost.total


@halves
def test_the_vmm_takes_the_handlers_place(build, native):
    vm = forwarding(build, native=native, trap_costs="kvm-vhe")
    vm.run()
    costs = vm.tolls.costs
    (cost,) = vm.tolls.calls.values()
    assert cost == (1, costs.hvc_entry.cycles, 0, 0), "it waits for its answer"
    vm.run()
    (cost,) = vm.tolls.calls.values()
    assert cost == (1, costs.hvc_entry.cycles, costs.vmm.cycles, costs.hvc_return.cycles)
    assert vm.clock.cycles == vm.stats().instructions + cost.total


# -- who is told ---------------------------------------------------------------------------------


class Deaf(Instrument):
    """Hears calls, no exceptions: they cost no call of Python."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_call(self, record) -> None:
        self.heard.append(record)


@halves
def test_calls_and_exceptions_are_told(build, native):
    watch, deaf = Watch(), Deaf()
    at_sync = (VECTORS + 0x200 - LOAD) // 4
    words = [*mov(1, VECTORS), msr(VBAR_EL1, 1), svc(7), *call(ADD, 1, 2), WFI]
    words += [*[NOP] * (at_sync - len(words)), ERET]
    vm = build(words, services=[Adder], native=native, instruments=[watch, deaf])
    assert vm.traps.watches_exceptions
    vm.run()
    exception, record = watch.told[:2]
    assert (exception.esr, exception.vcpu, exception.pc) == (0x5600_0007, 0, LOAD + 4 * 3)
    assert exception.vector == VECTORS + 0x200
    assert record.answer == Ret.success(3)
    assert (record.why, record.call.x[:3]) == ("service adder", (ADD, 1, 2))
    assert record.pc == LOAD + 4 * words.index(hvc())
    assert deaf.heard == watch.calls
    assert vm.traps.last_call is record.call
    vm.instruments.remove(watch)
    assert not vm.traps.watches_exceptions


@halves
def test_an_interposer_stands_before_everyone(build, native):
    """It may ask, or answer by itself; what it gives is what the guest gets and others hear."""
    watch, asked = Watch(), []

    def between(call, ask):
        asked.append(call.x[0])
        return ask(call) if call.x[0] == ADD else UNDEF

    words = [*mov(3, LOAD + 0x1000), msr(VBAR_EL1, 3), *call(ADD, 1, 2), *call(0x8400_0000), WFI]
    vm = build(words, services=[Adder], native=native, instruments=[watch])
    vm.engine.write(LOAD + 0x1200, code(WFI))
    vm.traps.interposer = between
    vm.run()
    assert asked == [ADD, 0x8400_0000]
    assert [record.answer for record in watch.calls] == [Ret.success(3), UNDEF]
    assert vm.engine.get("PC") == LOAD + 0x1204
    assert struct.unpack("<I", vm.engine.read(vm.engine.get("ELR_EL1"), 4)) == (hvc(),)

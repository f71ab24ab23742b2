"""A whole machine: scheduling, exits and their answers, limits, hostile and random guests."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.base import exits
from emu.base.console import Console, Typed
from emu.base.errors import BootError
from emu.base.smccc import UNDEF, Ret
from emu.engine.engine import native_available
from emu.images.devicetree import Board, device_tree
from emu.machine.scheduler import SLICE
from emu.machine.vm import MIB, Vm
from emu.world.monitor import with_services
from emu.world.profile import load_profile
from emu.world.service import MpState, Service, fn
from emu.world.services.pvtime import RECORDS
from engine_kit import (
    ELR_EL1,
    ERET,
    ESR_EL1,
    ISB,
    NE,
    NOP,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    VBAR_EL1,
    WFI,
    add,
    b,
    b_if,
    br,
    code,
    eor,
    halves,
    hlt,
    hvc,
    ldr,
    ldr_w,
    mov,
    movz,
    mrs,
    msr,
    smc,
    store,
    str_w,
    subs,
    svc,
    udf,
)  # fmt: skip
from kit import Watch
from places import GUESTS

LOAD = 0x4008_0000
CPU_ON, CPU_OFF, CPU_SUSPEND = 0xC400_0003, 0x8400_0002, 0xC400_0001
SYSTEM_OFF, SYSTEM_RESET, RESET2 = 0x8400_0008, 0x8400_0009, 0xC400_0012
SYSTEM_SUSPEND, SYSTEM_OFF2 = 0xC400_000E, 0xC400_0015
PV_TIME_ST = 0xC500_0021
FORWARDED = 0xC600_0042
MINUS_ONE = 0xFFFF_FFFF_FFFF_FFFF
INTERNAL_FAILURE = MINUS_ONE - 5
UART, NOWHERE = 0x0900_0000, 0x0F00_0000
FAST = native_available()
"""Where the halves are not compared, the quick one will do."""


def call(fid: int, *args: int) -> list[int]:
    """Load x0 onward and HVC #0."""
    words = [word for n, value in enumerate((fid, *args)) for word in mov(n, value)]
    return [*words, hvc()]


@pytest.fixture
def build(tmp_path):
    """A Vm around machine code at LOAD."""
    number = iter(range(1000))

    def make(*words: int | list[int], **options) -> Vm:
        flat = [w for word in words for w in (word if isinstance(word, list) else [word])]
        path = tmp_path / f"{next(number)}.bin"
        path.write_bytes(code(*flat))
        options.setdefault("native", FAST)
        return Vm(path, load=LOAD, **options)

    return make


def summary(vm: Vm, watch: Watch):
    stolen = [(vcpu.stolen, vcpu.state, vcpu.waiting) for vcpu in vm.machine.vcpus]
    return vm.stats(), str(vm.console), watch.calls, watch.exceptions, stolen


# -- one vCPU -----------------------------------------------------------------------------------


@halves
def test_reset_state(build, native):
    vm = build(WFI, native=native)
    before = vm.engine.arguments(31)
    exit = vm.run()
    assert isinstance(exit, exits.Wfi)
    assert (exit.vcpu, exit.cycles) == (0, 1)
    dtb = before[0]
    assert vm.engine.read(dtb, 4) == b"\xd0\x0d\xfe\xed"
    assert before[1:] == (0,) * 30
    assert vm.engine.get("PSTATE") & 0x3DF == 0x3C5
    assert vm.engine.get("VMPIDR_EL2") == 0x8000_0000


def test_a_machine_is_a_context():
    with Vm(GUESTS / "hello.elf") as vm:
        assert vm.run() == exits.SystemEvent(
            kind=exits.EventKind.SHUTDOWN, ret=Ret.value(-6), cycles=vm.stats().cycles
        )
        assert str(vm.console) == "hello from EL1\n"
        assert vm.stats().calls == 1


def test_dead_idle_stays_dead(build):
    vm = build(NOP, WFI)
    assert isinstance(vm.run(), exits.Wfi)
    assert isinstance(vm.run(), exits.Wfi)
    assert isinstance(vm.run(0), exits.Wfi)
    assert vm.stats().instructions == 2


@pytest.mark.parametrize("fid", [CPU_OFF, CPU_SUSPEND])
def test_last_cpu_goes(build, fid):
    vm = build(call(fid), movz(5, 1), WFI)
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 0


def test_cpu_suspend_comes_back_with_success(build):
    vm = build(call(CPU_SUSPEND), movz(5, 1), WFI)
    vm.run()
    vm.machine.vcpus[0].waiting = False
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(1) == (0,)
    assert vm.engine.get("X5") == 1


def test_deadline_exits(build):
    vm = build(NOP, NOP, NOP, b(-3))
    for cycles in (0, 1, 4, 1000, 3):
        before = vm.stats().cycles
        exit = vm.run(cycles)
        assert isinstance(exit, exits.Deadline)
        assert exit.cycles == vm.stats().cycles
        assert 0 <= exit.cycles - before - cycles < 4
    assert isinstance(vm.run(-5), exits.Deadline)


def test_limit_beyond_all_time(build):
    assert isinstance(build(NOP, WFI).run(1 << 64), exits.Wfi)


# -- several vCPUs ----------------------------------------------------------------------------

SECOND = LOAD + 0x400
CONTEXT = 0xC0DE_5EED_1234_5678


def two(first: list[int], second: list[int]) -> list[int]:
    """CPU 0 switches CPU 1 on, then each has its own code."""
    head = [*call(CPU_ON, 1, SECOND, CONTEXT), *first]
    assert len(head) <= 0x100
    return [*head, *[NOP] * (0x100 - len(head)), *second]


@halves
def test_cpu_on_resets_the_other(build, native):
    vm = build(two([WFI], [WFI]), cpus=2, native=native)
    exit = vm.run()
    assert isinstance(exit, exits.Wfi)
    assert exit.vcpu == 1
    assert vm.engine.arguments(31) == (CONTEXT, *[0] * 30)
    assert vm.engine.get("PC") == SECOND + 4
    assert vm.engine.get("PSTATE") & 0x3DF == 0x3C5
    assert vm.engine.get("SCTLR_EL1") == 0x00C5_0838
    assert vm.engine.get("VMPIDR_EL2") == 0x8000_0001
    assert vm.engine.get("VBAR_EL1") == vm.engine.get("SP") == 0


def test_cpu_that_was_off_starts_afresh(build):
    """On, off, on: the second life knows nothing of the first."""
    wait = [*mov(9, 40_000), subs(9, 9, 1), b_if(NE, -1)]
    first = [*wait, *call(CPU_ON, 1, SECOND + 8, 7), WFI]
    second = [movz(7, 1), b(2), WFI, *call(CPU_OFF), WFI]
    vm = build(two(first, second), cpus=2)
    exit = vm.run()
    assert isinstance(exit, exits.Wfi)
    assert exit.vcpu == 1
    assert vm.engine.get("PC") == SECOND + 12
    assert vm.engine.get("X0") == 7
    assert vm.engine.get("X7") == 0


def test_all_off(build):
    vm = build(two(call(CPU_OFF), call(CPU_OFF)), cpus=2)
    assert isinstance(vm.run(), exits.Wfi)
    assert {vcpu.state for vcpu in vm.machine.vcpus} == {MpState.STOPPED}


SPIN = [add(5, 5, 1), NOP, NOP, b(-3)]


def test_turns_are_slices(build):
    vm = build(two(SPIN, SPIN), cpus=2)
    turns = []
    enter = vm.scheduler.enter

    def noted(vcpu):
        turns.append((vm.stats().cycles, vcpu.index))
        enter(vcpu)

    vm.scheduler.enter = noted
    vm.run(20 * SLICE)
    assert [index for _, index in turns[:6]] == [1, 0, 1, 0, 1, 0]
    gaps = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(turns)]
    assert len(turns) > 15
    assert all(SLICE <= gap < SLICE + 4 for gap in gaps)


def test_stolen_time_is_what_the_others_ran(build):
    first = [*call(PV_TIME_ST), *SPIN]
    second = [*call(PV_TIME_ST), *SPIN]
    vm = build(two(first, second), cpus=2)
    vm.run(20 * SLICE)
    zero, one = vm.machine.vcpus
    assert zero.stolen + one.stolen == pytest.approx(vm.stats().cycles, abs=2 * SLICE)
    assert abs(zero.stolen - one.stolen) <= 2 * SLICE
    starts = vm.el2.services["pvtime"].state.starts
    for vcpu in (zero, one):
        record = vm.engine.read(RECORDS.base + 64 * vcpu.index, 64)
        published = struct.unpack_from("<Q", record, 8)[0]
        assert record[:8] == bytes(8)
        assert 0 < published <= vcpu.stolen - starts[vcpu.index]


def test_a_sleeper_is_not_robbed(build):
    vm = build(two(SPIN, [WFI]), cpus=2)
    vm.run(10 * SLICE)
    assert vm.machine.vcpus[1].stolen < 2 * SLICE
    assert vm.machine.vcpus[0].stolen < SLICE


def test_a_machine_runs_the_same_again():
    def once():
        watch = Watch()
        vm = Vm(GUESTS / "psci_cpu_on.elf", cpus=4, seed=3, instruments=[watch], native=FAST)
        exit = vm.run()
        return exit, summary(vm, watch)

    assert once() == once()


def alone_then_two() -> list[int]:
    """Alone for several slices, then two, then alone again: every kind of turn."""
    count = [*mov(9, 12_345), subs(9, 9, 1), b_if(NE, -1)]
    second = [*call(PV_TIME_ST), *count, *call(CPU_OFF)]
    head = [*count, *call(CPU_ON, 1, SECOND, 0), *call(PV_TIME_ST), *count, *count, *count,
            *call(SYSTEM_OFF)]  # fmt: skip
    return [*head, *[NOP] * (0x100 - len(head)), *second]


def cut_run(make, cuts: list[int]):
    watch = Watch()
    vm = make(watch)
    ends = [exit for cycles in cuts if not isinstance(exit := vm.run(cycles), exits.Deadline)]
    exit = ends[0] if ends else vm.run()
    return exit, summary(vm, watch)


CUTS = st.lists(
    st.one_of(st.integers(0, 30_000), st.integers(9_990, 10_010)), min_size=1, max_size=12
)
many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many
@given(cuts=CUTS)
def test_cuts_change_nothing_for_two(build, cuts):
    def make(watch):
        return build(alone_then_two(), cpus=2, instruments=[watch])

    if not hasattr(build, "uncut"):
        build.uncut = cut_run(make, [])
    assert isinstance(build.uncut[0], exits.SystemEvent)
    found = cut_run_until_over(make, cuts)
    assert found == build.uncut


def cut_run_until_over(make, cuts: list[int]):
    """Like cut_run, but stops cutting when the machine is over."""
    watch = Watch()
    vm = make(watch)
    for cycles in cuts:
        exit = vm.run(cycles)
        if not isinstance(exit, exits.Deadline):
            return exit, summary(vm, watch)
    return vm.run(), summary(vm, watch)


def four(watch: Watch) -> Vm:
    return Vm(GUESTS / "psci_cpu_on.elf", cpus=4, instruments=[watch], native=FAST)


_uncut_four: list[object] = []


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60_000), min_size=1, max_size=12))
def test_cuts_change_nothing_for_four(cuts):
    if not _uncut_four:
        _uncut_four.append(cut_run_until_over(four, []))
    assert cut_run_until_over(four, cuts) == _uncut_four[0]


@pytest.mark.parametrize("stretch", [777, 10_000])
def test_regular_cuts_change_nothing(stretch):
    assert cut_run_until_over(four, [stretch] * 2000) == cut_run_until_over(four, [])


# -- exits that wait for an answer ---------------------------------------------------------------


def forwarding(build, conduit=hvc, **options) -> Vm:
    values = [word for n in range(1, 18) for word in mov(n, 0x1000 + n)]
    vm = build(values, *mov(0, FORWARDED), conduit(), movz(20, 9), WFI, **options)
    vm.filter(FORWARDED, action="forward", target="me")
    return vm


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


@pytest.mark.parametrize(
    ("ret", "registers"),
    [
        (None, (MINUS_ONE, 0, 0, 0)),
        (5, (5, 0, 0, 0)),
        (-2, (MINUS_ONE - 1, 0, 0, 0)),
        (1 << 64, (0, 0, 0, 0)),
        (Ret.only(7), (7, 0x1001, 0x1002, 0x1003)),
        (Ret.untouched(), (FORWARDED, 0x1001, 0x1002, 0x1003)),
    ],
)
def test_answers(build, ret, registers):
    vm = forwarding(build)
    exit = vm.run()
    if ret is not None:
        exit.ret = ret
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(4) == registers


@halves
def test_answer_undef(build, native):
    watch = Watch()
    vm = forwarding(build, native=native, instruments=[watch])
    exit = vm.run()
    before = vm.stats().instructions
    vm.engine.set("VBAR_EL1", LOAD + 0x1000 - 0x200)
    vm.engine.write(LOAD + 0x1000, code(WFI))
    exit.ret = UNDEF
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("PC") == LOAD + 0x1004
    assert vm.engine.get("ESR_EL1") == 0x0200_0000
    assert vm.stats().instructions == before  # the HVC given back, the WFI retired
    assert watch.calls[0].answer is UNDEF
    assert len(watch.exceptions) == 1


def test_every_exit_up_to_the_last(build):
    vm = build(call(FORWARDED), call(FORWARDED), call(SYSTEM_OFF))
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


class Adder(Service):
    name = "adder"

    @fn(0xC600_0043)
    def add(self, call):
        return Ret.success(call.arg(1) + call.arg(2))


def test_service_of_ones_own(build):
    vm = build(call(0xC600_0043, 40, 2), WFI, services=[Adder])
    vm.run()
    assert vm.engine.arguments(2) == (0, 42)


class Failing(Service):
    name = "failing"

    @fn(0xC600_0044)
    def fail(self, call):
        raise ZeroDivisionError("mine")


@halves
def test_service_that_fails(build, native):
    vm = build(call(0xC600_0044), movz(5, 1), WFI, services=[Failing], native=native)
    with pytest.raises(ZeroDivisionError, match="mine"):
        vm.run()
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 1


# -- system events --------------------------------------------------------------------------------

EVENTS = [
    ("kvm-6.12", [SYSTEM_OFF], exits.EventKind.SHUTDOWN, 0),
    ("kvm-6.12", [SYSTEM_RESET], exits.EventKind.RESET, 0),
    ("kvm-6.12", [RESET2, 0, 5], exits.EventKind.RESET, exits.FLAG_PSCI_RESET2),
    ("kvm-6.17", [SYSTEM_OFF2, 1, 0], exits.EventKind.SHUTDOWN, exits.FLAG_PSCI_OFF2),
]


@halves
@pytest.mark.parametrize(("profile", "registers", "kind", "flags"), EVENTS)
def test_system_event(build, native, profile, registers, kind, flags):
    vm = build(call(*registers), movz(5, 1), WFI, profile=profile, native=native)
    exit = vm.run()
    assert isinstance(exit, exits.SystemEvent)
    assert (exit.kind, exit.flags, exit.vcpu) == (kind, flags, 0)
    assert exit.cycles == vm.stats().cycles
    # Resumed, the machine is off ...
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 0
    assert vm.engine.get("X0") == INTERNAL_FAILURE
    # ... unless the caller makes a vCPU runnable.
    vm.machine.vcpus[0].state = MpState.RUNNABLE
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 1


def test_system_suspend(build):
    base = load_profile("kvm-6.12")
    options = {**base.services["psci"], "system_suspend": True}
    vm = build(
        call(SYSTEM_SUSPEND, SECOND, 3), movz(5, 1), WFI,
        profile=with_services(base, {"psci": options}),
    )  # fmt: skip
    exit = vm.run()
    assert isinstance(exit, exits.SystemEvent)
    assert exit.kind is exits.EventKind.SUSPEND
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(3) == (SYSTEM_SUSPEND, SECOND, 3)
    assert vm.engine.get("X5") == 1


# -- semihosting ------------------------------------------------------------------------------


def leave(operation: int, reason: int, status: int) -> list[int]:
    return [*mov(1, LOAD + 0x800), *mov(2, reason), store(2, 1), *mov(2, status),
            0xF900_0422, *mov(0, operation), hlt(0xF000), movz(5, 1), WFI]  # str x2, [x1, #8]


@halves
@pytest.mark.parametrize("operation", [0x18, 0x20])
@pytest.mark.parametrize(("status", "code"), [(0, 0), (7, 7), (255, 255), (256, 0), (0x1FF, 255)])
def test_semihosting_exit(build, native, operation, status, code):
    vm = build(leave(operation, 0x2_0026, status), native=native)
    exit = vm.run()
    assert isinstance(exit, exits.Semihosting)
    assert (exit.code, exit.vcpu) == (code, 0)
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 1


def test_semihosting_exit_for_another_reason(build):
    exit = build(leave(0x20, 0x2_0023, 0)).run()
    assert isinstance(exit, exits.Semihosting)
    assert exit.code == 1


def test_input_reaches_the_guest():
    vm = Vm(GUESTS / "semihosting.elf", console=Console(Typed(b"typed\n")), native=FAST)
    exit = vm.run()
    assert isinstance(exit, exits.Semihosting)
    assert exit.code == 42
    assert "echo: typed" in str(vm.console)


def test_input_by_uart(build):
    read = [*mov(1, UART), ldr_w(2, 1), ldr_w(3, 1), ldr_w(4, 1),
            0xB940_1825, WFI]  # ldr w5, [x1, #24]
    vm = build(read, console=Console(Typed(b"ab")))
    vm.run()
    assert [vm.engine.get(f"X{n}") for n in (2, 3, 4)] == [ord("a"), ord("b"), 0]
    assert vm.engine.get("X5") & 1 << 4  # nothing more to receive


@halves
def test_console_that_breaks(build, native):
    """A sink's error, such as a closed pipe, is the caller's."""

    def sink(data: bytes) -> None:
        raise BrokenPipeError

    vm = build(*mov(1, UART), str_w(2, 1), WFI, console=Console(sink=sink), native=native)
    with pytest.raises(BrokenPipeError):
        vm.run()


# -- what the user gives -------------------------------------------------------------------------


@pytest.mark.parametrize("cpus", [0, -1, 124, 1000])
def test_cpus_out_of_range(build, cpus):
    with pytest.raises(BootError, match="1 to 123 CPUs"):
        build(WFI, cpus=cpus)


@pytest.mark.parametrize("memory", [0, MIB - 1, MIB + 1, -MIB, (64 << 30) + MIB])
def test_memory_out_of_range(build, memory):
    with pytest.raises(BootError, match="--mem"):
        build(WFI, memory=memory)


@pytest.mark.parametrize(("cpus", "memory"), [(123, MIB), (1, MIB), (2, 4 << 30)])
def test_sizes_at_the_border(build, cpus, memory):
    assert isinstance(build(WFI, cpus=cpus, memory=memory).run(), exits.Wfi)


def test_image_that_is_not_there(tmp_path):
    with pytest.raises(BootError, match="nothing"):
        Vm(tmp_path / "nothing")


def test_device_tree_of_ones_own(build, tmp_path):
    blob = device_tree(Board(ram_base=0x4000_0000, ram_size=64 * MIB, mpidrs=(0,),
                             psci=None, bootargs="mine"))  # fmt: skip
    path = tmp_path / "mine.dtb"
    path.write_bytes(blob)
    vm = build(WFI, dtb=path)
    vm.run()
    assert vm.engine.read(vm.engine.get("X0"), len(blob)) == blob


@pytest.mark.parametrize("data", [b"", b"no tree", b"\xd0\x0d\xfe\xed" + bytes(60)])
def test_device_tree_that_is_none(build, tmp_path, data):
    path = tmp_path / "bad.dtb"
    path.write_bytes(data)
    with pytest.raises(BootError, match=r"bad\.dtb"):
        build(WFI, dtb=path)


@pytest.mark.parametrize("option", ["dtb", "initrd"])
def test_file_that_is_not_there(build, tmp_path, option):
    with pytest.raises(BootError, match="gone"):
        build(WFI, **{option: tmp_path / "gone"})


def tree_of(vm: Vm) -> bytes:
    address = vm.engine.get("X0")
    size = int.from_bytes(vm.engine.read(address + 4, 4), "big")
    return vm.engine.read(address, size)


def test_initrd_lies_at_the_top(build, tmp_path):
    path = tmp_path / "initrd"
    path.write_bytes(b"initrd!" * 1000)
    vm = build(WFI, initrd=path)
    end = 0x4000_0000 + 64 * MIB
    start = (end - 7000) & ~0xFFF
    assert vm.engine.read(start, 7000) == path.read_bytes()
    tree = tree_of(vm)
    assert b"linux,initrd-start" in tree
    assert struct.pack(">Q", start) in tree
    assert struct.pack(">Q", start + 7000) in tree


def test_initrd_too_large(build, tmp_path):
    path = tmp_path / "initrd"
    path.write_bytes(bytes(2 * MIB))
    with pytest.raises(BootError, match="mem"):
        build(WFI, initrd=path, memory=2 * MIB)


def test_command_line_and_conduit(build):
    tree = tree_of(build(WFI, append="console=ttyAMA0 quiet", conduit="smc"))
    assert b"console=ttyAMA0 quiet\0" in tree
    assert b"smc\0" in tree
    assert b"smc\0" not in tree_of(build(WFI))


def test_profile_without_firmware(build):
    assert b"psci" not in tree_of(build(WFI, profile="none"))


def test_seed_is_what_the_guest_draws(build):
    def draw(seed: int) -> tuple[int, ...]:
        vm = build(call(0xC400_0053, 192), WFI, seed=seed)
        vm.run()
        return vm.engine.arguments(4)

    assert draw(1) == draw(1) != draw(2)


# -- hostile guests ------------------------------------------------------------------------------

VECTORS = LOAD + 0x2000
HOSTILE = {
    "jumps to nothing": [*mov(1, NOWHERE), br(1)],
    "jumps to an odd address": [*mov(1, LOAD + 2), br(1)],
    "jumps to the last byte": [*mov(1, MINUS_ONE), br(1)],
    "jumps where Unicorn would stop": [*mov(1, 0xFFFF_FFFF_FFFF_FFF1), br(1)],
    "jumps into the UART": [*mov(1, UART), br(1)],
    "falls off its code": [NOP],
    "undefined without vectors": [udf()],
    "vectors in the UART": [*mov(1, UART), msr(VBAR_EL1, 1), udf()],
    "vectors at an odd address": [*mov(1, VECTORS + 3), msr(VBAR_EL1, 1), udf()],
    "loops on an exception": [*mov(1, VECTORS), msr(VBAR_EL1, 1), *mov(2, VECTORS + 0x200),
                              *mov(3, ERET), str_w(3, 2), udf()],
    "overwrites its vectors": [*mov(1, VECTORS), msr(VBAR_EL1, 1), svc(), *mov(2, VECTORS + 0x200),
                               str_w(31, 2), svc()],
    # mov sp, x1; str x0, [sp, #-16]!
    "garbage in SP": [*mov(1, 0x1234_5678_9ABC_DEF1), 0x9100_003F, 0xF81F_0FE0],
    "MMU on over an empty table": [
        *mov(1, LOAD + 0x1_0000), msr(TTBR0_EL1, 1), *mov(1, 16), msr(TCR_EL1, 1), ISB,
        mrs(1, SCTLR_EL1), add(1, 1, 1), msr(SCTLR_EL1, 1), ISB, NOP,
    ],
    "MMU on over nothing": [
        *mov(1, NOWHERE), msr(TTBR0_EL1, 1), *mov(1, 16), msr(TCR_EL1, 1), ISB,
        mrs(1, SCTLR_EL1), add(1, 1, 1), msr(SCTLR_EL1, 1), ISB, NOP,
    ],
    "ERET to EL2": [*mov(1, 0x3C9), msr((3, 0, 4, 0, 0), 1), msr(ELR_EL1, 1), ERET],
    "ERET to AArch32": [*mov(1, 0x1D3), msr((3, 0, 4, 0, 0), 1), *mov(1, LOAD), msr(ELR_EL1, 1),
                        ERET],
    "writes all over itself": [*mov(1, LOAD), store(1, 1), add(1, 1, 8), b(-2)],
    "switches on a CPU that has no code": [*call(CPU_ON, 1, NOWHERE, 0), *call(CPU_OFF)],
}  # fmt: skip


def compare(build, words, **options):
    """The same in both halves: exit, totals, console, calls, exceptions, registers."""
    found = []
    for native in (False, True) if FAST else (False,):
        watch = Watch()
        vm = build(words, native=native, cpus=2, memory=2 * MIB, instruments=[watch], **options)
        exit = vm.run(20_000)
        registers = vm.engine.arguments(31), vm.engine.get("PC"), vm.engine.get("SP")
        found.append((exit, summary(vm, watch), registers))
    assert found[0] == found[-1]
    return found[0][0]


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_guest_ends_in_an_exit(build, what):
    exit = compare(build, HOSTILE[what])
    assert isinstance(exit, exits.Fault | exits.Deadline | exits.Wfi)
    if isinstance(exit, exits.Fault):
        assert exit.reason
        assert exit.cycles <= 20_000


@pytest.mark.parametrize(
    ("address", "name"),
    [(0x0802_0008, "GICv2m frame"), (0x0902_0000, "fw_cfg"), (0x3F00_0000, "PCIe")],
)  # fmt: skip
@pytest.mark.parametrize("word", [ldr(0, 1), str_w(0, 1)])
def test_device_that_is_missing_is_named(build, address, name, word):
    exit = build(*mov(1, address), word, WFI).run()
    assert isinstance(exit, exits.Fault)
    assert name in exit.reason
    assert f"{address:#x}" in exit.reason
    assert exit.pc == LOAD + 4 * len(mov(1, address))
    assert (exit.pc, word) in exit.instructions


def test_fault_tells_of_the_last_call(build):
    exit = build(call(0x8400_0000), udf()).run()
    assert isinstance(exit, exits.Fault)
    assert exit.last_call.fid == 0x8400_0000
    assert exit.esr is not None


# -- random guests -------------------------------------------------------------------------------

# A handler that steps over whatever failed, so that every word of the program has its chance.
SKIP = [mrs(29, ELR_EL1), add(29, 29, 4), msr(ELR_EL1, 29), ERET]
WORDS = st.one_of(
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0x3F_FFFF).map(lambda n: 0xD500_0000 | n),  # system
    st.integers(0, 0x7FF).map(lambda n: 0xD400_0000 | n << 5 | (n * 7 & 3)),  # exceptions
    st.integers(0, 0x3FF_FFFF).map(lambda n: 0x3800_0000 | n | (n & 3) << 30),  # loads, stores
    st.integers(0, 0x1FF_FFFF).map(lambda n: 0x0800_0000 | n % (1 << 24) | (n & 3) << 30),
    st.integers(0, 0x3FF_FFFF).map(lambda n: 0x0A00_0000 | n | (n & 1) << 31),  # data processing
    st.integers(-40, 40).map(b),
    st.builds(b_if, st.integers(0, 15), st.integers(-40, 40)),
    st.sampled_from(
        [WFI, ERET, hvc(), smc(), svc(), hlt(0xF000), NOP, eor(0, 0, 0), mrs(0, ESR_EL1)]
    ),
)
POINTERS = {1: LOAD + 0x800, 2: UART, 3: NOWHERE, 4: LOAD, 5: LOAD + 0x2000, 6: 0x090A_0000,
            7: CPU_ON, 8: 0xFFFF_0000_0000_0000, 30: LOAD + 0x20}  # fmt: skip


def fuzz_program(words: list[int]) -> list[int]:
    head = [*mov(0, VECTORS), msr(VBAR_EL1, 0)]
    head += [word for n, value in POINTERS.items() for word in mov(n, value)]
    head += [*mov(0, LOAD + 0x1000), 0x9100_001F, *mov(0, 0x8400_0000)]  # mov sp, x0
    program = [*head, *words]
    program += [WFI, b(-1)]
    padding = [WFI] * ((VECTORS - LOAD) // 4 - len(program))
    vectors = [word for _ in range(16) for word in (*SKIP, *[NOP] * 28)]
    return [*program, *padding, *vectors]


@pytest.fixture(scope="module")
def fuzz_build(tmp_path_factory) -> Iterator[object]:
    path = tmp_path_factory.mktemp("fuzz") / "guest.bin"

    def make(words, **options) -> Vm:
        path.write_bytes(code(*words))
        return Vm(path, load=LOAD, **options)

    return make


@settings(max_examples=200, deadline=None)
@given(words=st.lists(WORDS, min_size=64, max_size=64))
def test_random_guest(fuzz_build, words):
    compare(fuzz_build, fuzz_program(words))


@settings(max_examples=80, deadline=None)
@given(data=st.binary(min_size=256, max_size=256))
def test_random_bytes(fuzz_build, data):
    compare(fuzz_build, list(struct.unpack("<64I", data)))

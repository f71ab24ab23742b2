"""A whole machine: what a user gives and calls, its limits, hostile and random guests."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base import exits
from emu.base.console import Console, Typed
from emu.base.errors import BootError
from emu.base.smccc import Ret
from emu.images.devicetree import Board, device_tree
from emu.machine.vm import MIB, Vm
from engine_kit import (
    ELR_EL1,
    ERET,
    ESR_EL1,
    ISB,
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
    ldr_w,
    mov,
    movz,
    mrs,
    msr,
    smc,
    store,
    str_w,
    svc,
    udf,
)  # fmt: skip
from guest_kit import CPU_OFF, CPU_ON, FAST, LOAD, call, summary
from kit import Watch
from places import GUESTS

MINUS_ONE = 0xFFFF_FFFF_FFFF_FFFF
UART, NOWHERE = 0x0900_0000, 0x0F00_0000


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


# What a user calls; parts of a machine are attributes beside these. A name more or less is a
# decision: `help(Vm)` is what users read.
PUBLIC = {
    "run", "exits", "pending", "reset", "monitor", "el2", "filter", "move_to", "begin_below",
    "stats", "cpu", "current", "memory", "trap_costs", "tolls", "follow",
    "call", "buffer", "symbol", "save", "load",
}  # fmt: skip


def test_help_shows_what_a_user_calls():
    names = {name for name in dir(Vm) if not name.startswith("_")}
    assert names == PUBLIC
    for name in names:
        assert (getattr(Vm, name).__doc__ or "").strip(), f"{name} says what it is"


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

"""Devices: accesses in order, errors kept, and a byte stream that either half hands on alike."""

from __future__ import annotations

import pytest

from emu.base.console import Console, Typed
from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import Event
from emu.cycles.tracks import Kind
from emu.cycles.trap_prices import trap_prices
from emu.engine.engine import Stop
from emu.machine.vm import Vm
from engine_kit import (
    NE,
    NOP,
    WFI,
    b_if,
    cbz,
    code,
    go,
    halves,
    hvc,
    ldr_w,
    machine,
    mov,
    str_w,
    subs,
)
from timing_kit import ByWord, by_word, elapsed, frames, total

LOAD, UART = 0x4008_0000, 0x0900_0000
FR, RIS, CR = 0x18, 0x3C, 0x30
VERSION = 0x8400_0000


@pytest.fixture
def build(tmp_path):
    def make(*words, **options):
        flat = [w for word in words for w in (word if isinstance(word, list) else [word])]
        path = tmp_path / "code.bin"
        path.write_bytes(code(*flat))
        return Vm(path, load=LOAD, **options)

    return make


def put(text: str) -> list[int]:
    """Write characters to DR, whose address is in x1."""
    return [word for c in text for word in (*mov(2, ord(c)), str_w(2, 1))]


def at(offset: int) -> list[int]:
    """The address of a register in x3."""
    return mov(3, UART + offset)


@halves
def test_bytes_arrive_in_order_and_all(build, native):
    told: list[bytes] = []
    console = Console(sink=told.append)
    vm = build(mov(1, UART), put("one\ntwo"), WFI, console=console, native=native)
    vm.run()
    assert str(console) == "one\ntwo"
    assert b"".join(told) == b"one\ntwo"


@halves
def test_more_than_fits_at_once(build, native):
    words = [mov(1, UART), mov(2, ord("x")), mov(5, 5000), str_w(2, 1), subs(5, 5, 1), b_if(NE, -2)]
    vm = build(*words, WFI, native=native)
    vm.run()
    assert str(vm.console) == "x" * 5000


@halves
def test_a_register_is_read_behind_every_byte(build, native):
    """RIS has the transmit interrupt as soon as a byte was written; writes keep their order."""
    words = [mov(1, UART), at(RIS), ldr_w(6, 3), put("a"), ldr_w(7, 3), at(CR), mov(2, 0x301),
             str_w(2, 3), put("b"), ldr_w(8, 3), WFI]  # fmt: skip
    vm = build(*words, native=native)
    vm.run()
    assert [vm.engine.get(f"X{n}") for n in (6, 7, 8)] == [0, 1 << 5, 0x301]
    assert str(vm.console) == "ab"


@halves
@pytest.mark.parametrize(("typed", "flags"), [(b"", 0x90), (b"k", 0xC0)])
def test_the_status_register(build, native, typed, flags):
    """Eight reads running are polling: then it shows what was typed (devices/pl011.py)."""
    words = [at(FR), [ldr_w(6, 3)] * 8, at(0), ldr_w(7, 3), at(FR), ldr_w(8, 3), WFI]
    vm = build(*words, console=Console(Typed(typed)), native=native)
    vm.run()
    assert [vm.engine.get(f"X{n}") for n in (6, 7, 8)] == [flags, *(typed or b"\0"), 0x90]


@halves
def test_a_call_sees_what_was_printed_before_it(build, native):
    seen: list[str] = []
    vm = build(mov(1, UART), put("before"), mov(0, VERSION), hvc(), WFI, native=native)

    class Look:
        def on_call(self, record):
            seen.append(str(vm.console))

        def on_exit(self, exit):
            pass

    vm.instruments.append(Look())
    vm.run()
    assert seen == ["before"]


@halves
def test_an_error_of_the_sink_comes_out_of_the_run(build, native):
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    words = [mov(1, UART), put("x\n"), NOP, cbz(31, 1), NOP, WFI]
    vm = build(*words, console=Console(sink=full), native=native)
    with pytest.raises(OSError, match="No space left"):
        vm.run()


@halves
def test_a_transmit_interrupt_comes_with_its_byte(build, native):
    """TX unmasked and cleared, then one byte without a line's end: the line rises at once."""
    words = [at(0x38), mov(2, 0x20), str_w(2, 3), at(0x44), str_w(2, 3), *put("a"), *[NOP] * 3, WFI]
    vm = build(*mov(1, UART), *words, native=native)
    levels: list[tuple[bool, int]] = []
    vm.board.devices["pl011"]._line = lambda level: levels.append((level, vm.engine.instructions))
    vm.run(10_000)
    assert [level for level, _ in levels] == [True]
    assert str(vm.console) == "a"


# -- what an access costs --------------------------------------------------------------------------

KEY, PRICE = 77, 16 * 500 + 5


class Plain:
    """A device of two registers, without a native half."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.moments: list[int] = []
        self.now = lambda: 0

    def read(self, offset: int, width: int) -> int:
        self.moments.append(self.now())
        return 7

    def write(self, offset: int, width: int, value: int) -> None:
        self.moments.append(self.now())
        self.seen.append((offset, value))


DEVICE = 0x0A10_0000


@halves
@pytest.mark.parametrize("price", [None, (KEY, PRICE), (KEY, 0)])
def test_each_access_costs_its_price(native, price):
    """Read or write, told once each; without a price nothing is."""
    engine = machine(native, str_w(2, 1), ldr_w(3, 1), str_w(2, 1), WFI)
    device = Plain()
    engine.map_device(DEVICE, 0x1000, device, price)
    engine.set("X1", DEVICE)
    model = by_word(engine)
    engine.hooks.follow()
    assert go(engine) is Stop.WFI
    spent = 3 * price[1] if price else 0
    assert elapsed(engine) == total([str_w(2, 1), ldr_w(3, 1), str_w(2, 1), WFI]) + spent
    traps = [frame for frame in frames(engine) if frame[0] == Kind.TRAP]
    assert traps == ([(Kind.TRAP, KEY, 0, 3, spent, 0)] if price else [])
    assert len(model.asked) >= 1


@halves
def test_a_device_sees_the_time_with_its_price_in_it(native):
    """It is the hypervisor that answers, after the trap."""
    engine = machine(native, str_w(2, 1), str_w(2, 1), WFI)
    device = Plain()
    device.now = lambda: elapsed(engine)
    engine.map_device(DEVICE, 0x1000, device, (KEY, PRICE))
    engine.set("X1", DEVICE)
    by_word(engine)
    go(engine)
    block = total([str_w(2, 1), str_w(2, 1), WFI])
    assert device.moments == [block + PRICE, block + 2 * PRICE], "its block was charged before"


@halves
@pytest.mark.parametrize("price", [None, (KEY, PRICE)])
def test_each_access_to_the_uart_costs_its_price(build, native, price):
    """Bytes that are gathered as well as each read of the status, in both halves alike."""
    words = [*mov(1, UART), *put("ab\n"), *at(FR), ldr_w(6, 3), ldr_w(6, 3), *at(RIS), ldr_w(6, 3),
             *at(CR), str_w(6, 3), WFI]  # fmt: skip
    vm = build(*words, native=native, core="cortex-a53", trap_costs="kvm-vhe" if price else "zero")
    vm.engine.account(BlockCosts(ByWord()))
    vm.follow()
    vm.run(1_000_000)
    events = [frame for frame in frames(vm.engine) if frame[:2] == (Kind.TRAP, Event.MMIO)]
    if not price:
        assert events == []
        assert elapsed(vm.engine) == total(words)
        return
    costs = trap_prices("kvm-vhe")
    each = costs.hvc_entry.cycles + costs.vmm.cycles + costs.hvc_return.cycles
    assert events == [(Kind.TRAP, Event.MMIO, 0, 7, 7 * each * SIXTEENTHS, 0)]
    assert elapsed(vm.engine) == total(words) + 7 * each * SIXTEENTHS

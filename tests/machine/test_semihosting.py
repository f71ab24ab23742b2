"""Semihosting: the terminal by its specification, and guests that hand over nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.clock import Clock
from emu.base.console import Console, Typed
from emu.machine.semihosting import Semihosting
from kit import ONES, FakeMemory

OPEN, CLOSE, WRITEC, WRITE0, WRITE, READ, READC = range(1, 8)
ISTTY, CLOCK, ERRNO, EXIT, EXIT_EXTENDED = 0x09, 0x10, 0x13, 0x18, 0x20
BLOCK, TEXT, NOWHERE = 0x1000, 0x2000, 0xDEAD_0000
FAILED = ONES
STDIN, STDOUT, STDERR = 1, 2, 3


class Guest:
    """Calls with a parameter block of words, and text elsewhere."""

    def __init__(self, text: bytes = b"", typed: bytes = b"") -> None:
        self.memory = FakeMemory({BLOCK: bytes(64), TEXT: text.ljust(64, b"\0")})
        self.console, self.clock = Console(Typed(typed)), Clock()
        self.debugger = Semihosting(self.memory, self.console, self.clock)

    def call(self, operation: int, *words: int) -> int:
        for n, word in enumerate(words):
            self.memory.write_virtual(BLOCK + 8 * n, word.to_bytes(8, "little"))
        return self.debugger.call(operation, BLOCK)

    def text(self, size: int) -> bytes:
        return self.memory.read_virtual(TEXT, size)


@pytest.mark.parametrize(
    ("mode", "handle"),
    [(0, STDIN), (3, STDIN), (4, STDOUT), (7, STDOUT), (8, STDERR), (11, STDERR), (12, FAILED)],
)
def test_open_the_terminal(mode, handle):
    assert Guest(b":tt").call(OPEN, TEXT, mode, 3) == handle


def test_nothing_else_opens():
    assert Guest(b"file").call(OPEN, TEXT, 4, 4) == FAILED
    assert Guest(b"abc").call(OPEN, TEXT, 4, 3) == FAILED
    assert Guest().call(OPEN, NOWHERE, 4, 3) == FAILED


@pytest.mark.parametrize(("handle", "closed"), [(0, FAILED), (1, 0), (3, 0), (4, FAILED)])
def test_close_and_istty(handle, closed):
    assert Guest().call(CLOSE, handle) == closed
    assert Guest().call(ISTTY, handle) == (FAILED if closed else 1)


def test_write_a_character():
    guest = Guest(b"x")
    guest.debugger.call(WRITEC, TEXT)
    guest.debugger.call(WRITEC, NOWHERE)
    assert str(guest.console) == "x"


def test_write_a_string_up_to_its_zero():
    guest = Guest(b"hello\0 hidden")
    guest.debugger.call(WRITE0, TEXT)
    assert str(guest.console) == "hello"


def test_write_a_long_string():
    guest = Guest()
    guest.memory.pieces[TEXT] = bytearray(b"x" * 1000 + b"\0" * 100)
    guest.debugger.call(WRITE0, TEXT)
    assert str(guest.console) == "x" * 1000


def test_write_a_string_that_runs_off_the_map():
    guest = Guest(b"x" * 64)
    guest.debugger.call(WRITE0, TEXT)
    assert str(guest.console) == "x" * 64


def test_write_a_string_across_two_mappings():
    guest = Guest()
    guest.debugger.memory = FakeMemory({0: b"a" * 100, 100: b"b" * 200 + bytes(300)})
    guest.debugger.call(WRITE0, 0)
    assert str(guest.console) == "a" * 100 + "b" * 200


def test_a_string_without_end_stops_somewhere(monkeypatch):
    monkeypatch.setattr("emu.machine.semihosting.LONGEST_STRING", 512)
    guest = Guest()
    guest.memory.pieces[TEXT] = bytearray(b"x" * 4096)
    guest.debugger.call(WRITE0, TEXT)
    assert str(guest.console) == "x" * 512


@pytest.mark.parametrize(
    ("handle", "address", "size", "left", "printed"),
    [
        (STDOUT, TEXT, 5, 0, "hello"),
        (STDERR, TEXT, 4, 0, "hell"),
        (STDIN, TEXT, 5, FAILED, ""),
        (STDOUT, NOWHERE, 5, 5, ""),
        (STDOUT, TEXT, 1 << 40, 1 << 40, ""),
    ],
)
def test_write_returns_what_is_left(handle, address, size, left, printed):
    guest = Guest(b"hello")
    assert guest.call(WRITE, handle, address, size) == left
    assert str(guest.console) == printed


def test_read_a_line():
    guest = Guest(typed=b"ab\ncd")
    assert guest.call(READ, STDIN, TEXT, 10) == 7
    assert guest.text(4) == b"ab\n\0"
    assert guest.call(READ, STDIN, TEXT, 1) == 0
    assert guest.call(READ, STDIN, TEXT, 9) == 8
    assert guest.text(1) == b"d"
    assert guest.call(READ, STDIN, TEXT, 9) == 9, "end of input"


def test_read_refused():
    assert Guest(typed=b"x").call(READ, STDOUT, TEXT, 1) == FAILED
    assert Guest(typed=b"x").call(READ, STDIN, NOWHERE, 1) == FAILED


def test_read_a_character():
    guest = Guest(typed=b"q")
    assert guest.call(READC) == ord("q")
    assert guest.call(READC) == FAILED


def test_clock_counts_centiseconds():
    guest = Guest()
    guest.clock.jump(1_239_999_999)
    assert guest.call(CLOCK) == 123


def test_errno_is_zero():
    assert Guest().call(ERRNO) == 0


@pytest.mark.parametrize("operation", [EXIT, EXIT_EXTENDED])
@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [(0x2_0026, 0, 0), (0x2_0026, 7, 7), (0x2_0026, 256, 0), (0x2_0023, 0, 1)],
)
def test_exit(operation, reason, code, status):
    guest = Guest()
    assert guest.debugger.exit_code is None
    guest.call(operation, reason, code)
    assert guest.debugger.exit_code == status


def test_exit_without_a_block_is_a_failure():
    guest = Guest()
    guest.debugger.call(EXIT, NOWHERE)
    assert guest.debugger.exit_code == 1


@pytest.mark.parametrize("operation", [OPEN, CLOSE, WRITE, READ, ISTTY])
def test_unmapped_block_fails(operation):
    assert Guest().debugger.call(operation, NOWHERE) == FAILED


def test_operation_is_w0():
    assert Guest().call(0xFFFF_FFFF_0000_0000 | ERRNO) == 0
    assert Guest().call(0x99) == FAILED


words = st.integers(0, ONES) | st.sampled_from([0, 1, 2, 3, 4, 8, TEXT, BLOCK, NOWHERE])


@given(st.integers(0, 0x31), st.lists(words, min_size=3, max_size=3), words)
def test_any_call_gives_64_bits(operation, block, parameter):
    guest = Guest(b":tt", typed=b"line\nmore")
    assert 0 <= guest.call(operation, *block) <= ONES
    assert 0 <= guest.debugger.call(operation, parameter) <= ONES

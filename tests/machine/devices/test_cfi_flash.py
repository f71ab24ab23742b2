"""The flash: its modes, what it says of itself (as QEMU's), programming and erasing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.state import from_state, to_state
from emu.machine.devices.cfi_flash import BANK, BUFFER, SECTOR, CfiFlash, State, query_table

ARRAY, STATUS, ID, QUERY, CLEAR = 0xFF, 0x70, 0x90, 0x98, 0x50
PROGRAM, BUFFERED, ERASE, LOCK, CONFIRM = 0x40, 0xE8, 0x20, 0x60, 0xD0
READY = 0x0080_0080
SIZE = 2 * SECTOR

QEMU_QUERY = bytes.fromhex(
    "515259010031000000000045550000070" "70a0004040400190200" "0b0001ff0000025052493130"
)
"""0x10 to 0x35, as qemu-system-aarch64 7.2 -M virt answers."""


def flash(content: bytes = b"", **options) -> CfiFlash:
    return CfiFlash(content, SIZE, **options)


def do(device: CfiFlash, *commands: int, at: int = 0) -> None:
    """Write commands to both chips."""
    for command in commands:
        device.write(at, 4, command << 16 | command)


def test_it_reads_as_memory_after_reset():
    device = flash(bytes(range(16)))
    assert device.array_mode
    assert [device.read(3, width) for width in (1, 2, 4, 8)] == [
        3, 0x0403, 0x0605_0403, 0x0A09_0807_0605_0403,
    ]
    assert device.read(16, 4) == 0xFFFF_FFFF


def test_a_writable_buffer_of_the_right_size_is_used_as_it_is():
    buffer = bytearray(SIZE)
    device = flash(buffer)
    do(device, ERASE, CONFIRM)
    assert buffer[:4] == b"\xff" * 4
    assert len(flash(bytearray(5)).content) == SIZE


@pytest.mark.parametrize(("content", "size"), [(b"", SECTOR + 1), (b"", 0), (b"12345", 4)])
def test_what_is_no_bank(content, size):
    with pytest.raises(ValueError, match="whole sectors"):
        CfiFlash(content, size)


def test_the_query():
    table = query_table(BANK)
    assert bytes(table.get(0x10 + n, 0) for n in range(len(QEMU_QUERY))) == QEMU_QUERY
    device = flash()
    device.write(0x55 * 4, 4, 0x0098_0098)
    assert [device.read(4 * n, 4) for n in (0x10, 0x11, 0x12)] == [
        letter | letter << 16 for letter in b"QRY"
    ]
    assert [device.read(0x40, width) for width in (1, 2, 8)] == [0x51, 0x51, 0x0052_0052_0051_0051]
    assert device.read(SECTOR, 4) == 0
    do(device, ID)
    assert device.read(0, 4) == 0x0089_0089
    do(device, ARRAY)
    assert device.array_mode


def test_the_identifier_and_locks():
    device = flash()
    do(device, ID)
    assert [device.read(4 * n, 4) for n in range(3)] == [0x0089_0089, 0x0018_0018, 0]
    assert device.read(SECTOR + 8, 4) == 0
    for action in (0x01, CONFIRM):
        do(device, LOCK, action)
        assert device.read(0, 4) == READY
    do(device, LOCK, 0x33)
    assert device.read(0, 4) == READY | 0x0030_0030


@pytest.mark.parametrize("command", [PROGRAM, 0x10])
def test_programming_clears_bits_only(command):
    device = flash()
    for value, held in ((0x1234_F0F0, 0x1234_F0F0), (0xFFFF_0FFF, 0x1234_00F0)):
        do(device, command, at=8)
        device.write(8, 4, value)
        assert device.read(0, 4) == READY
        do(device, ARRAY)
        assert device.read(8, 4) == held
    device.write(12, 1, command)
    device.write(13, 1, 0xA5)
    do(device, ARRAY)
    assert device.read(12, 4) == 0xFFFF_A5FF


def test_erasing_takes_its_confirmation():
    device = flash(bytes(SIZE))
    do(device, ERASE, ARRAY, at=SECTOR + 20)
    assert (device.array_mode, device.read(SECTOR, 4)) == (True, 0)
    do(device, ERASE, 0x33, at=SECTOR)
    assert device.read(0, 4) == READY | 0x0030_0030
    do(device, CLEAR)
    do(device, ERASE, CONFIRM, at=SECTOR + 20)
    assert device.read(0, 4) == READY
    do(device, ARRAY)
    assert [device.read(at, 4) for at in (SECTOR - 4, SECTOR, SIZE - 4)] == [0, *[0xFFFF_FFFF] * 2]


def buffered(device: CfiFlash, *words: tuple[int, int], count: int | None = None) -> None:
    """Up to the confirmation."""
    at = words[0][0]
    do(device, BUFFERED, at=at)
    assert device.read(at, 4) == READY
    do(device, (count or len(words)) - 1, at=at)
    for offset, value in words:
        device.write(offset, 4, value)


def test_a_buffered_program():
    device = flash()
    words = [(BUFFER + 16 + 4 * n, 0x1111 * (n + 1)) for n in range(4)]
    buffered(device, *words)
    assert device.content[BUFFER + 16 : BUFFER + 20] == b"\xff" * 4
    do(device, CONFIRM)
    assert device.read(0, 4) == READY
    do(device, ARRAY)
    assert [device.read(offset, 4) for offset, _ in words] == [value for _, value in words]
    assert device.read(BUFFER + 12, 4) == device.read(BUFFER + 32, 4) == 0xFFFF_FFFF
    assert (device.state.step, device.state.buffer) == (0, b"")


def test_a_buffered_program_that_is_broken_off():
    device = flash()
    buffered(device, (0, 0))
    do(device, ARRAY)
    assert device.read(0, 4) == READY | 0x0030_0030
    do(device, CLEAR)
    assert device.read(0, 4) == 0xFFFF_FFFF


def test_a_buffered_program_stays_in_its_buffer():
    device = flash()
    buffered(device, (0, 0), (BUFFER, 0))
    do(device, CONFIRM)
    assert device.read(0, 4) == READY | 0x0010_0010
    do(device, CLEAR, ARRAY)
    assert [device.read(at, 4) for at in (0, BUFFER)] == [0xFFFF_FFFF] * 2


def test_what_may_not_be_written():
    device = flash(b"kept", writable=False)
    do(device, PROGRAM, 0)
    assert device.read(0, 4) == READY | 0x0010_0010
    do(device, CLEAR)
    do(device, ERASE, CONFIRM)
    assert device.read(0, 4) == READY | 0x0020_0020
    do(device, CLEAR)
    buffered(device, (0, 0))
    do(device, CONFIRM)
    assert device.read(0, 4) == READY | 0x0010_0010
    assert device.content[:4] == b"kept"


@pytest.mark.parametrize("command", [ARRAY, 0xF0, 0x00, 0x33, CLEAR])
def test_back_to_memory_and_who_hears_of_it(command):
    modes: list[bool] = []
    device = flash(changed=modes.append)
    do(device, STATUS, ID, QUERY, command, command)
    assert modes == [False, True]


COMMANDS = [ARRAY, STATUS, ID, QUERY, CLEAR, PROGRAM, BUFFERED, ERASE, LOCK, CONFIRM, 0, 1, 2]
WRITES = st.tuples(st.integers(0, SIZE - 1), st.sampled_from([1, 2, 4, 8]),
                   st.sampled_from(COMMANDS) | st.integers(0, 2**64 - 1))


@given(st.lists(WRITES, max_size=12))
def test_no_sequence_fails(writes):
    device = flash()
    for offset, width, value in writes:
        device.write(offset, width, value & (1 << 8 * width) - 1)
        assert 0 <= device.read(offset, width) < 1 << 8 * width
        assert from_state(State, to_state(device.state)) == device.state
    assert len(device.content) == SIZE

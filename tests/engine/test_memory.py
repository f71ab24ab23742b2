"""Guest-physical RAM."""

import pytest

from emu.engine.cpu import Cpu
from emu.engine.memory import Memory

MIB = 1 << 20


@pytest.fixture
def memory():
    cpu = Cpu()
    made = Memory(cpu)
    made.map(0x4000_0000, MIB)
    made.map(0x9000_0000, 4096)
    made.cpu = cpu
    return made


def test_what_is_written_is_read_by_host_and_guest(memory):
    memory.write(0x4000_1000, b"abc")
    memory.write(0x9000_0FFD, b"xyz")
    assert memory.read(0x4000_0FFF, 5) == b"\0abc\0"
    assert memory.read(0x9000_0FFD, 3) == b"xyz"
    assert memory.cpu.read_virtual(0x4000_1000, 3) == b"abc"
    assert [(base, len(block)) for base, block, _ in memory.ram()] == [
        (0x4000_0000, MIB), (0x9000_0000, 4096)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "size"), [(0x3FFF_FFFF, 1), (0x4010_0000, 1), (0x400F_FFFF, 2), (0x9000_0FFF, 2)]
)
def test_outside_is_refused(memory, address, size):
    assert not memory.has(address, size)
    with pytest.raises(IndexError, match=f"no RAM at {address:#x}"):
        memory.read(address, size)
    with pytest.raises(IndexError):
        memory.write(address, bytes(size))


def test_overlaps(memory):
    assert memory.overlaps(0x3FFF_FFFF, 2)
    assert memory.overlaps(0x4000_0010, 1)
    assert not memory.overlaps(0x3FFF_FFFF, 1)
    assert not memory.overlaps(0x4010_0000, 0x100)

"""What lies in RAM when the boot CPU starts."""

import pytest

from emu.base.errors import BootError
from emu.images.devicetree import Board, device_tree, memory_of
from emu.images.image import Image, ImageKind, Ram, Segment
from emu.images.symbols import Symbols
from emu.machine.loader import INITRD_ALIGN, Extras, place
from emu.world.profile import load_profile

MIB = 1 << 20
RAM = Ram(size=16 * MIB)
CODE = RAM.base + MIB
IMAGE = Image("x", ImageKind.ELF, CODE, (Segment(CODE, b"code", 8),), Symbols())


def placed(profile="kvm-6.12", modes=None, cpus=1, **extras):
    memory = {}
    chosen = load_profile(profile).with_modes(modes or {})
    address = place(
        IMAGE, RAM, memory.__setitem__, chosen, [0x8000_0000 + n for n in range(cpus)],
        Extras(**extras),
    )  # fmt: skip
    return memory, memory[address]


def test_image_and_device_tree():
    memory, tree = placed()
    assert memory[CODE] == b"code"
    assert tree.startswith(b"\xd0\x0d\xfe\xed")
    assert b"arm,psci-1.0" in tree
    assert b"hvc\0" in tree


def test_the_profile_promises_and_the_user_overrides():
    assert b"psci" not in placed("none")[1]
    assert b"psci" not in placed(modes={"discovery.static": "absent"})[1]
    assert b"smc\0" in placed(conduit="smc")[1]
    assert b"quiet" in placed(append="quiet")[1]
    assert b"cpu@3" in placed(cpus=4)[1]


def test_an_initrd_goes_to_the_top(tmp_path):
    path = tmp_path / "initrd"
    path.write_bytes(b"r" * 5000)
    memory, tree = placed(initrd=path)
    start = max(memory)
    assert memory[start] == b"r" * 5000
    assert start % INITRD_ALIGN == 0
    assert RAM.end - start < 5000 + INITRD_ALIGN
    assert b"linux,initrd-start" in tree


def test_a_device_tree_of_ones_own(tmp_path):
    path = tmp_path / "own.dtb"
    path.write_bytes(placed(append="mine")[1])
    assert placed(dtb=path)[1] == path.read_bytes()


def test_a_device_tree_that_promises_memory_there_is_not(tmp_path):
    path = tmp_path / "lie.dtb"
    path.write_bytes(device_tree(Board(RAM.base, 2 * RAM.size, (0,))))
    assert memory_of(path.read_bytes()) == [(RAM.base, 2 * RAM.size)]
    with pytest.raises(BootError, match=r"/memory has 0x40000000\.\.0x42000000.*another --mem"):
        placed(dtb=path)


@pytest.mark.parametrize(
    ("extras", "text"),
    [
        ({"initrd": "big"}, "do not fit above the image"),
        ({"initrd": "nowhere"}, "No such file"),
        ({"dtb": "junk"}, "junk: .*no flattened device tree"),
        ({"dtb": "nowhere"}, "No such file"),
    ],
)
def test_what_cannot_be_placed_is_one_line(tmp_path, monkeypatch, extras, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "big").write_bytes(bytes(16 * MIB))
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(BootError, match=text):
        placed(**extras)

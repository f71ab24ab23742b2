"""The tree read back with `fdt`, judged by dtc, and hostile trees refused."""

from __future__ import annotations

import shutil
import struct
import subprocess

import fdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import BootError
from emu.images.devicetree import AFFINITY, Board, PsciNode, check_dtb, device_tree
from emu.machine.devices import device_classes

BASE, MIB = 0x4000_0000, 1 << 20
CELLS = (("cpu_suspend", 0xC400_0001), ("cpu_off", 0x8400_0002), ("cpu_on", 0xC400_0003))
PSCI = PsciNode("hvc", ("arm,psci-1.0", "arm,psci-0.2", "arm,psci"), CELLS)
FULL = Board(
    BASE,
    64 * MIB,
    (0x8000_0000, 0x8000_0001),
    psci=PSCI,
    hypervisor=("linux,kvm",),
    bootargs="earlycon=pl011,0x9000000 console=ttyAMA0",
    initrd=(0x4200_0000, 0x4210_0000),
    kaslr_seed=0x1234_5678_9ABC_DEF0,
    rng_seed=bytes(range(32)),
    devices=device_classes(),
)


def board(**more) -> Board:
    return Board(**({"ram_base": BASE, "ram_size": 64 * MIB, "mpidrs": (0,),
                      "devices": device_classes()} | more))


def read(blob: bytes):
    tree = fdt.parse_dtb(blob)

    def get(path: str, name: str):
        found = tree.get_property(name, path)
        return None if found is None else getattr(found, "data", True)

    return tree, get


def test_full_tree():
    _, get = read(device_tree(FULL))
    assert get("/", "compatible") == ["linux,dummy-virt"]
    assert get("/psci", "compatible") == list(PSCI.compatible)
    assert get("/psci", "method") == ["hvc"]
    assert [get("/psci", name)[0] for name, _ in CELLS] == [value for _, value in CELLS]
    assert get("/hypervisor", "compatible") == ["linux,kvm"]
    assert get("/memory@40000000", "reg") == [0, BASE, 0, 64 * MIB]
    assert get("/cpus", "#address-cells") == [1]
    assert get("/cpus/cpu@1", "reg") == [1]
    assert get("/cpus/cpu@1", "enable-method") == ["psci"]
    assert get("/chosen", "bootargs") == [FULL.bootargs]
    assert get("/chosen", "stdout-path") == ["/pl011@9000000"]
    assert get("/chosen", "linux,initrd-start") == [0, 0x4200_0000]
    assert get("/chosen", "linux,initrd-end") == [0, 0x4210_0000]
    assert get("/chosen", "kaslr-seed") == [0x1234_5678, 0x9ABC_DEF0]
    assert get("/intc@8000000", "reg") == [0, 0x800_0000, 0, 0x1_0000, 0, 0x80A_0000, 0, 0x4_0000]
    assert get("/", "interrupt-parent") == get("/intc@8000000", "phandle")
    assert get("/timer", "interrupts")[1::3] == [13, 14, 11, 10]
    assert get("/pl011@9000000", "interrupts") == [0, 1, 4]
    assert get("/pl011@9000000", "clocks") == get("/apb-pclk", "phandle") * 2


def test_bare_tree():
    tree, get = read(device_tree(board()))
    assert not tree.exist_node("/psci")
    assert not tree.exist_node("/hypervisor")
    assert get("/cpus/cpu@0", "enable-method") is None
    assert get("/chosen", "bootargs") is None


def test_the_method_is_named_where_there_is_a_second_cpu_to_start():
    _, get = read(device_tree(board(psci=PSCI)))
    assert get("/cpus/cpu@0", "enable-method") is None


def test_aff3_takes_two_cells():
    _, get = read(device_tree(board(mpidrs=(0, 0x1_0000_0100))))
    assert get("/cpus", "#address-cells") == [2]
    assert get("/cpus/cpu@0", "reg") == [0, 0]
    assert get("/cpus/cpu@100000100", "reg") == [1, 0x100]


def test_the_same_board_gives_the_same_bytes():
    first = device_tree(FULL)
    # fdt.FDT() shares one list of reservations: a tree with some must not leak into ours.
    other = fdt.FDT(entries=[{"address": BASE, "size": 4096}])
    other.header.version = 17
    fdt.parse_dtb(other.to_dtb())
    assert device_tree(FULL) == first
    fdt.FDT().entries.clear()


affinities = st.builds(lambda low, high: low | high << 32, st.integers(0, 0xFF_FFFF), st.just(0))
text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
boards = st.builds(
    Board,
    ram_base=st.integers(0, 2**40).map(lambda n: n & ~0xFFF),
    ram_size=st.integers(1, 2**40),
    mpidrs=st.lists(affinities, min_size=1, max_size=9, unique=True).map(tuple),
    psci=st.sampled_from([None, PSCI, PsciNode("smc", ("arm,psci-0.2",))]),
    hypervisor=st.sampled_from([(), ("linux,kvm",), ("xen,xen-4.17", "xen,xen")]),
    bootargs=text,
    rng_seed=st.binary(max_size=64),
)


@settings(deadline=None)
@given(boards)
def test_any_board_is_read_back(board):
    blob = device_tree(board)
    check_dtb(blob)
    tree, get = read(blob)
    assert get(f"/memory@{board.ram_base:x}", "reg") == [
        board.ram_base >> 32,
        board.ram_base & 0xFFFF_FFFF,
        board.ram_size >> 32,
        board.ram_size & 0xFFFF_FFFF,
    ]
    cpus = [node.name for node in tree.get_node("/cpus").nodes]
    assert cpus == [f"cpu@{mpidr & AFFINITY:x}" for mpidr in board.mpidrs]


@pytest.mark.parametrize(
    "board",
    [FULL, board(), board(mpidrs=(0, 1 << 32)), board(mpidrs=tuple(range(123)))],
    ids=["full", "bare", "aff3", "most"],
)
def test_dtc_accepts_it_without_warnings(board):
    if shutil.which("dtc") is None:
        pytest.skip("no dtc: install Debian's device-tree-compiler")
    command = ["dtc", "-I", "dtb", "-O", "dts", "-o", "/dev/null", "-"]
    done = subprocess.run(command, input=device_tree(board), capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mpidrs": ()}, "room for 1 to 123"),
        ({"mpidrs": tuple(range(124))}, "room for 1 to 123"),
        ({"mpidrs": (0, 0x8000_0000)}, "same affinity"),
        ({"ram_base": 2**64}, "exceeds 64 bits"),
        ({"initrd": (-1, 0)}, "exceeds 64 bits"),
        ({"bootargs": "a\nb"}, "one line"),
        ({"bootargs": "größer"}, "printable ASCII"),
        ({"cpu_compatible": ""}, "printable ASCII"),
        ({"hypervisor": ("",)}, "/hypervisor"),
        ({"psci": PsciNode("svc", ("arm,psci-1.0",))}, "hvc or smc"),
        ({"psci": PsciNode("hvc", ())}, "compatible string"),
        ({"psci": PsciNode("hvc", ("\0",))}, "/psci compatible"),
        ({"psci": PsciNode("hvc", ("arm,psci",))}, "needs the ids"),
        ({"psci": PsciNode("hvc", ("arm,psci",), (("cpu_off", 1), ("cpu_up", 1)))}, "cpu_up"),
        ({"psci": PsciNode("hvc", ("arm,psci",), (("cpu_off", 2**32),))}, "32-bit"),
    ],
)
def test_a_board_that_cannot_be_described(wrong, says):
    with pytest.raises(BootError, match=says):
        device_tree(board(**wrong))


# --- a tree that the user brings --------------------------------------------------------------


def dtb(*tokens: int, strings=b"name\0", version=17, oldest=16, **header: int) -> bytes:
    body = struct.pack(f">{len(tokens)}I", *tokens)
    at = 40 + 16
    fields = {
        "magic": 0xD00D_FEED,
        "total": at + len(body) + len(strings),
        "off_struct": at,
        "off_strings": at + len(body),
        "off_reserved": 40,
        "version": version,
        "oldest": oldest,
        "cpu": 0,
        "strings": len(strings),
        "size": len(body),
    }
    return struct.pack(">10I", *(fields | header).values()) + bytes(16) + body + strings


@pytest.mark.parametrize(
    "data",
    [
        dtb(1, 0, 2, 9),
        dtb(4, 1, 0, 4, 3, 0, 0, 2, 9),  # FDT_NOP, which fdt.parse_dtb refuses
        dtb(1, 0, 3, 5, 0, 0, 0, 1, 0x61000000, 2, 2, 9),
        dtb(1, 0, 2, 9, version=16, size=0),
        dtb(1, 0, 2, 9) + b"padding",
    ],
)
def test_good_trees(data):
    check_dtb(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "compile it with dtc"),
        (b"/dts-v1/;".ljust(64), "compile it with dtc"),
        (bytes(2 * MIB + 1), "at most"),
        (dtb(1, 0, 2, 9, version=3), "version 3"),
        (dtb(1, 0, 2, 9, version=18, oldest=18), "version 18"),
        (dtb(1, 0, 2, 9)[:-1], "truncated"),
        (dtb(1, 0, 2, 9, size=400), "truncated"),
        (dtb(1, 0, 2, 9, strings=b"", off_strings=4000), "truncated"),
        (dtb(1, 0, 2, 9, off_reserved=4000), "truncated"),
        (dtb(1, 0, 2, 9, off_struct=57), "truncated|header is broken"),
        (dtb(1, 0, 2), "too early"),
        (dtb(1, 0, 9), "breaks at 0x8"),
        (dtb(9), "breaks at 0x0"),
        (dtb(2, 9), "breaks at 0x0"),
        (dtb(1, 0, 2, 1, 0, 2, 9), "breaks"),
        (dtb(3, 0, 0, 9), "breaks"),
        (dtb(1, 0x61616161), "name without an end"),
        (dtb(1, 0, 3, 0, 99, 2, 9), "name without an end"),
        (dtb(1, 0, 3, 2**32 - 1, 0, 2, 9), "too early"),
        (dtb(1, 0, 7, 2, 9), "breaks"),
    ],
)
def test_broken_trees(data, says):
    with pytest.raises(BootError, match=says):
        check_dtb(data)


def outcome(data: bytes) -> None:
    try:
        check_dtb(data)
    except BootError as error:
        lines = str(error).splitlines()
    else:
        lines = ["accepted"]
    assert len(lines) == 1


@given(st.binary(max_size=200))
def test_fuzz_random_bytes(data):
    outcome(data)
    outcome(b"\xd0\x0d\xfe\xed" + data)


GOOD = device_tree(FULL)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6))
def test_fuzz_mutations(changes):
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    outcome(bytes(data))
    outcome(bytes(data[: changes[0][0] if changes else 0]))

"""Where a guest was, for people."""

from emu.base import exits
from emu.images.symbols import Symbols
from emu.watch.explain import make_call
from emu.watch.report import disassemble, fault_lines, place

SYMBOLS = Symbols.from_system_map("0000000040080000 T main\n0000000040080100 T other\n")


def test_a_place_has_its_nearest_symbol():
    assert place(SYMBOLS, 0x4008_0010) == "0x40080010 (main+0x10)"
    assert place(SYMBOLS, 0x10) == "0x10"


def test_disassembly():
    assert disassemble(0, 0xD503_201F) == "nop"
    assert disassemble(0x4000_0000, 0xD400_0002) == "hvc #0"
    assert disassemble(0, 0xFFFF_FFFF) == ".word 0xffffffff"


def test_a_fault_says_everything_it_knows():
    fault = exits.Fault(
        vcpu=1, cycles=1234, reason="it broke", pc=0x4008_0004, esr=0x9600_0010, far=0xF00,
        origin=(0x4008_0100, 0x0200_0000), last_call=make_call(0x8400_0000),
        instructions=((0x4008_0000, 0xD503_201F), (0x4008_0004, 0xF940_0001)),
    )  # fmt: skip
    text = "\n".join(fault_lines(fault, SYMBOLS))
    assert text.startswith("fault: it broke\n")
    for part in (
        "pc         0x40080004 (main+0x4) on vCPU 1, cycle 1,234",
        "0x96000010: data abort, external abort on a read",
        "last far   0xf00",
        "before it  unknown or undefined instruction at 0x40080100 (other), ESR 0x2000000",
        "last call  hvc PSCI_VERSION()",
        "  →   0x40080004  f9400001  ldr x1, [x0]",
        "      0x40080000  d503201f  nop",
    ):
        assert part in text


def test_a_fault_without_code_says_so():
    assert "nothing is mapped there" in "\n".join(fault_lines(exits.Fault(reason="x"), Symbols()))

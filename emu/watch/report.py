"""What became of a guest, for people: where it was and the code around it."""

from __future__ import annotations

from collections.abc import Iterator

from emu.arm.arch import describe_esr
from emu.base import exits
from emu.images.symbols import Symbols
from emu.world.describe import call_text, subject_of


def place(symbols: Symbols, address: int) -> str:
    """An address, with the nearest symbol when there is one."""
    name = symbols.name(address)
    return f"{address:#x} ({name})" if name else f"{address:#x}"


def disassemble(address: int, word: int) -> str:
    """One A64 instruction in words; `.word` where it is none."""
    import capstone  # only a fault needs it: 20 ms of start-up time

    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    for _, _, mnemonic, operands in decoder.disasm_lite(word.to_bytes(4, "little"), address):
        return f"{mnemonic} {operands}".rstrip()
    return f".word {word:#010x}"


def fault_lines(fault: exits.Fault, symbols: Symbols) -> Iterator[str]:
    """A fault's whole report, a line at a time; the first line says what happened."""
    yield f"fault: {fault.reason}"
    yield f"  pc         {place(symbols, fault.pc)} on vCPU {fault.vcpu}, cycle {fault.cycles:,}"
    if fault.esr is not None:
        yield f"  last esr   {fault.esr:#x}: {describe_esr(fault.esr)}"
    if fault.far is not None:
        yield f"  last far   {fault.far:#x}"
    if fault.origin is not None:
        pc, esr = fault.origin
        yield f"  before it  {describe_esr(esr)} at {place(symbols, pc)}, ESR {esr:#x}"
    if fault.last_call is not None:
        call = fault.last_call
        what = subject_of(call)
        yield f"  last call  {call.conduit} {call_text(call, what)}"
    if not fault.instructions:
        yield "  code       none: nothing is mapped there"
    marked = (fault.pc, fault.origin[0] if fault.origin else None)
    for address, word in fault.instructions:
        mark = "→" if address in marked else " "
        yield f"  {mark} {address:#12x}  {word:08x}  {disassemble(address, word)}"

"""Cache maintenance by which a guest says that it has changed code: IC.

`_maintenance.c` says the same in C.
"""

from __future__ import annotations

from emu.arm import arch
from emu.arm.arch import SysReg
from emu.arm.timers import NEVER
from emu.engine.blocks import Blocks
from emu.engine.cpu import PAGE, PROT_EXEC, PROT_READ, CpReg, Cpu

LINE, LOOP = 64, 4
"""Bytes of an instruction cache line (CTR_EL0.IminLine of every core here), and at most how many
instructions a loop over lines has from one IC IVAU to the next."""
IC_IVAU = SysReg(1, 3, 7, 5, 1)
IC_IALLU, IC_IALLUIS = SysReg(1, 0, 7, 5, 0), SysReg(1, 0, 7, 1, 0)


class Maintenance:
    """Drops translations that a guest has said to be old."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._cleaned = self._cleaned_at = NEVER

    def on_sys(self, cell: CpReg, blocks: Blocks) -> None:
        """One SYS; Unicorn executes it besides."""
        instruction = SysReg(cell.op0, cell.op1, cell.crn, cell.crm, cell.op2)[1:]
        if instruction == IC_IVAU[1:]:
            self._forget_line(cell.value & ~(LINE - 1), blocks)
        elif instruction in (IC_IALLU[1:], IC_IALLUIS[1:]):
            blocks.stale = True  # no block starts before all code is forgotten (engine.py)
        else:
            self._cleaned = NEVER

    def _forget_line(self, line: int, blocks: Blocks) -> None:
        """IC IVAU: drop what was translated from the page of a line.

        Unicorn itself notices stores to code only through mappings that are executable too
        (unicorn 2.1.4 qemu/accel/tcg/cputlb.c:notdirty_write); Linux writes a program through
        another. Unicorn looks the page up as for a fetch: where that is not allowed, for a
        moment without the MMU. A loop over the lines of one page is one.
        """
        now = blocks.instructions_at(self._cpu.get("PC"))
        goes_on = line == self._cleaned + LINE and line % PAGE and now - self._cleaned_at <= LOOP
        self._cleaned, self._cleaned_at = line, now
        if goes_on:
            return
        if self._cpu.translate(line, PROT_EXEC) is not None:
            self._cpu.forget_page(line)
        elif (physical := self._cpu.translate(line, PROT_READ)) is not None:
            sctlr = self._cpu.get("SCTLR_EL1")
            self._cpu.set("SCTLR_EL1", sctlr & ~arch.SCTLR_M)
            self._cpu.forget_page(physical)
            self._cpu.set("SCTLR_EL1", sctlr)

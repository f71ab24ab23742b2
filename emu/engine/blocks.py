"""What begins, and whether it may: `_blocks.c` says the same in C.

A block is asked about before it is charged, so that a run which stops there goes on with it.
"""

from __future__ import annotations

from emu.arm import arch
from emu.arm.timers import NEVER
from emu.cycles.counter import Counter
from emu.engine.cpu import PROT_EXEC, Cpu

MDSCR_STEPS = 1 << 13 | 1 << 0
"""MDSCR_EL1.KDE and SS (DDI 0487, D2 "Software Step exceptions")."""


class Blocks(Counter):
    """A counter that is told of each block by Unicorn, and lets it begin or stops the run.

    No block starts at or after `deadline`, which the engine sets, or `expiry`, which a timer does;
    none while all code is to be translated anew, which is `stale`; and none where PSTATE.I or
    PSTATE.F is clear that `interrupts` has, those of interrupts that are pending. Then the run
    was `late`; it was `asked` to end where a handler stopped it.
    """

    def __init__(self, cpu: Cpu) -> None:
        super().__init__(cpu.read_code)
        self.exact = self.exact_instructions = 0
        self.deadline = self.expiry = NEVER
        self.interrupts = 0
        self.asked = self.late = self.stale = False
        self._steps = self._looked = False
        self._cpu = cpu

    def stop(self) -> None:
        """Ask the running start() to return after this hook."""
        self.asked = True
        self._cpu.stop()

    def on_block(self, address: int, size: int) -> None:
        """A block is about to begin."""
        if (
            self.cycles >= self.deadline or self.cycles >= self.expiry or self.stale
            or (self.interrupts and self.interrupts & ~self._cpu.get("PSTATE"))
            or (self._steps and not self._looked and not self._cpu.get("PSTATE") & arch.PSTATE_D)
        ):
            self.late = True
            self._cpu.stop()
            return
        self._looked = False
        self.begin(address, size)

    def look_at_steps(self) -> None:
        """Have Unicorn see that MDSCR_EL1 asks for software step at EL1.

        It works that out when a system register is written and at ERET, and forgets to at MSR
        DAIFClr (unicorn 2.1.4 qemu/target/arm/helper-a64.c:msr_i_daifclear). So, while both bits
        are set, a block with PSTATE.D clear starts only right after the register was written.
        """
        value = self._cpu.get("MDSCR_EL1")
        self.note_steps(value)
        self._looked = self._steps
        if self._steps:
            self._cpu.set("MDSCR_EL1", value)

    def note_steps(self, value: int) -> None:
        """This is what MDSCR_EL1 holds now."""
        self._steps = value & MDSCR_STEPS == MDSCR_STEPS

    def note_moment(self, pc: int) -> None:
        """When the register access at `pc` happens, for the handler that is asked: `exact`."""
        self.exact = self.cycles_at(pc)
        self.exact_instructions = self.instructions_at(pc)

    def _physical(self, address: int) -> int:
        found = self._cpu.translate(address, PROT_EXEC)
        return address if found is None else found

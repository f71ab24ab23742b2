"""Instructions and cycles, and where they went: what `_counter.h` says in C.

Time is counted in sixteenths of a cycle: `cycles` whole ones and a `fraction`. A block is charged
when it begins; what of it is then not executed, behind an instruction that faults or leaves, is
taken back by the prefix of its cost, which also tells the time in the middle of it. Without
`account` an instruction is a cycle and nothing is kept of where they went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from emu.arm.arch import INSN_SIZE, BlockEnd
from emu.cycles.block_costs import BlockCosts, Charge
from emu.cycles.caches import Caches, CachesInUse, Hierarchy
from emu.cycles.model import SIXTEENTHS
from emu.cycles.predictor import Predictor
from emu.cycles.tracks import Frame, Tracks


class Line(NamedTuple):
    """One block where it lies: how often it began, what was taken back, what came on top."""

    address: int
    charge: int
    runs: int
    refunded: int
    instructions_refunded: int
    added: int


class _Line:
    """A `Line` that is still counting."""

    __slots__ = ("added", "address", "charge", "cuts", "instructions_refunded", "refunded", "runs")

    def __init__(self, address: int, charge: Charge) -> None:
        self.address, self.charge = address, charge
        self.runs = self.refunded = self.instructions_refunded = self.added = self.cuts = 0


class Counter:
    """What the Python half counts with; `read` gives the guest's code at a virtual address."""

    def __init__(self, read: Callable[[int, int], bytes | None]) -> None:
        self.instructions = self.cycles = self.fraction = 0
        self.kept_cost, self.exception_cost = SIXTEENTHS, 0
        self.block_start = self.block_size = 0
        self._read = read
        self._charges: BlockCosts | None = None
        self._prefix: tuple[int, ...] | None = None
        self._line: _Line | None = None
        self._lines: dict[tuple[int, int], _Line] = {}
        self._tracks: Tracks | None = None
        self._predictor: Predictor | None = None
        self._caches: CachesInUse | None = None
        self._penalty = self._exceptions = 0

    def account(self, costs: BlockCosts) -> None:
        """From now on a block costs what its charge says."""
        self._charges = costs

    def forget_places(self) -> None:
        """All translated code is gone: nothing to the Python half, which reads the guest's."""

    def follow(self) -> None:
        """Keep from now on who has called whom; after `account`."""
        self._tracks = self._tracks or Tracks()

    def run_vcpu(self, index: int) -> None:
        """Another vCPU runs from now on."""
        if self._tracks:
            self._tracks.run_vcpu(index)

    def reset_vcpu(self) -> None:
        """The running vCPU was reset."""
        if self._tracks:
            self._tracks.reset_vcpu()

    def begin(self, address: int, size: int) -> None:
        """Charge the block that starts now."""
        self.block_start, self.block_size = address, size
        if self._charges is None:  # the short way: an instruction is a cycle
            words = size // INSN_SIZE
            self.cycles, self.instructions = self.cycles + words, self.instructions + words
            return
        self._line = self._prefix = None
        # Where a software step is due Unicorn makes a block of no instruction, which costs nothing.
        code = self._read(address, size) if size else None
        if code is None:
            cost, end = size // INSN_SIZE * SIXTEENTHS, BlockEnd.RUNS_ON
        else:
            charge = self._charges.find(code)
            key = address, charge.address
            line = self._lines.get(key)
            if line is None:
                line = self._lines[key] = _Line(address, charge)
            line.runs += 1
            self._line, self._prefix = line, charge.cost.prefix
            cost, end = charge.total, charge.end
        if self._predictor and self._predictor.begin(address, size, end):
            cost += self._penalty
            if self._line:
                self._line.added += self._penalty
        if self._tracks:
            self._tracks.begin(address, size, end)
        self._spend(cost, size // INSN_SIZE)
        if self._caches:
            place = address if code is None else self._physical(address)
            self._stall(self._caches.fetch(place, size, self._time))

    def _physical(self, address: int) -> int:
        """Where the code at a virtual address lies."""
        return address

    @property
    def _time(self) -> int:
        return self.cycles * SIXTEENTHS + self.fraction

    def _stall(self, sixteenths: int) -> None:
        """The current block waits for code or data."""
        if self._line:
            self._line.added += sixteenths
        self._spend(sixteenths, 0)

    def access(self, address: int, is_write: bool) -> None:
        """A load or a store at a physical address."""
        if self._caches and address >= self._caches.shape.base:
            chained = self._line is not None and self._line.charge.chained
            self._stall(self._caches.access(
                address, self._time, self.instructions, is_write=is_write, chained=chained
            ))  # fmt: skip

    def cache(self, mine: int, hierarchy: int, shared: int) -> None:
        """The running vCPU's `Caches`, their `Hierarchy` and what vCPUs share; 0 for none."""
        self._caches = None
        if mine:
            shape = Hierarchy.from_address(hierarchy)
            last = shape.last_level_type().from_address(shared)
            self._caches = CachesInUse(Caches.from_address(mine), shape, last)

    def predict(self, address: int, penalty: int) -> None:
        """The running vCPU's `Predictor`, and sixteenths for each misprediction; 0 for none."""
        self._predictor = Predictor.from_address(address) if address else None
        self._penalty = penalty

    def _cut(self) -> None:
        """What comes next is not where the last block led."""
        if self._predictor:
            self._predictor.interrupt()
        if self._tracks:
            self._tracks.cut()

    def _add(self, sixteenths: int) -> None:
        whole, self.fraction = divmod(self.fraction + sixteenths, SIXTEENTHS)
        self.cycles += whole

    def _spend(self, sixteenths: int, instructions: int) -> None:
        """Charge the frame that runs; less than 0 is taken back."""
        self._add(sixteenths)
        self.instructions += instructions
        if self._tracks:
            self._tracks.spend(sixteenths, instructions)

    def trap(self, key: int, sixteenths: int, begins: bool) -> None:
        """Let time pass above EL1; `key` says for what (tracks.py)."""
        self._add(sixteenths)
        if self._tracks:
            self._tracks.trap(key, sixteenths, begins=begins)

    def _exception(self, key: int, back: int) -> None:
        """An exception is taken."""
        self._exceptions += 1
        if self._predictor:
            self._predictor.interrupt()
        if self._tracks:
            self._tracks.exception(key, back)
        self._spend(self.exception_cost, 0)

    def _inside(self, pc: int) -> int | None:
        """How far into the current block this address is; None outside it."""
        inside = pc - self.block_start
        return inside if 0 <= inside <= self.block_size else None

    def _rest(self, inside: int) -> int:
        """Sixteenths from there to the end of the block."""
        if self._prefix is None:
            return (self.block_size - inside) // INSN_SIZE * SIXTEENTHS
        return self._prefix[self.block_size // INSN_SIZE] - self._prefix[inside // INSN_SIZE]

    def cycles_at(self, pc: int) -> int:
        """Whole cycles that had passed before the instruction at pc."""
        inside = self._inside(pc)
        rest = 0 if inside is None else self._rest(inside)
        return self.cycles + (self.fraction - rest) // SIXTEENTHS

    def instructions_at(self, pc: int) -> int:
        """Instructions retired before the one at pc."""
        inside = self._inside(pc)
        return self.instructions - (
            0 if inside is None else (self.block_size - inside) // INSN_SIZE
        )

    def refund(self, pc: int) -> None:
        """Take back the part of the current block that starts at pc."""
        inside = self._inside(pc)
        if inside is None:
            return
        rest, words = self._rest(inside), (self.block_size - inside) // INSN_SIZE
        if words:
            self._cut()
        self._spend(-rest, -words)
        if self._line is not None:
            self._line.refunded += rest
            self._line.instructions_refunded += words
            self._line.cuts += words > 0 and self.block_size == len(self._line.charge.code)
        self.block_size = inside

    def last_cost(self) -> int:
        """What the last instruction of the current block was charged."""
        return self._rest(self.block_size - INSN_SIZE) if self.block_size else self.kept_cost

    def take_back_last(self) -> None:
        """Take back the last instruction of the current block."""
        if self.block_size:
            self.refund(self.block_start + self.block_size - INSN_SIZE)
        else:  # of a machine just loaded
            self._cut()
            self._spend(-self.kept_cost, -1)

    def lines(self) -> list[Line]:
        """What every block has cost so far."""
        return [
            Line(n.address, n.charge.address, n.runs, n.refunded, n.instructions_refunded, n.added)
            for n in self._lines.values()
        ]

    def ends(self, pc: int) -> tuple[int, ...]:
        """Exceptions taken, and blocks left by each `BlockEnd`, before the instruction at pc."""
        ends = [0] * len(BlockEnd)
        for counted in self._lines.values():
            ends[counted.charge.end] += counted.runs - counted.cuts
        inside, line = self._inside(pc), self._line
        if line and inside is not None and inside < self.block_size == len(line.charge.code):
            ends[line.charge.end] -= 1
        return self._exceptions, *ends

    def frames(self) -> list[Frame]:
        """The tree of frames; empty where nobody follows."""
        return self._tracks.frames() if self._tracks else []

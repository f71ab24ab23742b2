"""Models that have LLVM's numbers and nothing else, to be compared with llvm-mca.

This is the compatible mode of every core: no overrides, no pipeline stages of ours, no branches.
tools/compare_mca.py holds it to what llvm-mca itself says about some thousand blocks, so that what
the two scoreboards do is known to be right apart from the numbers they are given. In-order
write-back, which LLVM's simulator enforces and the hardware does not, is obeyed here alone.
"""

from __future__ import annotations

from emu.arm.a64 import Branch, Flag
from emu.cycles.cores.inorder import InOrder, Step
from emu.cycles.cores.outoforder import Op, OutOfOrder
from emu.cycles.cores.tables import CoreTable, Issue
from emu.cycles.cores.words import Word, cycles, look_up
from emu.cycles.model import CostModel

STORED = {"cortex-a53": 4}
"""A store's latency, where it is not 1: it writes no register, yet has its place in the order."""
Reads = tuple[tuple[int, tuple[int, ...]], ...]
Writes = tuple[tuple[int, int, int], ...]


def reads_of(table: CoreTable, word: Word) -> Reads:
    """Registers with LLVM's advance for every write group."""
    groups = word.timing.reads
    return tuple(
        (read.reg, tuple(table.matrix[groups[read.role]])) for read in word.insn.reads
    )


def writes_of(word: Word) -> Writes:
    """Registers with their latency and write group."""
    timing = word.timing
    return tuple(
        (write.reg, cycles(timing.latency[write.slot]), timing.writes[write.slot])
        for write in word.insn.writes
    )


def ports_of(word: Word) -> tuple[tuple[int, int], ...]:
    """Resources, with the cycles they are busy."""
    return tuple((resource, cycles(busy)) for resource, busy in word.timing.ports)


def masks(table: CoreTable) -> tuple[int, ...]:
    """Each resource as a set of ports; a group is the union of its members'."""
    found: dict[int, int] = {}
    bit = 0
    for number, resource in enumerate(table.resources):
        if not resource.members:
            found[number] = (1 << resource.units) - 1 << bit
            bit += resource.units
    for number, resource in enumerate(table.resources):
        for member in resource.members:
            found[number] = found.get(number, 0) | found[member]
    return tuple(found[number] for number in range(len(table.resources)))


def in_order(table: CoreTable) -> CostModel:
    """LLVM's in-order core."""
    stored = STORED.get(table.name, 1)

    def step(word: int) -> Step:
        seen = look_up(table, word, compatible=True)
        timing, writes = seen.timing, writes_of(seen)
        if seen.insn.branch in (Branch.CALL, Branch.CALL_INDIRECT):  # -call-latency=0
            writes = tuple((register, 0, group) for register, _, group in writes)
        hidden = stored if seen.insn.flags & Flag.STORE else 1 - len(writes)
        longest = max((latency for _, latency, _ in writes), default=hidden)
        longest = max(longest, hidden)
        return Step(
            slots=timing.uops,
            begins=bool(timing.issue & Issue.BEGIN),
            ends=bool(timing.issue & Issue.END),
            reads=reads_of(table, seen),
            writes=writes,
            units=ports_of(seen),
            first=min((latency for _, latency, _ in writes), default=longest),
            last=-1 if timing.issue & Issue.OUT_OF_ORDER else longest,
            unknown=not seen.known,
        )

    units = tuple(resource.units for resource in table.resources)
    return InOrder(table.name, step, width=table.width, units=units)


def out_of_order(table: CoreTable) -> CostModel:
    """LLVM's out-of-order core."""
    ports = masks(table)

    def op(word: int) -> Op:
        seen = look_up(table, word, compatible=True)
        return Op(
            slots=seen.timing.uops,
            reads=reads_of(table, seen),
            writes=writes_of(seen),
            ports=tuple((ports[resource], busy) for resource, busy in ports_of(seen)),
            unknown=not seen.known,
        )

    return OutOfOrder(table.name, op, width=table.width, compatible=True)


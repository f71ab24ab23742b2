"""Who called whom, and what each has cost: what `_tracks.c` says in C.

A tree of frames: a function below its caller, an exception below what it interrupted, a trap below
the function that made it. A call pushes a frame, a return pops to the frame whose return address
it has, an ERET pops to what the last exception interrupted. A guest that switches stacks returns
to where nobody was called from; such a return pops nothing, so what comes after it is told of the
wrong function until the exception it runs in is over.

Each vCPU has a stack of its own in one tree. Deeper than `DEPTH` nothing is pushed, and beyond
`MOST` frames none is made: their cost stays with the caller.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from emu.arm.arch import BlockEnd

DEPTH, MOST = 512, 1 << 20
LOOK_BACK = 64
"""How many frames a return may leave at once, as longjmp does."""


class Kind(enum.IntEnum):
    """What a frame stands for, and what its `key` is."""

    VCPU = 0
    """A vCPU; its index."""
    FUNCTION = 1
    """A function; where it begins."""
    EXCEPTION = 2
    """An exception taken at EL1: its class, or `IRQ` and its like."""
    TRAP = 3
    """Time above EL1: an HVC or SMC by its function identifier, or an `Event` (tolls.py)."""


IRQ, FIQ, SERROR = 64, 65, 66
"""Keys of exceptions that have no class, behind the 64 classes of ESR_EL1.EC."""


class Frame(NamedTuple):
    """One frame of the tree; `parent` is its index, or itself at the top. Sixteenths and
    instructions are its own, without what it called."""

    kind: int
    key: int
    parent: int
    calls: int
    sixteenths: int
    instructions: int


class _Frame:
    __slots__ = ("calls", "instructions", "key", "kind", "parent", "sixteenths")

    def __init__(self, kind: int, key: int, parent: int) -> None:
        self.kind, self.key, self.parent = kind, key, parent
        self.calls = self.sixteenths = self.instructions = 0


class _Stack:
    """What a vCPU is in: frames with the address each returns to, and how the last block ends."""

    __slots__ = ("behind", "end", "frames")

    def __init__(self, root: int) -> None:
        self.frames = [(root, 0)]
        self.end, self.behind = BlockEnd.RUNS_ON, 0


class Tracks:
    """The tree, and a stack for each vCPU."""

    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._children: dict[tuple[int, int, int], int] = {}
        self._stacks: dict[int, _Stack] = {}
        self.run_vcpu(0)

    def run_vcpu(self, index: int) -> None:
        """Another vCPU runs from now on."""
        if index not in self._stacks:
            self._stacks[index] = _Stack(self._add(Kind.VCPU, index, len(self._frames)))
        self._stack = self._stacks[index]
        self._current = self._frames[self._stack.frames[-1][0]]

    def reset_vcpu(self) -> None:
        """The vCPU that runs begins anew, in nothing."""
        self.cut()
        self._cut(1)

    def begin(self, address: int, size: int, end: BlockEnd) -> None:
        """A block begins: who is it of?"""
        self._arrive(address)
        self._stack.end, self._stack.behind = end, address + size

    def _arrive(self, address: int) -> None:
        """Where the last block has led."""
        stack = self._stack
        if stack.end in (BlockEnd.CALL, BlockEnd.CALL_INDIRECT):
            self._push(Kind.FUNCTION, address, stack.behind)
        elif stack.end is BlockEnd.RETURN:
            self._return_to(address)
        elif stack.end is BlockEnd.EXCEPTION_RETURN:
            self._leave_exception()

    def cut(self) -> None:
        """What comes next is not where the last block led."""
        self._stack.end = BlockEnd.RUNS_ON

    def exception(self, key: int, back: int) -> None:
        """An exception is taken, to return there: the last block may have led there already."""
        self._arrive(back)
        self.cut()
        self._push(Kind.EXCEPTION, key, back)

    def spend(self, sixteenths: int, instructions: int = 0) -> None:
        """So much for the frame that runs; less than 0 is taken back."""
        self._current.sixteenths += sixteenths
        self._current.instructions += instructions

    def trap(self, key: int, sixteenths: int, *, begins: bool) -> None:
        """Time above EL1, in a frame of its own."""
        frame = self._frames[self._child(self._stack.frames[-1][0], Kind.TRAP, key)]
        frame.calls += begins
        frame.sixteenths += sixteenths

    def frames(self) -> list[Frame]:
        """The tree; a parent stands before its children."""
        return [
            Frame(f.kind, f.key, f.parent, f.calls, f.sixteenths, f.instructions)
            for f in self._frames
        ]

    def _add(self, kind: int, key: int, parent: int) -> int:
        self._frames.append(_Frame(kind, key, parent))
        return len(self._frames) - 1

    def _child(self, parent: int, kind: int, key: int) -> int:
        place = parent, kind, key
        found = self._children.get(place)
        if found is None:
            if len(self._frames) >= MOST:
                return parent
            found = self._children[place] = self._add(kind, key, parent)
        return found

    def _push(self, kind: int, key: int, back: int) -> None:
        frames = self._stack.frames
        if len(frames) < DEPTH:
            frames.append((self._child(frames[-1][0], kind, key), back))
        self._current = self._frames[frames[-1][0]]
        self._current.calls += 1

    def _return_to(self, address: int) -> None:
        frames = self._stack.frames
        for depth in range(len(frames) - 1, max(len(frames) - 1 - LOOK_BACK, 0), -1):
            frame, back = frames[depth]
            if self._frames[frame].kind != Kind.FUNCTION:
                return
            if back == address:
                self._cut(depth)
                return

    def _leave_exception(self) -> None:
        frames = self._stack.frames
        for depth in range(len(frames) - 1, 0, -1):
            if self._frames[frames[depth][0]].kind == Kind.EXCEPTION:
                self._cut(depth)
                return

    def _cut(self, depth: int) -> None:
        del self._stack.frames[depth:]
        self._current = self._frames[self._stack.frames[-1][0]]

"""Who called whom: by the ends of blocks on paper, then the same frames from both halves."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.arch import VECTOR_IRQ, BlockEnd
from emu.cycles import tracks
from emu.cycles.block_costs import BlockCosts
from emu.cycles.tracks import DEPTH, IRQ, LOOK_BACK, Frame, Kind, Tracks
from emu.engine.engine import Stop
from engine_kit import (
    CODE,
    ELR_EL1,
    ERET,
    NE,
    NOP,
    VECTORS,
    WFI,
    add,
    b_if,
    code,
    go,
    halves,
    machine,
    mov,
    mrs,
    msr,
    subs,
    svc,
)  # fmt: skip
from timing_kit import Even, by_word, elapsed, frames, total

MAIN, F, G, H, HANDLER = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000
SVC = 0x15


class Tree(NamedTuple):
    """A frame with what lies below it, to compare with."""

    kind: Kind
    key: int
    calls: int
    below: list[Tree]


def tree(frames: list[Frame]) -> list[Tree]:
    nodes = [Tree(Kind(frame.kind), frame.key, frame.calls, []) for frame in frames]
    for n, frame in enumerate(frames):
        if frame.parent != n:
            assert frame.parent < n, "a parent stands before its children"
            nodes[frame.parent].below.append(nodes[n])
    return [node for n, node in enumerate(nodes) if frames[n].parent == n]


def vcpu(*below: Tree, index: int = 0) -> Tree:
    return Tree(Kind.VCPU, index, 0, list(below))


def function(key: int, *below: Tree, calls: int = 1) -> Tree:
    return Tree(Kind.FUNCTION, key, calls, list(below))


def exception(key: int, *below: Tree, calls: int = 1) -> Tree:
    return Tree(Kind.EXCEPTION, key, calls, list(below))


class Walk:
    """A guest on paper: one instruction blocks that end as they are told."""

    def __init__(self) -> None:
        self.tracks = Tracks()
        self.pc = MAIN

    def to(self, target: int, end: BlockEnd) -> Walk:
        """The block at PC ends so, and leads there."""
        self.tracks.begin(self.pc, 4, end)
        self.tracks.spend(16, 1)
        self.pc = target
        return self

    def call(self, target: int) -> Walk:
        return self.to(target, BlockEnd.CALL)

    def ret(self, target: int) -> Walk:
        return self.to(target, BlockEnd.RETURN)

    def run(self) -> Walk:
        return self.to(self.pc + 4, BlockEnd.RUNS_ON)

    def take(self, key: int) -> Walk:
        self.tracks.exception(key, self.pc)
        self.pc = HANDLER
        return self

    def eret(self, target: int) -> Walk:
        return self.to(target, BlockEnd.EXCEPTION_RETURN)

    @property
    def here(self) -> int:
        """The index of the frame that is charged now."""
        self.run()
        before = [frame.instructions for frame in self.tracks.frames()]
        self.run()
        after = [frame.instructions for frame in self.tracks.frames()]
        return next(n for n in range(len(after)) if n >= len(before) or after[n] != before[n])

    @property
    def tree(self) -> list[Tree]:
        return tree(self.tracks.frames())


# -- on paper --------------------------------------------------------------------------------------


def test_a_call_and_its_return():
    walk = Walk().run().call(F).run().ret(MAIN + 8).run()
    assert walk.tree == [vcpu(function(F))]
    root, called = walk.tracks.frames()
    assert (root.instructions, called.instructions) == (3, 2)


@pytest.mark.parametrize("end", [BlockEnd.CALL, BlockEnd.CALL_INDIRECT])
def test_both_kinds_of_call(end):
    walk = Walk().to(F, end).run()
    assert walk.tree == [vcpu(function(F))]


@pytest.mark.parametrize("end", [BlockEnd.JUMP, BlockEnd.CONDITIONAL, BlockEnd.JUMP_INDIRECT])
def test_a_jump_is_no_call(end):
    assert Walk().to(F, end).run().tree == [vcpu()]


def test_the_same_function_from_two_places_is_one_frame_and_from_another_function_one_more():
    walk = Walk()
    for _ in range(3):
        back = walk.pc + 4
        walk.call(F).ret(back)
    back = walk.pc + 4
    walk.call(G)
    inner = walk.pc + 4
    walk.call(F).ret(inner).ret(back).run()
    assert walk.tree == [vcpu(function(F, calls=3), function(G, function(F)))]


def test_recursion_is_a_frame_inside_its_like():
    walk = Walk().call(F).call(F).call(F).run()
    assert walk.tree == [vcpu(function(F, function(F, function(F))))]


def test_a_tail_call_returns_for_both():
    """F jumps to G, which returns to F's caller."""
    walk = Walk().call(F).to(G, BlockEnd.JUMP).run().ret(MAIN + 4)
    assert walk.here == 0


@pytest.mark.parametrize("left", [1, 2, LOOK_BACK, LOOK_BACK + 1])
def test_longjmp_leaves_several_frames_at_once(left):
    """As many as LOOK_BACK; one that leaves more is told of the function it left."""
    walk = Walk().call(F)
    for n in range(left - 1):
        walk.call(G + 0x100 * n)
    assert len(walk.run().tracks.frames()) == left + 1
    walk.ret(MAIN + 4)
    assert (walk.here == 0) == (left <= LOOK_BACK)


def test_a_return_to_where_nobody_was_called_from_pops_nothing():
    """As where a guest switches stacks."""
    walk = Walk().call(F).run().ret(0x7777_0000)
    assert walk.here == 1


def test_an_exception_and_its_return():
    walk = Walk().call(F).run().take(SVC).run().eret(F + 4)
    assert walk.here == 1
    assert walk.tree == [vcpu(function(F, exception(SVC)))]


def test_nested_exceptions_return_one_by_one():
    walk = Walk().run().take(IRQ).run().call(G).run().take(SVC).run()
    assert walk.tree == [vcpu(exception(IRQ, function(G, exception(SVC))))]
    walk.eret(G + 4)
    assert walk.here == 2, "G, which the SVC had interrupted"
    walk.eret(MAIN + 4)
    assert walk.here == 0, "and with the IRQ all that it had called"


def test_no_return_leaves_an_exception():
    """The frames below it are another context's."""
    walk = Walk().call(F).run().take(IRQ).run().ret(MAIN + 4)
    assert walk.here == 2


def test_an_interrupt_between_a_call_and_its_first_block():
    """What is interrupted is F, of which nothing has run."""
    walk = Walk().call(F).take(IRQ).run().eret(F).run()
    assert walk.tree == [vcpu(function(F, exception(IRQ)))]
    assert walk.here == 1
    assert walk.ret(MAIN + 4).here == 0


def test_an_interrupt_right_behind_a_return():
    walk = Walk().call(F).run().ret(MAIN + 4).take(IRQ)
    assert walk.tree == [vcpu(function(F), exception(IRQ))]


def test_an_interrupt_right_behind_the_return_from_another():
    """They are beside each other, however many come so: none lies below the one before."""
    walk = Walk().run()
    for _ in range(5):
        walk.take(IRQ).run().eret(MAIN + 4)
    assert walk.tree == [vcpu(exception(IRQ, calls=5))]
    assert walk.here == 0


def test_what_faults_in_mid_block_has_not_called():
    """A block that ends with a call, cut before it: what is behind is no call's."""
    walk = Walk()
    walk.tracks.begin(MAIN, 8, BlockEnd.CALL)
    walk.tracks.cut()
    walk.pc = MAIN + 4
    assert walk.take(SVC).run().tree == [vcpu(exception(SVC))]


def test_eret_without_an_exception_pops_nothing():
    walk = Walk().call(F).run().eret(G)
    assert walk.here == 1


def test_traps_are_frames_of_their_own():
    walk = Walk().call(F).run()
    for sixteenths, begins in ((100, True), (30, False), (7, True)):
        walk.tracks.trap(0x8400_0000, sixteenths, begins=begins)
    assert walk.here == 1, "a trap is over when it is charged"
    trap = walk.tracks.frames()[2]
    assert trap == Frame(Kind.TRAP, 0x8400_0000, 1, 2, 137, 0)


def test_each_vcpu_has_a_stack_of_its_own():
    walk = Walk().call(F).run()
    walk.tracks.run_vcpu(3)
    walk.call(G).run()
    walk.tracks.run_vcpu(0)
    assert walk.here == 1
    walk.tracks.run_vcpu(3)
    assert walk.here == 3
    assert walk.tree == [vcpu(function(F)), vcpu(function(G), index=3)]


def test_a_vcpu_that_is_switched_on_again_is_in_nothing():
    """What it had called before it went off is over."""
    walk = Walk().call(F).run().take(IRQ).call(G)
    walk.tracks.reset_vcpu()
    walk.pc = MAIN
    assert walk.here == 0
    assert walk.call(F).run().tree[0].below[0] == function(F, exception(IRQ), calls=2)


def test_a_call_of_one_vcpu_is_not_another_s():
    """Its first block comes when it runs again."""
    walk = Walk().call(F)
    walk.tracks.run_vcpu(1)
    walk.run()
    walk.tracks.run_vcpu(0)
    walk.pc = F
    walk.run()
    assert walk.tree == [vcpu(function(F)), vcpu(index=1)]


def test_deeper_than_the_limit_nothing_is_pushed():
    walk = Walk()
    for n in range(DEPTH + 50):
        walk.call(F + 16 * n)
    walk.run()
    made = walk.tracks.frames()
    assert len(made) == DEPTH
    assert made[-1].calls == 52, "the deepest stands for what it called"
    assert sum(frame.instructions for frame in made) == DEPTH + 51


def test_beyond_the_most_frames_none_is_made(monkeypatch):
    monkeypatch.setattr(tracks, "MOST", 4)
    walk = Walk()
    for n in range(10):
        back = walk.pc + 4
        walk.call(F + 0x100 * n).run().ret(back)
    walk.tracks.trap(5, 33, begins=True)
    made = walk.tracks.frames()
    assert len(made) == 4
    assert sum(frame.instructions for frame in made) == 30
    assert sum(frame.sixteenths for frame in made) == 30 * 16 + 33


STEPS = st.lists(
    st.tuples(
        st.sampled_from([*BlockEnd, "exception", "trap", "vcpu", "back"]), st.integers(0, 5)
    ), max_size=80,
)  # fmt: skip


@given(STEPS)
def test_whatever_a_guest_does_nothing_is_lost(steps):
    made = Tracks()
    instructions = sixteenths = 0
    for what, n in steps:
        if what == "exception":
            made.exception(n, 4 * n)
        elif what == "trap":
            made.trap(n, 7, begins=True)
            sixteenths += 7
        elif what == "vcpu":
            made.run_vcpu(n)
        elif what == "back":
            made.spend(-5, -1)
            sixteenths, instructions = sixteenths - 5, instructions - 1
        else:
            made.begin(4 * n, 4, what)
            made.spend(16, 1)
            sixteenths, instructions = sixteenths + 16, instructions + 1
    found = made.frames()
    tree(found)
    assert sum(frame.sixteenths for frame in found) == sixteenths
    assert sum(frame.instructions for frame in found) == instructions


# -- both halves, on guests ------------------------------------------------------------------------

RET, MOV_SP_X0 = 0xD65F_03C0, 0x9100_001F


def bl(words: int) -> int:
    return 0x9400_0000 | words & 0x3FF_FFFF


def run(native: bool, *words: int, vectors: tuple[int, ...] = ()) -> list[Frame]:
    engine = machine(native, *words)
    if vectors:
        engine.write(VECTORS + 0x200, code(*vectors))
    by_word(engine)
    engine.hooks.follow()
    go(engine)
    made = [Frame(*frame) for frame in frames(engine)]
    assert sum(frame.sixteenths for frame in made) == elapsed(engine)
    assert sum(frame.instructions for frame in made) == engine.instructions
    return made


@halves
def test_calls_and_returns_of_a_guest(native):
    """main calls f twice; f calls g."""
    f = [0xAA1E_03E9, bl(3), 0xAA09_03FE, RET]  # mov x9, x30; bl g; mov x30, x9; ret
    words = [bl(3), bl(2), WFI, *f, NOP, RET]
    made = run(native, *words)
    assert tree(made) == [vcpu(function(CODE + 12, function(CODE + 28, calls=2), calls=2))]
    main, at_f, at_g = made
    assert main.sixteenths == total([bl(3), bl(2), WFI])
    assert at_f.sixteenths == 2 * total(f)
    assert at_g.sixteenths == 2 * total([NOP, RET])


@halves
def test_exceptions_of_a_guest(native):
    """f makes an SVC, whose handler calls h and returns."""
    handler = [0xAA1E_03EA, bl(3), 0xAA0A_03FE, ERET, NOP, RET]
    words = [bl(2), WFI, svc(), RET]
    made = run(native, *words, vectors=tuple(handler))
    at_h = VECTORS + 0x200 + 16
    assert tree(made) == [vcpu(function(CODE + 8, exception(SVC, function(at_h))))]
    assert made[2].sixteenths == total(handler[:4])
    assert made[1].sixteenths == total([svc(), RET])


@halves
def test_recursion_of_a_guest_deeper_than_the_limit(native):
    """A function that calls itself 600 times, each return address on its stack."""
    push, pop = 0xF81F_0FFE, 0xF841_07FE  # str x30, [sp, #-16]!; ldr x30, [sp], #16
    f = [push, subs(9, 9, 1), b_if(NE, 3), pop, RET, bl(-5), pop, RET]
    words = [*mov(0, 0x4009_0000), MOV_SP_X0, *mov(9, 600), bl(2), WFI, *f]
    made = run(native, *words)
    assert len(made) == DEPTH
    assert [frame.calls for frame in made[1:-1]] == [1] * (DEPTH - 2)
    assert made[-1].calls == 600 - (DEPTH - 2)


@halves
def test_longjmp_of_a_guest(native):
    """f calls g calls h, which returns to main."""
    f, g, h = [bl(1)], [bl(1)], [0xD65F_0000 | 11 << 5]  # ret x11
    words = [0x1000_004B, bl(2), WFI, *f, *g, *h]  # adr x11, behind the call
    made = run(native, *words)
    assert [frame.key for frame in made[1:]] == [CODE + 12, CODE + 16, CODE + 20]
    assert made[0].instructions == 3, "WFI is main's again"


@halves
def test_what_a_guest_interrupts_in_the_middle_is_its_own(native):
    """A handler that goes on elsewhere: its ERET pops to what it interrupted."""
    handler = (mrs(1, ELR_EL1), add(1, 1, 4), msr(ELR_EL1, 1), ERET)
    made = run(native, bl(2), WFI, NOP, 0xD420_0000, NOP, RET, vectors=handler)  # brk
    assert tree(made) == [vcpu(function(CODE + 8, exception(0x3C)))]
    assert made[1].sixteenths == total([NOP, NOP, RET])
    assert made[2].sixteenths == total(handler)


@halves
def test_an_interrupt_between_a_guests_call_and_its_first_block(native):
    """It is delivered between two blocks; what it interrupts is the function called."""
    engine = machine(native, bl(2), WFI, NOP, RET)
    engine.write(VECTORS + 0x280, code(NOP, ERET))
    engine.account(BlockCosts(Even()))
    engine.hooks.follow()
    assert go(engine, until=1) is Stop.DEADLINE
    for _ in range(3):
        engine.take_interrupt(VECTOR_IRQ)
        go(engine, until=engine.cycles + 1)  # NOP and ERET
    assert go(engine) is Stop.WFI
    made = [Frame(*frame) for frame in frames(engine)]
    assert tree(made) == [vcpu(function(CODE + 8, exception(IRQ, calls=3)))]
    assert [frame.instructions for frame in made] == [2, 2, 6]

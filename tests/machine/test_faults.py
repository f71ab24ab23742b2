"""What a fault tells: where the guest was, what it took last, and the code around it."""

from __future__ import annotations

import pytest

from emu.base import exits
from emu.machine.faults import AROUND
from engine_kit import NOP, VBAR_EL1, WFI, br, code, halves, ldr, mov, msr, str_w, svc, udf
from guest_kit import LOAD, call

NOWHERE = 0x0F00_0000


@pytest.mark.parametrize(
    ("address", "name"),
    [(0x0802_0008, "GICv2m frame"), (0x0902_0000, "fw_cfg"), (0x3F00_0000, "PCIe")],
)  # fmt: skip
@pytest.mark.parametrize("word", [ldr(0, 1), str_w(0, 1)])
def test_device_that_is_missing_is_named(build, address, name, word):
    exit = build(*mov(1, address), word, WFI).run()
    assert isinstance(exit, exits.Fault)
    assert name in exit.reason
    assert f"{address:#x}" in exit.reason
    assert exit.pc == LOAD + 4 * len(mov(1, address))
    assert (exit.pc, word) in exit.instructions


def test_fault_tells_of_the_last_call(build):
    exit = build(call(0x8400_0000), udf()).run()
    assert isinstance(exit, exits.Fault)
    assert exit.last_call.fid == 0x8400_0000
    assert exit.esr is not None


@halves
def test_the_first_of_two_exceptions_is_the_origin(build, native):
    """A guest without vectors takes a second at its vector; what matters is where it began."""
    vm = build(NOP, udf(5), NOP, NOP, native=native)
    exit = vm.run()
    assert isinstance(exit, exits.Fault)
    assert exit.vcpu == 0
    assert exit.reason
    assert exit.origin == (LOAD + 4, 0x0200_0000)
    assert exit.pc == 0x200, "the vector of one taken at EL1h, from VBAR 0"
    assert exit.esr >> 26 == 0x21, "an instruction abort"
    assert exit.far == 0x200
    assert exit.last_call is None
    assert (LOAD + 4, udf(5)) in exit.instructions, "there is no code at 0x200"


@halves
def test_the_code_around_it(build, native):
    words = [*[NOP] * 10, *mov(1, 0x0902_0000), ldr(0, 1), *range(0x1000, 0x100A)]
    exit = build(words, native=native).run()
    assert isinstance(exit, exits.Fault)
    at = words.index(ldr(0, 1))
    assert exit.pc == LOAD + 4 * at
    around = range(at - AROUND, at + AROUND + 1)
    assert exit.instructions == tuple((LOAD + 4 * n, words[n]) for n in around)


@halves
def test_code_ends_where_memory_ends(build, native):
    """Two words before the end of RAM, and nothing behind it."""
    end = 0x4400_0000
    vm = build(mov(1, end - 8), mov(2, 0x0902_0000), br(1), native=native)
    vm.engine.write(end - 32, code(*[NOP] * 6, ldr(0, 2), NOP))
    exit = vm.run()
    assert isinstance(exit, exits.Fault)
    assert exit.pc == end - 8
    assert [address for address, _ in exit.instructions] == list(range(end - 24, end, 4))


@halves
def test_an_origin_is_told_only_while_nothing_was_handled(build, native):
    """An SVC that came back is no part of what went wrong later."""
    vectors = LOAD + 0x2000
    words = [*mov(1, vectors), msr(VBAR_EL1, 1), svc(), *mov(1, 0x0902_0000), ldr(0, 1), WFI]
    vm = build(words, native=native)
    vm.engine.write(vectors + 0x200, code(0xD69F_03E0))  # eret
    exit = vm.run()
    assert isinstance(exit, exits.Fault)
    assert exit.pc == LOAD + 4 * words.index(ldr(0, 1))

"""All cores: their names, what engines rely on, and words that no table knows."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from cores_kit import RET, SVE_ADD, UDF, add_register, check, code, cycles, loop
from emu.base.errors import EmuError
from emu.cycles.cores import core, mispredicted, names, system_costs
from emu.cycles.model import SIXTEENTHS
from engine_kit import CNTVCT, ISB, NOP, add, eor, hvc, ldr, mrs, store

NAMES = [
    "flat", "cortex-a53", "cortex-a55", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1",
    "neoverse-n2", "neoverse-v1",
]  # fmt: skip
REAL = NAMES[1:]
every_core = pytest.mark.parametrize("name", NAMES)
real_core = pytest.mark.parametrize("name", REAL)
MIXED = code(ldr(0, 1), add(0, 0, 1), eor(2, 0, 0), store(2, 1), add(3, 3, 1), RET)


def test_the_names():
    assert list(names()) == NAMES


def test_an_unknown_name_lists_them():
    with pytest.raises(EmuError, match="no core 'cortex-a35'; there are flat, cortex-a53"):
        core("cortex-a35")


@every_core
def test_a_model_is_made_once_and_knows_its_name(name):
    assert core(name) is core(name)
    assert core(name).name == name
    assert core(name, compatible=True).name == name


@every_core
@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize(
    "block", [b"", MIXED, code(NOP), loop(add(0, 0, 1)), code(hvc()), code(UDF, UDF)],
    ids=["empty", "mixed", "nop", "loop", "hvc", "udf"],
)  # fmt: skip
def test_what_engines_rely_on(name, compatible, block):
    check(core(name, compatible=compatible).block(block), block)


@every_core
def test_any_words_have_a_cost(name):
    lot = random.Random(1)
    for _ in range(60):
        block = lot.randbytes(4 * lot.randrange(1, 12))
        check(core(name).block(block), block)


@every_core
def test_a_block_costs_the_same_every_time(name):
    first = core(name).block(MIXED)
    core(name).block(code(SVE_ADD, UDF))
    assert core(name).block(MIXED) == first


@real_core
def test_unknown_words_are_counted_and_charged(name):
    known, unknown = core(name).block(code(NOP, NOP)), core(name).block(code(SVE_ADD, SVE_ADD, NOP))
    assert known.unknown == 0
    assert unknown.unknown == 2
    assert unknown.total > 0


@real_core
def test_a_hundred_unknown_words_are_no_faster_than_the_core_is_wide(name):
    cost = core(name).block(code(*[SVE_ADD] * 96))
    assert cost.unknown == 96
    assert cost.total >= 96 * SIXTEENTHS // 8


@real_core
def test_system_instructions_have_a_table_of_their_own(name):
    with_isb, without = cycles(core(name), code(NOP, ISB)), cycles(core(name), code(NOP, NOP))
    assert with_isb - without == pytest.approx(system_costs(name)["sys_isb"].cycles, abs=1)
    read = cycles(core(name), code(mrs(0, CNTVCT), NOP))
    assert read >= system_costs(name)["sys_mrs"].cycles
    compatible = cycles(core(name, compatible=True), code(NOP, ISB))
    assert compatible <= 3, "LLVM knows no cost"


@real_core
def test_independent_work_is_faster_than_a_chain(name):
    chain = loop(*[add(1, 1, 1)] * 8)
    apart = loop(*[add(rd, rd, 1) for rd in range(1, 9)])
    assert cycles(core(name), apart) < cycles(core(name), chain)
    assert 8 <= cycles(core(name), chain) <= 9


@real_core
def test_a_shifted_operand_is_no_faster_than_a_plain_one(name):
    plain = loop(*[add_register(1, 2, 1)] * 8)
    shifted = loop(*[add_register(1, 2, 1, 9)] * 8)
    assert cycles(core(name), shifted) >= 2 * cycles(core(name), plain) - 2


@real_core
def test_a_mispredicted_branch_has_a_price(name):
    assert 8 <= mispredicted(name) <= 16


def test_flat_mispredicts_nothing():
    assert mispredicted("flat") == 0


def test_importing_the_cores_reads_no_table():
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys, emu.cycles.cores; print('emu.cycles.cores.tables' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"

"""The comparison with llvm-mca: how blocks are cut, and on a sample that we agree."""

from __future__ import annotations

import compare_mca
import pytest

import places
from cores_kit import RET, SVE_ADD, code, loop
from emu.arm.a64 import Branch
from emu.cycles.cores import core
from engine_kit import EQ, ISB, NOP, add, b, b_if, ldr, svc, tbz

GUESTS = sorted(places.GUESTS.glob("*.elf"))


def has(name: str) -> bool:
    try:
        compare_mca.tool(name)
    except compare_mca.McaError:
        return False
    return True


needs_mca = pytest.mark.skipif(
    not (has("llvm-mca") and has("llvm-mc")), reason="llvm-mca is not installed (Debian: llvm)"
)


def test_blocks_end_at_branches_and_where_branches_lead():
    words = [add(0, 0, 1), b_if(EQ, 3), NOP, ldr(1, 2), add(1, 1, 1), RET, NOP]
    assert list(compare_mca.blocks_of(0, code(*words))) == [
        code(*words[:2]), code(*words[2:4]), code(*words[4:6]),
    ]  # fmt: skip


def test_where_branches_lead():
    assert compare_mca.branch_target(b(-1), Branch.B) == -4
    assert compare_mca.branch_target(b_if(EQ, 7), Branch.COND) == 28
    assert compare_mca.branch_target(tbz(1, 40, -3), Branch.COND) == -12
    assert compare_mca.branch_target(RET, Branch.RETURN) is None


def test_what_is_compared():
    assert compare_mca.comparable(code(NOP, RET))
    for words in ([], [SVE_ADD], [ISB], [svc()], [NOP] * 65):
        assert not compare_mca.comparable(code(*words))


def test_real_blocks_are_distinct_and_the_same_every_time():
    blocks = compare_mca.collect(GUESTS, 100)
    assert len(blocks) == len(set(blocks)) == 100
    assert compare_mca.collect(GUESTS, 100) == blocks


def test_the_error():
    compared = [compare_mca.Compared(b"", 10, 11), compare_mca.Compared(b"", 4, 2)]
    assert compare_mca.mape(compared) == pytest.approx(30)


@needs_mca
@pytest.mark.parametrize(
    ("name", "most"),
    # What was promised for thousands of blocks; a hundred may differ a little.
    [("cortex-a53", 2), ("cortex-a55", 3), ("cortex-a57", 6), ("neoverse-n1", 7)],
)
def test_a_sample_agrees(name, most):
    found = compare_mca.compare(
        core(name, compatible=True), compare_mca.collect(GUESTS, 150), name
    )
    assert len(found) >= 140
    assert compare_mca.mape(found) <= most


@needs_mca
def test_chains_agree_exactly():
    blocks = [loop(*[add(1, 1, 1)] * 4), loop(*[ldr(1, 1)] * 3)]
    for one in compare_mca.compare(core("cortex-a57", compatible=True), blocks, "cortex-a57"):
        assert one.error == 0


@needs_mca
def test_a_block_that_llvm_refuses_is_left_out():
    found = compare_mca.mca_cycles([code(NOP, RET), code(0x0000_0000)], "cortex-a53", batch=2)
    assert list(found) == [code(NOP, RET)]


@needs_mca
def test_the_command_line(capsys):
    arguments = ["--core", "cortex-a53", "--blocks", "20", "--worst", "1", *map(str, GUESTS)]
    assert compare_mca.main(arguments) == 0
    assert "20 blocks, MAPE" in capsys.readouterr().out


def test_a_missing_llvm_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(compare_mca.shutil, "which", lambda name: None)
    assert compare_mca.main([str(GUESTS[0])]) == 1
    assert "llvm-mc is missing: install Debian's llvm" in capsys.readouterr().err

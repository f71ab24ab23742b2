"""What a guest does with an answer: one use of a result at a time, in a few instructions."""

from __future__ import annotations

import pytest

from emu.judge.following import Follower, decode
from emu.judge.trial import Setup, attempt, run_within
from emu.machine.vm import Vm
from engine_kit import NE, WFI, add, b, b_if, br, cbz, code, halves, hvc, ldr, mov, store, tbz

LOAD, DATA = 0x4008_0000, 0x4100_0000
VERSION, FEATURES, PV_TIME_ST = 0x8400_0000, 0x8400_000A, 0xC500_0021
ABSENT = 0x8000_0000
"""SMCCC_VERSION, which qemu-tcg answers with -1."""
STANDARD_HYP_UID, FFA_VERSION = 0x8500_FF01, 0x8400_0063
"""Named by specifications and answered by nobody here: what they return is not known here."""
CALL_COUNT = 0x8600_FF00
CMP_X0, CMN_X0_1, CMN_W0_1 = 0xF100_001F, 0xB100_041F, 0x3100_041F
SXTW_X8_W0, MOV_X8_X0, MOV_W8_W0 = 0x9340_7C08, 0xAA00_03E8, 0x2A00_03E8
CMN_X8_1, CMP_X9_X0, ADD_X3_X1_X2 = 0xB100_051F, 0xEB00_013F, 0x8B02_0023
STP_X0_X1_SP = 0xA900_07E0
STR_X0_SP, LDR_X8_SP, LDR_W8_SP = 0xF900_03E0, 0xF940_03E8, 0xB940_03E8
STP_X0_X1_X9, LDP_X8_X10_X9 = 0xA900_0520, 0xA940_2928
LDR_X1_X9_X0, TBNZ_X0_63, TBNZ_W0_31 = 0xF860_6921, 0xB7F8_0020, 0x37F8_0020
TST_X0_BIT_31 = 0xF261_001F
MOV_SP_X9, UBFX_W3_W0, ADD_X8_X0_4 = 0x9100_013F, 0x5310_7C03, 0x9100_1008


def call(fid: int, *args: int) -> list[int]:
    return [*(word for n, value in enumerate((fid, *args)) for word in mov(n, value)), hvc()]


@pytest.mark.parametrize("guest", ["smccc_discover", "psci_cpu_on", "stolen_time"])
def test_who_is_followed_runs_the_same(guest):
    """To the cycle: code is watched from the next block on, and no block is cut in two."""
    setup = Setup(f"guests/bin/{guest}.elf", cpus=2)
    plain = attempt(setup)
    followed = attempt(setup._replace(follow=True))
    assert followed._replace(seconds=0) == plain._replace(seconds=0)


@pytest.fixture
def seen(tmp_path):
    """The rules found broken by a call and the instructions behind it."""

    def run(fid: int, *words: int | list[int], before: tuple[int, ...] = (), **options):
        flat = [w for word in words for w in (word if isinstance(word, list) else [word])]
        path = tmp_path / "code.bin"
        stack = [*mov(9, DATA), MOV_SP_X9]
        path.write_bytes(code(*stack, *before, *call(fid), *flat, WFI))
        vm = Vm(path, load=LOAD, **options)
        follower = Follower(vm)
        vm.instruments.append(follower)
        run_within(vm, 60, 100_000)
        return [verdict.rule for verdict in follower.verdicts()]

    return run


@pytest.mark.parametrize(
    ("fid", "words", "rule"),
    [
        (PV_TIME_ST, [ldr(1, 0)], "error-used-as-address"),
        (PV_TIME_ST, [MOV_X8_X0, ldr(1, 8)], "error-used-as-address"),
        (PV_TIME_ST, [ADD_X8_X0_4, ldr(1, 8)], "error-used-as-address"),
        (PV_TIME_ST, [STR_X0_SP, LDR_X8_SP, ldr(1, 8)], "error-used-as-address"),
        (PV_TIME_ST, [STP_X0_X1_X9, LDP_X8_X10_X9, store(10, 8)], "error-used-as-address"),
        (PV_TIME_ST, [LDR_X1_X9_X0], "error-used-as-address"),
        (CALL_COUNT, [*mov(9, 0), CMP_X9_X0], "error-used-as-count"),
        (ABSENT, [CMN_X0_1], "result-read-as-64"),
        (ABSENT, [CMP_X0], "result-read-as-64"),
        (VERSION, [CMP_X0], "result-read-as-64"),
        (VERSION, [MOV_X8_X0, CMN_X8_1], "result-read-as-64"),
        (VERSION, [STR_X0_SP, LDR_X8_SP, CMN_X8_1], "result-read-as-64"),
        (ABSENT, [TBNZ_X0_63], "result-read-as-64"),
        (VERSION, [cbz(0, 2)], "result-read-as-64"),
        (VERSION, [ldr(8, 2)], "lost-registers"),
        (VERSION, [ADD_X3_X1_X2], "lost-registers"),
        (VERSION, [ldr(8, 10)], "lost-registers"),
    ],
)  # fmt: skip
def test_a_use_that_is_none(seen, fid, words, rule):
    assert rule in seen(fid, *words, profile="qemu-tcg")


@pytest.mark.parametrize(
    ("fid", "words"),
    [
        (PV_TIME_ST, [CMN_X0_1, b_if(NE, 1), ldr(1, 0)]),
        (PV_TIME_ST, [tbz(0, 31, 1), ldr(1, 0)]),
        (PV_TIME_ST, [*mov(0, DATA), ldr(1, 0)]),
        (VERSION, [CMN_W0_1]),
        (VERSION, [TBNZ_W0_31]),
        (VERSION, [SXTW_X8_W0, CMN_X8_1]),
        (VERSION, [MOV_W8_W0, CMN_X8_1]),
        (VERSION, [STR_X0_SP, LDR_W8_SP, CMN_X8_1]),
        (VERSION, [STP_X0_X1_SP]),
        (VERSION, [UBFX_W3_W0]),
        (VERSION, [TST_X0_BIT_31]),
        (VERSION, [*mov(1, 4), *mov(2, 4), ADD_X3_X1_X2]),
        (VERSION, [*mov(10, DATA), ldr(8, 10)]),
        (PV_TIME_ST, [CMN_X0_1]),
        (STANDARD_HYP_UID, [*mov(2, 0), ADD_X3_X1_X2]),
        (FFA_VERSION, [CMN_X0_1]),
    ],
)  # fmt: skip
def test_a_use_that_is_right(seen, fid, words):
    assert seen(fid, *words, profile="qemu-tcg") == []


def test_smccc_1_1_keeps_x4_and_up(seen):
    smccc = [*call(VERSION), *call(FEATURES, 0x8000_0000), *call(0x8000_0000)]
    assert seen(VERSION, ldr(8, 10), before=smccc) == []
    assert seen(VERSION, ldr(8, 10), before=smccc, profile="qemu-tcg") == ["lost-registers"]


@halves
def test_through_the_return_of_a_wrapper(tmp_path, native):
    """BL to a wrapper of HVC and RET; the caller tests all 64 bits. Both halves say the same."""
    bl, ret = 0x9400_0000, 0xD65F_03C0
    main = [*mov(0, VERSION), bl | 4, CMP_X0, WFI, b(-1), hvc(), ret]
    main[len(mov(0, VERSION))] = bl | 4
    path = tmp_path / "code.bin"
    path.write_bytes(code(*main))
    vm = Vm(path, load=LOAD, native=native)
    follower = Follower(vm)
    vm.instruments.append(follower)
    run_within(vm, 60, 100_000)
    (verdict,) = follower.verdicts()
    assert (verdict.rule, verdict.pc) == ("result-read-as-64", LOAD + 4 * main.index(CMP_X0))
    assert vm.stats().instructions == main.index(WFI) + 3


def test_a_loop_behind_a_call_is_left_alone(seen, tmp_path):
    path = tmp_path / "code.bin"
    loop = [*mov(8, 100_000), 0xF100_0508, b_if(NE, -1), WFI]  # subs x8, x8, #1; b.ne
    path.write_bytes(code(*call(VERSION), *loop))
    vm = Vm(path, load=LOAD)
    follower, steps = Follower(vm), []
    vm.instruments.append(follower)
    step = follower._step
    follower._step = lambda *where: (steps.append(where), step(*where))
    vm.run()
    assert len(steps) <= 70


@pytest.mark.parametrize("word", [0, 0xFFFF_FFFF, 0xD503_201F, 0x4E08_1C20, 0xC85F_7C00])
def test_any_word_is_decoded_or_none(word):
    decoded = decode(word)
    assert decoded is None or decoded.mnemonic


def test_a_hypercall_of_xens_is_not_followed(seen):
    behind = ADD_X3_X1_X2
    assert seen(VERSION, before=(*mov(0, 2), hvc(0xEA1), behind), profile="xen") == []
    assert seen(VERSION, before=(*mov(0, 2), hvc(), behind), profile="xen") == ["lost-registers"]


def test_a_branch_through_an_error_code_is_seen(seen):
    assert seen(PV_TIME_ST, br(0), profile="qemu-tcg") in ([], ["error-used-as-address"])


assert add

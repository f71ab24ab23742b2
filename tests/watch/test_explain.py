"""What `call`, `explain`, `profiles` and `diff` say."""

import pytest

from emu.base.smccc import Conduit, FunctionId
from emu.watch.explain import (
    call_lines,
    differences,
    fields,
    make_call,
    questions,
    summaries,
    verdicts,
)
from emu.world.monitor import El2
from emu.world.profile import load_profile, profile_names


def test_a_call_says_its_registers_its_meaning_and_why():
    lines = list(call_lines(El2("kvm-6.1"), make_call(0x8600_FF01)))
    assert lines[0] == "VENDOR_HYP_CALL_UID() by HVC #0x0 under kvm-6.1"
    assert lines[1].split() == ["x0", "0x00000000b66fb428"]
    assert "  result   28b46fb6-2ec5-11e9-a9ca-4b564d003a74 (KVM)" in lines
    assert any("service kvm_vendor" in line for line in lines)
    assert any("linux" in line for line in lines)


def test_an_undefined_call_has_no_registers():
    lines = list(call_lines(El2("none"), make_call(0x8400_0000)))
    assert not any("x0" in line.split() for line in lines)
    assert "  result   UNDEF" in lines


@pytest.mark.parametrize(
    ("fid", "values"),
    [
        (0xC400_0053, ["1", "1", "4", "0x0", "0", "0x53"]),
        (0x4600_0001, ["0", "1", "6", "0x0", "0", "0x1"]),
        (0x8481_0000, ["1", "0", "4", "0x40", "1", "0x0"]),
    ],
)
def test_an_identifier_taken_apart(fid, values):
    assert [field.value for field in fields(FunctionId(fid))] == values


def test_reserved_bits_of_a_fast_call_are_pointed_out():
    parts = {field.name: field.meaning for field in fields(FunctionId(0x8482_0000))}
    assert "must be zero" in parts["reserved"]


def test_every_profile_gives_its_verdict():
    rows = {row.profile: row for row in verdicts(0x8400_0000)}
    assert list(rows) == profile_names()
    assert (rows["none"].answers, rows["none"].hvc) == (False, "UNDEF")
    assert rows["kvm-6.1"].hvc == "0x10001 (version 1.1)"
    assert rows["kvm-6.1"].smc == "NOT_SUPPORTED (-1)"
    assert rows["kvm-6.4"].smc == "0x10001 (version 1.1)"


def test_a_question_never_changes_the_next_answer():
    # CPU_OFF of one question must not leave the CPU off for another.
    assert verdicts(0x8400_0002) == verdicts(0x8400_0002)


def test_summaries_say_versions_and_conduits():
    rows = {row.name: row for row in summaries()}
    assert (rows["kvm-6.17"].psci, rows["kvm-6.17"].smccc) == ("1.3", "1.1")
    assert (rows["qemu-tcg"].psci, rows["qemu-tcg"].smccc) == ("1.1", "–")
    assert (rows["none"].services, rows["none"].conduits) == ("–", "–")
    assert rows["kvm-6.12"].conduits == "hvc smc"


def found_between(left, right):
    """What differs, by name."""
    rows = differences(load_profile(left), load_profile(right))
    return {row.what: (row.left, row.right) for row in rows}


def test_what_6_4_brought():
    # abi/C §C8: the filter, and SMC handled like HVC.
    found = found_between("kvm-6.1", "kvm-6.12")
    assert found["SMCCC filter"] == ("no", "yes")
    assert found["smc PSCI_VERSION()"] == ("NOT_SUPPORTED (-1)", "0x10001 (version 1.1)")


def test_what_6_13_and_6_15_brought():
    found = found_between("kvm-6.12", "kvm-6.17")
    assert found["KVM_REG_ARM_VENDOR_HYP_BMAP_2"] == ("–", "0x0 of 0x3")
    assert found["hvc PSCI_FEATURES(SYSTEM_OFF2)"] == ("NOT_SUPPORTED (-1)", "0x1")


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_does_not_differ_from_itself(name):
    assert differences(load_profile(name), load_profile(name)) == []


def test_questions_cover_both_conduits_and_every_features_query():
    asked = list(questions())
    assert {call.conduit for call in asked} == set(Conduit)
    assert make_call(0x8400_000A, 0x8400_0015) in asked

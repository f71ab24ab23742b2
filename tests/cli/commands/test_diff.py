"""`hvcemu diff` as a user meets it."""

import json

from command_kit import check_mistake


def test_what_a_guest_can_tell_them_apart_by(hvcemu):
    status, out, _ = hvcemu("diff", "kvm-6.1", "kvm-6.12")
    assert status == 0
    assert "SMCCC filter" in out
    assert json.loads(hvcemu("diff", "kvm-6.1", "kvm-6.12", "--json")[1])


def test_what_it_cannot(hvcemu):
    assert "cannot tell them apart" in hvcemu("diff", "kvm-6.4", "kvm-6.12")[1]
    assert json.loads(hvcemu("diff", "kvm-6.4", "kvm-6.12", "--json")[1]) == []


def test_it_takes_two(hvcemu):
    check_mistake(hvcemu("diff", "kvm-6.1"), "the following arguments are required: PROFILE")

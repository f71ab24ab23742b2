"""`hvcemu explain` as a user meets it."""

import json

import pytest

from command_kit import check_mistake


def test_fields_owner_name_and_every_profile(hvcemu):
    _, out, _ = hvcemu("explain", "0xC4000053")
    for text in ("TRNG_RND64", "standard secure services", "SMC64/HVC64", "DEN0098", "kvm-6.17"):
        assert text in out
    row = json.loads(hvcemu("explain", "0xC4000053", "--json")[1])
    assert {profile["profile"] for profile in row["profiles"]} >= {"none", "kvm-4.15", "qemu-tcg"}


def test_an_identifier_that_nothing_names(hvcemu):
    status, out, _ = hvcemu("explain", "0x86001234")
    assert status == 0
    assert out.startswith("0x86001234  no specification known here names it\n")


def test_costs(hvcemu):
    def told(*words):
        status, out, _ = hvcemu("explain", "--costs", *words)
        assert status == 0
        return out

    assert all(name in told() for name in ("kvm-nvhe", "realm", "tfa-juno-a53", "zero"))
    assert "ATC'17 table 2" in told("kvm-nvhe")
    assert "35 %" in told("kvm-nvhe")
    assert "isb" in told("cortex-a53")
    row = json.loads(told("kvm-nvhe", "--json"))
    assert row["vmm"].keys() == {"cycles", "uncertainty", "core", "source"}
    assert "kvm-vhe" in json.loads(told("--json"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give an identifier such as 0xC4000053, or --costs"),
        (("--costs", "kvm"), "nothing has the costs 'kvm'"),
        (("--costs=", "0x84000000"), "either an identifier or --costs"),
        (("99999999999",), "does not fit"),
    ],
)
def test_a_mistake_is_one_line(words, says, hvcemu):
    check_mistake(hvcemu("explain", *words), says)

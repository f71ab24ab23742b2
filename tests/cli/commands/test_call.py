"""`hvcemu call` as a user meets it."""

import json

import pytest

from command_kit import check_mistake


def test_the_seed_is_the_entropy(hvcemu):
    first, again, other = (hvcemu("call", "0xC4000053", 64, "--seed", n) for n in (1, 1, 2))
    assert first == again != other


def test_it_prints_the_kvm_words(hvcemu):
    _, out, _ = hvcemu("call", "0x8600FF01", "--profile", "kvm-6.1")
    for word in ("b66fb428", "e911c52e", "564bcaa9", "743a004d"):
        assert word in out


def test_as_json(hvcemu):
    _, out, _ = hvcemu("call", "0x84000000", "--conduit", "smc", "--imm", 1, "--json")
    row = json.loads(out)
    assert (row["name"], row["ret"], row["answer"]) == (
        "PSCI_VERSION", ["0xffffffffffffffff"], "ret",
    )  # fmt: skip


def test_why_prints_the_whole_way(hvcemu):
    _, out, _ = hvcemu("call", "0x84000053", "0x40", "--profile", "kvm-6.12", "--why")
    for step in (
        "1. kvm-6.12: HVC #0x0 leads to smccc", "2. no SMCCC filter range holds it",
        "3. KVM_REG_ARM_STD_BMAP bit 0 is set", "4. service trng: TRNG_RND32",
    ):  # fmt: skip
        assert step in out
    _, denied, _ = hvcemu("call", "0x84000050", "--fw-reg", "STD_BMAP=0", "--why")
    assert "KVM_REG_ARM_STD_BMAP bit 0 is clear" in denied


def xen_call(hvcemu, number, *words):
    """HVC #0xEA1 with its number in x16: all registers before it are given."""
    return hvcemu("call", *[0] * 16, number, "--imm", "0xEA1", "--profile", "xen", *words)


def test_a_call_by_another_abi_is_read_its_way(hvcemu):
    _, out, _ = xen_call(hvcemu, 17)
    assert out.startswith("xen_version(cmd=0x0, arg=0x0) by HVC #0xea1 under xen\n")
    assert "result   0x40016" in out
    _, out, _ = xen_call(hvcemu, 17, "--json")
    row = json.loads(out)
    assert (row["fid"], row["name"], row["ret"]) == ("0x11", "xen_version", ["0x40016"])
    _, out, _ = hvcemu("call", 17, "--imm", "0xEA1", "--profile", "xen")
    assert out.startswith("set_trap_table(x0=0x11) by HVC #0xea1 under xen\n"), "x16 is 0"
    assert "result   ENOSYS (-38)" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("0x84000000", *"12345678"), "at most 7 arguments"),
        ((*"0" * 18, "--imm", "0xEA1", "--profile", "xen"), "at most 16 arguments, x1 to x16"),
        (("0x84000000", "--imm", "65536"), "16-bit immediate"),
    ],
)
def test_a_mistake_is_one_line(words, says, hvcemu):
    check_mistake(hvcemu("call", *words), says)

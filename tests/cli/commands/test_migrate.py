"""`hvcemu migrate` as a user meets it."""

import pytest

from command_kit import check_mistake
from image_kit import elf, phdr


def test_the_break_of_2025(hvcemu):
    status, out, _ = hvcemu("migrate", "smccc_discover", "--from", "kvm-6.17", "--to", "kvm-6.1")
    assert status == 1
    assert "KVM_REG_ARM_VENDOR_HYP_BMAP_2" in out
    assert "ENOENT" in out
    assert "the move fails" in out


def test_the_guest_runs_on_after_the_move(hvcemu):
    words = ("psci_cpu_on", "--cpus", 4, "--at", 100000, "--from", "kvm-6.1", "--to", "kvm-6.12")
    status, out, _ = hvcemu("migrate", *words)
    assert status == 0
    assert "ran on under kvm-6.12" in out
    assert out.endswith("exit status 0\n")


def test_a_guest_that_ends_before_the_move(hvcemu):
    words = ("hello", "--at", 1_000_000, "--from", "kvm-6.1", "--to", "kvm-6.12")
    status, out, _ = hvcemu("migrate", *words)
    assert status == 0
    assert out.endswith("it ended before cycle 1,000,000: nothing is left to run on\n")


def test_a_crash_before_the_move_is_told(hvcemu, tmp_path):
    path = tmp_path / "udf.elf"
    path.write_bytes(elf(phdr(offset=0x1000, filesz=16, memsz=0x100), body=bytes(16)))
    _, out, _ = hvcemu("migrate", path, "--from", "kvm-6.1", "--to", "kvm-6.12")
    assert "the guest takes the same exception for ever" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("hello", "--from", "kvm-6.1"), "--to"),
        (("hello", "--from", "kvm-6.1", "--to", "kvm-9"), "unknown profile kvm-9"),
        (("nothing", "--from", "kvm-6.1", "--to", "kvm-6.1"), "no such file"),
        (("hello", "--from", "kvm-6.1", "--to", "kvm-6.1", "--vmm", "odd"), "invalid choice"),
    ],
)
def test_a_mistake_is_one_line(hvcemu, words, says):
    check_mistake(hvcemu("migrate", *words), says)

"""Moving a guest between kernels."""

import subprocess
import sys

import pytest

from emu.base.smccc import Ret
from emu.kvm.migrate import UsedCalls, lines, move
from emu.machine.instrument import CallRecord
from emu.watch.explain import make_call
from emu.world.monitor import El2
from emu.world.profile import load_profile
from image_kit import elf, phdr
from places import ROOT

BMAP_2 = "KVM_REG_ARM_VENDOR_HYP_BMAP_2"


def moved(source, target, vmm="new"):
    return move(El2(source), load_profile(target), vmm)


def test_the_break_of_2025():
    """VENDOR_HYP_BMAP_2 appeared unconditionally: back to an older kernel it is ENOENT."""
    report = moved("kvm-6.17", "kvm-6.12")
    errors = {write.register: write.error for write in report.writes}
    assert errors[BMAP_2] == "ENOENT"
    assert errors["KVM_REG_ARM_PSCI_VERSION"] == "EINVAL"  # PSCI 1.3 does not exist there
    assert errors["KVM_REG_ARM_STD_BMAP"] == ""
    assert report.failed


def test_forwards_it_goes_through():
    report = moved("kvm-6.1", "kvm-6.12")
    assert not report.failed
    assert {str(change)[:6].strip() for change in report.changes} == {"gained"}


def test_an_old_vmm_lets_the_guest_gain_services():
    """It restores a guest without TRNG, and does not know the register that says so."""
    source = El2("kvm-6.1")
    source.set_register("STD_BMAP", 0)
    new, old = (move(source, load_profile("kvm-6.12"), vmm) for vmm in ("new", "old"))
    assert not any("TRNG" in str(change) for change in new.changes)
    assert any("gained" in str(c) and "TRNG_VERSION" in str(c) for c in old.changes)
    assert "KVM_REG_ARM_STD_BMAP" in old.untouched


@pytest.mark.parametrize("name", ["kvm-5.17", "kvm-6.1", "kvm-6.12", "kvm-6.17", "kvm-7.2"])
def test_a_move_to_the_same_kernel_changes_nothing(name):
    report = moved(name, name)
    assert not report.failed
    assert report.changes == []
    assert list(lines(report, UsedCalls()))[-1] == "the guest cannot tell the difference"


def test_calls_the_guest_made_are_marked():
    used = UsedCalls()
    used.on_call(CallRecord(0, 0, 0, make_call(0x8400_0000), Ret.value(0), "", ""))
    marked = [line for line in lines(moved("kvm-6.17", "kvm-6.1"), used) if line[0] == "*"]
    assert len(marked) == 1
    assert "PSCI_VERSION" in marked[0]


def hvcemu(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "emu", "migrate", *arguments], capture_output=True, text=True,
        timeout=60, check=False, cwd=ROOT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_command_reports_the_break():
    done = hvcemu("smccc_discover", "--from", "kvm-6.17", "--to", "kvm-6.1")
    assert done.returncode == 1
    assert f"{BMAP_2}" in done.stdout
    assert "ENOENT" in done.stdout
    assert "the move fails" in done.stdout


def test_the_guest_runs_on_after_the_move():
    done = hvcemu("psci_cpu_on", "--cpus", "4", "--at", "100000", "--from", "kvm-6.1", "--to",
                  "kvm-6.12")  # fmt: skip
    assert done.returncode == 0
    assert "ran on under kvm-6.12" in done.stdout
    assert done.stdout.endswith("exit status 0\n")


def test_a_guest_that_ends_before_the_move():
    done = hvcemu("hello", "--at", "1000000", "--from", "kvm-6.1", "--to", "kvm-6.12")
    assert done.returncode == 0
    assert done.stdout.endswith("it ended before cycle 1,000,000: nothing is left to run on\n")


def test_a_crash_before_the_move_is_told(tmp_path):
    path = tmp_path / "udf.elf"
    path.write_bytes(elf(phdr(offset=0x1000, filesz=16, memsz=0x100), body=bytes(16)))
    done = hvcemu(str(path), "--from", "kvm-6.1", "--to", "kvm-6.12")
    assert "the guest takes the same exception for ever" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("hello", "--from", "kvm-6.1"), "--to"),
        (("hello", "--from", "kvm-6.1", "--to", "kvm-9"), "unknown profile kvm-9"),
        (("nothing", "--from", "kvm-6.1", "--to", "kvm-6.1"), "no such file"),
        (("hello", "--from", "kvm-6.1", "--to", "kvm-6.1", "--vmm", "odd"), "invalid choice"),
    ],
)
def test_mistakes(arguments, text):
    done = hvcemu(*arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1

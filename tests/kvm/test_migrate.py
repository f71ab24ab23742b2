"""Moving a guest between kernels."""

import pytest

from emu.base.smccc import Ret
from emu.kvm.migrate import UsedCalls, lines, move
from emu.machine.instrument import CallRecord
from emu.watch.explain import make_call
from emu.world.monitor import El2
from emu.world.profile import load_profile

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

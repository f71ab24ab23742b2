"""KVM's own calls: UID, feature words, PTP (abi/C §C2, §C3)."""

from __future__ import annotations

import pytest

from kit import KVM_FEATURES, NOT_SUPPORTED, PTP, VENDOR_UID, FakeHost, machine, script

UID = (0xB66F_B428, 0xE911_C52E, 0x564B_CAA9, 0x743A_004D)


@pytest.mark.parametrize("profile", ["kvm-5.17", "kvm-6.1", "kvm-6.17"])
def test_uid_and_features(profile):
    script(machine(profile)) << VENDOR_UID() >> UID << KVM_FEATURES() >> (3, 0, 0, 0)


# VENDOR_HYP_BMAP → answers of UID, FEATURES, PTP (abi/C §C2).
@pytest.mark.parametrize(
    ("bitmap", "vendor", "ptp"), [(3, True, True), (1, True, False), (2, False, True), (0, 0, 0)]
)
def test_register_bits(bitmap, vendor, ptp):
    el2 = machine("kvm-6.1")
    el2.set_register("VENDOR_HYP_BMAP", bitmap)
    script(el2) << VENDOR_UID() >> (UID if vendor else NOT_SUPPORTED)
    script(el2) << KVM_FEATURES() >> ((bitmap, 0, 0, 0) if vendor else NOT_SUPPORTED)
    assert (el2.hypercall(PTP, 0).signed != NOT_SUPPORTED) == ptp


def test_second_bitmap_is_advertised_and_not_answered():
    el2 = machine("kvm-6.17")
    el2.set_register("VENDOR_HYP_BMAP_2", 3)
    script(el2) << KVM_FEATURES() >> (3, 0, 3, 0)
    assert el2.hypercall(0xC600_0040).signed == NOT_SUPPORTED
    assert el2.hypercall(0xC600_0041, 0).signed == NOT_SUPPORTED


def test_features_before_registers_follow_what_is_switched_off():
    el2 = machine("kvm-5.17")
    el2.switch_feature("ptp", on=False)
    script(el2) << KVM_FEATURES() >> (1, 0, 0, 0) << PTP(0) >> NOT_SUPPORTED


@pytest.mark.parametrize("counter", [0, 1, 1 << 32])
def test_ptp_gives_both_halves_of_wall_clock_and_counter(counter):
    host = FakeHost()
    host.clock.epoch_ns = 0x1234_5678_9ABC_DEF0
    host.clock.jump(16 * 0x5_0000_0007)
    wall = 0x1234_5678_9ABC_DEF0 + 16 * 0x5_0000_0007
    expected = (wall >> 32, wall & 0xFFFF_FFFF, 5, 7)
    script(machine(host=host)) << PTP(counter) >> expected


@pytest.mark.parametrize("counter", [2, 0xFFFF_FFFF])
def test_ptp_knows_two_counters(counter):
    script(machine()) << PTP(counter) >> NOT_SUPPORTED


@pytest.mark.parametrize("fid", [0xC600_0002, 0xC600_0003, 0xC600_0004, 0xC600_0007, 0x8600_FF00])
def test_protected_kvm_is_not_here(fid):
    assert machine().hypercall(fid).signed == NOT_SUPPORTED

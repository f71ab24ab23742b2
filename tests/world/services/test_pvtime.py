"""Paravirtualised time (abi/C §C3, §C6)."""

from __future__ import annotations

import pytest

from kit import (
    NOT_SUPPORTED,
    PV_FEATURES,
    PV_ST,
    RECORDS,
    SUCCESS,
    FakeHost,
    machine,
    script,
)


@pytest.mark.parametrize("fid", [0xC500_0020, 0xC500_0021, 0xFFFF_FFFF_C500_0021])
def test_features(fid):
    script(machine()) << PV_FEATURES(fid) >> SUCCESS


@pytest.mark.parametrize("fid", [0, 0xC500_0022, 0x8500_0020, 0xC400_0053])
def test_features_of_others(fid):
    script(machine()) << PV_FEATURES(fid) >> NOT_SUPPORTED


def test_each_vcpu_has_its_record_and_it_is_zeroed():
    host = FakeHost()
    script(machine(host=host)) << PV_ST().on(1) >> RECORDS + 64 << PV_ST() >> RECORDS
    assert host.done == [("zero", 1), ("zero", 0)]
    assert RECORDS % 64 == 0


def test_without_a_record():
    el2 = machine(host=FakeHost(stolen_time=False))
    script(el2) << PV_FEATURES(0xC500_0021) >> NOT_SUPPORTED << PV_ST() >> NOT_SUPPORTED


def test_register_bit_0_elects_both():
    el2 = machine("kvm-6.1")
    el2.set_register("STD_HYP_BMAP", 0)
    script(el2) << PV_FEATURES(0xC500_0021) >> NOT_SUPPORTED << PV_ST() >> NOT_SUPPORTED

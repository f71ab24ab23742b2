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
    el2 = machine(host=host)
    for vcpu in (0, 1):
        host.memory(RECORDS + 64 * vcpu, 64).write(b"x" * 64)
    script(el2) << PV_ST().on(1) >> RECORDS + 64 << PV_ST() >> RECORDS
    assert host.memory(RECORDS, 128).read() == bytes(128)
    assert RECORDS % 64 == 0


def test_a_record_is_brought_up_to_date():
    """DEN0057: revision 0, attributes 0, then nanoseconds; it starts from zero when asked for."""
    host = FakeHost(4)
    el2, record = machine(host=host), host.memory(RECORDS + 3 * 64, 64)
    host.stolen_cycles = 1000
    el2.services["pvtime"].entered(3)
    assert record.read() == bytes(64), "nobody has asked"
    script(el2) << PV_ST().on(3) >> RECORDS + 3 * 64
    host.stolen_cycles += 0x1234
    el2.services["pvtime"].entered(3)
    assert record.read() == bytes(8) + (0x1234).to_bytes(8, "little") + bytes(48)
    script(el2) << PV_ST().on(3) >> RECORDS + 3 * 64
    assert record.read() == bytes(64)


def test_the_vmm_may_put_it_elsewhere():
    host = FakeHost()
    el2 = machine(host=host)
    el2.services["pvtime"].place(1, 0x4000_1000)
    script(el2) << PV_ST().on(1) >> 0x4000_1000 << PV_ST() >> RECORDS


def test_a_reset_forgets_who_asked():
    host = FakeHost()
    el2 = machine(host=host)
    script(el2) << PV_ST() >> RECORDS
    host.stolen_cycles = 99
    el2.services["pvtime"].reset()
    el2.services["pvtime"].entered(0)
    assert host.memory(RECORDS, 64).read() == bytes(64)


def test_without_a_record():
    el2 = machine(host=FakeHost(stolen_time=False))
    script(el2) << PV_FEATURES(0xC500_0021) >> NOT_SUPPORTED << PV_ST() >> NOT_SUPPORTED


def test_register_bit_0_elects_both():
    el2 = machine("kvm-6.1")
    el2.set_register("STD_HYP_BMAP", 0)
    script(el2) << PV_FEATURES(0xC500_0021) >> NOT_SUPPORTED << PV_ST() >> NOT_SUPPORTED

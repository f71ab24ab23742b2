"""Seed 004's page notification call; tests/test_discussions.py tells its story."""

from emu.world.monitor import El2
from emu.world.profile import load_profile
from emu.world.services.asyncpf import PAGE_NOTIFY


def el2(**modes):
    return El2(load_profile("kvm-6.12").with_modes(modes))


def test_it_takes_a_frame_for_each_vcpu():
    machine = el2(asyncpf="present")
    assert machine.hypercall(PAGE_NOTIFY, 0x4_0001).x0 == 0
    assert machine.hypercall(PAGE_NOTIFY, 0x4_0002, vcpu=3).x0 == 0
    assert machine.services["asyncpf"].pages == {0: 0x4_0001, 3: 0x4_0002}


def test_it_answers_only_where_it_is_switched_on_and_described():
    assert el2().hypercall(PAGE_NOTIFY, 1).signed == -1
    hidden = el2(asyncpf="present", **{"discovery.static": "absent"})
    assert hidden.hypercall(PAGE_NOTIFY, 1).signed == -1


def test_its_identifier_is_nobody_elses():
    # DEN0028 through abi/A §A2: 0x20000000 to 0x7FFFFFFF are reserved.
    assert 0x2000_0000 <= PAGE_NOTIFY <= 0x7FFF_FFFF

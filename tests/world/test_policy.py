"""Who answers: firmware registers and their errors (abi/C §C4), the SMCCC filter (abi/C §C5)."""

from __future__ import annotations

import contextlib
import dataclasses
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import PolicyError
from emu.world.policy import RESERVED, Action, FilterRange, FwReg, Gate, Policy, RegisterKind

STD, VENDOR = "KVM_REG_ARM_STD_BMAP", "KVM_REG_ARM_VENDOR_HYP_BMAP"
PSCI = "KVM_REG_ARM_PSCI_VERSION"
WA_1, WA_2 = (f"KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_{n}" for n in (1, 2))


def registers(wa_1: int = 2, wa_2: int = 3) -> dict[str, FwReg]:
    kinds = RegisterKind
    rows = [
        FwReg(PSCI, 0, kinds.PSCI_VERSION, 0x1_0001, 0x1_0001, (0x2, 0x1_0000, 0x1_0001)),
        FwReg(WA_1, 1, kinds.WORKAROUND, wa_1, wa_1),
        FwReg(WA_2, 2, kinds.WORKAROUND_2, wa_2, wa_2),
        FwReg(STD, 3, kinds.BITMAP, 0x1, 0x1),
        FwReg(VENDOR, 4, kinds.BITMAP, 0x3, 0x3),
    ]
    return {row.name: row for row in rows}


POLICY = Policy.of(registers(), filterable=True)


def refused(expected: int, function, *args: object) -> str:
    with pytest.raises(PolicyError) as caught:
        function(*args)
    assert caught.value.errno == expected
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- SET rules, abi/C §C4 ---------------------------------------------------------------------

ACCEPTED = [  # register, value written, value read back
    ("STD_BMAP", 0, 0),
    ("STD_BMAP", 1, 1),
    ("VENDOR_HYP_BMAP", 2, 2),
    ("PSCI_VERSION", 0x2, 0x2),
    ("PSCI_VERSION", 0x1_0000, 0x1_0000),
    ("WORKAROUND_1", 0, 2),  # at or below the host's: accepted, not stored
    ("WORKAROUND_1", 2, 2),
    ("WORKAROUND_2", 1, 3),  # UNKNOWN counts as NOT_AVAIL
    ("WORKAROUND_2", 2, 3),  # AVAIL counts as NOT_REQUIRED
    ("WORKAROUND_2", 0x12, 3),  # ENABLED goes with AVAIL
    ("WORKAROUND_2", 3, 3),
]
REFUSED = [
    ("STD_BMAP", 2),  # not in the upper limit
    ("STD_BMAP", -1),
    ("VENDOR_HYP_BMAP", 1 << 64),
    ("PSCI_VERSION", 0x1),  # only without KVM_ARM_VCPU_PSCI_0_2
    ("PSCI_VERSION", 0x1_0003),  # newer than this kernel
    ("WORKAROUND_1", 3),  # above the host's
    ("WORKAROUND_1", 0x10),  # a bit above 3
    ("WORKAROUND_1", -1),
    ("WORKAROUND_2", 0x20),  # outside 0x1F
    ("WORKAROUND_2", 0x10),  # ENABLED with another level than AVAIL
    ("WORKAROUND_2", 0x13),
    ("WORKAROUND_2", 4),
]


@pytest.mark.parametrize(("name", "value", "stored"), ACCEPTED)
def test_write(name, value, stored):
    changed = POLICY.with_register(name, value)
    assert changed.values[POLICY.definition(name).name] == stored
    others = {k: v for k, v in changed.values.items() if not k.endswith(name)}
    assert others.items() <= POLICY.values.items()


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_write_einval(name, value):
    assert name in refused(errno.EINVAL, POLICY.with_register, name, value)


@pytest.mark.parametrize("value", [2, 3, 0x12])
def test_workaround_2_not_above_the_host(value):
    vulnerable = Policy.of(registers(wa_2=0), filterable=True)
    refused(errno.EINVAL, vulnerable.with_register, "WORKAROUND_2", value)
    assert vulnerable.with_register("WORKAROUND_2", 1).values[WA_2] == 0


def test_unknown_register_enoent():
    assert "STD_BMAP" in refused(errno.ENOENT, POLICY.with_register, "STD_MAP", 0)
    assert "there is none" in refused(errno.ENOENT, Policy().definition, "STD_BMAP")


@pytest.mark.parametrize("name", [STD, "std_bmap", "STD_BMAP", STD.lower()])
def test_names_may_be_short(name):
    assert POLICY.definition(name).name == STD


def test_policies_are_frozen():
    POLICY.with_register("STD_BMAP", 0)
    assert POLICY.values[STD] == 1


# --- gates and features -----------------------------------------------------------------------


def test_gate():
    gate = Gate(VENDOR, 1)
    assert str(gate) == f"{VENDOR} bit 1"
    assert POLICY.elects(gate)
    assert not POLICY.with_register(VENDOR, 1).elects(gate)
    assert POLICY.elects(None)
    assert POLICY.elects(Gate("KVM_REG_ARM_OTHER", 5)), "a kernel without the register elects all"


def test_feature_switches_its_bits_and_is_remembered():
    gates = frozenset({Gate(VENDOR, 1), Gate("KVM_REG_ARM_OTHER", 0)})
    off = POLICY.with_feature("ptp", gates, on=False)
    assert (off.values[VENDOR], off.withheld) == (1, {"ptp"})
    on = off.with_feature("ptp", gates, on=True)
    assert (on.values, on.withheld) == (POLICY.values, frozenset())


# --- filter, checks in the kernel's order, abi/C §C5 -------------------------------------------


def add(base: int, count: int = 1, action: Action = Action.DENY, policy: Policy = POLICY) -> Policy:
    return policy.with_range(FilterRange(base, count, action))


@pytest.mark.parametrize(
    ("base", "count"),
    [(0, 0), (5, 0), (0x8000_0000, 0), (5, -1), (0xFFFF_FFFF, 2), (-1, 1), (1 << 32, 1)],
)
def test_filter_empty_or_wrapping_is_einval(base, count):
    refused(errno.EINVAL, add, base, count)


def test_filter_has_three_actions():
    refused(errno.EINVAL, add, 0x8400_0000, 1, Action.UNDEF)
    for action in (Action.HANDLE, Action.DENY, Action.FORWARD):
        assert add(0x8400_0000, 1, action).find(0x8400_0000).action is action


@pytest.mark.parametrize(
    ("base", "count"),
    [
        (0x8000_0000, 1),
        (0x8000_FFFF, 1),
        (0xC000_0000, 0x1_0000),
        (0x7FFF_FFFF, 2),
        (0, 0xFFFF_FFFF),
    ],
)
def test_filter_reserved_is_eexist(base, count):
    refused(errno.EEXIST, add, base, count)


def test_filter_reserved_ranges_are_the_architecture_calls():
    assert [(r.base, r.last) for r in RESERVED] == [
        (0x8000_0000, 0x8000_FFFF),
        (0xC000_0000, 0xC000_FFFF),
    ]


@pytest.mark.parametrize(("base", "count"), [(0x8400_0010, 1), (0x8400_000F, 2), (0x8400_001F, 9)])
def test_filter_overlap_is_eexist(base, count):
    refused(errno.EEXIST, add, base, count, Action.DENY, add(0x8400_0010, 16))


@pytest.mark.parametrize("fid", [0, 0x7FFF_FFFF, 0x8001_0000, 0xFFFF_FFFF])
def test_filter_covers_all_but_the_reserved(fid):
    assert add(fid).find(fid).base == fid


def test_policies_cannot_be_edited():
    with pytest.raises(dataclasses.FrozenInstanceError):
        POLICY.filterable = False


def test_filter_neighbours_are_fine():
    policy = add(0x8400_0020, 1, policy=add(0x8400_000F, 1, policy=add(0x8400_0010, 16)))
    assert len(policy.ranges) == 3


def test_filter_came_with_6_4():
    refused(errno.ENXIO, add, 0x8400_0000, 1, Action.DENY, Policy.of(registers(), filterable=False))


def test_range_in_words():
    assert str(FilterRange(0x8400_0000, 1, Action.DENY)) == "0x84000000"
    assert str(FilterRange(0x8400_0000, 2, Action.DENY)) == "0x84000000-0x84000001"


u32 = st.integers(0, 0xFFFF_FFFF)


@given(st.lists(st.tuples(u32, st.integers(1, 1 << 31)), max_size=6), u32)
def test_ranges_never_overlap_and_find_what_they_hold(wanted, fid):
    policy = POLICY
    for base, count in wanted:
        with contextlib.suppress(PolicyError):
            policy = add(base, count, policy=policy)
    holding = [r for r in policy.ranges if r.base <= fid <= r.last]
    assert len(holding) <= 1
    assert policy.find(fid) == next(iter(holding), None)

"""What a profile file may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.world.schema import problems, table

GOOD = {
    "title": "t",
    "trap_costs": "kvm-vhe",
    "unknown": "undef",
    "reply_registers": 1,
    "sve_hint": True,
    "hvc": {"0": "smccc", "65535": "undef", "other": "x0-only"},
    "smc": False,
    "services": {"psci": {"version": 2, "strict": True, "levels": [1, 2]}, "trng": False},
    "registers": {
        "R": {"id": 1, "kind": "bitmap", "reset": 0, "limit": 2**64 - 1, "values": [1]},
        "S": False,
    },
    "el3": {
        "extends": "tfa", "unknown": "undef", "smc": {"0": "smccc"}, "services": {"psci": {}},
    },
    "device_tree": {
        "method": "smc",
        "compatible": ["a"],
        "cells": {"cpu_on": 0xFFFF_FFFF},
        "hypervisor": [],
    },
}

BAD = [  # data, key to blame, part of the message
    ({"titel": "t"}, "titel", "did you mean title"),
    ({"zzz": 1}, "zzz", "it may be extends"),
    ({"title": 1}, "title", "a text"),
    ({"trap_costs": 5}, "trap_costs", "a text"),
    ({"trap_cost": "zero"}, "trap_cost", "did you mean trap_costs"),
    ({"reply_registers": True}, "reply_registers", "an integer"),
    ({"filter": 1}, "filter", "true or false"),
    ({"services": []}, "services", "a table, or false"),
    ({"unknown": "panic"}, "unknown", "not-supported, undef"),
    ({"reply_registers": 5}, "reply_registers", "1 to 4"),
    ({"reply_registers": 0}, "reply_registers", "1 to 4"),
    ({"hvc": {"0": "jailhouse"}}, "hvc.0", "smccc, xen, x0-only"),
    ({"hvc": {"0": False}}, "hvc.0", "smccc"),
    ({"smc": {"65536": "smccc"}}, "smc.65536", "0 to 65535"),
    ({"smc": {"007": "smccc"}}, "smc.007", "0 to 65535"),
    ({"smc": {"0xEA1": "smccc"}}, "smc.0xEA1", "0 to 65535"),
    ({"smc": {"\u0663": "smccc"}}, "smc.\u0663", "0 to 65535"),
    ({"smc": {"9" * 5000: "smccc"}}, "smc." + "9" * 5000, "0 to 65535"),
    ({"hvc": {"0": "Xen"}}, "hvc.0", "smccc, xen, x0-only"),
    ({"level": "el1"}, "level", "el2, el3"),
    ({"el3": "tfa"}, "el3", "a table, or false"),
    ({"level": "el3", "hvc": {"0": "smccc"}}, "hvc", "no HVC reaches el3"),
    ({"level": "el3", "el3": {"title": "t"}}, "el3", "nothing is below el3"),
    ({"el3": {"hvc": {"0": "smccc"}}}, "el3.hvc", "no HVC reaches el3"),
    ({"el3": {"titel": "t"}}, "el3.titel", "did you mean title"),
    ({"el3": {"vmm": {}}}, "el3.vmm", "it may be extends, title"),
    ({"el3": {"unknown": "panic"}}, "el3.unknown", "not-supported, undef"),
    ({"el3": {"smc": {"0": "jailhouse"}}}, "el3.smc.0", "smccc, xen, x0-only"),
    ({"el3": {"services": {"psci": 1}}}, "el3.services.psci", "a table, or false"),
    ({"el3": {"registers": {"R": {"limit": -1}}}}, "el3.registers.R.limit", "64 bits"),
    ({"services": {"psci": 1}}, "services.psci", "a table, or false"),
    ({"services": {"psci": {"a": {}}}}, "services.psci.a", "not a table"),
    ({"services": {"psci": {"a": -1}}}, "services.psci.a", "64 bits"),
    ({"services": {"psci": {"a": [1, "b"]}}}, "services.psci.a", "integers or of texts"),
    ({"services": {"psci": {"a": [1.5]}}}, "services.psci.a", "integers or of texts"),
    ({"registers": {"R": 1}}, "registers.R", "a table, or false"),
    ({"registers": {"R": {"rest": 1}}}, "registers.R.rest", "did you mean reset"),
    ({"registers": {"R": {"limit": 1 << 64}}}, "registers.R.limit", "64 bits"),
    ({"registers": {"R": {"kind": "map"}}}, "registers.R.kind", "bitmap"),
    ({"registers": {"R": {"values": ["a"]}}}, "registers.R.values", "list of integers"),
    ({"registers": {"R": {"values": [-1]}}}, "registers.R.values", "64 bits"),
    ({"device_tree": {"methd": "hvc"}}, "device_tree.methd", "did you mean method"),
    ({"device_tree": {"method": "eret"}}, "device_tree.method", "hvc or smc"),
    ({"device_tree": {"compatible": [1]}}, "device_tree.compatible", "list of texts"),
    ({"device_tree": {"cells": {"cpu_on": 1 << 32}}}, "device_tree.cells.cpu_on", "32 bits"),
    ({"device_tree": {"cells": {"cpu_on": "a"}}}, "device_tree.cells.cpu_on", "32 bits"),
]


def test_good():
    assert list(problems(GOOD)) == []
    assert list(problems({})) == []


@pytest.mark.parametrize(("data", "key", "says"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_bad(data, key, says):
    found = list(problems(data))
    assert found[0][0] == key
    assert says in found[0][1]


def test_table():
    assert table({"a": {"b": 1}}, "a") == {"b": 1}
    assert table({"a": False}, "a") == table({}, "a") == {}


names = st.sampled_from([*GOOD, *GOOD["device_tree"], *GOOD["registers"]["R"], "psci", "0", "x"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


@given(st.dictionaries(names, values))
def test_any_tables_are_judged(data):
    for key, message in problems(data):
        assert key
        assert message

"""The cores a guest may run on, held to what others say of them."""

from __future__ import annotations

import pytest

from emu.arm.cores import BORROWED, CORES, DEFAULT_CORE, TIMED, has_pan
from emu.cycles.cores import tables
from emu.engine.engine import Engine

IMPLEMENTER_ARM = 0x41
PART = {"cortex-a55": 0xD05, "cortex-a76": 0xD0B, "neoverse-n1": 0xD0C, "neoverse-v1": 0xD40,
        "neoverse-n2": 0xD49}  # fmt: skip
"""MIDR_EL1.PartNum of those that another executes for (each core's TRM, MIDR_EL1)."""


@pytest.mark.parametrize("name", CORES)
def test_what_executes_is_a_core_itself(name):
    executes = CORES[name].executes
    assert CORES[executes].executes == executes
    Engine(core=name)


def test_those_of_other_cores_say_who_they_are():
    found = {name: core.midr for name, core in CORES.items() if core.midr}
    assert {name: midr >> 4 & 0xFFF for name, midr in found.items()} == PART
    assert {midr >> 24 for midr in found.values()} == {IMPLEMENTER_ARM}


def test_each_with_a_model_has_its_table_or_borrows_one():
    assert {BORROWED.get(name, name) for name in TIMED} == set(tables.models())
    assert not set(BORROWED) & set(BORROWED.values())
    assert DEFAULT_CORE not in TIMED


def test_pan_came_with_what_only_max_executes():
    assert [name for name in CORES if not has_pan(name)] == [
        "flat", "cortex-a53", "cortex-a57", "cortex-a72",
    ]  # fmt: skip

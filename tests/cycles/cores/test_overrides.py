"""The overrides: hardware's figures in place of LLVM's, and files that do not match the schema."""

from __future__ import annotations

import pytest

from emu.arm.a64 import Role, Slot
from emu.arm.cores import TIMED
from emu.cycles.cores import overrides
from emu.cycles.cores.overrides import OVERRIDES, load
from emu.cycles.cores.tables import SIXTEENTHS, TableError

every_core = pytest.mark.parametrize("core", TIMED)


def cycles(core, key, slot=Slot.RESULT):
    return load(core).lookup(key).latency[slot] / SIXTEENTHS


def chain(core, key, role):
    """Cycles from one to the next of a dependent chain."""
    table = load(core)
    timing = table.lookup(key)
    return table.wait(timing, Slot.RESULT, timing, role) / SIXTEENTHS


@pytest.mark.parametrize(
    ("core", "key", "role", "expected"),
    [
        # Texas Instruments' measurements
        ("cortex-a53", "ldr.x.imm", Role.BASE, 3),
        ("cortex-a53", "mul.w", Role.MUL, 4),
        ("cortex-a53", "mul.x", Role.MUL, 5),
        ("cortex-a53", "udiv.w", Role.ALU, 6),
        ("cortex-a53", "udiv.x", Role.ALU, 9.5),
        ("cortex-a53", "fadd.d", Role.VECTOR, 4),
        ("cortex-a53", "fmul.s", Role.VECTOR, 4),
        ("cortex-a53", "fdiv.s", Role.VECTOR, 13),
        ("cortex-a53", "fdiv.d", Role.VECTOR, 22),
        ("cortex-a72", "ldr.x.imm", Role.BASE, 4),
        ("cortex-a72", "mul.w", Role.MUL, 3),
        ("cortex-a72", "mul.x", Role.MUL, 5),
        ("cortex-a72", "udiv.w", Role.ALU, 8),
        ("cortex-a72", "udiv.x", Role.ALU, 6),
        ("cortex-a72", "fadd.d", Role.VECTOR, 4),
        ("cortex-a72", "fdiv.s", Role.VECTOR, 11),
        ("cortex-a72", "fdiv.d", Role.VECTOR, 18),
        # Arm's optimization guide
        ("neoverse-n1", "madd.w", Role.ACC, 1),
        ("neoverse-n1", "madd.w", Role.MUL, 2),
        ("cortex-a76", "fmadd.d", Role.ACC, 2),
        ("cortex-a76", "fmadd.d", Role.VECTOR, 4),
        # what must stay
        ("cortex-a53", "madd.x", Role.ACC, 2),
        ("cortex-a53", "add.x.reg", Role.ALU, 1),
    ],
)
def test_chains_of_hardware(core, key, role, expected):
    assert chain(core, key, role) == expected


def test_a_written_back_base_is_early_on_hardware_too():
    assert cycles("cortex-a53", "ldr.x.post", Slot.BASE) == 1
    assert cycles("cortex-a53", "ldp.x.post", Slot.SECOND) == 3


def test_a_pair_is_there_at_once():
    assert cycles("neoverse-n1", "ldp.q", Slot.SECOND) == 7
    assert cycles("neoverse-n1", "ldp.w", Slot.SECOND) == 4


def test_slow_divisions_hold_their_port():
    timing = load("cortex-a53").lookup("udiv.x")
    assert timing.ports[0][1] == timing.throughput == 9.5 * SIXTEENTHS


def test_width_of_the_n1():
    assert load("neoverse-n1", compatible=True).width == 3
    assert load("neoverse-n1").width == load("cortex-a76").width == 4


def test_atomics_cost_what_exclusives_do():
    table = load("neoverse-n1")
    assert table.lookup("ldaddx.al") == table.lookup("casw") == table.lookup("ldaxrx")
    assert load("neoverse-n1", compatible=True).lookup("ldaddx.al") is None


@every_core
def test_every_override_matches_something(core):
    assert overrides.unmatched(load(core), OVERRIDES) == []


def test_every_override_has_a_source():
    for entry in overrides.entries(OVERRIDES):
        assert len(entry.source) > 20
        assert entry.source in str(entry)
        assert all(any(o.concerns(core) for core in TIMED) for o in (entry,))


GOOD = """
[[chain]]
cores = ["cortex-a53"]
keys = ["fadd.d"]
through = "vector"
cycles = 4
source = "here"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("chain", "change"), r"\[\[change\]\] is none of chain, forward"),
        (GOOD.replace("[[chain]]", "[chain]"), r"\[\[chain\]\] is none of"),
        (GOOD.replace("cycles = 4", "cycle = 4"), "chain 1: unknown cycle; it may be"),
        (GOOD.replace('source = "here"', ""), "chain 1: source is missing"),
        (GOOD.replace("cycles = 4", 'cycles = "4"'), "chain 1: cycles has the wrong type"),
        (GOOD.replace("cycles = 4", "cycles = 4.3"), "chain 1: cycles are whole sixteenths"),
        (GOOD.replace("cycles = 4", "cycles = -1"), "chain 1: cycles are whole sixteenths"),
        (GOOD.replace("vector", "victor"), "chain 1: through is one of alu, shifted"),
        (GOOD.replace("chain", "forward").replace("= 4", "= 4.5"), "an advance is whole cycles"),
        ('[[like]]\ncores = ["*"]\nkeys = ["x"]\nkey = "y"\nsource = "z"', "has no key y"),
        ("[[", "overrides.toml: "),
    ],
)
def test_overrides_that_do_not_match_their_schema(tmp_path, text, message):
    path = tmp_path / "overrides.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=message) as caught:
        overrides.apply(load("cortex-a53", compatible=True), path)
    assert str(path) in str(caught.value)


def test_a_pattern_without_a_key_is_found(tmp_path):
    path = tmp_path / "o.toml"
    path.write_text(GOOD.replace("fadd.d", "fadd.z"), encoding="utf-8")
    assert overrides.unmatched(load("cortex-a53"), path) == ["chain fadd.z"]

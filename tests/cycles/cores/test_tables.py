"""The timing tables: what is in them, the overrides, and files that do not match their schema."""

from __future__ import annotations

import copy
import json

import pytest

from emu.arm import a64
from emu.arm.a64 import Role, Slot
from emu.arm.cores import TIMED
from emu.base.errors import EmuError
from emu.cycles.cores.overrides import load
from emu.cycles.cores.tables import SIXTEENTHS, TABLES, Issue, TableError

every_core = pytest.mark.parametrize("core", TIMED)


def cycles(core, key, slot):
    return load(core, compatible=True).lookup(key).latency[slot] / SIXTEENTHS


def chain(core, key, role):
    """Cycles from one to the next of a dependent chain."""
    table = load(core, compatible=True)
    timing = table.lookup(key)
    return table.wait(timing, Slot.RESULT, timing, role) / SIXTEENTHS


def test_the_file_says_where_it_is_from():
    first = TABLES.read_text(encoding="utf-8").splitlines()[1]
    assert "derived with llvm-mca 22.1.8 (LLVM project, Apache-2.0 WITH LLVM-exception)" in first
    assert TABLES.stat().st_size < 100_000


COMMON = """
add.x.reg add.x.lsl4 subs.w.imm mov.x movz.x.zero ubfm.x madd.w umulh udiv.x csel.x
ldr.x.imm ldr.w.post ldp.x.pre stp.x.pre str.w.reg.s ldrb.w.reg ldr.q.imm ldxrx stlxrw
b.cond cbz.x tbz.w bl ret br fadd.d fmadd.s fcmp.d fdiv.d fmov.x.d scvtf.d.x add.4s
ld1.1.16b st1.4.16b tbl.128.1 aese sha256h crc32cx nop
"""


@every_core
def test_every_key_of_common_code_has_a_timing(core):
    table = load(core, compatible=True)
    for key in COMMON.split():
        timing = table.lookup(key)
        assert timing is not None, key
        assert timing.uops >= 0
    assert table.lookup("") is None
    assert table.lookup("sys_mrs") is None


@every_core
def test_numbers_are_integers(core):
    table = load(core)
    for key in list(table.keys()):
        uops, throughput, ports, latency, writes, reads, issue = table.lookup(key)
        flat = [uops, throughput, *latency, *writes, *reads, *(n for port in ports for n in port)]
        assert all(type(number) is int for number in flat), key
        assert isinstance(issue, Issue)
        assert all(0 <= group < len(table.matrix) for group in reads)
        assert all(0 <= group < len(table.matrix[0]) for group in writes)
        assert all(resource < len(table.resources) for resource, _ in ports)
    assert all(len(row) == len(table.matrix[0]) for row in table.matrix)
    assert all(type(cycles) is int for row in table.matrix for cycles in row)


@pytest.mark.parametrize(
    ("core", "key", "slot", "expected"),
    [
        # LLVM 22.1: AArch64SchedA53.td, A55, A57, NeoverseN1 by llvm-mca
        ("cortex-a53", "ldr.x.imm", Slot.RESULT, 4),
        ("cortex-a53", "ldr.x.post", Slot.BASE, 1),
        ("cortex-a53", "fadd.d", Slot.RESULT, 6),
        ("cortex-a53", "subs.x.reg", Slot.FLAGS, 3),
        ("cortex-a53", "fdiv.d", Slot.RESULT, 33),
        ("cortex-a55", "ldp.x", Slot.SECOND, 5),
        ("cortex-a55", "ldp.x", Slot.RESULT, 4),
        ("cortex-a55", "fdiv.d", Slot.RESULT, 22),
        ("cortex-a57", "udiv.x", Slot.RESULT, 35),
        ("cortex-a57", "fmadd.d", Slot.RESULT, 9),
        ("neoverse-n1", "add.x.reg", Slot.RESULT, 1),
        ("neoverse-n1", "add.x.lsr", Slot.RESULT, 2),
        ("neoverse-n1", "ldr.q.imm", Slot.RESULT, 5),
    ],
)
def test_latencies_of_llvm(core, key, slot, expected):
    assert cycles(core, key, slot) == expected


@pytest.mark.parametrize(
    ("core", "key", "role", "expected"),
    [
        ("cortex-a53", "add.x.reg", Role.ALU, 1),
        ("cortex-a53", "add.x.lsl", Role.SHIFTED, 2),
        ("cortex-a53", "mul.x", Role.MUL, 3),
        ("cortex-a53", "madd.x", Role.ACC, 2),
        ("cortex-a55", "add.x.reg", Role.ALU, 1),
        ("cortex-a55", "ldr.x.imm", Role.BASE, 3),
        ("cortex-a57", "fmadd.d", Role.ACC, 4),
        ("cortex-a57", "fmadd.d", Role.VECTOR, 9),
    ],
)
def test_chains_of_llvm(core, key, role, expected):
    assert chain(core, key, role) == expected


def test_in_order_issue():
    table = load("cortex-a55", compatible=True)
    assert table.in_order
    assert table.width == 2
    assert table.lookup("str.x.imm").issue == Issue.OUT_OF_ORDER
    assert table.lookup("zip1.4s").issue == Issue.BEGIN
    assert table.lookup("add.x.reg").issue == Issue.NONE
    assert not load("neoverse-n1").in_order


def test_groups_of_resources():
    table = load("neoverse-n1", compatible=True)
    names = [resource.name for resource in table.resources]
    group = table.resources[names.index("N1UnitI")]
    assert group.units == len(group.members) == 3
    assert {names[member] for member in group.members} == {"N1UnitS", "N1UnitM"}
    used = {names[resource]: time for resource, time in table.lookup("mul.w").ports}
    assert used == {"N1UnitM": SIXTEENTHS}  # the group's own share is what its member leaves


def test_an_unknown_core_names_those_there_are():
    with pytest.raises(TableError, match=r"no core cortex-a9; it has cortex-a53, cortex-a55"):
        load("cortex-a9")
    assert issubclass(TableError, EmuError)


DOCUMENT = json.loads(TABLES.read_text(encoding="utf-8"))


def spoiled(change):
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def core(document):
    return document["cores"]["cortex-a53"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=7), "schema is 7, not 1"),
        (lambda d: d.pop("about"), "has classes, cores, schema; expected"),
        (lambda d: d.update(cores={}), "cores must be a table"),
        (lambda d: core(d).pop("width"), "core cortex-a53: expected in_order, width"),
        (lambda d: core(d).update(width="2"), "core cortex-a53: width must be of type int"),
        (lambda d: core(d).update(in_order=1), "in_order must be of type bool"),
        (lambda d: core(d)["resources"][1].pop(), "resource 1 must be name, units and members"),
        (lambda d: core(d)["resources"][0].__setitem__(2, [99]), "resource 0 must be"),
        (lambda d: core(d)["advance"][0].append(1.5), "advance must be a matrix"),
        (lambda d: core(d)["timings"][3].pop(), "timing 3: must be uops, throughput"),
        (lambda d: core(d)["timings"][3].__setitem__(0, -1), "timing 3: uops, throughput"),
        (lambda d: core(d)["timings"][3].__setitem__(2, [[99, 16]]), "timing 3: a port is"),
        (lambda d: core(d)["timings"][3].__setitem__(2, 5), "timing 3: a port is"),
        (lambda d: core(d)["timings"][3].__setitem__(3, [1]), "timing 3: latencies and write"),
        (lambda d: core(d)["timings"][3].__setitem__(4, [9] * 4), "no such write group"),
        (lambda d: core(d)["timings"][3].__setitem__(5, [[0, 99]]), "no such role or read group"),
        (lambda d: core(d)["timings"][3].__setitem__(5, "x"), "no such role or read group"),
        (lambda d: d.update(classes=None), "classes must be a list"),
        (lambda d: d["classes"][2].pop(), "class 2 must be timing numbers and keys"),
        (lambda d: d["classes"][2][0].pop(), "class 2 must have one timing for each of"),
        (lambda d: d["classes"][2][0].__setitem__(0, 9999), "class 2 names a timing"),
    ],
)
def test_a_file_that_does_not_match_its_schema(tmp_path, change, message):
    path = tmp_path / "spoiled.json"
    path.write_text(json.dumps(spoiled(change)), encoding="utf-8")
    with pytest.raises(TableError, match=message) as caught:
        load("cortex-a53", path=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_file_that_is_no_table(tmp_path, text):
    path = tmp_path / "none.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=r"none\.json"):
        load("cortex-a53", path=path)


def test_a_missing_file(tmp_path):
    with pytest.raises(TableError, match=r"missing\.json"):
        load("cortex-a53", path=tmp_path / "missing.json")


def test_keys_are_the_decoders():
    known = {key for row in a64.rows() for key in [row.key.partition("{")[0].partition(".")[0]]}
    for key in list(load("neoverse-n2", compatible=True).keys()):
        assert any(key.startswith(name) for name in known)

"""The generator of the timing tables: its words and groups always, llvm-mca where it is."""

from __future__ import annotations

import json
import shutil

import gen_timing
import pytest
import timing_chains
import timing_mca
import timing_words
from timing_chains import grouped, pair, sinks, sources
from timing_mca import Mca, McaError
from timing_words import CONSUMER, LINK, PRODUCER, forms

from emu.arm import a64

needs_llvm = pytest.mark.skipif(
    not shutil.which("llvm-mca-22"), reason="llvm-mca-22 is missing (apt-get install llvm-22)"
)
EVERY = list(forms(3))
CHOSEN = {form.key: form for form in reversed(EVERY)}


def test_every_form_is_its_key():
    assert len(CHOSEN) > 3000
    for form in EVERY:
        assert a64.decode(form.word(PRODUCER)).key == form.key
        assert a64.decode(form.word(CONSUMER)).key == form.key


def test_forms_know_the_decoders_operands():
    for form in EVERY:
        insn = a64.decode(form.word(PRODUCER))
        roles = {r.role for r in insn.reads}
        assert roles <= {r.kind for r in form.reads}
        assert {w.slot for w in insn.writes} <= {w.kind for w in form.writes}


def test_the_same_words_on_every_run():
    assert [f.value for f in forms(3)] == [f.value for f in EVERY]


def test_a_pair_links_a_result_with_an_operand():
    (source,) = sources({"add.x.reg": CHOSEN["add.x.reg"]})
    second = sinks({"madd.x": CHOSEN["madd.x"]})[2]
    linked = pair(CHOSEN, source, second)
    assert linked is not None
    assert [w.reg for w in a64.decode(linked.producer).writes] == [LINK]
    assert [r.reg for r in a64.decode(linked.dependent).reads] == [
        CONSUMER["n"], CONSUMER["m"], LINK,
    ]  # fmt: skip
    assert LINK not in [r.reg for r in a64.decode(linked.control).reads]


@pytest.mark.parametrize(
    ("producer", "consumer", "linked"),
    [
        ("add.x.reg", "fadd.d", False),  # another bank
        ("subs.x.reg", "b.cond", True),
        ("bl", "ret", True),  # x30 by name
        ("bl", "xpaclri", True),
        ("bl", "pacia1716", False),  # two registers by name
        ("fadd.d", "mul.4h.elem", True),
    ],
)
def test_what_can_be_linked(producer, consumer, linked):
    chosen = {producer: CHOSEN[producer], consumer: CHOSEN[consumer]}
    some = [pair(chosen, s, t) for s in sources({producer: chosen[producer]})
            for t in sinks({consumer: chosen[consumer]})]  # fmt: skip
    assert any(some) is linked
    for item in filter(None, some):
        written = {w.reg for w in a64.decode(item.producer).writes}
        assert written & {r.reg for r in a64.decode(item.dependent).reads}


def test_groups_agree_wherever_both_are_known():
    assert grouped([(1, 2), (1, None), (None, 3), (1, 2), (0, 0)]) == [0, 0, 2, 0, 1]
    assert grouped([]) == []
    assert grouped([(None,), (None,)]) == [0, 0]


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (" 1      3     0.50      1     A53UnitALU      ADDXrs   add\tx0, x1, x2",
         (1, 3, 0.5, (("A53UnitALU", 1),), "ADDXrs")),
        (" 9     10    2.00    *          10    N1UnitI,N1UnitL[4]   LD4x   ld4\t{ v0.4s }",
         (9, 10, 2.0, (("N1UnitI", 1), ("N1UnitL", 4)), "LD4x")),
        (" 1      1     0.33                  U      1                 MRS     mrs\tx0, CNTVCT_EL0",
         (1, 1, 0.33, (), "MRS")),
        (" 1      1     1.00    *      *      U      1     P[1,3]      SWP     swp\tx0, x1, [x2]",
         (1, 1, 1.0, (("P", 3),), "SWP")),
        (" 1      1     0.33                  U      1                 NOP     nop",
         (1, 1, 0.33, (), "NOP")),
    ],
)  # fmt: skip
def test_lines_of_the_instruction_tables(line, entry):
    assert tuple(timing_mca._entry(line)) == entry


def test_a_line_that_cannot_be_read():
    with pytest.raises(McaError, match="cannot read 'what'"):
        timing_mca._entry("what")


def test_llvm_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert gen_timing.main([]) == 2
    assert capsys.readouterr().err == (
        "gen_timing: llvm-mca-22 is missing: apt-get install llvm-22\n"
    )


@needs_llvm
def test_another_version_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(gen_timing, "version", lambda program: "99.0")
    assert gen_timing.main(["--check", "cortex-a53"]) == 2
    assert "this is derived with llvm-mca 99.0" in capsys.readouterr().err


@needs_llvm
def test_an_unknown_core_is_llvms_error():
    with pytest.raises(McaError, match="cortex-a999"):
        Mca("llvm-mca-22", "cortex-a999").width()


@pytest.fixture(scope="module")
def a55():
    """The committed file against this llvm-mca, on some keys of every kind."""
    mca, mc = gen_timing.program("llvm-mca"), gen_timing.program("llvm-mc")
    chosen, text = gen_timing.chosen_forms(mc)
    return Mca(mca, "cortex-a55"), chosen, text, mc


@needs_llvm
def test_two_encodings_of_a_key_cost_the_same(a55):
    mca, _, _, mc = a55
    every = [form for form in EVERY if not form.key.startswith("sys_")]
    words = [form.word(PRODUCER) for form in every]
    text = timing_words.disassemble(words, mc)
    known = [(f.key, text[w]) for f, w in zip(every, words, strict=True) if w in text]
    entries = mca.tables([line for _, line in known])
    costs: dict[str, set[object]] = {}
    for (key, _), entry in zip(known, entries, strict=True):
        costs.setdefault(key, set()).add(entry and entry[:4])
    assert [key for key, found in costs.items() if len(found) > 1] == []


@needs_llvm
def test_the_committed_file_is_what_llvm_says(a55):
    """A sample of pairs of every kind waits as the file says it does."""
    mca, chosen, text, mc = a55
    from emu.cycles.cores import tables

    table = tables.read("cortex-a55")
    known = {key: form for number, (key, form) in enumerate(chosen.items())
             if table.lookup(key) and number % 9 == 0}  # fmt: skip
    items = [(s, t, pair(known, s, t)) for number, s in enumerate(sources(known))
             for t in sinks(known)[number % 40 :: 40]]  # fmt: skip
    words = {word for *_, item in items if item for word in item} - {0}
    text = {**text, **timing_words.disassemble(sorted(words), mc)}
    waits = timing_chains.distances(mca, text, [item for *_, item in items])
    seen = 0
    for (source, sink, _), wait in zip(items, waits, strict=True):
        if wait:
            seen += 1
            producer, consumer = table.lookup(source.key), table.lookup(sink.key)
            expected = table.wait(producer, a64.Slot(source.slot), consumer, a64.Role(sink.role))
            assert expected == wait * tables.SIXTEENTHS, (source, sink)
    assert seen > 1000


@needs_llvm
def test_the_file_is_written_as_it_is_committed():
    committed = gen_timing.TABLES.read_text(encoding="utf-8")
    document = json.loads(committed)
    classes = [(tuple(numbers), keys.split()) for numbers, keys in document["classes"]]
    assert gen_timing._written(document["about"], document["cores"], classes) == committed


@needs_llvm
def test_check(capsys):
    """The whole way for a sample of keys on an in-order core and on one that is not."""
    cores = ["cortex-a53", "cortex-a57"]
    assert gen_timing.main(["--every", "40", "--check", *cores]) == 0
    assert capsys.readouterr().out == "0 differences\n"


@needs_llvm
def test_check_finds_what_was_changed(tmp_path, capsys):
    document = json.loads(gen_timing.TABLES.read_text(encoding="utf-8"))
    for row in document["cores"]["cortex-a53"]["timings"]:
        row[3][0] += 16 if row[3][0] == 33 * 16 else 0  # double divisions
    path = tmp_path / "tables.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    arguments = ["--every", "40", "--output", str(path), "--check", "cortex-a53"]
    assert gen_timing.main(arguments) == 1
    assert "cortex-a53: fdiv.d\n" in capsys.readouterr().out

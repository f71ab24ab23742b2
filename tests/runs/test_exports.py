"""JSON and JUnit XML."""

import json
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from emu.base.endings import Ending
from emu.runs.exports import CONSOLE_MAX, Origin, as_json, as_junit
from matrix_kit import BROKEN, outcome, result

ORIGIN = Origin("0.1.0", "hvcemu matrix <x>", "2026-01-02T03:04:05+00:00")
RESULTS = [
    result(), result(profile="none", made=outcome(Ending.EXIT, 3)),
    result("b", made=outcome(Ending.FAULT, 121, detail="undefined", verdicts=(BROKEN,))),
    result("b", "none", outcome(Ending.LOST, 121, detail="died")),
]  # fmt: skip


def test_json_has_everything():
    read = json.loads(as_json(RESULTS, ORIGIN, frozenset({3})))
    assert (read["schema"], read["command"]) == (1, "hvcemu matrix <x>")
    assert [cell["good"] for cell in read["cells"]] == [True, True, False, False]
    bad = read["cells"][2]
    assert bad["ending"] == "fault"
    assert bad["verdicts"][0]["rule"] == "made-up-rule"
    assert bad["calls"][0]["call"] == "PSCI_VERSION()"
    assert bad["setup"]["memory"] == 64 << 20
    assert bad["image_sha256"] == "ab" * 32
    assert json.loads(as_json([], ORIGIN, frozenset()))["cells"] == []


def test_junit():
    root = ElementTree.fromstring(as_junit(RESULTS, ORIGIN, frozenset({3})))
    assert root.attrib | {"time": ""} == {
        "name": "hvcemu", "tests": "4", "failures": "1", "errors": "1", "time": "",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["hello", "b"]
    assert root[1].get("timestamp") == ORIGIN.started
    fault, lost = root[1]
    assert (fault.get("classname"), fault.get("name")) == ("b", "kvm-6.12")
    assert fault.find("failure").get("type") == "fault"
    assert fault.find("failure").get("message") == "fault, 1 rule: undefined; made-up-rule"
    assert "it did what none should" in fault.find("failure").text
    assert lost.find("error").text == "died"
    assert fault.find("system-out").text == "hello\n"


@given(st.text())
def test_any_text_is_well_formed(text):
    made = outcome(Ending.FAULT, 121, detail=text, console=text)
    root = ElementTree.fromstring(as_junit([result(made=made)], ORIGIN, frozenset()))
    assert root[0][0].find("failure") is not None
    (cell,) = json.loads(as_json([result(made=made)], ORIGIN, frozenset()))["cells"]
    assert cell["detail"] == text


def test_a_long_console_is_cut():
    made = outcome(console="x" * CONSOLE_MAX + "the end")
    root = ElementTree.fromstring(as_junit([result(made=made)], ORIGIN, frozenset()))
    text = root[0][0].find("system-out").text
    assert len(text) == CONSOLE_MAX
    assert text.endswith("the end")

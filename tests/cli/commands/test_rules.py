"""`hvcemu rules` as a user meets it."""

import json

import pytest

from command_kit import check_mistake
from emu.judge.discovery import RULES


def test_all_are_listed(hvcemu):
    status, out, _ = hvcemu("rules")
    lines = out.splitlines()
    assert status == 0
    assert len(lines) == len(RULES) + 1
    assert lines[1].split()[0] in RULES


def test_one_is_explained(hvcemu):
    status, out, _ = hvcemu("rules", "conduit-unknown")
    assert status == 0
    assert out.startswith("conduit-unknown: a call before the guest has read")
    assert all(f"  {label} " in out for label in ("source", "example", "fix"))


def test_as_json(hvcemu):
    assert [rule["name"] for rule in json.loads(hvcemu("rules", "--json")[1])] == list(RULES)
    (rule,) = json.loads(hvcemu("rules", "conduit-unknown", "--json")[1])
    assert rule["name"] == "conduit-unknown"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("conduit-unknow", "did you mean conduit-unknown"), ("zzz", "`hvcemu rules` lists them")],
)
def test_a_rule_that_is_none(hvcemu, name, hint):
    check_mistake(hvcemu("rules", name), hint)

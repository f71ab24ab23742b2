"""State as JSON and back: what was declared and nothing else."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import StateError
from emu.base.exits import EventKind, SystemEvent
from emu.base.smccc import UNDEF, Call, Conduit, Ret, Undef
from emu.base.state import from_state, to_state


class Colour(enum.StrEnum):
    RED = "red"


class Pair(NamedTuple):
    first: int
    second: bool


@dataclass(frozen=True, slots=True)
class Everything:
    number: int
    narrow: Annotated[int, 8]
    truth: bool
    text: str
    data: bytes
    colour: Colour
    maybe: int | None
    pair: Pair
    several: tuple[int, ...]
    two: tuple[int, str]
    names: dict[str, int]
    numbers: dict[int, str]
    flags: frozenset[str]
    reply: Ret | Undef
    free: Any


u64 = st.integers(0, 2**64 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
free = st.recursive(
    st.one_of(st.none(), st.booleans(), texts, u64),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
things = st.builds(
    Everything,
    number=u64, narrow=st.integers(0, 255), truth=st.booleans(), text=texts, data=st.binary(),
    colour=st.just(Colour.RED), maybe=st.none() | u64, pair=st.builds(Pair, u64, st.booleans()),
    several=st.lists(u64, max_size=3).map(tuple), two=st.tuples(u64, texts),
    names=st.dictionaries(texts, u64, max_size=3), numbers=st.dictionaries(u64, texts, max_size=3),
    flags=st.frozensets(texts, max_size=3),
    reply=st.just(UNDEF) | st.lists(u64, min_size=1, max_size=18).map(lambda x: Ret.only(*x)),
    free=free,
)  # fmt: skip
ONE = Everything(
    1, 2, True, "a", b"b", Colour.RED, None, Pair(3, False), (4,), (5, "c"), {"d": 6}, {7: "e"},
    frozenset({"f"}), Ret.value(-1), [8],
)  # fmt: skip


@given(things)
def test_there_and_back(thing):
    there = json.loads(json.dumps(to_state(thing)))
    back = from_state(Everything, there)
    assert back == thing
    assert type(back.reply) is type(thing.reply)
    assert to_state(back) == there


def test_exits_and_calls():
    call = Call((1,) * 8, Conduit.SMC, 7, 3)
    assert from_state(Call, to_state(call)) == call
    exit = SystemEvent(kind=EventKind.RESET, ret=Ret.untouched(), vcpu=1)
    assert from_state(SystemEvent, to_state(exit)) == exit


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("number", -1, "number does not fit into 64 bits"),
        ("number", 1 << 64, "64 bits"),
        ("number", True, "not a number"),
        ("number", 1.0, "not a number"),
        ("number", "1", "not a number"),
        ("narrow", 256, "8 bits"),
        ("truth", 1, "neither true nor false"),
        ("text", 5, "not a text"),
        ("text", "\ud800", "can be written"),
        ("data", "!!", "base64"),
        ("data", "é", "base64"),
        ("colour", "blue", "no Colour"),
        ("colour", [], "no Colour"),
        ("maybe", "x", "not a number"),
        ("pair", {"first": 1}, "pair.second is missing"),
        ("pair", [1, True], "pair is not a table"),
        ("several", {}, "not a list"),
        ("several", [1, -1], "several[1]"),
        ("two", [1], "2 items"),
        ("names", [], "not a table"),
        ("names", {"d": None}, "names.d is not a number"),
        ("numbers", {"07": "e"}, "numbers.07 is not a number"),
        ("numbers", {str(1 << 64): "e"}, "64 bits"),
        ("numbers", {"9" * 5000: "e"}, "not a number"),
        ("reply", [1] * 19, "not a reply"),
        ("reply", "maybe", "not a reply"),
        ("free", 1.5, "no such value"),
        ("free", 1 << 65, "no such value"),
    ],
)
def test_refused(field, value, says):
    with pytest.raises(StateError) as caught:
        from_state(Everything, {**to_state(ONE), field: value})
    assert says in str(caught.value)


def test_fields_are_all_and_only_these():
    state = to_state(ONE)
    with pytest.raises(StateError, match="more is unknown"):
        from_state(Everything, {**state, "more": 1})
    del state["truth"]
    with pytest.raises(StateError, match="truth is missing"):
        from_state(Everything, state)


def test_nothing_is_nested_without_end():
    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    with pytest.raises(StateError, match="too deeply"):
        from_state(Any, deep)


def test_what_has_no_form_is_not_saved():
    with pytest.raises(StateError, match="object cannot be saved"):
        to_state(object())

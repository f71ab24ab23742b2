"""Declaring functions, and the options a profile may give a service."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from emu.base.errors import ProfileError
from emu.base.smccc import Call, FunctionId, Ret
from emu.world.abis.xen import Xen
from emu.world.policy import Gate
from emu.world.service import MpState, Service, fn
from kit import FakeHost, machine


@dataclass(frozen=True)
class Options:
    size: int = 4
    loud: bool = False
    names: tuple[int, ...] = ()


class Adder(Service):
    name = "adder"
    Options = Options

    @fn(0xC600_0042, 0x8600_0042, args=("a", "b"), gate=Gate("R", 1), result="hex", since=2)
    def add(self, call: Call) -> Ret:
        """Add two numbers."""
        return Ret.success(call.arg(1) + call.arg(2))

    @fn(0x8600_0043, name="OTHER", feature="special")
    def sub(self, call: Call) -> Ret:
        return Ret.success(call.arg(1) - call.arg(2))

    limit = 3


class Better(Adder):
    @fn(0xC600_0044)
    def add(self, call: Call) -> Ret:
        return Ret.success(42)


class Plain(Service):
    name = "plain"


def build(cls: type[Service], **options: object) -> Service:
    return cls(FakeHost(), machine(), options)


def test_declaration():
    add, sub = Adder.functions()
    assert (add.ids, add.name, add.method) == ((0xC600_0042, 0x8600_0042), "ADD", "add")
    assert (add.args, add.gate, add.result) == (("a", "b"), Gate("R", 1), "hex")
    assert (add.since, add.until, add.doc) == (2, 0xFFFF_FFFF, "Add two numbers.")
    assert (sub.name, sub.doc) == ("OTHER", "")


def test_a_function_belongs_to_its_service_unless_it_says_otherwise():
    assert [f.feature for f in Adder.functions()] == ["adder", "special"]


def test_a_subclass_replaces_a_function():
    assert [f.ids for f in Better.functions()] == [(0xC600_0044,), (0x8600_0043,)]


def test_a_function_exists_unless_the_service_denies_it():
    assert build(Plain).implements(Adder.functions()[0], FunctionId(0xC600_0042))


def test_options():
    assert build(Adder).options == Options()
    assert build(Adder, size=5, loud=True, names=[1, 2]).options == Options(5, True, (1, 2))
    assert build(Plain).options is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sise": 4}, r"adder has no option sise \(it has size, loud, names\)"),
        ({"size": "4"}, "size of service adder is of type int"),
        ({"size": True}, "of type int"),
        ({"size": [4]}, "of type int"),
        ({"loud": 1}, "of type bool"),
        ({"names": 1}, "of type list"),
    ],
)
def test_options_refused(options, says):
    with pytest.raises(ProfileError, match=says):
        build(Adder, **options)


def test_a_service_without_options_has_none():
    with pytest.raises(ProfileError, match=r"plain has no option x \(it has none\)"):
        build(Plain, x=1)


@pytest.mark.parametrize(
    ("state", "number"), [("RUNNABLE", 0), ("HALTED", 3), ("STOPPED", 5), ("SUSPENDED", 10)]
)
def test_mp_states_are_kvms(state, number):
    assert MpState[state] == number


@pytest.mark.parametrize("reads", [-1, 32, 100])
def test_a_call_has_31_registers_at_most(reads):
    with pytest.raises(ValueError, match="at most 31 registers, x0 to x30"):
        fn(0xC600_0042, reads=reads)


def test_a_service_by_another_abi_declares_its_numbers():
    """They are told apart from identifiers by SMCCC, where two services are compared."""

    class Hyper(Service):
        name = "hyper"
        abi = Xen

        @fn(17, 0x8400_0000)
        def version(self, call: Call) -> Ret:
            return Ret.only(1)

    (version,) = Hyper.functions()
    assert version.ids == (Xen.id_of(17), Xen.id_of(0x8400_0000))
    assert version.feature == "hyper"

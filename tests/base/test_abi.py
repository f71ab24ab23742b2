"""Conventions other than SMCCC: a class of calls each, with numbers of its own."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.abi import ABIS, NUMBER_BITS, SMCCC, Abi, apart, is_abi
from emu.base.smccc import MASK32, NOT_SUPPORTED, Call, Conduit, Ret
from emu.world.abis import abi_class, abi_names, abi_of, id_text, knows_abi, owner_of
from emu.world.abis.xen import Xen
from kit import ONES

pytestmark = pytest.mark.usefixtures("own_abis")
HVC, SMC = Conduit.HVC, Conduit.SMC
numbers = st.integers(0, ONES)
words = st.tuples(*[numbers] * 17)


def define(name: object, **more: object) -> type[Abi]:
    """An ABI, as a class statement makes it."""
    return type("Own", (Abi,), {"__slots__": (), "name": name, "__module__": __name__, **more})


# -- a class of calls ----------------------------------------------------------------------------


def test_an_abi_is_a_class_of_calls():
    """All that takes a call takes it: it is the same tuple, read otherwise."""
    plain = Call(tuple(range(100, 117)), HVC, 0xEA1, 3)
    call = Xen(*plain)
    assert call == plain
    assert isinstance(call, Call)
    assert (call.conduit, call.imm, call.vcpu) == (HVC, 0xEA1, 3)
    assert is_abi(type(call))
    assert not is_abi(Call)
    assert pickle.loads(pickle.dumps(call)) == call


@given(words)
def test_it_reads_its_own_registers(x):
    """Xen's: the number is x16, the first argument x0, all 64 bits of each."""
    call = Xen(x, HVC, 0xEA1)
    assert call.number == x[16]
    assert [call.arg(n) for n in range(1, 6)] == list(x[:5])


@given(words)
def test_what_an_abi_leaves_alone_is_read_from_x0_onward(x):
    call = define("plain")(x)
    assert call.number == x[0]
    assert [call.arg(n) for n in range(1, 7)] == list(x[1:7])
    assert type(call).unknown == Ret.only(NOT_SUPPORTED)


# -- ids -----------------------------------------------------------------------------------------

letters = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)


@given(letters.filter(lambda name: name != SMCCC), numbers)
def test_an_id_is_the_abis_name_and_its_number(name, number):
    """Whoever has both in hand can tell them apart again; no two ABIs share one, nor SMCCC."""
    abi = ABIS.get(name) or define(name)
    id = abi.id_of(number)
    assert apart(id) == (name, number)
    assert id > MASK32
    assert id >> NUMBER_BITS
    assert abi.make(number).id == id
    assert abi_of(id) is abi


@given(st.integers(0, MASK32))
def test_the_ids_of_smccc_are_its_identifiers(fid):
    assert apart(fid) == (SMCCC, fid)
    assert abi_of(fid) is None
    assert id_text(fid) == f"0x{fid:08X}"
    assert Call((fid | 7 << 32,) + (0,) * 7).id == fid


@given(st.sets(st.tuples(letters, numbers), min_size=2))
def test_different_functions_have_different_ids(functions):
    ids = {(ABIS.get(name) or define(name)).id_of(n) for name, n in functions if name != SMCCC}
    assert len(ids) == len([name for name, _ in functions if name != SMCCC])


def test_an_id_in_words():
    assert id_text(Xen.id_of(0x1234)) == "xen 0x1234"
    gone = int.from_bytes(b"gone", "big") << NUMBER_BITS | 5
    assert (id_text(gone), abi_of(gone)) == ("gone 0x5", None)


# -- the list ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [*("", "smccc", "xen", "Own", "my abi", "my-abi", "a.b", "./a", "\u00e4", "\u0661", "7", "_")],
)
def test_a_name_that_is_taken_or_malformed(name):
    before = dict(ABIS)
    with pytest.raises(TypeError, match="Own: an ABI needs a name of its own, not "):
        define(name)
    assert before == ABIS, "what was refused is not in the list"


def test_a_subclass_needs_a_name_too():
    with pytest.raises(TypeError, match="not 'xen'"):
        type("Mine", (Xen,), {"__slots__": ()})
    assert ABIS["xen"] is Xen


def test_a_class_enters_the_list_by_being_defined():
    assert not knows_abi("mine")
    mine = define("mine")
    assert abi_class("mine") is mine
    assert abi_names() == (SMCCC, "xen", "mine")


def test_the_same_class_again_takes_its_own_place():
    """A file that is loaded anew, as a notebook does it."""
    owned = frozenset({(HVC, 0x77)})
    first = define("mine", instructions=owned)
    assert owner_of(HVC, 0x77) is first
    second = define("mine", instructions=owned)
    assert abi_class("mine") is second
    assert owner_of(HVC, 0x77) is second


def test_those_that_ship_are_found_by_name():
    assert abi_names()[:2] == (SMCCC, "xen")
    assert (abi_class(SMCCC), abi_class("xen")) == (Call, Xen)
    assert abi_of(Xen.id_of(17)) is Xen
    for name in ("hyperv", "", "../xen", "xen.xen", "os"):
        assert not knows_abi(name)
        with pytest.raises(KeyError):
            abi_class(name)


def test_whom_an_instruction_belongs_to():
    define("mine", instructions=frozenset({(SMC, 0x77)}))
    assert owner_of(HVC, 0xEA1) is Xen
    assert owner_of(SMC, 0x77).name == "mine"
    assert owner_of(HVC, 0) is owner_of(SMC, 0xEA1) is owner_of(HVC, 0x77) is None


# -- making calls --------------------------------------------------------------------------------


@given(numbers, st.lists(numbers, max_size=5))
def test_a_call_made_by_its_number(number, arguments):
    call = Xen.make(number, *arguments)
    assert (call.number, call.conduit, call.imm) == (number, HVC, 0xEA1)
    assert [call.arg(n + 1) for n in range(5)] == [*arguments, *[0] * 5][:5]
    assert len(call.x) == 17


# -- one whose number is the immediate -----------------------------------------------------------


@pytest.fixture
def immediate() -> type[Abi]:
    """As Gunyah's or Jailhouse's: HVC #n is function n, with arguments from x0 on."""
    return define(
        "immediate", instructions=frozenset((HVC, n) for n in range(0x6000, 0x6004)), first=0,
        arguments=8, number=property(lambda call: call.imm),
    )  # fmt: skip


@pytest.mark.parametrize("imm", [0x6000, 0x6003, 0xFFFF])
def test_a_number_in_the_immediate(immediate, imm):
    call = immediate(tuple(range(8)), HVC, imm)
    assert call.number == imm
    assert apart(call.id) == ("immediate", imm)
    assert [call.arg(n) for n in range(1, 9)] == list(range(8))


def test_all_its_instructions_are_its_own(immediate):
    assert {owner_of(HVC, imm) for imm in range(0x6000, 0x6004)} == {immediate}
    assert owner_of(HVC, 0x6004) is None

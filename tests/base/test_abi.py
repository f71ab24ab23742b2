"""Conventions other than SMCCC: a class of calls each, with numbers of its own."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi_kit import define, define_immediate
from emu.base.abi import ABIS, NUMBER_BITS, RESERVED, SMCCC, Abi, AbiError, apart, is_abi
from emu.base.smccc import MASK32, NOT_SUPPORTED, Call, Conduit, Ret
from emu.world.abis.xen import Xen
from kit import ONES

pytestmark = pytest.mark.usefixtures("own_abis")
HVC, SMC = Conduit.HVC, Conduit.SMC
numbers = st.integers(0, ONES)
words = st.tuples(*[numbers] * 17)


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


@given(st.integers(0, MASK32))
def test_the_ids_of_smccc_are_its_identifiers(fid):
    assert apart(fid) == (SMCCC, fid)
    assert Call((fid | 7 << 32,) + (0,) * 7).id == fid


@given(st.sets(st.tuples(letters, numbers), min_size=2))
def test_different_functions_have_different_ids(functions):
    ids = {(ABIS.get(name) or define(name)).id_of(n) for name, n in functions if name != SMCCC}
    assert len(ids) == len([name for name, _ in functions if name != SMCCC])


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
    assert "mine" not in ABIS
    mine = define("mine")
    assert ABIS["mine"] is mine


def test_the_same_class_again_takes_its_own_place():
    """A file that is loaded anew, as a notebook does it."""
    first, second = define("mine"), define("mine")
    assert ABIS["mine"] is second is not first


# -- making calls --------------------------------------------------------------------------------


@given(numbers, st.lists(numbers, max_size=5))
def test_a_call_made_by_its_number(number, arguments):
    call = Xen.make(number, *arguments)
    assert (call.number, call.conduit, call.imm) == (number, HVC, 0xEA1)
    assert [call.arg(n + 1) for n in range(5)] == [*arguments, *[0] * 5][:5]
    assert len(call.x) == 17


# -- one whose number is the immediate -----------------------------------------------------------


@pytest.mark.parametrize("imm", [0x6000, 0x6003, 0xFFFF])
def test_a_number_in_the_immediate(imm):
    call = define_immediate()(tuple(range(8)), HVC, imm)
    assert call.number == imm
    assert apart(call.id) == ("immediate", imm)
    assert [call.arg(n) for n in range(1, 9)] == list(range(8))




@pytest.mark.parametrize("name", RESERVED)
def test_words_of_a_profile_are_no_names(name):
    with pytest.raises(AbiError, match="needs a name of its own"):
        type("Mine", (Abi,), {"name": name, "__slots__": ()})


def test_a_call_whose_number_is_the_immediate_is_made_by_its_instruction(own_abis):
    class Numbered(Abi):
        __slots__ = ()
        name = "numbered"
        number_register = None
        instructions = frozenset({(Conduit.HVC, 5), (Conduit.HVC, 6)})

    made = Numbered.make(6, 7)
    assert (made.number, made.imm, made.arg(1)) == (6, 6, 7)
    with pytest.raises(AbiError, match="no instruction of numbered makes a call of 0x7"):
        Numbered.make(7)

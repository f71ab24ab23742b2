"""The list of ABIs: by name, and by the instructions that are theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi_kit import define, define_immediate
from emu.base.abi import NUMBER_BITS, SMCCC
from emu.base.smccc import MASK32, Call, Conduit
from emu.world.abis import abi_class, abi_names, abi_of, id_text, knows_abi, owner_of
from emu.world.abis.xen import Xen
from kit import ONES

pytestmark = pytest.mark.usefixtures("own_abis")
HVC, SMC = Conduit.HVC, Conduit.SMC


@pytest.mark.parametrize(("name", "cls"), [(SMCCC, Call), ("xen", Xen)])
def test_those_that_ship(name, cls):
    assert name in abi_names()[:2]
    assert knows_abi(name)
    assert abi_class(name) is cls


@pytest.mark.parametrize("name", ["hyperv", "", "../xen", "xen.xen", "os", "__init__", "Xen"])
def test_those_that_are_not_there(name):
    assert not knows_abi(name)
    with pytest.raises(KeyError):
        abi_class(name)


def test_one_that_was_defined_is_there_from_then_on():
    assert not knows_abi("mine")
    mine = define("mine")
    assert abi_class("mine") is mine
    assert abi_names() == (SMCCC, "xen", "mine")


@given(st.integers(0, MASK32))
def test_identifiers_by_smccc_are_of_no_other(fid):
    assert abi_of(fid) is None
    assert id_text(fid) == f"0x{fid:08X}"


@given(st.integers(0, ONES))
def test_an_id_leads_to_its_abi(number):
    assert abi_of(Xen.id_of(number)) is Xen
    assert id_text(Xen.id_of(number)) == f"xen {number:#x}"


def test_an_id_of_nobody_here():
    """As in the trace of another machine."""
    gone = int.from_bytes(b"gone", "big") << NUMBER_BITS | 5
    assert (id_text(gone), abi_of(gone)) == ("gone 0x5", None)


# -- instructions --------------------------------------------------------------------------------


def test_whom_an_instruction_belongs_to():
    define("mine", instructions=frozenset({(SMC, 0x77)}))
    assert owner_of(HVC, 0xEA1) is Xen
    assert owner_of(SMC, 0x77).name == "mine"
    assert owner_of(HVC, 0) is owner_of(SMC, 0xEA1) is owner_of(HVC, 0x77) is None


def test_it_is_the_newest_of_its_name():
    """A file that is loaded anew, as a notebook does it."""
    owned = frozenset({(HVC, 0x77)})
    first = define("mine", instructions=owned)
    assert owner_of(HVC, 0x77) is first
    second = define("mine", instructions=owned)
    assert abi_class("mine") is second
    assert owner_of(HVC, 0x77) is second


def test_all_instructions_of_one_are_its_own():
    immediate = define_immediate()
    assert {owner_of(HVC, imm) for imm in range(0x6000, 0x6004)} == {immediate}
    assert owner_of(HVC, 0x6004) is None

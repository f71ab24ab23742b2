"""The fuzzer: right handlers pass, and each kind of mistake is found and shrunk."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given

from emu import UNDEF, Ret, Service, fn
from emu.base.errors import EmuError
from emu.base.smccc import Call
from emu.cli.main import main
from emu.judge.callspec import parse
from emu.judge.fuzz import Failure, call_of, fuzz, of_callback, of_profile, of_service

SPEC = """
smc: ADD: 0xC6000042
    arg1: a
        field: low: [0,3] = {1-3}
        field: high: [60,63]
    arg2 = 7
"""


class Adder(Service):
    name = "adder"
    codes = MappingProxyType({-3: "INVALID"})

    @fn(0xC600_0042, args=("a", "b"))
    def add(self, call):
        return Ret.value(call.arg(1) + call.arg(2) & 0xFFFF)

    @fn(0x8600_0043, args=("a",))
    def check(self, call):
        return Ret.value(-3 if call.arg(1) > 5 else 0)


class Raises(Service):
    name = "raises"

    @fn(0xC600_0042, args=("a", "b"))
    def divide(self, call):
        return Ret.value(call.arg(1) // (call.arg(2) - 1000))


class Wide(Service):
    name = "wide"

    @fn(0x8600_0042, args=("a",))
    def wide(self, call):
        return Ret.value(call.x[1] >> 32 & 1)


class Untold(Service):
    name = "untold"

    @fn(0xC600_0042, args=("a",))
    def untold(self, call):
        return Ret.value(-99 if call.arg(1) > 1000 else 0)


class Remembers(Service):
    """Breaks at the third call, when the first two were 1 and 2."""

    name = "remembers"

    @fn(0xC600_0042, args=("a",))
    def step(self, call):
        seen = self.__dict__.setdefault("seen", [])
        seen.append(call.arg(1))
        if seen[-3:] == [1, 0, 1]:
            raise KeyError("lost")
        return Ret.success()


@pytest.mark.parametrize("profile", ["kvm-4.15", "kvm-6.1", "kvm-6.12", "kvm-7.2", "none"])
def test_the_services_that_ship_keep_every_promise(profile):
    if profile == "none":
        with pytest.raises(EmuError, match="no function to fuzz"):
            fuzz(of_profile(profile))
        return
    for sanity in (0, 1, 2):
        assert fuzz(of_profile(profile), sanity=sanity, examples=150) is None


def test_qemu_takes_64_bits_in_either_width():
    """qemu v7.2 target/arm/psci.c: no truncation for SMC32; known, and found."""
    failure = fuzz(of_profile("qemu-tcg"))
    assert failure
    assert failure.check == "narrow"


def test_a_right_service():
    assert fuzz(of_service(Adder), examples=300) is None


@pytest.mark.parametrize(
    ("cls", "check", "calls"),
    [
        (Raises, "answers", [(0xC600_0042, 0, 1000)]),
        (Wide, "narrow", [(0x8600_0042, 0)]),
        (Untold, "told", [(0xC600_0042, 1001)]),
        (Remembers, "answers", [(0xC600_0042, 1), (0xC600_0042, 0), (0xC600_0042, 1)]),
    ],
)
def test_a_mistake_is_found_and_shrunk(cls, check, calls):
    specs = None
    if cls is Raises:
        specs = parse("smc: D: 0xC6000042\narg1: a\nfield: a: [0,7]\narg2: b\n"
                      "field: b: [0,15] = {999-1001}")  # fmt: skip
    failure = fuzz(of_service(cls), specs=specs, sanity=3 if specs else 2, examples=3000)
    assert isinstance(failure, Failure)
    assert failure.check == check
    assert [call.x[: len(want)] for call, want in zip(failure.calls, calls, strict=True)] == calls
    again = fuzz(of_service(cls), specs=specs, sanity=3 if specs else 2, examples=3000)
    assert again == failure, "the same seed finds the same"


def test_lines_can_be_typed(capsys):
    failure = fuzz(of_service(Untold), examples=3000)
    assert failure
    assert failure.lines()[-1] == "  hvcemu call 0xc6000042 0x3e9 --conduit hvc"
    assert main(failure.lines()[-1].split()[1:]) == 0


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (lambda call: 5, None), (lambda call: UNDEF, None), (lambda call: Ret.success(), None),
        (lambda call: None, "answers"), (lambda call: "x", "answers"),
        (lambda call: True, "answers"), (lambda call: 1 << 64, "fits"),
        (lambda call: [][0], "answers"),
    ],
)  # fmt: skip
def test_callbacks(answer, check):
    failure = fuzz(of_callback(answer, parse(SPEC)), examples=20)
    assert (failure.check if failure else None) == check


@given(call_of(parse(SPEC)[0], 3))
def test_described_values_are_kept(call: Call):
    assert call.fid == 0xC600_0042
    assert 1 <= call.x[1] & 0xF <= 3
    assert call.x[1] >> 4 & ~(0xF << 56) == 0
    assert (call.x[2], *call.x[3:]) == (7, 0, 0, 0, 0, 0)


@given(call_of(parse("smc: A 0x86000042\narg1: a\nfield: f: [0,7] := 5\n")[0], 2))
def test_a_fixed_field_is_fixed_at_every_sanity(call: Call):
    assert call.x[1] == 5


@given(call_of(parse(SPEC)[0], 2))
def test_widths_are_kept(call: Call):
    assert call.x[1] & ~(0xF << 60 | 0xF) == 0

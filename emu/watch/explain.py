"""What `call`, `explain`, `profiles` and `diff` say; the command line only prints it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from emu.base.abi import Abi, apart
from emu.base.errors import EmuError
from emu.base.smccc import Call, Conduit, FunctionId, Owner, Ret
from emu.world.abis import abi_of
from emu.world.catalogue import interface_of
from emu.world.describe import answer_text, call_text, known_ids, registers_text, subject_of
from emu.world.monitor import ARGUMENT_REGISTERS, El2
from emu.world.profile import Profile, load_profile, profile_names
from emu.world.service import Answer

ASKED_FEATURES = (0x8400_000A, 0x8000_0001, 0x8400_0051, 0xC500_0020)
"""PSCI_FEATURES, SMCCC_ARCH_FEATURES, TRNG_FEATURES and PV_TIME_FEATURES."""


def make_call(fid: int, *args: int, conduit: Conduit = Conduit.HVC, imm: int = 0) -> Call:
    """A call from its registers, the rest zero."""
    x = (fid, *args)
    return Call(x + (0,) * (ARGUMENT_REGISTERS - len(x)), conduit, imm)


def make(id: int, *args: int) -> Call:
    """A call of a function of any ABI; EmuError for more arguments than it has."""
    abi = abi_of(id)
    most = ARGUMENT_REGISTERS - 1 if abi is None else abi.arguments
    if len(args) > most:
        first = 1 if abi is None else abi.first
        raise EmuError(
            f"a call has at most {most} arguments, x{first} to x{first + most - 1}"
        )
    return make_call(id, *args) if abi is None else abi.make(apart(id)[1], *args)


def call_lines(el2: El2, call: Call, *, why: bool = False) -> Iterator[str]:
    """One call and its answer, with the reason; with `why`, the whole way to it."""
    answer = el2.answer(call)
    what = subject_of(call, el2)
    route = el2.route_of(call)
    yield (
        f"{call_text(call, what)} by {call.conduit.upper()} #{call.imm:#x} "
        f"under {el2.profile.name}"
    )
    if isinstance(answer, Ret):
        yield from (f"  {line}" for line in registers_text(answer))
    yield f"  result   {answer_text(answer, what)}"
    yield f"  because  {route.why}"
    if why:
        for number, step in enumerate(route.steps, 1):
            yield f"    {number}. {step}"
    if route.source:
        yield f"  source   {route.source}"
    if route.service:
        yield f"  profile  {route.place}"


class Field(NamedTuple):
    """A field of a function identifier, in words."""

    bits: str
    name: str
    value: str
    meaning: str


def fields(id: int) -> list[Field]:
    """An identifier taken apart (DEN0028); of another ABI, what makes the call."""
    if (abi := abi_of(id)) is not None:
        return list(_fields_of(abi, apart(id)[1]))
    fid = FunctionId(id)
    interface = interface_of(fid)
    number = f"{interface} function" if interface else "function"
    return [
        Field("31", "type", f"{fid.fast:d}", "fast call" if fid.fast else "yielding call"),
        Field("30", "convention", f"{fid.smc64:d}", "SMC64/HVC64" if fid.smc64 else "SMC32/HVC32"),
        Field("29:24", "owner", f"{fid.owner}", Owner.describe(fid.owner)),
        Field(
            "23:17",
            "reserved",
            f"{fid.reserved:#x}",
            "" if not (fid.fast and fid.reserved) else "must be zero: nobody answers",
        ),
        Field("16", "SVE hint", f"{fid.sve_hint:d}", "no live SVE state" if fid.sve_hint else ""),
        Field("15:0", "number", f"{fid.number:#x}", number),
    ]


def _fields_of(abi: type[Abi], number: int) -> Iterator[Field]:
    for conduit, imm in sorted(abi.instructions):
        yield Field("", "instruction", f"{conduit.upper()} #{imm:#x}", abi.title)
    where = "immediate" if abi.number_register is None else f"x{abi.number_register}"
    yield Field("", where, f"{number:#x}", "its number")
    last = abi.first + abi.arguments - 1
    yield Field("", f"x{abi.first}-x{last}", "", "its arguments")


class Verdict(NamedTuple):
    """How one profile answers an identifier with all arguments zero."""

    profile: str
    answers: bool
    hvc: str
    smc: str
    why: str
    source: str


def verdicts(id: int) -> list[Verdict]:
    """Every profile's answer; `smc` is that to the same registers by SMC."""
    rows, made = [], make(id)
    for name in profile_names():
        el2 = El2(name)
        route = el2.route_of(el2.read(made.x, made.conduit, made.imm))
        rows.append(
            Verdict(
                name,
                route.service is not None,
                _ask(name, made),
                _ask(name, made._replace(conduit=Conduit.SMC)),
                route.why,
                route.source,
            )
        )
    return rows


def _ask(profile: str | Profile, call: Call) -> str:
    """The answer of a fresh machine, so that no question changes the next one's answer."""
    el2 = El2(profile)
    call = el2.read(call.x, call.conduit, call.imm)
    return answer_text(el2.answer(call), subject_of(call, el2))


class Summary(NamedTuple):
    """A profile in a line."""

    name: str
    title: str
    psci: str
    smccc: str
    services: str
    conduits: str


def summaries() -> list[Summary]:
    """Every profile that ships."""
    return [_summary(load_profile(name)) for name in profile_names()]


def _summary(profile: Profile) -> Summary:
    el2 = El2(profile)
    conduits = [c for c in Conduit if profile.interface(c, 0) == "smccc"]
    return Summary(
        profile.name,
        profile.title,
        _version(el2.hypercall(0x8400_0000)),
        _version(el2.hypercall(0x8000_0000)),
        " ".join(el2.services) or "–",
        " ".join(conduits) or "–",
    )


def _version(answer: Answer) -> str:
    if isinstance(answer, Ret) and answer.signed >= 0:
        return f"{answer.x0 >> 16}.{answer.x0 & 0xFFFF}"
    return "–"


class Difference(NamedTuple):
    """Something two profiles do not share."""

    what: str
    left: str
    right: str


def differences(left: Profile, right: Profile) -> list[Difference]:
    """Registers and answers in which two profiles differ, as a guest or a VMM would find them.

    The SMC32 and SMC64 forms of a function read the same and stand once where they agree.
    """
    found = (*_register_differences(left, right), *_answer_differences(left, right))
    return list(dict.fromkeys(found))


def _register_differences(left: Profile, right: Profile) -> Iterator[Difference]:
    a, b = left.policy, right.policy
    if a.filterable != b.filterable:
        yield Difference("SMCCC filter", _yes(a.filterable), _yes(b.filterable))
    for name in {**a.definitions, **b.definitions}:
        shown = [
            f"{p.values[name]:#x} of {p.definitions[name].limit:#x}" if name in p.values else "–"
            for p in (a, b)
        ]
        if shown[0] != shown[1]:
            yield Difference(name, *shown)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _answer_differences(left: Profile, right: Profile) -> Iterator[Difference]:
    for call in questions():
        one, other = _ask(left, call), _ask(right, call)
        if one != other:
            what = f"{call.conduit} {call_text(call, subject_of(call))}"
            if call.imm:
                what += f" #{call.imm}"
            yield Difference(what, one, other)


def questions() -> Iterator[Call]:
    """Every named function by either conduit, and every *_FEATURES query of every function."""
    for fid in known_ids():
        yield make_call(fid)
        if fid in ASKED_FEATURES:
            for about in known_ids():
                yield make_call(fid, about)
    for fid in (0x8400_0000, 0x8000_0000, 0xC600_0000):
        yield make_call(fid, conduit=Conduit.SMC)
        yield make_call(fid, conduit=Conduit.SMC, imm=1)

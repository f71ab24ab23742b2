"""Calls and answers in words, for the trace, `call` and `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from emu.base import exits
from emu.base.abi import Abi, apart
from emu.base.smccc import MASK32, UNDEF, Call, Ret, Retry, uuid_text
from emu.world.abis import abi_of, id_text, owner_of
from emu.world.catalogue import CATALOGUE
from emu.world.service import RESULT_NAMES, Function
from emu.world.services import service_class, service_names

if TYPE_CHECKING:
    from emu.world.monitor import El2

# Who identifies itself by which UID (abi/A §A6).
UID_OWNERS = {
    "28b46fb6-2ec5-11e9-a9ca-4b564d003a74": "KVM",
    "58ba324d-6447-24cd-756c-ef8e24705916": "Hyper-V",
    "a71812dc-c698-4369-9acf-79d18ddee667": "Xen",
    "c1d58fcd-a453-5fdb-9265-ce36673d5f14": "Gunyah",
}


ARGUMENTS = 7
"""x1 to x7 of a call by SMCCC (DEN0028 1.1)."""


class Subject(NamedTuple):
    """What is known about a function, whether this profile answers it or not."""

    name: str
    source: str
    function: Function | None
    codes: Mapping[int, str]


def subject(id: int, el2: El2 | None = None) -> Subject:
    """Name and declaration of a function: the profile's service, any service, or the books."""
    if el2 is not None and (found := el2.find(id)):
        service, function = found
        return Subject(function.name, service.source, function, service.codes)
    if (known := _declared().get(id)) is not None:
        return known
    if id in CATALOGUE:
        name, source = CATALOGUE[id]
        return Subject(name, source, None, {-1: "NOT_SUPPORTED"})
    if (abi := abi_of(id)) is not None:
        name = abi.numbers.get(apart(id)[1]) or id_text(id)
        return Subject(name, abi.source, None, abi.codes)
    return Subject(id_text(id), "", None, {-1: "NOT_SUPPORTED"})


def meant(call: Call) -> Call:
    """A call as its guest meant it: by the ABI to which its instruction belongs.

    Below KVM, which ignores immediates, HVC #0xEA1 is a call by SMCCC: where x0 names nothing that
    is known by it, the guest took this for Xen.
    """
    if not call.imm or type(call) is not Call:
        return call
    owner = owner_of(call.conduit, call.imm)
    if owner is None or len(call.x) < owner.registers:
        return call
    if call.fid.fast and subject(call.fid).name != str(call.fid):
        return call
    return owner(*call)


def subject_of(call: Call, el2: El2 | None = None) -> Subject:
    """What is known about a call as it was meant."""
    return subject(meant(call).id, el2)


_declarations: dict[int, Subject] = {}


def _declared() -> Mapping[int, Subject]:
    """Every function of every service there is."""
    if not _declarations:
        for name in service_names():
            cls = service_class(name)
            for function in cls.functions():
                for id in function.ids:
                    # What vendors have in common is told by the first of them.
                    what = Subject(function.name, cls.source, function, cls.codes)
                    _declarations.setdefault(id, what)
    return _declarations


def known_ids() -> list[int]:
    """Every identifier by SMCCC that has a name, in order."""
    return sorted(id for id in {*_declared(), *CATALOGUE} if id <= MASK32)


def arguments(call: Call, function: Function | None) -> dict[str, int]:
    """The call's arguments by name; of an unknown function, those that are not zero."""
    call = meant(call)
    if function is not None:
        return {name: call.arg(n) for n, name in enumerate(function.args, 1)}
    first = call.first if isinstance(call, Abi) else 1
    behind = first + (call.arguments if isinstance(call, Abi) else ARGUMENTS)
    last = max((n for n in range(first, behind) if call.x[n]), default=-1)
    return {f"x{n}": call.x[n] for n in range(first, last + 1)}


def call_text(call: Call, what: Subject) -> str:
    """The call as one would write it, an identifier among the arguments by its name."""
    parts = []
    for name, value in arguments(call, what.function).items():
        parts.append(subject(value).name if name == "function_id" else f"{name}={value:#x}")
    return f"{what.name}({', '.join(parts)})"


def by_text(call: Call) -> str:
    """The conduit, with the immediate where there is one."""
    return str(call.conduit) if call.imm == 0 else f"{call.conduit}#{call.imm:x}"


def answer_text(answer: object, what: Subject) -> str:
    """The answer in words."""
    if answer is UNDEF:
        return "UNDEF"
    if isinstance(answer, exits.SystemEvent):
        return f"{answer.kind.name} (leaves the guest)"
    if isinstance(answer, exits.Hypercall):
        return "forwarded to user space"
    assert isinstance(answer, Ret)
    return _ret_text(answer, what)


def _ret_text(ret: Ret, what: Subject) -> str:
    if isinstance(ret, Retry):
        return "to be made again"
    if not ret:
        return "registers untouched"
    kind = what.function.result if what.function else ""
    if kind == "uuid" and ret[0] != NOT_SUPPORTED_64:
        text = uuid_text(ret[:4])
        return f"{text} ({UID_OWNERS[text]})" if text in UID_OWNERS else text
    if ret.signed < 0:
        name = what.codes.get(ret.signed)
        return f"{name} ({ret.signed})" if name else f"{ret.signed}"
    if kind == "version":
        return f"{ret.x0:#x} (version {ret.x0 >> 16}.{ret.x0 & 0xFFFF})"
    if kind == "address":
        return f"{ret.x0:#x}"
    return _value_text(ret, RESULT_NAMES.get(kind, {}))


NOT_SUPPORTED_64 = 0xFFFF_FFFF_FFFF_FFFF


def _value_text(ret: Ret, names: Mapping[int, str]) -> str:
    head = f"{names[ret.x0]} ({ret.x0})" if ret.x0 in names else f"{ret.x0:#x}"
    rest = (f"x{n}={value:#x}" for n, value in enumerate(ret[1:], 1) if value)
    return " ".join((head, *rest))


def registers_text(ret: Ret) -> list[str]:
    """The registers a reply writes, one line each, full width."""
    return [f"x{n}  {value:#018x}" for n, value in enumerate(ret)]

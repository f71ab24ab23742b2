"""Calls and answers in words, for the trace, `call` and `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from emu.base import exits
from emu.base.smccc import UNDEF, Call, Conduit, FunctionId, Ret, uuid_text
from emu.world.catalogue import CATALOGUE
from emu.world.el2 import El2
from emu.world.service import RESULT_NAMES, Function
from emu.world.services import service_class, service_names

# Who identifies itself by which UID (abi/A §A6).
UID_OWNERS = {
    "28b46fb6-2ec5-11e9-a9ca-4b564d003a74": "KVM",
    "58ba324d-6447-24cd-756c-ef8e24705916": "Hyper-V",
    "a71812dc-c698-4369-9acf-79d18ddee667": "Xen",
    "c1d58fcd-a453-5fdb-9265-ce36673d5f14": "Gunyah",
}


XEN_HYPERCALL = 0xEA1
"""xen 4.22 include/public/arch-arm.h:XEN_HYPERCALL_TAG: number in x16, arguments from x0 on."""

XEN_ARGUMENTS = 5
"""xen 4.22 arch/arm/traps.c:HYPERCALL_ARG5 is x4."""


class Subject(NamedTuple):
    """What is known about an identifier, whether this profile answers it or not."""

    name: str
    source: str
    function: Function | None
    codes: Mapping[int, str]


def subject(fid: int, el2: El2 | None = None) -> Subject:
    """Name and declaration of an identifier: the profile's service, any service, or the books."""
    if el2 is not None and (found := el2.find(fid)):
        service, function = found
        return Subject(function.name, service.source, function, service.codes)
    if (known := _declared().get(fid)) is not None:
        return known
    if fid in CATALOGUE:
        name, source = CATALOGUE[fid]
        return Subject(name, source, None, {-1: "NOT_SUPPORTED"})
    return Subject(str(FunctionId(fid)), "", None, {-1: "NOT_SUPPORTED"})


def is_xen_hypercall(call: Call) -> bool:
    """Whether a call is Xen's own HVC, and x0 holds no identifier of the calling convention."""
    if call.imm != XEN_HYPERCALL or call.conduit is not Conduit.HVC:
        return False
    return not call.fid.fast or subject(call.fid).name == str(call.fid)


def subject_of(call: Call, el2: El2 | None = None) -> Subject:
    """The same of a call, whose x0 may be no identifier."""
    return _XEN if is_xen_hypercall(call) else subject(call.fid, el2)


_XEN = Subject("XEN_HYPERCALL", "xen 4.22 include/public/arch-arm.h", None, {-38: "ENOSYS"})
_declarations: dict[int, Subject] = {}


def _declared() -> Mapping[int, Subject]:
    """Every function of every service there is."""
    if not _declarations:
        for name in service_names():
            cls = service_class(name)
            for function in cls.functions():
                for fid in function.ids:
                    # What vendors have in common is told by the first of them.
                    what = Subject(function.name, cls.source, function, cls.codes)
                    _declarations.setdefault(fid, what)
    return _declarations


def known_ids() -> list[int]:
    """Every identifier that has a name, in order."""
    return sorted({*_declared(), *CATALOGUE})


def arguments(call: Call, function: Function | None) -> dict[str, int]:
    """The call's arguments by name; of an unknown function, those that are not zero."""
    if function is not None:
        return {name: call.arg(n) for n, name in enumerate(function.args, 1)}
    if is_xen_hypercall(call):
        return {f"x{n}": call.x[n] for n in range(XEN_ARGUMENTS)}
    last = max((n for n in range(1, 8) if call.x[n]), default=0)
    return {f"x{n}": call.x[n] for n in range(1, last + 1)}


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

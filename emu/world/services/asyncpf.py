"""Asynchronous page faults as they were proposed in 2015 (seed 004), to try the idea out.

The guest names a page by its frame number, once; when the host has to fetch a page it says so by
an abort, and again when the page is there, with the reason in the first word of that page. The
identifier lies where DEN0028 reserves all, so that it clashes with no SMCCC call, and the call
answers only where the static description tells of it first: the objection of that thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from emu.base.smccc import NOT_SUPPORTED, SUCCESS, Call, FunctionId, Ret
from emu.world.service import Answer, Function, Service, fn

PAGE_NOTIFY = 0x2000_0001
"""In 0x2000_0000–0x7FFF_FFFF, reserved by DEN0028 (abi/A §A2); our choice within it."""
PAGE_SHIFT, REASON_SIZE = 12, 4
"""Frames are of 4 KiB, and the reason is their first word (abi/D §D1, seed 004)."""
NOT_PRESENT, READY = 1, 2
"""The reasons, numbered as x86's KVM_PV_REASON_PAGE_* (linux v5.17 kvm_para.h)."""


@dataclass(slots=True)
class State:
    """The frame each vCPU has named."""

    pages: dict[int, int] = field(default_factory=dict)


class AsyncPf(Service):
    """Where the reason of a page event goes, for each vCPU that asked."""

    name = "asyncpf"
    source = "kvmarm list, 9 Apr 2015, Advice on HYP interface for AsyncPF (abi/D §D1, seed 004)"
    codes: ClassVar[Mapping[int, str]] = {NOT_SUPPORTED: "NOT_SUPPORTED"}
    State = State

    def page_event(self, vcpu: int, reason: int) -> int:
        """Write the reason into the page that a vCPU has named; returns the page's address.

        KeyError where it has named none, `NoMemory` where the page is not there.
        """
        page = self.host.memory(self.pages[vcpu] << PAGE_SHIFT, REASON_SIZE)
        page.write(reason.to_bytes(REASON_SIZE, "little"))
        return page.address

    @property
    def pages(self) -> dict[int, int]:
        """Frame numbers by vCPU."""
        pages: dict[int, int] = self.state.pages
        return pages

    def implements(self, function: Function, fid: FunctionId) -> bool:
        return self.firmware.mode("discovery.static") == "present"

    @fn(PAGE_NOTIFY, args=("frame",), result="status")
    def page_notify(self, call: Call) -> Answer:
        """Take the frame in which this vCPU wants to find the reason of a page event."""
        self.pages[call.vcpu] = call.x[1]
        return Ret.value(SUCCESS)

"""Xen's hypercalls, as far as they need no memory: which version it is.

Source: xen 4.20 common/kernel.c:do_xen_version and include/public/version.h; recorded from Debian's
Xen 4.20: XENVER_version is 0x00040014 whatever the pointer says, and bits 63:32 of the command do
not count (do_xen_version takes an int). Commands that write to memory are not modelled and get
−ENOSYS, as a command that Xen does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emu.base.smccc import MASK32, Call, Ret
from emu.world.abis.xen import ENOSYS, Xen
from emu.world.service import Answer, Service, fn

XENVER_VERSION = 0
"""xen 4.20 include/public/version.h."""


@dataclass(frozen=True)
class Options:
    """`version` is Xen's own: major in bits 31:16, minor in bits 15:0."""

    version: int = 0x4_0014


class XenHypercalls(Service):
    """The hypercalls of HVC #0xEA1."""

    name = "xen_hypercalls"
    source = "xen 4.20 common/kernel.c"
    codes: ClassVar[Mapping[int, str]] = Xen.codes
    abi = Xen
    Options = Options

    @fn(17, args=("cmd", "arg"), name="xen_version", result="hex")
    def xen_version(self, call: Call) -> Answer:
        """What Xen says of itself: command 0 is its version."""
        if call.arg(1) & MASK32 != XENVER_VERSION:
            return Ret.only(-ENOSYS)
        return Ret.only(self.options.version)

"""What Xen says of itself: the general queries of DEN0028 for owners 4 and 6.

Source: xen 4.22 arch/arm/vsmc.c and include/public/arch-arm/smccc.h. These are all the vendor's
functions Xen has behind HVC #0 and SMC #0; its real services are the hypercalls of HVC #0xEA1, with
the number in x16, which are not modelled: the profile has them answer −ENOSYS. A UID takes four
registers, a revision two, every other answer x0 alone (set_user_reg).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emu.base.smccc import NOT_SUPPORTED, Call, Ret, uuid_words
from emu.world.service import Answer, Service, fn

UID = "a71812dc-c698-4369-9acf-79d18ddee667"
"""include/public/arch-arm/smccc.h:XEN_SMCCC_UID."""
STANDARD_UID = "f863386f-4b39-4cbd-9220-ce1641e59f6f"
"""include/public/arch-arm/smccc.h:SSSC_SMCCC_UID."""
REVISION = STANDARD_REVISION = (0, 1)
"""XEN_SMCCC_*_REVISION and SSSC_SMCCC_*_REVISION: of the services, not of Xen."""
FUNCTION_COUNT = 3
"""vsmc.c:XEN_SMCCC_FUNCTION_COUNT: the three queries."""
QUERIES = 3
"""The first term of vsmc.c:SSSC_SMCCC_FUNCTION_COUNT."""


@dataclass(frozen=True)
class Options:
    """How many functions the standard services count besides the queries.

    `psci` is VPSCI_NR_FUNCS (asm/vpsci.h), `ffa` FFA_NR_FUNCS (asm/tee/ffa.h; 0 if not built).
    """

    psci: int = 14
    ffa: int = 0


class Xen(Service):
    """Call count, UID and revision of Xen and of its standard services."""

    name = "xen"
    source = "DEN0028; xen 4.22 arch/arm/vsmc.c"
    codes: ClassVar[Mapping[int, str]] = {NOT_SUPPORTED: "NOT_SUPPORTED"}
    Options = Options

    @fn(0x8600_FF00, feature="vendor", name="VENDOR_HYP_CALL_COUNT")
    def call_count(self, call: Call) -> Answer:
        """How many vendor-specific functions there are: these three."""
        return Ret.value(FUNCTION_COUNT)

    @fn(0x8600_FF01, feature="vendor", registers=4, result="uuid", name="VENDOR_HYP_CALL_UID")
    def call_uid(self, call: Call) -> Answer:
        """Xen's UID: a71812dc-c698-4369-9acf-79d18ddee667."""
        return Ret.words(*uuid_words(UID))

    @fn(0x8600_FF03, feature="vendor", registers=2, name="VENDOR_HYP_REVISION")
    def revision(self, call: Call) -> Answer:
        """The revision of Xen's vendor-specific services, major in x0 and minor in x1."""
        return Ret.only(*REVISION)

    @fn(0x8400_FF00, name="STANDARD_SERVICE_CALL_COUNT")
    def standard_call_count(self, call: Call) -> Answer:
        """How many standard functions there are."""
        return Ret.value(QUERIES + self.options.psci + self.options.ffa)

    @fn(0x8400_FF01, registers=4, result="uuid", name="STANDARD_SERVICE_CALL_UID")
    def standard_call_uid(self, call: Call) -> Answer:
        """The UID of Xen's standard services: f863386f-4b39-4cbd-9220-ce1641e59f6f."""
        return Ret.words(*uuid_words(STANDARD_UID))

    @fn(0x8400_FF03, registers=2, name="STANDARD_SERVICE_REVISION")
    def standard_revision(self, call: Call) -> Answer:
        """The revision of the standard services, major in x0 and minor in x1."""
        return Ret.only(*STANDARD_REVISION)

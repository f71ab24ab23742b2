"""KVM's own services, owner 6: who it is, what it offers, and the clock pair for PTP.

Source: linux v6.17 arch/arm64/kvm/hypercalls.c and include/linux/arm-smccc.h. The feature
words are the firmware registers themselves; functions 2 to 63 belong to protected KVM, 64 and
65 (implementation discovery) are advertised here but answered only by a VMM's filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from emu.base.smccc import MASK32, NOT_SUPPORTED, Call, Ret, uuid_words
from emu.world.policy import Gate
from emu.world.service import Answer, Service, fn

UID = "28b46fb6-2ec5-11e9-a9ca-4b564d003a74"
"""linux v6.17 include/linux/arm-smccc.h:ARM_SMCCC_VENDOR_HYP_UID_KVM."""
VENDOR_REGISTER = "KVM_REG_ARM_VENDOR_HYP_BMAP"
VENDOR_REGISTER_2 = "KVM_REG_ARM_VENDOR_HYP_BMAP_2"
FEATURES_BIT = Gate(VENDOR_REGISTER, 0)
PTP_BIT = Gate(VENDOR_REGISTER, 1)
PTP = 0x8600_0001
PTP_VIRTUAL_COUNTER = 0
PTP_PHYSICAL_COUNTER = 1


class KvmVendor(Service):
    """UID, features and PTP."""

    name = "kvm_vendor"
    source = "linux v6.17 arch/arm64/kvm/hypercalls.c"
    codes: ClassVar[Mapping[int, str]] = {NOT_SUPPORTED: "NOT_SUPPORTED"}

    @fn(0x8600_FF01, registers=4, gate=FEATURES_BIT, feature="vendor", result="uuid")
    def vendor_hyp_call_uid(self, call: Call) -> Answer:
        """KVM's UID: 28b46fb6-2ec5-11e9-a9ca-4b564d003a74."""
        return Ret.words(*uuid_words(UID))

    @fn(0x8600_0000, registers=4, gate=FEATURES_BIT, feature="vendor", result="hex")
    def vendor_hyp_kvm_features(self, call: Call) -> Answer:
        """The 128-bit map of KVM's functions, 32 to a register."""
        low = self.firmware.register(VENDOR_REGISTER)
        if low is None:
            # Before the registers: FEATURES and PTP, whatever is built in (linux v5.17
            # arch/arm64/kvm/hypercalls.c:kvm_hvc_call_handler).
            low = 1 << FEATURES_BIT.bit | self.firmware.implements(PTP) << PTP_BIT.bit
        return Ret.words(low, 0, self.firmware.register(VENDOR_REGISTER_2) or 0, 0)

    @fn(PTP, args=("counter",), registers=4, gate=PTP_BIT, feature="ptp", result="hex")
    def vendor_hyp_kvm_ptp(self, call: Call) -> Answer:
        """The host's wall clock and the counter at that moment: both halves of each."""
        if call.arg32(1) not in (PTP_VIRTUAL_COUNTER, PTP_PHYSICAL_COUNTER):
            return Ret.not_supported()
        wall, counter = self.host.clock.wall_ns, self.host.clock.counter
        return Ret.words(wall >> 32, wall & MASK32, counter >> 32, counter & MASK32)

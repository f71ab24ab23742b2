"""Paravirtualised time (DEN0057): how much of its time a vCPU did not get.

Source: linux v6.17 arch/arm64/kvm/pvtime.c and hypercalls.c. The record lies outside guest
RAM, 64 bytes for each vCPU; the machine keeps it up to date (`Vm`), this service only tells
the guest where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from emu.base.smccc import NOT_SUPPORTED, SUCCESS, Call, Ret
from emu.world.policy import Gate
from emu.world.service import Answer, Service, fn

PV_TIME_BIT = Gate("KVM_REG_ARM_STD_HYP_BMAP", 0)
PV_TIME_FEATURES = 0xC500_0020
PV_TIME_ST = 0xC500_0021


class PvTime(Service):
    """Where the stolen-time record of the calling vCPU is."""

    name = "pvtime"
    source = "DEN0057; linux v6.17 arch/arm64/kvm/pvtime.c"
    codes: ClassVar[Mapping[int, str]] = {NOT_SUPPORTED: "NOT_SUPPORTED"}

    @fn(PV_TIME_FEATURES, args=("function_id",), gate=PV_TIME_BIT, result="status")
    def pv_time_features(self, call: Call) -> Answer:
        """Whether a function of PV time is there and the vCPU has a record."""
        known = call.arg32(1) in (PV_TIME_FEATURES, PV_TIME_ST)
        has = known and self.host.has_stolen_time(call.vcpu)
        return Ret.value(SUCCESS if has else NOT_SUPPORTED)

    @fn(PV_TIME_ST, gate=PV_TIME_BIT, result="address")
    def pv_time_st(self, call: Call) -> Answer:
        """The address of the calling vCPU's record, which starts again from zero."""
        address = self.host.start_stolen_time(call.vcpu)
        return Ret.value(NOT_SUPPORTED if address is None else address)

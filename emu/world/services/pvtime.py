"""Paravirtualised time (DEN0057): how much of its time a vCPU did not get.

Source: linux v6.17 arch/arm64/kvm/pvtime.c and hypercalls.c. The record lies outside guest
RAM, 64 bytes for each vCPU: where a guest is booted, in a region of this service's, else where the
VMM has put it (KVM_ARM_VCPU_PVTIME_IPA). It is brought up to date whenever its vCPU begins to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from emu.base.bus import Place
from emu.base.smccc import MASK64, NOT_SUPPORTED, SUCCESS, Call, Ret
from emu.world.policy import Gate
from emu.world.service import Answer, Memory, NoMemory, Service, fn

PV_TIME_BIT = Gate("KVM_REG_ARM_STD_HYP_BMAP", 0)
PV_TIME_FEATURES = 0xC500_0020
PV_TIME_ST = 0xC500_0021
RECORDS = Place("stolen-time records", 0x090A_0000, 0x1_0000)
"""The addresses of QEMU's virt machine (qemu v7.2 hw/arm/virt.c: base_memmap, VIRT_PVTIME)."""
RECORD = 64
"""Bytes of a record, which is aligned to them (DEN0057; linux Documentation/virt/kvm/arm/
pvtime.rst). Revision u32 0, attributes u32 0, stolen time u64 in nanoseconds, then zero."""


@dataclass(slots=True)
class State:
    """By vCPU: where the VMM has put its record, and the stolen cycles its record counts from."""

    places: dict[int, int] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)


class PvTime(Service):
    """Where the stolen-time record of the calling vCPU is."""

    name = "pvtime"
    source = "DEN0057; linux v6.17 arch/arm64/kvm/pvtime.c"
    codes: ClassVar[Mapping[int, str]] = {NOT_SUPPORTED: "NOT_SUPPORTED"}
    State = State
    regions = (RECORDS,)

    def place(self, vcpu: int, address: int) -> None:
        """Let a vCPU's record lie there from now on."""
        self.state.places[vcpu] = address

    def _record(self, vcpu: int) -> Memory | None:
        """A vCPU's record; None where it has none."""
        address = self.state.places.get(vcpu, RECORDS.base + vcpu * RECORD)
        try:
            return self.host.memory(address, RECORD)
        except NoMemory:
            return None

    @fn(PV_TIME_FEATURES, args=("function_id",), gate=PV_TIME_BIT, result="status")
    def pv_time_features(self, call: Call) -> Answer:
        """Whether a function of PV time is there and the vCPU has a record."""
        known = call.arg32(1) in (PV_TIME_FEATURES, PV_TIME_ST)
        has = known and self._record(call.vcpu) is not None
        return Ret.value(SUCCESS if has else NOT_SUPPORTED)

    @fn(PV_TIME_ST, gate=PV_TIME_BIT, result="address")
    def pv_time_st(self, call: Call) -> Answer:
        """The address of the calling vCPU's record, which starts again from zero."""
        record = self._record(call.vcpu)
        if record is None:
            return Ret.value(NOT_SUPPORTED)
        self.state.starts[call.vcpu] = self.host.stolen(call.vcpu)
        self.entered(call.vcpu)
        return Ret.value(record.address)

    def entered(self, vcpu: int) -> None:
        """Bring its record up to date, once the guest has asked for it."""
        start = self.state.starts.get(vcpu)
        record = None if start is None else self._record(vcpu)
        if record is not None:
            since = max(self.host.stolen(vcpu) - (start or 0), 0)
            stolen = self.host.clock.nanoseconds_in(since) & MASK64  # a saved start may be anything
            record.write(bytes(8) + stolen.to_bytes(8, "little") + bytes(RECORD - 16))

    def reset(self) -> None:
        """Records stay where they are."""
        self.state.starts.clear()

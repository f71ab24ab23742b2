"""Arm architecture calls, owner 0 (DEN0028): version, features and CPU workarounds.

The answers are KVM's (linux v6.17 arch/arm64/kvm/hypercalls.c:kvm_smccc_call_handler). The
workaround calls themselves never reach that function: the hypervisor's vector answers them
when they come by HVC (arch/arm64/kvm/hyp/hyp-entry.S:wa_epilogue), leaving zero in x0 and,
because the comparison chain runs through it, in x1. By SMC nobody answers them. The options
hold what others do differently (Xen's: xen 4.22 arch/arm/arm64/entry.S and vsmc.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emu.base.errors import ProfileError
from emu.base.smccc import (
    INVALID_PARAMETER,
    NOT_REQUIRED,
    NOT_SUPPORTED,
    Call,
    Conduit,
    FunctionId,
    Ret,
)
from emu.world.service import Answer, Function, Service, fn

WORKAROUND_1 = 0x8000_8000
WORKAROUND_2 = 0x8000_7FFF
WORKAROUND_3 = 0x8000_3FFF
PV_TIME_FEATURES = 0xC500_0020

_LEVEL_REGISTERS = {
    WORKAROUND_1: "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1",
    WORKAROUND_2: "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
    WORKAROUND_3: "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3",
}
# Level in the firmware register → answer of ARCH_FEATURES (hypercalls.c:get_kernel_wa_level
# and kvm_smccc_call_handler): NOT_AVAIL, AVAIL, NOT_REQUIRED.
_LEVEL_ANSWERS = {0: NOT_SUPPORTED, 1: 0, 2: 1}
_LEVEL_ANSWERS_2 = {0: NOT_SUPPORTED, 1: NOT_SUPPORTED, 2: NOT_SUPPORTED, 3: NOT_REQUIRED}


@dataclass(frozen=True)
class Options:
    """`version` is SMCCC_VERSION; the rest say what ARCH_FEATURES knows.

    `workarounds` lists the workaround numbers ARCH_FEATURES answers; `fast_path` those the
    hypervisor's vector answers, and `cleared` how many registers from x0 on it leaves zero, by
    number; `by_smc`: by SMC they do come back, with all registers as they were; `levels` gives
    their levels on a kernel without registers for them; `pv_time` whether it knows
    PV_TIME_FEATURES.
    """

    version: int = 0x1_0001
    workarounds: tuple[int, ...] = ()
    fast_path: tuple[int, ...] = ()
    cleared: tuple[int, ...] = (2, 2, 2)
    by_smc: bool = False
    levels: tuple[int, ...] = (0, 0, 0)
    pv_time: bool = False

    def __post_init__(self) -> None:
        numbers = (*self.workarounds, *self.fast_path)
        if any(number not in (1, 2, 3) for number in numbers):
            raise ProfileError("service arch knows the workarounds 1, 2 and 3")
        if len(self.levels) != 3 or any(level not in _LEVEL_ANSWERS_2 for level in self.levels):
            raise ProfileError("option levels of service arch holds three levels of 0 to 3")
        if len(self.cleared) != 3 or any(not 1 <= count <= 4 for count in self.cleared):
            raise ProfileError("option cleared of service arch holds three counts of 1 to 4")


class Arch(Service):
    """SMCCC_VERSION, SMCCC_ARCH_FEATURES and the SMCCC_ARCH_WORKAROUND calls."""

    name = "arch"
    source = "DEN0028; linux v6.17 arch/arm64/kvm/hypercalls.c"
    codes: ClassVar[Mapping[int, str]] = {
        NOT_SUPPORTED: "NOT_SUPPORTED",
        NOT_REQUIRED: "NOT_REQUIRED",
        INVALID_PARAMETER: "INVALID_PARAMETER",
    }
    Options = Options

    @fn(0x8000_0000, result="version")
    def smccc_version(self, call: Call) -> Answer:
        """The version of the calling convention, major in bits 30:16."""
        return Ret.value(self.options.version)

    @fn(0x8000_0001, args=("function_id",), result="workaround")
    def smccc_arch_features(self, call: Call) -> Answer:
        """Whether an architecture call is there; the value's meaning is the function's own."""
        fid = call.arg32(1)
        if fid == PV_TIME_FEATURES and self.options.pv_time:
            return Ret.value(0 if self.firmware.implements(fid) else NOT_SUPPORTED)
        number = _WORKAROUND_NUMBERS.get(fid)
        if number not in self.options.workarounds:
            return Ret.not_supported()
        answers = _LEVEL_ANSWERS_2 if fid == WORKAROUND_2 else _LEVEL_ANSWERS
        return Ret.value(answers.get(self._level(fid), NOT_SUPPORTED))

    def _level(self, fid: int) -> int:
        stored = self.firmware.register(_LEVEL_REGISTERS[fid])
        if stored is None:
            return int(self.options.levels[_WORKAROUND_NUMBERS[fid] - 1])
        return stored & 0xF

    @fn(WORKAROUND_1, registers=4, name="SMCCC_ARCH_WORKAROUND_1")
    def workaround_1(self, call: Call) -> Answer:
        """Invalidate the branch predictor (CVE-2017-5715)."""
        return self._workaround(call, 1)

    @fn(WORKAROUND_2, args=("enable",), registers=4, name="SMCCC_ARCH_WORKAROUND_2")
    def workaround_2(self, call: Call) -> Answer:
        """Switch speculative store bypass on or off (CVE-2018-3639)."""
        return self._workaround(call, 2)

    @fn(WORKAROUND_3, registers=4, name="SMCCC_ARCH_WORKAROUND_3")
    def workaround_3(self, call: Call) -> Answer:
        """Discard branch history (CVE-2022-23960)."""
        return self._workaround(call, 3)

    def _workaround(self, call: Call, number: int) -> Answer:
        if call.conduit is Conduit.SMC:
            return Ret.untouched() if self.options.by_smc else Ret.not_supported()
        return Ret.only(*(0,) * self.options.cleared[number - 1])

    def implements(self, function: Function, fid: FunctionId) -> bool:
        number = _WORKAROUND_NUMBERS.get(int(fid))
        return number is None or number in self.options.fast_path


_WORKAROUND_NUMBERS = {WORKAROUND_1: 1, WORKAROUND_2: 2, WORKAROUND_3: 3}

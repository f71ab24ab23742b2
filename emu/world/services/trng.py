"""The True Random Number Generator firmware interface (DEN0098) as KVM serves it.

Source: linux v6.17 arch/arm64/kvm/trng.c. KVM never runs out of entropy, gives N = 0 bits
with SUCCESS, and takes N from the low 32 bits of x1 but the function id of TRNG_FEATURES from
all 64. The bits come from the machine's seeded generator: the same seed, the same entropy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from emu.base.smccc import NOT_SUPPORTED, SUCCESS, Call, Ret, uuid_words
from emu.world.policy import Gate
from emu.world.service import Answer, Service, fn

TRNG_BIT = Gate("KVM_REG_ARM_STD_BMAP", 0)
VERSION_1_0 = 0x1_0000
INVALID_PARAMETERS = -2
UUID = "0d21e000-4384-11eb-8070-5244554e5a4c"
"""linux v6.17 arch/arm64/kvm/trng.c:arm_smc_trng_uuid."""
REGISTERS = 3
FUNCTION_IDS = (0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xC400_0053)


class Trng(Service):
    """Entropy for the guest, lowest word in x3."""

    name = "trng"
    source = "DEN0098; linux v6.17 arch/arm64/kvm/trng.c"
    codes: ClassVar[Mapping[int, str]] = {
        NOT_SUPPORTED: "NOT_SUPPORTED",
        INVALID_PARAMETERS: "INVALID_PARAMETERS",
        -3: "NO_ENTROPY",
    }

    @fn(0x8400_0050, gate=TRNG_BIT, result="version")
    def trng_version(self, call: Call) -> Answer:
        """The version of the interface, 1.0."""
        return Ret.value(VERSION_1_0)

    @fn(0x8400_0051, args=("function_id",), gate=TRNG_BIT, result="status")
    def trng_features(self, call: Call) -> Answer:
        """Whether a function of this interface is there."""
        return Ret.value(SUCCESS if call.x[1] in FUNCTION_IDS else NOT_SUPPORTED)

    @fn(0x8400_0052, registers=4, gate=TRNG_BIT, result="uuid")
    def trng_get_uuid(self, call: Call) -> Answer:
        """The UUID of the generator behind the interface."""
        return Ret.words(*uuid_words(UUID))

    @fn(
        0x8400_0053, args=("bits",), registers=4, gate=TRNG_BIT, result="status",
        name="TRNG_RND32",
    )  # fmt: skip
    def trng_rnd32(self, call: Call) -> Answer:
        """Up to 96 bits, 32 to a register."""
        return self._random(call, 32)

    @fn(
        0xC400_0053, args=("bits",), registers=4, gate=TRNG_BIT, result="status",
        name="TRNG_RND64",
    )  # fmt: skip
    def trng_rnd64(self, call: Call) -> Answer:
        """Up to 192 bits, 64 to a register."""
        return self._random(call, 64)

    def _random(self, call: Call, width: int) -> Answer:
        bits = call.arg32(1)
        if bits > REGISTERS * width:
            return Ret.value(INVALID_PARAMETERS)
        entropy = self.host.random(bits)
        word = (1 << width) - 1
        return Ret.success(
            entropy >> 2 * width & word, entropy >> width & word, entropy & word
        )

"""Functions that specifications define and no service here answers: their names, for `explain`.

A guest may call any of them; the answer is the policy's for the unknown. Each row gives the
identifiers, the name and the specification. A function that a service takes over leaves this
table, so that a name stands in one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from emu.base.smccc import FunctionId


class Known(NamedTuple):
    """A function by name."""

    name: str
    source: str


_PSCI = "DEN0022"
_SMCCC = "DEN0028"
_SDEI = "DEN0054"
_FFA = "DEN0077"
_RSI = "DEN0137"
_PKVM = "linux v6.17 include/linux/arm-smccc.h"

# Owner 4 (0x84… and 0xC4…): number → name. "both" marks functions with an SMC64 twin.
_PSCI_REST = {
    0x05: ("MIGRATE", "both"),
    0x07: ("MIGRATE_INFO_UP_CPU", "both"),
    0x0B: ("CPU_FREEZE", "32"),
    0x0C: ("CPU_DEFAULT_SUSPEND", "both"),
    0x0D: ("NODE_HW_STATE", "both"),
    0x0F: ("PSCI_SET_SUSPEND_MODE", "32"),
    0x10: ("PSCI_STAT_RESIDENCY", "both"),
    0x11: ("PSCI_STAT_COUNT", "both"),
    0x13: ("MEM_PROTECT", "32"),
    0x14: ("MEM_PROTECT_CHECK_RANGE", "both"),
}
# linux v6.17 include/uapi/linux/arm_sdei.h, identifiers 0xC4000020 onward.
_SDEI_NAMES = (
    "VERSION", "EVENT_REGISTER", "EVENT_ENABLE", "EVENT_DISABLE", "EVENT_CONTEXT",
    "EVENT_COMPLETE", "EVENT_COMPLETE_AND_RESUME", "EVENT_UNREGISTER", "EVENT_STATUS",
    "EVENT_GET_INFO", "EVENT_ROUTING_SET", "PE_MASK", "PE_UNMASK", "INTERRUPT_BIND",
    "INTERRUPT_RELEASE", "EVENT_SIGNAL", "FEATURES", "PRIVATE_RESET", "SHARED_RESET",
)  # fmt: skip
# Hafnium inc/vmapi/hf/ffa.h, function number → name (abi/E §E5).
_FFA_NAMES = {
    0x60: "ERROR", 0x61: "SUCCESS", 0x62: "INTERRUPT", 0x63: "VERSION", 0x64: "FEATURES",
    0x65: "RX_RELEASE", 0x66: "RXTX_MAP", 0x67: "RXTX_UNMAP", 0x68: "PARTITION_INFO_GET",
    0x69: "ID_GET", 0x6B: "MSG_WAIT", 0x6C: "YIELD", 0x6D: "RUN", 0x6F: "MSG_SEND_DIRECT_REQ",
    0x70: "MSG_SEND_DIRECT_RESP", 0x71: "MEM_DONATE", 0x72: "MEM_LEND", 0x73: "MEM_SHARE",
    0x74: "MEM_RETRIEVE_REQ", 0x75: "MEM_RETRIEVE_RESP", 0x76: "MEM_RELINQUISH",
    0x77: "MEM_RECLAIM", 0x84: "RX_ACQUIRE", 0x85: "SPM_ID_GET", 0x86: "MSG_SEND2",
    0x88: "MEM_PERM_GET", 0x89: "MEM_PERM_SET", 0x8A: "CONSOLE_LOG",
}  # fmt: skip
_FFA_64_ONLY = {
    0x87: "SECONDARY_EP_REGISTER",
    0x8B: "PARTITION_INFO_GET_REGS",
    0x8D: "MSG_SEND_DIRECT_REQ2",
    0x8E: "MSG_SEND_DIRECT_RESP2",
}
_FFA_TWINS = (0x61, 0x66, 0x6F, 0x70)
# TF-RMM lib/smc/include/smc-rsi.h, identifiers 0xC4000190 onward (abi/E §E6).
_RSI_NAMES = {
    0x0: "VERSION", 0x1: "FEATURES", 0x2: "MEASUREMENT_READ", 0x3: "MEASUREMENT_EXTEND",
    0x4: "ATTESTATION_TOKEN_INIT", 0x5: "ATTESTATION_TOKEN_CONTINUE", 0x6: "REALM_CONFIG",
    0x7: "IPA_STATE_SET", 0x8: "IPA_STATE_GET", 0x9: "HOST_CALL",
}  # fmt: skip
_SINGLE = {
    0x8000_0002: ("SMCCC_ARCH_SOC_ID", _SMCCC),
    0xC000_0002: ("SMCCC_ARCH_SOC_ID", _SMCCC),
    0x8000_0003: ("SMCCC_ARCH_FEATURE_AVAILABILITY", _SMCCC),
    0xC000_0003: ("SMCCC_ARCH_FEATURE_AVAILABILITY", _SMCCC),
    0x8000_0004: ("SMCCC_ARCH_WORKAROUND_4", _SMCCC),
    0x8500_FF01: ("STANDARD_HYP_CALL_UID", _SMCCC),
    0x8700_FF01: ("VENDOR_EL3_CALL_UID", "TF-A include/services/ven_el3_svc.h"),
    0xBF00_FF01: ("TRUSTED_OS_CALL_UID", _SMCCC),
    0x4600_0001: ("HV_HYPERCALL", "linux v5.17 arch/arm64/include/asm/mshyperv.h"),
    0x95C1_BA61: ("PSCI_0_1_MIGRATE", "linux arch/arm64/include/uapi/asm/kvm.h"),
    0xC600_0002: ("PKVM_HYP_MEMINFO", _PKVM),
    0xC600_0003: ("PKVM_MEM_SHARE", _PKVM),
    0xC600_0004: ("PKVM_MEM_UNSHARE", _PKVM),
    0xC600_0007: ("PKVM_MMIO_GUARD", _PKVM),
    0xC600_0040: ("KVM_DISCOVER_IMPL_VER", _PKVM),
    0xC600_0041: ("KVM_DISCOVER_IMPL_CPUS", _PKVM),
}


def _rows() -> Iterator[tuple[int, Known]]:
    low, high = 0x8400_0000, 0xC400_0000
    for number, (name, widths) in _PSCI_REST.items():
        yield low + number, Known(name, _PSCI)
        if widths == "both":
            yield high + number, Known(name, _PSCI)
    for number, name in enumerate(_SDEI_NAMES):
        yield high + 0x20 + number, Known(f"SDEI_{name}", _SDEI)
    for number, name in _FFA_NAMES.items():
        yield low + number, Known(f"FFA_{name}", _FFA)
        if number in _FFA_TWINS:
            yield high + number, Known(f"FFA_{name}", _FFA)
    for number, name in _FFA_64_ONLY.items():
        yield high + number, Known(f"FFA_{name}", _FFA)
    for number, name in _RSI_NAMES.items():
        yield high + 0x190 + number, Known(f"RSI_{name}", _RSI)
    for fid, (name, source) in _SINGLE.items():
        yield fid, Known(name, source)


CATALOGUE: dict[int, Known] = dict(_rows())

# Sub-allocation of owner 4 by function number (abi/A §A2).
_STANDARD_RANGES = (
    (0x000, 0x01F, "PSCI"),
    (0x020, 0x03F, "SDEI"),
    (0x050, 0x05F, "TRNG"),
    (0x060, 0x0EF, "FF-A"),
    (0x110, 0x11F, "DRTM"),
    (0x150, 0x18F, "RMI"),
    (0x190, 0x1AF, "RSI"),
)


def interface_of(fid: int) -> str:
    """The interface a standard-service identifier is allotted to, "" where none is."""
    function = FunctionId(fid)
    if function.owner != 4 or not function.fast:
        return ""
    number = function.number
    return next((name for low, high, name in _STANDARD_RANGES if low <= number <= high), "")

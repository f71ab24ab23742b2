"""Function identifiers worth calling: all that abi/A-C know, and what lies around them.

Sources: DEN0028 (owners, general queries), DEN0022 (PSCI), DEN0098 (TRNG), DEN0057 (PV time),
linux v6.17 include/linux/arm-smccc.h (KVM's own), and the sheets under abi/ for the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

FAST, SMC64, SVE_HINT = 1 << 31, 1 << 30, 1 << 16

SMCCC_VERSION, ARCH_FEATURES = 0x8000_0000, 0x8000_0001
PSCI_VERSION, CPU_SUSPEND, CPU_OFF, CPU_ON = 0x8400_0000, 0x8400_0001, 0x8400_0002, 0x8400_0003
AFFINITY_INFO, PSCI_FEATURES = 0x8400_0004, 0x8400_000A
SYSTEM_OFF, SYSTEM_RESET, SYSTEM_SUSPEND = 0x8400_0008, 0x8400_0009, 0x8400_000E
SYSTEM_RESET2, SYSTEM_OFF2 = 0x8400_0012, 0x8400_0015
TRNG_VERSION, TRNG_FEATURES, TRNG_UUID = 0x8400_0050, 0x8400_0051, 0x8400_0052
TRNG_RND32, TRNG_RND64 = 0x8400_0053, 0xC400_0053
PV_TIME_FEATURES, PV_TIME_ST = 0xC500_0020, 0xC500_0021
KVM_FEATURES, KVM_UID, PTP = 0x8600_0000, 0x8600_FF01, 0x8600_0001

PSCI_0_1 = [0x95C1_BA5E + n for n in range(4)]
PSCI = [0x8400_0000 + n for n in range(0x20)]
ARCH = [0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_3FFF,
        0x8000_7FFF, 0x8000_8000, 0xC000_0002, 0xC000_0003]
WORKAROUNDS = [0x8000_3FFF, 0x8000_7FFF, 0x8000_8000, 0x8000_0004]
TRNG = [TRNG_VERSION, TRNG_FEATURES, TRNG_UUID, TRNG_RND32, TRNG_RND64]
PV_TIME = [PV_TIME_FEATURES, PV_TIME_ST]
VENDOR = [KVM_FEATURES, PTP, KVM_UID, 0x8600_FF00, 0x8600_FF03,
          *(0xC600_0000 + n for n in (2, 3, 4, 5, 6, 7, 8, 9, 0xA, 0x3F, 0x40, 0x41, 0x7F))]
OTHERS = [0x4600_0001, 0x0600_0001, 0xC600_0001,  # Hyper-V and its mistaken forms
          *range(4),  # Xen's PSCI 0.1
          0x8400_FF00, 0x8400_FF01, 0x8400_FF03, 0x8500_FF00, 0x8500_FF01, 0x8500_FF03,
          0x8400_0020, 0x8400_003F, 0x8400_0063, 0x8400_0110, 0xC400_0150, 0xC400_0190,
          0xC400_01B0, 0x8400_0400, 0x8700_FF01, 0xBF00_FF01, 0x8200_FF01,
          0xFFFF_FFFF, 0x7FFF_FFFF, 0x0100_FFFF, 0x0200_0000]

KNOWN = [*PSCI, *PSCI_0_1, *ARCH, *TRNG, *PV_TIME, *VENDOR, *OTHERS]

# One or two of every kind: for the variations that would be too many on all.
KEY = [SMCCC_VERSION, ARCH_FEATURES, 0x8000_0002, *WORKAROUNDS, PSCI_VERSION, CPU_SUSPEND,
       0xC400_0001, CPU_ON, 0xC400_0003, AFFINITY_INFO, 0xC400_0004, 0x8400_0005, 0x8400_0006,
       PSCI_FEATURES, SYSTEM_SUSPEND, 0xC400_000E, SYSTEM_RESET2, SYSTEM_OFF2, 0x8400_0020,
       *TRNG, 0xC400_0050, *PV_TIME, 0x8500_0020, *VENDOR, 0x8400_FF01, 0xC400_0190,
       *PSCI_0_1, 0x4600_0001, 0, 0xFFFF_FFFF]


def around(fids: Iterable[int]) -> list[int]:
    """Each id with its neighbours, its other width and its yielding form, in order."""
    found: dict[int, None] = {}
    for fid in fids:
        for near in (fid, fid - 1, fid + 1):
            for bits in (0, SMC64, FAST, FAST | SMC64):
                found[(near ^ bits) & 0xFFFF_FFFF] = None
    return list(found)


def widths(fids: Iterable[int]) -> list[int]:
    """Each id in both widths."""
    return list(dict.fromkeys(fid ^ bits for fid in fids for bits in (0, SMC64)))


def owners() -> list[int]:
    """Every owning entity, in all four kinds of call, with the numbers that mean something."""
    kinds = (FAST, FAST | SMC64, 0, SMC64)
    numbers = (0, 1, 0xFF00, 0xFF01, 0xFF03)
    return [k | o << 24 | n for k in kinds for o in range(64) for n in numbers]


def standard_secure() -> list[int]:
    """Owner 4 from PSCI to the RMM's calls, both widths: the range with the most tenants."""
    return [base + n for base in (0x8400_0000, 0xC400_0000) for n in range(0x1D0)]


def reserved_bits() -> list[int]:
    """Bits 16 to 23, which a fast call must leave clear; 16 is the SVE hint since SMCCC 1.3."""
    picked = (SMCCC_VERSION, PSCI_VERSION, PSCI_FEATURES, TRNG_VERSION, PV_TIME_ST, KVM_UID)
    return [fid | 1 << bit for fid in picked for bit in range(16, 24)]


def all_ids() -> list[int]:
    """What the sweep of the default machine calls."""
    hinted = [fid | SVE_HINT for fid in KNOWN]
    return list(dict.fromkeys(
        [*KNOWN, *around(KNOWN), *hinted, *reserved_bits(), *standard_secure(), *owners()]
    ))


def random_words(seed: int) -> Iterable[int]:
    """64-bit words without end; getrandbits is the same in every Python version."""
    source = random.Random(seed)
    while True:
        yield source.getrandbits(64)

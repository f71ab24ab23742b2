"""The rules of discovery: what a guest must have been told before it makes a call.

A rule is one function: it sees what the guest has learnt so far (facts.py) and the call it makes
now, and says in a line what is wrong, or nothing. Beside it stand the specification, an example
and the way to do it right, for `hvcemu rules` and for reports. Rules judge the order and the form
of calls alone, so that they hold on any trace; what a guest does with an answer is in
discovery.py (the end of a run, exceptions) and following.py (the next instructions).

The order is that of DEN0022 and DEN0028 as Linux follows it (linux v6.17
drivers/firmware/psci/psci.c:psci_probe, drivers/firmware/smccc/). Owners 48–63 (trusted OS) and
yielding calls are not judged: nobody here answers them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from emu.arm.arch import MPIDR_AFFINITY
from emu.base.abi import Abi
from emu.base.smccc import Call, FunctionId, Owner
from emu.judge.facts import (
    ARCH_FEATURES,
    PSCI_FEATURES,
    PV_TIME_FEATURES,
    PV_TIME_ST,
    RSI_VERSION,
    SMC64,
    SMCCC_VERSION,
    TRNG_VERSION,
    Facts,
    name_of,
)
from emu.world.describe import subject

CPU_SUSPEND, SET_SUSPEND_MODE, RESET2 = 0x8400_0001, 0x8400_000F, 0x8400_0012
SOC_ID = 0x8000_0002
WORKAROUNDS = frozenset((0x8000_8000, 0x8000_7FFF, 0x8000_3FFF, 0x8000_0004))
PSCI_OPTIONAL = frozenset(
    (0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15)
)
"""CPU_FREEZE to SYSTEM_OFF2: numbers of functions DEN0022 leaves to the implementation."""
PSCI_NUMBERS, TRNG_NUMBERS, RSI_NUMBERS = range(0x20), range(0x50, 0x60), range(0x190, 0x1B0)
GENERAL_QUERIES = (0xFF00, 0xFF01, 0xFF03)
SDEI_VERSION = 0xC400_0020
Check = Callable[[Facts, Call], str | None]


class Rule(NamedTuple):
    """Something a guest must not do: `title` says what, `source` who says so."""

    name: str
    title: str
    source: str
    example: str
    fix: str


RULES: dict[str, Rule] = {}
"""Every rule by its name, those of the other modules among them."""
CHECKS: list[tuple[str, Check]] = []


def declare(name: str, title: str, source: str, example: str, fix: str) -> str:
    """Enter a rule that is not a check of one call; returns its name."""
    RULES[name] = Rule(name, title, source, example, fix)
    return name


def rule(name: str, title: str, source: str, example: str, fix: str) -> Callable[[Check], Check]:
    """Enter a rule and the check of one call that finds it broken."""

    def enter(check: Check) -> Check:
        declare(name, title, source, example, fix)
        CHECKS.append((name, check))
        return check

    return enter


def broken(facts: Facts, call: Call) -> list[tuple[str, str]]:
    """(rule, what happened) for each rule that a call breaks; they are SMCCC's."""
    found: list[tuple[str, str]] = []
    if isinstance(call, Abi):
        return found
    for name, check in CHECKS:
        text = check(facts, call)
        if text is not None:
            found.append((name, text))
    return found


# -- the conduit --------------------------------------------------------------------------------


@rule(
    "conduit-mismatch", "a call by another conduit than /psci names",
    "linux Documentation/devicetree/bindings/arm/psci.yaml: method",
    "method = \"hvc\" in the device tree, and the guest executes SMC #0",
    "read /psci method (ACPI: FADT ARM_BOOT_ARCH bit 1) and use that conduit for every call",
)
def conduit_mismatch(facts: Facts, call: Call) -> str | None:
    used = str(call.conduit)
    if not facts.method or facts.method == used or (facts.conduits and used != facts.conduits[0]):
        return None
    return f"{name_of(call.fid)} by {used.upper()}, the device tree says {facts.method}"


@rule(
    "conduit-mixed", "calls by both conduits",
    "DEN0028, conduits; linux drivers/firmware/psci/psci.c:set_conduit",
    "PSCI by HVC, and later a TRNG call by SMC",
    "keep the conduit in one place and pass every call through it",
)
def conduit_mixed(facts: Facts, call: Call) -> str | None:
    first = facts.conduits[0] if facts.conduits else str(call.conduit)
    if first == str(call.conduit):
        return None
    return f"{name_of(call.fid)} by {call.conduit.upper()} after calls by {first.upper()}"


# -- the form of a call -------------------------------------------------------------------------


@rule(
    "immediate-not-zero", "a call by SMCCC with an immediate other than 0",
    "DEN0028, SMC and HVC immediate value; linux cf6348af645b (pKVM refuses them)",
    "SMC #1 with PSCI_VERSION in w0",
    "use HVC #0 or SMC #0; other immediates belong to other interfaces (Xen: 0xEA1)",
)
def immediate_not_zero(facts: Facts, call: Call) -> str | None:
    if call.imm == 0 or not call.fid.fast or name_of(call.fid) == str(call.fid):
        return None
    return f"{name_of(call.fid)} with immediate {call.imm:#x}"


@rule(
    "dirty-function-id", "bits above 31 set in the function identifier's register",
    "DEN0028: the function identifier is W0; xen 7f4217cc60; qemu target/arm/psci.c compares X0",
    "x0 = 0xFFFFFFFF84000000, a sign-extended int",
    "keep identifiers unsigned and 32 bits wide, and move them into w0",
)
def dirty_function_id(facts: Facts, call: Call) -> str | None:
    if not call.x[0] >> 32:
        return None
    return f"{name_of(call.fid)} called with x0 = {call.x[0]:#x}"


@rule(
    "dirty-arguments", "bits above 31 set in an argument of an SMC32 call",
    "DEN0028: SMC32 arguments are W1 to W7; xen f4af571dd7",
    "ARCH_FEATURES with x1 = 0xFFFFFFFF80008000, or CPU_ON 0x84000003 with an entry above 4 GiB",
    "zero-extend 32-bit arguments; use the SMC64 identifier where an argument is an address",
)
def dirty_arguments(facts: Facts, call: Call) -> str | None:
    if call.fid.smc64:
        return None
    function = subject(call.fid).function
    for n, name in enumerate(function.args if function else (), 1):
        if call.x[n] >> 32:
            return f"{name_of(call.fid)} with {name} = {call.x[n]:#x} in x{n}"
    return None


@rule(
    "reserved-bits", "bits 23:17 of a fast call's identifier are not zero",
    "DEN0028: bits 23:17 must be zero; TF-A 3e474f77",
    "w0 = 0x84020000 for PSCI_VERSION",
    "build identifiers from their fields, and leave 23:17 alone",
)
def reserved_bits(facts: Facts, call: Call) -> str | None:
    if not call.fid.fast or not call.fid.reserved:
        return None
    return f"identifier {call.fid} has {call.fid.reserved:#x} in bits 23:17"


@rule(
    "sve-hint-early", "bit 16 of an identifier set before SMCCC 1.3 was announced",
    "DEN0028 1.3, the SVE hint; linux arch/arm64/kernel/smccc-call.S",
    "w0 = 0x84010000 below KVM, which announces 1.1",
    "set the hint only when SMCCC_VERSION has answered 1.3 or later",
)
def sve_hint_early(facts: Facts, call: Call) -> str | None:
    if not (call.fid.fast and call.fid.sve_hint) or facts.has_smccc(1, 3):
        return None
    return f"identifier {call.fid} carries the hint, {_smccc_text(facts)}"


# -- PSCI ---------------------------------------------------------------------------------------


def _number(call: Call, owner: int, numbers: range) -> int | None:
    """The number of a fast call to this owner, if it is one of these."""
    fid = call.fid
    if not fid.fast or fid.owner != owner or fid.reserved or fid.number not in numbers:
        return None
    return fid.number


def _psci(call: Call) -> int | None:
    return _number(call, Owner.STANDARD_SECURE, PSCI_NUMBERS)


def _smccc_text(facts: Facts) -> str:
    version = facts.smccc_version
    if version is None:
        return "and SMCCC_VERSION was never asked"
    if version < 0:
        return f"and SMCCC_VERSION has answered {version}"
    return f"and SMCCC_VERSION has answered {version >> 16}.{version & 0xFFFF}"


@rule(
    "psci-version-first", "PSCI_FEATURES before PSCI_VERSION",
    "DEN0022, PSCI_FEATURES: since 1.0; linux psci.c:psci_probe",
    "PSCI_FEATURES(SMCCC_VERSION) as the first call of all",
    "call PSCI_VERSION first, and PSCI_FEATURES only when it answers 1.0 or later",
)
def psci_version_first(facts: Facts, call: Call) -> str | None:
    if call.fid != PSCI_FEATURES or facts.psci_version is not None:
        return None
    return f"PSCI_FEATURES({name_of(call.arg32(1))}) and PSCI_VERSION was never asked"


@rule(
    "psci-features-on-0.2", "PSCI_FEATURES although PSCI is older than 1.0",
    "DEN0022, PSCI_FEATURES: since 1.0; linux psci.c:psci_probe",
    "PSCI_VERSION answers 0x2, and PSCI_FEATURES is called all the same",
    "compare the version with 0x10000 before PSCI_FEATURES",
)
def psci_features_on_0_2(facts: Facts, call: Call) -> str | None:
    version = facts.psci_version
    if call.fid != PSCI_FEATURES or version is None or not 0 <= version < 0x1_0000:
        return None
    return f"PSCI_FEATURES({name_of(call.arg32(1))}) on PSCI 0.{version}"


@rule(
    "psci-optional-unannounced", "an optional PSCI function that PSCI_FEATURES has not announced",
    "DEN0022, PSCI_FEATURES and the table of mandatory functions; edk2 748bea7171",
    "SYSTEM_RESET2 without asking, on a hypervisor with PSCI 1.0",
    "ask PSCI_FEATURES of the identifier first; SYSTEM_RESET and SYSTEM_OFF always exist",
)
def psci_optional(facts: Facts, call: Call) -> str | None:
    number = _psci(call)
    if number not in PSCI_OPTIONAL or _announced(facts.psci, call.fid):
        return None
    suspend = max(facts.psci.get(fid, 0) for fid in (CPU_SUSPEND, CPU_SUSPEND | SMC64))
    if call.fid == SET_SUSPEND_MODE and suspend & 1:  # bit 0 of CPU_SUSPEND's flags announces it
        return None
    return f"{name_of(call.fid)}, which {_asked_text(facts.psci, call.fid, 'PSCI_FEATURES')}"


def _announced(table: Mapping[int, int], fid: int) -> bool:
    """Whether a FEATURES function said yes to an identifier or to its twin of other width."""
    return table.get(fid, -1) >= 0 or table.get(fid ^ SMC64, -1) >= 0


def _asked_text(table: Mapping[int, int], fid: int, by: str) -> str:
    answer = table.get(fid, table.get(fid ^ SMC64))
    return f"{by} was never asked of" if answer is None else f"{by} has answered with {answer}"


@rule(
    "reset2-reserved-type", "SYSTEM_RESET2 with a reserved architectural type",
    "DEN0022, SYSTEM_RESET2: with bit 31 clear, only 0 (warm reset) is defined; edk2 748bea7171",
    "SYSTEM_RESET2(reset_type = 0x5A)",
    "pass 0, or a vendor's type with bit 31 set",
)
def reset2_type(facts: Facts, call: Call) -> str | None:
    kind = call.arg32(1)
    if call.fid & ~SMC64 != RESET2 or kind == 0 or kind >> 31:
        return None
    return f"SYSTEM_RESET2 with reset_type {kind:#x}"


@rule(
    "mpidr-not-masked", "CPU_ON or AFFINITY_INFO with bits that are no affinity",
    "DEN0022, target_affinity: Aff3 and Aff2:Aff1:Aff0, the rest zero; edk2 dfbb7de3c6",
    "CPU_ON(target_affinity = MPIDR_EL1 as read, with bit 31 set)",
    "mask MPIDR_EL1 with 0xFF00FFFFFF, or take the CPU's reg from the device tree",
)
def mpidr_not_masked(facts: Facts, call: Call) -> str | None:
    if _psci(call) not in (0x03, 0x04) or not call.arg(1) & ~MPIDR_AFFINITY:
        return None
    return f"{name_of(call.fid)} with target_affinity {call.arg(1):#x}"


@rule(
    "cpu-on-entry", "CPU_ON with an entry point that cannot be run",
    "DEN0022, CPU_ON entry_point_address: a physical address; INVALID_ADDRESS since 1.0",
    "the virtual address of secondary_entry, or one cut to 32 bits",
    "pass the physical address of code, aligned to 4",
)
def cpu_on_entry(facts: Facts, call: Call) -> str | None:
    entry = call.arg(2)
    if _psci(call) != 0x03 or not facts.ram or (entry in facts.ram and entry % 4 == 0):
        return None
    what = "is not aligned" if entry in facts.ram else "is no memory"
    return f"{name_of(call.fid)} with entry point {entry:#x}, which {what}"


# -- the calling convention and the architecture's calls -----------------------------------------


@rule(
    "smccc-version-unannounced", "SMCCC_VERSION that PSCI_FEATURES has not announced",
    "DEN0028, discovery by PSCI_FEATURES; linux psci.c:psci_init_smccc; u-boot 12ccdcd79b",
    "SMCCC_VERSION as the first call: firmware of SMCCC 1.0 may do anything",
    "PSCI_VERSION ≥ 1.0, then PSCI_FEATURES(SMCCC_VERSION) ≠ -1, then SMCCC_VERSION",
)
def smccc_version(facts: Facts, call: Call) -> str | None:
    # Any answer but -1 announces it: Hafnium answers with a version, and Linux takes it so.
    if call.fid != SMCCC_VERSION or facts.psci.get(SMCCC_VERSION, -1) != -1:
        return None
    return f"SMCCC_VERSION, which {_asked_text(facts.psci, SMCCC_VERSION, 'PSCI_FEATURES')}"


@rule(
    "arch-features-early", "ARCH_FEATURES before SMCCC 1.1 was announced",
    "DEN0028, SMCCC_ARCH_FEATURES: since 1.1",
    "ARCH_FEATURES(WORKAROUND_1) without SMCCC_VERSION",
    "call ARCH_FEATURES only when SMCCC_VERSION has answered 0x10001 or more",
)
def arch_features_early(facts: Facts, call: Call) -> str | None:
    if call.fid != ARCH_FEATURES or facts.has_smccc(1, 1) or (facts.smccc_version or 0) < 0:
        return None
    return f"ARCH_FEATURES({name_of(call.arg32(1))}), {_smccc_text(facts)}"


@rule(
    "error-used-as-version", "an error code taken for a version",
    "DEN0028 and DEN0022: a version has bit 31 clear; linux psci.c keeps it in a u32",
    "SMCCC_VERSION answers -1, which is ≥ 1.1 as an unsigned number",
    "compare versions as signed 32-bit numbers",
)
def error_as_version(facts: Facts, call: Call) -> str | None:
    version, asked = {
        PSCI_FEATURES: (facts.psci_version, "PSCI_VERSION"),
        ARCH_FEATURES: (facts.smccc_version, "SMCCC_VERSION"),
    }.get(call.fid, (None, ""))
    if _number(call, Owner.STANDARD_SECURE, TRNG_NUMBERS) and call.fid != TRNG_VERSION:
        version, asked = facts.trng_version, "TRNG_VERSION"
    if version is None or version >= 0:
        return None
    return f"{name_of(call.fid)} although {asked} has answered {version}"


@rule(
    "features-of-another", "a FEATURES function asked about an interface that has its own",
    "DEN0028, SMCCC_ARCH_FEATURES; DEN0022, PSCI_FEATURES; u-boot 51ebe8cd6a",
    "ARCH_FEATURES(TRNG_VERSION), which answers -1 where TRNG works",
    "TRNG: TRNG_VERSION; PSCI: PSCI_FEATURES; vendors: their UID and feature map",
)
def features_of_another(facts: Facts, call: Call) -> str | None:
    asked = FunctionId(call.arg32(1))
    if call.fid == ARCH_FEATURES:
        wrong = asked.owner == Owner.STANDARD_SECURE and asked.fast
    elif call.fid == PSCI_FEATURES:
        in_psci = asked.owner == Owner.STANDARD_SECURE and asked.number in PSCI_NUMBERS
        # SDEI_VERSION: jailhouse asks it, and DEN0054 lets PSCI_FEATURES know it.
        wrong = asked.fast and not in_psci and asked not in (SMCCC_VERSION, SDEI_VERSION)
    else:
        return None
    return f"{name_of(call.fid)}({name_of(asked)})" if wrong else None


def _arch_unannounced(facts: Facts, call: Call) -> str | None:
    if _announced(facts.arch, call.fid):
        return None
    return f"{name_of(call.fid)}, which {_asked_text(facts.arch, call.fid, 'ARCH_FEATURES')}"


@rule(
    "workaround-unannounced", "a workaround call that ARCH_FEATURES has not announced",
    "DEN0028, SMCCC_ARCH_WORKAROUND_1 to _4; linux arch/arm64/kernel/proton-pack.c",
    "SMCCC_ARCH_WORKAROUND_1 at every context switch, never asked for",
    "call it only where ARCH_FEATURES of it answers 0 (1: it exists, this CPU is not affected)",
)
def workaround(facts: Facts, call: Call) -> str | None:
    return _arch_unannounced(facts, call) if call.fid in WORKAROUNDS else None


@rule(
    "soc-id-unannounced", "SOC_ID that ARCH_FEATURES has not announced",
    "DEN0028, SMCCC_ARCH_SOC_ID: since 1.2; linux drivers/firmware/smccc/soc_id.c",
    "SOC_ID(0) below KVM, which announces SMCCC 1.1",
    "SMCCC_VERSION ≥ 1.2, then ARCH_FEATURES(SOC_ID) ≥ 0, then SOC_ID(0) and SOC_ID(1)",
)
def soc_id(facts: Facts, call: Call) -> str | None:
    return _arch_unannounced(facts, call) if call.fid & ~SMC64 == SOC_ID else None


@rule(
    "soc-id-name-smc32", "the name of the SoC asked by SMC32",
    "DEN0028 1.6, SOC_ID_type 2: SMC64 only; linux-arm-kernel 2026-May/1131331",
    "SOC_ID 0x80000002 with w1 = 2: the name fills x1 to x17 in 64-bit pieces",
    "use 0xC0000002 for type 2",
)
def soc_id_name(facts: Facts, call: Call) -> str | None:
    return "SOC_ID(2) by 0x80000002" if call.fid == SOC_ID and call.arg32(1) == 2 else None


@rule(
    "arch-call-unannounced", "another architecture call that ARCH_FEATURES has not announced",
    "DEN0028, SMCCC_ARCH_FEATURES",
    "SMCCC_ARCH_FEATURE_AVAILABILITY (0xC0000003) on firmware of SMCCC 1.1",
    "ask ARCH_FEATURES of the identifier first",
)
def arch_call(facts: Facts, call: Call) -> str | None:
    fid = call.fid
    known = (SMCCC_VERSION, ARCH_FEATURES, *WORKAROUNDS)
    if fid.owner != Owner.ARM or not fid.fast or fid in known or fid & ~SMC64 == SOC_ID:
        return None
    return None if fid.reserved or fid.sve_hint else _arch_unannounced(facts, call)


# -- services -----------------------------------------------------------------------------------


@rule(
    "trng-unannounced", "entropy asked for before TRNG_VERSION has announced it",
    "DEN0098, TRNG_VERSION; linux arch/arm64/include/asm/archrandom.h:smccc_probe_trng",
    "TRNG_RND64 as the first call, with -1 taken for random bits",
    "TRNG_VERSION ≥ 1.0 as a signed number, then TRNG_FEATURES, then TRNG_RND",
)
def trng(facts: Facts, call: Call) -> str | None:
    number = _number(call, Owner.STANDARD_SECURE, TRNG_NUMBERS)
    version = facts.trng_version
    if number is None or call.fid == TRNG_VERSION or (version is not None and version < 0):
        return None
    if version is not None and version >= 0x1_0000:
        return None
    told = "was never asked" if version is None else f"has answered {version:#x}"
    return f"{name_of(call.fid)}, and TRNG_VERSION {told}"


@rule(
    "pv-time-unannounced", "PV time used before it was announced",
    "DEN0057, PV_TIME_FEATURES; linux arch/arm64/kernel/paravirt.c:has_pv_steal_clock",
    "PV_TIME_ST at once, with -1 taken for the address of the record",
    "ARCH_FEATURES(PV_TIME_FEATURES) = 0, then PV_TIME_FEATURES(PV_TIME_ST) = 0, then PV_TIME_ST",
)
def pv_time(facts: Facts, call: Call) -> str | None:
    if call.fid == PV_TIME_FEATURES:
        return _arch_unannounced(facts, call)
    if call.fid != PV_TIME_ST or facts.pv_time.get(PV_TIME_ST, -1) >= 0:
        return None
    return f"PV_TIME_ST, which {_asked_text(facts.pv_time, PV_TIME_ST, 'PV_TIME_FEATURES')}"


def _vendor_call(call: Call) -> bool:
    fid = call.fid
    return fid.owner == Owner.VENDOR_HYP and fid.number not in GENERAL_QUERIES


@rule(
    "vendor-without-uid", "a vendor's service without knowing who the vendor is",
    "DEN0028, Call UID; linux drivers/firmware/smccc/kvm_guest.c:kvm_init_hyp_services",
    "0x86000001 means PTP to KVM and inter-VM communication to Bao",
    "compare VENDOR_HYP_CALL_UID (0x8600FF01) with the vendor's before any other call to it",
)
def vendor_uid(facts: Facts, call: Call) -> str | None:
    if not _vendor_call(call) or facts.uid:
        return None
    told = "was never asked" if facts.uid is None else "has no answer"
    return f"{name_of(call.fid)}, and VENDOR_HYP_CALL_UID {told}"


@rule(
    "vendor-of-another", "a vendor's service below another vendor",
    "DEN0028, Call UID: identifiers of owner 6 mean what the vendor says",
    "KVM's PTP although the UID is Xen's",
    "go on only when the UID is the one you know",
)
def vendor_of_another(facts: Facts, call: Call) -> str | None:
    kvms = "KVM" in name_of(call.fid)
    if not _vendor_call(call) or not facts.uid or not kvms or facts.vendor == "KVM":
        return None
    return f"{name_of(call.fid)} of KVM, and the UID is {facts.uid}"


@rule(
    "vendor-feature-unannounced", "a KVM service that its feature map has not announced",
    "linux include/linux/arm-smccc.h: ARM_SMCCC_KVM_FUNC_*; drivers/ptp/ptp_kvm_arm.c",
    "PTP although bit 1 of KVM_FEATURES (0x86000000) is clear",
    "test the function's bit in the 128-bit map that 0x86000000 returns in w0 to w3",
)
def vendor_feature(facts: Facts, call: Call) -> str | None:
    number = call.fid.number
    if not _vendor_call(call) or facts.vendor != "KVM" or not 0 < number < 128:
        return None
    if facts.vendor_features is not None and facts.vendor_features >> number & 1:
        return None
    told = "was never asked" if facts.vendor_features is None else f"has bit {number} clear"
    return f"{name_of(call.fid)}, and KVM_FEATURES {told}"


@rule(
    "rsi-unannounced", "a realm's service before RSI_VERSION has answered, or by HVC",
    "DEN0137, RSI_VERSION; linux arch/arm64/kernel/rsi.c:arm64_rsi_init",
    "RSI_REALM_CONFIG on a machine that is no realm",
    "with SMC as the conduit, RSI_VERSION must answer 0 before any other RSI call",
)
def rsi(facts: Facts, call: Call) -> str | None:
    number = _number(call, Owner.STANDARD_SECURE, RSI_NUMBERS)
    if number is None or not call.fid.smc64:
        return None
    if str(call.conduit) != "smc":
        return f"{name_of(call.fid)} by HVC, which is UNDEFINED in a realm"
    if call.fid == RSI_VERSION or facts.rsi_version == 0:
        return None
    told = "was never asked" if facts.rsi_version is None else f"has answered {facts.rsi_version}"
    return f"{name_of(call.fid)}, and RSI_VERSION {told}"

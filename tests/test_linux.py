"""An unmodified Debian kernel is content with our hypercalls, up to the device it lacks here.

Calls are those of abi/G §G1 for a 6.1 kernel: identifier and, where it is an argument, x1.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emu import exits
from emu.engine import native_available
from emu.faults import Mutation, choose, mutations
from emu.instrument import Instrument
from emu.mutate import Class, prepare, run_mutant
from emu.trial import Setup, attempt
from emu.vm import MIB, Vm

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvcemu" / "linux"
IMAGES = sorted(CACHE.glob("linux-image-*/boot/vmlinu[xz]-*"))

pytestmark = [
    pytest.mark.skipif(not IMAGES, reason="needs Debian's kernel: python tools/fetch_linux.py"),
    pytest.mark.skipif(
        not native_available(), reason="the native half was not built: it needs a C compiler"
    ),
]

LIMIT = 400_000_000
# abi/G §G1, steps in order; None: x1 is no argument.
PSCI_VERSION, MIGRATE_INFO_TYPE = (0x8400_0000, None), (0x8400_0006, None)
FEATURES, SMCCC_VERSION = 0x8400_000A, 0x8000_0000
ARCH_FEATURES, TRNG_VERSION, RND64 = 0x8000_0001, 0x8400_0050, 0xC400_0053
XENVER_GET_FEATURES = 6  # x0 of HVC #0xEA1: linux include/xen/interface/version.h
POWER = [(FEATURES, 0xC400_0001), (FEATURES, 0xC400_000E), (FEATURES, 0xC400_0012)]
PROBE = [PSCI_VERSION, MIGRATE_INFO_TYPE, (FEATURES, SMCCC_VERSION)]
CALLS = {
    "kvm-6.12": [
        *PROBE,
        (SMCCC_VERSION, None),
        (TRNG_VERSION, None),
        *POWER,
        (0x8600_FF01, None),
        (0x8600_0000, None),
        (ARCH_FEATURES, 0x8000_8000),
        (ARCH_FEATURES, 0x8000_7FFF),
    ],
    "kvm-4.15": [PSCI_VERSION, MIGRATE_INFO_TYPE],
    "xen": [
        (XENVER_GET_FEATURES, None),
        *PROBE,
        (SMCCC_VERSION, None),
        (TRNG_VERSION, None),
        (ARCH_FEATURES, 0x8000_0002),
        *POWER,
        (0x8600_FF01, None),
        (ARCH_FEATURES, 0x8000_8000),
        (ARCH_FEATURES, 0x8000_7FFF),
    ],
    "qemu-tcg": [*PROBE, *POWER],
    "none": [],
}
CONSOLE = {
    "kvm-6.12": [
        "psci: PSCIv1.1 detected in firmware.",
        "psci: SMC Calling Convention v1.1",
        "smccc: KVM: hypervisor services detected",
    ],
    "kvm-4.15": ["psci: PSCIv0.2 detected in firmware."],
    "xen": [
        "Xen 4.22 support found",
        "psci: PSCIv1.1 detected in firmware.",
        "psci: SMC Calling Convention v1.2",
    ],
    "qemu-tcg": ["psci: PSCIv1.1 detected in firmware.", "psci: SMC Calling Convention v1.0"],
    "none": [],
}
NEVER_SAID = {
    "kvm-6.12": ["SMC Calling Convention v1.0"],
    "kvm-4.15": ["SMC Calling Convention", "smccc:"],
    "xen": ["hypervisor services detected"],
    "qemu-tcg": ["smccc:"],
    "none": ["PSCIv", "SMC Calling Convention", "smccc:"],
}


class Calls(Instrument):
    def __init__(self) -> None:
        self.made: list[tuple[int, ...]] = []

    def on_call(self, record) -> None:
        self.made.append((record.cycles, record.pc, *record.call.x, *record.answer))


def boot(profile: str):
    watch = Calls()
    vm = Vm(
        IMAGES[-1], profile=profile, memory=256 * MIB, append="earlycon=pl011,0x9000000",
        native=True, instruments=[watch],
    )  # fmt: skip
    exit = vm.run(LIMIT)
    return vm, exit, watch.made


@pytest.mark.parametrize("profile", CALLS)
def test_linux(profile):
    vm, exit, made = boot(profile)
    console = str(vm.console)
    assert isinstance(exit, exits.Deadline), console[-2000:]
    assert "Linux version" in console
    assert [text for text in CONSOLE[profile] if text not in console] == []
    assert [text for text in NEVER_SAID[profile] if text in console] == []
    # What follows the discovery is entropy, as much as the kernel cares to draw.
    calls = [(call[2], call[3]) for call in made if call[2] != RND64]
    expected = CALLS[profile]
    assert [fid for fid, _ in calls] == [fid for fid, _ in expected]
    assert [(n, x1) for n, ((_, x1), (_, want)) in enumerate(zip(calls, expected, strict=True))
            if want is not None and x1 != want] == []
    assert (len(made) > len(calls)) == (profile == "kvm-6.12")


def test_linux_is_the_same_again():
    first, second = boot("kvm-6.12"), boot("kvm-6.12")
    assert first[2] == second[2]
    assert first[0].stats() == second[0].stats()
    assert str(first[0].console) == str(second[0].console)
    assert first[1] == second[1]


@pytest.mark.parametrize("profile", ["kvm-4.15", "kvm-6.1", "kvm-6.12", "kvm-7.2", "qemu-tcg"])
def test_linux_breaks_no_rule(profile):
    """Every rule, and its answers followed; it reads /psci method with the MMU on."""
    outcome = attempt(setup(profile, follow=True))
    assert outcome.verdicts == ()
    assert outcome.total_calls > 1
    assert outcome.console == attempt(setup(profile)).console


def test_mutants_of_linux():
    """From just before its first call; the score is Linux's own, and the same every time."""
    subject = prepare(setup("kvm-6.12"))
    assert "PSCIv1.1 detected" in subject.reference.console
    chosen = choose(mutations(subject.trace), 8, 1)
    results = [run_mutant(subject, mutation) for mutation in chosen]
    assert results == [run_mutant(subject, mutation) for mutation in chosen]
    trng = run_mutant(subject, Mutation("zero", 0x8400_0050))
    assert trng.verdict is Class.DEGRADED
    # smccc_probe: the version is kept unsigned, so that -1 is 1.1 and more (abi/G §G1).
    version = run_mutant(subject, Mutation("not-supported", SMCCC_VERSION))
    assert version.verdict is Class.WRONG
    assert version.why.startswith("error-used-as-version: ")


def setup(profile: str, **options) -> Setup:
    return Setup(str(IMAGES[-1]), profile, append="earlycon=pl011,0x9000000", memory=256 * MIB,
                 cycles=LIMIT, **options)  # fmt: skip

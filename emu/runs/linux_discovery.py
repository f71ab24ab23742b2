"""What an unmodified Linux finds below it: its own words on the console, and the calls it made.

A kernel is booted to just before its first HVC or SMC once for every device tree (profiles that
promise the same share it), and goes on from there below each profile (checkpoint.py), until it
registers PF_NETLINK. That is a core_initcall (linux v6.1 net/netlink/af_netlink.c:
netlink_proto_init), behind everything discovered early: PSCI, SMCCC and KVM's services
(setup_arch), stolen time (time_init), CPUs that were brought up (smp_init, before all initcalls)
and their mitigations. Where a profile has no /psci, or nothing is called, the kernel boots alone.

`FACTS` reads the console; each row cites the function that prints it. A fact the kernel is silent
about is not known, and nothing is concluded from other lines. What it does not show: drivers that
are modules (ptp_kvm, smccc_trng: Debian's), and SoC ID, which come after PF_NETLINK.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emu.base.errors import EmuError
from emu.judge.trial import (
    CallLine,
    CallLog,
    Outcome,
    Setup,
    build,
    outcome_of,
    run_to_first_call,
    run_within,
)
from emu.machine.checkpoint import Checkpoint
from emu.machine.vm import Vm
from emu.world.profile import load_profile

MIB = 1 << 20
EARLYCON = "earlycon=pl011,0x9000000"
"""Without it the kernel prints nothing before its driver for the UART is there."""
END = "NET: Registered PF_NETLINK"
CYCLES = 1_000_000_000
"""Ten times what a Debian kernel needs to `END`; our choice."""
MEMORY = 256 * MIB
HOW_TO_FETCH = "`python tools/fetch_linux.py` fetches Debian's, or name an IMAGE"


# -- the console --------------------------------------------------------------------------------


class Fact(NamedTuple):
    """A line of the kernel's: `value` makes a short text of its groups; all lines count."""

    name: str
    pattern: re.Pattern[str]
    value: Callable[[re.Match[str]], str]
    source: str


def _fact(name: str, pattern: str, source: str, value: Any = "yes") -> Fact:
    def constant(_: re.Match[str]) -> str:
        return str(value)

    return Fact(name, re.compile(pattern, re.MULTILINE), value if callable(value) else constant,
                source)  # fmt: skip


def _group(match: re.Match[str]) -> str:
    return match[1]


def _services(match: re.Match[str]) -> str:
    """Four registers, the highest first, of which each has 32 bits of the map."""
    words = [int(word, 16) & 0xFFFF_FFFF for word in match[1].split()]
    return hex(sum(word << 32 * n for n, word in enumerate(reversed(words))))


_LINE = r"^(?:\[ *\d+\.\d+\] )?"
FACTS = (
    _fact("PSCI", _LINE + r"psci: PSCIv(\d+\.\d+) detected in firmware",
          "linux v6.1 drivers/firmware/psci/psci.c:psci_probe", _group),
    _fact("SMCCC", _LINE + r"psci: SMC Calling Convention v(\d+\.\d+)",
          "linux v6.1 drivers/firmware/psci/psci.c:psci_init_smccc", _group),
    _fact("KVM services", _LINE + r"smccc: KVM: hypervisor services detected \((.*)\)",
          "linux v6.1 drivers/firmware/smccc/kvm_guest.c:kvm_init_hyp_services", _services),
    _fact("Xen", _LINE + r"(?:xen:)?Xen (\S+) support found",
          "linux v6.1 arch/arm/xen/enlighten.c:xen_early_init", _group),
    _fact("realm", _LINE + r"RME: Using RSI version (\d+\.\d+)",
          "linux v6.13 arch/arm64/kernel/rsi.c:rsi_version_matches", _group),
    _fact("stolen time", _LINE + r"arm-pv: using stolen time PV",
          "linux v6.1 arch/arm64/kernel/paravirt.c:pv_time_init"),
    _fact("stolen time", _LINE + r"arm-pv: (?:Failed to map|Unexpected revision)",
          "linux v6.1 arch/arm64/kernel/paravirt.c:stolen_time_cpu_online", "broken"),
    _fact("entropy early", _LINE + r"random: crng init done",
          "linux v6.1 drivers/char/random.c:_credit_init_bits"),
    _fact("Spectre-v2", _LINE + r"CPU features: detected: Spectre-v2",
          "linux v6.1 arch/arm64/kernel/proton-pack.c:has_spectre_v2", "affected"),
    _fact("Spectre-v4", _LINE + r"CPU features: detected: Spectre-v4",
          "linux v6.1 arch/arm64/kernel/proton-pack.c:has_spectre_v4", "affected"),
    _fact("Spectre-BHB", _LINE + r"CPU features: detected: Spectre-BHB",
          "linux v6.1 arch/arm64/kernel/proton-pack.c:is_spectre_bhb_affected", "affected"),
    _fact("SoC ID", _LINE + r"SMCCC: SOC_ID: ID = (\S+)",
          "linux v6.1 drivers/firmware/smccc/soc_id.c:smccc_soc_init", _group),
    _fact("PTP", r"fail to initialize ptp_kvm",
          "linux v6.1 drivers/ptp/ptp_kvm_common.c:ptp_kvm_init", "fails"),
    _fact("CPUs", _LINE + r"smp: Brought up \d+ nodes?, (\d+) CPUs?",
          "linux v6.1 kernel/smp.c:smp_init", _group),
    _fact("not started", _LINE + r"psci: failed to boot (CPU\d+ \(-\d+\))",
          "linux v6.1 arch/arm64/kernel/psci.c:cpu_psci_cpu_boot", _group),
)  # fmt: skip
"""In the order in which they are shown. Of rows of one name the last that matches counts."""
_RELEASE = re.compile(_LINE + r"Linux version (\S+)", re.MULTILINE)
"""linux v6.1 init/version-timestamp.c:linux_banner."""


def reported(console: str) -> dict[str, str]:
    """What the kernel has said, by the names of `FACTS`; lines of several CPUs are joined."""
    console = console.replace("\r", "")
    found: dict[str, str] = {}
    for fact in FACTS:
        values = dict.fromkeys(fact.value(match) for match in fact.pattern.finditer(console))
        if values:
            found[fact.name] = ", ".join(values)
    return found


def release(console: str) -> str:
    """The kernel's version as it names itself, "" where it has not."""
    match = _RELEASE.search(console)
    return match[1] if match else ""


# -- the calls ----------------------------------------------------------------------------------


class Calls(NamedTuple):
    """Calls by the names of functions, and how many of them came to nothing."""

    made: Mapping[str, int]
    not_supported: int
    unknown: int
    undefined: int

    @property
    def total(self) -> int:
        return sum(self.made.values())


def count_calls(calls: Iterable[CallLine]) -> Calls:
    """Count: `unknown` are identifiers that no specification known here names."""
    calls = list(calls)
    names = [line.call.partition("(")[0] for line in calls]
    return Calls(
        Counter(names),
        sum(line.result.startswith("NOT_SUPPORTED") for line in calls),
        sum(name.startswith("0x") for name in names),
        sum(line.result.startswith("UNDEF") for line in calls),
    )


class Found(NamedTuple):
    """One profile's: what Linux said, what it called, and whether it came to `END`."""

    profile: str
    release: str
    reported: Mapping[str, str]
    calls: Calls
    finished: bool
    outcome: Outcome


def found(profile: str, outcome: Outcome) -> Found:
    """Read an outcome."""
    text = outcome.console
    return Found(
        profile, release(text), reported(text), count_calls(outcome.calls), END in text, outcome
    )


# -- running ------------------------------------------------------------------------------------


class _Ready(NamedTuple):
    """A kernel at its first call, and what it was booted with."""

    key: Setup
    vm: Vm
    checkpoint: Checkpoint | None


_ready: list[_Ready] = []
"""The last one: setups come in the order of their trees, and a kernel takes memory."""


def tree_of(setup: Setup) -> str:
    """What decides about the device tree, as one text."""
    profile = load_profile(setup.profile)
    promise = profile.promise
    return f"{profile.modes['discovery.static']} {promise!r} {promise.cells}"


def discover(setup: Setup) -> Outcome:
    """Let a kernel discover what is below it; from the checkpoint of its tree if there is one."""
    started = time.perf_counter()
    key = setup._replace(profile=tree_of(setup))
    if not _ready or _ready[-1].key != key:
        _ready[:] = [_boot(setup, key)]
    vm, checkpoint = _ready[-1].vm, _ready[-1].checkpoint
    if checkpoint is None:
        _ready.clear()
        vm = build(setup)
    else:
        checkpoint.restore().begin_below(load_profile(setup.profile))
    log = CallLog()
    vm.instruments[:] = [log]
    exit, flooded = run_within(
        vm, setup.seconds, setup.cycles, lambda: END.encode() in vm.console.tail(64 << 10)
    )
    return outcome_of(vm, log, exit, flooded, (), started)


def _boot(setup: Setup, key: Setup) -> _Ready:
    vm = build(setup)
    promises = load_profile(setup.profile).promise.method
    at_call = bool(promises) and run_to_first_call(vm, setup.seconds, setup.cycles)
    return _Ready(key, vm, Checkpoint(vm) if at_call else None)


def setups(base: Setup, profiles: Iterable[str]) -> list[Setup]:
    """One for each profile; those of one device tree lie together, in the order of the first."""
    made = [base._replace(profile=name) for name in profiles]
    trees = [*dict.fromkeys(map(tree_of, made))]
    return sorted(made, key=lambda setup: trees.index(tree_of(setup)))


def cached_kernel() -> str:
    """The newest kernel that tools/fetch_linux.py has unpacked for this system."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    images = Path(cache, "hvcemu", "linux").glob("linux-image-*/boot/vmlinu[xz]-*")
    newest = max(images, key=_version, default=None)
    if newest is None:
        raise EmuError(f"no kernel is cached: {HOW_TO_FETCH}")
    return str(newest)


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]

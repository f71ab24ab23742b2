"""The behaviours that were discussed and may be chosen: every row of abi/D §D5 as data.

A mode is a named switch with a few values, the first of which is what merged KVM does (or
"profile", where the profile's own tables say it). Modes are chosen in a profile's `[modes]`
table or for one VM; each is honoured by the one place its comment names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emu.base.errors import ProfileError

MODES: Mapping[str, tuple[str, ...]] = {
    # Are firmware registers the VM's, each vCPU's own, or the VM's with bit 28 of their ids set
    # in the list (seed 000; series v4)? level.py, onereg.py.
    "fwreg.scope": ("vm", "vcpu-asymmetric", "vm+scope-bit"),
    # Does a write clear the registers not yet written (seed 002; v1: the first write, or every
    # write), or do unknown numbers of the range read zero and ignore writes? policy.py, ioctls.py.
    "fwreg.first_write": (
        "independent", "invalidate-others", "invalidate-others-always", "raz-wi-reserved",
    ),
    # A write after the first run: EBUSY if it changes the value (v7), always (v6), never?
    # ioctls.py.
    "fwreg.after_run": ("ebusy-on-change", "ebusy-always", "ignore"),
    # What the bitmap registers hold at reset (seed 000; BMAP_2 of 6.15 begins at 0). level.py.
    "fwreg.default": ("profile", "all-on", "all-off"),
    # Width of the bitmap registers in bits (seed 002: anything from 8 to 2048). onereg.py.
    "fwreg.width": ("64", "8", "16", "32", "128", "256", "512", "1024", "2048"),
    # Must a capability be enabled first (v2), does one count the registers (v3)? ioctls.py.
    "fwreg.cap": ("none", "enable-required", "count"),
    # The answer to a call nobody has (seeds 001 and 004). routing.py.
    "unknown.hvc": ("profile", "-1", "undef", "exit", "enosys"),
    # What an immediate other than 0 means (seed 004). routing.py.
    "hvc.imm": ("profile", "ignore", "switch-on-imm", "undef"),
    # Who serves PSCI (seeds 001 and 003). routing.py.
    "psci.owner": ("kernel", "user", "user-except-smccc-feature", "rmm"),
    # Must HVC forwarding be enabled before PSCI forwarding (seed 001)? ioctls.py.
    "psci.to_user.requires_hvc": ("true", "false"),
    # What CPU_SUSPEND does (seed 001). services/psci.py; routing.py forwards for halted-by-vmm.
    "suspend": ("wfi", "halted-by-vmm", "inplace-return"),
    # Whether CPU_ON is granted: always, never, or once the VMM has admitted the CPU (seed 001,
    # vCPU hot-add). vcpus.py.
    "cpu_on.policy": ("allow", "deny", "late"),
    # How a forwarded call looks to the VMM (abi/D §D3, abi/C §C5). ioctls.py.
    "exit.layout": ("v6.4", "rfc2021"),
    # Which unknown calls leave once forwarding is on: ranges the VMM named, all that KVM does
    # not implement, or all of the owners KVM does not serve (seed 001). routing.py.
    "exit.boundary": ("explicit-ranges", "kvm-list", "owner-range"),
    # What the VMM may read of a vCPU (seed 003: Realms, pKVM). ioctls.py.
    "regs.visibility": ("full", "fail", "zero", "hostcall-only"),
    # Whether the device tree tells of the interface before it is called (seed 004). vm.py.
    "discovery.static": ("present", "absent"),
    # What an SMC does. routing.py.
    "smc": ("profile", "handle", "-1", "undef"),
    # Seed 004's page notification call, gated by its own discovery. services/asyncpf.py.
    "asyncpf": ("absent", "present"),
}  # fmt: skip
SERVICE_MODES: Mapping[str, str] = {"asyncpf": "present"}
"""Modes that bring the service of their name, where they have this value."""
DEFAULTS: Mapping[str, str] = {key: values[0] for key, values in MODES.items()}


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as dotted keys: TOML's `psci.owner = "user"` and its quoted form alike."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def parse_modes(table: Mapping[str, Any], base: Mapping[str, str] = DEFAULTS) -> dict[str, str]:
    """All modes, with those of `table` in place of `base`'s; a wrong one is refused."""
    modes = dict(base)
    for key, value in flatten(table):
        if problem := mode_problem(key, value):
            raise ProfileError(problem)
        modes[key] = text_of(value)
    return modes


def mode_problem(key: str, value: object) -> str:
    """What is wrong with a mode, "" when nothing is."""
    if key not in MODES:
        return f"unknown mode {key}; there is {', '.join(MODES)}"
    if text_of(value) not in MODES[key]:
        return f"mode {key} is one of {', '.join(MODES[key])}"
    return ""


def text_of(value: object) -> str:
    """A mode's value as text, so that TOML's `true` and `64` need no quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)

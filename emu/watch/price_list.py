"""`hvcemu explain --costs`: what traps and system instructions cost, and who says so."""

from __future__ import annotations

from typing import Any

from emu.arm.cores import TIMED
from emu.base.errors import EmuError
from emu.cycles.cores import system_costs
from emu.cycles.model import Cost
from emu.cycles.trap_prices import PROFILES, TrapPrices, trap_prices

TITLES = ("", "cycles", "±", "measured on", "source")
SUMMARY = ("profile", "HVC", "SMC", "exit to the VMM", "interrupt", "IPI", "what it stands for")


def summary() -> list[tuple[str, ...]]:
    """A row for each profile: round trips in cycles."""
    return [
        (
            name, f"{p.hvc:,}", f"{p.smc:,}",
            f"{p.hvc_entry.cycles + p.vmm.cycles + p.hvc_return.cycles:,}",
            f"{p.interrupt.cycles:,}", f"{p.ipi.cycles:,}", p.about,
        )
        for name, p in PROFILES.items()
    ]  # fmt: skip


def figures(name: str) -> dict[str, Cost]:
    """The figures of a profile of traps, or of a core's system instructions; EmuError for neither.

    The names are those of trap_prices.py and system_prices.py.
    """
    if name not in names():
        raise EmuError(f"nothing has the costs {name!r}; there are {', '.join(names())}")
    return dict(system_costs(name) if name in TIMED else trap_prices(name).figures())


def rows(name: str) -> list[tuple[str, ...]]:
    """The same as rows for people."""
    return [
        (
            event.removeprefix("sys_").replace("_", " "), f"{cost.cycles:,}",
            f"{cost.uncertainty} %" if cost.source and cost.core else "", cost.core, cost.source,
        )
        for event, cost in figures(name).items()
    ]  # fmt: skip


def names() -> tuple[str, ...]:
    """Every name that `figures` knows."""
    return *PROFILES, *TIMED


def about(name: str) -> str:
    """What a name of `figures` stands for."""
    profile: TrapPrices | None = PROFILES.get(name)
    return f"{name}: {profile.about}" if profile else f"{name}: its system instructions"


def as_json() -> dict[str, Any]:
    """Everything."""
    return {name: {k: c._asdict() for k, c in figures(name).items()} for name in names()}

"""The short list of where hardware differs from LLVM: overrides.toml explains its entries.

`apply` changes one core's table in place. A mistake in the file is a TableError that names the
entry.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase, translate
from pathlib import Path
from typing import Any

from emu.arm.a64 import Role, Slot
from emu.cycles.cores.tables import SIXTEENTHS, TABLES, CoreTable, TableError, Timing, read

OVERRIDES = Path(__file__).with_name("overrides.toml")
_COMMON = {"cores": list, "keys": list, "source": str}
_CYCLES = {"cycles": (int, float)}
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "chain": {**_COMMON, **_CYCLES, "through": str, "busy": bool},
    "forward": {**_COMMON, **_CYCLES, "through": str},
    "pair": _COMMON,
    "like": {**_COMMON, "key": str},
    "core": {"cores": list, "source": str, "width": int},
}
_OPTIONAL = {"busy"}
_ROLES = [role.name.lower() for role in Role]


class Override:
    """One entry: what it says and of whom."""

    def __init__(self, kind: str, values: Mapping[str, Any]) -> None:
        self.kind, self.values = kind, values
        self.cores: list[str] = values["cores"]
        self.patterns: list[str] = values.get("keys", [])
        self.source: str = " ".join(values["source"].split())
        self.time = int(values.get("cycles", 0) * SIXTEENTHS)

    def concerns(self, core: str) -> bool:
        return any(fnmatchcase(core, pattern) for pattern in self.cores)

    def __str__(self) -> str:
        what = " ".join(self.patterns) or "width"
        value = self.values.get("cycles", self.values.get("key", self.values.get("width")))
        return f"{self.kind} {what} = {value}: {self.source}"


def load(name: str, *, compatible: bool = False, path: Path = TABLES) -> CoreTable:
    """The timings of a core; pure LLVM's where `compatible`."""
    table = read(name, path)
    if not compatible:
        apply(table, OVERRIDES)
    return table


def apply(table: CoreTable, path: Path) -> None:
    """Put hardware's figures in place of LLVM's: most of them once their key is looked up."""
    mine = [override for override in entries(path) if override.concerns(table.name)]
    changes = [(_matcher(o), _CHANGES[o.kind], o) for o in mine if o.kind in _CHANGES]

    def change(key: str, timing: Timing) -> Timing:
        for matches, changed, override in changes:
            if matches(key):
                timing = changed(table, timing, override)
        return timing

    table.change(change)
    for override in mine:
        if override.kind == "core":
            table.width = override.values["width"]
        elif override.kind == "like":
            _like(table, override, path)
        elif override.kind == "forward":
            _forward(table, override, path)


def _matcher(override: Override) -> Callable[[str], Any]:
    return re.compile("|".join(map(translate, override.patterns))).match


def unmatched(table: CoreTable, path: Path) -> list[str]:
    """Patterns that match no key of a core that they name: mistakes, which a test looks for."""
    known = table.keys()
    return [
        f"{override.kind} {pattern}"
        for override in entries(path) if override.concerns(table.name) and override.kind != "like"
        for pattern in override.patterns if not any(fnmatchcase(key, pattern) for key in known)
    ]  # fmt: skip


@functools.cache
def entries(path: Path) -> tuple[Override, ...]:
    """The file's entries in the order of the file, checked."""
    import tomllib  # only a core that is wanted pays for it

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: {error}") from None
    found = []
    for kind, listed in document.items():
        if kind not in FIELDS or not isinstance(listed, list):
            raise TableError(f"{path}: [[{kind}]] is none of {', '.join(FIELDS)}")
        for number, values in enumerate(listed, 1):
            if problem := _problem(kind, values):
                raise TableError(f"{path}: {kind} {number}: {problem}")
            found.append(Override(kind, values))
    return tuple(found)


def _problem(kind: str, values: Mapping[str, Any]) -> str | None:
    fields = FIELDS[kind]
    for name in values:
        if name not in fields:
            return f"unknown {name}; it may be {', '.join(fields)}"
    for name, expected in fields.items():
        if name not in values and name not in _OPTIONAL:
            return f"{name} is missing"
        if name in values and not isinstance(values[name], expected):
            return f"{name} has the wrong type"
    if values.get("through", "alu") not in _ROLES:
        return f"through is one of {', '.join(_ROLES)}"
    cycles = values.get("cycles", 0) * SIXTEENTHS
    if cycles != int(cycles) or cycles < 0:
        return "cycles are whole sixteenths"
    return None


def _chain(table: CoreTable, timing: Timing, override: Override) -> Timing:
    """The wait between two of a kind is given; consumers of other kinds keep their advances."""
    role = Role[override.values["through"].upper()]
    gained = table.advance(timing, Slot.RESULT, timing, role)
    latency = tuple(
        override.time + gained if value and slot in (Slot.RESULT, Slot.SECOND) else value
        for slot, value in zip(Slot, timing.latency, strict=True)
    )
    if not override.values.get("busy"):
        return timing._replace(latency=latency)
    ports = tuple((resource, override.time) for resource, _ in timing.ports)
    return timing._replace(latency=latency, ports=ports, throughput=override.time)


def _pair(table: CoreTable, timing: Timing, override: Override) -> Timing:
    latency = list(timing.latency)
    latency[Slot.SECOND] = max(latency[Slot.SECOND], latency[Slot.RESULT])
    return timing._replace(latency=tuple(latency))


_CHANGES = {"chain": _chain, "pair": _pair}


def _forward(table: CoreTable, override: Override, path: Path) -> None:
    """Write groups and read groups of their own, and the advance that lies between them."""
    role = Role[override.values["through"].upper()]
    matches = _matcher(override)
    reads: dict[int, int] = {}
    writes: dict[tuple[int, int], int] = {}
    for key in filter(matches, table.keys()):
        timing = table.lookup(key)
        assert timing is not None
        latency, old = timing.latency[Slot.RESULT], timing.writes[Slot.RESULT]
        if (latency - override.time) % SIXTEENTHS:
            raise TableError(f"{path}: forward {key}: an advance is whole cycles")
        write = writes.setdefault((old, latency), len(table.matrix[0]) + len(writes))
        read = reads.setdefault(timing.reads[role], len(table.matrix) + len(reads))
        table.replace(key, timing._replace(
            writes=(write, *timing.writes[1:]),
            reads=tuple(read if r == role else group for r, group in enumerate(timing.reads)),
        ))  # fmt: skip
    table.matrix += [list(table.matrix[old]) for old in reads]
    for row in table.matrix:
        row += [row[old] for old, _ in writes]
    for read in reads.values():
        for (_, latency), write in writes.items():
            table.matrix[read][write] = (latency - override.time) // SIXTEENTHS


def _like(table: CoreTable, override: Override, path: Path) -> None:
    timing = table.lookup(override.values["key"])
    if timing is None:
        raise TableError(f"{path}: like: {table.name} has no key {override.values['key']}")
    table.assume(_matcher(override), timing)

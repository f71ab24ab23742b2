"""The cores' timings: reads tables.json (LLVM's figures) and overrides.toml (hardware's).

tables.json is written by tools/gen_timing.py and holds, for the cores whose models LLVM tells
apart, what each key of the decoder costs. `load(name)` gives a `CoreTable`; other cores borrow a
model (`BORROWED`). Unless `compatible` is asked for, the short list of overrides is applied,
where measured hardware differs from LLVM; each entry of it carries its source.

All times are sixteenths of a cycle. A dependent instruction may issue
`producer.latency[slot] - advance(...)` after its producer: LLVM's ReadAdvance, held as a small
matrix of read groups × write groups. Keys that are absent are unknown: `lookup` says None.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emu.arm.a64 import Role, Slot
from emu.arm.cores import BORROWED
from emu.base.errors import EmuError

HERE = Path(__file__).parent
TABLES = HERE / "tables.json"
SCHEMA = 1
SIXTEENTHS = 16


class TableError(EmuError):
    """A file of timings does not match its schema; names the file and what is wrong."""


class Issue(enum.IntFlag):
    """Rules of in-order issue."""

    NONE = 0
    BEGIN = 1
    """Is the first of those that issue in one cycle."""
    END = 2
    """Is the last of them."""
    OUT_OF_ORDER = 4
    """May write back before what issued earlier has."""


class Resource(NamedTuple):
    """Ports of one kind, or a group of them."""

    name: str
    units: int
    members: tuple[int, ...]
    """Of a group: one entry for each unit it may use; the numbers of other resources."""


class Timing(NamedTuple):
    """What one key costs on one core; times in sixteenths of a cycle."""

    uops: int
    throughput: int
    """Reciprocal throughput."""
    ports: tuple[tuple[int, int], ...]
    """Resources and how long each is busy."""
    latency: tuple[int, ...]
    """By `Slot`; 0 where the key has no such result."""
    writes: tuple[int, ...]
    """Write group by `Slot`."""
    reads: tuple[int, ...]
    """Read group by `Role`."""
    issue: Issue


class CoreTable:
    """One core's timings."""

    def __init__(self, name: str, about: str, part: Mapping[str, Any]) -> None:
        self.name, self.about = name, about
        self.in_order: bool = part["in_order"]
        self.width: int = part["width"]
        self.resources = tuple(Resource(n, u, tuple(m)) for n, u, m in part["resources"])
        self.matrix: list[list[int]] = [list(row) for row in part["advance"]]
        """Advances in whole cycles: read group × write group."""
        self._rows: list[Any] = part["timings"]
        self._numbers: dict[str, int] = {}
        self._timings: dict[str, Timing | None] = {}
        self._assumptions: list[tuple[Callable[[str], Any], Timing]] = []
        self._change: Callable[[str, Timing], Timing] | None = None

    def lookup(self, key: str) -> Timing | None:
        """The timing of a key; None where the model does not know it."""
        try:
            return self._timings[key]
        except KeyError:
            timing = self._timings[key] = self._found(key)
            return timing

    def _found(self, key: str) -> Timing | None:
        number = self._numbers.get(key, -1)
        if number < 0:
            return next((timing for knows, timing in self._assumptions if knows(key)), None)
        timing = _timing(self._rows[number])
        return self._change(key, timing) if self._change else timing

    def keys(self) -> list[str]:
        """All keys of which LLVM's model knows."""
        return [key for key, number in self._numbers.items() if number >= 0]

    def advance(self, producer: Timing, slot: Slot, consumer: Timing, role: Role) -> int:
        """By how much the consumer need not wait for the producer's latency."""
        return self.matrix[consumer.reads[role]][producer.writes[slot]] * SIXTEENTHS

    def wait(self, producer: Timing, slot: Slot, consumer: Timing, role: Role) -> int:
        """How long after its producer the consumer may issue."""
        return max(0, producer.latency[slot] - self.advance(producer, slot, consumer, role))

    def replace(self, key: str, timing: Timing) -> None:
        """Put another timing in place."""
        self._timings[key] = timing

    def change(self, change: Callable[[str, Timing], Timing]) -> None:
        """What happens to each timing before it is first used."""
        self._timings.clear()
        self._change = change

    def assume(self, knows: Callable[[str], Any], timing: Timing) -> None:
        """What keys cost that the model does not know."""
        self._assumptions.append((knows, timing))

    def number(self, numbers: Mapping[str, int]) -> None:
        """Which row of this core each key has."""
        self._numbers = dict(numbers)


def _timing(row: Any) -> Timing:
    uops, throughput, ports, latency, writes, reads, flags = row
    groups = [0] * len(Role)
    for role, group in reads:
        groups[role] = group
    return Timing(
        uops, throughput, tuple((r, c) for r, c in ports), tuple(latency), tuple(writes),
        tuple(groups), Issue(flags),
    )  # fmt: skip


def models(path: Path = TABLES) -> tuple[str, ...]:
    """The cores that the file has."""
    return tuple(_document(path)["cores"])


def read(name: str, path: Path = TABLES) -> CoreTable:
    """The timings of a core as LLVM has them; overrides.py:load puts hardware's over them."""
    document = _document(path)
    cores = document["cores"]
    model = BORROWED.get(name, name)
    if model not in cores:
        names = ", ".join(sorted({*cores, *BORROWED}))
        raise TableError(f"{path.name} has no core {name}; it has {names}")
    at = list(cores).index(model)
    problem = _core_problem(cores[model]) or _class_problem(
        document["classes"], at, len(cores), len(cores[model]["timings"])
    )
    if problem:
        raise TableError(f"{path}: core {model}: {problem}")
    table = CoreTable(name, document["about"], cores[model])
    table.number({
        key: numbers[at] for numbers, keys in document["classes"] for key in keys.split()
    })  # fmt: skip
    return table


@functools.cache
def _document(path: Path) -> Any:
    """The file, read once; what it says of a core is checked when that is wanted."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: {error}") from None
    if problem := _problem(document):
        raise TableError(f"{path}: {problem}")
    return document


def _problem(document: Any) -> str | None:
    """What is wrong with a file as a whole; None when it matches the schema."""
    if not isinstance(document, dict):
        return "is not a table of cores"
    if document.get("schema") != SCHEMA:
        return f"schema is {document.get('schema')!r}, not {SCHEMA}"
    if set(document) != {"about", "schema", "cores", "classes"}:
        return f"has {', '.join(sorted(document))}; expected about, schema, cores, classes"
    if not isinstance(document["cores"], dict) or not document["cores"]:
        return "cores must be a table"
    return None


_PARTS = {"in_order": bool, "width": int, "resources": list, "advance": list, "timings": list}


def _core_problem(part: Any) -> str | None:
    if not isinstance(part, dict) or set(part) != set(_PARTS):
        return f"expected {', '.join(_PARTS)}"
    for key, kind in _PARTS.items():
        if type(part[key]) is not kind:
            return f"{key} must be of type {kind.__name__}"
    count = len(part["resources"])
    for number, resource in enumerate(part["resources"]):
        if not _is_resource(resource, count):
            return f"resource {number} must be name, units and members"
    matrix = part["advance"]
    if not matrix or not all(_integers(row, len(matrix[0])) for row in matrix):
        return "advance must be a matrix of integers"
    for number, row in enumerate(part["timings"]):
        if problem := _row_problem(row, count, len(matrix), len(matrix[0])):
            return f"timing {number}: {problem}"
    return None


def _is_resource(resource: Any, count: int) -> bool:
    return (
        isinstance(resource, list)
        and len(resource) == 3
        and isinstance(resource[0], str)
        and type(resource[1]) is int
        and _integers(resource[2])
        and all(0 <= member < count for member in resource[2])
    )


def _integers(row: Any, length: int | None = None) -> bool:
    return (
        isinstance(row, list)
        and all(type(value) is int for value in row)
        and length in (None, len(row))
    )


def _pairs(items: Any) -> bool:
    return isinstance(items, list) and all(_integers(item, 2) for item in items)


def _row_problem(row: Any, resources: int, reads: int, writes: int) -> str | None:
    if not isinstance(row, list) or len(row) != 7:
        return "must be uops, throughput, ports, latencies, write groups, read groups, flags"
    uops, throughput, ports, latency, groups, roles, flags = row
    if not _integers([uops, throughput, flags]) or min(uops, throughput, flags) < 0:
        return "uops, throughput and flags must be integers from 0"
    if not _pairs(ports) or not all(0 <= p[0] < resources and p[1] > 0 for p in ports):
        return "a port is the number of a resource and a time"
    if not _integers(latency, len(Slot)) or not _integers(groups, len(Slot)) or min(latency) < 0:
        return f"latencies and write groups are {len(Slot)} integers each"
    if not all(0 <= group < writes for group in groups):
        return "there is no such write group"
    if not _pairs(roles) or not all(0 <= r < len(Role) and 0 <= g < reads for r, g in roles):
        return "there is no such role or read group"
    return None


def _class_problem(classes: Any, at: int, cores: int, timings: int) -> str | None:
    if not isinstance(classes, list):
        return "classes must be a list"
    for number, item in enumerate(classes):
        if not (isinstance(item, list) and len(item) == 2 and isinstance(item[1], str)):
            return f"class {number} must be timing numbers and keys"
        if not _integers(item[0], cores):
            return f"class {number} must have one timing for each of {cores} cores"
        if not -1 <= item[0][at] < timings:
            return f"class {number} names a timing that is not there"
    return None

"""Profiles: what a guest finds below it, read from firmware/*.toml.

A profile says which interface each conduit leads to, which services answer with which
options, which firmware registers there are and what the device tree promises. `extends`
makes a profile the difference from its parent, so the folder reads as a history. The table
`[el3]` describes the firmware below in the same words, another profile's where it `extends` one,
and a rule or `unknown` that is "down" passes calls there. A profile runs no code; every key is
checked (`schema.py`), and a mistake is reported with file and line. The comment behind a value is
its source, kept so that `explain` can show it.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from emu.base.errors import ProfileError, one_line
from emu.base.smccc import Conduit
from emu.world.modes import DEFAULTS, parse_modes
from emu.world.policy import FwReg, Policy, RegisterKind
from emu.world.schema import LEVELS, problems, table

if TYPE_CHECKING:
    from pathlib import Path

MAX_DEPTH = 32
CONDUITS = {"el2": tuple(Conduit), "el3": (Conduit.SMC,)}
"""What reaches each level: an HVC ends at EL2 (DDI 0487, HVC and SMC)."""


@dataclass(frozen=True, slots=True)
class DeviceTreePromise:
    """What the profile's device tree tells a guest before it makes a call (abi/E §E10)."""

    method: str = ""
    compatible: tuple[str, ...] = ()
    cells: tuple[tuple[str, int], ...] = ()
    hypervisor: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.method:
            return "no /psci"
        hypervisor = f" and /hypervisor {self.hypervisor[0]}" if self.hypervisor else ""
        return f"/psci {' '.join(self.compatible[:1])} by {self.method}{hypervisor}"


@dataclass(frozen=True, slots=True)
class VmmRules:
    """Where kernels differ towards the VMM (ioctls.py, vcpu.py), as recorded from them.

    `known_features` counts the vCPU features the kernel has names for, `supported_features` are
    those a Cortex-A72 host offers. `features_vm_wide`: all vCPUs share one set, POWER_OFF apart.
    `empty_filter_is_all`: a filter range of nothing at 0 wraps to cover everything.
    """

    known_features: int = 7
    supported_features: tuple[int, ...] = (0, 1, 2, 3)
    features_vm_wide: bool = False
    empty_filter_is_all: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """One hypervisor or firmware, complete.

    `rules` maps a conduit to {immediate: interface}, with "other" for the rest. `unknown` is
    the reply to a function nobody has. `reply_registers` is how many of x0–x3 an answer
    writes, a longer result apart; `full_identifier` whether x0 is compared whole instead of w0.
    `trap_costs` is what a trap costs below it (trap_prices.py) where a core model counts cycles.
    `modes` holds a value for every row of `modes.py`. `sources` holds the comment beside each
    dotted key, `places` its file and line. `level` is the exception level it stands at, `below`
    the firmware that calls are passed down to, None where there is none.
    """

    name: str
    title: str
    lineage: tuple[str, ...]
    rules: Mapping[str, Mapping[str, str]]
    unknown: str
    reply_registers: int
    full_identifier: bool
    sve_hint: bool
    services: Mapping[str, Mapping[str, Any]]
    policy: Policy
    promise: DeviceTreePromise
    modes: Mapping[str, str] = field(default_factory=lambda: DEFAULTS)
    vmm: VmmRules = VmmRules()
    trap_costs: str = "zero"
    level: str = LEVELS[0]
    below: Profile | None = None
    sources: Mapping[str, str] = field(repr=False, default_factory=dict)
    places: Mapping[str, str] = field(repr=False, default_factory=dict)

    def interface(self, conduit: Conduit, imm: int) -> str:
        """Where this instruction leads: to an ABI by its name, or to one of `schema.FIXED`."""
        rule = self.rules[conduit]
        return rule.get(str(imm), rule["other"])

    def leads_to(self, interface: str) -> bool:
        """Whether any instruction leads there."""
        return any(interface in rule.values() for rule in self.rules.values())

    def levels(self) -> tuple[Profile, ...]:
        """Itself, and what is below it."""
        return (self, *(self.below.levels() if self.below else ()))

    def tables(self) -> dict[str, Any]:
        """What one TOML file that extends no other would hold; the inverse of `profile_of`."""
        promise = self.promise
        return {
            **self._level_tables(), "level": self.level,
            **({self.below.level: self.below._level_tables()} if self.below else {}),
            "device_tree": {
                **({"method": promise.method} if promise.method else {}),
                "compatible": list(promise.compatible),
                "cells": dict(promise.cells),
                "hypervisor": list(promise.hypervisor),
            },
            "trap_costs": self.trap_costs,
            "vmm": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.vmm).items()},
        }

    def _level_tables(self) -> dict[str, Any]:
        policy = self.policy
        return {
            "title": self.title, "unknown": self.unknown,
            "reply_registers": self.reply_registers, "full_identifier": self.full_identifier,
            "sve_hint": self.sve_hint, "filter": policy.filterable,
            **{c: dict(rules) for c, rules in self.rules.items() if c in CONDUITS[self.level]},
            "services": {name: dict(options) for name, options in self.services.items()},
            "registers": {name: _register_table(r) for name, r in policy.definitions.items()},
            "modes": dict(self.modes),
        }  # fmt: skip

    def with_modes(self, modes: Mapping[str, Any]) -> Profile:
        """The same profile with some modes chosen otherwise."""
        return replace(self, modes=parse_modes(modes, self.modes)) if modes else self

    def place(self, *path: str) -> str:
        """File and line of a key, or of the nearest table above it; at least the file."""
        return _nearest(self.places, path) or self.name

    def source(self, *path: str) -> str:
        """The comment beside a key, or beside the nearest table above it."""
        return _nearest(self.sources, path)


def profile_of(
    name: str,
    lineage: tuple[str, ...],
    tables: Mapping[str, Any],
    sources: Mapping[str, str],
    places: Mapping[str, str],
) -> Profile:
    """A profile from its resolved tables, with the checks a file gets."""
    if not isinstance(tables, dict):
        raise ProfileError(one_line(f"profile {name} is no table"))
    for key, message in problems(tables):
        raise ProfileError(one_line(f"profile {name}: {key}: {message}"))
    return replace(_build((name, *lineage), tables, sources, places), lineage=lineage)


def _register_table(register: FwReg) -> dict[str, Any]:
    return {
        "id": register.id, "kind": str(register.kind), "reset": register.reset,
        "limit": register.limit, "values": list(register.values),
    }  # fmt: skip


def _nearest(texts: Mapping[str, str], path: tuple[str, ...]) -> str:
    for end in range(len(path), -1, -1):
        if text := texts.get(".".join(path[:end])):
            return text
    return ""


def data_path(*parts: str) -> str:
    """Where data lies inside the package: `firmware` or `guests`, or a file in one of them.

    Texts and no `pathlib`: a run of a tiny guest would spend a thirtieth on importing that.
    """
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), *parts)


def data_folder(name: str) -> Path:
    """The same as a `Path`."""
    from pathlib import Path

    return Path(data_path(name))


DEFAULT_PROFILE = "kvm-6.12"
"""Of every command and class that is not told another: Debian 13 has this kernel."""


def profile_names() -> list[str]:
    """Every profile that ships, kernels in the order of their versions."""
    names = (_stem(p) for p in os.listdir(data_path("firmware")) if p.endswith(".toml"))
    return sorted(names, key=lambda n: [int(p) if p.isdigit() else p for p in _pieces(n)])


def _pieces(name: str) -> list[str]:
    # A digit run and a text run alternate, so that lists compare position by position.
    return re.split(r"(\d+)", name)


def load_profile(name: str) -> Profile:
    """Read a profile by its name, or by the path of a TOML file of one's own."""
    return _read(name) if name.endswith(".toml") else _shipped(name)


@functools.cache
def _shipped(name: str) -> Profile:
    return _read(_path_of(name))


def _read(path: str) -> Profile:
    files = _chain(path)
    tables: dict[str, Any] = {}
    sources: dict[str, str] = {}
    places: dict[str, str] = {}
    for document in reversed(files):
        tables = _merge(tables, document.data)
        # A value that is overridden takes its parent's comment with it.
        kept = {key: text for key, text in sources.items() if key not in document.leaves}
        sources = {**kept, **document.sources}
        places = {**places, **document.places, "": document.path}
    below = tables.get(LEVELS[1])
    if isinstance(below, dict) and "extends" in below:
        tables, sources, places = _extend_below(tables, sources, places)
    return _build(tuple(_stem(file.path) for file in files), tables, sources, places)


def _extend_below(
    tables: dict[str, Any], sources: dict[str, str], places: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """The table of the level below, put over the profile that it extends."""
    name = LEVELS[1]
    own = dict(tables[name])
    place = _nearest(places, (name, "extends"))
    try:
        found = own.pop("extends")
        parent = _read(_beside(place.rpartition(":")[0], found))
    except ProfileError as error:
        raise ProfileError(f"{place}: {error}") from None
    if parent.below or parent.level != name:
        why = "has a level below it" if parent.below else f"is one of {parent.level}"
        raise ProfileError(one_line(f"{place}: {found} cannot be {name}: it {why}"))
    merged = _merge(parent._level_tables(), own)
    return (
        {**tables, name: merged},
        {**{f"{name}.{key}": text for key, text in parent.sources.items()}, **sources},
        {**{f"{name}.{key}": text for key, text in parent.places.items() if key}, **places},
    )


def _path_of(name: str) -> str:
    names = profile_names()
    if name in names:
        return data_path("firmware", f"{name}.toml")
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`hvcemu profiles` lists them"
    raise ProfileError(one_line(f"unknown profile {name}: {hint}"))


def _chain(path: str) -> list[_Document]:
    """A file and all it extends, itself first."""
    files = [_Document(path)]
    while "extends" in (last := files[-1]).data:
        try:
            above = _parent(last)
        except ProfileError as error:
            raise last.error("extends", str(error)) from None
        if len(files) > MAX_DEPTH or any(_same(above, file.path) for file in files):
            raise last.error("extends", f"{_stem(path)} extends itself")
        files.append(_Document(above))
    return files


def _parent(document: _Document) -> str:
    return _beside(document.path, document.data.pop("extends"))


def _beside(path: str, name: str) -> str:
    """Beside a file of one's own, another such file is found before the profile that ships."""
    beside = os.path.join(
        os.path.dirname(path), name if name.endswith(".toml") else f"{name}.toml"
    )
    if name.endswith(".toml") or os.path.isfile(beside):
        return beside
    return _path_of(name)


def _stem(path: str) -> str:
    return os.path.basename(path).removesuffix(".toml")


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; `false` in place of a table removes the parent's."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = _merge(old, value)
        elif value is False and isinstance(old, dict):
            del merged[key]
        else:
            merged[key] = value
    return merged


class _Document:
    """One TOML file: its data, and for each key its line and the comment beside it."""

    _HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#\s*(.*))?$")
    # A value ends at the first # outside quotes.
    _KEY = re.compile(
        r"""\s*["']?([\w.-]+)["']?\s*="""
        r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|[^#"'])*(?:#\s*(.*))?$"""
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: dict[str, int] = {}
        self.sources: dict[str, str] = {}
        self.leaves: set[str] = set()
        text = self._text()
        self.data = self._parse(text)
        self._index(text)
        for key, message in problems(self.data):
            raise self.error(key, message)

    def _text(self) -> str:
        try:
            with open(self.path, "rb") as file:
                data = file.read()
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise self._refuse(line, "not UTF-8 text") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
            raise self._refuse(None, getattr(error, "strerror", None) or str(error)) from None

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            # "(at line 1, column 9)" or "(at end of document)"
            message, _, place = str(error).rpartition(" (at ")
            line = re.match(r"line (\d+)", place)
            last = max(1, len(text.splitlines()))
            raise self._refuse(int(line[1]) if line else last, message) from None
        except (ValueError, RecursionError) as error:  # a number too long, lists too deep
            raise self._refuse(None, str(error)) from None

    def _index(self, text: str) -> None:
        table = ""
        for number, line in enumerate(text.split("\n"), 1):
            if match := self._HEADER.match(line):
                key = re.sub(r"\s*\.\s*", ".", re.sub("[\"']", "", match[1]))
                table = key + "."
            elif match := self._KEY.match(line):
                key = table + match[1]
                self.leaves.add(key)
            else:
                continue
            self.lines.setdefault(key, number)
            if match[2]:
                self.sources[key] = match[2].strip()

    @property
    def places(self) -> dict[str, str]:
        """File and line of each key."""
        return {key: f"{self.path}:{line}" for key, line in self.lines.items()}

    def error(self, key: str, message: str) -> ProfileError:
        """A `ProfileError` that names the file and the line of `key`, or of its table."""
        while key and key not in self.lines:
            below = [line for k, line in self.lines.items() if k.startswith(key + ".")]
            if below:
                return self._refuse(min(below), message)
            key = key.rpartition(".")[0]
        return self._refuse(self.lines.get(key), message)

    def _refuse(self, line: int | None, message: str) -> ProfileError:
        return ProfileError(one_line(f"{self.path}{f':{line}' if line else ''}: {message}"))


def _build(
    lineage: tuple[str, ...],
    tables: Mapping[str, Any],
    sources: Mapping[str, str],
    places: Mapping[str, str],
) -> Profile:
    name = lineage[0]
    services = table(tables, "services")
    return Profile(
        name=name,
        title=tables.get("title", name),
        lineage=lineage,
        rules={c: {"other": "undef", **table(tables, c)} for c in Conduit},
        unknown=tables.get("unknown", "not-supported"),
        reply_registers=tables.get("reply_registers", 4),
        full_identifier=tables.get("full_identifier", False),
        sve_hint=tables.get("sve_hint", False),
        services={key: options for key, options in services.items() if options is not False},
        policy=_build_policy(tables, places),
        promise=_build_promise(table(tables, "device_tree")),
        modes=parse_modes(table(tables, "modes")),
        vmm=_build_vmm(table(tables, "vmm")),
        trap_costs=tables.get("trap_costs", "zero"),
        level=tables.get("level", LEVELS[0]),
        below=_build_below(lineage, tables, sources, places),
        sources=sources,
        places=places,
    )


def _build_below(
    lineage: tuple[str, ...],
    tables: Mapping[str, Any],
    sources: Mapping[str, str],
    places: Mapping[str, str],
) -> Profile | None:
    """The level below, where there is one; a "down" that leads nowhere is refused."""
    level = LEVELS[1]
    inside = table(tables, level)
    down = _find_down(tables)
    place = _nearest(places, (down or level,)) or lineage[0]
    if not inside:
        if down:
            raise ProfileError(one_line(f"{place}: {down} leads down, and nothing is below"))
        return None
    if lower := _find_down(inside):
        where = _nearest(places, (level, *lower.split(".")))
        raise ProfileError(one_line(f"{where}: {level}.{lower} leads down, and nothing is below"))
    if not down or down.startswith("hvc"):
        raise ProfileError(one_line(
            f"{place}: nobody listens at {level}: let [smc] or unknown lead there, as \"down\""
        ))  # fmt: skip
    return _build(
        (f"{lineage[0]}:{level}",), {**inside, "level": level}, _inside(level, sources),
        _inside(level, places),
    )  # fmt: skip


def _find_down(tables: Mapping[str, Any]) -> str:
    """The dotted key of what leads to the level below; "" where nothing does, SMC before HVC."""
    if tables.get("unknown") == "down":
        return "unknown"
    for conduit in reversed(Conduit):
        for imm, interface in table(tables, conduit).items():
            if interface == "down":
                return f"{conduit}.{imm}"
    return ""


def _inside(level: str, texts: Mapping[str, str]) -> dict[str, str]:
    """The texts of a level's keys, by their names inside it."""
    start = f"{level}."
    found = {key.removeprefix(start): text for key, text in texts.items() if key.startswith(start)}
    whole = texts.get(level) or texts.get("")
    return found | ({"": whole} if whole else {})


def _build_policy(tables: Mapping[str, Any], places: Mapping[str, str]) -> Policy:
    definitions = {}
    for name, row in table(tables, "registers").items():
        if row is False:
            continue
        for key in ("id", "kind", "reset", "limit"):
            if key not in row:
                place = _nearest(places, ("registers", name))
                raise ProfileError(one_line(f"{place}: register {name} lacks {key}"))
        values = tuple(row.get("values", ()))
        definitions[name] = FwReg(
            name, row["id"], RegisterKind(row["kind"]), row["reset"], row["limit"], values
        )
    return Policy.of(definitions, filterable=tables.get("filter", False))


def _build_vmm(rules: Mapping[str, Any]) -> VmmRules:
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in rules.items()}
    return VmmRules(**known)


def _build_promise(promise: Mapping[str, Any]) -> DeviceTreePromise:
    return DeviceTreePromise(
        method=promise.get("method", ""),
        compatible=tuple(promise.get("compatible", ())),
        cells=tuple(table(promise, "cells").items()),
        hypervisor=tuple(promise.get("hypervisor", ())),
    )

"""The combinations of a matrix: each guest in each world, as cells that are run one by one.

Axes are multiplied out in a fixed order, guests slowest, so that the same command gives the same
cells in the same order. A cell knows its names for people; its `Setup` has all that a run needs,
with absolute paths, so that any process on any machine that sees the files can run it.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from emu.arm.cores import DEFAULT_CORE
from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.judge.trial import Outcome, Setup
from emu.world.monitor import El2
from emu.world.profile import load_profile, profile_names

MIB = 1 << 20
_WILD = frozenset("*?[")


class Guest(NamedTuple):
    """An image under the name it has in tables."""

    name: str
    path: str


class Axes(NamedTuple):
    """What is varied. `vary_services` withholds each feature of each profile in turn."""

    guests: Sequence[Guest]
    profiles: Sequence[str]
    conduits: Sequence[str] = ("",)
    cpus: Sequence[int] = (1,)
    cores: Sequence[str] = (DEFAULT_CORE,)
    memories: Sequence[int] = (64 * MIB,)
    seeds: Sequence[int] = (0,)
    vary_services: bool = False


class Cell(NamedTuple):
    """A place in the matrix: the names of guest and profile as typed, and the whole setup."""

    guest: str
    profile: str
    setup: Setup

    @property
    def services(self) -> str:
        """The switches as `--services` takes them."""
        return switches_text(self.setup.services)

    @property
    def key(self) -> str:
        """What makes two cells the same one in two runs: all but paths and limits."""
        fixed = self.setup._replace(image=self.guest, profile=self.profile, seconds=0, cycles=None)
        return json.dumps(fixed, separators=(",", ":"))

    def __str__(self) -> str:
        setup = self.setup
        parts = (
            self.guest, self.profile, setup.conduit, f"×{setup.cpus}" * (setup.cpus > 1),
            setup.core * (setup.core != Setup("").core), self.services,
            size_text(setup.memory) * (setup.memory != Setup("").memory),
            f"seed={setup.seed}" * (setup.seed != 0),
        )  # fmt: skip
        return " ".join(filter(None, parts))


class Result(NamedTuple):
    """A cell and what came of it; `digest` is the SHA-256 of the image."""

    cell: Cell
    outcome: Outcome
    digest: str = ""


def switches_text(switches: Iterable[tuple[str, bool]]) -> str:
    """(("trng", False), ("ptp", True)) as -trng,+ptp."""
    return ",".join(f"{'+' if on else '-'}{name}" for name, on in switches)


def cells_text(count: int) -> str:
    """So many cells."""
    return f"{count:,} cell{'s' * (count != 1)}"


def size_text(size: int) -> str:
    """A size as `--mem` takes it."""
    for unit, letter in ((1 << 30, "G"), (MIB, "M"), (1 << 10, "K")):
        if size and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def is_good(outcome: Outcome, allowed: frozenset[int] = frozenset()) -> bool:
    """Healthy, or without verdict at an exit status of the guest's that is allowed."""
    if outcome.ending is Ending.EXIT and outcome.status in allowed:
        return not outcome.verdicts
    return outcome.healthy


def make_cells(axes: Axes, base: Setup) -> list[Cell]:
    """Every combination once; `base` has what all of them share."""
    cells: dict[str, Cell] = {}
    varied = {name: _variations(name, axes, base) for name in axes.profiles}
    for guest, profile in itertools.product(axes.guests, axes.profiles):
        for conduit, cpus, core, memory, seed, services in itertools.product(
            axes.conduits, axes.cpus, axes.cores, axes.memories, axes.seeds, varied[profile]
        ):
            setup = base._replace(
                image=os.path.abspath(guest.path), profile=_place(profile), conduit=conduit,
                cpus=cpus, core=core, memory=memory, seed=seed, services=services,
            )  # fmt: skip
            cell = Cell(guest.name, profile, setup)
            cells.setdefault(cell.key, cell)
    return list(cells.values())


def _place(profile: str) -> str:
    """Other processes may have another working directory."""
    return os.path.abspath(profile) if profile.endswith(".toml") else profile


def _variations(profile: str, axes: Axes, base: Setup) -> list[tuple[tuple[str, bool], ...]]:
    if not axes.vary_services:
        return [base.services]
    off = {name for name, on in base.services if not on}
    features = [name for name in El2(profile).features() if name not in off]
    return [base.services, *((*base.services, (name, False)) for name in features)]


# -- what a user names --------------------------------------------------------------------------


def find_profiles(patterns: str) -> list[str]:
    """Profiles by names, shell patterns and TOML files, separated by commas; each is read once.

    A pattern stands for profiles that ship; EmuError where one matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        found |= dict.fromkeys(_matching(pattern))
    if not found:
        raise EmuError("--profile names no profile; `hvcemu profiles` lists them")
    for name in found:
        load_profile(name)
    return list(found)


def _matching(pattern: str) -> list[str]:
    if pattern.endswith(".toml") or not _WILD & set(pattern):
        return [pattern]
    names = profile_names()
    if matched := fnmatch.filter(names, pattern):
        return matched
    import difflib  # only a mistake needs it

    plain = "".join(c for c in pattern if c not in _WILD)
    near = difflib.get_close_matches(plain, names, n=3, cutoff=0.3)
    hint = f"near are {', '.join(near)}" if near else "`hvcemu profiles` lists them"
    raise EmuError(f"no profile matches {pattern}: {hint}")


def guests_below(folder: str) -> list[Guest]:
    """Every *.elf below a folder, named by its way from there; EmuError where there is none."""
    top = Path(folder)
    paths = sorted(path for path in top.rglob("*.elf") if path.is_file())
    if not paths:
        raise EmuError(f"{folder}: no *.elf lies below this folder; name the images themselves")
    return [Guest(str(path.relative_to(top).with_suffix("")), str(path)) for path in paths]


def guest_named(path: str) -> Guest:
    """A file under its short name."""
    return Guest(Path(path).name.removesuffix(".elf"), path)


def distinct(guests: Iterable[Guest]) -> list[Guest]:
    """Each file once; two files of one name are told apart by their paths."""
    once = {os.path.realpath(guest.path): guest for guest in guests}.values()
    names = [guest.name for guest in once]
    return [g if names.count(g.name) == 1 else g._replace(name=g.path) for g in once]

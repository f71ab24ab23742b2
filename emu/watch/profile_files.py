"""`hvcemu run --profile-out`: who called whom at what cost, for the tools people know.

Three forms, by the name of the file: `.folded` is a stack a line with its cycles, as flame graphs
are drawn from (github.com/brendangregg/FlameGraph); `.json` is speedscope's, a profile for each
vCPU (speedscope's file-format-schema.json); all else is callgrind's (valgrind's manual, "Callgrind
Format Specification"), which KCachegrind opens. Weights are whole cycles: what is lost of a
fraction comes with the next frame, so that the sum is the vCPUs' time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emu.base.errors import EmuError
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tracks import Frame, Kind
from emu.machine.vm import Vm
from emu.watch.ledger import Ledger


def write_profile(vm: Vm, path: str, command: str) -> None:
    """Write the file; EmuError where it cannot be."""
    ledger = Ledger(vm)
    suffix = Path(path).suffix
    lines = (
        folded(ledger) if suffix == ".folded"
        else [json.dumps(speedscope(ledger, command))] if suffix == ".json"
        else callgrind(ledger, command, vm.image.path)
    )  # fmt: skip
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise EmuError(f"--profile-out {path}: {error.strerror}") from None


def _stacks(ledger: Ledger) -> Iterator[tuple[list[int], int]]:
    """Each frame that has cost something: the indices from its vCPU to it, and its cycles."""
    paths: list[list[int]] = []
    carried = 0
    for n, frame in enumerate(ledger.frames):
        paths.append([*(paths[frame.parent] if frame.parent != n else []), n])
        whole, carried = divmod(frame.sixteenths + carried, SIXTEENTHS)
        if whole:
            yield paths[n], whole


def folded(ledger: Ledger) -> Iterator[str]:
    """A stack a line."""
    names = [ledger.name(frame).replace(";", ",") for frame in ledger.frames]
    for path, cycles in _stacks(ledger):
        yield f"{';'.join(names[n] for n in path)} {cycles}"


def speedscope(ledger: Ledger, command: str) -> dict[str, Any]:
    """The same as speedscope wants it."""
    names = list(dict.fromkeys(ledger.name(frame) for frame in ledger.frames))
    index = {name: n for n, name in enumerate(names)}
    places = [index[ledger.name(frame)] for frame in ledger.frames]
    profiles: dict[int, dict[str, Any]] = {}
    for path, cycles in _stacks(ledger):
        profile = profiles.setdefault(path[0], {
            "type": "sampled", "name": ledger.name(ledger.frames[path[0]]), "unit": "none",
            "startValue": 0, "endValue": 0, "samples": [], "weights": [],
        })  # fmt: skip
        profile["samples"].append([places[n] for n in path])
        profile["weights"].append(cycles)
        profile["endValue"] += cycles
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": command,
        "exporter": "hvcemu",
        "shared": {"frames": [{"name": name} for name in names]},
        "profiles": list(profiles.values()),
    }


def callgrind(ledger: Ledger, command: str, image: str) -> Iterator[str]:
    """The same for KCachegrind and callgrind_annotate."""
    yield from (
        "# callgrind format", "version: 1", "creator: hvcemu", f"cmd: {command}",
        "positions: instr", "events: Cycles Instructions", "", f"ob={image}", f"fl={image}",
    )  # fmt: skip
    frames = ledger.frames
    within = [cycles // SIXTEENTHS for cycles in ledger.within]
    own = {path[-1]: cycles for path, cycles in _stacks(ledger)}
    below: dict[int, list[int]] = {}
    for n, frame in enumerate(frames):
        if frame.parent != n:
            below.setdefault(frame.parent, []).append(n)
    for n, frame in enumerate(frames):
        here = _position(frame)
        yield f"fn={ledger.name(frame)}"
        yield f"{here} {own.get(n, 0)} {frame.instructions}"
        for child in below.get(n, ()):
            yield f"cfn={ledger.name(frames[child])}"
            yield f"calls={max(frames[child].calls, 1)} {_position(frames[child])}"
            yield f"{here} {within[child]} {ledger.instructions[child]}"
        yield ""
    yield f"totals: {sum(own.values())} {sum(frame.instructions for frame in frames)}"


def _position(frame: Frame) -> str:
    return f"{frame.key:#x}" if frame.kind == Kind.FUNCTION else "0x0"

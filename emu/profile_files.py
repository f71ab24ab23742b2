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

from emu.cost import SIXTEENTHS
from emu.errors import EmuError
from emu.spending import Spending
from emu.tracks import Frame, Kind
from emu.vm import Vm


def write_profile(vm: Vm, path: str, command: str) -> None:
    """Write the file; EmuError where it cannot be."""
    spending = Spending(vm)
    suffix = Path(path).suffix
    lines = (
        folded(spending) if suffix == ".folded"
        else [json.dumps(speedscope(spending, command))] if suffix == ".json"
        else callgrind(spending, command, vm.image.path)
    )  # fmt: skip
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise EmuError(f"--profile-out {path}: {error.strerror}") from None


def _stacks(spending: Spending) -> Iterator[tuple[list[int], int]]:
    """Each frame that has cost something: the indices from its vCPU to it, and its cycles."""
    paths: list[list[int]] = []
    carried = 0
    for n, frame in enumerate(spending.frames):
        paths.append([*(paths[frame.parent] if frame.parent != n else []), n])
        whole, carried = divmod(frame.sixteenths + carried, SIXTEENTHS)
        if whole:
            yield paths[n], whole


def folded(spending: Spending) -> Iterator[str]:
    """A stack a line."""
    names = [spending.name(frame).replace(";", ",") for frame in spending.frames]
    for path, cycles in _stacks(spending):
        yield f"{';'.join(names[n] for n in path)} {cycles}"


def speedscope(spending: Spending, command: str) -> dict[str, Any]:
    """The same as speedscope wants it."""
    names = list(dict.fromkeys(spending.name(frame) for frame in spending.frames))
    index = {name: n for n, name in enumerate(names)}
    places = [index[spending.name(frame)] for frame in spending.frames]
    profiles: dict[int, dict[str, Any]] = {}
    for path, cycles in _stacks(spending):
        profile = profiles.setdefault(path[0], {
            "type": "sampled", "name": spending.name(spending.frames[path[0]]), "unit": "none",
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


def callgrind(spending: Spending, command: str, image: str) -> Iterator[str]:
    """The same for KCachegrind and callgrind_annotate."""
    yield from (
        "# callgrind format", "version: 1", "creator: hvcemu", f"cmd: {command}",
        "positions: instr", "events: Cycles Instructions", "", f"ob={image}", f"fl={image}",
    )  # fmt: skip
    frames = spending.frames
    within = [cycles // SIXTEENTHS for cycles in spending.within]
    own = {path[-1]: cycles for path, cycles in _stacks(spending)}
    below: dict[int, list[int]] = {}
    for n, frame in enumerate(frames):
        if frame.parent != n:
            below.setdefault(frame.parent, []).append(n)
    for n, frame in enumerate(frames):
        here = _position(frame)
        yield f"fn={spending.name(frame)}"
        yield f"{here} {own.get(n, 0)} {frame.instructions}"
        for child in below.get(n, ()):
            yield f"cfn={spending.name(frames[child])}"
            yield f"calls={max(frames[child].calls, 1)} {_position(frames[child])}"
            yield f"{here} {within[child]} {spending.instructions[child]}"
        yield ""
    yield f"totals: {sum(own.values())} {sum(frame.instructions for frame in frames)}"


def _position(frame: Frame) -> str:
    return f"{frame.key:#x}" if frame.kind == Kind.FUNCTION else "0x0"

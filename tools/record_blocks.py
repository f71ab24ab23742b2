"""Records which blocks a program runs, how often, and which follows which.

    python tools/record_blocks.py --interpreter LD --out FILE.json PROGRAM -- ARGUMENTS

A core model (emu/cycles/cores) can then be tried on the recording in a moment, and it can be
handed to other tools. `--less` names arguments of a shorter run to subtract, so that start-up
drops out of benchmarks whose length is an argument.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from user_program import VECTORS, UserProgram  # noqa: E402

from emu.arm.arch import VECTOR_TABLE  # noqa: E402
from emu.base.errors import EmuError  # noqa: E402
from emu.engine.cpu import BLOCK_CALLBACK, HOOK_BLOCK  # noqa: E402


class Recording(NamedTuple):
    """Blocks by (address, bytes) and pairs of them, each with how often."""

    blocks: Counter[tuple[int, bytes]]
    edges: Counter[tuple[tuple[int, bytes], tuple[int, bytes]]]
    instructions: int

    def minus(self, other: Recording) -> Recording:
        """What this run did more than a shorter one."""
        blocks, edges = Counter(self.blocks), Counter(self.edges)
        blocks.subtract(other.blocks)
        edges.subtract(other.edges)
        return Recording(+blocks, +edges, self.instructions - other.instructions)


def record(program: UserProgram) -> Recording:
    """Run a program and note its blocks."""
    blocks: Counter[tuple[int, int]] = Counter()
    edges: Counter[tuple[tuple[int, int], tuple[int, int]]] = Counter()
    last = (0, 0)

    def on_block(_uc: int, address: int, size: int, _user: int) -> None:
        nonlocal last
        if VECTORS <= address < VECTORS + VECTOR_TABLE:  # a system call: not the program's
            return
        block = address, size
        blocks[block] += 1
        edges[last, block] += 1
        last = block

    program.engine.cpu.hook(HOOK_BLOCK, BLOCK_CALLBACK(on_block))
    done = program.run()
    code = {block: (block[0], program.engine.read(*block)) for block in blocks}
    code[0, 0] = 0, b""
    return Recording(
        Counter({code[block]: count for block, count in blocks.items()}),
        Counter({(code[a], code[b]): count for (a, b), count in edges.items()}),
        done.instructions,
    )


def to_json(recording: Recording) -> dict[str, Any]:
    """The form on disk: edges are [from, to, count] by index."""
    places = {block: n for n, block in enumerate(sorted(recording.blocks))}
    return {
        "instructions": recording.instructions,
        "blocks": [[a, code.hex(), recording.blocks[a, code]] for a, code in places],
        "edges": [
            [places[a], places[b], count]
            for (a, b), count in sorted(recording.edges.items())
            if a in places and b in places
        ],
    }


def from_json(data: dict[str, Any]) -> Recording:
    """The way back."""
    blocks = [(address, bytes.fromhex(code)) for address, code, _ in data["blocks"]]
    counts = [count for _, _, count in data["blocks"]]
    edges = {(blocks[a], blocks[b]): count for a, b, count in data["edges"]}
    return Recording(
        Counter(dict(zip(blocks, counts, strict=True))), Counter(edges), data["instructions"]
    )


def record_path(path: Path, words: Sequence[str], interpreter: Path | None) -> Recording:
    return record(UserProgram(path, words, interpreter=interpreter))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="record_blocks.py", description=__doc__.split("\n")[0])
    parser.add_argument("--interpreter", type=Path, help="the program's dynamic linker")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--less", help="the arguments of a shorter run, in one word")
    parser.add_argument("program", type=Path)
    parser.add_argument("argument", nargs="*")
    options = parser.parse_args(arguments)
    try:
        found = record_path(options.program, options.argument, options.interpreter)
        if options.less is not None:
            less = record_path(options.program, options.less.split(), options.interpreter)
            found = found.minus(less)
    except EmuError as error:
        print(f"record_blocks: {error}", file=sys.stderr)
        return 2
    options.out.write_text(json.dumps(to_json(found)))
    print(f"{len(found.blocks)} blocks, {len(found.edges)} edges, "
          f"{found.instructions:,} instructions")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Recordings: blocks with counts, and who follows whom."""

from __future__ import annotations

import json

import record_blocks

from engine_kit import add, mov, subs, svc
from program_kit import BASE, EXIT, elf

CBNZ_BACK = 0xB500_0000 | (-2 & 0x7_FFFF) << 5 | 1


def turns(count: int) -> list[int]:
    """A loop of three instructions, so often."""
    body = [add(2, 2, 1), subs(1, 1, 1), CBNZ_BACK]
    return [*mov(1, count), *body, *mov(0, 0), *mov(8, EXIT), svc()]


def recorded(tmp_path, count: int):
    path = tmp_path / f"turns-{count}"
    path.write_bytes(elf(turns(count)))
    return record_blocks.record_path(path, [], None)


def test_what_ran_and_how_often(tmp_path):
    found = recorded(tmp_path, 10)
    counts = {address: count for (address, _), count in found.blocks.items()}
    loop = BASE + 0x104
    assert counts[loop] == 9, "the first turn belongs to the block before"
    assert found.instructions == sum(
        count * (len(code) // 4) for (_, code), count in found.blocks.items()
    )
    assert sum(found.edges[a, b] for a, b in found.edges if a[0] == b[0] == loop) == 8


def test_a_shorter_run_is_subtracted(tmp_path):
    less = recorded(tmp_path, 30).minus(recorded(tmp_path, 10))
    assert less.instructions == 60
    assert less.blocks[BASE + 0x104, less_code(tmp_path)] == 20


def less_code(tmp_path) -> bytes:
    """The loop's bytes."""
    return (tmp_path / "turns-10").read_bytes()[0x104:0x110]


def test_there_and_back(tmp_path):
    found = recorded(tmp_path, 5)
    again = record_blocks.from_json(json.loads(json.dumps(record_blocks.to_json(found))))
    assert again.blocks == found.blocks
    assert again.instructions == found.instructions
    assert sum(again.edges.values()) == sum(found.edges.values()) - 1, "nothing before the first"


def test_the_command_line(tmp_path, capsys):
    path, out = tmp_path / "program", tmp_path / "out.json"
    path.write_bytes(elf(turns(3)))
    assert record_blocks.main(["--out", str(out), "--less", "", str(path)]) == 0
    assert "0 blocks" in capsys.readouterr().out
    assert json.loads(out.read_text())["blocks"] == []
    assert record_blocks.main(["--out", str(out), str(tmp_path / "none")]) == 2



"""Draw docs/rooms.svg, the house of emu/: its rooms, and which of them import which.

    python tools/draw_rooms.py           # writes the picture
    python tools/draw_rooms.py --check   # is it what the code says? 1 if not

The rooms lie one above the other in their order (rooms.py), the first at the bottom. From each a
line runs to the right and turns up, past those that may import from it; a dot is one that does.
Nothing is counted: the picture changes when the structure does, and at no other time.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from rooms import ROOMS, purpose, used

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "rooms.svg"
WIDTH, MARGIN, ROOF = 1024, 24, 64
ROOM_WIDTH, ROOM_HEIGHT, GAP = 460, 58, 8
"""Of a box, and between two of them."""
FIRST_LINE, STEP = 44, 42
"""From the boxes to the first line that turns up, and from one to the next."""
RADIUS, DOT = 12, 5.5
TEXT_COLUMNS = 50
"""Characters of a docstring in a line: they fit in the widest sans-serif there is to expect."""
KEY = (
    "A room imports from those below it and",
    "from no other: their lines rise past it,",
    "and a dot in their colour is an import.",
)
STYLE = """\
svg { color-scheme: light dark }
text { font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328 }
.name { font-size: 16px; font-weight: 650 }
.for { font-size: 12.5px; fill: #59636e }
.label { font-size: 12px; font-weight: 600 }
.key { font-size: 12.5px; fill: #59636e }
.paper { fill: #ffffff }
.room { fill: #f6f8fa; stroke: #d1d9e0 }
.line { fill: none; stroke-width: 2 }
.dot { stroke: #ffffff; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .for, .key { fill: #9198a1 }
  .paper { fill: #0d1117 }
  .room { fill: #151b23; stroke: #3d444d }
  .dot { stroke: #0d1117 }
}
"""


class Room(NamedTuple):
    """What is drawn of a room: what it is for, and whom it imports from."""

    name: str
    purpose: str
    used: Sequence[str]


def rooms() -> list[Room]:
    """Every room as the code has it."""
    return [Room(name, purpose(name), used(name)) for name in ROOMS]


def draw(house: Sequence[Room]) -> str:
    """The picture of these rooms, the first at the bottom."""
    height = ROOF + len(house) * (ROOM_HEIGHT + GAP) + MARGIN - GAP
    users = {r.name: [n for n, other in enumerate(house) if r.name in other.used] for r in house}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">',
        "<title>The rooms of emu/ and which of them import which</title>",
        f"<style>\n{STYLE}{_colours(len(house))}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>',
        _roof(len(house)),
    ]
    for number, room in enumerate(house):
        parts += _box(number, room, len(house))
    for number, room in enumerate(house):
        parts += _line(number, room, users[room.name], len(house))
    for number, room in enumerate(house):
        parts += _dots(number, room, len(house))
    parts += _key(len(house))
    return "\n".join((*parts, "</svg>", ""))


def _colours(count: int) -> str:
    """A colour of its own for each room, of a hue that lies far from its neighbours'."""
    hues = [number * 137 % 360 for number in range(count)]
    light, dark = (
        "".join(
            f".fill{n} {{ fill: {colour} }} .line{n} {{ stroke: {colour} }}\n"
            for n, colour in enumerate(f"hsl({hue}, 62%, {lightness}%)" for hue in hues)
        )
        for lightness in (42, 64)
    )
    return f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


def _top(number: int, count: int) -> int:
    """Where a room's box begins."""
    return ROOF + (count - 1 - number) * (ROOM_HEIGHT + GAP)


def _middle(number: int, count: int) -> int:
    return _top(number, count) + ROOM_HEIGHT // 2


def _column(number: int) -> int:
    """Where a room's line turns up."""
    return MARGIN + ROOM_WIDTH + FIRST_LINE + number * STEP


def _roof(count: int) -> str:
    below = _top(count - 1, count) - GAP
    left, right = MARGIN - 10, MARGIN + ROOM_WIDTH + 10
    return (
        f'<path class="room" stroke-linejoin="round" '
        f'd="M{left} {below} L{(left + right) // 2} {MARGIN - 8} L{right} {below} Z"/>'
    )


def _box(number: int, room: Room, count: int) -> Iterator[str]:
    x, y = MARGIN, _top(number, count)
    yield (
        f'<rect class="room" x="{x}" y="{y}" width="{ROOM_WIDTH}" height="{ROOM_HEIGHT}" rx="6"/>'
    )
    yield (
        f'<rect class="fill{number}" x="{x}" y="{y}" width="5" '
        f'height="{ROOM_HEIGHT}" rx="2"/>'
    )
    yield f'<text class="name" x="{x + 18}" y="{y + ROOM_HEIGHT // 2 + 5}">{room.name}</text>'
    lines = textwrap.wrap(room.purpose, TEXT_COLUMNS)
    first = y + ROOM_HEIGHT // 2 + 4 - 8 * (len(lines) - 1)
    for line, text in enumerate(lines):
        yield f'<text class="for" x="{x + 110}" y="{first + 16 * line}">{escape(text)}</text>'


def _line(number: int, room: Room, users: Sequence[int], count: int) -> Iterator[str]:
    """To the right and, where anybody uses the room, up to the last who does."""
    start, x, y = MARGIN + ROOM_WIDTH, _column(number), _middle(number, count)
    if users:
        up = f"H{x - RADIUS} Q{x} {y} {x} {y - RADIUS} V{_middle(max(users), count)}"
        yield f'<text class="label" x="{x + 6}" y="{y + 5}">{room.name}</text>'
    elif room.used:
        up = f"H{_column(ROOMS.index(room.used[-1]))}"
    else:
        return
    yield f'<path class="line line{number}" d="M{start} {y} {up}"/>'


def _dots(number: int, room: Room, count: int) -> Iterator[str]:
    y = _middle(number, count)
    for other in room.used:
        place = ROOMS.index(other)
        yield (
            f'<circle class="dot fill{place}" cx="{_column(place)}" cy="{y}" '
            f'r="{DOT}"><title>{room.name} imports from {other}</title></circle>'
        )


def _key(count: int) -> Iterator[str]:
    """How to read it, where no line is."""
    x, y = _column(count) - 290, _top(2, count) - 6
    for number, text in enumerate(KEY):
        yield f'<text class="key" x="{x}" y="{y + 17 * number}">{text}</text>'


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture, or compare it; returns the exit status."""
    parser = argparse.ArgumentParser(description="Draw docs/rooms.svg from the imports of emu/.")
    parser.add_argument("--check", action="store_true", help="compare it and write nothing")
    options = parser.parse_args(argv)
    picture = draw(rooms())
    if not options.check:
        PICTURE.write_text(picture, encoding="utf-8")
        return 0
    if PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == picture:
        return 0
    print(f"{PICTURE} is not what the code says: run python tools/draw_rooms.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

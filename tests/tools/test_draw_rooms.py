"""The picture of the rooms: the committed one is what the code says, and a change shows."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import draw_rooms
import pytest
from draw_rooms import Room, draw, rooms
from rooms import ROOMS

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str, name: str) -> list[str]:
    tree = ElementTree.fromstring(picture)
    return [text.text for text in tree.iter(f"{SVG}text") if text.get("class") == name]


def test_the_committed_picture_is_what_the_code_says():
    assert draw_rooms.main(["--check"]) == 0


def test_every_room_is_named_and_says_what_it_is_for():
    picture = draw(rooms())
    assert texts(picture, "name") == ROOMS
    said = " ".join(texts(picture, "for"))
    assert said == " ".join(room.purpose for room in rooms())
    assert all(len(line) <= draw_rooms.TEXT_COLUMNS for line in texts(picture, "for"))
    assert all(len(texts(draw([room]), "for")) <= 3 for room in rooms()), "three lines fit in a box"


def test_every_import_is_a_dot():
    found = re.findall(r"<title>(\w+) imports from (\w+)</title>", draw(rooms()))
    assert found == [(room.name, other) for room in rooms() for other in room.used]
    assert ("world", "base") in found
    assert ("base", "world") not in found


def test_dots_lie_on_the_lines():
    """At the height of the room that imports, and where the other's line goes up past it."""
    tree = ElementTree.fromstring(draw(rooms()))
    lines = {path.get("class"): path.get("d") for path in tree.iter(f"{SVG}path")}
    for dot in tree.iter(f"{SVG}circle"):
        title = dot.find(f"{SVG}title").text
        room, other = (ROOMS.index(word) for word in title.split(" imports from "))
        x, y = int(dot.get("cx")), int(dot.get("cy"))
        start, top = map(int, re.search(rf"Q{x} \d+ {x} (\d+) V(\d+)", lines[f"line line{other}"])
                         .groups())
        assert top <= y <= start
        assert re.match(rf"M\d+ {y} ", lines[f"line line{room}"])


def test_a_room_that_nobody_uses_has_no_line_up():
    house = [Room("base", "All stand on it.", []), Room("arm", "Facts <of> it.", ["base"])]
    picture = draw(house)
    assert texts(picture, "label") == ["base"]
    assert texts(picture, "for") == ["All stand on it.", "Facts <of> it."]
    assert "<circle" not in draw(house[:1])


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    path = tmp_path / "rooms.svg"
    monkeypatch.setattr(draw_rooms, "PICTURE", path)
    return path


def test_it_says_what_to_do(elsewhere, capsys, monkeypatch):
    assert draw_rooms.main(["--check"]) == 1
    assert "run python tools/draw_rooms.py" in capsys.readouterr().err
    assert not elsewhere.exists()
    assert draw_rooms.main([]) == 0
    assert draw_rooms.main(["--check"]) == 0
    first = rooms()[0]
    changed = [first._replace(purpose="Another."), *rooms()[1:]]
    monkeypatch.setattr(draw_rooms, "rooms", lambda: changed)
    assert draw_rooms.main(["--check"]) == 1

"""The rooms of the house: a file imports only from its own room and from those named before it.

Their order stands in tools/rooms.py. Inside a room files may import each other, without circles.
The top of the package holds the names that users import; nothing inside imports from there but
`__version__`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from rooms import PACKAGE, ROOMS, file_of, imports, inside, parse, room_of

UNICORN = {"engine/cpu.py"}
IMPURE = {
    "arm/timers.py", "base/console.py", "base/pages.py", "base/savefile.py", "base/shared.py",
    "world/profile.py",
}  # fmt: skip
"""Of the rooms that are pure otherwise: those that know files, streams or memory of the host."""
PURE_ROOMS = ("base", "arm", "world")
PURE = {
    *("cycles/model.py", "cycles/counter.py", "cycles/tracks.py", "cycles/trap_prices.py"),
    *("cycles/system_prices.py", "cycles/tolls.py", "machine/instrument.py"),
    *("machine/semihosting.py",),
}
"""And of the other rooms. Pure: no Unicorn, no files, no host clock, no host entropy."""
IMPURE_MODULES = {
    *("unicorn", "os", "sys", "io", "time", "datetime", "random", "secrets", "uuid", "pathlib"),
    *("socket", "subprocess", "threading", "ctypes", "tempfile", "shutil"),
}
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "read_text", "read_bytes", "write_text"}

FILES = sorted(PACKAGE.rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: inside(path))


def complaints(file: str, names: list[str]) -> list[str]:
    """What is wrong with a file's imports."""
    here, found = room_of(file), []
    for name in names:
        if name.partition(".")[0] == "unicorn" and file not in UNICORN:
            found.append(f"{name}: only cpu.py knows Unicorn")
        there = file_of(name)
        if there is None or name == "emu.__version__" or not here:
            continue
        if not room_of(there):
            found.append(f"{name}: the names at the top are for users")
        elif ROOMS.index(room_of(there)) > ROOMS.index(here):
            found.append(f"{name} is behind {here}")
    return found


def test_every_file_is_in_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if list(path.glob("*.py"))}
    assert folders == set(ROOMS)


@every_file
def test_imports_only_from_rooms_before(path):
    assert complaints(inside(path), parse(path)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_inside_a_room(room):
    """Of the imports made while a file loads: one inside a function is made when all are there."""
    graph = {}
    for path in (PACKAGE / room).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = imports(ast.Module(list(at_load(tree)), []))
        files = {file for name in names if (file := file_of(name)) and room_of(file) == room}
        graph[inside(path)] = files - {inside(path), f"{room}/__init__.py"}
    assert circle_in(graph) == []


def at_load(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that are executed when a module loads, as far as they may import."""
    for node in tree.body:
        typing = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        if not typing and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """The files of a circle; none when there is none."""
    left = dict(graph)
    while free := [file for file, uses in left.items() if not uses & left.keys()]:
        for file in free:
            del left[file]
    return sorted(left)


def is_pure(file: str) -> bool:
    return file in PURE or (
        room_of(file) in PURE_ROOMS and file not in IMPURE
    ) or ("/devices/" in file and file != "machine/devices/__init__.py")


@every_file
def test_the_model_is_pure(path):
    """The same calls, the same answers."""
    if not is_pure(inside(path)):
        return
    assert not {name.partition(".")[0] for name in parse(path)} & IMPURE_MODULES
    called = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not called & IMPURE_CALLS


def test_unicorn_has_one_home():
    users = {inside(p) for p in FILES if any(n.startswith("unicorn") for n in parse(p))}
    assert users == UNICORN


def test_what_is_named_exists():
    assert {inside(path) for path in FILES} >= PURE | IMPURE | UNICORN


# The test of the test: each rule catches what it is there for.
@pytest.mark.parametrize(
    ("file", "source", "says"),
    [
        ("world/policy.py", "from emu.machine.vm import Vm", "behind"),
        ("world/policy.py", "def f():\n    import emu.machine.vm", "behind"),
        ("world/policy.py", "from emu.cycles import counter", "behind"),
        ("world/policy.py", "from emu import Vm", "for users"),
        ("world/policy.py", "from emu import __version__", ""),
        ("world/el2.py", "if True:\n    import unicorn.arm64_const", "only cpu.py"),
        ("world/policy.py", "from emu.world.monitor import El2", ""),
        ("world/el2.py", "from emu.base import exits", ""),
        ("engine/cpu.py", "import unicorn", ""),
        ("__init__.py", "from emu.cli import main", ""),
    ],
)
def test_rules(file, source, says):
    found = complaints(file, sorted(set(imports(ast.parse(source)))))
    assert (says in found[0]) if says else not found


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"c"}}) == ["a", "b", "c", "d"]
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []

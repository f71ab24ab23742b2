"""The rooms of the house: the packages of emu/ in their order, and which of them import which.

A file imports only from its own room and from those named before it. tests/test_layers.py holds
every file to that, draw_rooms.py draws it, and tests/test_architecture.py compares the page that
tells it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "emu"
ORDER = "base arm images world cycles engine machine watch judge kvm runs cli"
ROOMS = ORDER.split()


def inside(path: Path) -> str:
    """A file's name within the package."""
    return path.relative_to(PACKAGE).as_posix()


def room_of(name: str) -> str:
    """The room of a file or of a module's path; "" for the top of the package."""
    return name.partition("/")[0] if "/" in name else ""


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = node.module or ""
            # `from emu.base import exits` is the module; `from emu import Vm` the public name.
            below = PACKAGE.parent / base.replace(".", "/")
            for alias in node.names:
                is_module = any(below.glob(f"{alias.name}.*")) or (below / alias.name).is_dir()
                whole = is_module or (base, alias.name) == ("emu", "__version__")
                yield f"{base}.{alias.name}" if whole else base


def parse(path: Path) -> list[str]:
    """What a file imports."""
    return sorted(set(imports(ast.parse(path.read_text(encoding="utf-8")))))


def file_of(name: str) -> str | None:
    """The file of an imported module of this package; None for any other."""
    if name.partition(".")[0] != "emu":
        return None
    path = PACKAGE.parent / name.replace(".", "/")
    return inside(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def purpose(room: str) -> str:
    """What a room is for: the first line of its docstring."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def used(room: str) -> list[str]:
    """The other rooms that a room imports from, in their order."""
    names = {name for path in (PACKAGE / room).rglob("*.py") for name in parse(path)}
    rooms = {room_of(file) for name in names if (file := file_of(name))}
    return [other for other in ROOMS if other in rooms and other != room]

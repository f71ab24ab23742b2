"""docs/architecture.md: every name in it exists, its table is that of the rooms, and guests go its
ways: each function that a way names is called by one.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re
import sys
from collections.abc import Iterator

import pytest
from rooms import PACKAGE, ROOMS, purpose

from emu.arm.timers import PPI, VIRTUAL
from emu.base import exits
from emu.base.bus import FIRST_SPI
from emu.base.smccc import Ret
from emu.machine.devices.pl011 import PLACE as PL011
from emu.machine.instrument import Instrument
from emu.machine.vm import Vm
from emu.world.abis.xen import TAG
from emu.world.service import Service, fn
from engine_kit import ERET, WFI, code, hvc, mov, mrs, msr, str_w
from places import GUESTS, ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WAYS = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])
FILE = re.compile(r"([\w/]+\.(?:py|c))(?::([\w.]+))?")
NAME = re.compile(r"[A-Za-z_][\w.]*")
USERS_NAMES = {"El2"}
"""Of emu itself."""


def named(page: str) -> Iterator[tuple[str, str]]:
    """(file, name) of each code span; the name is "" where a file is meant."""
    page = page.replace("`file:name`", "")
    for paragraph in re.split(r"\n\s*\n|\n(?=\d\. )", page):
        file = ""
        for span in re.findall(r"`([^`]+)`", " ".join(paragraph.split())):
            if found := FILE.fullmatch(span):
                file = found[1]
                yield file, found[2] or ""
            elif NAME.fullmatch(span) and span not in USERS_NAMES and file:
                yield file, span


NAMED = sorted(set(named(PAGE)))


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """Every name that a file defines, those of a class behind its own and a dot."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    if file.endswith(".c"):
        return frozenset(re.findall(r"^\w[^;=\n]*?\b(\w+)\([^;]*$", text, re.MULTILINE))
    return frozenset(defined(ast.parse(text).body, ""))


def defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from defined(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and prefix:
            yield from (prefix + name for name in given(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (name for target in targets for name in ast.walk(target))
            yield from (prefix + name.id for name in names if isinstance(name, ast.Name))


def given(method: ast.FunctionDef) -> Iterator[str]:
    """Attributes of self that a method sets."""
    for node in ast.walk(method):
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda text: text or "itself")
def test_what_is_named_exists(file, name):
    assert (PACKAGE / file).is_file()
    assert not name or name in names_in(file)


def test_every_name_belongs_to_a_file():
    """Also one that stands alone: it is in the file its paragraph has named last."""
    spans = set(re.findall(r"`([^`]+)`", PAGE))
    alone = {span for span in spans if NAME.fullmatch(span) and not FILE.fullmatch(span)}
    assert alone - USERS_NAMES <= {name for _, name in NAMED}
    assert len(NAMED) > 80


def test_the_table_is_that_of_the_rooms():
    rows = re.findall(r"^\| (\w+) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)[1:]
    before = ["nothing", "base", *(f"base to {room}" for room in ROOMS[1:-1])]
    assert rows == [(room, purpose(room), may) for room, may in zip(ROOMS, before, strict=True)]


def test_every_way_fits_on_a_page():
    assert len(WAYS) == 4
    for title, way in WAYS.items():
        assert len(way.strip().splitlines()) <= 45, title


def test_what_it_links_to_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


# -- the ways are gone ----------------------------------------------------------------------------


@functools.cache
def functions_in(file: str) -> frozenset[str]:
    """The functions of a file of Python, those of a Protocol apart: nobody calls them."""
    body = ast.parse((PACKAGE / file).read_text(encoding="utf-8")).body
    found = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for cls in (node for node in body if isinstance(node, ast.ClassDef)):
        if "Protocol" not in [getattr(base, "id", "") for base in cls.bases]:
            found |= {f"{cls.name}.{n.name}" for n in cls.body if isinstance(n, ast.FunctionDef)}
    return frozenset(found)


COMPARED = {"passed_down"}
"""Functions that stand for something and are not called."""
LOAD, CPU_ON, FREE = 0x4008_0000, 0xC400_0003, 0xC600_0042
"""FREE: no service here has it."""


@contextlib.contextmanager
def listening() -> Iterator[set[tuple[str, str]]]:
    """(file, function) of everything in emu that is called meanwhile."""
    called: set[tuple[str, str]] = set()
    top = f"{PACKAGE}/"

    def note(frame, event, _argument):
        where = frame.f_code
        if event == "call" and where.co_filename.startswith(top):
            called.add((where.co_filename.removeprefix(top), where.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


def check_way(title: str, called: set[tuple[str, str]]) -> None:
    """Every function that a way names was called."""
    wanted = {
        (file, name) for file, name in named(WAYS[title])
        if file.endswith(".py") and name in functions_in(file) and name not in COMPARED
    }
    assert len(wanted) > 10
    assert wanted - called == set()


def guest(tmp_path, *words, **options):
    path = tmp_path / "guest.bin"
    path.write_bytes(code(*words))
    return Vm(path, load=LOAD, native=False, **options)


def test_the_way_of_a_hypercall(tmp_path):
    with listening() as called:
        on = [*mov(0, CPU_ON), *mov(1, 1), *mov(2, LOAD), hvc(), *mov(0, FREE), hvc(), WFI]
        vm = guest(tmp_path, *on, cpus=2, trap_costs="kvm-nvhe", instruments=[Instrument()])
        vm.filter(FREE, 1, "forward")
        exit = vm.run()
        assert isinstance(exit, exits.Hypercall)
        exit.ret = 7
        vm.run(10_000)
        Vm(GUESTS / "smccc_discover.elf", native=False).run()
        Vm(GUESTS / "smccc_discover.elf", profile="none", native=False).run()
        guest(tmp_path, *mov(16, 17), hvc(TAG), *mov(0, FREE), hvc(), WFI, profile="xen").run()
    check_way("The way of a hypercall", called)


class Bell(Service):
    """Drives a line, for the way that a service's interrupt goes."""

    name = "bell"

    @fn(FREE)
    def ring(self, call):
        self.host.interrupt(call.vcpu, FIRST_SPI + 8, True)
        return Ret.value(0)


GIC = 0x0800_0000
REDISTRIBUTOR = 0x080A_0000
PMR, IGRPEN1 = (3, 0, 4, 6, 0), (3, 0, 12, 12, 7)
EOIR1, VBAR = (3, 0, 12, 12, 1), (3, 0, 12, 0, 0)
CVAL, CTL = (3, 3, 14, 3, 2), (3, 3, 14, 3, 1)
IAR1 = (3, 0, 12, 12, 0)
DAIFCLR_I = 0xD503_42FF


def write(address, value):
    return [*mov(1, address), *mov(2, value), str_w(2, 1)]


def set_to(register, value):
    return [*mov(2, value), msr(register, 2)]


def test_the_way_of_an_interrupt(tmp_path):
    """A timer that ends WFI, a device's line, and a service's."""
    handler = LOAD + 0x1_0000
    words = [
        *set_to(VBAR, handler), *write(GIC, 0x12), *set_to(PMR, 0xF8), *set_to(IGRPEN1, 1),
        *write(REDISTRIBUTOR + 0x1_0100, 1 << PPI[VIRTUAL]), *set_to(CVAL, 1000), *set_to(CTL, 1),
        DAIFCLR_I, WFI, *write(PL011.base + 0x38, 1 << 5), *write(PL011.base, 65),
        *mov(0, FREE), hvc(), WFI,
    ]  # fmt: skip
    at = [mrs(20, IAR1), *set_to(CTL, 0), msr(EOIR1, 20), ERET]
    image = bytearray(0x1_0000 + 0x400)
    image[: 4 * len(words)] = code(*words)
    image[0x1_0280 : 0x1_0280 + 4 * len(at)] = code(*at)
    path = tmp_path / "guest.bin"
    path.write_bytes(image)
    with listening() as called:
        vm = Vm(path, load=LOAD, native=False, services=[Bell])
        assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert vm.cpu().x[20] == PPI[VIRTUAL]
    check_way("The way of an interrupt", called)


def test_the_way_of_a_saved_machine(tmp_path):
    with listening() as called:
        vm = Vm(GUESTS / "smccc_discover.elf", native=False)
        vm.run(20_000)
        vm.save(tmp_path / "saved")
        Vm.load(tmp_path / "saved", native=False).run()
    check_way("The way of a saved machine", called)


# The test of the test.
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`base/bus.py:Place`, then `Line`", [("base/bus.py", "Place"), ("base/bus.py", "Line")]),
        ("`base/bus.py` `x = 1`", [("base/bus.py", "")]),
        ("`base/bus.py:Place`\n\nand `Line`", [("base/bus.py", "Place")]),
    ],
)
def test_names_are_found(text, found):
    assert list(named(text)) == found


def test_what_a_file_defines():
    assert {"Board.sync", "Board.gic", "MONITOR_LINE", "Board"} <= names_in("machine/board.py")
    assert "Board.nothing" not in names_in("machine/board.py")
    assert {"take", "on_interrupt"} <= names_in("engine/_exceptions.c")
    assert "PyEval_RestoreThread" not in names_in("engine/_exceptions.c")

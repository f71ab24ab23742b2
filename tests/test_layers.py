"""The layers: a file imports only from the levels above it in this list.

`emu.services`, `emu.devices` and `emu.cores` stand for the files in them; services and devices
never import each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "emu"
LAYERS = [
    "smccc arch errors symbols relocations a64_base a64_simd",
    "clock cost exits policy console bus el1 a64 devicetree catalogue cpu modes entropy state",
    "pages savefile trapcosts systemcosts",
    "taken timers pmu interrupts charges tracks costs_report blockcache",
    "shared",
    "predictor caches",
    "counter accounts",
    "endings service schema instrument semihosting terminal image hooks onereg memory mmio arbiter",
    "gic_registers icc identification",
    "profile elf calibrate _native services devices cores paper",
    "objects",
    "routing boot engine bundled timing",
    "el2",
    "machine describe kvm_abi loader blocks decoding",
    "board",
    "facts",
    "rules faults callspec",
    "snapshot function",
    "vm explain trace discovery",
    "following",
    "trial checkpoint report kvm_vcpu moment spending",
    "mutate linux_discovery profile_files spending_report",
    "kvm",
    "migrate matrix progress",
    "workers rows compare",
    "results grid processes",
    "exports",
    "runner doctor arguments webpage campaign fuzz __init__",
    "cluster matrix_arguments results_commands linux_commands",
    "matrix_commands",
    "commands",
    "testing plugin",
    "cli",
    "__main__",
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}

UNICORN = {"cpu"}
PURE = {
    *("smccc", "arch", "errors", "clock", "exits", "policy", "service", "schema", "services"),
    *("interrupts", "arbiter", "gic_registers", "icc", "cost", "counter", "tracks"),
    *("trapcosts", "systemcosts"),
    *("el1", "el2", "catalogue", "describe", "bus", "instrument", "semihosting", "devices"),
    *("a64", "a64_base", "a64_simd"),
}
"""No Unicorn, no files, no host clock, no host entropy: the same calls, the same answers."""
IMPURE_MODULES = {
    *("unicorn", "os", "sys", "io", "time", "datetime", "random", "secrets", "uuid", "pathlib"),
    *("socket", "subprocess", "threading", "ctypes", "tempfile", "shutil"),
}
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "read_text", "read_bytes", "write_text"}

FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]
every_file = pytest.mark.parametrize("path", FILES, ids=IDS)


def layer(path: Path) -> str:
    """The name under which a file stands in the list."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = node.module or ""
            # `from emu import exits` is the module; `from emu import Vm` is the public name.
            below = PACKAGE.parent / base.replace(".", "/")
            for alias in node.names:
                is_module = any(below.glob(f"{alias.name}.*")) or (below / alias.name).is_dir()
                yield f"{base}.{alias.name}" if is_module else base


def parse(path: Path) -> list[str]:
    return sorted(set(imports(ast.parse(path.read_text(encoding="utf-8")))))


def ours(name: str) -> str | None:
    """The place in the list of an imported module, None when it is not of this package."""
    top, _, rest = name.partition(".")
    if top != "emu":
        return None
    return rest.partition(".")[0] or "__init__"


def complaints(path: Path, names: list[str]) -> list[str]:
    """What is wrong with a file's imports."""
    here, found = layer(path), []
    for name in names:
        there = ours(name)
        if name.partition(".")[0] == "unicorn" and here not in UNICORN:
            found.append(f"{name}: only cpu.py knows Unicorn")
        if there is None or here == there == "cores":  # models share tables and scoreboards
            continue
        if here == there and here in ("services", "devices"):
            if path.name == "__init__.py":  # the registry, which imports them when asked
                continue
            found.append(f"{name}: siblings never import each other")
        elif LEVEL.get(there, len(LAYERS)) >= LEVEL[here]:
            found.append(f"{name} is not above {here}")
    return found


@every_file
def test_every_file_has_a_level(path):
    assert layer(path) in LEVEL, "add the new module to LAYERS"


@every_file
def test_no_upward_import(path):
    assert complaints(path, parse(path)) == []


@every_file
def test_the_model_is_pure(path):
    if layer(path) not in PURE:
        return
    assert not {name.partition(".")[0] for name in parse(path)} & IMPURE_MODULES
    called = {
        getattr(node.func, "id", getattr(node.func, "attr", ""))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not called & IMPURE_CALLS


def test_unicorn_has_one_home():
    users = {layer(path) for path in FILES if any(n.startswith("unicorn") for n in parse(path))}
    assert users == UNICORN


def test_what_is_pure_is_on_the_list():
    assert set(LEVEL) >= PURE | UNICORN
    assert len(LEVEL) == sum(len(names.split()) for names in LAYERS), "a name stands once"


# The test of the test: each rule catches what it is there for.
@pytest.mark.parametrize(
    ("file", "source", "says"),
    [
        ("policy.py", "from emu.el2 import El2", "not above"),
        ("policy.py", "def f():\n    import emu.vm", "not above"),
        ("policy.py", "from emu import exits", "not above"),
        ("policy.py", "from emu import Vm", "not above"),
        ("el2.py", "if True:\n    import unicorn.arm64_const", "only cpu.py"),
        ("services/psci.py", "from emu.services.arch import Arch", "siblings"),
        ("services/psci.py", "from emu.services import arch", "siblings"),
        ("devices/pl011.py", "from emu.services import service_class", "not above"),
        ("el2.py", "from emu import exits\nfrom emu.services import service_names", ""),
        ("cpu.py", "import unicorn", ""),
        ("services/__init__.py", "def f():\n    from emu.services import arch", ""),
    ],
)
def test_rules(file, source, says):
    found = complaints(PACKAGE / file, sorted(set(imports(ast.parse(source)))))
    assert (says in found[0]) if says else not found

"""`hvcemu doctor`: does everything the emulator stands on behave here as it must?"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from emu.base.errors import EmuError
from emu.base.smccc import Conduit
from emu.cycles.model import BlockCost
from emu.engine.taken import Taken
from emu.world.profile import data_folder, load_profile, profile_names

CODE = 0x4000_0000
_HVC_5, _SMC_6, _MOV_X9_3 = 0xD400_00A2, 0xD400_00C3, 0xD280_0069
_SUBS_X9, _BNE_BACK_2, _WFI = 0xF100_0529, 0x54FF_FFC1, 0xD503_207F
_NATIVE_HINT = "install a C compiler and reinstall hvcemu: the Python half is about 10 times slower"


class Check(NamedTuple):
    """One line of the report. `vital` checks decide the exit status."""

    name: str
    good: bool
    text: str
    vital: bool = True


class Listener:
    """Hears the two traps of the test program."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def hypercall(self, conduit: Conduit, imm: int, x: tuple[int, ...]) -> tuple[int, ...] | None:
        self.heard.append((str(conduit), imm))
        return (len(self.heard),)

    def semihosting(self) -> bool:
        return False

    def trap(self, pc: int) -> bool:
        return False

    watches_exceptions = True

    def took_exception(self, taken: Taken, vector: int) -> None:
        self.heard.append(("exception", taken.esr))

    def system_register(self, reg: object, is_write: bool, value: int) -> int | None:
        return None

    def attach(self, address: int) -> bool:
        return False

    def absent(self, address: int) -> str | None:
        return None

    def unclaimed(self, access: object) -> bool:
        return False


class _TwoEach:
    """A core model: every instruction takes two cycles and a sixteenth."""

    name, width = "two", 1

    def block(self, code: bytes) -> BlockCost:
        return BlockCost(tuple(33 * n for n in range(len(code) // 4 + 1)))


def _contract(native: bool) -> tuple[int, list[tuple[str, int]], int, tuple[int, int]]:
    """Run a program of six instructions; returns (instructions, traps heard, x0, time)."""
    from emu.arm.timers import NEVER
    from emu.cycles.block_costs import BlockCosts
    from emu.engine.engine import Engine

    engine = Engine(native=native)
    engine.account(BlockCosts(_TwoEach()))
    engine.map_ram(CODE, 1 << 20)
    words = (_MOV_X9_3, _HVC_5, _SUBS_X9, _BNE_BACK_2, _SMC_6, _WFI)
    engine.write(CODE, struct.pack("<6I", *words))
    engine.set("PC", CODE)
    listener = Listener()
    engine.run(NEVER, listener)
    hooks: Any = engine.hooks
    if native and hooks.places != len(hooks.lines()):
        raise EmuError("Unicorn does not call hooks from the code of each block: "
                       "use unicorn>=2.1.4,<2.2, or HVCEMU_NATIVE=0")  # fmt: skip
    time = divmod(engine.cycles * 16 + engine.hooks.fraction, 33)
    return engine.instructions, listener.heard, engine.get("X0"), time


_INSTRUCTIONS = 1 + 3 * 3 + 2
EXPECTED = (_INSTRUCTIONS, [("hvc", 5)] * 3 + [("smc", 6)], 4, (_INSTRUCTIONS, 0))


def checks() -> Iterator[Check]:
    """Every check, the cheap ones first."""
    yield Check("Python", True, f"{platform.python_version()} on {platform.machine()}")
    yield _guarded("Unicorn", _unicorn)
    yield _guarded("contract, Python half", lambda: _half(False))
    yield _native()
    for module, use in (
        ("capstone", "disassembly around a fault"),
        ("elftools", "relocations and symbols"),
        ("fdt", "device trees"),
        ("rich", "tables and colour"),
    ):
        found = importlib.util.find_spec(module) is not None
        yield Check(module, found, use if found else f"missing, for {use}: reinstall hvcemu")
    yield _guarded("profiles", _profiles)
    yield _guests()
    qemu = shutil.which("qemu-system-aarch64")
    yield Check("QEMU", qemu is not None, qemu or "not installed; only benchmarks use it", False)


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except (EmuError, ImportError, OSError) as error:
        return Check(name, False, str(error))


def _unicorn() -> str:
    from emu.engine.calibrate import calibrate
    from emu.engine.cpu import version

    return f"{version()}: {calibrate()}"


def _half(native: bool) -> str:
    found = _contract(native)
    if found != EXPECTED:
        raise EmuError(f"expected {EXPECTED}, got {found}: use unicorn>=2.1.4,<2.2")
    return "HVC, SMC, counts, cycles and replies as they must be"


def _native() -> Check:
    from emu.engine.engine import native_available, native_wanted

    if not native_available():
        return Check("contract, native half", False, f"not built; {_NATIVE_HINT}", False)
    check = _guarded("contract, native half", lambda: _half(True))
    if check.good and not native_wanted():
        return check._replace(text="works, but HVCEMU_NATIVE=0 switches it off")
    return check


def _profiles() -> str:
    names = profile_names()
    for name in names:
        load_profile(name)
    return f"{len(names)} in {data_folder('firmware')}"


def _guests() -> Check:
    folder = data_folder("guests")
    count = len(list(folder.glob("*.elf")))
    return Check("guests", count > 0, f"{count} in {folder}")

"""Both halves of the engine tell one story: the same guests, cycle by cycle and call by call."""

from __future__ import annotations

from pathlib import Path

import pytest

import places
from emu.base import exits
from emu.engine.engine import native_available
from emu.machine.vm import Vm
from kit import Watch

GUESTS = sorted(places.GUESTS.glob("*.elf"))
PROFILES = ("kvm-6.12", "kvm-5.17", "qemu-tcg", "xen", "none")
LOOPS = {"spin": 500, "hvc_loop": 300, "coremarkish": 1}
"""Turns for the guests that measure: enough to compare, few enough for the Python half."""
LIMITS = {"stolen_time": 60_000, "psci_cpu_on": 400_000, "memory_walk": 60_000}
LIMIT = 2_000_000

pytestmark = pytest.mark.skipif(
    not native_available(), reason="the native half was not built: it needs a C compiler"
)


def story(guest: Path, profile: str, cpus: int, *, native: bool):
    watch = Watch()
    vm = Vm(guest, profile=profile, cpus=cpus, native=native, seed=7, instruments=[watch])
    turns = LOOPS.get(guest.stem)
    if turns is not None:
        address = vm.image.symbols.address("loop_count")
        assert address is not None
        vm.engine.write(address, turns.to_bytes(8, "little"))
    exit = vm.run(LIMITS.get(guest.stem, LIMIT))
    registers = vm.engine.arguments(31), vm.engine.get("PC"), vm.engine.get("SP")
    stolen = [vcpu.stolen for vcpu in vm.machine.vcpus]
    return vm.stats(), str(vm.console), exit, registers, stolen, watch.told


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("guest", GUESTS, ids=lambda path: path.stem)
def test_halves_agree(guest, profile, cpus):
    fast = story(guest, profile, cpus, native=True)
    slow = story(guest, profile, cpus, native=False)
    assert fast[0] == slow[0]
    assert fast == slow
    if guest.stem not in LIMITS:
        assert not isinstance(fast[2], exits.Deadline | exits.Fault)


def arguments(registers=(1,) * 18):
    """What `_native.Hooks` takes, of nothing that exists."""
    return 0, 0, 0, 0, (0,) * 11, registers, (1,) * 9, ("hvc", "smc"), 0, False


def test_native_hooks_refuse_nonsense():
    """What engine.py never gives it."""
    from emu.engine import _native

    with pytest.raises(TypeError):
        _native.Hooks()
    with pytest.raises(TypeError):
        _native.Hooks(*arguments(), more=1)
    with pytest.raises(ValueError, match="18 registers"):
        _native.Hooks(*arguments(registers=(1, 2)))
    with pytest.raises(TypeError):
        _native.Hooks(*arguments(registers=("x0",) * 18))


def test_native_counters_are_plain_numbers():
    hooks = Vm(GUESTS[0], native=True).engine.hooks
    hooks.cycles, hooks.deadline, hooks.fraction = 2**60 - 1, 2**64 - 1, 15
    assert (hooks.cycles, hooks.deadline, hooks.fraction) == (2**60 - 1, 2**64 - 1, 15)
    with pytest.raises(OverflowError, match="60 bits"):
        hooks.cycles = 2**60
    with pytest.raises(TypeError):
        del hooks.cycles
    with pytest.raises((AttributeError, TypeError)):
        hooks.asked = True
    with pytest.raises(OverflowError):
        hooks.refund(-1)
    with pytest.raises(TypeError):
        hooks.refund("pc")
    with pytest.raises(TypeError):
        hooks.start("pc")

"""The hooks in either half: errors, lifetime."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from pathlib import Path

import pytest

import places
from emu.engine.engine import Stop
from emu.machine.vm import Vm
from engine_kit import (
    CODE,
    NOP,
    VECTORS,
    WFI,
    Recorder,
    b,
    go,
    halves,
    hvc,
    machine,
    movz,
    smc,
    udf,
)

GUESTS = sorted(places.GUESTS.glob("*.elf"))

class Odd(BaseException):
    """Not even an Exception."""


@halves
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, Odd, StopIteration])
@pytest.mark.parametrize("word", [hvc(), smc()])
def test_error_in_a_call_comes_out_of_run(native, error, word):
    engine = machine(native, NOP, word, movz(1, 3), WFI)

    def fail(*_):
        raise error("told")

    with pytest.raises(error, match="told"):
        go(engine, Recorder(fail))
    assert (engine.get("PC"), engine.get("X1"), engine.instructions) == (CODE + 8, 0, 2)
    assert go(engine) is Stop.WFI
    assert (engine.get("X1"), engine.instructions) == (3, 4)


@halves
def test_error_where_an_exception_is_watched(native):
    engine = machine(native, udf())
    traps = Recorder()

    def fail(*_):
        raise ValueError("watcher")

    traps.took_exception = fail
    with pytest.raises(ValueError, match="watcher"):
        go(engine, traps)
    assert go(engine) is Stop.WFI
    assert engine.get("PC") == VECTORS + 0x204


@halves
def test_error_in_semihosting(native):
    engine = machine(native, 0xD45E_0000, WFI)
    traps = Recorder()

    def fail():
        raise ValueError("console")

    traps.semihost = fail
    with pytest.raises(ValueError, match="console"):
        go(engine, traps)
    assert engine.get("PC") == CODE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@halves
def test_interrupt_from_the_keyboard(native):
    """SIGINT while the guest runs: Python raises it in the next call.

    Where it strikes on the way into a callback, ctypes may lose it, and in a finaliser Python
    does (and says so, which is the warning ignored here); the next one is not lost.
    """
    engine = machine(native, hvc(), b(-1))
    armed, done = [True], threading.Event()

    def interrupt(*_):
        if armed:
            raise KeyboardInterrupt

    def pester():
        while not done.wait(0.05):
            os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGINT, interrupt)
    thread = threading.Thread(target=pester)
    thread.start()
    try:
        interrupted = False
        go(engine)
    except KeyboardInterrupt:
        armed.clear()
        interrupted = True
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, previous)
    assert interrupted
    assert go(engine, until=engine.cycles + 100) is Stop.DEADLINE


@halves
def test_gone_watchers_are_let_go(native):
    """Nothing of a run stays behind in the hooks."""
    engine = machine(native, hvc(), WFI)
    traps = Recorder()
    gone = weakref.ref(traps)
    go(engine, traps)
    del traps
    assert gone() is None


# -- lifetime -----------------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def virtual_size() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc/self/status")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmSize"))
    return int(line.split()[1]) << 10


@halves
def test_engine_is_freed_by_its_last_reference(native, no_collector):
    engine = machine(native, hvc(), udf())
    engine.map_device(0x0900_0000, 0x1000, Recorder())
    context = engine.new_context()
    engine.save(context)
    go(engine, Recorder(lambda *_: (1,)))
    gone = weakref.ref(engine), weakref.ref(engine.cpu)
    del engine
    assert [ref() for ref in gone] == [None, None]
    del context  # a context may outlive its engine


@halves
def test_engine_that_failed_is_freed(native, no_collector):
    engine = machine(native, hvc(), WFI)
    gone = weakref.ref(engine)

    def fail(*_):
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        go(engine, Recorder(fail))
    gc.enable()
    del engine
    gc.collect()  # pytest keeps the traceback in a cycle of its own
    assert gone() is None


@halves
def test_vm_is_freed_by_its_last_reference(native, no_collector):
    guest = GUESTS[0].with_name("psci_cpu_on.elf")
    vm = Vm(guest, cpus=2, native=native)
    vm.run(20_000)
    gone = [weakref.ref(thing) for thing in (vm, vm.engine, vm.engine.cpu, vm.machine, vm.el2)]
    del vm
    assert [ref() for ref in gone] == [None] * 5


@halves
def test_two_hundred_vms_take_no_room(native, no_collector):
    guest = GUESTS[0].with_name("hello.elf")

    def one() -> None:
        vm = Vm(guest, native=native)
        vm.run()

    for _ in range(10):
        one()
    before = virtual_size()
    for _ in range(200):
        one()
    assert virtual_size() - before < 16 << 20

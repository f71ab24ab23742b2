"""A machine in a file: it goes on as if nothing had been, and no file does harm."""

from __future__ import annotations

import errno
import io
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emu.base import exits, pages, savefile
from emu.base.bus import RAM_BASE
from emu.base.console import Console, Typed
from emu.base.errors import EmuError, SnapshotError
from emu.base.pages import PAGE
from emu.base.savefile import PREFIX, SCHEMA
from emu.base.smccc import UNDEF, Ret
from emu.cli.runner import Limits, Runner, Saving, StatusLine
from emu.engine.cpu import STATE
from emu.engine.engine import native_available
from emu.kvm.ioctls import Kvm
from emu.machine import snapshot
from emu.machine.moment import Moment
from emu.machine.vcpus import Vcpu
from emu.machine.vm import MIB, Vm
from emu.world.onereg import CORE
from emu.world.policy import Policy
from emu.world.service import Service, fn
from engine_kit import NOP, NOWHERE, WFI, b, code, halves, hvc, ldxr, mov, movz, stxr
from kit import Watch
from places import GUESTS, ROOT
from savefile_kit import changed, forged, parts

LOAD = 0x4008_0000
FORWARDED = 0xC600_0042
FAST = native_available()
few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
many = settings(few, max_examples=150)


def outcome(vm: Vm, exit: exits.Exit, *watches: Watch):
    seen = [record for watch in watches for record in watch.told
            if not isinstance(record, exits.Exit)]  # fmt: skip
    stolen = [(vcpu.stolen, vcpu.state, vcpu.waiting) for vcpu in vm.machine.vcpus]
    return exit, vm.stats(), str(vm.console), stolen, seen


def guest(name: str, cpus: int, native: bool = FAST) -> tuple[Vm, Watch]:
    watch = Watch()
    path = GUESTS / f"{name}.elf"
    return Vm(path, cpus=cpus, seed=5, instruments=[watch], native=native), watch


def bare(tmp_path: Path, *words: int | list[int], **options: Any) -> Vm:
    flat = [w for word in words for w in (word if isinstance(word, list) else [word])]
    path = tmp_path / "guest.bin"
    path.write_bytes(code(*flat))
    return Vm(path, load=LOAD, **{"native": FAST, **options})


def saved(vm: Vm, path: Path) -> bytes:
    vm.save(path)
    return path.read_bytes()


def moved(vm: Vm, path: Path, **options: Any) -> Vm:
    """The same machine out of a file; it would give the same file again."""
    before = saved(vm, path)
    after = Vm.load(path, **{"native": FAST, **options})
    assert saved(after, path) == before
    return after


# -- going on ---------------------------------------------------------------------------------

RUNS = {"psci_cpu_on": 4, "stolen_time": 2, "exceptions": 1, "smccc_discover": 1}
_whole: dict[str, Any] = {}


def whole(name: str):
    if name not in _whole:
        vm, watch = guest(name, RUNS[name])
        _whole[name] = outcome(vm, vm.run(), watch)
    return _whole[name]


@pytest.mark.parametrize("name", RUNS)
@few
@given(data=st.data())
def test_cut_anywhere_it_goes_on_the_same(tmp_path, name, data):
    reference = whole(name)
    end = reference[1].cycles
    cuts = sorted(data.draw(st.lists(st.integers(0, end), min_size=1, max_size=3)))
    vm, watch = guest(name, RUNS[name])
    watches = [watch]
    for cut in cuts:
        exit = vm.run(max(cut - vm.clock.cycles, 0))
        if not isinstance(exit, exits.Deadline):
            break
        watches.append(Watch())
        vm = moved(vm, tmp_path / "a", instruments=watches[-1:])
    else:
        exit = vm.run()
    assert outcome(vm, exit, *watches) == reference


@pytest.mark.skipif(not FAST, reason="the native half was not built: it needs a C compiler")
@pytest.mark.parametrize("name", ["psci_cpu_on", "exceptions"])
@pytest.mark.parametrize("native", [False, True])
def test_the_other_half_goes_on(tmp_path, name, native):
    reference = whole(name)
    vm, watch = guest(name, RUNS[name], native)
    vm.run(reference[1].cycles // 2)
    later = Watch()
    other = moved(vm, tmp_path / "a", native=not native, instruments=[later])
    assert outcome(other, other.run(), watch, later) == reference
    assert outcome(vm, vm.run(), watch) == reference  # saving has disturbed nothing


def test_before_the_first_run_and_after_the_last(tmp_path):
    vm, _ = guest("psci_cpu_on", 4)
    first = moved(vm, tmp_path / "a")
    last = first.run()
    over = moved(first, tmp_path / "a")
    assert over.pending == last
    assert over.stats() == first.stats()
    assert over.run() == first.run()


OTHER = """
import sys
from emu.machine.vm import Vm
vm = Vm.load(sys.argv[1])
exit = vm.run()
print(type(exit).__name__, exit.cycles, *vm.stats(), vm.console, sep="|", end="")
"""


def test_in_another_process(tmp_path):
    reference = whole("psci_cpu_on")
    vm, _ = guest("psci_cpu_on", 4)
    vm.run(70_000)
    vm.save(tmp_path / "a")
    found = subprocess.run(
        [sys.executable, "-c", OTHER, tmp_path / "a"], cwd=ROOT, capture_output=True, text=True,
        check=True, env={**os.environ, "HVCEMU_NATIVE": "0"},
    )  # fmt: skip
    exit, stats, console, *_ = reference
    expected = [type(exit).__name__, exit.cycles, *stats, console]
    assert found.stdout == "|".join(map(str, expected))


# -- what is kept -----------------------------------------------------------------------------


@halves
def test_registers_one_by_one(tmp_path, native):
    vm = bare(tmp_path, NOP, b(-1), native=native)
    vm.run(5)
    values = random.Random(1)
    fixed = {"PC", "PSTATE", "SP", "OSLSR_EL1", "SCTLR_EL1", "FPCR", "FPSR"}
    for name in STATE:
        if name not in fixed:
            vm.engine.set(name, values.getrandbits(64))
    for n in range(32):
        vm.engine.cpu.set_vector(n, values.getrandbits(128))
    vm.engine.set("SP", 0x1234_5678)
    vm.engine.set("FPCR", 1 << 24)
    vm.engine.set("FPSR", 1 << 27)
    vm.engine.set("PSTATE", 0x6000_03C5)
    before = vm.engine.read_vcpu()
    assert len({before[f"Q{n}"] for n in range(32)}) == 32
    assert before["FPCR"], before["FPSR"]
    assert moved(vm, tmp_path / "a").engine.read_vcpu() == before


@halves
@pytest.mark.parametrize("pair", [False, True])
def test_a_save_between_load_and_store_exclusive(tmp_path, native, pair):
    # ldxp x3, x2, [x7] and stxp w5, x3, x2, [x7]
    load, store = (0xC87F_08E3, 0xC825_08E3) if pair else (ldxr(3, 7), stxr(5, 3, 7))
    vm = bare(tmp_path, mov(7, LOAD + 0x800), movz(5, 9), load, b(1), store, WFI, native=native)
    vm.engine.write(LOAD + 0x800, bytes(range(16)))
    while vm.engine.get("X3") == 0:
        vm.run(1)
    other = moved(vm, tmp_path / "a", native=native)
    vm.run()
    other.run()
    assert vm.engine.get("X5") == other.engine.get("X5") == 0


@halves
@pytest.mark.parametrize("reply", [None, 5, -2, Ret.success(1, 2, 3), Ret.untouched(), UNDEF])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forwarded_call_waits_for_its_answer(tmp_path, native, reply, when):
    """The answer may be given before the machine is saved, or to the machine that was loaded."""

    def forwarding():
        watch = Watch()
        vm = bare(
            tmp_path, *(mov(n, 0x100 + n) for n in range(1, 5)), mov(0, FORWARDED), hvc(),
            movz(20, 9), WFI, native=native, instruments=[watch],
        )  # fmt: skip
        vm.engine.set("VBAR_EL1", LOAD + 0x1000 - 0x200)
        vm.engine.write(LOAD + 0x1000, code(WFI))
        vm.filter(FORWARDED, action="forward", target="me")
        return vm, watch, vm.run()

    def end(vm, *watches):
        return outcome(vm, vm.run(), *watches), vm.engine.arguments(21)

    plain, plain_watch, exit = forwarding()
    vm, watch, pending = forwarding()
    later = Watch()
    if reply is not None:
        exit.ret = reply
    if when == "before":
        pending.ret = exit.ret
        vm = moved(vm, tmp_path / "a", instruments=[later])
    else:
        vm = moved(vm, tmp_path / "a", instruments=[later])
        assert isinstance(vm.pending, exits.Hypercall)
        assert (vm.pending.call, vm.pending.forward_to) == (exit.call, "me")
        vm.pending.ret = exit.ret
    assert end(vm, watch, later) == end(plain, plain_watch)


TIMINGS = [
    {"core": "cortex-a53"}, {"core": "cortex-a76", "timing": "branch"},
    {"core": "cortex-a57", "trap_costs": "kvm-nvhe", "freq": 1_150_000_000},
    {"core": "cortex-a53", "timing": "flat", "trap_costs": "xen"}, {"freq": 3_000_000_001},
]  # fmt: skip
timings = pytest.mark.parametrize("timing", TIMINGS, ids=str)


def the_time(vm: Vm) -> tuple[Any, ...]:
    clock, hooks = vm.clock, vm.engine.hooks
    return (
        clock.cycles, hooks.fraction, hooks.instructions, clock.counter, clock.nanoseconds,
        [(vcpu.stolen, vcpu.timers.state) for vcpu in vm.machine.vcpus],
    )  # fmt: skip


@timings
@pytest.mark.parametrize("name", ["psci_cpu_on", "stolen_time"])
@few
@given(data=st.data())
def test_time_goes_on_the_same_wherever_it_is_cut(tmp_path, timing, name, data):
    """To the sixteenth of a cycle, by the core, the frequency and the costs it was saved with."""

    def fresh() -> Vm:
        return Vm(GUESTS / f"{name}.elf", cpus=2, seed=5, native=FAST, **timing)

    reference = fresh()
    limit = 3_000_000
    last = reference.run(limit)
    cut = data.draw(st.integers(0, reference.clock.cycles))
    vm = fresh()
    exit = vm.run(cut)
    vm = moved(vm, tmp_path / "a")
    if isinstance(exit, exits.Deadline):
        exit = vm.run(max(limit - vm.clock.cycles, 0))
    assert exit == last
    assert the_time(vm) == the_time(reference)
    assert str(vm.console) == str(reference.console)


@timings
def test_what_time_is_made_of_is_in_the_file(tmp_path, timing):
    vm = Vm(GUESTS / "psci_cpu_on.elf", cpus=2, native=FAST, **timing)
    vm.run(20_011)
    for _ in range(1_000):
        if vm.engine.hooks.fraction:
            break
        vm.run(1)
    assert vm.engine.hooks.fraction or vm.timing == "flat", "else it shows little"
    other = moved(vm, tmp_path / "a")
    assert other.timing == vm.timing
    assert other.trap_costs == vm.trap_costs
    assert other.engine.core == vm.engine.core
    assert other.clock.hz == vm.clock.hz
    assert the_time(other) == the_time(vm)
    assert other.engine.hooks.last_cost() == vm.engine.hooks.last_cost()
    assert other.engine.hooks.exception_cost == vm.engine.hooks.exception_cost


@halves
@timings
@pytest.mark.parametrize("reply", [1, UNDEF])
def test_between_a_call_and_its_answer_time_stands_still(tmp_path, native, timing, reply):
    """UNDEF takes the call back, at what it had cost: only the file can know that."""

    def forwarding() -> Vm:
        vm = bare(tmp_path, mov(0, FORWARDED), NOP, NOP, hvc(), movz(20, 9), WFI, native=native,
                  **timing)  # fmt: skip
        vm.engine.set("VBAR_EL1", LOAD + 0x1000 - 0x200)
        vm.engine.write(LOAD + 0x1000, code(NOP, WFI))
        vm.filter(FORWARDED, action="forward", target="me")
        assert isinstance(vm.run(), exits.Hypercall)
        return vm

    plain, saved_one = forwarding(), forwarding()
    other = moved(saved_one, tmp_path / "a", native=native)
    for vm in (plain, other):
        assert isinstance(vm.pending, exits.Hypercall)
        vm.pending.ret = reply
        vm.run()
    assert the_time(other) == the_time(plain)
    assert other.engine.arguments(21) == plain.engine.arguments(21)


def test_policy_modes_and_options(tmp_path):
    vm = Vm(GUESTS / "hello.elf", modes={"suspend": "inplace-return"}, native=FAST)
    vm.filter(0xC600_0000, 16, "deny")
    vm.el2.switch_feature("trng", on=False)
    vm.el2.set_option("psci", system_suspend=True)
    vm.el2.set_modes({"hvc.imm": "undef"})
    other = moved(vm, tmp_path / "a")
    assert other.el2.policy == vm.el2.policy
    assert other.el2.profile.modes == vm.el2.profile.modes
    for fid in (0xC600_0001, 0x8400_0050, 0xC400_000E, 0x8400_000A):
        args = (0xC400_000E,) if fid == 0x8400_000A else ()
        assert other.el2.hypercall(fid, *args) == vm.el2.hypercall(fid, *args)
        assert other.el2.route(fid)[1:3] == vm.el2.route(fid)[1:3]


def test_a_profile_on_disk_may_change(tmp_path):
    profile = tmp_path / "mine.toml"
    profile.write_text('extends = "kvm-6.1"\ntitle = "mine"\n[services.psci] # why\nversion = 3\n')
    vm = Vm(GUESTS / "hello.elf", profile=str(profile), native=FAST)
    vm.save(tmp_path / "a")
    profile.unlink()
    other = Vm.load(tmp_path / "a", native=FAST)
    assert (other.profile.name, other.profile.title) == ("mine", "mine")
    assert other.profile.source("services", "psci") == "why"
    assert other.profile.lineage == vm.profile.lineage
    assert isinstance(other.run(), exits.SystemEvent)


def test_console_output_and_unread_input(tmp_path):
    vm = Vm(GUESTS / "hello.elf", console=Console(Typed(b"abc")), native=FAST)
    vm.run()
    assert vm.console.has_input()
    printed: list[bytes] = []
    moved(vm, tmp_path / "a")
    other = Vm.load(tmp_path / "a", console=Console(Typed(b"!"), printed.append))
    assert str(other.console) == "hello from EL1\n"
    assert printed == []
    assert [other.console.read(), other.console.wait()] == [ord("a"), ord("b")]
    assert [other.console.read(), other.console.read(), other.console.read()] == [99, 33, None]


def test_devices(tmp_path):
    vm, _ = guest("hello", 1)
    vm.board.devices["pl011"].state.imsc = 0x10
    assert moved(vm, tmp_path / "a").board.devices["pl011"].state == vm.board.devices["pl011"].state


def test_symbols_come_back_with_the_image(tmp_path):
    image = tmp_path / "guest.elf"
    image.write_bytes((GUESTS / "hello.elf").read_bytes())
    vm = Vm(image, native=FAST)
    vm.save(tmp_path / "a")
    entry = vm.image.entry
    assert Vm.load(tmp_path / "a").image.symbols.name(entry) == vm.image.symbols.name(entry)
    image.write_bytes((GUESTS / "trng.elf").read_bytes())
    assert moved(vm, tmp_path / "a").image.symbols.name(entry) is None
    image.unlink()
    other = Vm.load(tmp_path / "a")
    assert (other.image.path, other.image.entry) == (str(image), entry)
    assert other.image.symbols.name(entry) is None


@dataclass(slots=True)
class Asked:
    asked: int = 0


class Counter(Service):
    """Remembers how often it was asked."""

    name = "counter"
    State = Asked

    @fn(0xC600_0001)
    def count(self, call):
        self.state.asked += 1
        return Ret.value(self.state.asked)


def test_services_of_ones_own(tmp_path):
    vm = Vm(GUESTS / "hello.elf", services=[Counter], native=FAST)
    vm.el2.hypercall(0xC600_0001)
    other = moved(vm, tmp_path / "a", services=[Counter])
    assert other.el2.hypercall(0xC600_0001).x0 == 2
    with pytest.raises(SnapshotError, match="counter of one's own"):
        Vm.load(tmp_path / "a")


def test_the_machine_below_kvm(tmp_path):
    """No image, memory of the VMM's choice, accesses that are exits."""
    kvm = Kvm("kvm-6.12").create_vm()
    with pytest.raises(SnapshotError, match="no vCPU was set up yet"):
        kvm.vm.save(tmp_path / "a")
    vcpu = kvm.create_vcpu(0)
    vcpu.init()
    kvm.write(RAM_BASE, code(*mov(1, NOWHERE), 0xF940_0022, WFI))  # ldr x2, [x1]
    vcpu.set_one_reg(next(core.id for core in CORE if core.name == "PC"), RAM_BASE)
    assert isinstance(vcpu.run(), exits.Mmio)
    other = moved(kvm.vm, tmp_path / "a")
    assert other.traps.takes_mmio
    assert isinstance(other.pending, exits.Mmio)
    other.pending.data = 5
    other.run()
    assert other.engine.get("X2") == 5


@halves
def test_an_access_that_waits(tmp_path, native):
    vm = bare(tmp_path, mov(1, NOWHERE), 0xF940_0022, WFI, native=native)  # ldr x2, [x1]
    vm.traps.takes_mmio = True
    assert isinstance(vm.run(), exits.Mmio)
    other = moved(vm, tmp_path / "a", native=native)
    assert isinstance(other.pending, exits.Mmio)
    other.pending.data = 0x1234
    other.run()
    assert other.engine.get("X2") == 0x1234


def test_a_fault_and_its_story(tmp_path):
    """Also what an exit says that waits for no answer, and how often a guest has stumbled."""

    def stuck():
        return bare(tmp_path, 0, WFI)  # UDF, with vectors that are UDF too

    whole = stuck()
    fault = whole.run()
    assert isinstance(fault, exits.Fault)
    vm = stuck()
    vm.run(fault.cycles // 2 or 1)
    vm = moved(vm, tmp_path / "a")
    assert vm.run() == fault
    assert moved(vm, tmp_path / "a").pending == fault
    assert vm.stats() == whole.stats()


def test_not_while_it_runs(tmp_path):
    vm = Vm(GUESTS / "hello.elf", services=[Counter], native=FAST)
    caught: list[EmuError] = []
    vm.traps._semihosting.call = lambda *_: 0

    def answer(call):
        try:
            vm.save(tmp_path / "a")
        except SnapshotError as error:
            caught.append(error)
        return Ret.value(0)

    vm.el2.answer = answer
    vm.run(50_000)
    assert caught
    assert "is running" in str(caught[0])


def test_nothing_new_is_forgotten():
    """Who gives a machine more state decides here whether it is saved."""
    vm, _ = guest("hello", 1)
    known = {
        *("profile", "ram", "image", "console", "engine", "clock", "machine", "board", "timing"),
        *("scheduler", "traps", "vmm"),
        # given anew; made anew by the next call, refused, and for the start
        *("instruments", "bench", "stubs", "dtb", "_extras", "firmware"),
    }
    assert vars(vm).keys() == known
    assert vars(vm.scheduler).keys() == {
        "current", "slice_end", "_engine", "_machine", "_board",
        "only", "pace", "listeners",  # given anew, or nothing between two runs
    }  # fmt: skip
    assert vars(vm.traps).keys() == {
        "takes_mmio", "calls", "last_call", "forwarded", "monitor", "tolls",
        "_engine", "_machine", "_scheduler", "_board", "_semihosting",
        "instruments", "interposer", "serve_halt", "exit", "stops_before_call",
    }  # fmt: skip
    assert vars(vm.vmm).keys() == {
        "pending", "waiting", "_engine", "_machine", "_scheduler", "_traps", "_board",
    }  # fmt: skip
    assert vars(vm.machine).keys() == {
        "clock", "vcpus", "changed", "entropy", "last_level",
        "_memory", "_registers", "regions", "drive",  # the machine itself, and its services'
        "_predictors", "hierarchy",  # made anew, by timing, core and frequency
    }  # fmt: skip
    vcpu = {field.name for field in fields(Vcpu)} - {"index", "context", "alarm"}
    vcpu |= {"registers"}
    assert {field.name for field in fields(snapshot._VcpuState)} == vcpu
    level = {
        "profile", "host", "services", "own_classes", "functions", "_own", "_overrides", "_shared",
        "_asking", "_changed", "_instructions",
    }  # fmt: skip
    assert {*vars(vm.el2.top)} == level
    assert vars(vm.el2).keys() == {
        "host", "levels", "top", "own_services", "own_classes", "listeners", "_asking",
        "_routes", "_own_routes", "_readings", "usual",  # worked out anew
    }  # fmt: skip
    assert {field.name for field in fields(Policy)} == {
        field.name for field in fields(snapshot._PolicyState)
    }


# -- the file ---------------------------------------------------------------------------------


def test_same_state_same_file(tmp_path):
    one, _ = guest("exceptions", 1)
    two, _ = guest("exceptions", 1)
    for vm in (one, two):
        vm.run(20_000)
    assert saved(one, tmp_path / "a") == saved(two, tmp_path / "b")


def test_sparse_and_at_most_twice_its_memory_compressed(tmp_path):
    vm, _ = guest("hello", 1)
    base = vm.ram.base
    dice = random.Random(2)
    for n in range(8):
        vm.engine.write(base + (8 * n + 1) * MIB, bytes(dice.choices(b"abcdefgh", k=64 * PAGE)))
        vm.engine.write(base + (8 * n + 2) * MIB, dice.randbytes(8 * PAGE))
    memory = vm.engine.read(base, vm.ram.size)
    whole = b"".join(
        memory[n : n + PAGE] for n in range(0, len(memory), PAGE) if any(memory[n : n + PAGE])
    )
    assert len(saved(vm, tmp_path / "a")) < 2 * len(zlib.compress(whole, 6))
    assert moved(vm, tmp_path / "a").engine.read(base, vm.ram.size) == memory


def test_memory_never_touched_stays_untouched(tmp_path):
    vm = Vm(GUESTS / "hello.elf", memory=4096 * MIB, native=FAST)
    start = time.perf_counter()
    vm.save(tmp_path / "a")
    Vm.load(tmp_path / "a", native=FAST)
    assert time.perf_counter() - start < 3
    assert (tmp_path / "a").stat().st_size < 100_000


def test_a_host_that_does_not_tell_what_was_touched(tmp_path, monkeypatch):
    vm, _ = guest("hello", 1)
    quick = saved(vm, tmp_path / "a")
    monkeypatch.setattr(pages, "PAGEMAP", "/nowhere")
    assert saved(vm, tmp_path / "b") == quick


def test_an_older_file_is_replaced_and_nothing_is_left(tmp_path):
    vm, _ = guest("hello", 1)
    (tmp_path / "a").write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    vm.save(link)
    assert link.is_symlink()
    Vm.load(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "link"]


class FullDisk(io.FileIO):
    """A file on a disk with room for so many bytes."""

    room = 0

    def write(self, data) -> int:
        if self.tell() + len(data) > FullDisk.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 2000])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, room):
    vm, _ = guest("hello", 1)
    FullDisk.room = room
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(savefile.os, "fdopen", lambda number, mode: FullDisk(number, mode))
    with pytest.raises(SnapshotError, match=r"a: cannot be saved: No space left"):
        vm.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_leaves_the_old_file(tmp_path, monkeypatch, step):
    vm, _ = guest("hello", 1)
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(savefile.os, step, fail)
    with pytest.raises(SnapshotError, match="Input/output error"):
        vm.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


SLOW = """
import sys, time
from emu.base import savefile
from emu.machine.vm import Vm
vm = Vm("guests/bin/hello.elf")
whole = savefile.encode
def stall(header):
    print("saving", flush=True)
    time.sleep(60)
savefile.encode = stall
vm.save(sys.argv[1])
"""


def test_a_killed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("target", ["folder", "pipe", "nowhere/a", "file/a"])
def test_places_where_nothing_can_be_saved(tmp_path, target):
    vm, _ = guest("hello", 1)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SnapshotError) as caught:
        vm.save(tmp_path / target)
    assert "\n" not in str(caught.value)


# -- files that are wrong ---------------------------------------------------------------------

_sample: list[bytes] = []


def sample(tmp_path: Path) -> bytes:
    """A snapshot with much in it: four CPUs, some sleeping, records, output, a pending answer."""
    if not _sample:
        vm, _ = guest("psci_cpu_on", 4)
        vm.filter(FORWARDED, action="forward")
        vm.run(70_000)
        _sample.append(saved(vm, tmp_path / "sample"))
    return _sample[0]


def refusal(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "broken"
    path.write_bytes(data)
    with pytest.raises(SnapshotError) as caught:
        Vm.load(path, native=FAST)
    text = str(caught.value)
    assert text.startswith(f"{path}: cannot be loaded: ")
    assert "\n" not in text
    return text


def test_forging_is_what_saving_does(tmp_path):
    assert forged(*parts(sample(tmp_path))) == sample(tmp_path)


@many
@given(at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(tmp_path, at, bit):
    data = bytearray(sample(tmp_path))
    data[at % len(data)] ^= 1 << bit
    refusal(tmp_path, bytes(data))


@many
@given(length=st.integers(0, 1 << 20))
@example(0)
@example(PREFIX.size)
def test_any_cut_is_refused(tmp_path, length):
    data = sample(tmp_path)
    refusal(tmp_path, data[: length % len(data)])


def test_more_than_a_snapshot_is_refused(tmp_path):
    assert "bytes" in refusal(tmp_path, sample(tmp_path) + b"\0")
    assert "not a snapshot" in refusal(tmp_path, b"\x7fELF" + bytes(100))


def test_another_schema_is_refused(tmp_path):
    header, data = parts(sample(tmp_path))
    says = refusal(tmp_path, forged(header, data, schema=SCHEMA + 1))
    assert f"schema {SCHEMA + 1}, this hvcemu reads schema {SCHEMA}" in says


@pytest.mark.parametrize("target", ["nowhere", "folder", "pipe", "nul\0byte"])
def test_what_is_no_file_is_refused(tmp_path, target):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SnapshotError, match="cannot be loaded"):
        Vm.load(tmp_path / target)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"nonsense", b"{}", b"[]", b"null", b'{"a":1e5}', b'{"a":NaN}', b'{"a": 1}',
        b'{"a":1,"a":1}', b"[" * 500_000, b'{"a":' * 500_000, b"\xff\xfe", b'"\\ud800"',
        b"1" * 5000, b"0" * 70_000_000,
    ],
    ids=range(15),
)  # fmt: skip
def test_headers_that_are_none(tmp_path, text):
    refusal(tmp_path, forged(text, b""))


def test_sizes_that_lie(tmp_path):
    header, data = parts(sample(tmp_path))
    size = len(savefile.encode(header))
    for other in ({"plain": size - 1}, {"plain": size + 1}, {"plain": 1 << 31}, {"size": 0},
                  {"size": len(data) + 1}, {"size": 1 << 63}):  # fmt: skip
        refusal(tmp_path, forged(header, data, **other))


RAM_RUNS, RAM_CHUNKS = ("memory", 0, "runs"), ("memory", 0, "chunks")
REGISTERS = ("vcpus", 0, "registers")


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        (RAM_RUNS, [[0, 1 << 31]], "outside"),
        ((*RAM_RUNS, 0), [1 << 31, 1], "not in order"),
        ((*RAM_RUNS, 0), [-1, 1], "32 bits"),
        ((*RAM_RUNS, 0), [0, 0], "not in order"),
        (RAM_RUNS, [[0, 1], [1, 1]], "not in order"),
        (RAM_RUNS, [], "chunks"),
        ((*RAM_CHUNKS, 0), 1, "as long as its data"),
        (RAM_CHUNKS, [], "as long as its data"),
        (("memory", 0, "size"), 1 << 62, "too large"),
        (("memory", 0, "size"), 4095, "not in pages"),
        (("memory", 0, "size"), 0, "not in pages"),
        (("memory", 0, "base"), (1 << 64) - 4096, "not in pages"),
        (("memory", 1, "base"), 0x4000_0000, "cannot be built"),
        (("memory",), [], "as long as its data"),
        (("ram",), 0, "MiB"),
        (("ram",), 1 << 40, "cannot be built"),
        (("vcpus",), [], "no vCPU"),
        (("running",), 4, "no vCPU"),
        (("vcpus", 0, "registers", "PC"), 1 << 64, "64 bits"),
        (("vcpus", 0, "registers", "Q0"), 1 << 128, "128 bits"),
        (("vcpus", 0, "registers", "PSTATE"), 0x3CD, "EL0 or EL1"),
        (("vcpus", 0, "registers", "PSTATE"), 0x1D3, "EL0 or EL1"),
        (("vcpus", 0, "registers", "PSTATE"), 0x3C5 | 1 << 32, "32 bits"),
        (("vcpus", 0, "registers", "FPCR"), 1 << 32, "32 bits"),
        (("vcpus", 0, "registers", "HCR_EL2"), 0, "HCR_EL2 is missing, or unknown"),
        (("vcpus", 0, "registers"), {}, "missing"),
        (("vcpus", 1, "mpidr"), 0x8000_0000, "two vCPUs are one"),
        (("vcpus", 1, "state"), 99, "MpState"),
        (("vcpus", 1, "ready_since"), 1 << 57, "future"),
        (("services", "pvtime", "starts"), {"1": "a"}, "services.pvtime.starts"),
        (("services", "pvtime", "places"), [], "services.pvtime.places"),
        (("cycles",), 1 << 62, "58 bits"),
        (("cycles",), -1, "58 bits"),
        (("fraction",), 16, "fraction of a cycle is a whole one"),
        (("fraction",), -1, "32 bits"),
        (("last_cost",), 1 << 32, "32 bits"),
        (("hz",), 0, "a frequency from 1 MHz to 10 GHz"),
        (("hz",), 1 << 40, "a frequency from 1 MHz to 10 GHz"),
        (("timing",), "exact", "--timing exact"),
        (("timing",), "block", "needs a --core whose times are known"),
        (("trap_costs",), "kvm", "no trap costs"),
        (("entropy",), 1 << 64, "64 bits"),
        (("exit", "kind"), "Popen", "does not exist"),
        (("exit", "kind"), "Hypercall", "missing"),
        (("exit", "fields", "vcpu"), 9, "no vCPU"),
        (("exit", "fields", "more"), 9, "unknown"),
        (("last_call", "x"), [1], "8 to 31"),
        (("last_call", "vcpu"), 7, "no vCPU"),
        (("last_call", "imm"), 1 << 16, "no HVC"),
        (("forwarded",), {"x": [1] * 8, "conduit": "hvc", "imm": 0, "vcpu": 0}, "no exit"),
        (("profile", "tables"), [], "no table"),
        (("profile", "tables", "more"), 1, "unknown key more"),
        (("profile", "tables", "hvc"), {"0": "everywhere"}, "an interface is one of"),
        (("profile", "tables", "services"), {"os.system": {}}, "os.system"),
        (("profile", "tables", "services", "psci"), {"version": "x"}, "of type int"),
        (("profile", "tables", "modes"), {"suspend": "never"}, "mode suspend"),
        (("policy", "values"), {}, "do not agree"),
        (("policy", "ranges", 0, "base"), 0x8000_0000, "stay with KVM"),
        (("policy", "ranges", 0, "count"), 0, "empty"),
        (("policy", "ranges", 0, "action"), "run", "no Action"),
        (("policy", "written"), ["x"], "no register"),
        (("own_policies",), {"0": None}, "not a table"),
        (("overrides",), {"9": {}}, "no vCPU"),
        (("overrides",), {"0": {"x": 1}}, "no register"),
        (("devices", "pl011", "imsc"), -1, "64 bits"),
        (("devices", "gpu"), {}, "does not exist"),
        (("services", "psci"), {}, "services are not"),
        (("own_services",), ["adder"], "adder of one's own"),
        (("console", "kept"), "?", "base64"),
        (("image", "path"), "/dev/zero", None),
        (("image", "kind"), "pickle", "ImageKind"),
    ],
)  # fmt: skip
def test_hostile_headers(tmp_path, path, to, says):
    header, data = parts(sample(tmp_path))
    broken = forged(changed(header, *path, to=to), data)
    if says is None:  # taken, and without effect
        (tmp_path / "a").write_bytes(broken)
        Vm.load(tmp_path / "a", native=FAST)
    else:
        assert says in refusal(tmp_path, broken)


def test_a_bomb_is_not_unpacked(tmp_path):
    """A chunk that would give 256 MiB gives an error, and nothing of them."""
    import tracemalloc

    header, data = parts(sample(tmp_path))
    bomb = zlib.compress(bytes(1 << 28), 9)
    lengths = header["memory"][0]["chunks"]
    header = changed(header, *RAM_CHUNKS, 0, to=len(bomb))
    broken = forged(header, bomb + data[lengths[0] :])
    tracemalloc.start()
    assert "not as long as its pages" in refusal(tmp_path, broken)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_chunks_that_are_no_chunks(tmp_path):
    header, data = parts(sample(tmp_path))
    assert "decompressed" in refusal(tmp_path, forged(header, bytes(len(data))))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    return [path, *(found for key, item in items for found in leaves(item, (*path, key)))]


_places: list[tuple[Any, ...]] = []
COMMENTS = (("profile", "sources"), ("profile", "places"))
STRANGE = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**32, 2**62, 2**63, 2**64, 2**200, 4096, "", "x", True,
                     None, [], {}, [0], {"a": 0}, "handle", "/etc/passwd"]),
    st.integers(-(2**70), 2**70),
    st.text(max_size=5),
)  # fmt: skip


def loaded_or_refused(path: Path) -> Vm | None:
    said = ""
    try:
        return Vm.load(path, native=FAST)
    except SnapshotError as error:
        said = str(error)
    assert said
    assert "\n" not in said
    return None


@settings(many, max_examples=200)
@given(which=st.lists(st.integers(0, 1 << 30), min_size=1, max_size=3), to=STRANGE)
def test_any_other_header_is_refused_or_runs(tmp_path, which, to):
    """Wherever a value is replaced, the outcome is one line, or a machine that works."""
    header, data = parts(sample(tmp_path))
    if not _places:
        # The comments of a profile are most of it, and texts that nobody interprets.
        _places.extend(path for path in leaves(header) if path and path[:2] not in COMMENTS)
    for n in which:
        try:
            header = changed(header, *_places[n % len(_places)], to=to)
        except (KeyError, IndexError, TypeError):
            continue
    path = tmp_path / "fuzz"
    try:
        path.write_bytes(forged(header, data))
    except UnicodeEncodeError:
        return
    if vm := loaded_or_refused(path):
        vm.run(500)
        vm.save(path)


@many
@given(at=st.integers(0, 1 << 20), byte=st.integers(0, 255))
def test_any_other_data_is_refused_or_runs(tmp_path, at, byte):
    header, data = parts(sample(tmp_path))
    changed_data = bytearray(data)
    changed_data[at % len(data)] = byte
    path = tmp_path / "fuzz"
    path.write_bytes(forged(header, bytes(changed_data)))
    if vm := loaded_or_refused(path):
        vm.run(1_000)


# -- the command line ---------------------------------------------------------------------------


def test_save_and_run_on(tmp_path, hvcemu):
    file = tmp_path / "a"
    status, out, err = hvcemu(
        "run", "psci_cpu_on", "--cpus", 4, "--save", file, "--save-at", 70_000
    )
    assert status == 0
    assert re.search(r"saved to .* at cycle 70,0\d\d", err)
    status, rest, err = hvcemu("run", "--restore", file)
    assert (status, err) == (0, "")
    assert rest
    assert out.endswith(rest)
    assert len(rest) < len(out)


def test_a_stopped_run_is_saved(tmp_path, hvcemu):
    file, trace = tmp_path / "a", tmp_path / "trace"
    first = hvcemu("run", "psci_cpu_on", "--cpus", 4, "--save", file, "--max-cycles", 70_000)
    assert first[0] == 124
    assert "limit reached" in first[2]
    assert f"saved to {file} at cycle 70,0" in first[2]
    second = hvcemu("run", "--restore", file, "--trace-file", trace, "--max-cycles", 10**9)
    assert second[0] == 0
    whole = hvcemu("run", "psci_cpu_on", "--cpus", 4)
    assert first[1] + second[1] == whole[1]
    assert "psci_cpu_on.elf" in trace.read_text().partition("\n")[0]


@pytest.mark.parametrize(
    ("options", "says"), [((), "was stopped"), (("--save-at", 10**9), "cycle 1,")]
)
def test_a_run_that_ends_is_not_saved(tmp_path, hvcemu, options, says):
    status, _, err = hvcemu("run", "hello", "--save", tmp_path / "a", *options)
    assert status == 0
    assert "not saved: the run ended before" in err
    assert says in err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--restore", "a", "hello"), "IMAGE and --restore exclude each other"),
        (("--restore", "a", "--cpus", "2"), "--cpus and --restore exclude"),
        (("--restore", "a", "--profile", "nona"), "unknown profile nona: did you mean none"),
        (("--from", "nowhere", "--profile", "none"), "nowhere: cannot be loaded: No such file"),
        (("--from", __file__, "--profile", "none"), "not a snapshot"),
        (("--from", "a", "--profile", "none", "--seed", "3"), "--seed and --restore exclude"),
        (("--restore", "a", "--deny", "0x84000000"), "--deny and --restore exclude"),
        (("--restore", "nowhere"), "nowhere: cannot be loaded: No such file"),
        (("--restore", __file__), "not a snapshot"),
        (("hello", "--save-at", "5"), "--save-at needs --save"),
        ((), "give an IMAGE to run, or --restore FILE"),
        (("hello", "--save", "/nowhere/a", "--max-cycles", "9"), "/nowhere/a: cannot be saved"),
    ],
)
def test_mistakes_are_one_line(hvcemu, words, says):
    status, out, err = hvcemu("run", *words)
    assert (status, out) == (2, "")
    assert says in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_file_does_not_choose_what_is_executed(tmp_path):
    """A forwarded call's function is run only when the command line names it again."""
    answer = tmp_path / "answer.py"
    answer.write_text("def seven(call):\n    return 7\n")
    target = f"{answer}:seven"
    vm = bare(tmp_path, mov(0, FORWARDED), hvc(), WFI)
    vm.filter(FORWARDED, action="forward", target=target)

    def runner(targets: frozenset[str] | None) -> Runner:
        status = StatusLine(io.StringIO())
        loaded = moved(vm, tmp_path / "a")
        return Runner(loaded, Limits(), lambda _: None, status, None, None, targets)

    with pytest.raises(EmuError, match="give --forward ID="):
        runner(frozenset()).run()
    again = runner(frozenset({target}))
    again.run()
    assert again.vm.engine.get("X0") == 7


def test_saving_at_a_cycle_with_calls_to_answer(tmp_path):
    """The answer already given goes into the file."""
    vm = bare(tmp_path, mov(0, FORWARDED), hvc(), movz(1, 3), b(-4))
    vm.filter(FORWARDED, action="forward")
    saving = Saving(str(tmp_path / "a"), Moment(500))
    said: list[str] = []
    Runner(vm, Limits(cycles=1000), said.append, StatusLine(io.StringIO()), None, saving).run()
    other = Vm.load(tmp_path / "a", native=FAST)
    assert 500 <= other.clock.cycles < 520
    assert said[0].startswith("saved to")


def test_prefix_is_64_bytes():
    assert PREFIX.size == struct.calcsize("<8sIIQQ32s") == 64

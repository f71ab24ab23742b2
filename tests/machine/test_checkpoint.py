"""A machine put back: the run from a checkpoint is the run that would have followed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.console import Console, Typed
from emu.base.errors import EmuError
from emu.machine import checkpoint
from emu.machine.checkpoint import Checkpoint
from emu.machine.vm import Vm
from engine_kit import NOP, WFI, add, b, code, halves, hlt, hvc, mov, store, str_w
from kit import Watch
from places import GUESTS

LOAD, DATA = 0x4008_0000, 0x4100_0000
MEMORIES = [
    pytest.param(
        checkpoint._Mapped, id="mapped",
        marks=pytest.mark.skipif(
            not hasattr(checkpoint.os, "memfd_create"), reason="needs Linux: memfd_create"
        ),
    ),
    pytest.param(checkpoint._Copied, id="copied"),
]  # fmt: skip


@pytest.fixture(params=MEMORIES)
def memory(request, monkeypatch):
    monkeypatch.setattr(checkpoint, "_Memory", request.param)


def seen(vm: Vm) -> tuple[object, ...]:
    """A run to its end, and everything that can be seen of it."""
    watch = Watch()
    vm.instruments[:] = [watch]
    vm.run()
    registers = vm.engine.read_vcpu()
    return vm.stats(), str(vm.console), tuple(watch.told), registers, vm.machine.entropy.state


@halves
@pytest.mark.parametrize(
    ("guest", "cpus", "cut"),
    [
        ("smccc_discover", 1, 0), ("smccc_discover", 1, 9_000), ("psci_cpu_on", 4, 60_000),
        ("trng", 1, 12_000), ("exceptions", 1, 20_000), ("probe_blind", 1, 3_000),
    ],
)  # fmt: skip
def test_a_run_from_a_checkpoint_is_the_run(memory, guest, cpus, cut, native):
    vm = Vm(GUESTS / f"{guest}.elf", cpus=cpus, native=native)
    vm.run(cut)
    point = Checkpoint(vm)
    first = seen(vm)
    for _ in range(3):
        assert point.restore() is vm
        assert seen(vm) == first
    direct = Vm(GUESTS / f"{guest}.elf", cpus=cpus, native=native)
    direct.run(cut)
    assert seen(direct) == first


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(0, 130_000), back=st.integers(0, 130_000))
def test_wherever_it_is_cut(cut, back):
    vm = Vm(GUESTS / "psci_cpu_on.elf", cpus=3)
    vm.run(cut)
    point = Checkpoint(vm)
    first = seen(vm)
    point.restore()
    vm.run(back)
    point.restore()
    assert seen(vm) == first


def of_words(tmp_path, *words, **options) -> Vm:
    flat = [w for word in words for w in (word if isinstance(word, list) else [word])]
    path = tmp_path / "code.bin"
    path.write_bytes(code(*flat))
    return Vm(path, load=LOAD, **options)


def test_memory_comes_back_and_new_pages_are_zero(memory, tmp_path):
    vm = of_words(tmp_path, mov(1, DATA), mov(2, 7), store(2, 1), WFI)
    vm.engine.write(DATA + 4096, b"kept")
    point = Checkpoint(vm)
    vm.run()
    vm.engine.write(DATA + 4096, b"lost")
    assert vm.engine.read(DATA, 1) == b"\7"
    point.restore()
    assert vm.engine.read(DATA, 1) == b"\0"
    assert vm.engine.read(DATA + 4096, 4) == b"kept"


@halves
def test_code_that_changes_itself_is_translated_anew(memory, tmp_path, native):
    """The second word becomes HLT #1 behind the checkpoint, and is ADD again from it."""
    changed = LOAD + 4 * 10
    words = [mov(5, 0), b(1), *[NOP] * 2, mov(1, changed), mov(2, hlt(1))]
    flat = [w for word in words for w in (word if isinstance(word, list) else [word])]
    body = [*flat, *[NOP] * (10 - len(flat)), add(5, 5, 1), str_w(2, 1), WFI, b(-3)]
    vm = of_words(tmp_path, *body, native=native)
    point = Checkpoint(vm)
    for _ in range(3):
        vm.run()
        assert vm.engine.get("X5") == 1
        assert vm.engine.read(changed, 4) == hlt(1).to_bytes(4, "little")
        point.restore()


def test_policy_services_and_console_come_back():
    console = Console(Typed(b"abc"))
    vm = Vm(GUESTS / "smccc_discover.elf", console=console)
    policy = vm.el2.policy
    point = Checkpoint(vm)
    vm.filter(0x8400_0000)
    vm.console.write(b"something")
    vm.run()
    point.restore()
    assert vm.el2.policy is policy
    assert (str(vm.console), vm.console.printed) == ("", 0)
    assert vm.console.read() == ord("a")


def test_a_machine_put_back_can_be_saved_and_kept_again(memory, tmp_path):
    """Pages that only the checkpoint's file holds are as good as any."""
    vm = Vm(GUESTS / "smccc_discover.elf")
    vm.run(9_000)
    first = Checkpoint(vm)
    vm.run(3_000)
    first.restore()
    vm.save(tmp_path / "saved")
    second = Checkpoint(vm)
    expected = seen(vm)
    second.restore()
    assert seen(vm) == expected
    first.restore()
    assert seen(vm) == expected
    assert seen(Vm.load(tmp_path / "saved")) == expected


def test_watches_end_with_the_run_they_were_for(tmp_path):
    vm = of_words(tmp_path, NOP, NOP, WFI)
    point = Checkpoint(vm)
    heard: list[int] = []
    vm.engine.watch_code(LOAD, LOAD + 8, lambda address, _: heard.append(address))
    vm.run()
    assert heard == [LOAD, LOAD + 4, LOAD + 8]
    point.restore()
    vm.run()
    assert len(heard) == 3


def test_not_while_it_runs(tmp_path):
    vm = of_words(tmp_path, mov(0, 0x8400_0000), hvc(), WFI)
    failures: list[str] = []

    def answer(call, ask):
        with pytest.raises(EmuError, match="between two runs") as caught:
            Checkpoint(vm)
        failures.append(str(caught.value))
        return ask(call)

    vm.traps.interposer = answer
    vm.run()
    assert failures


def test_a_thousand_times_costs_no_memory():
    vm = Vm(GUESTS / "hello.elf")
    point = Checkpoint(vm)
    vm.run()
    hooks = len(vm.engine.cpu._hooks)
    for _ in range(300):
        point.restore()
        vm.engine.watch_reads(DATA, DATA + 8, lambda *_: None)
        vm.run()
    point.restore()
    assert len(vm.engine.cpu._hooks) == hooks
    assert len(vm.engine.cpu._dead) <= 1


def test_policies_of_all_levels_are_put_back(memory, tmp_path):
    profile = tmp_path / "two.toml"
    profile.write_text(
        'extends = "kvm-6.12"\n[smc]\n0 = "down"\n'
        '[el3.smc]\n0 = "smccc"\n[el3.services.psci]\n'
    )
    vm = Vm(GUESTS / "hello.elf", profile=str(profile))
    point = Checkpoint(vm)
    before = [level.policy for level in vm.monitor.levels]
    for name in ("psci", "el3.psci"):
        vm.monitor.switch_feature(name, on=False)
    point.restore()
    assert [level.policy for level in vm.monitor.levels] == before
    assert vm.monitor.hypercall(0x8400_0000, conduit="smc").signed > 0

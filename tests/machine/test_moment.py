"""When a machine is saved, and going on from there below another profile."""

import argparse
from types import SimpleNamespace

import pytest

from emu.base import exits
from emu.base.clock import Clock
from emu.base.console import Console
from emu.base.errors import EmuError
from emu.base.smccc import Ret
from emu.cli.arguments import moment
from emu.machine.moment import Moment, Waiting
from emu.machine.vm import Stats, Vm
from emu.world.monitor import El2
from emu.world.profile import load_profile
from emu.world.service import Service, fn
from engine_kit import WFI, code, halves, hvc, mov, smc
from kit import Watch

PSCI_VERSION, PV_TIME_ST = 0x8400_0000, 0xC500_0021


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("first-hypercall", Moment(first_call=True)), ("cycle:0x10", Moment(16)),
        ("5_000", Moment(5000)), ("console:a\\nb: c", Moment(text=b"a\nb: c")),
    ],
)  # fmt: skip
def test_words(text, want):
    assert moment(text) == want


@pytest.mark.parametrize("text", ["", "console:", "cycle:", "cycle:0", "0", "hypercall", "-1"])
def test_other_words(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is none of first-hypercall, console"):
        moment(text)


@halves
@pytest.mark.parametrize("call", [hvc(), smc()])
def test_just_before_the_first_call(tmp_path, native, call):
    """PC is on the call, and the run from there is the run without a stop."""
    path = tmp_path / "guest.bin"
    path.write_bytes(code(*mov(0, PSCI_VERSION), call, *mov(0, PSCI_VERSION), call, WFI))
    plain = Vm(path, load=0x4008_0000, native=native, instruments=[first := Watch()])
    end = plain.run()
    vm = Vm(path, load=0x4008_0000, native=native, instruments=[second := Watch()])
    vm.traps.stops_before_call = True
    assert isinstance(vm.run(), exits.Deadline)
    assert vm.engine.read(vm.engine.get("PC"), 4) == call.to_bytes(4, "little")
    assert vm.stats() == (2, 2, 0)
    assert vm.engine.get("X0") == PSCI_VERSION
    vm.save(tmp_path / "a")
    loaded = Vm.load(tmp_path / "a", native=native, instruments=[third := Watch()])
    assert vm.run() == loaded.run() == end
    assert vm.stats() == loaded.stats() == plain.stats()
    assert second.told[1:] == third.told == first.told


def answers(path, profile):
    """x0 of PSCI_VERSION and of PV_TIME_ST, below a profile reached from the first call."""
    vm = Vm(path, profile="kvm-4.15", load=0x4008_0000)
    vm.traps.stops_before_call = True
    vm.run()
    vm.begin_below(load_profile(profile))
    vm.run()
    return vm


def test_below_another_profile(tmp_path):
    path = tmp_path / "guest.bin"
    path.write_bytes(code(*mov(0, PV_TIME_ST), hvc(), WFI))
    vm = answers(path, "kvm-6.12")  # which has stolen time, where kvm-4.15 has none
    assert vm.engine.has_ram(vm.engine.get("X0"), 64)
    assert vm.profile.name == "kvm-6.12"
    with pytest.raises(EmuError, match=r"has made 1 calls below kvm-6\.12"):
        vm.begin_below(load_profile("kvm-6.1"))
    assert answers(path, "kvm-6.1").el2.policy == El2("kvm-6.1").policy
    assert answers(path, "qemu-tcg").engine.get("X0") == 0xFFFF_FFFF_FFFF_FFFF


def test_services_of_ones_own_stay(tmp_path):
    class Adder(Service):
        name = "adder"

        @fn(0xC600_0042)
        def add(self, call):
            return Ret.success(call.arg(1) + 1)

    path = tmp_path / "guest.bin"
    path.write_bytes(code(*mov(0, 0xC600_0042), *mov(1, 6), hvc(), WFI))
    vm = Vm(path, load=0x4008_0000, services=[Adder])
    vm.traps.stops_before_call = True
    vm.run()
    vm.begin_below(load_profile("kvm-6.1"))
    vm.run()
    assert vm.engine.get("X1") == 7


class Talker:
    """What of a `Vm` is waited for."""

    def __init__(self):
        self.console, self.clock = Console(), Clock()
        self.traps = SimpleNamespace(stops_before_call=False)

    def stats(self):
        return Stats(0, 0, 0)


def test_a_text_that_comes_in_two_pieces():
    vm = Talker()
    vm.console.write(b"old login: ")
    waiting, looks = Waiting(Moment(text=b"login: "), vm), []
    for words in (b"", b"log", b"in: ", b"more"):
        vm.console.write(words)
        vm.clock.jump(waiting.look - vm.clock.cycles - 1)
        assert not waiting.has_come()  # nobody looks before
        vm.clock.jump(1)
        looks.append(waiting.has_come())
    assert looks == [False, False, True, False]


def test_how_often_the_console_is_looked_at():
    vm, looks = Talker(), 0
    waiting = Waiting(Moment(text=b"never"), vm)
    while vm.clock.cycles < 1 << 30:
        late = waiting.look - vm.clock.cycles
        assert late <= max(vm.clock.cycles / 256, 256)
        vm.clock.jump(late)
        waiting.has_come()
        looks += 1
    assert looks < 4000


def test_on_the_command_line(tmp_path, hvcemu):
    file = tmp_path / "a"
    plain = hvcemu("run", "smccc_discover", "--profile", "kvm-6.1")
    words = ("run", "smccc_discover", "--checkpoint-at", "first-hypercall", "--save", file)
    status, _, err = hvcemu(*words)
    assert status == 0
    assert "saved to" in err
    status, out, err = hvcemu("run", "--from", file, "--profile", "kvm-6.1", "--check")
    assert (status, err) == (plain[0], "no rule broken\n")
    assert plain[1].endswith(out)
    _, out, err = hvcemu("run", "--from", file, "--profile", "none", "--trace", "calls")
    assert err.startswith(
        "the device tree stays that of kvm-6.12, /psci arm,psci-1.0 by hvc; "
        "none would have no /psci\n"
    )
    assert "UNDEF" in err
    denied = ("--deny", "0x84000050-0x8400005F", "--trace", "calls")
    _, out, err = hvcemu("run", "--restore", file, "--profile", "kvm-6.12", *denied)
    assert "SMCCC filter denies" in err


def test_a_text_on_the_command_line(tmp_path, hvcemu):
    file, again = tmp_path / "a", tmp_path / "b"
    words = ("run", "psci_cpu_on", "--cpus", 2, "--save-at", "console:round 2: cpu 1")
    status, out, err = hvcemu(*words, "--save", file)
    assert status == 0
    hvcemu(*words, "--save", again)
    assert file.read_bytes() == again.read_bytes()
    _, rest, _ = hvcemu("run", "--restore", file)
    assert out.endswith(rest)
    assert "round 2: all off again" in rest
    assert "round 1: all off again" not in rest
    for words, says in (
        (("--profile", "none"), "calls below kvm-6.12 and knows it: save it with --save-at"),
        (("--save-at", "first-hypercall", "--save", again), "this guest has made"),
    ):
        status, out, err = hvcemu("run", "--from", file, *words)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err
    status, _, err = hvcemu("run", "hello", "--save", again, "--save-at", "console:nobody")
    assert (status, err) == (0, "not saved: the run ended before its console said 'nobody'\n")

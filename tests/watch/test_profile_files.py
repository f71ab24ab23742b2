"""Profiles for other tools: their sums are the machine's, and their forms those of the formats."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import NamedTuple

import pytest

from emu.base.errors import EmuError
from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tracks import Kind
from emu.engine.engine import native_available
from emu.machine.vm import Vm
from emu.watch.ledger import Ledger
from emu.watch.profile_files import callgrind, folded, speedscope, write_profile
from places import GUESTS
from timing_kit import ByWord

NAMES = ["hello", "psci_cpu_on", "exceptions"]
guests = pytest.mark.parametrize("name", NAMES)
_made: dict[str, Vm] = {}


@pytest.fixture(autouse=True)
def _by_word(monkeypatch):
    monkeypatch.setattr("emu.machine.vm.block_costs_of", lambda *_: BlockCosts(ByWord()))


def machine(name: str) -> Vm:
    """A guest that has run, on two vCPUs."""
    if name not in _made:
        vm = Vm(GUESTS / f"{name}.elf", cpus=2, core="cortex-a53", trap_costs="kvm-vhe",
                native=native_available())  # fmt: skip
        vm.follow()
        vm.run(4_000_000)
        _made[name] = vm
    return _made[name]


def busy(ledger: Ledger) -> int:
    """Whole cycles of all vCPUs."""
    return (ledger.total - ledger.idle) // SIXTEENTHS


@guests
def test_folded_stacks_add_up_to_the_vcpus_time(name):
    ledger = Ledger(machine(name))
    sums: dict[str, int] = {}
    for line in folded(ledger):
        match = re.fullmatch(r"(vCPU \d)((?:;[^;]+)*) (\d+)", line)
        assert match, line
        sums[match[1]] = sums.get(match[1], 0) + int(match[3])
    vcpus = {use.name: use.within for use in ledger.vcpus()}
    assert sums.keys() <= vcpus.keys()
    assert sum(sums.values()) == busy(ledger)
    for vcpu, cycles in sums.items():
        assert abs(cycles - vcpus[vcpu] / SIXTEENTHS) < 1, "what is carried over is less than one"


def test_a_stack_names_who_called_whom():
    lines = list(folded(Ledger(machine("hello"))))
    assert any(re.match(r"vCPU 0;main;puts;.*\[device access, to the VMM\] \d+", x) for x in lines)
    assert any(";main;machine_read;strlen " in line for line in lines)


def test_a_name_with_a_semicolon_is_one_name(monkeypatch):
    """The separator of stacks, which C++ symbols may hold."""
    ledger = Ledger(machine("hello"))
    name = ledger.name
    monkeypatch.setattr(ledger, "name", lambda frame: name(frame).replace("main", "a;b"))
    assert any(line.startswith("vCPU 0;a,b") for line in folded(ledger))


@guests
def test_speedscope(name):
    """speedscope's file-format-schema.json: what it requires, and that every index is one."""
    ledger = Ledger(machine(name))
    found = json.loads(json.dumps(speedscope(ledger, f"run {name}")))
    assert found["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert found["name"] == f"run {name}"
    names = [frame["name"] for frame in found["shared"]["frames"]]
    assert len(set(names)) == len(names)
    assert found["profiles"]
    weights = 0
    for profile in found["profiles"]:
        assert profile.keys() == {
            "type", "name", "unit", "startValue", "endValue", "samples", "weights"
        }  # fmt: skip
        assert (profile["type"], profile["unit"], profile["startValue"]) == ("sampled", "none", 0)
        assert len(profile["samples"]) == len(profile["weights"])
        assert profile["endValue"] == sum(profile["weights"])
        for sample in profile["samples"]:
            assert names[sample[0]] == profile["name"]
            assert all(0 <= index < len(names) for index in sample)
        assert min(profile["weights"]) > 0
        weights += profile["endValue"]
    assert weights == busy(ledger)


def test_speedscope_and_folded_stacks_say_the_same():
    ledger = Ledger(machine("psci_cpu_on"))
    found = speedscope(ledger, "")
    names = [frame["name"] for frame in found["shared"]["frames"]]
    lines = [
        f"{';'.join(names[index] for index in sample)} {weight}"
        for profile in found["profiles"]
        for sample, weight in zip(profile["samples"], profile["weights"], strict=True)
    ]
    assert sorted(lines) == sorted(folded(ledger))


# -- callgrind -------------------------------------------------------------------------------------


class Cost(NamedTuple):
    cycles: int
    instructions: int


class Callgrind(NamedTuple):
    """What a file says: own costs by function, calls by (caller, callee), and its totals."""

    header: dict[str, str]
    own: dict[str, Cost]
    calls: dict[tuple[str, str], tuple[int, Cost]]
    totals: Cost


def plus(a: Cost, b: Cost) -> Cost:
    return Cost(a.cycles + b.cycles, a.instructions + b.instructions)


def read_callgrind(lines: list[str]) -> Callgrind:
    """A reader of what the manual's grammar has of it; anything else is an error."""
    assert lines[0] == "# callgrind format"
    header: dict[str, str] = {}
    own: dict[str, Cost] = {}
    calls: dict[tuple[str, str], tuple[int, Cost]] = {}
    fn = callee = ""
    pending: int | None = None
    totals = Cost(-1, -1)
    for line in lines[1:]:
        if match := re.fullmatch(r"totals: (\d+) (\d+)", line):
            totals = Cost(int(match[1]), int(match[2]))
        elif match := re.fullmatch(r"(version|creator|cmd|positions|events): (.*)", line):
            assert not fn, "the header comes first"
            header[match[1]] = match[2]
        elif match := re.fullmatch(r"(ob|fl)=(.+)", line):
            header[match[1]] = match[2]
        elif match := re.fullmatch(r"fn=(.+)", line):
            fn = match[1]
        elif match := re.fullmatch(r"cfn=(.+)", line):
            callee = match[1]
        elif match := re.fullmatch(r"calls=(\d+) (0x[0-9a-f]+)", line):
            assert callee
            pending = int(match[1])
        elif match := re.fullmatch(r"(0x[0-9a-f]+) (\d+) (\d+)", line):
            cost = Cost(int(match[2]), int(match[3]))
            if pending is None:
                own[fn] = plus(own.get(fn, Cost(0, 0)), cost)
            else:
                times, before = calls.get((fn, callee), (0, Cost(0, 0)))
                calls[fn, callee] = times + pending, plus(before, cost)
                pending, callee = None, ""
        else:
            assert line == "", line
    assert pending is None
    return Callgrind(header, own, calls, totals)


@guests
def test_callgrind(name):
    vm = machine(name)
    ledger = Ledger(vm)
    found = read_callgrind(list(callgrind(ledger, f"run {name}", vm.image.path)))
    assert found.header == {
        "version": "1", "creator": "hvcemu", "cmd": f"run {name}", "positions": "instr",
        "events": "Cycles Instructions", "ob": vm.image.path, "fl": vm.image.path,
    }  # fmt: skip
    assert found.totals == (busy(ledger), vm.stats().instructions)
    assert sum(cost.cycles for cost in found.own.values()) == found.totals.cycles
    assert sum(cost.instructions for cost in found.own.values()) == found.totals.instructions
    times = {}
    for frame in ledger.frames:
        if frame.kind != Kind.VCPU:
            caller = ledger.name(ledger.frames[frame.parent])
            key = caller, ledger.name(frame)
            times[key] = times.get(key, 0) + max(frame.calls, 1)
    assert {key: count for key, (count, _) in found.calls.items()} == times
    for use in ledger.vcpus():
        below = [cost for (caller, _), (_, cost) in found.calls.items() if caller == use.name]
        whole = found.own[use.name].cycles + sum(cost.cycles for cost in below)
        assert abs(whole - use.within // SIXTEENTHS) <= len(below) + 1


@pytest.mark.skipif(
    shutil.which("callgrind_annotate") is None, reason="callgrind_annotate (valgrind) is not there"
)
@guests
def test_callgrind_annotate_reads_it(name, tmp_path):
    vm = machine(name)
    path = tmp_path / "callgrind.out.1"
    write_profile(vm, str(path), f"run {name}")
    done = subprocess.run(
        ["callgrind_annotate", "--auto=no", "--threshold=100", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(rf"{busy(Ledger(vm)):,} .*PROGRAM TOTALS", done.stdout), done.stdout
    assert "main" in done.stdout
    assert done.stderr == ""


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "begins"),
    [("x.folded", "vCPU 0"), ("x.json", "{"), ("callgrind.out", "# callgrind format"),
     ("noname", "# callgrind format")],
)  # fmt: skip
def test_the_form_is_told_by_the_name(name, begins, tmp_path):
    write_profile(machine("hello"), str(tmp_path / name), "run hello")
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text.startswith(begins)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("place", ["nowhere/x.folded", "."])
def test_a_file_that_cannot_be_written(place, tmp_path):
    with pytest.raises(EmuError, match=r"^--profile-out .*: (No such file|Is a directory)"):
        write_profile(machine("hello"), str(tmp_path / place), "run hello")

"""`--stats` as text: what each line says is what was counted."""

from __future__ import annotations

import re

import pytest

from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import SIXTEENTHS
from emu.cycles.trap_prices import trap_prices
from emu.engine.engine import native_available
from emu.machine.vm import Vm
from emu.watch.ledger import Ledger
from emu.watch.ledger_report import MOST_BLOCKS, MOST_LINES, report
from engine_kit import halves
from places import GUESTS
from timing_kit import ByWord, Even


@pytest.fixture(autouse=True)
def _by_word(monkeypatch):
    monkeypatch.setattr("emu.machine.vm.block_costs_of", lambda *_: BlockCosts(ByWord()))


def run(name: str, *, limit: int = 4_000_000, native: bool | None = None, **options: object) -> Vm:
    settings = {"core": "cortex-a53", "trap_costs": "kvm-nvhe"} | options
    vm = Vm(GUESTS / f"{name}.elf", native=native, **settings)  # type: ignore[arg-type]
    vm.follow()
    vm.run(limit)
    return vm


def sections(vm: Vm) -> dict[str, list[str]]:
    """The parts of a report by their first word; each begins behind an empty line."""
    parts = "\n".join(report(vm)).strip("\n").split("\n\n")
    found: dict[str, list[str]] = {}
    for part in parts:
        found.setdefault(re.split(r"  |: | at 0x", part.strip())[0], part.splitlines())
    return found


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_head_says_how_long_at_what_rate_and_by_which_rules():
    vm = run("hello", freq=1_500_000_000)
    first, second, *more = list(report(vm))[1:4]
    stats = vm.stats()
    assert first.startswith(f"{stats.cycles:,} cycles, {stats.instructions:,} instructions, ")
    assert first.endswith("at 1,500 MHz")
    assert f"{vm.clock.nanoseconds / 1000:,.3f} µs" in first
    assert second == "core cortex-a53, timing block; traps cost kvm-nvhe"
    assert more == [
        f"{Ledger(vm).unknown:,} times there was a word that no table knows; where it was "
        "executed it cost the core's default"
    ]


def test_without_a_model_it_says_that_an_instruction_is_a_cycle(monkeypatch):
    monkeypatch.setattr("emu.machine.vm.block_costs_of", lambda *_: BlockCosts(Even()))
    vm = run("hello", core="max", trap_costs=None)
    assert "core max, an instruction is a cycle; traps cost zero" in list(report(vm))
    assert vm.stats().cycles == vm.stats().instructions


def test_vcpus_and_idle_time_add_up():
    vm = run("psci_cpu_on", cpus=4)
    rows = next(iter(s for k, s in sections(vm).items() if k == "cycles"))
    found = {row.split("  ")[0]: row[len(row.split("  ")[0]) :].split() for row in rows[1:]}
    assert abs(sum(number(cells[0]) for cells in found.values()) - vm.stats().cycles) <= len(found)
    assert sum(number(cells[1]) for name, cells in found.items() if name != "idle") == (
        vm.stats().instructions
    )


def test_a_call_of_hvc_loop_and_where_it_goes():
    """The issue's example: what ATC'17 measured, and the guest's own instructions."""
    vm = run("hvc_loop", limit=2_000_000, trap_costs="kvm-nvhe")
    costs = trap_prices("kvm-nvhe")
    title, row = sections(vm)["call"]
    assert title.split() == ["call", "made", "entry", "handler", "return", "each"]
    name, made, entry, handler, back, each = re.split(r" {2,}", row)
    assert name == "hvc PSCI_VERSION"
    calls = number(made)
    assert calls == vm.stats().calls
    assert number(entry) == calls * costs.hvc_entry.cycles
    assert number(handler) + number(back) == pytest.approx(
        calls * (costs.hvc_handler.cycles + costs.hvc_return.cycles), rel=0.01
    )
    assert float(each.replace(",", "")) == pytest.approx(costs.hvc, rel=0.01)


def test_exceptions_and_events_are_listed():
    vm = run("exceptions")
    title, *rows = sections(vm)["exception at EL1"]
    assert title.split()[-4:] == ["entry", "to", "its", "return"] or "each" in title
    entry = vm.engine.hooks.exception_cost
    for row in rows:
        _, taken, spent_on_entry, *_ = re.split(r" {2,}", row)
        assert number(spent_on_entry) == number(taken) * entry // SIXTEENTHS


def test_the_listing_of_a_block_adds_up():
    vm = run("hello")
    block = Ledger(vm).blocks[0]
    listing = next(part for name, part in sections(vm).items() if name == "block")
    lines = [line.split() for line in listing[2:]]
    words = len(block.charge.code) // 4
    assert len(lines) == min(words, MOST_LINES) + (words > MOST_LINES)
    for n, cells in enumerate(lines[:MOST_LINES]):
        assert float(cells[0]) == pytest.approx(block.charge.cost.prefix[n] / 16, abs=0.005)
        assert f"{block.address + 4 * n:#x}" in cells
    assert f"run {block.runs:,} times" in listing[0]


def test_long_lists_are_cut_and_say_so(monkeypatch):
    vm = run("ptp", cpus=2)
    functions = Ledger(vm).functions()
    monkeypatch.setattr("emu.watch.ledger_report.MOST_FUNCTIONS", 5)
    parts = sections(vm)
    assert parts["function"][-1] == f"and {len(functions) - 5:,} functions more"
    assert len(parts["function"]) == 5 + 2
    assert "\n".join(report(vm)).count("\nblock at ") == MOST_BLOCKS


@halves
def test_both_halves_report_the_same(native):
    texts = ["\n".join(report(run("psci_cpu_on", cpus=4, native=half)))
             for half in {native, native_available()}]  # fmt: skip
    assert len(set(texts)) == 1


def test_no_line_ends_with_a_space():
    assert all(line == line.rstrip() for line in report(run("psci_cpu_on", cpus=4)))


def test_what_was_not_expected_and_not_there():
    vm = run("psci_cpu_on", cpus=2, timing="cache", core="cortex-a55")
    title, data, fetched, second, last, all_of_them = sections(vm)["cache"]
    assert title.split() == ["cache", "looked", "up", "missed", "share", "cycles", "lost"]
    caches = [vcpu.caches for vcpu in vm.machine.vcpus if vcpu.caches is not None]
    assert number(data.split()[2]) == sum(one.accesses for one in caches)
    assert number(data.split()[3]) == sum(one.data_misses for one in caches)
    misses = number(data.split()[3]) + sum(one.code_misses for one in caches)
    assert number(second.split()[1]) == misses
    assert fetched.startswith("L1 code")
    assert number(last.split()[2]) == sum(one.l2_misses for one in caches)
    stalled = sum(one.stalled for one in caches)
    assert number(all_of_them.split()[1]) == stalled // SIXTEENTHS > 0
    assert "cache" not in sections(run("hello"))
    assert "last level" not in "\n".join(report(run("hello", timing="cache")))

"""`hvcemu run --stats`: where the cycles went, in lines of text.

Every figure is the clock's: whole cycles are printed, sixteenths only where a block is taken apart.
The listing of a block is read as llvm-mca's timeline: in the steady state of the block, when each
instruction begins, how long after the one before it, and how much of that the core waited: beyond
the share of a cycle that an instruction takes of its width. The first comes after the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from emu.arm.arch import INSN_SIZE
from emu.cycles.caches import Caches
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import CallCost
from emu.machine.vm import Vm
from emu.watch.ledger import HotBlock, Ledger, Use, trap_name
from emu.watch.report import disassemble

MOST_FUNCTIONS, MOST_BLOCKS, MOST_LINES = 20, 3, 24
"""How much of it is printed."""


def report(vm: Vm) -> Iterator[str]:
    """The whole report."""
    ledger = Ledger(vm)
    yield from _head(vm, ledger)
    yield from _vcpus(ledger)
    yield from _branches(vm)
    yield from _caches(vm, ledger)
    yield from _functions(ledger)
    yield from _exceptions(vm, ledger)
    yield from _calls(vm, ledger)
    yield from _events(ledger)
    yield from _blocks(vm, ledger)


def _head(vm: Vm, ledger: Ledger) -> Iterator[str]:
    stats, clock = vm.stats(), vm.clock
    yield ""
    yield (
        f"{stats.cycles:,} cycles, {stats.instructions:,} instructions, "
        f"{_time(clock.nanoseconds)} at {clock.hz / 1e6:,g} MHz"
    )
    how = "an instruction is a cycle" if vm.timing == "flat" else f"timing {vm.timing}"
    yield f"core {vm.engine.core}, {how}; traps cost {vm.trap_costs}"
    if ledger.unknown:
        yield (
            f"{ledger.unknown:,} times there was a word that no table knows; where it was "
            "executed it cost the core's default"
        )


def _vcpus(ledger: Ledger) -> Iterator[str]:
    rows = [
        (use.name, _cycles(use.within), f"{use.instructions:,}", _ratio(use), _share(use.within,
         ledger.total)) for use in ledger.vcpus()
    ]  # fmt: skip
    if ledger.idle:
        rows.append(("idle", _cycles(ledger.idle), "", "", _share(ledger.idle, ledger.total)))
    yield from _table(("", "cycles", "instructions", "IPC", "share"), rows)


def _branches(vm: Vm) -> Iterator[str]:
    """What the predictors made of them."""
    price = vm.engine.misprediction
    rows = [
        (f"vCPU {vcpu.index}", f"{vcpu.predictor.branches:,}", f"{vcpu.predictor.misses:,}",
         _share(vcpu.predictor.misses, vcpu.predictor.branches),
         _cycles(vcpu.predictor.misses * price))
        for vcpu in vm.machine.vcpus if vcpu.predictor is not None and vcpu.predictor.branches
    ]  # fmt: skip
    yield from _table(("", "branches", "mispredicted", "share", "cycles lost"), rows)


def _caches(vm: Vm, ledger: Ledger) -> Iterator[str]:
    """What was not in them, and how long was waited for it."""
    rows = list(_looked_up(vm, ledger))
    yield from _table(("cache", "looked up", "missed", "share", "cycles lost"), rows)


def _looked_up(vm: Vm, ledger: Ledger) -> Iterator[tuple[str, ...]]:
    """Each cache, and the waiting for all of them."""
    caches = [vcpu.caches for vcpu in vm.machine.vcpus if vcpu.caches is not None]
    if not caches:
        return
    total = {name: sum(getattr(one, name) for one in caches) for name in Caches.COUNTED}
    deep = total["data_misses"] + total["code_misses"]
    blocks = sum(block.runs for block in ledger.blocks)
    found = [("L1 data", total["accesses"], total["data_misses"]),
             ("L1 code, by blocks", blocks, total["code_misses"]),
             ("L2", deep, total["l2_misses"])]  # fmt: skip
    if vm.machine.hierarchy is not None and vm.machine.hierarchy.own.ways:
        found.append(("last level", total["l2_misses"], total["memory_reads"]))
    for name, asked, missed in found:
        yield name, f"{asked:,}", f"{missed:,}", _share(missed, asked), ""
    yield "all", "", "", "", _cycles(total["stalled"])


def _functions(ledger: Ledger) -> Iterator[str]:
    uses = ledger.functions()
    rows = [
        (use.name, _cycles(use.own), _share(use.own, ledger.total), _cycles(use.within),
         f"{use.times:,}" if use.times else "", _ratio(use)) for use in uses[:MOST_FUNCTIONS]
    ]  # fmt: skip
    titles = ("function", "cycles", "share", "with callees", "calls", "IPC")
    yield from _table(titles, rows)
    if len(uses) > MOST_FUNCTIONS:
        yield f"and {len(uses) - MOST_FUNCTIONS:,} functions more"


def _exceptions(vm: Vm, ledger: Ledger) -> Iterator[str]:
    entry = vm.engine.hooks.exception_cost
    rows = [
        (use.name.strip("<>"), f"{use.times:,}", _cycles(use.times * entry), _cycles(use.within),
         _each(use.within, use.times)) for use in ledger.exceptions()
    ]  # fmt: skip
    titles = ("exception at EL1", "taken", "entry", "to its return", "each")
    yield from _table(titles, rows)


def _calls(vm: Vm, ledger: Ledger) -> Iterator[str]:
    calls = vm.tolls.calls if vm.tolls else {}
    rows = [
        (trap_name(key, ledger.others), f"{cost.calls:,}", f"{cost.entry:,}", f"{cost.handler:,}",
         f"{cost.back:,}", _each(cost.total * SIXTEENTHS, cost.calls))
        for key, cost in sorted(calls.items(), key=_dearest)
    ]  # fmt: skip
    yield from _table(("call", "made", "entry", "handler", "return", "each"), rows)


def _dearest(item: tuple[int, CallCost]) -> tuple[int, int, int]:
    key, cost = item
    return -cost.total, -cost.calls, key


def _events(ledger: Ledger) -> Iterator[str]:
    rows = [
        (use.name, f"{use.times:,}", _cycles(use.own), _each(use.own, use.times))
        for use in ledger.events()
    ]
    yield from _table(("above EL1", "times", "cycles", "each"), rows)


def _blocks(vm: Vm, ledger: Ledger) -> Iterator[str]:
    for block in ledger.blocks[:MOST_BLOCKS]:
        if not block.spent:
            return
        yield ""
        yield (
            f"block at {block.address:#x} ({vm.image.symbols.name(block.address) or 'no symbol'}): "
            f"{_share(block.spent, ledger.total).strip()} of all cycles, run {block.runs:,} "
            f"times, {block.charge.total / SIXTEENTHS:.2f} cycles each"
        )
        yield from _listing(block, _width(vm))


def _width(vm: Vm) -> int:
    charges = vm.engine.block_costs
    return 1 if charges is None else charges.model.width


def _listing(block: HotBlock, width: int) -> Iterator[str]:
    """One block, instruction by instruction."""
    code, (*begins, total) = block.charge.code, block.charge.cost.prefix
    yield f"  {'begins':>7}  {'after':>6}  {'waits':>6}"
    for n in range(min(len(begins), MOST_LINES)):
        word = int.from_bytes(code[n * INSN_SIZE : (n + 1) * INSN_SIZE], "little")
        address = block.address + n * INSN_SIZE
        after = begins[n] - begins[n - 1] + (0 if n else total)
        waits = max(after - SIXTEENTHS // width, 0)
        yield (
            f"  {begins[n] / SIXTEENTHS:>7.2f}  {after / SIXTEENTHS:>6.2f}  "
            f"{f'{waits / SIXTEENTHS:.2f}' if waits > 1 else '':>6}  {address:#x}  "
            f"{disassemble(address, word)}"
        )
    if len(begins) > MOST_LINES:
        yield f"  and {len(begins) - MOST_LINES} instructions more"


def _time(nanoseconds: int) -> str:
    """In the unit that reads best."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:,.3f} {unit}"
    return f"{nanoseconds} ns"


def _cycles(sixteenths: int) -> str:
    return f"{sixteenths // SIXTEENTHS:,}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _ratio(use: Use) -> str:
    """Instructions a cycle."""
    time = use.own
    return f"{use.instructions * SIXTEENTHS / time:.2f}" if time else ""


def _each(sixteenths: int, count: int) -> str:
    return f"{sixteenths / SIXTEENTHS / count:,.1f}" if count else ""


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Aligned columns behind an empty line, numbers to the right; nothing where there is no row."""
    texts = [titles, *rows]
    if len(texts) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    yield ""
    for first, *others in texts:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        yield f"{first:<{widths[0]}}  {'  '.join(cells)}".rstrip()

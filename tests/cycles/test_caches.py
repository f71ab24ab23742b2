"""The caches: against a slow model of the same rules, in both halves, in a monitor, in a file."""

from __future__ import annotations

import base64
import ctypes
import random
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.arm import pmu
from emu.base.errors import SnapshotError
from emu.cycles.block_costs import BlockCosts
from emu.cycles.caches import MEMORY, OWN, SHARED, Caches, CachesInUse, Hierarchy, Shape
from emu.cycles.cores.chains import is_chained
from emu.engine.engine import Engine, native_available
from emu.machine.checkpoint import Checkpoint
from emu.machine.vm import Vm
from engine_kit import (
    CODE,
    DATA,
    NE,
    RAM,
    WFI,
    b_if,
    code,
    go,
    halves,
    ldr,
    machine,
    mov,
    movz,
    mrs,
    msr,
    store,
    subs,
    turn_mmu_on,
)  # fmt: skip
from places import GUESTS
from savefile_kit import changed, forged, parts
from timing_kit import ByWord, counted, elapsed, frames, lines

LINE = 64
FAST = native_available()


def hierarchy(
    *, own: int = 4, window: int = 0, hidden: int = 0, shared: int = 4, base: int = 0
) -> Hierarchy:
    """A small one: 4 lines of data and of code in two ways each, and odd times."""
    made = Hierarchy(base, Shape(2, 2), Shape(2, 2), Shape(4, own), Shape(8, shared))
    made.latency[:] = 100, 1000, 9000
    made.transfer[:] = 30, 300, 700
    made.window, made.hidden = window, hidden
    return made


class Slow:
    """The essay of caches.py once more, with lists."""

    def __init__(self, shape: Hierarchy) -> None:
        self.shape = shape
        self.sets: dict[tuple[str, int], list[int]] = {}
        self.streams: list[list[int]] = []
        self.arrived, self.missed, self.code_missed = 0, 0, 0
        self.counts = dict.fromkeys(("accesses", "data", "code", "l2", "memory"), 0)

    def has(self, name: str, cache: Shape, line: int) -> bool:
        found = self.sets.setdefault((name, line % cache.sets), [])
        hit = line in found
        if hit:
            found.remove(line)
        found.insert(0, line)
        del found[cache.ways :]
        return hit

    def level(self, line: int) -> int:
        if self.shape.own.ways and self.has("own", self.shape.own, line):
            return OWN
        shared = self.has("shared", self.shape.shared, line)
        self.counts["l2"] += bool(self.shape.own.ways) or not shared
        self.counts["memory"] += not shared
        return SHARED if shared else MEMORY

    def is_stream(self, line: int) -> bool:
        for stream in self.streams:
            stride = line - stream[0]
            if stride and abs(stride) <= 4:
                stream[2] = stream[2] + 1 if stride == stream[1] else 1
                stream[:2] = line, stride
                return stream[2] >= 2
        # The oldest makes room where it stood: the first that fits is taken.
        at = len(self.streams) if len(self.streams) < 4 else self.oldest
        self.streams[at : at + 1] = [[line, 0, 0]]
        self.oldest = (at + 1) % 4
        return False

    def wait(self, level: int, ahead: bool, hidden: int, now: int) -> int:
        latency = self.shape.latency[level]
        if ahead:
            stall = sorted((0, self.arrived + self.shape.transfer[level] - now, latency))[1]
        else:
            stall = max(0, latency - hidden)
        self.arrived = now + stall
        return stall

    def access(self, address: int, now: int, count: int, is_write: bool, chained: bool) -> int:
        line = address // LINE
        self.counts["accesses"] += 1
        if self.has("data", self.shape.data, line):
            return 0
        self.counts["data"] += 1
        level = self.level(line)
        if is_write:
            return 0
        ahead = self.is_stream(line)
        if self.shape.window and not chained and not ahead:
            ahead = count - self.missed < self.shape.window
            if not ahead:
                self.missed = count
        return self.wait(level, ahead, 0 if chained else self.shape.hidden, now)

    def fetch(self, address: int, size: int, now: int) -> int:
        stalled = 0
        for line in range(address // LINE, (address + size - 1) // LINE + 1):
            if not self.has("code", self.shape.code, line):
                self.counts["code"] += 1
                follows = line == self.code_missed + 1
                stalled += self.wait(self.level(line), follows, 0, now + stalled)
                self.code_missed = line
        return stalled


STEP = st.tuples(
    st.sampled_from(("load", "load", "store", "chained", "fetch")),
    st.integers(16, 60), st.integers(0, 800), st.integers(1, 40),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(STEP, max_size=120),
    own=st.sampled_from((0, 4)),
    window=st.sampled_from((0, 20)),
)
def test_the_same_as_the_slow_model(steps, own, window):
    shape = hierarchy(own=own, window=window, hidden=150 if window else 0)
    mine, slow = Caches(), Slow(shape)
    quick = CachesInUse(mine, shape, shape.last_level_type()())
    now = count = 1 << 20
    for kind, line, pause, instructions in steps:
        now, count = now + pause, count + instructions
        if kind == "fetch":
            given = line * LINE + 40, 4 * instructions, now
            stall = quick.fetch(*given)
            assert stall == slow.fetch(*given)
        else:
            store, chained = kind == "store", kind == "chained"
            stall = quick.access(line * LINE + 8, now, count, is_write=store, chained=chained)
            assert stall == slow.access(line * LINE + 8, now, count, store, chained)
        now += stall
    assert slow.counts == {
        "accesses": mine.accesses, "data": mine.data_misses, "code": mine.code_misses,
        "l2": mine.l2_misses, "memory": mine.memory_reads,
    }  # fmt: skip


def walk(
    shape: Hierarchy, numbers: list[int], *, chained: bool = False, pace: int = 0
) -> list[int]:
    """What loads of these lines stall, one after the other."""
    used = CachesInUse(Caches(), shape, shape.last_level_type()())
    now, found = 1 << 20, []
    for n, line in enumerate(numbers):
        now += pace
        given = line * LINE, now, (n + 1) * 1000
        found.append(used.access(*given, is_write=False, chained=chained))
        now += found[-1]
    return found


def test_least_recently_used_goes_first():
    """Two ways: the third line of a set takes the place of the one used longest ago."""
    shape = hierarchy()
    assert walk(shape, [100, 200, 100, 300, 100, 200]) == [9000, 9000, 0, 9000, 0, 100]


def test_a_stream_costs_its_transfers():
    stalls = walk(hierarchy(), [100, 103, 106, 109, 112])
    assert stalls == [9000, 9000, 700, 700, 700]
    assert walk(hierarchy(), [112, 109, 106])[-1] == 700, "downwards as well"
    assert walk(hierarchy(), [100, 105, 110, 115])[-1] == 9000, "too far apart"
    assert walk(hierarchy(), [100, 102, 103, 105])[-1] == 9000, "no one stride"


def test_a_stream_is_ahead_of_who_takes_his_time():
    assert walk(hierarchy(), [100, 101, 102, 103, 104], pace=500)[2:] == [200, 200, 200]
    assert walk(hierarchy(), [100, 101, 102, 103, 104], pace=900)[2:] == [0, 0, 0]


def test_a_window_hides_what_nobody_waits_for():
    wide = hierarchy(window=500, hidden=600)
    assert walk(wide, [100, 200, 300]) == [8400, 8400, 8400]
    assert walk(wide, [100, 200, 300], chained=True) == [9000, 9000, 9000]


def test_stores_bring_lines_and_wait_for_nothing():
    shape = hierarchy()
    used = CachesInUse(Caches(), shape, shape.last_level_type()())
    assert used.access(0x1000, 0, 0, is_write=True, chained=False) == 0
    assert used.mine.memory_reads == 1
    assert used.access(0x1038, 0, 0, is_write=False, chained=False) == 0
    assert used.mine.data_misses == 1


def test_clearing_keeps_what_was_counted():
    shape = hierarchy()
    used = CachesInUse(Caches(), shape, shape.last_level_type()())
    used.access(0x1000, 0, 0, is_write=False, chained=False)
    used.mine.clear()
    assert (used.mine.accesses, used.mine.stalled, used.mine.line) == (1, 9000, 0)
    assert not any(used.mine.data)


# -- both halves ----------------------------------------------------------------------------------


def caching(native: bool, shape: Hierarchy, *words: int) -> tuple[Engine, Caches, Any]:
    """An engine that counts by words, with caches."""
    engine = machine(native, *words)
    engine.account(BlockCosts(ByWord(), chains=is_chained))
    engine.hooks.follow()
    mine, last = Caches(), shape.last_level_type()()
    engine.hooks.cache(*map(ctypes.addressof, (mine, shape, last)))
    return engine, mine, last


def readings(native: bool, shape: Hierarchy, table: list[int], *, mmu: bool = False) -> Any:
    """Walk over the addresses of a table; odd ones are stored to."""
    loads = [
        *mov(0, DATA), *mov(3, len(table)),
        ldr(1, 0), 0x9100_2000,  # add x0, x0, #8
        0x9240_0022,  # and x2, x1, #1
        0x927F_F821,  # and x1, x1, #~1
        0xB500_0062,  # cbnz x2, store
        ldr(4, 1), 0x1400_0002,
        store(4, 1),
        subs(3, 3, 1), b_if(NE, -8), WFI,
    ]  # fmt: skip
    engine, mine, last = caching(native, shape, *loads)
    engine.write(DATA, struct.pack(f"<{len(table)}Q", *table))
    if mmu:
        turn_mmu_on(engine)
    go(engine)
    assert engine.get("PC") == CODE + 4 * len(loads)
    return (
        elapsed(engine), lines(engine), frames(engine), mine.state, bytes(last),
        counted(engine) == elapsed(engine), mine.stalled > 0,
    )  # fmt: skip


@pytest.mark.skipif(not native_available(), reason="the native half was not built")
@pytest.mark.parametrize("mmu", [False, True], ids=["physical", "translated"])
@pytest.mark.parametrize("own", [0, 4])
@pytest.mark.parametrize("window", [0, 40])
@pytest.mark.parametrize("seed", range(4))
def test_both_halves_stall_the_same(own, window, seed, mmu):
    rng = random.Random(seed)
    places = [RAM + 0x4_0000 + 8 * rng.randrange(400 << seed) for _ in range(400)]
    places += [RAM + 0x5_0000 + n * LINE for n in range(100)]
    table = [place | (rng.random() < 0.2) for place in places]
    shape = hierarchy(own=own, window=window, hidden=90, base=RAM)
    python, native = (readings(half, shape, table, mmu=mmu) for half in (False, True))
    assert python == native
    assert python[-2:] == (True, True)


@halves
def test_what_lies_below_memory_is_not_cached(native):
    shape = hierarchy(base=RAM + (1 << 30))
    assert readings(native, shape, [RAM + 0x4_0000])[3][:8] == bytes(8)


@halves
def test_code_is_known_by_where_it_lies(native):
    """The same lines through another mapping are there already."""
    shape = hierarchy(base=RAM)
    engine, mine, _ = caching(native, shape, WFI)
    go(engine)
    assert mine.code_misses == 1
    turn_mmu_on(engine)
    engine.set("PC", CODE)
    go(engine)
    assert mine.code_misses == 1


@halves
def test_without_caches_nothing_is_looked_up(native):
    engine, mine, _ = caching(native, hierarchy(), ldr(1, 0), WFI)
    engine.hooks.cache(0, 0, 0)
    engine.set("X0", DATA)
    go(engine)
    assert mine.state == bytes(ctypes.sizeof(Caches))


GUEST = {"core": "cortex-a55", "timing": "cache", "freq": 1_800_000_000}


def state(vm: Vm) -> Any:
    return (
        vm.clock.cycles, vm.engine.hooks.fraction, vm.stats().instructions,
        [vcpu.caches and vcpu.caches.state for vcpu in vm.machine.vcpus],
        bytes(vm.machine.last_level or b""),
    )  # fmt: skip


@pytest.mark.skipif(not native_available(), reason="the native half was not built")
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76"])
@pytest.mark.parametrize("name", ["hello", "psci_cpu_on", "exceptions"])
def test_both_halves_agree_on_guests(name, core):
    options: dict[str, Any] = GUEST | {"core": core}
    found = []
    for native in (False, True):
        vm = Vm(GUESTS / f"{name}.elf", cpus=4, native=native, **options)
        vm.run(4_000_000)
        found.append(state(vm))
    assert found[0] == found[1]


@halves
def test_a_checkpoint_has_them(native):
    vm = Vm(GUESTS / "hello.elf", native=native, **GUEST)
    vm.run(60_000)
    point, before = Checkpoint(vm), state(vm)
    vm.run(1_000_000)
    after = state(vm)
    assert point.restore() is vm
    assert state(vm) == before
    vm.run(1_000_000)
    assert state(vm) == after


@halves
def test_a_file_has_them(native, tmp_path):
    vm = Vm(GUESTS / "psci_cpu_on.elf", cpus=2, native=native, **GUEST)
    vm.run(60_000)
    vm.save(tmp_path / "a")
    other = Vm.load(tmp_path / "a", native=native)
    assert state(other) == state(vm)
    vm.run(3_000_000)
    other.run(3_000_000)
    assert state(other) == state(vm)


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        (("vcpus", 0, "caches"), "", "vcpus[0] has no such caches"),
        (("vcpus", 0, "caches"), packed(b"short"), "vcpus[0] has no such caches"),
        (("vcpus", 0, "caches"), packed(bytes(1 << 20)), "vcpus[0] has no such caches"),
        (("vcpus", 1, "caches"), base64.b64encode(b"no zlib").decode(), "no such caches"),
        (("last_level",), "", "share no such cache"),
        (("last_level",), packed(bytes(64)), "share no such cache"),
        (("timing",), "branch", "vcpus[0] has no such caches"),
        (("core",), "neoverse-v1", "nobody we can cite has measured the caches"),
    ],
)  # fmt: skip
def test_a_file_with_other_caches_is_refused(tmp_path, path, to, says):
    vm = Vm(GUESTS / "hello.elf", cpus=2, native=FAST, **GUEST)
    vm.run(30_000)
    vm.save(tmp_path / "a")
    header, data = parts((tmp_path / "a").read_bytes())
    (tmp_path / "a").write_bytes(forged(changed(header, *path, to=to), data))
    with pytest.raises(SnapshotError) as caught:
        Vm.load(tmp_path / "a", native=FAST)
    assert says in str(caught.value)


@halves
@pytest.mark.parametrize("byte", [0x01, 0x7F, 0xFF])
def test_any_state_of_caches_runs(tmp_path, native, byte):
    """Numbers of lines are only compared, times never believed beyond a latency."""
    vm = Vm(GUESTS / "hello.elf", native=FAST, **GUEST)
    vm.run(30_000)
    vm.save(tmp_path / "a")
    header, data = parts((tmp_path / "a").read_bytes())
    hostile = packed(bytes([byte]) * ctypes.sizeof(Caches))
    (tmp_path / "a").write_bytes(forged(changed(header, "vcpus", 0, "caches", to=hostile), data))
    other = Vm.load(tmp_path / "a", native=native)
    other.run(10_000_000)
    assert str(other.console)
    assert other.clock.cycles < 20_000_000


@pytest.mark.skipif(not native_available(), reason="the native half was not built")
def test_hostile_state_is_hostile_to_both_halves_alike(tmp_path):
    vm = Vm(GUESTS / "hello.elf", native=True, **GUEST)
    vm.run(30_000)
    vm.save(tmp_path / "a")
    header, data = parts((tmp_path / "a").read_bytes())
    noise = random.Random(1).randbytes(ctypes.sizeof(Caches))
    changed_header = changed(header, "vcpus", 0, "caches", to=packed(noise))
    (tmp_path / "a").write_bytes(forged(changed_header, data))
    found = []
    for native in (False, True):
        other = Vm.load(tmp_path / "a", native=native)
        other.run(1_000_000)
        found.append(state(other))
    assert found[0] == found[1]


# -- the monitor ----------------------------------------------------------------------------------


def events(vm: Vm) -> frozenset[int]:
    return vm.machine.vcpus[0].pmu.events


def test_events_are_announced_where_they_are_counted():
    assert not events(Vm(GUESTS / "hello.elf", core="cortex-a53", timing="block")) & (
        pmu.PREDICTED | pmu.CACHED
    )
    branch = events(Vm(GUESTS / "hello.elf", core="cortex-a53", timing="branch"))
    assert branch & (pmu.PREDICTED | pmu.CACHED) == pmu.PREDICTED
    assert events(Vm(GUESTS / "hello.elf", **GUEST)) >= pmu.PREDICTED | pmu.CACHED


@halves
def test_a_guest_counts_its_misses(native, tmp_path):
    """PMEVCNTR0 to 3 over eight loads, each of another line, and one that is there."""
    chosen = pmu.L1D_CACHE_REFILL, pmu.L1D_CACHE, pmu.MEM_ACCESS, pmu.L2D_CACHE_REFILL
    words = [*mov(5, RAM + 0x8_0000), movz(1, 0x1F), msr((3, 3, 9, 12, 1), 1)]
    for n, event in enumerate(chosen):
        words += [movz(2, event), msr((3, 3, 14, 12, n), 2)]
    words += [movz(3, pmu.PMCR_E), msr((3, 3, 9, 12, 0), 3)]
    words += [ldr(4, 5) | n * 8 << 10 for n in (*range(0, 64, 8), 0)]
    words += [mrs(10 + n, (3, 3, 14, 8, n)) for n in range(4)]
    image = tmp_path / "raw.bin"
    image.write_bytes(code(*words, WFI))
    vm = Vm(image, load=RAM + 0x1000, native=native, **GUEST)
    vm.run(1_000_000)
    counts = vm.engine.arguments(14)[10:]
    assert counts[:3] == (8, 9, 9)
    assert counts[3] in (8, 9, 10), "and the code's"


def test_what_is_lost_is_on_the_clock():
    """The time that the caches count is what the clock has more of."""
    times = []
    for timing in ("branch", "cache"):
        vm = Vm(GUESTS / "hello.elf", core="cortex-a53", timing=timing, native=FAST)
        vm.run()
        times.append(elapsed(vm.engine))
    caches = vm.machine.vcpus[0].caches
    assert caches is not None
    assert times[1] - times[0] == caches.stalled > 0


@halves
def test_a_guest_counts_what_it_did_not_expect(native, tmp_path):
    """Branches that alternate, by PMEVCNTR0 to 2: looked at, and mispredicted."""
    chosen = pmu.BR_PRED, pmu.BR_MIS_PRED, pmu.BR_MIS_PRED_RETIRED
    words = [movz(1, 7), msr((3, 3, 9, 12, 1), 1)]
    for n, event in enumerate(chosen):
        words += [movz(2, event), msr((3, 3, 14, 12, n), 2)]
    words += [movz(3, pmu.PMCR_E), movz(4, 40), msr((3, 3, 9, 12, 0), 3)]
    words += [subs(4, 4, 1), b_if(NE, -1)]
    words += [mrs(10 + n, (3, 3, 14, 8, n)) for n in range(3)]
    image = tmp_path / "raw.bin"
    image.write_bytes(code(*words, WFI))
    vm = Vm(image, load=RAM + 0x1000, native=native, core="cortex-a53", timing="branch")
    vm.run(1_000_000)
    seen, missed, retired = vm.engine.arguments(13)[10:]
    assert seen == 40
    assert 1 <= missed == retired <= 3


@halves
def test_a_reset_empties_them(native):
    vm = Vm(GUESTS / "hello.elf", native=native, **GUEST)
    vm.run()
    first = vm.machine.vcpus[0].caches
    assert first is not None
    misses, looked_up = first.data_misses, first.accesses
    vm.reset()
    assert not any(vm.machine.last_level or ())
    vm.run()
    assert first.data_misses == 2 * misses
    assert first.accesses == 2 * looked_up

"""The generic timer: both halves and the specification's own words, side by side."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.arm.arch import CNTPCT_EL0, CNTVCT_EL0, SysReg
from emu.arm.timers import MASK64, NEVER, Timers
from emu.base.clock import COUNTER_HZ, DEFAULT_HZ, MAX_HZ, MIN_HZ, rate_of
from emu.engine.engine import Stop
from engine_kit import DATA, EL0T, NOP, VECTORS, WFI, at_level, code, go, halves, machine, mrs, msr

TICK = 16
PHYSICAL, VIRTUAL = 2, 3


def register(crm: int, name: str) -> SysReg:
    return SysReg(3, 3, 14, crm, {"tval": 0, "ctl": 1, "cval": 2}[name])


class Specified:
    """One timer as DDI 0487 D11.2 words it, with the counter it compares with."""

    def __init__(self, offset: int, hertz: int) -> None:
        self.offset, self.control, self.compare = offset, 0, 0
        self.hertz = hertz

    def counter(self, cycles: int) -> int:
        return (cycles * COUNTER_HZ // self.hertz - self.offset) % 2**64

    def met(self, cycles: int) -> bool:
        return self.counter(cycles) >= self.compare

    def read(self, name: str, cycles: int) -> int:
        if name == "cval":
            return self.compare
        if name == "tval":
            return (self.compare - self.counter(cycles)) % 2**32
        enabled = self.control & 1
        return self.control | (4 if enabled and self.met(cycles) else 0)

    def write(self, name: str, value: int, cycles: int) -> None:
        if name == "cval":
            self.compare = value
        elif name == "ctl":
            self.control = value & 3
        else:
            low = value % 2**32
            self.compare = (self.counter(cycles) + (low - 2**32 if low >> 31 else low)) % 2**64

    def level(self, cycles: int) -> bool:
        return self.control == 1 and self.met(cycles)


STEPS = st.lists(
    st.tuples(
        st.sampled_from([PHYSICAL, VIRTUAL]),
        st.sampled_from(["tval", "ctl", "cval"]),
        st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1), st.integers(2**32 - 40, 2**32)),
        st.integers(0, 50),
    ),
    min_size=1, max_size=12,
)  # fmt: skip
OFFSETS = st.one_of(st.just(0), st.integers(0, 20), st.integers(2**64 - 20, 2**64 - 1))


def program(steps):
    """MSR, then MRS of all three, with some instructions in between; results go to x4 on."""
    words = []
    for crm, name, _, gap in steps:
        words += [NOP] * gap
        words += [0xF840_8401, msr(register(crm, name), 1)]  # ldr x1, [x0], #8
        for other in ("tval", "ctl", "cval"):
            words += [mrs(2, register(crm, other)), 0xF800_8462]  # str x2, [x3], #8
    return words


HERTZ = st.one_of(
    st.sampled_from([DEFAULT_HZ, COUNTER_HZ, MIN_HZ, MAX_HZ, 1_500_000_000, 62_500_001]),
    st.integers(MIN_HZ, MAX_HZ),
)


@halves
@settings(max_examples=120, deadline=None)
@given(steps=STEPS, offsets=st.tuples(OFFSETS, OFFSETS), hertz=HERTZ)
def test_registers_are_the_specifications(native, steps, offsets, hertz):
    engine = machine(native, *program(steps), WFI)
    timers = Timers(rate_of(hertz))
    timers.offset[:] = offsets
    engine.use_timers(timers)
    values = b"".join(value.to_bytes(8, "little") for *_, value, _ in steps)
    engine.write(DATA, values)
    engine.set("X0", DATA)
    engine.set("X3", DATA + 0x1000)
    while (stop := go(engine)) is Stop.DEADLINE:  # a timer is due: its line is known from now on
        timers.known = sum(timers.level(n, engine.cycles) << n for n in (0, 1))
        engine.use_timers(timers)
    assert stop is Stop.WFI
    told = engine.read(DATA + 0x1000, 24 * len(steps))
    specified = {
        timer: Specified(offset, hertz)
        for timer, offset in zip((PHYSICAL, VIRTUAL), offsets, strict=True)
    }
    at, expected = 0, []
    for crm, name, value, gap in steps:
        at += gap + 1
        specified[crm].write(name, value, at)
        at += 1
        for other in ("tval", "ctl", "cval"):
            expected.append(specified[crm].read(other, at))
            at += 2
    found = [int.from_bytes(told[n : n + 8], "little") for n in range(0, len(told), 8)]
    assert found == expected


@halves
@pytest.mark.parametrize("hertz", [1_000_000, 62_500_000, 1_300_000_000, 3_141_592_653])
@pytest.mark.parametrize("ticks", [1, 2, 7])
def test_a_run_stops_at_the_first_cycle_of_a_tick_at_any_rate(native, ticks, hertz):
    """And not at the cycle before: the line is low there."""
    words = [msr(register(VIRTUAL, "cval"), 1), msr(register(VIRTUAL, "ctl"), 2)]
    engine = machine(native, *words, *[0x1400_0001] * 600, WFI)
    timers = Timers(rate_of(hertz))
    engine.use_timers(timers)
    engine.set("X1", 3 + ticks)
    engine.set("X2", 1)
    due = max(-(-(3 + ticks) * hertz // COUNTER_HZ), 2)  # both are written by then
    assert go(engine) is Stop.DEADLINE
    assert engine.cycles == due
    assert timers.level(1, due)
    assert due == 2 or not timers.level(1, due - 1)


@halves
@pytest.mark.parametrize("crm", [PHYSICAL, VIRTUAL])
@pytest.mark.parametrize("ticks", [1, 2, 10])
def test_a_run_stops_when_a_timer_is_due(native, crm, ticks):
    """No block starts at or after the expiry; until then nothing is noticed."""
    words = [msr(register(crm, "tval"), 1), msr(register(crm, "ctl"), 2)]
    engine = machine(native, *words, *[0x1400_0001] * 400, WFI)  # b .+4: blocks of one
    timers = Timers()
    engine.use_timers(timers)
    engine.set("X1", ticks)
    engine.set("X2", 1)
    assert go(engine) is Stop.DEADLINE
    assert engine.cycles == ticks * TICK
    assert timers.level(crm - 2, engine.cycles)
    timers.known = 1 << crm - 2
    engine.use_timers(timers)
    assert go(engine) is Stop.WFI


@pytest.mark.parametrize(("control", "compare", "known", "expected"), [
    (1, 5, 0, 5 * TICK), (1, 0, 0, 3 * TICK), (3, 5, 0, NEVER), (0, 5, 0, NEVER),
    (1, 5, 1, NEVER), (1, MASK64, 0, NEVER), (1, 2**60 - 1, 0, (2**60 - 1) * TICK),
    (1, 2**60, 0, NEVER),
])  # fmt: skip
def test_expiry(control, compare, known, expected):
    timers = Timers()
    timers.ctl[0], timers.cval[0], timers.known = control, compare, known
    assert timers.expiry(3 * TICK + 5) == expected


@halves
@pytest.mark.parametrize("reg", [CNTPCT_EL0, CNTVCT_EL0, register(VIRTUAL, "ctl")], ids=str)
@pytest.mark.parametrize("allowed", [False, True])
def test_el0_needs_leave(native, reg, allowed):
    """CNTKCTL_EL1: EL0PCTEN, EL0VCTEN, EL0PTEN, EL0VTEN; without it, an exception."""
    engine = machine(native)
    engine.write(VECTORS + 0x400, code(WFI))
    at_level(engine, EL0T, words=[*[NOP] * 32, mrs(5, reg), WFI])
    engine.set("X5", 0x77)
    engine.set("CNTKCTL_EL1", 0x303 if allowed else 0)
    go(engine)
    assert (engine.get("X5") != 0x77) == allowed
    assert bool(engine.exceptions.last) != allowed

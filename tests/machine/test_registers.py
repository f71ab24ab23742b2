"""A vCPU's registers by name: of the one that runs, of another, and of one that is off."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.base import exits
from emu.base.errors import EmuError
from emu.base.smccc import Ret
from emu.machine.scheduler import SLICE
from emu.machine.vm import Vm
from emu.world.service import Service, fn
from engine_kit import NE, WFI, add, b, b_if, halves, ldxr, mov, movz, stxr, subs
from guest_kit import CONTEXT, CPU_OFF, LOAD, SECOND, call, summary, two
from kit import ONES, Watch

NAMES = [*(f"X{n}" for n in range(31)), "SP", "PC", "PSTATE"]
OTHERS = ["V0", "V31", "SP_EL0", "ESR_EL1", "FAR_EL1", "ELR_EL1", "VBAR_EL1", "TTBR0_EL1",
          "SCTLR_EL1", "TPIDR_EL0", "TPIDR_EL1"]  # fmt: skip


# -- the one that has the engine -----------------------------------------------------------------


@halves
def test_a_vcpu_by_names(build, native):
    vm = build(movz(3, 7), *mov(4, 0x1122_3344_5566_7788), WFI, native=native)
    vm.run()
    cpu = vm.cpu()
    assert (cpu["X3"], cpu["x3"], cpu.x[3]) == (7, 7, 7)
    assert cpu.pc == cpu["PC"] == LOAD + 4 * 6
    assert cpu.sp == cpu["SP"] == 0
    assert cpu["PSTATE"] & 0x3DF == 0x3C5
    assert list(cpu) == NAMES
    assert len(cpu) == 34
    assert dict(cpu) == {name: cpu[name] for name in NAMES}
    assert list(cpu.x) == [cpu[f"X{n}"] for n in range(31)]
    assert (cpu.x[-1], cpu.x[3:5], len(cpu.x)) == (0, [7, 0x1122_3344_5566_7788], 31)


@halves
@pytest.mark.parametrize("name", [*NAMES[:32], *OTHERS])
def test_what_is_written_is_read(build, native, name):
    vm = build(WFI, WFI, native=native)
    cpu = vm.cpu()
    value = 0x1_2345_6789 if name != "SCTLR_EL1" else 0x00C5_0838
    cpu[name] = value
    assert cpu[name] == cpu[name.lower()] == value
    vm.run()
    assert cpu[name] == value, "a WFI later"


@halves
def test_a_vector_has_128_bits(build, native):
    vm = build(WFI, native=native)
    vm.cpu()["V7"] = (1 << 128) - 1
    assert vm.cpu()["v7"] == (1 << 128) - 1
    assert vm.cpu()["V6"] == 0


@halves
def test_the_guest_goes_on_with_what_was_written(build, native):
    vm = build(movz(3, 7), WFI, add(4, 3, 1), WFI, native=native)
    vm.run()
    cpu = vm.cpu()
    cpu.x[3] = -2
    assert cpu.x[3] == ONES - 1, "negative values are two's complement"
    cpu.sp = 0x4100_0000
    vm.machine.vcpus[0].waiting = False
    vm.run()
    assert (cpu.x[4], cpu.sp, cpu.pc) == (ONES, 0x4100_0000, LOAD + 16)
    cpu.pc = LOAD + 8
    cpu.x[3] = 5
    vm.machine.vcpus[0].waiting = False
    vm.run()
    assert (cpu.x[4], cpu.pc) == (6, LOAD + 16)


@halves
def test_the_stack_pointer_of_a_level_is_its_bank(build, native):
    """At EL1h SP is SP_EL1; at EL1t it is SP_EL0."""
    vm = build(WFI, native=native)
    cpu = vm.cpu()
    cpu["SP_EL0"], cpu.sp = 0x1000, 0x2000
    assert (cpu.sp, cpu["SP_EL0"]) == (0x2000, 0x1000)
    cpu["PSTATE"] = 0x3C4
    assert (cpu.sp, cpu["SP_EL0"]) == (0x1000, 0x1000)
    cpu["PSTATE"] = 0x3C5
    assert cpu.sp == 0x2000


# -- what there is not ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["X31", "V32", "V-1", "", "RIP", "X", "V", "W0", "ESR_EL9", "HCR_EL2", "SCR_EL3"],
)
def test_a_register_that_is_none(build, name):
    cpu = build(WFI).cpu()
    with pytest.raises(KeyError):
        cpu[name]
    with pytest.raises(KeyError):
        cpu[name] = 0
    assert name not in cpu


@pytest.mark.parametrize("index", [-1, 2, 1000])
def test_a_vcpu_that_is_none(build, index):
    with pytest.raises(EmuError) as caught:
        build(WFI, cpus=2).cpu(index)
    assert str(caught.value) == f"cpu({index}): this machine has 2 vCPUs"


@pytest.mark.parametrize(("name", "value", "bits"), [
    ("X0", -1, 64), ("X0", 1 << 64, 64), ("PC", 1 << 64, 64), ("ESR_EL1", 1 << 64, 64),
    ("V0", 1 << 128, 128), ("V0", -1, 128),
])  # fmt: skip
def test_a_value_that_does_not_fit(build, name, value, bits):
    with pytest.raises(EmuError) as caught:
        build(WFI).cpu()[name] = value
    assert str(caught.value) == f"{name} holds {bits} bits, not {value:#x}"


def test_registers_stay(build):
    cpu = build(WFI).cpu()
    for change in (
        lambda: cpu.__delitem__("X0"), lambda: cpu.x.__delitem__(0), lambda: cpu.x.insert(0, 1),
        lambda: cpu.x.append(1), lambda: cpu.x.__setitem__(slice(0, 2), [1, 2]), cpu.clear,
    ):  # fmt: skip
        with pytest.raises(TypeError):
            change()
    with pytest.raises(IndexError):
        cpu.x[31]


class Peeking(Service):
    """Looks at registers while the guest runs."""

    name = "peeking"
    vm: Vm

    @fn(0xC600_0042)
    def peek(self, call):
        return Ret.only(self.vm.cpu().x[0])


@halves
def test_not_while_the_guest_runs(build, native):
    vm = build(call(0xC600_0042), WFI, services=[Peeking], native=native)
    vm.monitor.services["peeking"].vm = vm
    with pytest.raises(EmuError, match="registers are read between two runs: return from the"):
        vm.run()


# -- several vCPUs -------------------------------------------------------------------------------

SPIN = [add(5, 5, 1), b(-1)]


@halves
def test_each_has_its_own(build, native):
    vm = build(two([movz(6, 100), *SPIN], [movz(6, 101), *SPIN]), cpus=2, native=native)
    vm.run(5 * SLICE)
    assert [vm.cpu(n).x[6] for n in (0, 1)] == [100, 101]
    assert vm.cpu(0).pc < SECOND <= vm.cpu(1).pc
    vm.cpu(0).x[6], vm.cpu(1).x[6] = 1, 2
    vm.run(5 * SLICE)
    assert [vm.cpu(n).x[6] for n in (0, 1)] == [1, 2]


@halves
def test_one_that_was_never_on(build, native):
    vm = build(movz(6, 100), WFI, cpus=3, native=native)
    vm.run()
    for index in (1, 2):
        cpu = vm.cpu(index)
        assert list(cpu.x) == [0] * 31
        assert cpu["PSTATE"] & 0x3DF == 0x3C5
    assert vm.cpu(0).x[6] == 100


@halves
def test_one_that_has_gone_off(build, native):
    """Its registers are those it had; switched on again, it begins anew."""
    wait = [*mov(9, 40_000), subs(9, 9, 1), b_if(NE, -1)]
    first = [*wait, WFI, *call(0xC400_0003, 1, SECOND, 7), WFI]
    vm = build(two(first, [movz(6, 9), *call(CPU_OFF), WFI]), cpus=2, native=native)
    vm.run()
    assert (vm.cpu(1).x[6], vm.cpu(1).pc) == (9, SECOND + 4 * 4)
    assert vm.cpu(0).x[6] == 0
    vm.cpu(1).x[6] = 1234
    assert vm.cpu(1).x[6] == 1234
    vm.machine.vcpus[0].waiting = False
    vm.run()
    assert (vm.cpu(1).x[6], vm.cpu(1).x[3]) == (9, 0)


@halves
def test_one_that_is_about_to_begin(build, native):
    """CPU_ON has answered, and it had no turn yet: its registers are those of its reset."""
    vm = build(two(SPIN, SPIN), cpus=2, native=native)
    while vm.machine.vcpus[1].start is None:
        vm.run(1)
    cpu = vm.cpu(1)
    assert (cpu.pc, list(cpu.x)) == (SECOND, [CONTEXT, *[0] * 30])
    cpu.x[7] = 77
    vm.run(4 * SLICE)
    assert vm.cpu(1).x[7] == 77
    assert vm.cpu(1).x[5] > 100


# -- to look changes nothing ---------------------------------------------------------------------


def several() -> list[int]:
    """Two vCPUs that count, and end one after the other."""
    count = [*mov(9, 12_345), subs(9, 9, 1), b_if(NE, -1)]
    return two([*count, *count, *count, *call(0x8400_0008)], [*count, *call(CPU_OFF)])


looks = st.sets(st.integers(0, 2))


@pytest.mark.parametrize("core", ["cortex-a57", "cortex-a53"])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 3) | st.integers(0, 15_000), looks), max_size=10))
def test_a_look_between_two_runs_changes_nothing(build, core, cuts):
    """Whose turn it is, for how long, and what it costs is the guest's affair."""

    def run(look: bool):
        watch = Watch()
        vm = build(several(), cpus=3, instruments=[watch], core=core, trap_costs="kvm-vhe")
        for cycles, seen in cuts:
            if not isinstance(exit := vm.run(cycles), exits.Deadline):
                return exit, summary(vm, watch)
            for index in seen if look else ():
                assert vm.cpu(index).pc >= 0
        return vm.run(), summary(vm, watch)

    assert run(look=True) == run(look=False)


@halves
@pytest.mark.parametrize("write", [False, True], ids=["read", "written"])
def test_a_look_at_another_keeps_the_exclusive_monitor(build, native, write):
    """LDXR, a look at CPU 1, STXR: the store succeeds."""
    words = [*mov(1, LOAD + 0x1000), movz(3, 9), ldxr(2, 1), b(1), stxr(3, 2, 1), movz(4, 1), WFI]
    vm = build(words, cpus=2, native=native)
    vm.run(1)
    assert vm.cpu().pc == LOAD + 4 * words.index(stxr(3, 2, 1))
    if write:
        vm.cpu(1).x[5] = 7
    assert vm.cpu(1).x[5] == 7 * write
    vm.run()
    assert (vm.cpu().x[3], vm.cpu().x[4]) == (0, 1)


def test_a_machine_that_was_looked_at_is_saved_as_it_was(build, tmp_path):
    for name, look in (("one", False), ("two", True)):
        vm = build(two(SPIN, SPIN), cpus=3)
        vm.run(5 * SLICE + 77)
        for index in range(3 * look):
            assert vm.cpu(index)["X7"] == 0
        vm.save(tmp_path / name)
    files = [Vm.load(tmp_path / name) for name in ("one", "two")]
    for vm in files:
        vm.run(5 * SLICE)
    assert files[0].stats() == files[1].stats()
    assert [dict(files[0].cpu(n)) for n in (0, 1)] == [dict(files[1].cpu(n)) for n in (0, 1)]

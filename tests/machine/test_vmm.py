"""The VMM's side: what its answer to an exit does to the guest, and an access it has made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base import exits
from emu.base.smccc import UNDEF, Ret
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import Event
from emu.machine.checkpoint import Checkpoint
from emu.machine.vm import Vm
from emu.machine.vmm import load_result
from emu.world.monitor import with_services
from emu.world.profile import load_profile
from emu.world.service import MpState
from engine_kit import WFI, add, code, halves, ldr, mov, movz
from guest_kit import FORWARDED, LOAD, SECOND, call, forwarding, two
from kit import ONES, Watch

INTERNAL_FAILURE = ONES - 5
SYSTEM_OFF, SYSTEM_RESET, RESET2 = 0x8400_0008, 0x8400_0009, 0xC400_0012
SYSTEM_SUSPEND, SYSTEM_OFF2 = 0xC400_000E, 0xC400_0015
NOWHERE = 0x0F00_0000

# -- answers to a forwarded call -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ret", "registers"),
    [
        (None, (ONES, 0, 0, 0)),
        (5, (5, 0, 0, 0)),
        (-2, (ONES - 1, 0, 0, 0)),
        (1 << 64, (0, 0, 0, 0)),
        (Ret.only(7), (7, 0x1001, 0x1002, 0x1003)),
        (Ret.untouched(), (FORWARDED, 0x1001, 0x1002, 0x1003)),
    ],
)
def test_answers(build, ret, registers):
    vm = forwarding(build)
    exit = vm.run()
    if ret is not None:
        exit.ret = ret
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(4) == registers


@halves
def test_answer_undef(build, native):
    watch = Watch()
    vm = forwarding(build, native=native, instruments=[watch])
    exit = vm.run()
    before = vm.stats().instructions
    vm.engine.set("VBAR_EL1", LOAD + 0x1000 - 0x200)
    vm.engine.write(LOAD + 0x1000, code(WFI))
    exit.ret = UNDEF
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("PC") == LOAD + 0x1004
    assert vm.engine.get("ESR_EL1") == 0x0200_0000
    assert vm.stats().instructions == before  # the HVC given back, the WFI retired
    assert watch.calls[0].answer is UNDEF
    assert len(watch.exceptions) == 1


# -- exits of several vCPUs ------------------------------------------------------------------------


def both_in_a_call(build, native, answers=(0x10, 0x11)):
    """Two vCPUs whose calls have got the VMM's answers, each by its own run."""
    vm = build(*two([*call(FORWARDED), WFI], [*call(FORWARDED), WFI]), cpus=2, native=native)
    vm.filter(FORWARDED, action="forward", target="me")
    waiting = [vm.run(vcpu=n) for n in range(2)]
    assert all(isinstance(exit, exits.Hypercall) for exit in waiting)
    for exit, answer in zip(waiting, answers, strict=True):
        exit.ret = answer
    return vm


def later(vm, order):
    """x0 of both when they have run on."""
    for n in order:
        assert isinstance(vm.run(vcpu=n), exits.Wfi)
    return [vm.cpu(n).get("X0") for n in range(2)]


@halves
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_vcpu_has_an_exit_of_its_own(build, tmp_path, native, order):
    """In a checkpoint and in a file too."""
    vm = both_in_a_call(build, native)
    checkpoint = Checkpoint(vm)
    vm.save(tmp_path / "saved")
    for machine in (vm, checkpoint.restore, lambda: Vm.load(tmp_path / "saved")):
        found = machine if isinstance(machine, Vm) else machine()
        assert later(found, order) == [0x10, 0x11]


@halves
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_undef_is_an_exception_of_the_vcpu_that_waits(build, native, order):
    """Each takes it at its own HVC, which is given back, whoever ran between."""
    vm = both_in_a_call(build, native, (UNDEF, UNDEF))
    before = vm.stats().instructions
    hvcs = [vm.cpu(n)["PC"] - 4 for n in range(2)]
    vm.engine.write(LOAD + 0x1000, code(WFI))
    for n in range(2):
        vm.cpu(n)["VBAR_EL1"] = LOAD + 0x1000 - 0x200
    for n in order:
        assert isinstance(vm.run(vcpu=n), exits.Wfi)
    assert [vm.cpu(n)["ELR_EL1"] for n in range(2)] == hvcs
    assert vm.stats().instructions == before  # both HVCs given back, two WFIs retired


def test_a_run_of_all_answers_all(build):
    vm = both_in_a_call(build, True)
    assert isinstance(vm.run(), exits.Wfi)
    assert [vm.cpu(n).get("X0") for n in range(2)] == [0x10, 0x11]
    assert not vm.vmm.waiting


def test_a_reset_forgets_them(build):
    vm = both_in_a_call(build, True)
    vm.reset()
    assert not vm.vmm.waiting


# -- system events --------------------------------------------------------------------------------

EVENTS = [
    ("kvm-6.12", [SYSTEM_OFF], exits.EventKind.SHUTDOWN, 0),
    ("kvm-6.12", [SYSTEM_RESET], exits.EventKind.RESET, 0),
    ("kvm-6.12", [RESET2, 0, 5], exits.EventKind.RESET, exits.FLAG_PSCI_RESET2),
    ("kvm-6.17", [SYSTEM_OFF2, 1, 0], exits.EventKind.SHUTDOWN, exits.FLAG_PSCI_OFF2),
]


@halves
@pytest.mark.parametrize(("profile", "registers", "kind", "flags"), EVENTS)
def test_system_event(build, native, profile, registers, kind, flags):
    vm = build(call(*registers), movz(5, 1), WFI, profile=profile, native=native)
    exit = vm.run()
    assert isinstance(exit, exits.SystemEvent)
    assert (exit.kind, exit.flags, exit.vcpu) == (kind, flags, 0)
    assert exit.cycles == vm.stats().cycles
    # Resumed, the machine is off ...
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 0
    assert vm.engine.get("X0") == INTERNAL_FAILURE
    # ... unless the caller makes a vCPU runnable.
    vm.machine.vcpus[0].state = MpState.RUNNABLE
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 1


def test_system_suspend(build):
    base = load_profile("kvm-6.12")
    options = {**base.services["psci"], "system_suspend": True}
    vm = build(
        call(SYSTEM_SUSPEND, SECOND, 3), movz(5, 1), WFI,
        profile=with_services(base, {"psci": options}),
    )  # fmt: skip
    exit = vm.run()
    assert isinstance(exit, exits.SystemEvent)
    assert exit.kind is exits.EventKind.SUSPEND
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(3) == (SYSTEM_SUSPEND, SECOND, 3)
    assert vm.engine.get("X5") == 1


# -- accesses that the VMM carries out -----------------------------------------------------------


def reaching(build, *words, **options):
    """A guest that reaches for where nothing is, below a VMM that wants to see it."""
    vm = build(mov(1, NOWHERE), mov(0, 0x1122_3344_5566_7788), *words, add(5, 5, 1), WFI, **options)
    vm.traps.takes_mmio = True
    return vm


# DDI 0487 C6: word, bytes, what x0 becomes of all-ones and of 0x…01 as data.
LOADS = {
    "ldr x0, [x1]": (0xF940_0020, 8, ONES, 0x0101_0101_0101_0101),
    "ldr w0, [x1]": (0xB940_0020, 4, 0xFFFF_FFFF, 0x0101_0101),
    "ldrh w0, [x1]": (0x7940_0020, 2, 0xFFFF, 0x0101),
    "ldrb w0, [x1]": (0x3940_0020, 1, 0xFF, 0x01),
    "ldrsw x0, [x1]": (0xB980_0020, 4, ONES, 0x0101_0101),
    "ldrsh x0, [x1]": (0x7980_0020, 2, ONES, 0x0101),
    "ldrsh w0, [x1]": (0x79C0_0020, 2, 0xFFFF_FFFF, 0x0101),
    "ldrsb x0, [x1]": (0x3980_0020, 1, ONES, 0x01),
    "ldrsb w0, [x1]": (0x39C0_0020, 1, 0xFFFF_FFFF, 0x01),
    "ldur x0, [x1]": (0xF840_0020, 8, ONES, 0x0101_0101_0101_0101),
    "ldr w0, [x1, x2]": (0xB862_6820, 4, 0xFFFF_FFFF, 0x0101_0101),
}


@halves
@pytest.mark.parametrize("what", LOADS)
def test_a_load_is_completed(build, native, what):
    word, size, of_ones, of_small = LOADS[what]
    for data, expected in ((ONES, of_ones), (0x0101_0101_0101_0101, of_small)):
        vm = reaching(build, word, native=native)
        exit = vm.run()
        assert isinstance(exit, exits.Mmio)
        assert (exit.address, exit.size, exit.is_write, exit.vcpu) == (NOWHERE, size, False, 0)
        pc = vm.engine.get("PC")
        assert vm.engine.read(pc, 4) == code(word), "PC is on it"
        exit.data = data
        assert isinstance(vm.run(), exits.Wfi)
        assert (vm.engine.get("X0"), vm.engine.get("X5")) == (expected, 1)


STORES = {
    "str x0, [x1]": (0xF900_0020, 8), "str w0, [x1]": (0xB900_0020, 4),
    "strh w0, [x1]": (0x7900_0020, 2), "strb w0, [x1]": (0x3900_0020, 1),
}  # fmt: skip


@halves
@pytest.mark.parametrize("what", STORES)
def test_a_store_is_completed(build, native, what):
    word, size = STORES[what]
    vm = reaching(build, word, native=native)
    exit = vm.run()
    assert isinstance(exit, exits.Mmio)
    assert (exit.address, exit.size, exit.is_write) == (NOWHERE, size, True)
    assert exit.data == 0x1122_3344_5566_7788 & (1 << 8 * size) - 1
    assert isinstance(vm.run(), exits.Wfi)
    assert (vm.engine.get("X0"), vm.engine.get("X5")) == (0x1122_3344_5566_7788, 1)


@halves
def test_a_load_into_the_zero_register_leaves_nothing(build, native):
    vm = reaching(build, 0xB940_003F, native=native)  # ldr wzr, [x1]
    vm.run().data = 7
    assert isinstance(vm.run(), exits.Wfi)
    assert (vm.engine.get("X0"), vm.engine.get("X5")) == (0x1122_3344_5566_7788, 1)
    assert vm.engine.get("SP") == 0


def test_without_a_vmm_it_is_an_abort(build):
    vm = build(mov(1, NOWHERE), ldr(0, 1), WFI)
    assert isinstance(vm.run(), exits.Fault)


OPC = {1: ("zero", 64), 2: ("sign", 64), 3: ("sign", 32)}
"""DDI 0487, loads and stores (register): bits 23:22 of the word."""


@given(
    st.integers(0, ONES), st.sampled_from([1, 2, 4, 8]), st.sampled_from(list(OPC)),
    st.integers(0, 31),
)  # fmt: skip
def test_what_a_load_leaves_in_its_register(data, size, opc, target):
    extend, bits = OPC[opc]
    word = 0x3940_0000 & ~(3 << 22) | opc << 22 | target
    expected = int.from_bytes(data.to_bytes(8, "little")[:size], "little", signed=extend == "sign")
    assert load_result(word, data, size) == expected % (1 << bits)


def test_such_an_access_is_charged(build):
    vm = reaching(build, 0xB940_0020, trap_costs="kvm-vhe")
    vm.run()
    before = vm.clock.cycles
    vm.run(0)
    assert vm.clock.cycles - before == vm.tolls.price(Event.MMIO)[1] // SIXTEENTHS


def test_a_machine_that_nothing_could_wake_does_not_suspend(build):
    vm = build(call(SYSTEM_SUSPEND, SECOND, 3), WFI)
    vm.el2.set_option("psci", system_suspend=True)
    exit = vm.run()
    assert not vm.vmm.resume_later(exit)
    assert vm.pending is exit, "it still waits for an answer"

"""Devices, interrupts and time around the vCPUs, seen by a guest of a few instructions."""

from __future__ import annotations

import gc
import weakref

import pytest

from emu.arm.arch import SysReg
from emu.arm.pmu import COUNTERS, INST_RETIRED, PMCCNTR_EL0, PMCEID0_EL0, PMCR_EL0, PMUSERENR_EL0
from emu.arm.timers import PHYSICAL, PPI, VIRTUAL
from emu.base import exits
from emu.base.bus import FLASH
from emu.base.console import Console, Typed
from emu.base.errors import BootError, EmuError
from emu.base.exits import EventKind
from emu.base.state import to_state
from emu.cycles.tolls import Event
from emu.machine.checkpoint import Checkpoint
from emu.machine.devices import device_classes
from emu.machine.devices.pl011 import PLACE as PL011
from emu.machine.devices.pl031 import PLACE as PL031
from emu.machine.devices.virtio_mmio import PLACE as VIRTIO_MMIO
from emu.machine.snapshot import SnapshotError
from emu.machine.vm import Vm
from emu.world.service import MpState
from engine_kit import ELR_EL1, ERET, SPSR_EL1, WFI, add, b, code, hvc, ldr_w, mov, mrs, msr, str_w

LOAD, VECTORS = 0x4008_0000, 0x4009_0000
VBAR = SysReg(3, 0, 12, 0, 0)
IAR1, EOIR1, PMR = SysReg(3, 0, 12, 12, 0), SysReg(3, 0, 12, 12, 1), SysReg(3, 0, 4, 6, 0)
IGRPEN1, SGI1R = SysReg(3, 0, 12, 12, 7), SysReg(3, 0, 12, 11, 5)
CTL = (SysReg(3, 3, 14, 2, 1), SysReg(3, 3, 14, 3, 1))
DAIFCLR_I = 0xD503_42FF
HANDLER = [mrs(20, IAR1), add(21, 21, 1), msr(CTL[0], 31), msr(CTL[1], 31), msr(EOIR1, 20), ERET]
both = pytest.mark.parametrize("native", [True, False], ids=["native", "python"])


def guest(tmp_path, words, *, handler=HANDLER, **options) -> Vm:
    """A guest of these words, with an interrupt handler that counts in x21."""
    head = [*mov(0, VECTORS), msr(VBAR, 0), *words]
    image = bytearray(VECTORS - LOAD + 0x800)
    image[: 4 * len(head)] = code(*head)
    at = VECTORS - LOAD + 0x280
    image[at : at + 4 * len(handler)] = code(*handler)
    path = tmp_path / "guest.bin"
    path.write_bytes(image)
    return Vm(path, load=LOAD, **options)


def open_gic(vm: Vm, *intids: int) -> None:
    """What a driver does: groups on, priorities admitted, these interrupts enabled."""
    if vm.board.gic is None:
        vm.board.device("gic")
    gic = vm.board.gic
    gic.distributor.write(0, 4, 0x12)
    for vcpu in range(len(vm.machine.vcpus)):
        gic.write_register(vcpu, PMR, 0xF8)
        gic.write_register(vcpu, IGRPEN1, 1)
        for intid in intids:
            if intid < 32:
                gic.redistributors.write(0x2_0000 * vcpu + 0x1_0100, 4, 1 << intid)
    for intid in intids:
        if intid >= 32:
            gic.distributor.write(0x100 + intid // 32 * 4, 4, 1 << intid % 32)


# -- timers --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("timer", [PHYSICAL, VIRTUAL])
def test_a_timer_wakes_and_interrupts(tmp_path, native, timer):
    vm = guest(tmp_path, [DAIFCLR_I, WFI, add(22, 21, 0), WFI], native=native)
    open_gic(vm, PPI[timer])
    timers = vm.machine.vcpus[0].timers
    timers.cval[timer], timers.ctl[timer] = 5_000, 1
    vm.engine.use_timers(timers)
    exit = vm.run(1_000_000)
    assert isinstance(exit, exits.Wfi)
    assert vm.engine.get("X20") == PPI[timer]
    assert (vm.engine.get("X21"), vm.engine.get("X22")) == (1, 1)
    assert 80_000 <= vm.clock.cycles < 80_100, "the clock jumps to the timer"


@both
@pytest.mark.parametrize("timer", [PHYSICAL, VIRTUAL])
def test_a_level_is_pending_as_long_as_its_line_is_up(tmp_path, native, timer):
    """GICR_ISPENDR0 and ISR_EL1 after the timer fired, was taken, was masked, and was ended.

    IHI 0069H, 4.1.2: what is pending by its level is so until the level goes down; DDI 0487,
    ISR_EL1: what is signalled, masked by PSTATE or not.
    """
    ispendr, isr = 0x080B_0200, SysReg(3, 0, 12, 1, 0)
    look = [[ldr_w(n, 1), mrs(n + 1, isr)] for n in range(10, 18, 2)]
    words = [
        *mov(1, ispendr), WFI,
        *look[0], mrs(20, IAR1),
        *look[1], *mov(0, 2), msr(CTL[timer], 0),
        *look[2], msr(EOIR1, 20),
        *look[3], WFI,
    ]  # fmt: skip
    vm = guest(tmp_path, words, native=native)
    open_gic(vm, PPI[timer])
    timers = vm.machine.vcpus[0].timers
    timers.cval[timer], timers.ctl[timer] = 5_000, 1
    vm.engine.use_timers(timers)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    seen = [vm.engine.get(f"X{n}") for n in range(10, 18)]
    pending = [value >> PPI[timer] & 1 for value in seen[::2]]
    assert (pending, seen[1::2]) == ([1, 1, 0, 0], [0x80, 0, 0, 0])


@both
def test_a_masked_interrupt_ends_wfi_and_waits(tmp_path, native):
    vm = guest(tmp_path, [WFI, add(23, 21, 5), DAIFCLR_I, add(24, 21, 5), WFI], native=native)
    open_gic(vm, PPI[VIRTUAL])
    timers = vm.machine.vcpus[0].timers
    timers.cval[VIRTUAL], timers.ctl[VIRTUAL] = 100, 1
    vm.engine.use_timers(timers)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert (vm.engine.get("X23"), vm.engine.get("X24")) == (5, 6)


@both
def test_a_guest_that_masks_interrupts_for_ever_can_be_stopped(tmp_path, native):
    vm = guest(tmp_path, [b(0)], native=native)
    open_gic(vm, PPI[VIRTUAL])
    timers = vm.machine.vcpus[0].timers
    timers.ctl[VIRTUAL] = 1
    vm.engine.use_timers(timers)
    exit = vm.run(10_000)
    assert isinstance(exit, exits.Deadline)
    assert vm.clock.cycles == 10_000
    assert vm.engine.hooks.interrupts == 0x80


# -- several vCPUs ---------------------------------------------------------------------------------


@both
def test_an_sgi_wakes_another_vcpu(tmp_path, native):
    """CPU 0 starts CPU 1, lets it sleep, and calls it."""
    other = 40
    start = [*mov(0, 0xC400_0003), *mov(1, 1), *mov(2, LOAD + 4 * other), *mov(3, 0), hvc()]
    head = len(mov(0, VECTORS)) + 1
    words = [*start, *[add(9, 9, 1)] * 3, *mov(1, 2), msr(SGI1R, 1), WFI]
    words += [WFI] * (other - head - len(words))
    words += [*mov(0, VECTORS), msr(VBAR, 0), DAIFCLR_I, WFI, add(22, 21, 0), WFI]
    vm = guest(tmp_path, words, cpus=2, native=native)
    open_gic(vm, 0)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    vm.scheduler.look_at(vm.machine.vcpus[1])
    assert (vm.engine.get("X20"), vm.engine.get("X21")) == (0, 1)


# -- system events ---------------------------------------------------------------------------------


def test_system_suspend_sleeps_until_an_interrupt_and_starts_anew(tmp_path):
    resume = 24
    words = [*mov(0, 0xC400_000E), *mov(1, LOAD + 4 * resume), *mov(2, 0x77), hvc()]
    words += [add(9, 9, 1)] * (resume - len(mov(0, VECTORS)) - 1 - len(words))
    words += [add(10, 0, 0), *mov(0, 0x8400_0008), hvc()]
    vm = guest(tmp_path, words)
    vm.el2.set_option("psci", system_suspend=True)
    exit = vm.run(1_000_000)
    assert isinstance(exit, exits.SystemEvent)
    assert exit.kind is EventKind.SUSPEND
    assert not vm.vmm.resume_later(exit), "nothing could wake it"
    open_gic(vm, PPI[VIRTUAL])
    assert vm.vmm.resume_later(exit)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert vm.machine.vcpus[0].state is MpState.SUSPENDED
    vm.board.gic.set_level(PPI[VIRTUAL], True, 0)
    assert isinstance(vm.run(1_000_000), exits.SystemEvent)
    assert (vm.engine.get("X10"), vm.engine.get("X9")) == (0x77, 0)


def test_reset_is_the_same_machine_again(tmp_path):
    words = [*mov(1, LOAD + 0x8000), ldr_w(3, 1), add(2, 3, 1), str_w(2, 1),
             *mov(0, 0x8400_0009), hvc()]  # fmt: skip
    vm = guest(tmp_path, words)
    for _ in range(3):
        exit = vm.run(1_000_000)
        assert isinstance(exit, exits.SystemEvent)
        assert exit.kind is EventKind.RESET
        assert vm.engine.get("X3") == 0, "memory is as it was at the start"
        assert vm.engine.read(LOAD + 0x8000, 4) == b"\x01\0\0\0"
        before = vm.clock.cycles
        vm.reset()
        assert vm.clock.cycles == before, "time goes on"
        assert vm.board.gic is None or vm.board.gic.asserted == 0


def test_reset_keeps_what_the_vmm_has_chosen(tmp_path):
    words = [*mov(0, 0x8400_000A), *mov(1, 0xC400_000E), hvc(), add(9, 0, 0),
             *mov(0, 0x8400_0009), hvc()]  # fmt: skip
    vm = guest(tmp_path, words)
    vm.el2.set_option("psci", system_suspend=True)
    for _ in range(2):
        vm.run(1_000)
        assert vm.engine.get("X9") == 0, "PSCI_FEATURES(SYSTEM_SUSPEND)"
        vm.reset()


def test_a_saved_machine_has_no_image_to_start_again(tmp_path):
    vm = guest(tmp_path, [*mov(0, 0x8400_0009), hvc()])
    vm.save(tmp_path / "file")
    again = Vm.load(tmp_path / "file")
    assert isinstance(again.run(1_000), exits.SystemEvent)
    with pytest.raises(EmuError, match="a saved machine cannot be reset"):
        again.reset()


# -- devices ---------------------------------------------------------------------------------------


def read_words(*addresses: int) -> list[int]:
    words = []
    for n, address in enumerate(addresses):
        words += [*mov(1, address), ldr_w(2 + n, 1)]
    return [*words, WFI]


@both
def test_a_device_is_made_when_it_is_touched(tmp_path, native):
    vm = guest(tmp_path, read_words(PL031.base, 0x0800_FFE8, 0x080A_FFE8), native=native)
    assert set(vm.board.devices) == {"pl011"}
    vm.run(1_000_000)
    assert set(vm.board.devices) == {"pl011", "pl031", "gic"}
    assert vm.engine.get("X2") == 1_767_225_600
    assert (vm.engine.get("X3") & 0xF0, vm.engine.get("X4") & 0xF0) == (0x30, 0x30), "GICv3"


def test_an_empty_virtio_slot_is_no_device_and_goes_into_a_file(tmp_path):
    vm = guest(tmp_path, [*mov(1, VIRTIO_MMIO.base), ldr_w(2, 1), add(1, 1, 8), ldr_w(3, 1), WFI])
    vm.run()
    assert (vm.engine.get("X2").to_bytes(4, "little"), vm.engine.get("X3")) == (b"virt", 0)
    vm.save(tmp_path / "file")
    assert "virtio" in Vm.load(tmp_path / "file").board.devices


def test_input_interrupts(tmp_path):
    unmask = [*mov(1, PL011.base + 0x38), *mov(2, 0x10), str_w(2, 1)]
    handler = [mrs(20, IAR1), *mov(1, PL011.base), ldr_w(25, 1), msr(EOIR1, 20), ERET]
    vm = guest(tmp_path, [*unmask, DAIFCLR_I, WFI, WFI], handler=handler,
               console=Console(Typed(b"k")))  # fmt: skip
    open_gic(vm, 33)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert (vm.engine.get("X20"), vm.engine.get("X25")) == (33, ord("k"))


def test_the_power_key_is_an_interrupt(tmp_path):
    unmask = [*mov(1, 0x0903_0410), *mov(2, 8), str_w(2, 1)]
    edge = [*mov(1, 0x0903_040C), str_w(2, 1)]
    handler = [mrs(20, IAR1), *mov(1, 0x0903_041C), *mov(2, 8), str_w(2, 1), msr(EOIR1, 20), ERET]
    vm = guest(tmp_path, [*unmask, *edge, DAIFCLR_I, WFI, WFI], handler=handler)
    open_gic(vm, 39)
    assert isinstance(vm.run(10_000), exits.Wfi)
    vm.board.device("pl061").press_power_key()
    vm.run(10_000)
    assert vm.engine.get("X20") == 39


@both
def test_gicv2_is_banked_by_vcpu(tmp_path, native):
    vm = guest(tmp_path, read_words(0x0800_0004, 0x0801_00FC), gic=2, cpus=2, native=native)
    vm.run(1_000_000)
    assert vm.engine.get("X2") >> 5 & 7 == 1, "GICD_TYPER.CPUNumber"
    assert vm.engine.get("X3") & 0xFFF == 0x43B, "GICC_IIDR: Arm"


GICD, GICC, SGIR = 0x0800_0000, 0x0801_0000, 0xF00


@both
@pytest.mark.parametrize("gic", [2, 3])
@pytest.mark.parametrize("costs", ["kvm-vhe", "tfa-n1", "zero"])
def test_what_an_access_to_a_device_is_charged_as(tmp_path, native, gic, costs):
    """Below a hypervisor: its own controller, or the VMM's devices; the rest is hardware's."""
    words = [*mov(1, GICD), ldr_w(2, 1), *mov(3, PL031.base), ldr_w(4, 3), ldr_w(4, 3)]
    if gic == 2:
        words += [*mov(5, GICC), ldr_w(6, 5), *mov(5, GICD + SGIR), *mov(6, 1 << 16), str_w(6, 5)]
    vm = guest(tmp_path, [*words, WFI], native=native, gic=gic, core="cortex-a53",
               trap_costs=costs)  # fmt: skip
    vm.follow()
    vm.run(1_000_000)
    told = {key: calls for kind, key, _, calls, *_ in vm.engine.hooks.frames() if kind == 3}
    expected = {Event.MMIO: 2, Event.GIC: 1} if costs == "kvm-vhe" else {}
    if gic == 2:
        expected = {Event.MMIO: 2, Event.GIC: 2} if costs == "kvm-vhe" else {}
        expected[Event.IPI] = 1
    assert told == expected


@pytest.mark.parametrize(("options", "text"), [
    ({"gic": 4}, "--gic 4: this machine has a GICv2 or a GICv3"),
    ({"gic": 2, "cpus": 9}, "a GICv2 has room for 8; use --gic 3"),
])  # fmt: skip
def test_what_there_is_not(tmp_path, options, text):
    with pytest.raises(BootError, match=text):
        guest(tmp_path, [WFI], **options)


def test_monitor_counts_what_the_vcpu_runs(tmp_path):
    enable = [*mov(1, 1), msr(PMCR_EL0, 1), *mov(1, 1 << 31), msr(SysReg(3, 3, 9, 12, 1), 1)]
    vm = guest(tmp_path, [*enable, mrs(2, PMCCNTR_EL0), *[add(9, 9, 1)] * 10, mrs(3, PMCCNTR_EL0),
                          DAIFCLR_I, WFI, mrs(4, PMCCNTR_EL0), WFI])  # fmt: skip
    open_gic(vm, PPI[VIRTUAL])
    timers = vm.machine.vcpus[0].timers
    timers.cval[VIRTUAL], timers.ctl[VIRTUAL] = 50_000, 1
    vm.engine.use_timers(timers)
    vm.run(1_000_000)
    assert vm.engine.get("X3") - vm.engine.get("X2") == 11
    assert vm.engine.get("X4") - vm.engine.get("X3") < 20, "waiting is not counted"


@both
@pytest.mark.parametrize("core", ["flat", "cortex-a53"])
def test_what_a_monitor_counts_does_not_depend_on_what_ran_before(tmp_path, native, core):
    words = [mrs(2, PMCEID0_EL0), WFI]
    first, second = (guest(tmp_path, words, core=core, native=native) for _ in range(2))
    first.run(1_000_000)
    second.run(1_000_000)
    assert first.engine.get("X2") == second.engine.get("X2") != 0


@both
@pytest.mark.parametrize("level", ["EL1", "EL0"])
def test_every_counter_of_the_monitor_can_be_used(tmp_path, native, level):
    """Six of them; Unicorn knows four, and would try the others for ever."""
    select = [word for n in range(COUNTERS) for word in (
        *mov(1, INST_RETIRED), msr(SysReg(3, 3, 14, 12, n), 1),  # PMEVTYPER<n>_EL0
    )]  # fmt: skip
    enable = [*mov(1, (1 << COUNTERS) - 1), msr(SysReg(3, 3, 9, 12, 1), 1),
              *mov(1, 1), msr(PMUSERENR_EL0, 1), msr(PMCR_EL0, 1)]  # fmt: skip
    behind = 0x1000_0081  # adr x1, .+16
    leave = [behind, msr(ELR_EL1, 1), msr(SPSR_EL1, 31), ERET] if level == "EL0" else []
    read = [mrs(10 + n, SysReg(3, 3, 14, 8, n)) for n in range(COUNTERS)]  # PMEVCNTR<n>_EL0
    vm = guest(tmp_path, [*select, *enable, *leave, *read, WFI], native=native)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    counts = [vm.engine.get(f"X{10 + n}") for n in range(COUNTERS)]
    assert counts == [counts[0] + n for n in range(COUNTERS)], "each is one instruction later"


# -- flash -----------------------------------------------------------------------------------------


@both
def test_firmware_runs_in_place(tmp_path, native):
    """It reads itself, and has a bank of flash behind."""
    words = [*mov(1, 0), ldr_w(3, 1),
             *mov(1, FLASH[1].base), *mov(2, 0x90), str_w(2, 1), ldr_w(4, 1), WFI]  # fmt: skip
    path = tmp_path / "firmware.fd"
    path.write_bytes(code(*words))
    vm = Vm(path, load=0, native=native)
    assert isinstance(vm.run(1_000_000), exits.Wfi)
    assert vm.engine.get("X3") == words[0]
    assert vm.engine.get("X4") == 0x0089_0089
    assert vm.dtb == vm.ram.base


def test_flash_and_monitor_go_into_a_file(tmp_path):
    words = [*mov(1, FLASH[1].base), *mov(2, 0x40), str_w(2, 1), *mov(2, 0x1234), str_w(2, 1),
             *mov(2, 0xFF), str_w(2, 1), WFI, ldr_w(4, 1), WFI]  # fmt: skip
    path = tmp_path / "firmware.fd"
    path.write_bytes(code(*words))
    vm = Vm(path, load=0)
    vm.run(1_000_000)
    vm.save(tmp_path / "saved")
    again = Vm.load(tmp_path / "saved")
    assert again.engine.read(0, 4) == code(words[0])
    assert again.board.devices["flash"].content[:4] == (0x1234).to_bytes(4, "little")
    assert again.board.devices["flash"].state == vm.board.devices["flash"].state


@pytest.mark.parametrize("gic", [2, 3])
def test_every_device_goes_into_a_file_and_is_reset(tmp_path, gic):
    vm = guest(tmp_path, [WFI], gic=gic, cpus=2)
    for name in [kind.name for kind in device_classes()]:
        if name not in vm.board.devices:
            vm.board.device(name)
    fresh = to_state(vm.board.states())
    vm.board.gic.set_level(40, True)
    vm.board.devices["pl031"].write(0x8, 4, 0)
    vm.save(tmp_path / "file")
    again = Vm.load(tmp_path / "file")
    assert again.board.gic_version == gic
    assert again.board.states() == vm.board.states() != fresh
    point = Checkpoint(again)
    again.board.gic.set_level(41, True)
    point.restore()
    assert again.board.states() == vm.board.states()
    again.board.restore({})
    assert to_state(again.board.states()) == fresh


def test_states_that_do_not_fit_are_refused(tmp_path):
    vm = guest(tmp_path, [WFI], cpus=2)
    open_gic(vm)
    state = vm.board.states()["gic"]
    state.core.vcpus.pop()
    vm.save(tmp_path / "file")
    with pytest.raises(SnapshotError):
        Vm.load(tmp_path / "file")


# -- going back ------------------------------------------------------------------------------------


@both
def test_a_checkpoint_brings_devices_and_timers_back(tmp_path, native):
    vm = guest(tmp_path, [DAIFCLR_I, WFI, *read_words(PL031.base)], native=native)
    open_gic(vm, PPI[VIRTUAL])
    timers = vm.machine.vcpus[0].timers
    timers.cval[VIRTUAL], timers.ctl[VIRTUAL] = 5_000, 1
    vm.engine.use_timers(timers)
    vm.run(3)
    point, told = Checkpoint(vm), []
    for _ in range(3):
        vm.run(1_000_000)
        told.append((vm.stats(), vm.engine.arguments(31), vm.board.gic.asserted))
        point.restore()
    assert told[0] == told[1] == told[2]
    assert told[0][1][21] == 1


def test_a_machine_is_freed_with_its_last_reference(tmp_path):
    gc.disable()
    try:
        vm = guest(tmp_path, read_words(PL031.base, 0x0800_0000, 0x0903_0000, FLASH[1].base))
        vm.run(1_000_000)
        there = weakref.ref(vm.engine)
        del vm
        assert there() is None
    finally:
        gc.enable()

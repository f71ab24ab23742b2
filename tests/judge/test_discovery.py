"""Verdicts on whole runs: small programs that each do one thing wrong, and guests that do not."""

from __future__ import annotations

import pytest

from emu.base.endings import Ending
from emu.judge.discovery import MAX_KEPT, RULES, Inspector
from emu.judge.trial import Setup, attempt, build, run_within
from emu.machine.vm import Vm
from engine_kit import (
    CODE,
    ERET,
    NE,
    NOP,
    RAM,
    VBAR_EL1,
    WFI,
    add,
    b,
    b_if,
    br,
    code,
    halves,
    hlt,
    hvc,
    ldr,
    mov,
    mrs,
    msr,
    smc,
    str_w,
    subs,
)  # fmt: skip
from places import GUESTS

LOAD = 0x4008_0000
VERSION, SYSTEM_OFF, AFFINITY_INFO, CPU_ON = 0x8400_0000, 0x8400_0008, 0xC400_0004, 0xC400_0003
RND64, PV_TIME_ST, CPU_SUSPEND = 0xC400_0053, 0xC500_0021, 0xC400_0001
ELR_EL1 = (3, 0, 4, 0, 1)
WELL_BEHAVED = ("hello", "smccc_discover", "psci_cpu_on", "ptp", "trng", "stolen_time",
                "vendor_uid", "exceptions", "semihosting")  # fmt: skip


def call(fid: int, *args: int) -> list[int]:
    return [*(word for n, value in enumerate((fid, *args)) for word in mov(n, value)), hvc()]


@pytest.fixture
def judged(tmp_path):
    """The rules that machine code at LOAD breaks."""

    def run(*words: int | list[int], deny: int | None = None, ends: int = 3_000_000, **options):
        flat = [w for word in words for w in (word if isinstance(word, list) else [word])]
        path = tmp_path / "code.bin"
        path.write_bytes(code(*flat))
        vm = Vm(path, load=LOAD, **options)
        if deny is not None:
            vm.filter(deny)
        inspector = Inspector(vm)
        vm.instruments.append(inspector)
        exit, _ = run_within(vm, 60, ends)
        from emu.base.endings import ending_of

        return [v.rule for v in inspector.verdicts(ending_of(exit)[0])]

    return run


READ_METHOD = 12
"""Instructions of `reading` below."""


def reading(vm_dtb_scan: int = 0x2000) -> list[int]:
    """Read the device tree to its end, eight bytes at a time, as a boot loader copies it."""
    return [
        add(9, 0, 0), *mov(10, vm_dtb_scan // 8),
        ldr(11, 9), add(9, 9, 8), subs(10, 10, 1), b_if(NE, -3),
    ]  # fmt: skip


# -- the conduit --------------------------------------------------------------------------------


@halves
def test_a_call_before_the_method_was_read(judged, native):
    assert judged(call(VERSION), call(SYSTEM_OFF), native=native) == ["conduit-unknown"]
    assert judged(reading(), call(VERSION), call(SYSTEM_OFF), native=native) == []


def test_reading_next_to_the_method_is_not_reading_it(judged):
    assert judged(reading(64), call(SYSTEM_OFF)) == ["conduit-unknown"]


def test_no_psci_node_and_nobody_there(judged):
    rules = judged(call(VERSION), profile="none")
    assert sorted(rules) == ["call-undefined", "conduit-unknown"]


@halves
def test_a_guarded_call_is_no_sin(judged, native):
    """The vector skips the instruction, and the guest goes on behind it."""
    vectors = 0x4009_0000
    skip = [mrs(8, ELR_EL1), add(8, 8, 4), msr(ELR_EL1, 8), ERET]
    main = [*mov(1, vectors), msr(VBAR_EL1, 1), *call(VERSION), WFI, b(-1)]
    padding = [NOP] * ((vectors - LOAD + 0x200) // 4 - len(main))
    assert judged(*main, *padding, *skip, profile="none", native=native) == []
    unskipped = [WFI, b(-1)]
    assert sorted(judged(*main, *padding, *unskipped, profile="none", native=native)) == [
        "call-undefined", "conduit-unknown",
    ]  # fmt: skip


def test_smc_where_only_hvc_leads_anywhere(judged):
    words = [*mov(0, VERSION), smc(), WFI]
    rules = judged(reading(), *words, profile="kvm-4.15")
    assert rules == ["conduit-mismatch", "call-undefined"]


# -- error codes --------------------------------------------------------------------------------


def test_an_error_code_as_an_address(judged):
    words = [*reading(), *call(PV_TIME_ST), ldr(1, 0), WFI]
    assert "error-used-as-address" in judged(*words, deny=PV_TIME_ST)


def test_an_error_code_as_an_argument(judged):
    refused = [*reading(), *call(PV_TIME_ST), add(1, 0, 0), *mov(0, AFFINITY_INFO), *mov(2, 0),
               hvc(), *call(SYSTEM_OFF)]  # fmt: skip
    assert "error-used-as-argument" in judged(*refused, deny=PV_TIME_ST)
    assert "error-used-as-argument" not in judged(*refused)


def test_going_on_after_power_off(judged):
    words = [*reading(), *call(SYSTEM_OFF), *call(VERSION), WFI]
    assert judged(*words, deny=SYSTEM_OFF) == ["power-off-returned"]
    assert judged(*reading(), *call(SYSTEM_OFF), WFI, deny=SYSTEM_OFF) == []
    assert judged(*reading(), *call(SYSTEM_OFF), b(0), deny=SYSTEM_OFF) == []
    falls = [*reading(), *call(SYSTEM_OFF), *mov(1, 0x0F00_0000), br(1)]
    assert judged(*falls, deny=SYSTEM_OFF) == ["power-off-returned"]


def test_waiting_for_a_cpu_that_was_refused(judged):
    poll = [*mov(0, AFFINITY_INFO), *mov(1, 1), *mov(2, 0), hvc()]
    for waiting in ([WFI, b(-1)], [b(0)], [*poll, b(-len(poll))]):
        words = [*reading(), *call(CPU_ON, 1, LOAD, 0), *waiting]
        assert judged(*words, deny=CPU_ON, cpus=2) == ["cpu-on-refused-wait"]
    gone_on = [*reading(), *call(CPU_ON, 1, LOAD, 0), *call(VERSION), WFI]
    assert judged(*gone_on, deny=CPU_ON, cpus=2) == []


def test_hanging_after_a_refusal(judged):
    assert judged(*reading(), *call(VERSION), b(0), deny=VERSION) == ["hang-after-refusal"]
    assert judged(*reading(), *call(VERSION), b(0)) == []


def test_who_goes_on_printing_does_not_hang(judged):
    """Four times as long as it has printed since the call, it is believed to be at work."""
    refused = [*reading(), *call(VERSION), *mov(9, 0x0900_0000), *mov(11, 40)]
    printing = [str_w(0, 9), *mov(10, 100_000), subs(10, 10, 1), b_if(NE, -1)]
    for_ever = [*refused, *printing, b(-len(printing))]
    a_while = [*refused, *printing, subs(11, 11, 1), b_if(NE, -len(printing) - 1), b(0)]
    assert judged(*for_ever, deny=VERSION, ends=30_000_000) == []
    assert judged(*a_while, deny=VERSION, ends=30_000_000) == []
    assert judged(*a_while, deny=VERSION, ends=60_000_000) == ["hang-after-refusal"]
    assert judged(*refused, *printing, b(0), deny=VERSION) == ["hang-after-refusal"]


def test_crashing_after_a_refusal(judged):
    words = [*reading(), *call(VERSION), *mov(1, 0x0F00_0000), br(1)]
    assert judged(*words, deny=VERSION) == ["crash-after-refusal"]
    assert judged(*words) == [], "a crash for reasons of its own"


def test_asking_for_entropy_without_a_pause(tmp_path):
    from emu.base import exits
    from emu.base.smccc import Ret

    path = tmp_path / "code.bin"
    path.write_bytes(code(*reading(), *mov(5, RND64), *mov(1, 64), add(0, 5, 0), hvc(), b(-2)))
    vm = Vm(path, load=LOAD)
    vm.filter(RND64, action="forward")
    inspector = Inspector(vm)
    vm.instruments.append(inspector)
    for n in range(1001):
        exit = vm.run()
        assert isinstance(exit, exits.Hypercall)
        exit.ret = Ret.value(-3)
        rules = [v.rule for v in inspector.verdicts(Ending.OFF)]
        assert ("no-entropy-spin" in rules) == (n >= 1000)


# -- secondaries --------------------------------------------------------------------------------


def test_a_secondary_without_vectors(judged):
    main = [*reading(), *call(CPU_ON, 1, LOAD + 0x100, 0), WFI, b(-1)]
    crash = [*main, *[NOP] * (0x40 - len(main)), *mov(1, 0x0F00_0000), ldr(0, 1)]
    assert set(judged(*crash, cpus=2)) == {"secondary-unprepared"}


def test_stolen_time_of_another_revision(tmp_path):
    path = tmp_path / "code.bin"
    path.write_bytes(code(*reading(), *call(PV_TIME_ST), ldr(1, 0), hlt(), add(0, 0, 8),
                          ldr(1, 0), *call(SYSTEM_OFF)))  # fmt: skip
    for revision, broken in ((0, False), (1, True)):
        vm = Vm(path, load=LOAD)
        inspector = Inspector(vm)
        vm.instruments.append(inspector)

        def answer(call, ask, vm=vm, revision=revision):
            answer = ask(call)
            if call.fid == PV_TIME_ST:
                vm.engine.write_data(answer.x0, revision.to_bytes(4, "little"))
            return answer

        vm.traps.interposer = answer
        vm.engine.write(LOAD + 4 * (path.read_bytes().index(hlt().to_bytes(4, "little")) // 4),
                        NOP.to_bytes(4, "little"))
        vm.run()
        rules = [v.rule for v in inspector.verdicts(Ending.OFF)]
        assert ("stolen-time-revision" in rules) == broken


def test_a_hostile_guest_costs_no_memory(tmp_path):
    """Every turn another wrong call: CPU_ON of ever new CPUs, with ever new entry points."""
    path = tmp_path / "code.bin"
    path.write_bytes(code(*mov(5, CPU_ON), *mov(6, 0x1_0000), add(0, 5, 0), add(1, 6, 0),
                          add(2, 6, 1), hvc(), add(6, 6, 1), b(-5)))  # fmt: skip
    vm = Vm(path, load=LOAD)
    inspector = Inspector(vm)
    vm.instruments.append(inspector)
    run_within(vm, 60, 50_000)
    assert vm.stats().calls > 5000
    assert len(inspector.verdicts(Ending.LIMIT)) <= MAX_KEPT + 1
    assert len(inspector._m.cpus_refused) <= MAX_KEPT
    assert len(inspector._m.judged) <= 1001


# -- guests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", WELL_BEHAVED)
@pytest.mark.parametrize("profile", ["kvm-4.15", "kvm-6.12", "kvm-7.2", "qemu-tcg", "xen", "none"])
def test_no_false_alarm(guest, profile):
    setup = Setup(str(GUESTS / f"{guest}.elf"), profile, cpus=2, follow=True)
    assert attempt(setup).verdicts == ()


def test_the_sinner():
    outcome = attempt(Setup(str(GUESTS / "probe_blind.elf")))
    assert [v.rule for v in outcome.verdicts] == [
        "conduit-unknown", "vendor-without-uid", "vendor-without-uid", "pv-time-unannounced",
        "trng-unannounced", "arch-features-early", "smccc-version-unannounced",
        "psci-version-first", "dirty-function-id", "dirty-arguments", "dirty-arguments",
        "trng-unannounced", "conduit-mixed",
    ]  # fmt: skip
    first = outcome.verdicts[0]
    assert first.place == "smccc_call+0x34 < main+0x30"
    assert first.text == "VENDOR_HYP_KVM_FEATURES by HVC before /psci method was read"
    assert {v.rule for v in outcome.verdicts} <= set(RULES)


def test_judging_changes_nothing():
    setup = Setup(str(GUESTS / "smccc_discover.elf"))
    plain = build(setup)
    plain.run()
    for follow in (False, True):
        outcome = attempt(setup._replace(follow=follow))
        assert outcome.console == str(plain.console)
        assert (outcome.cycles, outcome.instructions) == plain.stats()[1::-1]


def test_a_machine_put_back_is_watched_again():
    vm = build(Setup(str(GUESTS / "probe_blind.elf")))
    inspector = Inspector(vm)
    again = inspector.again(vm)
    vm.instruments.append(again)
    vm.run()
    assert again.verdicts(Ending.OFF)[0].rule == "conduit-unknown"
    assert inspector.verdicts(Ending.OFF) == ()


assert CODE == RAM

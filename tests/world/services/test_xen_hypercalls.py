"""xen_version as the real Xen answers it, and a guest that asks, through all that tells of calls.

Recorded from Debian's Xen 4.20.4: worlds/xen420-hypercalls.rec.xz, worlds/xen420-plan.rec.xz.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base import exits
from emu.base.endings import Ending
from emu.base.errors import ProfileError
from emu.base.smccc import Conduit, Ret
from emu.judge.discovery import Inspector
from emu.judge.faults import POISON, Injector, Mutation, mutations
from emu.judge.trial import Setup, attempt
from emu.machine.vm import Vm
from emu.watch.ledger import Ledger
from emu.watch.ledger_report import report
from emu.watch.trace import JsonTrace, TextTrace
from emu.world.abis.xen import TAG, Xen
from emu.world.monitor import El2, with_services
from emu.world.profile import load_profile
from emu.world.services.xen_hypercalls import XenHypercalls
from engine_kit import WFI, halves, hvc, mov
from guest_kit import elf_of
from kit import ONES, PROFILES, FakeHost, Watch

ENOSYS = Ret.only(-38)
XEN_VERSION = 17


def xen(version: int = 0x4_0014) -> El2:
    """Below Xen 4.20, unless told otherwise."""
    options = {"xen_hypercalls": {"version": version}}
    return El2(with_services(load_profile("xen"), options), FakeHost())


def ask(el2: El2, *x: int, number: int = XEN_VERSION) -> object:
    return el2.answer(el2.read((*x, *(0,) * (16 - len(x)), number), Conduit.HVC, TAG))


# x0, x1, x16 → x0. Lines of xen420-hypercalls.rec.xz.
RECORDED = [
    (14, 0x0, 0x4003_6000, 0x11, 0x4_0014),
    (73, 0xFFFF_FFFF, 0x4003_6000, 0x11, -38),
    (74, 0x1_0000_0000, 0x4003_6000, 0x11, 0x4_0014),
    (75, 0x1_FFFF_FFFF, 0x4003_6000, 0x11, -38),
    (76, ONES, 0x4003_6000, 0x11, -38),
    (77, 0x0, 0x4003_6000, 0x1_0000_0011, -38),
    (78, 0x0, 0x4003_6000, 0x8011, -38),
    (79, 0x0, 0x4003_6000, 0x11, 0x4_0014),
]


@pytest.mark.parametrize(
    ("x0", "x1", "number", "answer"), [row[1:] for row in RECORDED], ids=[r[0] for r in RECORDED]
)
def test_recorded(x0, x1, number, answer):
    assert ask(xen(), x0, x1, number=number) == Ret.only(answer)


# xen420-plan.rec.xz:1328-1355: 0 or an error of their own; here they write no memory and say so.
@pytest.mark.parametrize("command", range(1, 14))
def test_commands_that_are_not_modelled(command):
    assert ask(xen(), command, 0x4003_D000) == ENOSYS


@given(st.integers(0, ONES), st.integers(0, ONES))
def test_a_command_is_an_int(command, pointer):
    """do_xen_version(int cmd, …): bits 63:32 do not count, and any pointer will do."""
    answer = Ret.only(0x4_0014) if command & 0xFFFF_FFFF == 0 else ENOSYS
    assert ask(xen(), command, pointer) == answer


@given(st.integers(0, 0xFFFF_FFFF))
def test_the_version_is_the_profiles(version):
    assert ask(xen(version), 0) == (version,)


def test_the_version_of_the_profile_that_ships():
    """Read from Xen 4.22's source, as the rest of it."""
    assert ask(El2("xen"), 0) == (0x4_0016,)
    assert XenHypercalls.Options().version == 0x4_0014


def test_without_the_service_there_is_no_hypercall(tmp_path):
    path = tmp_path / "bare.toml"
    path.write_text('extends = "xen"\n[services]\nxen_hypercalls = false\n')
    assert ask(El2(str(path)), 0) == ENOSYS
    assert "has xen_version" in El2(str(path)).route(17, Conduit.HVC, TAG).why


def test_it_can_be_switched_off():
    el2 = xen()
    el2.switch_feature("xen_hypercalls", on=False)
    assert ask(el2, 0) == ENOSYS


def test_it_needs_a_rule_that_leads_to_it(tmp_path):
    path = tmp_path / "lost.toml"
    path.write_text('extends = "kvm-6.12"\n[services.xen_hypercalls]\n')
    with pytest.raises(ProfileError) as caught:
        El2(str(path))
    assert str(caught.value) == (
        f"{path}:2: service xen_hypercalls is called by xen, and no conduit leads there: "
        'add [hvc] 3745 = "xen"'
    )


# -- a guest that asks ---------------------------------------------------------------------------

GUEST = [*[w for n in range(1, 16) for w in mov(n, 0x1000 + n)], *mov(17, 0x1011),
         *mov(0, 1 << 32), *mov(16, XEN_VERSION), hvc(TAG), WFI]  # fmt: skip
LINE = "hvc#ea1  xen_version(cmd=0x100000000, arg=0x1001)"


@halves
def test_x0_changes_and_no_other_register(build, native):
    watch = Watch()
    vm = build(GUEST, profile="xen", native=native, instruments=[watch])
    before = vm.engine.arguments(31)
    assert isinstance(vm.run(), exits.Wfi)
    after = vm.engine.arguments(31)
    assert after[:18] == (0x4_0016, *range(0x1001, 0x1010), XEN_VERSION, 0x1011)
    assert after[18:] == before[18:]
    (record,) = watch.calls
    assert record.call == ((1 << 32, *after[1:17]), Conduit.HVC, TAG, 0)
    assert type(record.call) is Xen
    assert (record.call.number, record.answer) == (XEN_VERSION, Ret.only(0x4_0016))
    assert (record.why, record.source) == (
        "service xen_hypercalls", load_profile("xen").source("services", "xen_hypercalls")
    )  # fmt: skip


@halves
def test_the_trace_names_it(build, native):
    text, lines = [], []
    vm = build(GUEST, profile="xen", native=native)
    vm.instruments += [
        TextTrace(vm.el2, text.append, calls=True, exceptions=True, colour=False),
        JsonTrace(vm.el2, lines.append, "guest"),
    ]
    vm.run()
    assert LINE in text[1]
    assert text[1].endswith("0x40016                      service xen_hypercalls")
    told = json.loads(lines[1])
    assert (told["abi"], told["fid"], told["name"]) == ("xen", "0x11", "xen_version")
    assert (told["imm"], told["answer"], told["ret"]) == (TAG, "ret", ["0x40016"])
    assert told["args"] == {"cmd": "0x100000000", "arg": "0x1001"}
    assert [int(x, 16) for x in told["x"]] == [1 << 32, *range(0x1001, 0x1010), XEN_VERSION]


@halves
def test_stats_name_it(build, native):
    vm = build(GUEST, profile="xen", core="cortex-a72", native=native)
    vm.follow()
    vm.run()
    ledger = Ledger(vm)
    assert ledger.others == (Xen.id_of(XEN_VERSION),)
    assert "[hvc xen_version]" in {ledger.name(frame) for frame in ledger.frames}
    (line,) = [line for line in report(vm) if "xen_version" in line]
    assert line.split()[:3] == ["hvc", "xen_version", "1"]


def test_stats_after_a_load_go_on(build, tmp_path):
    """What was counted stays behind; the machine loaded counts its own, by the same name."""
    vm = build([*GUEST[:-1], *mov(16, 18), hvc(TAG), WFI], profile="xen", core="cortex-a72")
    vm.traps.stops_before_call = True
    vm.run()
    vm.run(1)
    vm.save(tmp_path / "file")
    again = Vm.load(tmp_path / "file")
    assert type(again.traps.last_call) is Xen
    assert again.traps.last_call == vm.traps.last_call
    assert again.traps.last_call.number == XEN_VERSION
    again.follow()
    assert isinstance(again.run(), exits.Wfi)
    assert again.engine.arguments(17) == (*ENOSYS, *range(0x1001, 0x1010), 18)
    assert any("hvc console_io" in line for line in report(again))


KINDS = {"not-supported", "undefined", "zero", "invalid", "ones", "late", "flip"}


def observe(build, mutation: Mutation | None = None, **options) -> tuple[Vm, Watch]:
    watch = Watch()
    vm = build(GUEST, profile="xen", instruments=[watch], **options)
    vm.traps.interposer = Injector(mutation, vm) if mutation else None
    vm.run(1_000_000)
    return vm, watch


def test_mutants_of_it(build):
    """Lies in the words of its own interface; what the SMC calling convention leaves open is not
    left open by Xen's."""
    _, watch = observe(build)
    own = [m for m in mutations(watch.calls) if m.fid == Xen.id_of(XEN_VERSION)]
    assert {m.kind for m in own} == KINDS
    assert not any(m.neutral for m in own if m.kind != "late")
    assert str(own[0]) == "xen_version not-supported"
    assert {m.bit for m in own if m.kind == "flip"} <= set(range(64)), "of x0 alone"


REPLIES = {
    "not-supported": -38, "zero": 0, "invalid": -22, "ones": -1, "late": 0x4_0016,
    "flip": 0x4_0017,
}  # fmt: skip


@halves
@pytest.mark.parametrize(("kind", "x0"), REPLIES.items())
def test_a_mutant_writes_x0_alone(build, native, kind, x0):
    vm, watch = observe(build, Mutation(kind, Xen.id_of(XEN_VERSION)), native=native)
    assert vm.engine.arguments(18) == (
        x0 & ONES, *range(0x1001, 0x1010), XEN_VERSION, 0x1011
    )  # fmt: skip
    assert watch.calls[0].answer == Ret.only(x0)


def test_a_mutant_of_every_call_is_one_of_it(build):
    vm, _ = observe(build, Mutation("not-supported", 0))
    assert vm.engine.arguments(2) == (*ENOSYS, 0x1001)
    vm, watch = observe(build, Mutation("undefined", 0))
    assert watch.exceptions
    assert POISON not in vm.engine.arguments(18)


def test_a_mutant_of_another_call_leaves_it(build):
    """x0 names no function: a mutant of PSCI_VERSION has nothing to do with it."""
    for fid in (0x8400_0000, 17, Xen.id_of(18)):
        vm, _ = observe(build, Mutation("zero", fid))
        assert vm.engine.get("X0") == 0x4_0016


def test_a_cell_of_the_matrix_names_it(tmp_path):
    outcome = attempt(Setup(elf_of(tmp_path, GUEST), profile="xen"))
    (line,) = outcome.calls
    assert (line.by, line.call) == ("hvc#ea1", "xen_version(cmd=0x100000000, arg=0x1001)")
    assert (line.result, line.why) == ("0x40016", "service xen_hypercalls")
    assert outcome.verdicts == (), "no rule of SMCCC's has anything to say"


@pytest.mark.parametrize("x0", [0, 1 << 32, 0x8400_0000, 0xC400_0003, ONES])
def test_rules_do_not_judge_it(build, x0):
    """Garbage above bit 31 of x0, an identifier in it, an immediate: all right for a hypercall."""
    vm = build(mov(0, x0), mov(16, XEN_VERSION), hvc(TAG), WFI, profile="xen")
    inspector = Inspector(vm)
    vm.instruments.append(inspector)
    vm.run()
    assert inspector.verdicts(Ending.IDLE) == ()


def test_where_there_is_nobody_it_is_undefined_by_its_name(build):
    vm = build(mov(0, 0), mov(16, XEN_VERSION), hvc(TAG), WFI, profile="none")
    inspector = Inspector(vm)
    vm.instruments.append(inspector)
    vm.run(10_000)
    (verdict,) = inspector.verdicts(Ending.FAULT)
    assert (verdict.rule, verdict.text) == (
        "call-undefined", "xen_version by HVC is UNDEFINED here"
    )  # fmt: skip


@pytest.mark.parametrize("profile", [name for name in PROFILES if name.startswith("kvm")])
def test_below_kvm_it_is_a_call_by_smccc_and_told_as_xens(build, profile):
    text = []
    vm = build(GUEST, profile=profile)
    vm.instruments.append(
        TextTrace(vm.el2, text.append, calls=True, exceptions=False, colour=False)
    )
    vm.run()
    assert LINE in text[1]
    assert vm.engine.get("X0") == ONES
    assert vm.traps.last_call.id == 0, "x0, as KVM reads it"


# -- a call that waits for its answer ------------------------------------------------------------


def forwarding(tmp_path) -> str:
    """KVM forwards x0 = 0xC6000001, made as a hypercall."""
    words = [*GUEST[:-2], *mov(0, 0xC600_0001), hvc(TAG), WFI]
    return elf_of(tmp_path, words)


def test_a_forwarded_one_is_saved_and_answered(tmp_path):
    vm = Vm(forwarding(tmp_path), profile="kvm-6.12")
    vm.filter(0xC600_0001, action="forward")
    exit = vm.run()
    assert isinstance(exit, exits.Hypercall)
    assert exit.call.x[16:18] == (XEN_VERSION, 0x1011)
    vm.save(tmp_path / "file")
    again = Vm.load(tmp_path / "file")
    assert dataclasses.astuple(again.pending)[1:] == dataclasses.astuple(exit)[1:]
    for one in (vm, again):
        one.pending.ret = Ret.only(5)
        assert isinstance(one.run(), exits.Wfi)
        assert one.engine.arguments(3) == (5, 0x1001, 0x1002)
    assert vm.stats() == again.stats()

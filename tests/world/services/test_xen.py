"""Xen's own queries, and the rest of its profile (abi/A §A5, §A6; abi/E §E2; xen 4.22)."""

from __future__ import annotations

import errno

import pytest

from emu.base.endings import Ending
from emu.base.smccc import UNDEF, Conduit, Ret
from emu.judge.discovery import Inspector
from emu.machine.vm import Vm
from emu.world.monitor import El2, with_services
from emu.world.profile import load_profile
from engine_kit import NOP, WFI, code, halves, hvc, ldr, mov, smc
from kit import (
    ARCH_FEATURES,
    KVM_FEATURES,
    NOT_SUPPORTED,
    ONES,
    PTP,
    PV_FEATURES,
    SMCCC_VERSION,
    TRNG_VERSION,
    VERSION,
    WORKAROUND_1,
    WORKAROUND_2,
    WORKAROUND_3,
    Request,
    Verb,
    ask,
    machine,
    script,
)

HYPERCALL, LOAD = 0xEA1, 0x4008_0000
CONDUITS = [lambda request: request, lambda request: request.by_smc()]


# Words of abi/A §A6; revisions and counts of vsmc.c: 3, and 3 + 14 + 0.
QUERIES = [
    (0x8600_FF00, (3,)),
    (0x8600_FF01, (0xDC12_18A7, 0x6943_98C6, 0xD179_CF9A, 0x67E6_DE8D)),
    (0x8600_FF03, (0, 1)),
    (0x8400_FF00, (17,)),
    (0x8400_FF01, (0x6F38_63F8, 0xBD4C_394B, 0x16CE_2092, 0x6F9F_E541)),
    (0x8400_FF03, (0, 1)),
]


@pytest.mark.parametrize("by", CONDUITS, ids=list(Conduit))
@pytest.mark.parametrize(("fid", "registers"), QUERIES)
def test_queries_write_what_they_define_and_no_more(fid, registers, by):
    script(machine("xen")) << by(Verb(fid)(7, 8, 9)) >> registers
    script(machine("xen")) << by(Verb(fid | 1 << 30)()) >> NOT_SUPPORTED


def test_ffa_counts_when_it_is_there():
    profile = with_services(load_profile("xen"), {"xen": {"ffa": 12}})
    script(El2(profile)) << Verb(0x8400_FF00)() >> (29,)


# --- the calling convention (vsmc.c:vsmccc_handle_call) ----------------------------------------


@pytest.mark.parametrize(
    "fid",
    [
        *(0x0, 0x3, 0x4, 0x0100_FFFF, 0x0101_0000),  # 0.1: off and on alone
        *(KVM_FEATURES, PTP, TRNG_VERSION, PV_FEATURES, 0x8600_FF02, 0x8500_FF01),
        *(0x8100_0000, 0x8200_FF01, 0x8300_0000, 0xB200_0000, 0xBF00_FF01, 0x4600_0001),
        *(0x8401_0000, 0x8402_0000, 0x8400_0063),  # no SVE hint, no FF-A
        *(0x8000_0002, 0x8000_0004, 0x95C1_BA60),
    ],
)
@pytest.mark.parametrize("by", CONDUITS, ids=list(Conduit))
def test_unknown_is_minus_one_in_x0_alone(fid, by):
    assert ask(machine("xen"), by(Request(fid, (1, 2, 3)))) == (ONES,)


def test_the_upper_half_of_x0_is_no_part_of_the_identifier():
    script(machine("xen")) << Request(0xFFFF_FFFF_0000_0000 | VERSION) >> 0x1_0001


@pytest.mark.parametrize(
    ("conduit", "imm", "answer"),
    [
        ("hvc", HYPERCALL, (ONES + 1 - errno.ENOSYS,)),
        ("hvc", 1, UNDEF),
        ("hvc", 0xFFFF, UNDEF),  # debug traps: not in a release build
        ("smc", HYPERCALL, UNDEF),
        ("smc", 1, UNDEF),
        ("smc", 0, (0x1_0001,)),
    ],
)
def test_immediates(conduit, imm, answer):
    request = Request(VERSION, conduit=Conduit(conduit), imm=imm)
    script(machine("xen")) << request >> answer


def test_arch_features_knows_the_workarounds_alone():
    el2 = machine("xen")
    script(el2) << SMCCC_VERSION() >> 0x1_0002
    script(el2) << ARCH_FEATURES(WORKAROUND_1) >> 0
    for fid in (WORKAROUND_2, WORKAROUND_3, SMCCC_VERSION, ARCH_FEATURES, PV_FEATURES, 0x8000_0002):
        script(el2) << ARCH_FEATURES(fid) >> NOT_SUPPORTED


# entry.S answers HVC #0, vsmc.c:handle_arch the rest.
@pytest.mark.parametrize(
    ("verb", "cleared"), [(WORKAROUND_1, (0, 0)), (WORKAROUND_2, (0,) * 4), (WORKAROUND_3, (0, 0))]
)
def test_workaround_calls(verb, cleared):
    script(machine("xen")) << verb(1, 2, 3) >> cleared
    assert ask(machine("xen"), verb(1).by_smc()) == Ret.untouched()


@halves
def test_a_workaround_by_smc_leaves_every_register(tmp_path, native):
    path = tmp_path / "code.bin"
    path.write_bytes(code(*mov(0, WORKAROUND_1), *mov(1, 7), smc(), WFI))
    vm = Vm(path, load=LOAD, profile="xen", native=native)
    vm.run()
    assert (vm.engine.get("X0"), vm.engine.get("X1")) == (WORKAROUND_1, 7)


# --- the device tree (libxl_arm.c) -------------------------------------------------------------


def test_promise():
    promise = load_profile("xen").promise
    assert promise.method == "hvc"
    assert promise.compatible == ("arm,psci-1.0", "arm,psci-0.2", "arm,psci")
    assert promise.cells == (("cpu_off", 1), ("cpu_on", 2))
    assert promise.hypervisor == ("xen,xen-4.22", "xen,xen")


# --- a guest that makes hypercalls -------------------------------------------------------------


def test_hypercalls_are_no_calls_by_smccc(tmp_path):
    """Before /psci was read, with a pointer in x1, −ENOSYS as an address: not judged."""
    path = tmp_path / "code.bin"
    path.write_bytes(code(*mov(0, 2), *mov(1, 0xFFFF_0000_4008_0000), hvc(HYPERCALL), NOP, WFI))
    vm = Vm(path, load=LOAD, profile="xen")
    inspector = Inspector(vm)
    vm.instruments.append(inspector)
    vm.run()
    assert vm.engine.get("X0") == ONES + 1 - errno.ENOSYS
    assert inspector.verdicts(Ending.IDLE) == ()


def test_hypercalls_where_there_is_nobody(tmp_path):
    path = tmp_path / "code.bin"
    path.write_bytes(code(*mov(0, 2), hvc(HYPERCALL), ldr(1, 0), WFI))
    vm = Vm(path, load=LOAD, profile="none")
    inspector = Inspector(vm)
    vm.instruments.append(inspector)
    vm.run(10_000)
    verdicts = inspector.verdicts(Ending.FAULT)
    assert [v.text for v in verdicts] == ["set_trap_table by HVC is UNDEFINED here"]

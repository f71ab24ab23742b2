"""The levels above a guest: KVM at EL2 and firmware at EL3, from one profile of a few lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi_kit import define
from emu.base import exits
from emu.base.errors import PolicyError, ProfileError
from emu.base.smccc import UNDEF, Call, Conduit, Ret
from emu.machine.vm import Vm
from emu.world.monitor import El2
from emu.world.profile import load_profile, profile_of
from emu.world.service import MpState, Service, fn
from engine_kit import WFI, halves, hvc, mov, smc
from kit import (
    NOT_SUPPORTED,
    ONES,
    PTP,
    SUCCESS,
    TRNG_VERSION,
    VERSION,
    FakeHost,
    Request,
    Watch,
    check_answer,
    script,
)

HVC, SMC = Conduit.HVC, Conduit.SMC
UNKNOWN = 0x8600_1234
TWO = """\
extends = "kvm-6.12"
[smc]
0 = "down"  # the hypervisor lets SMC #0 through
[el3]
title = "Firmware of one's own"
unknown = "not-supported"
reply_registers = 1
[el3.smc]
0 = "smccc"
[el3.services.psci]  # its own PSCI
version = 0x10000
[el3.services.trng]
"""


@pytest.fixture
def write(tmp_path):
    """Writes profiles side by side; gives the path of the last."""

    def made(*texts: str, **named: str) -> str:
        for name, text in {**{f"p{n}": text for n, text in enumerate(texts)}, **named}.items():
            path = tmp_path / f"{name}.toml"
            path.write_text(text)
        return str(path)

    return made


@pytest.fixture
def two(write) -> El2:
    return El2(write(two=TWO), FakeHost(4))


# -- both answer ---------------------------------------------------------------------------------


def test_each_level_answers_by_its_conduit(two):
    script(two) << VERSION() >> 0x1_0001
    script(two) << VERSION().by_smc() >> (0x1_0000,)
    script(two) << Request(UNKNOWN) >> NOT_SUPPORTED << Request(UNKNOWN).by_smc() >> (ONES,)
    script(two) << VERSION().by_smc(1) >> (ONES,)  # KVM's own reply to other immediates


def test_the_levels_are_there_by_name(two):
    upper, lower = two.levels
    assert (upper.profile.level, lower.profile.level) == ("el2", "el3")
    assert upper is two.top
    assert (upper.profile.name, lower.profile.name) == ("two", "two:el3")
    assert two.profile.below == lower.profile
    assert two.profile.levels() == (two.profile, lower.profile)
    assert {"psci", "el3.psci", "el3.trng"} <= two.services.keys()
    assert two.services["el3.psci"] is lower.services["psci"] is not two.services["psci"]
    assert load_profile("kvm-6.12").below is None


def test_a_firmware_service_acts_on_the_same_machine(two):
    host = two.host
    script(two) << Request(0xC400_0003, (1, 0x4000_0000, 7)).by_smc() >> (SUCCESS,)
    script(two) << Request(0xC400_0003, (2, 0x4000_0000, 7)) >> SUCCESS
    assert host.done == [("on", 1, 0x4000_0000, 7), ("on", 2, 0x4000_0000, 7)]
    assert host.states[:3] == [MpState.RUNNABLE] * 3


def test_the_way_goes_through_both(two):
    steps = two.route(VERSION, SMC).steps
    assert steps == (
        "el2, two: SMC #0x0 is passed down",
        "el3, two:el3: SMC #0x0 leads to smccc",
        "el3, no SMCCC filter here",
        "el3, needs no firmware register's leave",
        "el3, service psci: PSCI_VERSION",
    )
    assert {step.partition(",")[0] for step in two.route(VERSION, HVC).steps} == {"el2"}
    unknown = two.route(UNKNOWN, SMC)
    assert unknown.why == "el3, no service of two:el3 has 0x86001234"
    assert unknown.steps[-1] == "el3, the reply to the unknown is not-supported"


def test_sources_are_the_levels_own(two):
    assert two.route(VERSION, SMC).source == "its own PSCI"
    assert "psci.c" in two.route(VERSION, HVC).source
    upper, lower = two.levels
    assert lower.profile.place("services", "psci").endswith("two.toml:10")
    assert upper.profile.source("smc", "0") == "the hypervisor lets SMC #0 through"


def test_one_level_alone_is_told_as_ever():
    """Nobody who has no levels is told of them."""
    assert not any("el2" in step for step in El2("kvm-6.12").route(VERSION).steps)


# -- what nobody has at EL2 ----------------------------------------------------------------------


DOWN = """\
extends = "kvm-6.12"
unknown = "down"
[el3]
[el3.smc]
0 = "smccc"
[el3.services.xen]
"""


def test_the_unknown_is_passed_down(write):
    """As a hypervisor that hands on what it does not know; by HVC nobody listens below."""
    el2 = El2(write(DOWN), FakeHost())
    script(el2) << Request(0x8600_FF01).by_smc() >> El2("kvm-6.12").hypercall(0x8600_FF01)
    script(el2) << Request(0x8600_FF00).by_smc() >> 3  # Xen's, not KVM's
    script(el2) << Request(UNKNOWN).by_smc() >> NOT_SUPPORTED << Request(UNKNOWN) >> UNDEF
    steps = el2.route(UNKNOWN, SMC).steps
    assert steps[1:3] == (
        "el2, no service of p0 has 0x86001234", "el2, what nobody has here is passed down"
    )  # fmt: skip
    assert el2.route(UNKNOWN, HVC).steps[-1] == "el3, p0:el3: HVC #0x0 leads to undef"


def test_what_el2_denies_does_not_reach_el3(write):
    el2 = El2(write(DOWN), FakeHost())
    el2.add_filter(0x8600_FF00)
    script(el2) << Request(0x8600_FF00).by_smc() >> NOT_SUPPORTED
    assert "denies" in el2.route(0x8600_FF00, SMC).why


def test_a_register_that_is_clear_lets_the_firmware_answer(write):
    """The TRNG switched off in KVM is as unknown there as any other: the one below serves it."""
    el2 = El2(write(DOWN.replace("xen", "trng")), FakeHost())
    assert el2.route(TRNG_VERSION, SMC).steps[-1].startswith("el2,")
    el2.set_register("STD_BMAP", 0)
    script(el2) << TRNG_VERSION().by_smc() >> 0x1_0000 << TRNG_VERSION() >> UNDEF
    assert el2.route(TRNG_VERSION, SMC).steps[-1] == "el3, service trng: TRNG_VERSION"


# -- what can be switched ------------------------------------------------------------------------


def test_features_of_each_level_by_name(two):
    assert set(two.features()) == {
        *("arch", "psci", "trng", "pvtime", "vendor", "ptp", "el3.psci", "el3.trng")
    }


@pytest.mark.parametrize(
    ("name", "hvc", "smc"),
    [("psci", NOT_SUPPORTED, (0x1_0000,)), ("el3.psci", 0x1_0001, (ONES,))],
)
def test_a_feature_is_switched_at_its_level(two, name, hvc, smc):
    two.switch_feature(name, on=False)
    script(two) << VERSION() >> hvc << VERSION().by_smc() >> smc
    two.switch_feature(name, on=True)
    script(two) << VERSION() >> 0x1_0001 << VERSION().by_smc() >> (0x1_0000,)


def test_options_are_changed_at_their_level(two):
    two.set_option("el3.psci", version=0x1_0002)
    script(two) << VERSION() >> 0x1_0001 << VERSION().by_smc() >> (0x1_0002,)
    with pytest.raises(KeyError):
        two.set_option("el3.ptp", version=1)


def test_unknown_features_of_levels(two):
    for name in ("el3.ptp", "el3", "el2.psci", "el4.psci", "el3.el3.psci"):
        with pytest.raises(PolicyError, match=f"unknown service {name}; it has psci,.*el3.psci"):
            two.switch_feature(name, on=False)


def test_from_the_command_line(hvcemu, write):
    path = write(two=TWO)
    words = ("call", "0x84000000", "--conduit", "smc", "--profile", path)
    _, out, _ = hvcemu(*words, "--why")
    for line in (
        "result   0x10000 (version 1.0)", "1. el2, two: SMC #0x0 is passed down",
        "5. el3, service psci: PSCI_VERSION", "source   its own PSCI", f"profile  {path}:10",
    ):  # fmt: skip
        assert line in out
    _, out, _ = hvcemu(*words, "--services=-el3.psci")
    assert "psci was switched off" in out
    assert "result   NOT_SUPPORTED (-1)" in out


# -- a level in a file of its own ----------------------------------------------------------------

FIRMWARE = """\
title = "Firmware"
level = "el3"
reply_registers = 1
[smc]
0 = "smccc"
[services.psci]  # psci_main.c
version = 0x10001
[services.trng]
"""
OVER = """\
extends = "kvm-6.12"
[smc]
0 = "down"
[el3]
extends = "firmware"
[el3.services.psci]
version = 0x10002
[el3.services]
trng = false
"""


def test_a_level_extends_a_file(write):
    el2 = El2(write(firmware=FIRMWARE, over=OVER))
    script(el2) << VERSION() >> 0x1_0001 << VERSION().by_smc() >> (0x1_0002,)
    script(el2) << TRNG_VERSION().by_smc() >> (ONES,)
    lower = el2.levels[1].profile
    assert (lower.title, lower.place("smc", "0").rpartition("/")[2]) == (
        "Firmware", "firmware.toml:5"
    )  # fmt: skip
    assert lower.source("services", "psci") == "psci_main.c"
    assert lower.place("services", "psci", "version").rpartition("/")[2] == "over.toml:7"


def test_such_a_file_is_a_profile_too(write):
    """What is below nobody: a machine whose EL2 is absent, with SMC to the firmware."""
    el2 = El2(write(FIRMWARE))
    script(el2) << VERSION().by_smc() >> (0x1_0001,) << VERSION() >> UNDEF
    assert [level.profile.level for level in el2.levels] == ["el3"]


def test_a_profile_that_is_extended_brings_its_level(write):
    el2 = El2(write(two=TWO, more='extends = "two"\n[el3.services.psci]\nversion = 0x10002\n'))
    script(el2) << VERSION().by_smc() >> (0x1_0002,) << VERSION() >> 0x1_0001
    el2 = El2(write(two=TWO, less='extends = "two"\nel3 = false\n[smc]\n0 = "undef"\n'))
    script(el2) << VERSION().by_smc() >> UNDEF
    assert len(el2.levels) == 1


# -- mistakes ------------------------------------------------------------------------------------

SMC_DOWN = '[smc]\n0 = "down"\n'
EL3 = '[el3]\n[el3.smc]\n0 = "smccc"\n'
KVM = 'extends = "kvm-6.12"\n'
MISTAKES = {
    "an ABI that is unknown": (
        '[hvc]\n0 = "hyperv"\n', 2,
        "an interface is one of smccc, xen, x0-only, undef, enosys, down",
    ),
    "an ABI that is unknown, below": (
        f'{KVM}{SMC_DOWN}[el3]\n[el3.smc]\n0 = "optee"\n', 6, "an interface is one of smccc, xen",
    ),
    "down with nothing below": (f"{KVM}{SMC_DOWN}", 3, "smc.0 leads down, and nothing is below"),
    "the unknown down, with nothing below": (
        f'{KVM}unknown = "down"\n', 2, "unknown leads down, and nothing is below",
    ),
    "down twice": (
        f'{KVM}{SMC_DOWN}[el3]\n[el3.smc]\n0 = "smccc"\n1 = "down"\n', 7,
        "el3.smc.1 leads down, and nothing is below",
    ),
    "the unknown down twice": (
        f'{KVM}{SMC_DOWN}[el3]\nunknown = "down"\n[el3.smc]\n0 = "smccc"\n', 5,
        "el3.unknown leads down, and nothing is below",
    ),
    "nobody leads there": (
        f"{KVM}{EL3}", 2, 'nobody listens at el3: let [smc] or unknown lead there, as "down"',
    ),
    "only HVC leads there": (
        f'{KVM}[hvc]\n5 = "down"\n{EL3}', 3,
        'nobody listens at el3: let [smc] or unknown lead there, as "down"',
    ),
    "an HVC below": (
        f'{KVM}{SMC_DOWN}[el3]\n[el3.hvc]\n0 = "smccc"\n', 5,
        "no HVC reaches el3: it listens to SMC alone",
    ),
    "an HVC at el3 alone": (
        'level = "el3"\n[hvc]\n0 = "smccc"\n', 2, "no HVC reaches el3: it listens to SMC alone",
    ),
    "a level below the last": (
        f'level = "el3"\n{SMC_DOWN}{EL3}', 4, "nothing is below el3",
    ),
    "a level inside the last": (
        f"{KVM}{SMC_DOWN}{EL3}[el3.el3]\n", 7, "unknown key el3.el3",
    ),
    "a level nobody knows": ('level = "el4"\n', 1, "level is one of el2, el3"),
    "a device tree below": (
        f"{KVM}{SMC_DOWN}{EL3}[el3.device_tree]\n", 7, "unknown key el3.device_tree",
    ),
    "a misspelt key below": (
        f"{KVM}{SMC_DOWN}{EL3}[el3.service.psci]\n", 7,
        "unknown key el3.service; did you mean services?",
    ),
    "a level that is no table": (f"{KVM}el3 = 5\n", 2, "el3 must be a table, or false"),
    "a firmware nobody has": (
        f'{KVM}{SMC_DOWN}[el3]\nextends = "tfa-9"\n', 5,
        "unknown profile tfa-9: `hvcemu profiles` lists them",
    ),
    "a firmware of el2": (
        f'{KVM}{SMC_DOWN}[el3]\nextends = "kvm-6.12"\n', 5,
        "kvm-6.12 cannot be el3: it is one of el2",
    ),
    "a service nobody knows": (
        f"{KVM}{SMC_DOWN}{EL3}[el3.services.optee]\n", 7, "unknown service optee",
    ),
    "an option nobody knows": (
        f"{KVM}{SMC_DOWN}{EL3}[el3.services.psci]\nversoin = 1\n", 7,
        "service psci has no option versoin",
    ),
    "a service of an ABI that nobody leads to": (
        f"{KVM}[services.xen_hypercalls]\n", 2,
        'service xen_hypercalls is called by xen, and no conduit leads there: '
        'add [hvc] 3745 = "xen"',
    ),
    "the same below": (
        f"{KVM}{SMC_DOWN}{EL3}[el3.services.xen_hypercalls]\n", 7,
        "service xen_hypercalls is called by xen, and no conduit leads there",
    ),
    "two services that claim one identifier": (
        f"{KVM}[services.xen]\n", 2, "0x8600FF01 is claimed by kvm_vendor and by xen",
    ),
    "two services below": (
        f"{KVM}{SMC_DOWN}{EL3}[el3.services.kvm_vendor]\n[el3.services.xen]\n", 8,
        "0x8600FF01 is claimed by kvm_vendor and by xen",
    ),
    "an instruction that two levels read differently": (
        f'{KVM}unknown = "down"\n[smc]\n7 = "smccc"\n[el3]\n[el3.smc]\n7 = "xen"\n', 7,
        "SMC #7 is xen here and smccc at the level above",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(write, what):
    text, line, says = MISTAKES[what]
    path = write(bad=text)
    with pytest.raises(ProfileError) as caught:
        El2(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: {says}")
    assert "\n" not in message


def test_a_firmware_with_a_level_of_its_own(write):
    firmware = FIRMWARE.replace('level = "el3"\n', 'unknown = "down"\n') + EL3
    path = write(firmware=firmware, over=OVER)
    with pytest.raises(ProfileError) as caught:
        El2(path)
    assert str(caught.value) == f"{path}:5: firmware cannot be el3: it has a level below it"


def test_the_same_identifier_at_two_levels_is_no_mistake(two):
    assert two.find(VERSION)[0] is two.services["psci"]
    assert two.implements(VERSION)
    assert two.implements(PTP)
    assert not two.implements(UNKNOWN)


# -- services of one's own, by an ABI of one's own -----------------------------------------------


def service_by(*instructions: tuple[Conduit, int], name: str = "mine") -> type[Service]:
    """A service whose function 5 is 55, by a convention with these instructions."""
    by = define(name, instructions=frozenset(instructions))

    class Counting(Service):
        name = "counting"
        abi = by

        @fn(5)
        def five(self, call: Call) -> Ret:
            return Ret.only(55)

    return Counting


@pytest.mark.usefixtures("own_abis")
@pytest.mark.parametrize("profile", ["kvm-6.12", "xen", "none"])
def test_an_own_service_brings_its_instructions(profile):
    el2 = El2(profile, services=[service_by((HVC, 0x4A48), (SMC, 0x4A48))])
    for conduit in Conduit:
        assert el2.hypercall(5, conduit=conduit, imm=0x4A48) == (55,)
        assert el2.hypercall(6, conduit=conduit, imm=0x4A48) == (ONES,)
    assert el2.route(5, HVC, 0x4A48).steps[0] == "HVC #0x4a48 is mine's"
    assert El2(profile).hypercall(5, imm=0x4A48) != (55,)


@pytest.mark.usefixtures("own_abis")
def test_what_the_profile_leads_there_is_enough(write):
    own = service_by((HVC, 0x4A48))
    el2 = El2(write(f'{KVM}[smc]\n9 = "mine"\n'), services=[own])
    assert el2.hypercall(5, conduit="smc", imm=9) == (55,)
    assert el2.hypercall(5, imm=0x4A48) == Ret.not_supported(), "KVM's rule holds"


@pytest.mark.usefixtures("own_abis")
def test_an_instruction_is_led_to_one_place(write):
    path = write(f'{KVM}[hvc]\n19016 = "undef"\n')
    with pytest.raises(ProfileError) as caught:
        El2(path, services=[service_by((HVC, 0x4A48))])
    assert str(caught.value) == (
        f"{path}:3: HVC #0x4a48 leads to undef, and service counting of one's own is called by "
        "it: mine"
    )


@pytest.mark.usefixtures("own_abis")
def test_an_abi_without_instructions_needs_a_rule():
    with pytest.raises(ProfileError, match="service counting: no instruction leads to mine"):
        El2("kvm-6.12", services=[service_by()])


# -- policies of vCPUs ---------------------------------------------------------------------------


def test_a_vcpu_may_differ():
    """PSCI 0.1 where a vCPU lacks the feature: the register reads otherwise on that one."""
    el2 = El2("kvm-6.12", FakeHost(2))
    el2.override(1, {"KVM_REG_ARM_PSCI_VERSION": 0x1_0000})
    script(el2) << VERSION().on(0) >> 0x1_0001 << VERSION().on(1) >> 0x1_0000
    assert el2.overrides() == {1: {"KVM_REG_ARM_PSCI_VERSION": 0x1_0000}}
    assert el2.own_policies() == {}, "an override is none: it goes on top of the shared one"
    el2.add_filter(UNKNOWN, 1, "forward")
    assert "forwards" in el2.route(UNKNOWN, vcpu=1).why
    script(el2) << VERSION().on(1) >> 0x1_0000


@pytest.mark.parametrize(("scope", "other"), [("vm", -1), ("vcpu-asymmetric", 0x1_0000)])
def test_registers_are_the_vms_or_each_vcpus(scope, other):
    profile = load_profile("kvm-6.12").with_modes({"fwreg": {"scope": scope}})
    el2 = El2(profile, FakeHost(2))
    el2.change_policy_of(0, lambda policy: policy.with_register("STD_BMAP", 0))
    script(el2) << TRNG_VERSION().on(0) >> NOT_SUPPORTED << TRNG_VERSION().on(1) >> other
    assert set(el2.own_policies()) == ({0} if scope != "vm" else set())
    assert el2.policy_of(1).values["KVM_REG_ARM_STD_BMAP"] == (scope != "vm")
    script(el2) << TRNG_VERSION().by_smc().on(0) >> NOT_SUPPORTED


@pytest.mark.parametrize(
    ("default", "answer"), [("profile", 0x1_0000), ("all-on", 0x1_0000), ("all-off", -1)]
)
def test_what_registers_are_at_reset(default, answer):
    el2 = El2(load_profile("kvm-6.12").with_modes({"fwreg": {"default": default}}))
    script(el2) << TRNG_VERSION() >> answer


# -- tables and back -----------------------------------------------------------------------------


def test_what_it_is_made_of_makes_it_again(write):
    """As a saved machine's header does."""
    for path in (write(two=TWO), write(firmware=FIRMWARE, over=OVER), write(DOWN)):
        profile = load_profile(path)
        tables = json.loads(json.dumps(profile.tables()))
        again = profile_of(
            profile.name, profile.lineage, tables, profile.sources, profile.places
        )
        assert again == profile
        assert again.below.level == "el3"


ids = st.sampled_from([VERSION, TRNG_VERSION, 0x8600_FF01, UNKNOWN]) | st.integers(0, ONES)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> list[El2]:
    folder = tmp_path_factory.mktemp("levels")
    found = []
    for name, text in (("two", TWO), ("down", DOWN)):
        (folder / f"{name}.toml").write_text(text)
        found.append(El2(str(folder / f"{name}.toml"), FakeHost()))
    return found


@given(ids, st.integers(0, ONES), st.sampled_from([HVC, SMC]), st.sampled_from([0, 1, 0xEA1]))
def test_any_call_has_an_answer_from_one_level(worlds, x0, x1, conduit, imm):
    for el2 in worlds:
        check_answer(el2.hypercall(x0, x1, conduit=conduit, imm=imm))
        told = [step.partition(", ")[0] for step in el2.route(x0, conduit, imm).steps]
        assert told == sorted(told), "from above"
        assert set(told) <= {"el2", "el3"}


# -- a guest -------------------------------------------------------------------------------------

GUEST = [*mov(0, VERSION), hvc(), *mov(19, 0x5000), 0xAA00_03F3,  # mov x19, x0
         *mov(0, VERSION), smc(), 0xAA00_03F4, WFI]  # mov x20, x0


@halves
def test_a_guest_below_both(build, write, native):
    watch = Watch()
    vm = build(GUEST, profile=write(two=TWO), native=native, instruments=[watch])
    assert isinstance(vm.run(), exits.Wfi)
    assert (vm.engine.get("X19"), vm.engine.get("X20")) == (0x1_0001, 0x1_0000)
    assert [record.answer for record in watch.calls] == [Ret.value(0x1_0001), Ret.only(0x1_0000)]
    assert [record.source for record in watch.calls][1] == "its own PSCI"


@halves
def test_a_saved_machine_keeps_both_levels(build, write, tmp_path, native):
    vm = build(GUEST, profile=write(two=TWO), native=native)
    vm.monitor.set_option("el3.psci", version=0x1_0002)
    vm.monitor.levels[1].set_modes({"unknown": {"hvc": "undef"}})
    vm.monitor.switch_feature("el3.trng", on=False)
    vm.monitor.set_register("PSCI_VERSION", 0x1_0000)
    vm.monitor.add_filter(UNKNOWN, 1, "forward")
    vm.traps.stops_before_call = True
    vm.run()
    vm.save(tmp_path / "file")
    again = Vm.load(tmp_path / "file", native=native)
    for one in (vm, again):
        upper, lower = one.monitor.levels
        assert (upper.profile.level, lower.profile.level) == ("el2", "el3")
        assert lower.profile.modes["unknown.hvc"] == "undef"
        assert upper.profile.modes["unknown.hvc"] != "undef"
        assert lower.policy.withheld == {"trng"}
        assert upper.policy.withheld == frozenset()
        assert "forwards" in one.monitor.route(UNKNOWN).why
        assert isinstance(one.run(), exits.Wfi)
        assert (one.engine.get("X19"), one.engine.get("X20")) == (0x1_0000, 0x1_0002)
    assert again.stats() == vm.stats()
    again.save(tmp_path / "again")
    vm.save(tmp_path / "first")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "first").read_bytes()

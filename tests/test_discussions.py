"""The eight scenarios of abi/D §D5, and every row of its modes, as the discussions tell them."""

import errno
import struct

import pytest

from emu.arm.arch import VCPU_REGISTERS
from emu.base import exits
from emu.base.errors import KvmError
from emu.base.smccc import UNDEF, Ret
from emu.kvm.abi import (
    CAP_ARM_HVC_FW_REG_BMAP,
    CAP_ARM_HVC_TO_USER,
    CAP_ARM_MP_HALTED,
    CAP_ARM_PSCI_TO_USER,
    CAP_ARM_REG_SCOPE,
    FWD_TO_USER,
    SMCCC_FILTER,
    VM_SMCCC_CTRL,
    filter_bytes,
)
from emu.kvm.ioctls import Kvm
from emu.machine.vm import Vm
from emu.world.modes import DEFAULTS, MODES
from emu.world.onereg import CORE, SCOPE_VM, Group, make, system_id
from emu.world.service import MpState
from emu.world.services.asyncpf import NOT_PRESENT, PAGE_NOTIFY, READY

CODE = 0x4000_0000
HVC, SMC, WFI = 0xD400_0002, 0xD400_0003, 0xD503_207F
STD, STD_HYP, VENDOR, VENDOR_2 = (make(Group.FW_FEAT_BMAP, n) for n in range(4))
CORE_ID = {core.name: core.id for core in CORE}
PSCI_VERSION, CPU_SUSPEND, CPU_ON = 0x8400_0000, 0xC400_0001, 0xC400_0003
PSCI_FEATURES, TRNG_VERSION, SMCCC_VERSION = 0x8400_000A, 0x8400_0050, 0x8000_0000
VENDOR_CALL, UNKNOWN = 0xC600_0042, 0x8200_0001


class Machine:
    """A VM with a few vCPUs, each made to call by hand."""

    def __init__(self, profile="kvm-6.12", cpus=2, modes=None):
        self.kvm = Kvm(profile, modes)
        self.vm = self.kvm.create_vm()
        self.vcpus = [self.vm.create_vcpu(n) for n in range(cpus)]
        for vcpu in self.vcpus:
            vcpu.init()

    def call(self, fid, *args, vcpu=0, word=HVC):
        """Let a vCPU make a call and wait behind it; returns the exit."""
        self.vm.write(CODE, struct.pack("<2I", word, WFI))
        target = self.vcpus[vcpu]
        target._vcpu.waiting = False
        target.set_one_reg(CORE_ID["PC"], CODE)
        for n, value in enumerate((fid, *args)):
            target.set_one_reg(CORE_ID[f"X{n}"], value)
        return target.run()

    def x0(self, fid, *args, **options):
        """The same, returning x0 as a signed number."""
        assert isinstance(self.call(fid, *args, **options), exits.Wfi)
        value = self.vcpus[options.get("vcpu", 0)].get_one_reg(CORE_ID["X0"])
        return value - (1 << 64) if value >> 63 else value

    def refuses(self, number, function, *args):
        with pytest.raises(KvmError) as refused:
            function(*args)
        assert refused.value.errno == number


# -- the scenarios ------------------------------------------------------------------------------


def test_scenario_1_migration_old_to_new():
    """A VMM that knows only R1 restores on a kernel that has R1 and R2 (seed 002)."""
    gained = Machine("kvm-6.12", modes={"fwreg.first_write": "independent"})
    gained.vcpus[0].set_one_reg(STD, 1)
    assert gained.vcpus[0].get_one_reg(VENDOR) == 3  # the guest gains services
    wiped = Machine("kvm-6.12", modes={"fwreg.first_write": "invalidate-others"})
    wiped.vcpus[0].set_one_reg(STD, 1)
    assert wiped.vcpus[0].get_one_reg(VENDOR) == 0
    # A register added later that begins at zero leaves the guest alone.
    later = Machine("kvm-6.17")
    later.vcpus[0].set_one_reg(STD, 1)
    assert later.vcpus[0].get_one_reg(VENDOR_2) == 0


def test_scenario_2_a_later_valid_write_sticks():
    """In `invalidate-others`, R2 after R1 sticks; whether R2 then R1 wipes R2 is a sub-option."""
    first = Machine(modes={"fwreg.first_write": "invalidate-others"}).vcpus[0]
    first.set_one_reg(STD, 1)
    first.set_one_reg(VENDOR, 3)
    assert (first.get_one_reg(STD), first.get_one_reg(VENDOR)) == (1, 3)
    always = Machine(modes={"fwreg.first_write": "invalidate-others-always"}).vcpus[0]
    always.set_one_reg(VENDOR, 3)
    always.set_one_reg(STD, 1)
    assert (always.get_one_reg(STD), always.get_one_reg(VENDOR)) == (1, 0)


@pytest.mark.parametrize(
    ("mode", "same", "other"),
    [
        ("ebusy-on-change", None, errno.EBUSY),  # v7, merged
        ("ebusy-always", errno.EBUSY, errno.EBUSY),  # v6
        ("ignore", None, None),
    ],
)
def test_scenario_3_all_vcpus_restored_after_the_first_ran(mode, same, other):
    """N identical writes, the second one after vCPU 0 ran."""
    machine = Machine(modes={"fwreg.after_run": mode})
    machine.vcpus[0].set_one_reg(STD, 1)
    machine.call(PSCI_VERSION)
    for value, refusal in ((1, same), (0, other)):
        if refusal:
            machine.refuses(refusal, machine.vcpus[1].set_one_reg, STD, value)
        else:
            machine.vcpus[1].set_one_reg(STD, value)
    # A bit that does not exist is EINVAL before anything else.
    machine.refuses(errno.EINVAL, machine.vcpus[1].set_one_reg, STD, 2)


def test_scenario_4_asymmetric_registers():
    """SET on vCPU 0 only; the guest on vCPU 1 issues TRNG (seed 000's fear)."""
    for scope, vcpu_1 in (("vm", -1), ("vcpu-asymmetric", 0x1_0000)):
        machine = Machine(modes={"fwreg.scope": scope})
        machine.vcpus[0].set_one_reg(STD, 0)
        assert machine.x0(TRNG_VERSION, vcpu=0) == -1
        assert machine.x0(TRNG_VERSION, vcpu=1) == vcpu_1


def test_scenario_5_psci_to_user_needs_hvc_to_user():
    machine = Machine(modes={"exit.layout": "rfc2021"})
    machine.refuses(errno.EINVAL, machine.vm.enable_cap, CAP_ARM_PSCI_TO_USER)
    machine.vm.enable_cap(CAP_ARM_HVC_TO_USER)
    machine.vm.enable_cap(CAP_ARM_PSCI_TO_USER)
    free = Machine(modes={"exit.layout": "rfc2021", "psci.to_user.requires_hvc": False})
    free.vm.enable_cap(CAP_ARM_PSCI_TO_USER)


def test_scenario_6_the_kernel_starts_implementing_a_forwarded_function():
    """Elisei's question: an old kernel forwards what a new one answers itself."""
    catch_all = {"unknown.hvc": "exit", "exit.boundary": "kvm-list"}
    assert isinstance(Machine("kvm-4.15", modes=catch_all).call(TRNG_VERSION), exits.Hypercall)
    assert Machine("kvm-6.12", modes=catch_all).x0(TRNG_VERSION) == 0x1_0000  # changed
    named = Machine("kvm-6.12")
    named.vm.set_device_attr(
        VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(TRNG_VERSION, 1, FWD_TO_USER)
    )
    assert isinstance(named.call(TRNG_VERSION), exits.Hypercall)  # the VMM keeps it


def test_scenario_7_a_realms_registers():
    """GET_ONE_REG(x0) fails, except at a host call (seed 003)."""
    realm = Machine(modes={"regs.visibility": "hostcall-only"})
    realm.vm.set_device_attr(
        VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(VENDOR_CALL, 1, FWD_TO_USER)
    )
    realm.call(PSCI_VERSION)
    realm.refuses(errno.EPERM, realm.vcpus[0].get_one_reg, CORE_ID["X0"])
    assert isinstance(realm.call(VENDOR_CALL, 7), exits.Hypercall)
    assert realm.vcpus[0].get_one_reg(CORE_ID["X1"]) == 7


def test_scenario_8_bare_probing_with_nobody_there(tmp_path):
    """An HVC where no hypervisor is: UNDEFINED at EL1 (Mark's objection, seed 004)."""
    path = tmp_path / "probe.bin"
    path.write_bytes(struct.pack("<2I", HVC, WFI))
    vm = Vm(path, load=0x4008_0000, profile="none")
    fault = vm.run(100_000)
    assert isinstance(fault, exits.Fault)  # no vectors: the CPU is lost
    assert fault.origin == (0x4008_0000, 0x0200_0000)


# -- the rows -----------------------------------------------------------------------------------


def test_fwreg_scope_bit_is_in_the_list_and_accepted():
    vcpu = Machine(modes={"fwreg.scope": "vm+scope-bit"}).vcpus[0]
    assert STD | SCOPE_VM in vcpu.get_reg_list()
    vcpu.set_one_reg(STD | SCOPE_VM, 0)
    assert vcpu.get_one_reg(STD) == 0
    assert STD in Machine().vcpus[0].get_reg_list()
    assert Kvm(modes={"fwreg.scope": "vm+scope-bit"}).check_extension(CAP_ARM_REG_SCOPE) == 1


def test_fwreg_first_write_raz_wi_reserved():
    reserved = make(Group.FW_FEAT_BMAP, 9)
    vcpu = Machine(modes={"fwreg.first_write": "raz-wi-reserved"}).vcpus[0]
    vcpu.set_one_reg(reserved, 0xFFFF)
    assert vcpu.get_one_reg(reserved) == 0
    merged = Machine()
    merged.refuses(errno.ENOENT, merged.vcpus[0].get_one_reg, reserved)
    merged.refuses(errno.ENOENT, merged.vcpus[0].set_one_reg, reserved, 0)


@pytest.mark.parametrize(
    ("mode", "values"), [("all-on", [1, 1, 3, 3]), ("all-off", [0] * 4), ("profile", [1, 1, 3, 0])]
)
def test_fwreg_default(mode, values):
    vcpu = Machine("kvm-6.17", modes={"fwreg.default": mode}).vcpus[0]
    assert [vcpu.get_one_reg(reg) for reg in (STD, STD_HYP, VENDOR, VENDOR_2)] == values


@pytest.mark.parametrize("width", MODES["fwreg.width"])
def test_fwreg_width(width):
    machine = Machine(modes={"fwreg.width": width})
    log2_size = (int(width) // 8).bit_length() - 1
    wide = make(Group.FW_FEAT_BMAP, 0, log2_size)
    assert wide in machine.vcpus[0].get_reg_list()
    machine.vcpus[0].set_one_reg(wide, 0)
    assert machine.x0(TRNG_VERSION) == -1
    machine.refuses(errno.EINVAL, machine.vcpus[0].set_one_reg, wide, 1 << int(width) - 1)
    other = make(Group.FW_FEAT_BMAP, 0, 3 if width != "64" else 2)
    machine.refuses(errno.ENOENT, machine.vcpus[0].get_one_reg, other)


def test_fwreg_cap_enable_required():
    machine = Machine(modes={"fwreg.cap": "enable-required"})
    assert STD not in machine.vcpus[0].get_reg_list()
    machine.refuses(errno.ENOENT, machine.vcpus[0].get_one_reg, STD)
    machine.vm.enable_cap(CAP_ARM_HVC_FW_REG_BMAP)
    assert machine.vcpus[0].get_one_reg(STD) == 1


def test_fwreg_cap_count():
    assert Kvm("kvm-6.12", {"fwreg.cap": "count"}).check_extension(CAP_ARM_HVC_FW_REG_BMAP) == 3
    assert Kvm("kvm-6.17", {"fwreg.cap": "count"}).check_extension(CAP_ARM_HVC_FW_REG_BMAP) == 4
    merged = Machine()
    merged.refuses(errno.EINVAL, merged.vm.enable_cap, CAP_ARM_HVC_FW_REG_BMAP)


@pytest.mark.parametrize(("mode", "x0"), [("-1", -1), ("enosys", -errno.ENOSYS)])
def test_unknown_hvc_answers(mode, x0):
    assert Machine(modes={"unknown.hvc": mode}).x0(UNKNOWN) == x0


def test_unknown_hvc_undef():
    machine = Machine(modes={"unknown.hvc": "undef"})
    assert machine.vm.vm.el2.hypercall(UNKNOWN) is UNDEF
    assert machine.vm.vm.el2.hypercall(PSCI_VERSION).x0 == 0x1_0001


@pytest.mark.parametrize(
    ("boundary", "leaving"),
    [("kvm-list", (UNKNOWN, 0x8600_9999, 0x8500_9999)), ("owner-range", (UNKNOWN,))],
)
def test_unknown_hvc_exit_by_boundary(boundary, leaving):
    machine = Machine(modes={"unknown.hvc": "exit", "exit.boundary": boundary})
    for fid in (UNKNOWN, 0x8600_9999, 0x8500_9999):
        assert isinstance(machine.call(fid), exits.Hypercall) is (fid in leaving)
    assert machine.x0(0x8400_0005) == -1  # PSCI's range never leaves this way


def test_exit_boundary_explicit_ranges():
    machine = Machine()
    machine.vm.set_device_attr(VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(UNKNOWN, 2, FWD_TO_USER))
    assert isinstance(machine.call(UNKNOWN + 1), exits.Hypercall)
    assert machine.x0(UNKNOWN + 2) == -1


KVM_ENOSYS = 1000
"""linux v6.1 include/uapi/linux/kvm_para.h."""


@pytest.mark.parametrize(
    ("mode", "imm_0", "imm_1"),
    [
        ("ignore", 0x1_0001, 0x1_0001), ("switch-on-imm", 0x1_0001, -KVM_ENOSYS),
        ("profile", 0x1_0001, 0x1_0001),
    ],
)  # fmt: skip
def test_hvc_imm(mode, imm_0, imm_1):
    machine = Machine(modes={"hvc.imm": mode})
    assert machine.x0(PSCI_VERSION) == imm_0
    assert machine.x0(PSCI_VERSION, word=HVC | 1 << 5) == imm_1


def test_hvc_imm_undef():
    el2 = Machine(modes={"hvc.imm": "undef"}).vm.vm.el2
    assert el2.hypercall(PSCI_VERSION, imm=1) is UNDEF
    assert el2.hypercall(PSCI_VERSION, imm=0).x0 == 0x1_0001


def test_psci_owner_kernel():
    assert Machine(modes={"psci.owner": "kernel"}).x0(PSCI_VERSION) == 0x1_0001


def test_psci_owner_user():
    machine = Machine(modes={"psci.owner": "user"})
    assert isinstance(machine.call(PSCI_FEATURES, SMCCC_VERSION), exits.Hypercall)
    assert machine.x0(SMCCC_VERSION) == 0x1_0001


def test_psci_owner_user_except_smccc_feature():
    machine = Machine(modes={"psci.owner": "user-except-smccc-feature"})
    assert machine.x0(PSCI_FEATURES, SMCCC_VERSION) == 0
    assert isinstance(machine.call(PSCI_FEATURES, CPU_SUSPEND), exits.Hypercall)
    machine.vcpus[0].answer(-3)
    machine.vcpus[0].run()
    assert machine.vcpus[0].get_one_reg(CORE_ID["X0"]) == (1 << 64) - 3


def test_psci_owner_rmm():
    """A Realm's PSCI is always served by the RMM; a VMM's filter cannot take it away."""
    for owner, taken in (("rmm", False), ("kernel", True)):
        machine = Machine(modes={"psci.owner": owner})
        machine.vm.set_device_attr(
            VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(PSCI_VERSION, 1, FWD_TO_USER)
        )
        assert isinstance(machine.call(PSCI_VERSION), exits.Hypercall) is taken


def test_suspend_wfi():
    machine = Machine()
    assert isinstance(machine.call(CPU_SUSPEND), exits.Wfi)
    assert machine.vcpus[0].get_one_reg(CORE_ID["PC"]) == CODE + 4  # asleep inside the call


def test_suspend_in_place():
    machine = Machine(modes={"suspend": "inplace-return"})
    machine.call(CPU_SUSPEND)
    assert machine.vcpus[0].get_one_reg(CORE_ID["PC"]) == CODE + 8  # went on to its own WFI


def test_suspend_halted_by_the_vmm():
    """The VMM answers by setting HALTED: the next run blocks once, then the vCPU goes on."""
    machine = Machine(modes={"suspend": "halted-by-vmm"})
    machine.refuses(errno.EINVAL, machine.vcpus[0].set_mp_state, MpState.HALTED)
    machine.vm.enable_cap(CAP_ARM_MP_HALTED)
    assert isinstance(machine.call(CPU_SUSPEND), exits.Hypercall)
    vcpu = machine.vcpus[0]
    vcpu.answer(0)
    vcpu.set_mp_state(MpState.HALTED)
    assert vcpu.get_mp_state() is MpState.HALTED
    assert isinstance(vcpu.run(), exits.Wfi)
    assert vcpu.get_one_reg(CORE_ID["PC"]) == CODE + 4
    assert vcpu.get_mp_state() is MpState.RUNNABLE


def test_cpu_on_policy():
    """Hot-add: CPU_ON is denied until the VMM admits the vCPU (seed 001)."""
    for mode, before, after in (("allow", 0, -4), ("deny", -3, -3), ("late", -3, 0)):
        machine = Machine(modes={"cpu_on.policy": mode})
        machine.vcpus[1].set_mp_state(MpState.STOPPED)
        assert machine.x0(CPU_ON, 1, CODE, 0) == before
        machine.vm.admit(1)
        assert machine.x0(CPU_ON, 1, CODE, 0) == after


def test_exit_layout_v6_4():
    machine = Machine()
    machine.vm.set_device_attr(
        VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(VENDOR_CALL, 1, FWD_TO_USER)
    )
    machine.call(VENDOR_CALL, 1, 2, word=SMC)
    exit = machine.vcpus[0].hypercall_exit()
    assert (exit.nr, exit.flags, exit.args) == (VENDOR_CALL, 1, (0,) * 6)  # not copied
    assert machine.vcpus[0].get_one_reg(CORE_ID["PC"]) == CODE + 4
    machine.vcpus[0].answer(Ret.success(9))
    machine.vcpus[0].run()
    assert machine.vcpus[0].get_one_reg(CORE_ID["X1"]) == 9


def test_exit_layout_rfc2021():
    machine = Machine(modes={"exit.layout": "rfc2021"})
    machine.vm.enable_cap(CAP_ARM_HVC_TO_USER)
    machine.vm.vm.el2.set_modes({"exit.boundary": "kvm-list"})
    machine.call(UNKNOWN, 1, 2, 3, 4, 5, word=HVC | 0x33 << 5)
    exit = machine.vcpus[0].hypercall_exit()
    assert (exit.nr, exit.args, exit.ret) == (0x33, (UNKNOWN, 1, 2, 3, 4, 5), 0)
    machine.vcpus[0].answer(77)
    machine.vcpus[0].run()
    values = [machine.vcpus[0].get_one_reg(CORE_ID[f"X{n}"]) for n in range(4)]
    assert values == [77, 1, 2, 3]  # ret goes to x0 alone


@pytest.mark.parametrize("mode", ["full", "fail", "zero"])
def test_regs_visibility(mode):
    machine = Machine(modes={"regs.visibility": mode})
    machine.call(PSCI_VERSION)
    if mode == "fail":
        machine.refuses(errno.EPERM, machine.vcpus[0].get_one_reg, CORE_ID["X0"])
    else:
        shown = machine.vcpus[0].get_one_reg(CORE_ID["X0"])
        assert shown == (0x1_0001 if mode == "full" else 0)
    assert machine.vcpus[0].get_one_reg(STD) == 1  # firmware registers are the host's own


@pytest.mark.parametrize("mode", ["present", "absent"])
def test_discovery_static(mode, tmp_path):
    path = tmp_path / "guest.bin"
    path.write_bytes(struct.pack("<I", WFI))
    vm = Vm(path, load=0x4008_0000, modes={"discovery.static": mode})
    tree = vm.engine.read(vm.engine.get("X0"), 4096)
    assert (b"psci" in tree) is (mode == "present")


@pytest.mark.parametrize(
    ("mode", "x0"), [("handle", 0x1_0001), ("-1", -1), ("profile", 0x1_0001)]
)
def test_smc(mode, x0):
    assert Machine(modes={"smc": mode}).x0(PSCI_VERSION, word=SMC) == x0


def test_smc_undef():
    el2 = Machine(modes={"smc": "undef"}).vm.vm.el2
    assert el2.hypercall(PSCI_VERSION, conduit="smc") is UNDEF


def test_asyncpf():
    """A page event reaches the guest as an abort, with the reason in the page it named."""
    machine = Machine(modes={"asyncpf": "present"})
    machine.refuses(errno.ENXIO, machine.vm.page_event, 0, NOT_PRESENT)
    assert machine.x0(PAGE_NOTIFY, (CODE >> 12) + 1) == 0
    vcpu = machine.vcpus[0]
    vcpu.set_one_reg(system_id(VCPU_REGISTERS["VBAR_EL1"]), CODE + 0x8000)
    machine.vm.page_event(0, NOT_PRESENT)
    assert machine.vm.read(CODE + 0x1000, 4) == b"\1\0\0\0"
    assert vcpu.get_one_reg(CORE_ID["PC"]) == CODE + 0x8200
    assert vcpu.get_one_reg(system_id(VCPU_REGISTERS["FAR_EL1"])) == CODE + 0x1000
    machine.x0(PAGE_NOTIFY, 0)
    machine.refuses(errno.EFAULT, machine.vm.page_event, 0, READY)


def test_asyncpf_answers_only_where_it_is_described():
    assert Machine(modes={"asyncpf": "absent"}).x0(PAGE_NOTIFY, 1) == -1
    hidden = {"asyncpf": "present", "discovery.static": "absent"}
    assert Machine(modes=hidden).x0(PAGE_NOTIFY, 1) == -1


def test_every_mode_defaults_to_merged_kvm():
    assert all(DEFAULTS[key] == values[0] for key, values in MODES.items())
    assert Kvm("kvm-6.12").profile.modes == DEFAULTS


def test_every_row_and_scenario_is_named_in_a_test():
    """abi/D §D5: each mode appears in the text of this file, each scenario in a test's name."""
    with open(__file__, encoding="utf-8") as source:
        text = source.read()
    for key in MODES:
        assert f'"{key}"' in text, key
    for number in range(1, 9):
        assert f"def test_scenario_{number}_" in text

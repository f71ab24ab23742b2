"""Unicorn's library, called directly: our numbers against its package's."""

import ctypes
import gc
import weakref

import pytest
import unicorn
from unicorn import arm64_const, unicorn_const

from emu.arm import arch
from emu.base.errors import EngineError
from emu.engine import cpu


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (cpu.ARCH_ARM64, "UC_ARCH_ARM64"), (cpu.MODE_ARM, "UC_MODE_ARM"),
        (cpu.PROT_READ, "UC_PROT_READ"), (cpu.PROT_WRITE, "UC_PROT_WRITE"),
        (cpu.PROT_ALL, "UC_PROT_ALL"), (cpu.HOOK_INTR, "UC_HOOK_INTR"),
        (cpu.HOOK_INSN, "UC_HOOK_INSN"), (cpu.HOOK_BLOCK, "UC_HOOK_BLOCK"),
        (cpu.HOOK_MEM_UNMAPPED, "UC_HOOK_MEM_UNMAPPED"),
        (cpu.MEM_WRITE_UNMAPPED, "UC_MEM_WRITE_UNMAPPED"),
        (cpu.MEM_FETCH_UNMAPPED, "UC_MEM_FETCH_UNMAPPED"),
        (cpu.CTL_TB_FLUSH & 0xFFFF, "UC_CTL_TB_FLUSH"),
        (cpu.CTL_TLB_FLUSH & 0xFFFF, "UC_CTL_TLB_FLUSH"),
        (cpu.CTL_TCG_BUFFER_SIZE & 0xFFFF, "UC_CTL_TCG_BUFFER_SIZE"),
    ],
)  # fmt: skip
def test_constants_are_unicorns(ours, theirs):
    assert ours == getattr(unicorn_const, theirs)


def test_register_numbers_are_unicorns():
    for name, number in cpu._REGISTERS.items():
        assert number == getattr(arm64_const, f"UC_ARM64_REG_{name}")
    assert arm64_const.UC_ARM64_REG_CP_REG == cpu.REG_CP_REG
    assert arm64_const.UC_ARM64_INS_MRS == cpu.INS_MRS


def test_the_version_is_the_packages():
    assert unicorn.__version__.startswith(cpu.version())


def test_the_package_finds_a_library_in_an_unusual_place(monkeypatch):
    monkeypatch.setenv("LIBUNICORN_PATH", "")
    assert cpu._load().uc_version(None, None)


def test_without_unicorn_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install"):
        cpu._load()


@pytest.mark.parametrize("name", [*cpu._REGISTERS, "TTBR0_EL1", "TCR_EL1", "VMPIDR_EL2"])
def test_registers_are_read_back(name):
    one = cpu.Cpu()
    value = {"PSTATE": 0x3C5, "FPCR": 0x0700_0000, "FPSR": 0x1F}.get(name, 0x4000_1230)
    one.set(name, value)
    assert one.get(name) == value


def test_a_cpu_starts_as_el1_below_a_hypervisor():
    one = cpu.Cpu()
    assert one.get("PSTATE") == arch.PSTATE_EL1H_MASKED
    assert one.get("SCTLR_EL1") == arch.SCTLR_EL1_RESET
    assert one.get("HCR_EL2") == arch.HCR_EL2_RUN


@pytest.mark.parametrize(
    ("core", "part"),
    [("cortex-a53", 0xD03), ("cortex-a57", 0xD07), ("cortex-a72", 0xD08), ("max", 0x051)],
)
def test_a_core_has_the_part_number_of_its_reference_manual(core, part):
    """MIDR_EL1.PartNum; `max` is QEMU's own, variant and part both its choice (qemu v5.0)."""
    midr = arch.SysReg(3, 0, 0, 0, 0)
    one = cpu.Cpu(core)
    cell = cpu.CpReg(midr.crn, midr.crm, midr.op0, midr.op1, midr.op2, 0)
    one.lib.uc_reg_read(one.handle, cpu.REG_CP_REG, ctypes.byref(cell))
    assert cell.value >> 4 & 0xFFF == part


def test_an_unknown_core_is_refused():
    with pytest.raises(EngineError, match=r"no core 'cortex-m0'; there is flat, cortex-a53, "):
        cpu.Cpu("cortex-m0")


def test_an_impossible_error_is_refused_in_unicorns_words():
    with pytest.raises(EngineError, match=r"Invalid argument|memory"):
        cpu.Cpu().map_memory(1, 1, 0)


def test_a_cpu_is_freed_with_its_last_reference():
    gc.disable()
    try:
        one = cpu.Cpu()
        one.hook(cpu.HOOK_INTR, cpu.INTR_CALLBACK(lambda *_: None))
        one.map_device(0x900_0000, 0x1000, lambda *_: 0, lambda *_: None)
        gone = weakref.ref(one)
        del one
        assert gone() is None
    finally:
        gc.enable()

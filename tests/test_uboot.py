"""U-Boot, from the flash, to its prompt and off again.

Debian's build, unmodified, breaks no rule of discovery. The build with the commands `hvc` and
`smc` (tools/build_uboot.py) makes any call from its prompt: what it prints is compared with the
answer of a model of EL2 that has no guest at all.
"""

from __future__ import annotations

from pathlib import Path

import build_uboot
import pytest

from emu.base.console import Console, Typed
from emu.base.endings import Ending, ending_of
from emu.base.smccc import Ret
from emu.cli.main import main
from emu.engine.engine import native_available
from emu.judge.trial import CallLog, Judge, call_lines, run_within
from emu.machine.vm import MIB, Vm
from emu.world.monitor import El2

UBOOT = Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
TALKATIVE = build_uboot.cached(build_uboot.default_cache())

needs_debians = pytest.mark.skipif(
    not UBOOT.is_file(), reason="needs Debian's U-Boot: apt-get install u-boot-qemu"
)
needs_ours = pytest.mark.skipif(
    TALKATIVE is None, reason="needs U-Boot with hvc and smc: python tools/build_uboot.py"
)
pytestmark = pytest.mark.skipif(
    not native_available(), reason="the native half was not built: it needs a C compiler"
)


@needs_debians
@pytest.mark.parametrize("command", ["poweroff", "reset"])
@pytest.mark.parametrize("profile", ["kvm-4.15", "kvm-6.12", "kvm-7.2", "qemu-tcg"])
def test_no_false_alarm(profile, command):
    console = Console(Typed(f"\r\r{command}\r".encode()))
    vm = Vm(UBOOT, load=0, memory=128 * MIB, profile=profile, console=console)
    log, judge = CallLog(), Judge(vm, follow=True)
    vm.instruments += (log, *judge.instruments)
    exit, _ = run_within(vm, 60, 1_000_000_000)
    ending, _ = ending_of(exit)
    assert ending is (Ending.OFF if command == "poweroff" else Ending.RESET)
    assert f"=> {command}" in str(console)
    names = [line.call.partition("(")[0] for line in call_lines(log.records, vm.el2)]
    assert names[-1] == ("SYSTEM_OFF" if command == "poweroff" else "SYSTEM_RESET")
    assert judge.verdicts(ending) == ()


# -- calls from the prompt -----------------------------------------------------------------------

CALLS = [
    (0x8400_0000,),  # PSCI_VERSION
    (0x8400_000A, 0x8000_0000),  # PSCI_FEATURES(SMCCC_VERSION)
    (0x8000_0000,),  # SMCCC_VERSION
    (0x8000_0001, 0x8000_8000),  # ARCH_FEATURES(WORKAROUND_1)
    (0x8400_0050,),  # TRNG_VERSION
    (0x8400_0051, 0x8400_0053),  # TRNG_FEATURES(TRNG_RND32)
    (0x8600_FF01,),  # VENDOR_HYP_CALL_UID
    (0xC600_FFFF,),  # nobody's
]


def typed(*commands: str) -> list[str]:
    """Options that stop the countdown and type each command at a prompt of its own."""
    steps = ["autoboot=>\\n", *(f"=> =>{command}\\n" for command in commands)]
    return [word for step in steps for word in ("--type", step)]


def at_the_prompt(profile: str, *commands: str) -> list[str]:
    """`hvcemu run` on our build; the last command ends it."""
    return ["run", str(TALKATIVE), "--load", "0", "--mem", "128M", "--profile", profile,
            "--quiet", "--max-cycles", "1000000000", *typed(*commands)]  # fmt: skip


def printed(answer: object) -> str:
    """x0 to x3 as cmd/smccc.c prints them: signed, of 64 bits."""
    assert isinstance(answer, Ret)
    assert len(answer) >= 4
    return "Res:  " + " ".join(str((x ^ 1 << 63) - (1 << 63)) for x in answer[:4])


@needs_ours
@pytest.mark.parametrize("conduit", ["hvc", "smc"])
@pytest.mark.parametrize("profile", ["kvm-6.12", "kvm-6.17", "kvm-7.2"])
def test_calls_from_the_prompt(profile, conduit, capsys):
    commands = [" ".join([conduit, *(f"{x:x}" for x in call)]) for call in CALLS]
    assert main(at_the_prompt(profile, *commands, "poweroff")) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Res:")]
    el2 = El2(profile)
    assert found == [printed(el2.hypercall(*call, conduit=conduit)) for call in CALLS]


@needs_ours
def test_the_version_differs_between_profiles(capsys):
    said = {}
    for profile in ("kvm-6.12", "kvm-6.17"):
        main(at_the_prompt(profile, "hvc 84000000", "poweroff"))
        said[profile] = "Res:  65537 0 0 0" in capsys.readouterr().out  # 1.1
    assert said == {"kvm-6.12": True, "kvm-6.17": False}


@needs_ours
@pytest.mark.parametrize(("profile", "command", "part"), [
    ("kvm-4.15", "smc 84000000", "handler"),  # UNDEFINED there: U-Boot prints it and resets
    ("kvm-6.12", "reset", "resetting"),
])  # fmt: skip
def test_it_resets(profile, command, part, capsys):
    main(at_the_prompt(profile, command))
    out = capsys.readouterr().out
    assert part in out
    assert "resetting" in out


@needs_ours
def test_it_finds_its_flash(capsys):
    main(at_the_prompt("kvm-6.12", "flinfo", "poweroff"))
    out = capsys.readouterr().out
    assert "CFI conformant" in out
    assert "Erase" in out

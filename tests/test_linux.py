"""Unmodified Debian kernels are content with our hypercalls, boot to a shell and power off.

Calls are those of abi/G §G1 for a 6.1 kernel: identifier and, where it is an argument, x1. Early
discovery is over at about 0.1 s of the machine's time, 0.4 s of the host's; the shell is there at
0.85 s. Kernels are fetched by tools/fetch_linux.py; what is not cached is skipped.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from emu.base import exits
from emu.base.console import Console, Dialogue
from emu.base.smccc import Ret
from emu.cli.main import main
from emu.engine.engine import native_available
from emu.judge.faults import Mutation, choose, mutations
from emu.judge.mutate import Class, prepare, run_mutant
from emu.judge.trial import Setup, attempt
from emu.machine.instrument import Instrument
from emu.machine.vm import MIB, Vm

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvcemu" / "linux"
IMAGES = sorted(CACHE.glob("linux-image-*/boot/vmlinu[xz]-*"))
INITRD = CACHE / "initramfs.cpio"

pytestmark = [
    pytest.mark.skipif(not IMAGES, reason="needs Debian's kernel: python tools/fetch_linux.py"),
    pytest.mark.skipif(
        not native_available(), reason="the native half was not built: it needs a C compiler"
    ),
]

LIMIT = 110_000_000
"""Cycles: behind early discovery (PF_NETLINK) of a machine with one CPU."""
# abi/G §G1, steps in order; None: x1 is no argument.
PSCI_VERSION, MIGRATE_INFO_TYPE = (0x8400_0000, None), (0x8400_0006, None)
FEATURES, SMCCC_VERSION = 0x8400_000A, 0x8000_0000
ARCH_FEATURES, TRNG_VERSION, RND64 = 0x8000_0001, 0x8400_0050, 0xC400_0053
# x0 of HVC #0xEA1: linux include/xen/interface/version.h and hvm/hvm_op.h.
XENVER_GET_FEATURES, HVMOP_GET_PARAM = 6, 1
PV_TIME_FEATURES, PV_TIME_ST = 0xC500_0020, 0xC500_0021
POWER = [(FEATURES, 0xC400_0001), (FEATURES, 0xC400_000E), (FEATURES, 0xC400_0012)]
PROBE = [PSCI_VERSION, MIGRATE_INFO_TYPE, (FEATURES, SMCCC_VERSION)]
WORKAROUND_1, WORKAROUND_2 = (ARCH_FEATURES, 0x8000_8000), (ARCH_FEATURES, 0x8000_7FFF)
MITIGATIONS = [WORKAROUND_1, WORKAROUND_2]
# linux v6.1 proton-pack.c: asked again where a CPU turns the mitigation on, Spectre-v2 only where
# it is affected.
CALLS = {
    "kvm-6.12": [
        *PROBE,
        (SMCCC_VERSION, None),
        (TRNG_VERSION, None),
        *POWER,
        (0x8600_FF01, None),
        (0x8600_0000, None),
        *MITIGATIONS,
        (ARCH_FEATURES, PV_TIME_FEATURES),
        (PV_TIME_FEATURES, PV_TIME_ST),
        (PV_TIME_ST, None),
        WORKAROUND_2,
    ],
    "kvm-4.15": [PSCI_VERSION, MIGRATE_INFO_TYPE],
    "xen": [
        (XENVER_GET_FEATURES, None),
        *PROBE,
        (SMCCC_VERSION, None),
        (TRNG_VERSION, None),
        (ARCH_FEATURES, 0x8000_0002),
        *POWER,
        (0x8600_FF01, None),
        *MITIGATIONS,
        (ARCH_FEATURES, PV_TIME_FEATURES),
        (HVMOP_GET_PARAM, None),
        *MITIGATIONS,
        (HVMOP_GET_PARAM, None),
    ],
    "qemu-tcg": [*PROBE, *POWER],
    "none": [],
}
CONSOLE = {
    "kvm-6.12": [
        "psci: PSCIv1.1 detected in firmware.",
        "psci: SMC Calling Convention v1.1",
        "smccc: KVM: hypervisor services detected",
        "arm-pv: using stolen time PV",
    ],
    "kvm-4.15": ["psci: PSCIv0.2 detected in firmware."],
    "xen": [
        "Xen 4.22 support found",
        "psci: PSCIv1.1 detected in firmware.",
        "psci: SMC Calling Convention v1.2",
    ],
    "qemu-tcg": ["psci: PSCIv1.1 detected in firmware.", "psci: SMC Calling Convention v1.0"],
    "none": [],
}
NEVER_SAID = {
    "kvm-6.12": ["SMC Calling Convention v1.0"],
    "kvm-4.15": ["SMC Calling Convention", "smccc:"],
    "xen": ["hypervisor services detected"],
    "qemu-tcg": ["smccc:"],
    "none": ["PSCIv", "SMC Calling Convention", "smccc:"],
}


class Calls(Instrument):
    def __init__(self) -> None:
        self.made: list[tuple[int, ...]] = []

    def on_call(self, record) -> None:
        answer = record.answer if isinstance(record.answer, Ret) else (str(record.answer),)
        self.made.append((record.cycles, record.pc, *record.call.x, *answer))


def boot(profile: str, image: Path | None = None, **options):
    watch = Calls()
    settings = {
        "profile": profile, "memory": 256 * MIB, "append": "earlycon=pl011,0x9000000",
        "native": True, **options,
    }  # fmt: skip
    vm = Vm(image or IMAGES[-1], instruments=[watch], **settings)
    exit = vm.run(None if "initrd" in options else LIMIT)
    return vm, exit, watch.made


@pytest.mark.parametrize("profile", CALLS)
def test_linux(profile):
    vm, exit, made = boot(profile)
    console = str(vm.console)
    assert isinstance(exit, exits.Deadline), console[-2000:]
    assert "Linux version" in console
    assert "Registered PF_NETLINK" in console
    assert [text for text in CONSOLE[profile] if text not in console] == []
    assert [text for text in NEVER_SAID[profile] if text in console] == []
    # Between them is entropy, as much as the kernel cares to draw.
    calls = [(call[2], call[3]) for call in made if call[2] != RND64]
    expected = CALLS[profile]
    assert [fid for fid, _ in calls] == [fid for fid, _ in expected]
    assert [(n, x1) for n, ((_, x1), (_, want)) in enumerate(zip(calls, expected, strict=True))
            if want is not None and x1 != want] == []
    assert (len(made) > len(calls)) == (profile == "kvm-6.12")


def seen(run) -> tuple:
    """What must be the same again: calls, counts, console and end."""
    vm, exit, made = run
    return made, vm.stats(), str(vm.console), exit


def test_the_python_half_boots_it_the_same():
    """Two CPUs, to the end of early discovery: 100 million instructions."""
    slow, fast = (boot("kvm-6.12", cpus=2, native=native) for native in (False, True))
    assert "smp: Brought up 1 node, 2 CPUs" in str(fast[0].console)
    assert "Registered PF_NETLINK" in str(fast[0].console)
    assert seen(slow) == seen(fast)


READ_AS_64 = "SMCCC_ARCH_FEATURES is an SMC32 call, and x0 is tested with 64 bits"
"""A finding, and no false alarm: linux v6.1 arch/arm64/kernel/paravirt.c:has_pv_steal_clock,
`if (res.a0 != SMCCC_RET_SUCCESS)`, where a0 is an unsigned long; the kernel's code is
`cbnz x0`. It does no harm with a zero- or a sign-extended result, since only 0 is looked for."""


@pytest.mark.parametrize("profile", ["kvm-4.15", "kvm-6.1", "kvm-6.12", "kvm-7.2", "qemu-tcg"])
def test_linux_breaks_no_rule_but_one(profile):
    """Its answers are followed, too; it reads /psci method with the MMU on.

    A run that is followed is the plain run, to the cycle and the byte.
    """
    outcome = attempt(setup(profile, follow=True))
    found = [(verdict.rule, verdict.text) for verdict in outcome.verdicts]
    has_smccc = profile not in ("kvm-4.15", "qemu-tcg")
    assert found == ([("result-read-as-64", READ_AS_64)] if has_smccc else [])
    assert outcome.total_calls > 1
    plain = attempt(setup(profile))
    assert outcome._replace(seconds=0, verdicts=()) == plain._replace(seconds=0)


def test_mutants_of_linux():
    """From its first call to behind the probe; the score is Linux's own, the same every time."""
    probed = 30_000_000
    subject = prepare(setup("kvm-6.12")._replace(cycles=probed), limit=probed)
    assert "PSCIv1.1 detected" in subject.reference.console
    chosen = choose(mutations(subject.trace), 8, 1)
    results = [run_mutant(subject, mutation) for mutation in chosen]
    assert results == [run_mutant(subject, mutation) for mutation in chosen]
    trng = run_mutant(subject, Mutation("zero", 0x8400_0050))
    assert trng.verdict is Class.DEGRADED
    # smccc_probe: the version is kept unsigned, so that -1 is 1.1 and more (abi/G §G1).
    version = run_mutant(subject, Mutation("not-supported", SMCCC_VERSION))
    assert version.verdict is Class.WRONG
    assert version.why.startswith("error-used-as-version: ")


def setup(profile: str, **options) -> Setup:
    return Setup(str(IMAGES[-1]), profile, append="earlycon=pl011,0x9000000", memory=256 * MIB,
                 cycles=LIMIT, **options)  # fmt: skip


# -- to the shell, and off ------------------------------------------------------------------------

PROMPT = "~ # "
TYPED = ("echo hi; cat /proc/cpuinfo | grep -c processor", "poweroff -f")
needs_initrd = pytest.mark.skipif(
    not INITRD.exists(), reason="needs a root file system: python tools/fetch_linux.py --initrd"
)


def shell(cpus: int, image: Path | None = None):
    """Boot to the shell, type, and power off."""
    steps = [(PROMPT.encode(), line.encode() + b"\n") for line in TYPED]
    return boot(
        "kvm-6.12", image, cpus=cpus, memory=512 * MIB, append="console=ttyAMA0", initrd=INITRD,
        console=Console(Dialogue(steps)),
    )  # fmt: skip


def check_shell(run, cpus: int) -> None:
    vm, exit, made = run
    console = str(vm.console)
    assert isinstance(exit, exits.SystemEvent), console[-2000:]
    assert exit.kind is exits.EventKind.SHUTDOWN
    assert f"smp: Brought up 1 node, {cpus} CPU" in console
    assert f"\r\nhi\r\n{cpus}\r\n" in console.partition(PROMPT)[2]
    assert console.rstrip().endswith("reboot: Power down")
    assert [call[2] for call in made].count(PV_TIME_ST) == cpus
    assert [call[2] for call in made].count(0xC400_0003) == cpus - 1
    assert made[-1][2] == 0x8400_0008


@needs_initrd
@pytest.mark.parametrize("cpus", [1, 4])
def test_the_shell_does_what_is_typed_the_same_every_time(cpus):
    first, again = shell(cpus), shell(cpus)
    check_shell(first, cpus)
    assert seen(first) == seen(again)


@needs_initrd
def test_the_shell_on_the_command_line(capfdbinary):
    """Typed by --type; where the command looks up from the run changes nothing."""
    words = ["run", str(IMAGES[-1]), "--initrd", str(INITRD), "--mem", "512M", "--cpus", "4",
             "--append", "console=ttyAMA0", "--quiet"]  # fmt: skip
    for line in TYPED:
        words += ["--type", f"{PROMPT}=>{line}\\n"]
    assert main(words) == 0
    printed = capfdbinary.readouterr()
    assert printed.err == b""
    vm, _, _ = shell(4)
    assert printed.out.decode() == str(vm.console)


@functools.cache
def other_kernel(version: str, flavour: str) -> Path | None:
    """A kernel that `fetch_linux --kernel VERSION --flavour FLAVOUR` has put beside the newest."""
    cloud = flavour == "cloud"
    places = (CACHE, CACHE / "kernels", CACHE / "generic")
    found = [image for place in places for image in place.glob(f"linux-image-{version}.*/boot/vml*")
             if ("-cloud-" in image.name) == cloud and "-rt-" not in image.name]  # fmt: skip
    return max(found, default=None)


@needs_initrd
@pytest.mark.parametrize(
    ("version", "flavour"), [("6.12", "cloud"), ("6.1", "generic"), ("6.12", "generic")]
)
def test_other_kernels_boot_to_the_shell(version, flavour):
    image = other_kernel(version, flavour)
    if image is None:
        pytest.skip(f"python tools/fetch_linux.py --kernel {version} --flavour {flavour}")
    run = shell(2, image)
    check_shell(run, 2)
    assert f"Linux version {version}." in str(run[0].console)


# -- what a machine does besides ------------------------------------------------------------------


END = 20_000_000_000
"""A cycle that none of these reaches: twenty seconds of the machine's time."""


def dialogue(*lines: str, wait: str = PROMPT, **options):
    """A quiet machine whose user types these lines; it is not run yet."""
    steps = [(wait.encode(), line.encode() + b"\n") for line in lines]
    return Vm(
        IMAGES[-1], profile="kvm-6.12", initrd=INITRD, append="console=ttyAMA0", native=True,
        console=Console(Dialogue(steps)), **options,
    )  # fmt: skip


def is_off(exit: exits.Exit) -> bool:
    return isinstance(exit, exits.SystemEvent) and exit.kind is exits.EventKind.SHUTDOWN


@needs_initrd
@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({"gic": 2}, "\r\nGIC-0\r\n"),
        ({"kaslr": True, "seed": 7}, "KASLR enabled"),
        ({"core": "cortex-a53"}, "[0x410fd034]"),
        ({"core": "max"}, "detected: LSE atomic instructions"),
    ],
    ids=["gicv2", "kaslr", "a53", "max"],
)
def test_other_machines(options, printed):
    ask = "grep -m1 -o 'GIC[v-].' /proc/interrupts; grep -c processor /proc/cpuinfo"
    vm = dialogue(ask, "poweroff -f", cpus=2, **options)
    assert is_off(vm.run(END)), str(vm.console)[-2000:]
    assert "\r\n2\r\n" in str(vm.console).partition(PROMPT)[2]
    assert printed in str(vm.console)


@needs_initrd
def test_a_cpu_is_unplugged_and_plugged():
    online = "/sys/devices/system/cpu/cpu1/online"
    vm = dialogue(
        f"echo 0 > {online}; nproc; echo 1 > {online}; taskset 2 sh -c 'echo on $(nproc)'",
        "poweroff -f", cpus=2,
    )  # fmt: skip
    assert is_off(vm.run(END)), str(vm.console)[-2000:]
    assert "psci: CPU1 killed" in str(vm.console)
    assert "CPU1: Booted secondary processor" in str(vm.console).partition("CPU1 killed")[2]


@needs_initrd
def test_suspend_until_the_clocks_alarm():
    """`echo mem`: SYSTEM_SUSPEND with the other CPU off; the PL031 wakes the machine."""
    alarm = "/sys/class/rtc/rtc0/wakealarm"
    vm = dialogue(
        f"echo +5 > {alarm}; echo mem > /sys/power/state; date +%s", "poweroff -f", cpus=2
    )
    vm.el2.set_option("psci", system_suspend=True)
    exit = vm.run(END)
    assert isinstance(exit, exits.SystemEvent)
    assert exit.kind is exits.EventKind.SUSPEND
    assert vm.vmm.resume_later(exit)
    assert is_off(vm.run(END)), str(vm.console)[-2000:]
    assert vm.clock.cycles > 5_000_000_000
    assert "PM: suspend exit" in str(vm.console)


@needs_initrd
def test_reboot_is_another_boot():
    vm = dialogue("reboot -f", "poweroff -f")
    exit = vm.run(END)
    assert isinstance(exit, exits.SystemEvent)
    assert exit.kind is exits.EventKind.RESET
    vm.reset()
    assert is_off(vm.run(END)), str(vm.console)[-2000:]
    assert str(vm.console).count("Run /init as init process") == 2

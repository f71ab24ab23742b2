"""Each guest as a user runs it, against the expectation in its own header."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from places import ROOT

SOURCES = sorted(path for path in (ROOT / "guests").iterdir() if path.suffix in (".c", ".S"))


class Header(NamedTuple):
    """`// run:` and `// expect:` of a guest's source."""

    profile: str
    cpus: str
    status: int
    texts: list[str]


def header(source: Path) -> Header:
    text = source.read_text()
    run = re.search(r"^// run: (.*)$", text, re.MULTILINE)
    expect = re.search(r"^// expect: (.*)$", text, re.MULTILINE)
    assert run
    assert expect
    options = dict(re.findall(r"(\w+)=(\S+)", run[1]))
    status = re.search(r"\bexit=(\d+)", expect[1])
    assert status
    assert set(options) <= {"profile", "cpus"}
    return Header(
        options.get("profile", "kvm-6.12"),
        options.get("cpus", "1"),
        int(status[1]),
        re.findall(r'console~"(.*?)"', expect[1]),
    )


def run(guest: str, *options: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "emu", "run", f"guests/bin/{guest}.elf", *options]
    return subprocess.run(
        command, cwd=ROOT, input=typed, capture_output=True, check=False, timeout=60
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_guest_does_what_its_header_says(source):
    want = header(source)
    done = run(source.stem, "--profile", want.profile, "--cpus", want.cpus)
    console = done.stdout.decode()
    assert done.returncode == want.status, console + done.stderr.decode()
    assert [text for text in want.texts if text not in console] == []


def test_hello_and_nothing_else():
    done = run("hello", "--profile", "kvm-6.12")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello from EL1\n", b"")


def test_no_hypervisor_is_told_by_the_guest():
    done = run("smccc_discover", "--profile", "none")
    assert done.returncode == 3
    assert b"no /psci in the device tree" in done.stdout
    assert b"UNDEF: HVC is UNDEFINED at EL1 here: ESR 0x0000000002000000" in done.stdout


def test_xen_is_told_from_kvm():
    done = run("vendor_uid", "--profile", "xen")
    assert done.stdout == (
        b"the hypervisor is Xen, UUID a71812dc-c698-4369-9acf-79d18ddee667\n"
    )
    assert run("ptp", "--profile", "xen").returncode == run("ptp", "--profile", "none").returncode


def test_semihosting_echoes_what_is_typed():
    done = run("semihosting", typed=b"over and out\nmore\n")
    assert done.returncode == 42
    assert b"echo: over and out\n" in done.stdout


@pytest.mark.parametrize(
    ("profile", "texts"),
    [
        ("kvm-4.15", [b"smc #0: UNDEF", b"smc #1: UNDEF"]),
        ("kvm-5.17", [b"smc #0", b"smc #1"]),
        ("qemu-tcg", [b"smc #0: UNDEF", b"smc #1: UNDEF"]),
        ("xen", [b"smc #0: PSCI_VERSION = 0x10001, x1-x3 preserved", b"smc #1: UNDEF"]),
        ("none", [b"smc #0: UNDEF", b"smc #1: UNDEF"]),
    ],
)
def test_smc_by_profile(profile, texts):
    done = run("smc_conduit", "--profile", profile)
    assert done.returncode == 0
    assert [text for text in texts if text not in done.stdout] == []


def test_every_guest_is_built():
    built = {path.stem for path in (ROOT / "guests" / "bin").glob("*.elf")}
    assert built == {source.stem for source in SOURCES}

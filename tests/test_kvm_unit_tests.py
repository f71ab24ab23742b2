"""The runner of kvm-unit-tests: its list, its verdicts, and the quick flats where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import kvm_unit_tests
import pytest
from kvm_unit_tests import CANNOT, EXTRA, Result, Trial, judge, read_list, row

from emu.engine.engine import native_available

# In upstream's formats, the present one and the one before it; the texts are our own.
LIST = """\
# a comment
[smp]
file = selftest.flat
smp = $MAX_SMP
test_args = 'setup smp=2 mem=256'
qemu_params = -m 128
kvmtool_params = --mem 256

[v2]
file = gic.flat
smp = $((($MAX_SMP < 3)?$MAX_SMP:3))
test_args = mmio
qemu_params = -machine gic-version=2
arch = arm64

[old]
file = gic.flat
smp = $((($MAX_SMP < 8)?$MAX_SMP:8))
extra_params = -machine gic-version=3 -append 'its trigger'

[thirty-two-bits]
file = other.flat
arch = arm

[without-a-file]
smp = 2

[both]
file = timer.flat
arch = arm arm64
"""


def test_the_list():
    assert read_list(LIST) == [
        Trial("smp", "selftest.flat", 4, "setup smp=2 mem=256", memory=128),
        Trial("v2", "gic.flat", 3, "mmio", gic=2),
        Trial("old", "gic.flat", 4, "its trigger"),
        Trial("both", "timer.flat"),
    ]
    assert read_list("file = nowhere.flat\n") == []


def test_the_command_line():
    words = kvm_unit_tests.command(
        Trial("v2", "gic.flat", 3, "a b", 128, 2), Path("flats"), Path("env"), 7
    )
    line = " ".join(words)
    for part in ("flats/gic.flat", "--mem 128M", "--gic 2", "--cpus 3", "--append a b",
                 "--timeout 7", "--initrd env", "--load 0x40080000"):
        assert part in line


FINE = Trial("psci", "psci.flat")
PCI = Trial("pci-test", "pci-test.flat")


@pytest.mark.parametrize(("test", "console", "complaint", "expected"), [
    (FINE, "PASS: a\nEXIT: STATUS=1\n", "", ("PASS", "")),
    (FINE, "PASS: a\nFAIL: b: c\nFAIL: d\nEXIT: STATUS=3\n", "", ("FAIL", "b: c")),
    (FINE, "SKIP: old kernel\nEXIT: STATUS=77\n", "", ("SKIP", "old kernel")),
    (FINE, "assert failed\nEXIT: STATUS=127\n", "", ("FAIL", "EXIT: STATUS=127")),
    (FINE, "half a l", "hvcemu: time is up\n", ("FAIL", "hvcemu: time is up")),
    (FINE, "", "", ("FAIL", "it said nothing")),
    (PCI, "SKIP: no bus\nEXIT: STATUS=77\n", "", ("CANNOT", "this machine has no PCI")),
    (PCI, "EXIT: STATUS=1\n", "", ("PASS", "passes after all: take it out of CANNOT")),
])  # fmt: skip
def test_verdicts(test, console, complaint, expected):
    assert judge(test, console, complaint) == expected


def test_rows_are_aligned():
    fine, bad = Result("psci", "PASS", 1.25), Result("v2", "CANNOT", 100, "why")
    assert row(fine, 6, markdown=False) == "psci    PASS       1.2 s"
    assert row(bad, 6, markdown=False) == "v2      CANNOT   100.0 s  why"
    assert row(bad, 6, markdown=True) == "| v2 | CANNOT | 100.0 | why |"


@pytest.fixture
def flats(tmp_path):
    """A folder with one flat that is no image, below a list as upstream has it."""
    folder = tmp_path / "src" / "arm"
    folder.mkdir(parents=True)
    (folder / "unittests.cfg").write_text("[psci]\nfile = psci.flat\n")
    built = tmp_path / "build" / "arm"
    built.mkdir(parents=True)
    (built / "psci.flat").write_bytes(b"\0\0\0\0")
    return built


@pytest.mark.parametrize(("verdicts", "status"), [
    (["PASS", "CANNOT"], 0), (["PASS", "SKIP"], 1), (["FAIL"], 1),
])  # fmt: skip
def test_exit_status(flats, monkeypatch, capsys, verdicts, status):
    found = [Result(f"t{n}", verdict, 0.0) for n, verdict in enumerate(verdicts)]
    monkeypatch.setattr(kvm_unit_tests, "results", lambda *_: iter(found))
    assert kvm_unit_tests.main([str(flats), "--markdown"]) == status
    assert capsys.readouterr().out.count("\n") == 2 + len(verdicts)


def test_a_flat_that_faults_fails(flats, capsys):
    """A real run: udf, without vectors."""
    assert kvm_unit_tests.main([str(flats), "--limit", "30", "--jobs", "1"]) == 1
    assert capsys.readouterr().out.startswith("psci  FAIL")


def test_nothing_to_run(flats, tmp_path, capsys):
    config = str(tmp_path / "src" / "arm" / "unittests.cfg")
    for arguments, part in (
        ([str(flats), "--only", "gic"], "holds no flats"),
        ([str(tmp_path), "--config", config], "docs/guests.md"),
        ([str(flats), "--config", "missing.cfg"], "--config"),
    ):
        assert kvm_unit_tests.main(arguments) == 2
        assert part in capsys.readouterr().err


# -- the flats -----------------------------------------------------------------------------------

FLATS = Path(os.environ.get("KVM_UNIT_TESTS", "missing"))
SLOW = ("timer", "micro-bench", "cache", "gicv2-ipi", "gicv3-ipi", "gicv2-active",
        "gicv3-active", *(test.name for test in EXTRA))
"""Above a second."""


def quick() -> list[Trial]:
    """The tests of the list in that folder, the quick ones."""
    if not FLATS.is_dir():
        return []
    found = kvm_unit_tests.chosen(FLATS, None, "")
    return [test for test in found if test.name not in SLOW]


def test_there_are_flats():
    """Says what to do where there are none."""
    if "KVM_UNIT_TESTS" not in os.environ:
        pytest.skip("needs kvm-unit-tests: docs/guests.md says how to build them; then "
                    "KVM_UNIT_TESTS=FOLDER")
    assert quick()
    assert all(why for why in CANNOT.values())


@pytest.mark.skipif(
    not native_available(), reason="the native half was not built: it needs a C compiler"
)
@pytest.mark.parametrize("test", quick(), ids=lambda test: test.name)
def test_flat(test, tmp_path):
    environment = tmp_path / "environment"
    environment.write_text(kvm_unit_tests.ENVIRONMENT)
    result = kvm_unit_tests.run(test, FLATS, environment, 120)
    expected = "CANNOT" if kvm_unit_tests.reason_not(test) else "PASS"
    assert (result.verdict, result.reason) == (expected, kvm_unit_tests.reason_not(test))

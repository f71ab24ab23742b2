"""The pytest plugin, used from a directory that knows nothing of this one."""

from __future__ import annotations

import shutil

import pytest

from emu.cli import plugin
from emu.judge.trial import Setup
from places import GUESTS

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester):
    """An empty directory with a guest and one test file; runs it."""
    shutil.copy(GUESTS / "smccc_discover.elf", pytester.path / "image.elf")

    def run(source: str, *options: str):
        pytester.makepyfile(test_it="import re\nimport pytest\n" + source)
        return pytester.runpytest(*options)

    run.path = pytester.path
    return run


def test_one_test_in_every_world(project):
    done = project(
        """
@pytest.mark.guest("image.elf", profile=["kvm-6.1?", "qemu-tcg"], cpus=[1, 4])
def test_discovery(guest):
    guest.exits(0).ends("off").prints("PSCI_VERSION", re.compile("SMCCC|1.0"))
    guest.calls("PSCI_VERSION", "PSCI_FEATURES(SMCCC_VERSION)").breaks_no_rule()
    guest.does_not_print("nonsense").does_not_call("CPU_ON")
    assert guest.setup.cpus in (1, 4)
    assert str(guest.setup.cpus) + " cpu(s)" in guest.console
""",
        "-v",
    )
    done.assert_outcomes(passed=6)
    done.stdout.fnmatch_lines_random([
        "*test_discovery?kvm-6.12-cpus=1? PASSED*", "*test_discovery?kvm-6.17-cpus=4? PASSED*",
        "*test_discovery?qemu-tcg-cpus=4? PASSED*",
    ])  # fmt: skip


def test_bundled_guests_and_options(project):
    done = project(
        """
@pytest.mark.guest("smccc_discover", services="-trng", conduit="hvc", memory=32 << 20)
def test_without_entropy(guest):
    guest.exits(0).prints("TRNG_VERSION  ").does_not_call("TRNG_RND64").breaks_no_rule()

@pytest.mark.guest("smccc_discover", profile="none")
def test_nobody_there(guest):
    guest.exits(3).ends("exit").prints("UNDEF").breaks_no_rule()

@pytest.mark.guest("probe_blind")
def test_sinner(guest):
    assert {v.rule for v in guest.outcome.verdicts} > {"conduit-unknown"}

@pytest.mark.guest("vendor_uid")
def test_mutants(guest):
    guest.copes(budget=20)
"""
    )
    done.assert_outcomes(passed=4)


def test_a_failed_check_shows_the_calls_and_the_console(project):
    done = project(
        """
@pytest.mark.guest("image.elf")
def test_order(guest):
    guest.calls("SMCCC_VERSION", "PSCI_VERSION")
"""
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([
        "image.elf under kvm-6.12: PSCI_VERSION was not called in this order",
        "--- expected", "+++ called", "*+PSCI_VERSION()", "* guest console *",
        "/psci: arm,psci-1.0, conduit hvc*",
    ])  # fmt: skip
    done.stdout.no_fnmatch_line("*emu/cli/plugin.py*")


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ("exits(3)", "expected exit status 3, and it ended with 0 (off: SHUTDOWN)"),
        ('ends("fault")', "expected fault, and it ended with off (SHUTDOWN)"),
        ('prints("no such")', "the console does not hold 'no such'"),
        ('prints(re.compile("x{9}"))', "the console does not hold /x{9}/"),
        ('does_not_print("PSCI")', "the console holds 'PSCI'"),
        ('does_not_call("SYSTEM_OFF")', "SYSTEM_OFF was called"),
        ('breaks("dirty-arguments")', "expected dirty-arguments to be broken, and none was"),
        ("matches_calls()", "is missing; `pytest --hvcemu-update` writes it"),
    ],
)  # fmt: skip
def test_what_a_failed_check_says(project, check, says):
    done = project(f"""
@pytest.mark.guest("image.elf")
def test_it(guest):
    guest.{check}
""")
    done.assert_outcomes(failed=1)
    assert says in done.stdout.str()


def test_broken_rules_and_survivors_are_listed(project):
    done = project(
        """
@pytest.mark.guest("probe_blind")
def test_rules(guest):
    guest.breaks_no_rule()

@pytest.mark.guest("probe_blind")
def test_mutants(guest):
    guest.copes()
"""
    )
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines([
        "*expected no rule to be broken, and arch-features-early, *",
        "  conduit-unknown: * before /psci method was read (at smccc_call*",
        "*expected a score of 100.0% over * mutants, and it is 9*; survivors:",
        "*: wrong belief, *",
    ])  # fmt: skip


def test_expected_calls_are_written_compared_and_written_anew(project):
    source = """
@pytest.mark.guest("image.elf", profile=["kvm-6.1", "kvm-6.17"])
def test_calls(guest):
    guest.matches_calls()
"""
    project(source).assert_outcomes(failed=2)
    project(source, "--hvcemu-update").assert_outcomes(passed=2)
    project(source).assert_outcomes(passed=2)
    kept = project.path / "__hvcemu__" / "test_it" / "test_calls_kvm-6.17.calls"
    text = kept.read_text()
    assert text.startswith("0 hvc PSCI_VERSION() → 0x10003 (version 1.3)\n")
    kept.write_text(text.replace("0x10003 (version 1.3)", "0x10001 (version 1.1)"))
    done = project(source)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines([
        "image.elf under kvm-6.17: the calls differ from test_calls_kvm-6.17.calls; *",
        "-0 hvc PSCI_VERSION() → 0x10001 (version 1.1)",
        "+0 hvc PSCI_VERSION() → 0x10003 (version 1.3)",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ('"no-such.elf"', "*test_it.py::test_it: no-such.elf: no such file, and no guest*"),
        ('"image.elf", profile="kvm-9*"', "*test_it: no profile matches kvm-9?: *"),
        ('"image.elf", colour="red"', "*has no option colour; it has profile, *"),
        ('', "*takes one image*"),
        ('"image.elf", services="trng"', "*test_it*+trng*"),
    ],
)  # fmt: skip
def test_a_marker_that_is_wrong_is_one_line(project, marker, says):
    done = project(f"""
@pytest.mark.guest({marker})
def test_it(guest):
    pass
""")
    assert done.ret != 0
    done.stdout.fnmatch_lines([says]) if done.stdout.str().count("ERROR") else (
        done.stderr.fnmatch_lines([says])
    )
    done.stdout.no_fnmatch_line("*Traceback*")


def test_a_broken_image_fails_its_test_alone(project):
    (project.path / "broken.elf").write_bytes(b"\x7fELF nonsense")
    done = project(
        """
@pytest.mark.guest("broken.elf")
def test_broken(guest):
    guest.exits(0)

@pytest.mark.guest("image.elf")
def test_good(guest):
    guest.exits(0)

def test_no_marker(guest):
    pass
"""
    )
    done.assert_outcomes(passed=1, failed=1, errors=1)
    done.stdout.fnmatch_lines(["*broken.elf: *", '*this test needs @pytest.mark.guest*'])


def test_in_parallel(project, pytester):
    project("""
@pytest.mark.guest("image.elf", profile=["kvm-*"])
def test_it(guest):
    guest.exits(0).matches_calls()
""", "--collect-only")  # fmt: skip
    done = pytester.runpytest_subprocess("-n", "2", "--hvcemu-update")
    done.assert_outcomes(passed=7)
    assert len(list(project.path.glob("__hvcemu__/test_it/*.calls"))) == 7


def test_a_project_without_guests_pays_nothing(pytester):
    pytester.makepyfile("""
import sys

DOOR = ("emu.cli", "emu.cli.plugin")

def test_it():
    assert not any(name.startswith("emu.") and name not in DOOR for name in sys.modules)
""")
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)


def test_help_tells_of_the_option_and_the_marker(pytester):
    pytester.runpytest("--help").stdout.fnmatch_lines(["*--hvcemu-update*"])
    pytester.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.guest(image, ?*"])


def test_the_marker_takes_what_a_setup_has():
    """The names stand in the plugin, too: it loads nothing of hvcemu for who has no guest."""
    assert set(plugin.OPTIONS) == set(Setup._fields) - {"image", "follow"}

"""The commands that judge guests, as they are typed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emu.cli import main as cli
from emu.cli.main import main
from emu.cli.testing import setup_of
from emu.judge.discovery import RULES
from places import GUESTS


def test_rules_lists_all(capsys):
    assert main(["rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(RULES) + 1
    assert lines[1].split()[0] in RULES


def test_rules_explains_one(capsys):
    assert main(["rules", "conduit-unknown"]) == 0
    out = capsys.readouterr().out
    assert "conduit-unknown: a call before the guest has read" in out
    assert all(f"  {label} " in out for label in ("source", "example", "fix"))


def test_rules_as_json(capsys):
    assert main(["rules", "--json"]) == 0
    rules = json.loads(capsys.readouterr().out)
    assert [rule["name"] for rule in rules] == list(RULES)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("conduit-unknow", "did you mean conduit-unknown"), ("zzz", "`hvcemu rules` lists them")],
)
def test_a_rule_that_is_none(capsys, name, hint):
    assert main(["rules", name]) == 2
    assert hint in capsys.readouterr().err


def test_run_check_tells_the_sins(capfd):
    assert main(["run", "probe_blind", "--check"]) == 1
    err = capfd.readouterr().err
    assert "conduit-unknown: VENDOR_HYP_KVM_FEATURES by HVC before /psci method was read" in err
    assert "smccc_call+0x34 < main+0x30, cycle 84" in err
    assert err.endswith("10 rules broken; `hvcemu rules NAME` explains each\n")


def test_run_check_of_a_good_guest(capfd):
    assert main(["run", "smccc_discover", "--check"]) == 0
    assert capfd.readouterr().err == "no rule broken\n"
    assert main(["run", "smccc_discover", "--check", "--profile", "none"]) == 3


def test_mutate_a_good_guest(capsys):
    assert main(["mutate", "vendor_uid", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "mutants: " in out
    assert out.splitlines()[-1].startswith("score 100.0%: ")


def test_mutate_the_sinner(capsys):
    assert main(["mutate", "probe_blind", "--budget", "150"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("without any fault, 10 rules broken; ")
    assert "survivors" in out
    assert "wrong belief" in out


def test_mutate_as_json(capsys):
    assert main(["mutate", "probe_blind", "--json", "--jobs", "1"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["profile"] == "kvm-6.12"
    assert 0 < found["score"] < 1
    assert sum(found["classes"].values()) > 200
    assert {"mutant", "verdict", "why", "cycles", "ending", "status"} == set(found["survivors"][0])
    assert found["verdicts"][0]["rule"] == "conduit-unknown"


def test_mutate_goes_on_where_it_was(capsys, tmp_path):
    out = tmp_path / "trng.mutants"
    command = ["mutate", "trng", "--budget", "30", "--out", str(out), "--jobs", "1"]
    assert main(command) == 0
    whole = capsys.readouterr().out
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 31
    out.write_text("".join(lines[:11]) + lines[11][:20])
    assert main(command) == 0
    assert capsys.readouterr().out == whole
    assert sorted(out.read_text().splitlines()) == sorted("".join(lines).splitlines())
    assert main([*command, "--seed", "9"]) == 2
    assert "belongs to another campaign" in capsys.readouterr().err


def test_the_seed_is_also_the_guests():
    """`--seed` is of the entropy, as in every command, and of the choice."""
    options = cli._parser().parse_args(["mutate", "trng", "--seed", "7"])
    assert setup_of(options).seed == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux: /dev/full")
def test_a_full_disk_is_one_line_that_names_the_file(capsys):
    assert main(["mutate", "hello", "--out", "/dev/full"]) == 2
    assert capsys.readouterr().err == "hvcemu: /dev/full: No space left on device\n"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_how_to_go_on(tmp_path, jobs):
    """To the whole process group, as a terminal sends it: one line, and what was done is kept."""
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "emu", "mutate", "stolen_time", "--jobs", jobs, "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=GUESTS.parent.parent,
    )  # fmt: skip
    while not out.exists() or len(out.read_bytes().splitlines()) < 4:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    shown, errors = process.communicate()
    assert (process.returncode, shown) == (130, "")
    assert re.fullmatch(
        r"hvcemu: interrupted after \d+ of 10\d mutants; the same command goes on\n", errors
    )
    assert len(out.read_bytes().splitlines()) >= 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["semihosting"], "makes no call under kvm-6.12: nothing to mutate"),
        (["no-such-guest"], "no such file"),
        (["trng", "--profile", "kvm-9"], "kvm-9"),
        (["trng", "--out", "/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, says):
    assert main(["mutate", *arguments]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_the_two_shown_in_the_readme():
    assert (GUESTS / "smccc_discover.elf").is_file()
    assert (GUESTS / "probe_blind.elf").is_file()

"""`hvcemu mutate` as a user meets it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_kit import check_mistake
from emu.cli.commands.mutate import setup_of
from emu.cli.main import parser_of
from places import GUESTS, ROOT


def test_a_good_guest(hvcemu):
    status, out, _ = hvcemu("mutate", "vendor_uid", "--jobs", 1)
    assert status == 0
    assert "mutants: " in out
    assert out.splitlines()[-1].startswith("score 100.0%: ")


def test_the_sinner(hvcemu):
    status, out, _ = hvcemu("mutate", "probe_blind", "--budget", 150)
    assert status == 1
    assert out.startswith("without any fault, 10 rules broken; ")
    assert "survivors" in out
    assert "wrong belief" in out


def test_as_json(hvcemu):
    status, out, _ = hvcemu("mutate", "probe_blind", "--json", "--jobs", 1)
    assert status == 1
    found = json.loads(out)
    assert found["profile"] == "kvm-6.12"
    assert 0 < found["score"] < 1
    assert sum(found["classes"].values()) > 200
    assert {"mutant", "verdict", "why", "cycles", "ending", "status"} == set(found["survivors"][0])
    assert found["verdicts"][0]["rule"] == "conduit-unknown"


def test_it_goes_on_where_it_was(hvcemu, tmp_path):
    out = tmp_path / "trng.mutants"
    command = ("mutate", "trng", "--budget", 30, "--out", out, "--jobs", 1)
    whole = hvcemu(*command)
    assert whole[0] == 0
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 31
    out.write_text("".join(lines[:11]) + lines[11][:20])
    assert hvcemu(*command) == whole
    assert sorted(out.read_text().splitlines()) == sorted("".join(lines).splitlines())
    check_mistake(hvcemu(*command, "--seed", 9), "belongs to another campaign")


def test_the_seed_is_also_the_guests():
    """`--seed` is of the entropy, as in every command, and of the choice."""
    words = ["mutate", "trng", "--seed", "7"]
    options = parser_of(words).parse_args(words)
    assert setup_of(options).seed == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux: /dev/full")
def test_a_full_disk_is_one_line_that_names_the_file(hvcemu):
    answer = hvcemu("mutate", "hello", "--out", "/dev/full")
    assert answer == (2, "", "hvcemu: /dev/full: No space left on device\n")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_how_to_go_on(tmp_path, jobs):
    """To the whole process group, as a terminal sends it: one line, and what was done is kept."""
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "emu", "mutate", "stolen_time", "--jobs", jobs, "--out", str(out),
         "--budget", "9000"],  # long enough for a host that is busy with other things
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=ROOT,
    )  # fmt: skip
    while not out.exists() or len(out.read_bytes().splitlines()) < 4:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    shown, errors = process.communicate()
    assert (process.returncode, shown) == (130, "")
    assert re.fullmatch(
        r"hvcemu: interrupted after \d+ of 1,?\d+ mutants; the same command goes on\n", errors
    )
    assert len(out.read_bytes().splitlines()) >= 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["semihosting"], "makes no call under kvm-6.12: nothing to mutate"),
        (["no-such-guest"], "no such file"),
        (["trng", "--profile", "kvm-9"], "kvm-9"),
        (["trng", "--out", "/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(hvcemu, words, says):
    check_mistake(hvcemu("mutate", *words), says)


def test_the_two_shown_in_the_readme():
    assert (GUESTS / "smccc_discover.elf").is_file()
    assert (GUESTS / "probe_blind.elf").is_file()

"""`hvcemu fuzz` as a user meets it."""

import os
import subprocess
import sys

import pytest

from command_kit import check_mistake
from places import ROOT


def test_a_service_a_callback_and_a_profile(hvcemu, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from emu import Ret, Service, fn\n"
        "class Bad(Service):\n    name = 'bad'\n"
        "    @fn(0xC6000042, args=('a',))\n"
        "    def bad(self, call):\n        return Ret.value(1 // (call.arg(1) - 0))\n"
        "def answer(call):\n    return call.arg(1)\n"
    )
    status, out, _ = hvcemu("fuzz", f"{path}:Bad", "--examples", 50)
    assert status == 1
    assert "answers: 0xC6000042 raises ZeroDivisionError" in out
    assert "  hvcemu call 0xc6000042 --conduit hvc" in out
    spec = tmp_path / "calls.txt"
    spec.write_text("smc: ANSWER: 0xC6000042\narg1: a\nfield: a: [0,62]\n")
    status, out, _ = hvcemu("fuzz", f"{path}:answer", "--spec", spec, "--examples", 50)
    assert status == 0
    assert "50 series of calls, every promise kept" in out
    assert hvcemu("fuzz", "--profile", "kvm-6.12", "--examples", 20)[0] == 0


def test_it_leaves_nothing_behind(tmp_path):
    """In a process of its own: what hypothesis keeps is set once for each."""
    done = subprocess.run(
        [sys.executable, "-m", "emu", "fuzz", "--examples", "20"], cwd=tmp_path, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
    )  # fmt: skip
    assert b"every promise kept" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.py:X"], "give FILE.py:NAME"),
        (["{own}:nothing"], "has no service and no function nothing"),
        (["{own}:answer"], "describe its calls with --spec FILE"),
        (["{own}:answer", "--spec", "{own}"], "own.py:1: begin with a call"),
        (["{own}:answer", "--spec", "/no/such"], "/no/such: No such file"),
        (["{own}:answer", "--spec", "{binary}"], "is no text: write the description in UTF-8"),
        (["--profile", "none"], "no function to fuzz"),
    ],
)
def test_a_mistake_is_one_line(hvcemu, tmp_path, words, says):
    path = tmp_path / "own.py"
    path.write_text("def answer(call):\n    return 0\n")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF\xd0\x00")
    named = [word.format(own=path, binary=binary) for word in words]
    check_mistake(hvcemu("fuzz", *named), says)

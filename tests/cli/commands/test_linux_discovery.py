"""`hvcemu linux-discovery` as a user meets it."""

import json
import re

import pytest

from command_kit import check_mistake
from emu.world.profile import data_folder
from linux_kit import needs_kernel

HELLO = data_folder("guests") / "hello.elf"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no kernel is cached: `python tools/fetch_linux.py` fetches Debian's, or name"),
        (("/nowhere/Image",), "/nowhere/Image: No such file"),
        ((HELLO, "--profile", "kvm6"), "did you mean"),
        ((HELLO, "--profile", "nobody*"), "nobody*"),
        ((HELLO, "--initrd", "/nowhere/x"), "/nowhere/x: No such file"),
        ((HELLO, "--cpus", "0"), "1 to 123 CPUs"),
        ((HELLO, "--jobs", "0"), "at least 1"),
    ],
)
def test_a_mistake_is_one_line(hvcemu, words, says, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answer = hvcemu("linux-discovery", *words)
    check_mistake(answer, says)
    assert answer[1] == ""


def test_what_is_no_linux_does_not_get_there(hvcemu):
    words = (HELLO, "--profile", "kvm-6.12,none", "--jobs", 1)
    status, out, _ = hvcemu("linux-discovery", *words)
    assert status == 1
    assert "kvm-6.12: did not get there (off)" in out
    assert out.startswith("Linux said nothing")


def test_json_alone_on_standard_output(hvcemu):
    words = (HELLO, "--profile", "none", "--jobs", 1, "--json", "-")
    status, out, _ = hvcemu("linux-discovery", *words)
    assert status == 1
    assert json.loads(out)["profiles"].keys() == {"none"}


@needs_kernel
def test_a_kernel_in_one_process_and_in_two(hvcemu, tmp_path):
    path = tmp_path / "found.json"
    words = ("linux-discovery", "--profile", "kvm-6.12", "--profile", "none,qemu-tcg")
    two = hvcemu(*words, "--jobs", 2, "--json", path)
    one = hvcemu(*words, "--jobs", 1)
    assert one == two
    status, out, errors = one
    assert (status, errors) == (0, "")
    assert "\x1b" not in out
    assert re.search(r"^ +kvm-6\.12 +none +qemu-tcg$", out, re.MULTILINE)
    profiles = json.loads(path.read_text())["profiles"]
    assert profiles["kvm-6.12"]["reported"]["PSCI"] == "1.1"
    assert profiles["none"]["total_calls"] == 0

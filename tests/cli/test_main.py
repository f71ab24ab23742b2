"""The command line as a user meets it, in processes of its own where the exit status counts."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_kit import hvcemu, on_a_terminal
from emu.cli import main as cli
from emu.world.profile import data_folder
from places import ROOT

GUESTS = data_folder("guests")


def test_run_hello():
    done = hvcemu("run", GUESTS / "hello.elf")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from EL1\n", "")


def test_the_guests_semihosting_code_is_the_exit_status():
    assert hvcemu("run", "semihosting").returncode == 42


def test_under_none_discovery_ends_with_the_guests_own_report():
    done = hvcemu("run", "smccc_discover", "--profile", "none")
    assert done.returncode == 3
    assert "UNDEF" in done.stdout


def test_trace_goes_to_standard_error_plain_and_aligned():
    done = hvcemu("run", "smccc_discover", "--trace", "calls,exceptions")
    lines = done.stderr.splitlines()
    assert "\x1b" not in done.stderr
    column = lines[0].index("result")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines[1:])
    assert lines[-1].endswith("service psci")
    assert done.stdout == hvcemu("run", "smccc_discover").stdout


def test_trace_file_holds_the_same_calls(tmp_path):
    path = tmp_path / "out.jsonl"
    done = hvcemu("run", "smccc_discover", "--trace", "calls", "--trace-file", path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    calls = [row for row in rows if row["type"] == "call"]
    assert rows[0]["type"] == "start"
    assert rows[-1] == {
        "type": "exit", "kind": "systemevent", "cycles": rows[-1]["cycles"], "vcpu": 0,
        "detail": "SHUTDOWN",
    }  # fmt: skip
    assert len(calls) == len(done.stderr.splitlines()) - 1
    assert calls[0]["name"] == "PSCI_VERSION"


def test_stats_say_where_the_time_of_a_hypercall_goes():
    """The issue's example: about 6,400 cycles a call, entry, handler and return apart."""
    done = hvcemu("run", "hvc_loop", "--core", "cortex-a57", "--trap-costs", "kvm-nvhe", "--stats",
                  "--max-cycles", "2000000")  # fmt: skip
    assert done.returncode == 124
    call = next(line for line in done.stderr.splitlines() if line.startswith("hvc PSCI_VERSION"))
    _, _, made, entry, handler, back, each = call.replace(",", "").split()
    assert 6_350 <= float(each) <= 6_500
    assert int(entry) + int(handler) + int(back) == pytest.approx(float(each) * int(made), rel=1e-3)
    assert "core cortex-a57, timing block; traps cost kvm-nvhe" in done.stderr
    assert done.stdout == "", "the guest's own output stands alone"


def test_stats_come_after_whatever_ended_the_run():
    for arguments in (("hello",), ("spin", "--max-cycles", "1000"), ("semihosting",)):
        done = hvcemu("run", *arguments, "--stats")
        assert "an instruction is a cycle; traps cost zero" in done.stderr
        assert "\nvCPU 0 " in done.stderr


@pytest.mark.parametrize("name", ["out.folded", "out.json", "callgrind.out.1"])
def test_profile_out(name, tmp_path):
    path = tmp_path / name
    done = hvcemu("run", "hello", "--core", "cortex-a53", "--profile-out", path)
    assert (done.returncode, done.stderr) == (0, "")
    text = path.read_text()
    assert "main" in text
    assert ("hvcemu run hello" in text) == (name != "out.folded")


def test_the_frequency_is_how_long_a_cycle_takes():
    """Cycles are the same; the time in which they pass is not."""
    form = r"([\d,]+) cycles, .*, ([\d.,]+) µs at ([\d,]+) MHz"
    runs = [
        hvcemu("run", "hello", "--core", "cortex-a53", "--freq", hertz, "--stats")
        for hertz in ("500M", "2G")
    ]
    slow, fast = (re.fullmatch(form, run.stderr.splitlines()[1]) for run in runs)
    assert slow
    assert fast
    assert slow[1] == fast[1]
    assert (slow[3], fast[3]) == ("500", "2,000")
    assert float(slow[2]) == pytest.approx(4 * float(fast[2]), abs=0.01)


def test_the_same_numbers_every_time():
    first, second = (
        hvcemu("run", "smccc_discover", "--core", "cortex-a76", "--cpus", "4", "--stats").stderr
        for _ in range(2)
    )
    assert first == second


def test_explain_costs():
    out = hvcemu("explain", "--costs").stdout
    assert all(name in out for name in ("kvm-nvhe", "realm", "tfa-juno-a53", "zero"))
    one = hvcemu("explain", "--costs", "kvm-nvhe").stdout
    assert "ATC'17 table 2" in one
    assert "35 %" in one
    assert "isb" in hvcemu("explain", "--costs", "cortex-a53").stdout
    row = json.loads(hvcemu("explain", "--costs", "kvm-nvhe", "--json").stdout)
    assert row["vmm"].keys() == {"cycles", "uncertainty", "core", "source"}
    assert "kvm-vhe" in json.loads(hvcemu("explain", "--costs", "--json").stdout)


def test_services_registers_and_filter_change_what_a_guest_finds():
    def found(*options):
        return hvcemu("run", "smccc_discover", *options).stdout

    assert "TRNG_RND64(64)" in found()
    for options in (
        ("--services=-trng",), ("--fw-reg", "STD_BMAP=0"), ("--deny", "0x84000050-0x8400005F"),
        ("--deny", "0x84000050+4"), ("--profile", "kvm-5.17", "--services=-trng"),
    ):  # fmt: skip
        assert "TRNG_RND64(64)" not in found(*options), options
    assert "may be called" in found("--services=-arch")


def test_the_seed_is_the_entropy():
    first, again, other = (
        hvcemu("call", "0xC4000053", "64", "--seed", seed).stdout for seed in ("1", "1", "2")
    )
    assert first == again != other


def test_call_prints_the_kvm_words():
    out = hvcemu("call", "0x8600FF01", "--profile", "kvm-6.1").stdout
    for word in ("b66fb428", "e911c52e", "564bcaa9", "743a004d"):
        assert word in out


def test_call_as_json():
    done = hvcemu("call", "0x84000000", "--conduit", "smc", "--imm", "1", "--json")
    row = json.loads(done.stdout)
    assert (row["name"], row["ret"], row["answer"]) == (
        "PSCI_VERSION", ["0xffffffffffffffff"], "ret",
    )  # fmt: skip


def test_why_prints_the_whole_way():
    out = hvcemu("call", "0x84000053", "0x40", "--profile", "kvm-6.12", "--why").stdout
    for step in (
        "1. kvm-6.12: HVC #0x0 leads to smccc", "2. no SMCCC filter range holds it",
        "3. KVM_REG_ARM_STD_BMAP bit 0 is set", "4. service trng: TRNG_RND32",
    ):  # fmt: skip
        assert step in out
    denied = hvcemu("call", "0x84000050", "--fw-reg", "STD_BMAP=0", "--why").stdout
    assert "KVM_REG_ARM_STD_BMAP bit 0 is clear" in denied


def test_explain_knows_fields_owner_name_and_every_profile():
    out = hvcemu("explain", "0xC4000053").stdout
    for text in ("TRNG_RND64", "standard secure services", "SMC64/HVC64", "DEN0098", "kvm-6.17"):
        assert text in out
    row = json.loads(hvcemu("explain", "0xC4000053", "--json").stdout)
    assert {profile["profile"] for profile in row["profiles"]} >= {"none", "kvm-4.15", "qemu-tcg"}


def test_profiles_and_diff():
    assert "kvm-6.12" in hvcemu("profiles").stdout
    assert len(json.loads(hvcemu("profiles", "--json").stdout)) >= 9
    assert "SMCCC filter" in hvcemu("diff", "kvm-6.1", "kvm-6.12").stdout
    assert "cannot tell them apart" in hvcemu("diff", "kvm-6.4", "kvm-6.12").stdout
    assert json.loads(hvcemu("diff", "kvm-6.4", "kvm-6.12", "--json").stdout) == []


def test_doctor():
    done = hvcemu("doctor")
    assert done.returncode == 0
    assert done.stdout.endswith("everything vital works\n")


def test_a_function_of_ones_own_answers_a_range(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def version(call): return 0x10000\n")
    done = hvcemu("run", "smccc_discover", "--forward", f"0x84000050={path}:version", "--trace",
                  "calls")  # fmt: skip
    assert "SMCCC filter forwards 0x84000050" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "the following arguments are required"),
        (("bogus",), "invalid choice"),
        (("run", "nothing"), "no such file, and no guest of that name"),
        (("run", "helo"), "did you mean hello"),
        (("run", "bugs/nutx_smc"), "did you mean bugs/nuttx_smc"),
        (("run", "/nowhere/x.elf"), "No such file"),
        (("run", "hello", "--profile", "kvm6.1"), "did you mean kvm-6.1"),
        (("run", "hello", "--cpus", "-1"), "1 to 123 CPUs"),
        (("run", "hello", "--cpus", "1000000"), "1 to 123 CPUs"),
        (("run", "hello", "--mem", "0"), "1M to 64G"),
        (("run", "hello", "--mem", "99999999999G"), "1M to 64G"),
        (("run", "hello", "--mem", "lots"), "is not a size"),
        (("run", "hello", "--dtb", "README.md"), "no flattened device tree"),
        (("run", "hello", "--deny", "5-3"), "empty or leaves 32 bits"),
        (("run", "hello", "--deny", "zz"), "is not a number"),
        (("run", "hello", "--deny", "0x80000000"), "Arm architecture calls"),
        (("run", "hello", "--deny", "0x84000000", "--profile", "kvm-6.1"), "no SMCCC filter"),
        (("run", "hello", "--forward", "1=nofile.py:f"), "FILE.py:FUNCTION"),
        (("run", "hello", "--fw-reg", "STD_BMAP"), "NAME=VALUE"),
        (("run", "hello", "--fw-reg", "FOO=1"), "no firmware register FOO"),
        (("run", "hello", "--fw-reg", "STD_BMAP=2"), "only bits of 0x1"),
        (("run", "hello", "--services", "trng"), "write +trng or -trng"),
        (("run", "hello", "--services=-foo"), "unknown service foo"),
        (("run", "hello", "--trace", "foo"), "calls or exceptions"),
        (("run", "hello", "--timeout", "-1"), "is not a number of seconds"),
        (("run", "hello", "--max-cycles", "0"), "at least 1"),
        (("run", "hello", "--trace-file", "/nowhere/x"), "No such file"),
        (("run", "hello", "--core", "cortex-a99"), "invalid choice: 'cortex-a99'"),
        (("run", "hello", "--timing", "exact"), "invalid choice: 'exact'"),
        (("run", "hello", "--timing", "block"), "needs a --core whose times are known"),
        (("run", "hello", "--core", "max", "--timing", "block"), "needs a --core whose times"),
        (("run", "hello", "--freq", "0"), "a core has 1 MHz to 10 GHz"),
        (("run", "hello", "--freq", "20G"), "a core has 1 MHz to 10 GHz"),
        (("run", "hello", "--freq", "fast"), "is not a frequency such as 1.5G"),
        (("run", "hello", "--trap-costs", "kvm"), "no trap costs 'kvm'; there are kvm-nvhe"),
        (("run", "hello", "--profile-out", "/nowhere/x.json"), "--profile-out /nowhere/x.json: No"),
        (("explain",), "give an identifier such as 0xC4000053, or --costs"),
        (("explain", "--costs", "kvm"), "nothing has the costs 'kvm'"),
        (("explain", "--costs=", "0x84000000"), "either an identifier or --costs"),
        (("explain", "99999999999"), "does not fit"),
        (("call", "0x84000000", *"12345678"), "at most 7 arguments"),
        (("call", "0x84000000", "--imm", "65536"), "16-bit immediate"),
        (("diff", "kvm-6.1"), "required"),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_2(arguments, text, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        status = cli.main(list(arguments))
    except SystemExit as exit:
        status = exit.code
    said = capsys.readouterr().err
    assert status == 2
    assert text in said
    assert said.startswith("hvcemu: ")
    assert said.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this host")
def test_a_full_disk_is_one_line():
    done = hvcemu("run", "hello", "--trace-file", "/dev/full")
    assert done.returncode == 2
    assert done.stderr == "hvcemu: No space left on device\n"


def test_a_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m emu explain 0x84000000 | head -n 1", shell=True, text=True,
        capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "0x84000000  PSCI_VERSION\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["run", "call", "explain", "profiles", "diff", "linux-discovery", "doctor"]
)
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0
    assert "examples:\n" in out
    assert f"hvcemu {command}" in out


ECHO = [  # LDR and STR of DR as long as something is typed, then power off
    0xD2A1_2001,  # MOVZ x1, #0x900, LSL #16
    0xB940_0022,  # LDR w2, [x1]
    0x3400_0062,  # CBZ w2, +12
    0xB900_0022,  # STR w2, [x1]
    0x17FF_FFFD,  # B -12
    0xD2B0_8000,  # MOVZ x0, #0x8400, LSL #16
    0xF280_0100,  # MOVK x0, #8: PSCI SYSTEM_OFF
    0xD400_0002,  # HVC #0
]


def test_what_is_typed_and_when(tmp_path, capfdbinary):
    guest = tmp_path / "echo.bin"
    guest.write_bytes(b"".join(word.to_bytes(4, "little") for word in ECHO))
    steps = ["=>one\\n", "one\\n=>t\\x77o", "nobody says this=>three"]
    words = [word for step in steps for word in ("--type", step)]
    assert cli.main(["run", str(guest), "--load", "0x40080000", *words]) == 0
    assert capfdbinary.readouterr().out == b"one\ntwo"


def test_what_cannot_be_typed_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["run", "hello", "--type", "x"])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert "'x' is not WHEN=>WHAT" in error
    assert error.count("\n") == 1


def test_on_a_terminal_there_is_colour():
    status, shown = on_a_terminal("run", "hello", "--trace", "calls")
    assert status == 0
    assert "\x1b[36mSHUTDOWN" in shown
    assert "kvm-6.12" in on_a_terminal("profiles")[1]


def test_a_long_run_has_a_status_line_and_ctrl_c_says_where(tmp_path):
    guest = tmp_path / "for_ever.bin"
    guest.write_bytes(bytes.fromhex("00000014"))  # b .
    started = time.monotonic()
    status, shown = on_a_terminal("run", str(guest), "--load", "0x40080000", interrupt_after=2.5)
    assert status == 130
    assert time.monotonic() - started < 5
    assert re.search(r"M instructions .* MIPS .* Ctrl-C stops", shown)
    assert re.search(r"interrupted after .* s at 0x40080000", shown)


def test_names_from_a_file_beside_the_image(tmp_path):
    path = tmp_path / "System.map"
    path.write_text("0000000040080000 T all_of_it\n")
    done = hvcemu("run", "hello", "--symbols", path, "--stats")
    assert done.returncode == 0
    assert re.search(r"^all_of_it +[\d,]+ +100.0 %", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(("content", "says"), [
    (None, "No such file or directory"),
    ("prose\n", "it names nothing; give a System.map or an ELF"),
])  # fmt: skip
def test_a_file_without_names(tmp_path, content, says):
    path = tmp_path / "System.map"
    if content is not None:
        path.write_text(content)
    done = hvcemu("run", "hello", "--symbols", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"hvcemu: --symbols {path}: {says}{' file' * bool(content)}\n"

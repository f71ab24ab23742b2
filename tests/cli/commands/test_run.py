"""`hvcemu run` as a user meets it."""

import json
import re
import time
from pathlib import Path

import pytest

import command_kit
from command_kit import check_mistake, on_a_terminal
from emu.cli.main import main
from emu.world.profile import data_folder
from places import ROOT

GUESTS = data_folder("guests")


def test_hello_in_a_process_of_its_own():
    done = command_kit.hvcemu("run", GUESTS / "hello.elf")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from EL1\n", "")


def test_the_guests_semihosting_code_is_the_exit_status():
    assert command_kit.hvcemu("run", "semihosting").returncode == 42


def test_under_none_discovery_ends_with_the_guests_own_report(hvcemu):
    status, out, _ = hvcemu("run", "smccc_discover", "--profile", "none")
    assert status == 3
    assert "UNDEF" in out


def test_trace_goes_to_standard_error_plain_and_aligned(hvcemu):
    _, out, errors = hvcemu("run", "smccc_discover", "--trace", "calls,exceptions")
    lines = errors.splitlines()
    assert "\x1b" not in errors
    column = lines[0].index("result")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines[1:])
    assert lines[-1].endswith("service psci")
    assert out == hvcemu("run", "smccc_discover")[1]


def test_why_tells_the_steps_below_each_traced_call(hvcemu):
    _, _, errors = hvcemu("run", "hello", "--trace", "calls", "--why", "--profile", "kvm-6.12")
    assert "\n                 1. kvm-6.12: HVC #0x0 leads to smccc\n" in errors
    assert "4. service psci: SYSTEM_OFF\n" in errors


def test_why_is_about_calls_that_are_traced(hvcemu):
    check_mistake(hvcemu("run", "hello", "--why"), "add --trace calls")


def test_trace_file_holds_the_same_calls(hvcemu, tmp_path):
    path = tmp_path / "out.jsonl"
    _, _, errors = hvcemu("run", "smccc_discover", "--trace", "calls", "--trace-file", path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    calls = [row for row in rows if row["type"] == "call"]
    assert rows[0]["type"] == "start"
    assert rows[-1] == {
        "type": "exit", "kind": "systemevent", "cycles": rows[-1]["cycles"], "vcpu": 0,
        "detail": "SHUTDOWN",
    }  # fmt: skip
    assert len(calls) == len(errors.splitlines()) - 1
    assert calls[0]["name"] == "PSCI_VERSION"


def test_stats_say_where_the_time_of_a_hypercall_goes(hvcemu):
    """The issue's example: about 6,400 cycles a call, entry, handler and return apart."""
    words = ("hvc_loop", "--core", "cortex-a57", "--trap-costs", "kvm-nvhe", "--stats")
    status, out, errors = hvcemu("run", *words, "--max-cycles", 2_000_000)
    assert status == 124
    call = next(line for line in errors.splitlines() if line.startswith("hvc PSCI_VERSION"))
    _, _, made, entry, handler, back, each = call.replace(",", "").split()
    assert 6_350 <= float(each) <= 6_500
    assert int(entry) + int(handler) + int(back) == pytest.approx(float(each) * int(made), rel=1e-3)
    assert "core cortex-a57, timing block; traps cost kvm-nvhe" in errors
    assert out == "", "the guest's own output stands alone"


def test_stats_come_after_whatever_ended_the_run(hvcemu):
    for words in (("hello",), ("spin", "--max-cycles", 1000), ("semihosting",)):
        _, _, errors = hvcemu("run", *words, "--stats")
        assert "an instruction is a cycle; traps cost zero" in errors
        assert "\nvCPU 0 " in errors


@pytest.mark.parametrize("name", ["out.folded", "out.json", "callgrind.out.1"])
def test_profile_out(hvcemu, name, tmp_path):
    path = tmp_path / name
    status, _, errors = hvcemu("run", "hello", "--core", "cortex-a53", "--profile-out", path)
    assert (status, errors) == (0, "")
    text = path.read_text()
    assert "main" in text
    assert ("hvcemu run hello" in text) == (name != "out.folded")


def test_the_frequency_is_how_long_a_cycle_takes(hvcemu):
    """Cycles are the same; the time in which they pass is not."""

    def stats(hertz):
        words = ("hello", "--core", "cortex-a53", "--freq", hertz, "--stats")
        line = hvcemu("run", *words)[2].splitlines()[1]
        return re.fullmatch(r"([\d,]+) cycles, .*, ([\d.,]+) µs at ([\d,]+) MHz", line)

    slow, fast = stats("500M"), stats("2G")
    assert slow
    assert fast
    assert slow[1] == fast[1]
    assert (slow[3], fast[3]) == ("500", "2,000")
    assert float(slow[2]) == pytest.approx(4 * float(fast[2]), abs=0.01)


def test_the_same_numbers_every_time():
    first, second = (
        command_kit.hvcemu(
            "run", "smccc_discover", "--core", "cortex-a76", "--cpus", "4", "--stats"
        ).stderr
        for _ in range(2)
    )
    assert first == second


def test_services_registers_and_filter_change_what_a_guest_finds(hvcemu):
    def found(*options):
        return hvcemu("run", "smccc_discover", *options)[1]

    assert "TRNG_RND64(64)" in found()
    for options in (
        ("--services=-trng",), ("--fw-reg", "STD_BMAP=0"), ("--deny", "0x84000050-0x8400005F"),
        ("--deny", "0x84000050+4"), ("--profile", "kvm-5.17", "--services=-trng"),
    ):  # fmt: skip
        assert "TRNG_RND64(64)" not in found(*options), options
    assert "may be called" in found("--services=-arch")


def test_a_function_of_ones_own_answers_a_range(hvcemu, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def version(call): return 0x10000\n")
    words = ("smccc_discover", "--forward", f"0x84000050={path}:version", "--trace", "calls")
    assert "SMCCC filter forwards 0x84000050" in hvcemu("run", *words)[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this host")
def test_a_full_disk_is_one_line():
    done = command_kit.hvcemu("run", "hello", "--trace-file", "/dev/full")
    assert done.returncode == 2
    assert done.stderr == "hvcemu: No space left on device\n"


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
    assert main(["run", str(guest), "--load", "0x40080000", *words]) == 0
    assert capfdbinary.readouterr().out == b"one\ntwo"


def test_on_a_terminal_there_is_colour():
    status, shown = on_a_terminal("run", "hello", "--trace", "calls")
    assert status == 0
    assert "\x1b[36mSHUTDOWN" in shown


def test_a_long_run_has_a_status_line_and_ctrl_c_says_where(tmp_path):
    guest = tmp_path / "for_ever.bin"
    guest.write_bytes(bytes.fromhex("00000014"))  # b .
    started = time.monotonic()
    status, shown = on_a_terminal("run", str(guest), "--load", "0x40080000", interrupt_after=2.5)
    assert status == 130
    assert time.monotonic() - started < 5
    assert re.search(r"M instructions .* MIPS .* Ctrl-C stops", shown)
    assert re.search(r"interrupted after .* s at 0x40080000", shown)


def test_names_from_a_file_beside_the_image(hvcemu, tmp_path):
    path = tmp_path / "System.map"
    path.write_text("0000000040080000 T all_of_it\n")
    status, _, errors = hvcemu("run", "hello", "--symbols", path, "--stats")
    assert status == 0
    assert re.search(r"^all_of_it +[\d,]+ +100.0 %", errors, re.MULTILINE)


@pytest.mark.parametrize(("content", "says"), [
    (None, "No such file or directory"),
    ("prose\n", "it names nothing; give a System.map or an ELF file"),
])  # fmt: skip
def test_a_file_without_names(hvcemu, tmp_path, content, says):
    path = tmp_path / "System.map"
    if content is not None:
        path.write_text(content)
    answer = hvcemu("run", "hello", "--symbols", path)
    assert answer == (2, "", f"hvcemu: --symbols {path}: {says}\n")


def test_check_tells_the_sins(hvcemu):
    status, _, err = hvcemu("run", "probe_blind", "--check")
    assert status == 1
    assert "conduit-unknown: VENDOR_HYP_KVM_FEATURES by HVC before /psci method was read" in err
    assert "smccc_call+0x34 < main+0x30, cycle 84" in err
    assert err.endswith("10 rules broken; `hvcemu rules NAME` explains each\n")


def test_check_of_a_good_guest(hvcemu):
    status, _, err = hvcemu("run", "smccc_discover", "--check")
    assert (status, err) == (0, "no rule broken\n")
    assert hvcemu("run", "smccc_discover", "--check", "--profile", "none")[0] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nothing",), "no such file, and no guest of that name"),
        (("helo",), "did you mean hello"),
        (("bugs/nutx_smc",), "did you mean bugs/nuttx_smc"),
        (("/nowhere/x.elf",), "No such file"),
        (("hello", "--profile", "kvm6.1"), "did you mean kvm-6.1"),
        (("hello", "--cpus", "-1"), "1 to 123 CPUs"),
        (("hello", "--cpus", "1000000"), "1 to 123 CPUs"),
        (("hello", "--mem", "0"), "1M to 64G"),
        (("hello", "--mem", "99999999999G"), "1M to 64G"),
        (("hello", "--mem", "lots"), "is not a size"),
        (("hello", "--dtb", "README.md"), "no flattened device tree"),
        (("hello", "--deny", "5-3"), "empty or leaves 32 bits"),
        (("hello", "--deny", "zz"), "is not a number"),
        (("hello", "--deny", "0x80000000"), "Arm architecture calls"),
        (("hello", "--deny", "0x84000000", "--profile", "kvm-6.1"), "no SMCCC filter"),
        (("hello", "--forward", "1=nofile.py:f"), "FILE.py:FUNCTION"),
        (("hello", "--fw-reg", "STD_BMAP"), "NAME=VALUE"),
        (("hello", "--fw-reg", "FOO=1"), "no firmware register FOO"),
        (("hello", "--fw-reg", "STD_BMAP=2"), "only bits of 0x1"),
        (("hello", "--services", "trng"), "write +trng or -trng"),
        (("hello", "--services=-foo"), "unknown service foo"),
        (("hello", "--trace", "foo"), "calls or exceptions"),
        (("hello", "--type", "x"), "'x' is not WHEN=>WHAT"),
        (("hello", "--timeout", "-1"), "is not a number of seconds"),
        (("hello", "--max-cycles", "0"), "at least 1"),
        (("hello", "--trace-file", "/nowhere/x"), "No such file"),
        (("hello", "--core", "cortex-a99"), "invalid choice: 'cortex-a99'"),
        (("hello", "--timing", "exact"), "invalid choice: 'exact'"),
        (("hello", "--timing", "block"), "needs a --core whose times are known"),
        (("hello", "--core", "max", "--timing", "block"), "needs a --core whose times"),
        (("hello", "--freq", "0"), "a core has 1 MHz to 10 GHz"),
        (("hello", "--freq", "20G"), "a core has 1 MHz to 10 GHz"),
        (("hello", "--freq", "fast"), "is not a frequency such as 1.5G"),
        (("hello", "--trap-costs", "kvm"), "no trap costs 'kvm'; there are kvm-nvhe"),
        (("hello", "--profile-out", "/nowhere/x.json"), "--profile-out /nowhere/x.json: No"),
    ],
)
def test_a_mistake_is_one_line(words, says, hvcemu, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_mistake(hvcemu("run", *words), says)

"""`hvcemu matrix` as a user meets it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import command_kit
from command_kit import check_mistake, on_a_terminal
from emu.base.errors import ResultsError
from emu.runs.results import ResultsFile
from emu.world.profile import data_folder
from matrix_kit import CALLS_FOR_EVER, FAULTS, FOR_EVER, PRINTS_FOR_EVER
from places import ROOT

GUESTS = data_folder("guests")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def matrix(hvcemu):
    """Runs it in this process: status and the lines it has printed."""

    def run(*words):
        status, out, _ = hvcemu("matrix", *words, "--jobs", 1)
        return status, out.splitlines()

    return run


def test_guests_and_profiles_as_a_table():
    done = command_kit.hvcemu("matrix", "hello", "smccc_discover", "--profile", "kvm-6.1*,none")
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "                kvm-6.1  kvm-6.12  kvm-6.17  none",
        "hello           ok       ok        ok        ok",
        "smccc_discover  ok       ok        ok        exit 3",
        "",
        "8 cells: 7 good, 1 not",
    ]


def test_allowed_exit_statuses_and_quiet(matrix):
    command = ("smccc_discover", "--profile", "kvm-6.1,none")
    assert matrix(*command, "--allow-exit", "0,3")[0] == 0
    assert matrix(*command, "--quiet") == (
        1, ["smccc_discover none: exit 3", "2 cells: 1 good, 1 not"]
    )  # fmt: skip


def test_every_axis(matrix):
    status, lines = matrix(
        "psci_cpu_on", "--profile", "kvm-6.12", "--conduit", "hvc,smc", "--cpus", "1,2",
        "--core", "cortex-a53,cortex-a72", "--mem", "64M,128M", "--seed", "0,1",
    )  # fmt: skip
    assert status == 0
    assert lines[0].split() == ["kvm-6.12", "hvc", "kvm-6.12", "smc"]
    assert lines[1].split() == [*["psci_cpu_on", "×1", "cortex-a53", "64M", "seed=0", "ok", "ok"]]
    assert lines[-1] == "32 cells: 32 good, 0 not"


def test_services_are_varied(matrix):
    _, lines = matrix("trng", "--profile", "kvm-6.12,none", "--vary", "services",
                      "--allow-exit", ",".join(map(str, range(256))))  # fmt: skip
    assert lines[0].split() == ["kvm-6.12", "none"]
    assert [line.split()[:2] for line in lines[1:3]] == [["trng", "ok"], ["trng", "-psci"]]
    row = next(line for line in lines if line.startswith("trng -trng"))
    assert row.endswith("–")


def test_switches_and_registers_hold_for_every_cell(matrix, tmp_path):
    path = tmp_path / "o.json"
    for options in (("--services=-trng",), ("--fw-reg", "STD_BMAP=0"), ("--deny", "0x84000050+16")):
        matrix("smccc_discover", "--profile", "kvm-6.4", *options, "--json", path)
        (cell,) = json.loads(path.read_text())["cells"]
        assert "TRNG_RND64(64)" not in cell["console"], options


def test_a_folder(matrix, tmp_path):
    (tmp_path / "deep").mkdir()
    shutil.copy(GUESTS / "hello.elf", tmp_path / "deep")
    _, lines = matrix(tmp_path, "--profile", "none")
    assert lines[1].split() == ["deep/hello", "ok"]


def test_bad_guests_cost_their_own_cell(tmp_path):
    for name, image in (
        ("calls", CALLS_FOR_EVER), ("ever", FOR_EVER), ("faults", FAULTS),
        ("prints", PRINTS_FOR_EVER), ("rubbish", b"\x7fELF"),
    ):  # fmt: skip
        (tmp_path / f"{name}.elf").write_bytes(image)
    done = command_kit.hvcemu(
        "matrix", tmp_path, "hello", "--profile", "kvm-6.12", "--max-cycles", 30_000_000,
        "--timeout", 1, "--jobs", 2,
    )  # fmt: skip
    assert done.returncode == 1
    rows = dict(re.findall(r"^(\w+)  +(\w[\w ,]*)$", done.stdout, re.MULTILINE))
    assert rows == {
        "calls": "limit, 1 rule", "ever": "limit", "faults": "fault", "prints": "flood",
        "rubbish": "refused", "hello": "ok",
    }  # fmt: skip
    assert "prints kvm-6.12: flood: more than 1 MiB of output" in done.stdout
    assert "rubbish kvm-6.12: refused: " in done.stdout


def test_all_formats(matrix, tmp_path):
    names = {name: tmp_path / f"o.{name}" for name in ("json", "junit", "html")}
    options = [text for name, path in names.items() for text in (f"--{name}", path)]
    assert matrix("hello", "--profile", "kvm-6.1,none", *options)[0] == 0
    cells = json.loads(names["json"].read_text())["cells"]
    assert [cell["profile"] for cell in cells] == ["kvm-6.1", "none"]
    assert ElementTree.parse(names["junit"]).getroot().get("tests") == "2"
    assert "hello from EL1" in names["html"].read_text()
    assert len(cells[0]["image_sha256"]) == 64
    umask = os.umask(0)
    os.umask(umask)
    assert all(path.stat().st_mode & 0o777 == 0o666 & ~umask for path in names.values())


def test_json_alone_on_standard_output(matrix):
    status, lines = matrix("hello", "--profile", "none", "--json", "-")
    assert status == 0
    assert json.loads("\n".join(lines))["cells"][0]["good"]


# -- results and baselines ------------------------------------------------------------------------


@pytest.fixture
def db(tmp_path):
    return tmp_path / "r.sqlite"


def test_a_baseline_fails_on_a_change_only(matrix, db, tmp_path):
    guest = tmp_path / "guest.elf"
    shutil.copy(GUESTS / "semihosting.elf", guest)
    command = (guest, "--profile", "kvm-6.12")
    assert matrix(*command, "--db", db)[0] == 1
    # Not good, but as before.
    status, lines = matrix(*command, "--baseline", db)
    assert (status, lines[-1]) == (0, "1 cell as before, 0 changed, 0 new, 0 missing")
    shutil.copy(GUESTS / "trng.elf", guest)
    status, lines = matrix(*command, "--baseline", f"{db}:1")
    assert status == 1
    (said,) = (line for line in lines if line.startswith("changed: guest kvm-6.12: "))
    for text in ("was exit 42, is off", "other calls", "another console", "cycles before"):
        assert text in said
    assert any(line.startswith("    +cpu0 hvc TRNG_VERSION()") for line in lines)


def test_a_baseline_lists_new_and_missing_cells(matrix, db):
    matrix("hello", "--profile", "kvm-6.1,kvm-6.4", "--db", db)
    status, lines = matrix("hello", "--profile", "kvm-6.4,none", "--baseline", db)
    assert status == 0
    assert {"new: hello none", "missing: hello kvm-6.1"} < set(lines)


def test_two_matrices_write_one_file_at_once(db):
    command = [sys.executable, "-m", "emu", "matrix", "hello", "--profile", "kvm-*", "--seed",
               ",".join(map(str, range(10))), "--db", str(db)]  # fmt: skip
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    with ResultsFile(str(db)) as file:
        assert [run.finished for run in file.runs()] == [True, True]
        assert {len({r.cell.key for r in file.results(run.id)}) for run in file.runs()} == {70}


def interrupted(db, *more):
    """A matrix that Ctrl-C stops when a cell is done and another never ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "emu", "matrix", *map(str, more), "--db", str(db),
         "--max-cycles", "10000000000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip
    for _ in range(600):
        time.sleep(0.1)
        if db.exists() and done_cells(db):
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def done_cells(db):
    try:
        with ResultsFile(str(db)) as file:
            return sum(run.done for run in file.runs())
    except ResultsError:  # just being made
        return 0


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_was_done_and_resume_goes_on(db, tmp_path, jobs, matrix, hvcemu):
    guest = tmp_path / "ever.elf"
    guest.write_bytes(FOR_EVER)
    status, out, err = interrupted(
        db, "hello", guest, "--profile", "kvm-6.1,kvm-6.4,kvm-6.12", "--jobs", jobs
    )
    assert status == 130
    assert err.startswith("hvcemu: interrupted after ")
    assert "--resume 1 goes on" in err
    assert err.count("\n") == 1
    assert "hello" in out
    with ResultsFile(str(db)) as file:
        assert not file.runs()[0].finished
        kept = file.results(1)
        assert 1 <= len(kept) < 6
    # `cycles` is a limit and no part of a cell's name: now all of them end.
    more = ("hello", guest, "--profile", "kvm-6.1,kvm-6.4,kvm-6.12", "--max-cycles", 100_000)
    status, lines = matrix(*more, "--db", db, "--resume", 1)
    assert status == 1
    assert lines[-1] == "6 cells: 3 good, 3 not"
    with ResultsFile(str(db)) as file:
        assert [run.finished for run in file.runs()] == [True]
        assert set(kept) < set(file.results(1))
    words = ("matrix", "trng", "--db", db, "--resume", 1, "--jobs", 1)
    check_mistake(hvcemu(*words), "is of another matrix")


def test_progress_and_colour_on_a_terminal(tmp_path):
    guest = tmp_path / "ever.elf"
    guest.write_bytes(FOR_EVER)
    status, shown = on_a_terminal(
        "matrix", "hello", str(guest), "--profile", "kvm-6.1", "--timeout", "3", "--max-cycles",
        "10000000000000",
    )  # fmt: skip
    assert status == 1
    assert re.search(r"1/2 cells  .* cells/s  .* left  0 not good  Ctrl-C stops", shown)
    assert "\x1b[32mok" in shown
    assert "\x1b[31mlimit" in shown


# -- mistakes -------------------------------------------------------------------------------------


def test_a_matrix_that_cannot_be_built_leaves_no_run(db, hvcemu):
    words = ("matrix", "hello", "--services=-foo", "--db", db, "--jobs", 1)
    check_mistake(hvcemu(*words), "unknown service foo")
    with ResultsFile(str(db)) as file:
        assert file.runs() == file.results(1) == []


def test_a_service_that_one_profile_lacks_is_a_refused_cell(matrix):
    status, lines = matrix("hello", "--profile", "kvm-6.12,none", "--services=-trng")
    assert status == 1
    assert "hello none -trng: refused: profile none has no service trng; it has none" in lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this host")
@pytest.mark.parametrize("option", ["--json", "--junit", "--html"])
def test_a_full_disk_is_one_line_that_names_the_file(option, hvcemu):
    answer = hvcemu("matrix", "hello", "--profile", "none", option, "/dev/full", "--jobs", 1)
    check_mistake(answer, "hvcemu: /dev/full: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "the following arguments are required: GUEST"),
        (("helo",), "did you mean hello"),
        (("/nowhere/x.elf",), "No such file"),
        (("firmware",), "no *.elf lies below"),
        (("hello", "--profile", "vmware-*"), "no profile matches vmware-*"),
        (("hello", "--profile", "kvm6.1"), "did you mean kvm-6.1"),
        (("hello", "--conduit", "hvc,svc"), "'svc' is none of hvc, smc"),
        (("hello", "--cpus", "0"), "at least 1"),
        (("hello", "--cpus", ","), "give one value at least"),
        (("hello", "--cpus", "1000"), "1 to 123 CPUs"),
        (("hello", "--core", "z80"), "is none of"),
        (("hello", "--mem", "lots"), "is not a size"),
        (("hello", "--services=-foo"), "unknown service foo"),
        (("hello", "--fw-reg", "FOO=1"), "no firmware register FOO"),
        (("hello", "--allow-exit", "256"), "from 0 to 255"),
        (("hello", "--tolerance", "some"), "is not a share such as 2.5%"),
        (("hello", "--vary", "weather"), "invalid choice"),
        (("hello", "--resume", "1"), "--resume needs --db"),
        (("hello", "--jobs", "2", "--dask", "tcp://x"), "exclude each other"),
        (("hello", "--baseline", "/nowhere/b"), "there is no such file"),
        (("hello", "--db", "/nowhere/b"), "unable to open"),
        (("hello", "--db", "README.md"), "no file of results"),
        (("hello", "--html", "/nowhere/x"), "/nowhere/x: No such file"),
    ],
)
def test_a_mistake_is_one_line(words, says, hvcemu, monkeypatch):
    monkeypatch.chdir(ROOT)
    jobs = () if "--jobs" in words else ("--jobs", 1)
    check_mistake(hvcemu("matrix", *words, *jobs), says)

"""Finding the command, and how a command line ends that is no command's."""

import os
import subprocess
import sys

import pytest

from command_kit import check_mistake
from emu import __version__
from emu.cli.main import command_names, parser_of
from places import PACKAGE, ROOT

IN_ORDER = [
    "run", "matrix", "results", "mutate", "rules", "fuzz", "call", "explain", "profiles", "diff",
    "migrate", "linux-discovery", "doctor",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_every_file_is_a_command_and_has_a_test():
    assert sorted(command_names()) == sorted(IN_ORDER)
    for name in IN_ORDER:
        file = f"{name.replace('-', '_')}.py"
        assert (PACKAGE / "cli" / "commands" / file).is_file()
        assert (ROOT / "tests" / "cli" / "commands" / f"test_{file}").is_file()


def test_help_lists_all_in_their_order(hvcemu):
    status, out, _ = hvcemu("--help")
    commands = out.partition("\ncommands:\n")[2].partition("\nexamples:\n")[0]
    assert status == 0
    assert [line.split()[0] for line in commands.splitlines() if line[4:5].isalpha()] == [
        "COMMAND", *IN_ORDER
    ]  # fmt: skip
    assert hvcemu("--help", "run") == hvcemu("-h") == (status, out, "")


@pytest.mark.parametrize("command", IN_ORDER)
def test_every_command_has_help_with_examples(hvcemu, command):
    status, out, _ = hvcemu(command, "--help")
    assert status == 0
    assert out.startswith(f"usage: hvcemu {command} [-h]")
    assert f"\nexamples:\n  hvcemu {command}" in out


def test_the_version(hvcemu):
    assert hvcemu("--version") == hvcemu("--ver", "run") == (0, f"hvcemu {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "the following arguments are required: COMMAND; see `hvcemu --help`"),
        (("bogus",), f"invalid choice: 'bogus' (choose from {', '.join(map(repr, IN_ORDER))})"),
        (("ru", "hello"), "invalid choice: 'ru'"),
        (("linux_discovery",), "invalid choice: 'linux_discovery'"),
        (("__init__",), "invalid choice: '__init__'"),
        (("../main",), "invalid choice: '../main'"),
        (("--bogus", "run", "hello"), "unrecognized arguments: --bogus; see"),
        (("run", "hello", "--bogus"), "unrecognized arguments: --bogus; see"),
        (("run", "hello", "--prof", "none"), "could match --profile, --profile-out; see `hvcemu "),
    ],
)
def test_a_mistake_is_one_line(hvcemu, words, says):
    check_mistake(hvcemu(*words), says)


def test_options_may_be_shortened(hvcemu):
    assert hvcemu("run", "hello", "--qui", "--gi=2") == (0, "hello from EL1\n", "")


def test_only_the_arguments_of_the_command_are_known():
    assert parser_of(["run"]).parse_args(["run", "hello"]).image == "hello"
    with pytest.raises(SystemExit):
        parser_of(["call", "0"]).parse_args(["run", "hello"])


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (["call", "0"], ["call"]),
        ([], sorted(name.replace("-", "_") for name in IN_ORDER)),
    ],
)
def test_what_is_loaded(words, loaded):
    """A command's file and no other's; and for all of them, nothing that a run takes."""
    code = (
        "import sys; from emu.cli.main import parser_of; parser_of(sys.argv[1:]);"
        "print(*sorted(m.removeprefix('emu.cli.commands.') for m in sys.modules"
        " if m.startswith('emu.cli.commands.')));"
        "print({'emu.machine.vm', 'emu.judge.trial', 'rich', 'argcomplete'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=ENVIRONMENT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == f"{' '.join(loaded)}\nset()\n"


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("hvcemu r", ["run", "results", "rules"]),
        ("hvcemu linux", ["linux-discovery "]),
        ("hvcemu run --prof", ["--profile", "--profile-out"]),
        ("hvcemu matrix --vary ", ["services "]),
        ("hvcemu diff kvm-6.1 kvm-6.1", ["kvm-6.1", "kvm-6.12", "kvm-6.17"]),
    ],
)
def test_the_shell_completes(line, offers, tmp_path):
    path = tmp_path / "offers"
    asked = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(path), "_ARGCOMPLETE_IFS": "\n",
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "emu"], env=ENVIRONMENT | asked, check=True)
    assert path.read_text().split("\n") == offers


def test_the_shell_is_told_that_it_may_ask():
    """Global completion looks for this in the file of the entry point."""
    assert b"PYTHON_ARGCOMPLETE_OK" in (PACKAGE / "cli" / "main.py").read_bytes()[:1024]


def test_a_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m emu explain 0x84000000 | head -n 1", shell=True, text=True,
        capture_output=True, timeout=60, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.stdout == "0x84000000  PSCI_VERSION\n"
    assert done.stderr == ""

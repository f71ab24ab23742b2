"""What the README shows works as it stands."""

import re
import shlex

import pytest

from emu.cli import main as cli
from page_kit import blocks
from places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    shown = blocks(README, "python")
    assert len(shown) >= 4
    for block in shown:
        exec(block.text, names)


COMMANDS = [
    line.partition("#")[0].strip()
    for block in blocks(README, "sh")
    for line in block.text.splitlines()
    if line.startswith("hvcemu ") and "$(" not in line and "guest.elf" not in line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    status = cli.main(shlex.split(command)[1:])
    # smccc_discover reports 3 where nobody is; probe_blind breaks rules.
    expected = 3 if "--profile none" in command else 1 if "probe_blind" in command else 0
    assert status == expected
    assert "".join(capfd.readouterr()), "a report on standard error is something, too"


def test_the_tests_it_names_exist():
    named = set(re.findall(r"tests/[\w/]+(?:\.py)?", README))
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_transcript_of_a_bug(monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    shown = re.search(r"\$ (hvcemu run bugs/.*)\n((?:.*\n)*?)```", README)
    assert shown
    assert cli.main(shlex.split(shown[1])[1:]) == 1
    captured = capfd.readouterr()
    assert (captured.out + captured.err).endswith(shown[2])


def test_the_number_of_rules_is_right():
    from emu.judge import following  # noqa: F401 — it declares some
    from emu.judge.rules import RULES

    assert len(RULES) == 41
    assert "forty-one rules" in README


def test_it_names_every_profile():
    for path in (ROOT / "firmware").glob("*.toml"):
        assert f"`{path.stem}`" in README


def test_exit_statuses_are_those_of_the_runner():
    from emu.base import endings

    for status in (
        endings.STATUS_USER, endings.STATUS_RESET, endings.STATUS_FAULT, endings.STATUS_IDLE,
        endings.STATUS_SUSPEND, endings.STATUS_LIMIT, endings.STATUS_INTERRUPTED,
    ):  # fmt: skip
        assert re.search(rf"^\| .*\b{status}\b.* \|", README, re.MULTILINE)

"""The table and the JSON of `hvcemu linux-discovery`."""

import json

from emu.base.endings import Ending
from emu.cli.linux_table import Look, as_json, report
from emu.judge.trial import CallLine, failed
from emu.runs.linux_discovery import END, found

STAMP = "[    0.000000] "


def call(text: str, result: str) -> CallLine:
    return CallLine(0, 0, "hvc", text, result, "")


CALLS = (
    call("PSCI_FEATURES(SMCCC_VERSION)", "0x0"),
    call("PSCI_FEATURES(MIGRATE)", "NOT_SUPPORTED (-1)"),
    call("0x86001234(x1=0x1)", "NOT_SUPPORTED (-1)"), call("PSCI_VERSION()", "UNDEF"),
)  # fmt: skip


def outcome(console: str, calls=()):
    return failed(Ending.LIMIT, 124, "too late\nmore")._replace(
        console=console, calls=calls, total_calls=len(calls)
    )


ROWS = [
    found("kvm-6.12", outcome(f"{STAMP}Linux version 6.1.0\n{STAMP}psci: PSCIv1.1 detected in "
                              f"firmware.\n{STAMP}{END}", CALLS)),
    found("none", outcome("\x1b[31mred")),
]  # fmt: skip


def test_the_table():
    lines = list(report(ROWS, Look()))
    assert lines == [
        f"Linux 6.1.0, to its line {END!r}",
        "",
        "                 kvm-6.12  none",
        "PSCI             1.1       –",
        "calls made       4         0",
        "  PSCI_FEATURES  2         –",
        "  0x86001234     1         –",
        "  PSCI_VERSION   1         –",
        "NOT_SUPPORTED    2         –",
        "unknown          1         –",
        "UNDEFINED        1         –",
        "none: did not get there (limit): too late",
    ]


def test_a_narrow_terminal_gets_several_tables_and_colour():
    lines = list(report(ROWS, Look(colour=True, width=30)))
    assert sum(line.startswith("\x1b[1m") for line in lines) == 2
    assert any("\x1b[32m1.1" in line for line in lines)
    assert any("\x1b[33m2" in line for line in lines)
    assert any("\x1b[31mnone: did not get there" in line for line in lines)


def test_json_has_everything():
    written = json.loads(json.dumps(as_json("Image", ROWS)))
    assert written["profiles"]["kvm-6.12"]["calls"]["PSCI_FEATURES"] == 2
    assert written["profiles"]["none"]["finished"] is False
    assert written["facts"]["PSCI"].endswith("psci_probe")

"""Options that several commands share: what they parse to, and what they do to a hypervisor."""

from __future__ import annotations

import argparse

import pytest

from emu.arm.cores import DEFAULT_CORE
from emu.base.errors import EmuError, PolicyError
from emu.cli.options import (
    add_below,
    add_exports,
    add_judging,
    add_machine,
    apply_policy,
)
from emu.world.monitor import El2
from emu.world.profile import DEFAULT_PROFILE, profile_names
from kit import NOT_SUPPORTED, PTP, TRNG_VERSION, VERSION, FakeHost, script

EMPTY: list[str] = []


def parse(add, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add(parser)
    return parser.parse_args(words)


def judging(parser: argparse.ArgumentParser) -> None:
    add_judging(parser.add_argument_group())
    add_exports(parser.add_argument_group())


# -- what they parse to --------------------------------------------------------------------------

PARSED = [  # adds, words, what is in the options then
    (add_below, EMPTY, {"profile": DEFAULT_PROFILE, "services": [], "fw_reg": [], "deny": [],
                        "forward": [], "seed": 0}),
    (add_below, ["--profile", "none", "--seed", "0x10"], {"profile": "none", "seed": 16}),
    (add_below, ["--services=-trng,+ptp"], {"services": [("trng", False), ("ptp", True)]}),
    (add_below, ["--services=-el3.psci"], {"services": [("el3.psci", False)]}),
    (add_below, ["--fw-reg", "STD_BMAP=0", "--fw-reg", "A=1"],
     {"fw_reg": [("STD_BMAP", 0), ("A", 1)]}),
    (add_below, ["--deny", "1", "--deny", "0x84000050+16"],
     {"deny": [(1, 1), (0x8400_0050, 16)]}),
    (add_below, ["--forward", "1-2=f.py:g", "--forward", "3"],
     {"forward": [(1, 2, "f.py:g"), (3, 1, "")]}),
    (add_machine, EMPTY, {"cpus": 1, "mem": None, "core": DEFAULT_CORE, "append": "",
                          "initrd": None, "dtb": None, "conduit": None}),
    (add_machine, ["--cpus", "4", "--mem", "1G", "--core", "cortex-a53", "--conduit", "smc"],
     {"cpus": 4, "mem": 1 << 30, "core": "cortex-a53", "conduit": "smc"}),
    (judging, EMPTY, {"allow_exit": (), "tolerance": 0.0, "json": None, "junit": None,
                      "html": None}),
    (judging, ["--allow-exit", "0,3", "--tolerance", "5%", "--json", "-"],
     {"allow_exit": (0, 3), "tolerance": 5.0, "json": "-"}),
]  # fmt: skip


@pytest.mark.parametrize(("add", "words", "found"), PARSED)
def test_what_they_parse_to(add, words, found):
    assert vars(parse(add, *words)).items() >= found.items()


def test_a_command_may_leave_forwarding_out():
    options = parse(lambda parser: add_below(parser, forward_too=False))
    assert not hasattr(options, "forward")


@pytest.mark.parametrize("words", [
    ["--core", "cortex-m0"], ["--conduit", "eret"], ["--cpus", "many"], ["--mem", "-1"],
])  # fmt: skip
def test_what_they_refuse(capsys, words):
    with pytest.raises(SystemExit):
        parse(add_machine, *words)
    assert words[0] in capsys.readouterr().err


def test_the_shell_offers_profiles():
    parser = argparse.ArgumentParser()
    add_below(parser)
    (profile,) = [action for action in parser._actions if action.dest == "profile"]
    assert profile.completer(prefix="k") == profile_names()


# -- what they do --------------------------------------------------------------------------------


def below(*words: str, profile: str = "kvm-6.12") -> El2:
    el2 = El2(profile, FakeHost())
    apply_policy(el2, parse(add_below, *words))
    return el2


def test_nothing_asked_for_is_nothing_done():
    assert below().policy == El2("kvm-6.12").policy


DONE = [
    ("--services=-trng", TRNG_VERSION(), NOT_SUPPORTED),
    ("--services=-trng,+trng", TRNG_VERSION(), 0x1_0000),
    ("--services=+ptp", VERSION(), 0x1_0001),
    ("--fw-reg=STD_BMAP=0", TRNG_VERSION(), NOT_SUPPORTED),
    ("--fw-reg=PSCI_VERSION=0x10000", VERSION(), 0x1_0000),
    ("--deny=0x84000000", VERSION(), NOT_SUPPORTED),
    ("--deny=0x86000000-0x86000001", PTP(0), NOT_SUPPORTED),
]


@pytest.mark.parametrize(("word", "request_", "answer"), DONE)
def test_what_they_do(word, request_, answer):
    script(below(word)) << request_ >> answer


def test_a_target_is_loaded_before_the_start(tmp_path):
    """So that a mistake in it is told at once, and not with the first call."""
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("def answer(call): return 5\n")
    bad.write_text("1 / 0\n")
    assert "forwards" in below(f"--forward=0xC6000000={good}:answer").route(0xC600_0000).why
    assert below("--forward=0xC6000000").route(0xC600_0000).why.startswith("SMCCC filter forwards")
    for target in (f"{bad}:answer", f"{good}:nothing", f"{tmp_path / 'gone.py'}:answer"):
        with pytest.raises(EmuError):
            below(f"--forward=0xC6000000={target}")


@pytest.mark.parametrize(("word", "profile"), [
    ("--services=-hyperv", "kvm-6.12"), ("--services=-trng", "kvm-4.15"),
    ("--fw-reg=NO_SUCH=1", "kvm-6.12"), ("--deny=0x84000000", "kvm-6.1"),
    ("--deny=0x80000000", "kvm-6.12"),
])  # fmt: skip
def test_what_a_profile_has_not_is_the_users_mistake(word, profile):
    with pytest.raises(PolicyError):
        below(word, profile=profile)

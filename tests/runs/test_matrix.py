"""Combinations, and what a user may name."""

import os

import pytest

from emu.base.endings import Ending
from emu.base.errors import EmuError, one_line
from emu.judge.trial import Setup
from emu.runs.matrix import (
    Axes,
    Guest,
    distinct,
    find_profiles,
    guest_named,
    guests_below,
    is_good,
    make_cells,
    size_text,
    switches_text,
)
from emu.world.profile import profile_names
from matrix_kit import BROKEN, outcome, result

HELLO = Guest("hello", "guests/bin/hello.elf")


def test_every_combination_once_and_guests_slowest():
    axes = Axes(
        [HELLO, Guest("trng", "trng.elf")], ["kvm-6.1", "none"], ("hvc", "smc"), (1, 4),
        ("cortex-a53", "max"), (1 << 20, 2 << 20), (1, 2),
    )  # fmt: skip
    cells = make_cells(axes, Setup("", append="quiet", seconds=3))
    assert len({cell.key for cell in cells}) == len(cells) == 2**7
    assert [cell.guest for cell in cells] == ["hello"] * 64 + ["trng"] * 64
    assert all(cell.setup.append == "quiet" and cell.setup.seconds == 3 for cell in cells)
    assert all(os.path.isabs(cell.setup.image) for cell in cells)
    last = cells[-1].setup
    assert (last.profile, last.conduit, last.cpus, last.core) == ("none", "smc", 4, "max")
    assert (last.memory, last.seed) == (2 << 20, 2)


def test_the_same_twice_is_one_cell():
    assert len(make_cells(Axes([HELLO], ["kvm-6.1"], cpus=(1, 1)), Setup(""))) == 1


def test_services_are_withheld_in_turn_where_a_profile_has_them():
    axes = Axes([HELLO], ["kvm-6.12", "qemu-tcg", "none"], vary_services=True)
    cells = make_cells(axes, Setup("", services=(("trng", False),)))
    found = {name: [c.services for c in cells if c.profile == name] for name in axes.profiles}
    assert found["none"] == ["-trng"]
    assert found["qemu-tcg"] == ["-trng", "-trng,-psci"]
    assert found["kvm-6.12"][0] == "-trng"
    assert {"-trng,-psci", "-trng,-arch", "-trng,-pvtime"} < set(found["kvm-6.12"])


def test_paths_and_limits_do_not_make_another_cell():
    one, other = (
        make_cells(Axes([Guest("a", path)], ["none"]), Setup("", seconds=s, cycles=c))[0]
        for path, s, c in (("x/a.elf", 1, 2), ("y/a.elf", 3, 4))
    )
    assert one.key == other.key
    assert one.key != make_cells(Axes([Guest("a", "x")], ["none"], seeds=(1,)), Setup(""))[0].key


def test_a_cell_says_what_is_not_as_usual():
    assert str(result().cell) == "hello kvm-6.12"
    cell = result(
        conduit="smc", cpus=4, core="max", services=(("trng", False),), memory=1 << 30, seed=2
    ).cell
    assert str(cell) == "hello kvm-6.12 smc ×4 max -trng 1G seed=2"


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ("none", ["none"]),
        ("kvm-6.1*", ["kvm-6.1", "kvm-6.12", "kvm-6.17"]),
        ("none, kvm-6.1 ,none", ["none", "kvm-6.1"]),
        ("kvm-6.1,*", ["kvm-6.1", *(n for n in profile_names() if n != "kvm-6.1")]),
        ("qemu-tc[gh]", ["qemu-tcg"]),
    ],
)
def test_profiles_by_pattern(patterns, found):
    assert find_profiles(patterns) == found


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "kvm-6.1"\n')
    assert find_profiles(f"{path},none") == [str(path), "none"]
    (cell,) = make_cells(Axes([HELLO], [os.path.relpath(path)]), Setup(""))
    assert cell.setup.profile == str(path)


@pytest.mark.parametrize(
    ("patterns", "says"),
    [
        ("kvm6*", "no profile matches kvm6*: near are kvm-6"),
        ("zzzzzz*", "`hvcemu profiles` lists them"),
        (",", "names no profile"),
        ("kvm-6.1,kvm6.12", "did you mean kvm-6.12"),
        ("/nowhere/x.toml", "No such file"),
    ],
)
def test_a_profile_that_is_none(patterns, says):
    with pytest.raises(EmuError) as error:
        find_profiles(patterns)
    assert says in str(error.value)


def test_a_folder_is_every_elf_below_it(tmp_path):
    for name in ("b.elf", "a.elf", "deep/c.elf", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert [guest.name for guest in guests_below(str(tmp_path))] == ["a", "b", "deep/c"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmuError, match=r"no \*.elf"):
        guests_below(str(tmp_path / "empty"))


def test_two_files_of_one_name_are_told_apart():
    guests = [guest_named(path) for path in ("x/a.elf", "y/a.elf", "b", "x/../x/a.elf")]
    assert [guest.name for guest in distinct(guests)] == ["x/../x/a.elf", "y/a.elf", "b"]


@pytest.mark.parametrize(
    ("made", "allowed", "good"),
    [
        (outcome(), (), True),
        (outcome(Ending.EXIT, 3), (), False),
        (outcome(Ending.EXIT, 3), (3,), True),
        (outcome(Ending.EXIT, 3, verdicts=(BROKEN,)), (3,), False),
        (outcome(Ending.FAULT, 121), (121,), False),
        (outcome(verdicts=(BROKEN,)), (), False),
    ],
)
def test_what_is_good(made, allowed, good):
    assert is_good(made, frozenset(allowed)) is good


def test_words():
    assert [size_text(n) for n in (1 << 30, 3 << 20, 4096, 5, 0)] == ["1G", "3M", "4K", "5", "0"]
    assert switches_text((("trng", False), ("ptp", True))) == "-trng,+ptp"
    assert one_line("é\x1b[2J\n") == "é\\x1b[2J\\x0a"

"""Profiles: those that ship, how they are put together, and every way to get one wrong."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emu.world.profile
from emu.base.errors import EmuError, ProfileError
from emu.base.smccc import Conduit
from emu.cycles.trap_prices import PROFILES as PROFILES_OF_COSTS
from emu.machine.vm import Vm
from emu.world.monitor import El2
from emu.world.profile import data_folder, load_profile, profile_names, profile_of
from kit import PROFILES


@pytest.fixture
def write(tmp_path):
    def to_file(text: str | bytes, name: str = "mine") -> str:
        path = tmp_path / f"{name}.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return to_file


# --- what ships --------------------------------------------------------------------------------


def test_names_in_the_order_of_versions():
    names = profile_names()
    assert set(names) == set(PROFILES)
    kernels = [n for n in names if n.startswith("kvm-")]
    assert kernels == sorted(kernels, key=lambda n: [int(p) for p in n[4:].split(".")])


@pytest.mark.parametrize("name", PROFILES)
def test_shipped(name):
    profile = load_profile(name)
    assert profile.name == name == profile.lineage[0]
    assert profile.title
    assert load_profile(name) is profile
    for conduit in Conduit:
        assert profile.source(conduit, "other"), "every value has its source"
    for service in profile.services:
        assert profile.source("services", service)
        assert f"{name}.toml:" in profile.place("services", service) or len(profile.lineage) > 1


@pytest.mark.parametrize("name", PROFILES)
def test_every_number_that_ships_has_a_source(name):
    text = (data_folder("firmware") / f"{name}.toml").read_text()
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"(version|reset|id|values|unknown|other|filter|\d+)\s*=", line):
            assert "  # " in line, f"{name}.toml:{number}"


def test_versions_build_on_each_other():
    assert load_profile("kvm-6.17").lineage == (
        *("kvm-6.17", "kvm-6.12", "kvm-6.4", "kvm-6.1", "kvm-5.17", "kvm-4.15"),
    )


# Firmware registers by kernel (abi/C §C4: 4 in 5.17, 7 in 5.19, 8 in 6.15).
@pytest.mark.parametrize(
    ("name", "count"), [("kvm-4.15", 0), ("kvm-5.17", 4), ("kvm-6.1", 7), ("kvm-6.17", 8)]
)
def test_registers(name, count):
    assert len(load_profile(name).policy.definitions) == count


# Their ids (abi/C §C4) and what Firecracker's snapshots of 6.1 and 6.18 hosts hold.
REGISTERS = [
    ("PSCI_VERSION", 0x6030_0000_0014_0000, 0x1_0001, 0x1_0003),
    ("SMCCC_ARCH_WORKAROUND_1", 0x6030_0000_0014_0001, 2, 2),
    ("SMCCC_ARCH_WORKAROUND_2", 0x6030_0000_0014_0002, 0, 0),
    ("SMCCC_ARCH_WORKAROUND_3", 0x6030_0000_0014_0003, 1, 1),
    ("STD_BMAP", 0x6030_0000_0016_0000, 1, 1),
    ("STD_HYP_BMAP", 0x6030_0000_0016_0001, 1, 1),
    ("VENDOR_HYP_BMAP", 0x6030_0000_0016_0002, 3, 3),
    ("VENDOR_HYP_BMAP_2", 0x6030_0000_0016_0003, None, 0),
]


@pytest.mark.parametrize(("name", "number", "old", "new"), REGISTERS)
def test_register_values(name, number, old, new):
    key = f"KVM_REG_ARM_{name}"
    for profile, value in (("kvm-6.1", old), ("kvm-6.17", new)):
        policy = load_profile(profile).policy
        assert policy.values.get(key) == value
        if value is not None:
            assert policy.definitions[key].id == number
            assert policy.definitions[key].check(value) == value


def test_profiles_are_frozen_and_begin_with_nothing(write):
    profile = load_profile(write(""))
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.name = "other"
    assert (profile.unknown, profile.reply_registers) == ("not-supported", 4)
    switches = (profile.policy.filterable, profile.full_identifier, profile.sve_hint)
    assert not any(switches)
    assert (profile.services, profile.policy.definitions) == ({}, {})
    assert {profile.interface(conduit, 0) for conduit in Conduit} == {"undef"}


def test_promise_of_the_device_tree():
    promise = load_profile("qemu-tcg").promise
    assert promise.method == "hvc"
    assert dict(promise.cells)["cpu_on"] == 0xC400_0003
    assert load_profile("none").promise.method == ""


def test_data_lies_inside_the_package():
    assert (data_folder("firmware") / "none.toml").is_file()
    assert (data_folder("guests") / "hello.elf").is_file()


# --- putting together --------------------------------------------------------------------------


def test_child_over_parent(write):
    write(
        'title = "P"  # old\nfilter = true  # f\n[hvc]\nother = "smccc"  # p\n0 = "undef"\n'
        "[services.psci]  # psci.c\nversion = 2  # v\n[services.trng]\n"
        "[registers.R]\nid=1\nkind='bitmap'\nreset=0\nlimit=1\n[registers.S]\nid=1\n",
        "parent",
    )
    child = load_profile(
        write(
            'extends = "parent"\ntitle = "C"\nsmc = false\n[hvc]\n0 = "smccc"\n'
            "[services]\ntrng = false\npsci.version = 3\n[registers]\nS = false\n"
        )
    )
    assert (child.name, child.title, child.lineage) == ("mine", "C", ("mine", "parent"))
    assert child.interface(Conduit.HVC, 0) == child.interface(Conduit.HVC, 9) == "smccc"
    assert child.interface(Conduit.SMC, 0) == "undef"
    assert child.services == {"psci": {"version": 3}}
    assert list(child.policy.definitions) == ["R"]
    assert child.policy.filterable
    assert child.source("hvc", "0") == "", "an overridden value loses the parent's source"
    assert child.source("services", "psci", "version") == "psci.c"
    assert child.source("hvc", "other") == "p"
    assert child.source("title") == ""
    assert child.place("services", "psci", "version").endswith("mine.toml:8")
    assert child.place("hvc", "other").endswith("parent.toml:4")
    assert child.place("nowhere").endswith("mine.toml")


def test_nothing_to_switch_off_is_fine(write):
    profile = load_profile(
        write("hvc = false\ndevice_tree = false\n[services]\npsci=false\n[registers]\nR=false\n")
    )
    assert (profile.services, profile.policy.definitions) == ({}, {})
    assert profile.title == profile.name == "mine"


def test_extends_by_path_beside_it_or_shipped(write):
    write('title = "near"', "near")
    assert load_profile(write('extends = "near.toml"')).title == "near"
    assert load_profile(write('extends = "near.toml"')).lineage == ("mine", "near")
    assert load_profile(write('extends = "near"')).lineage == ("mine", "near")
    assert load_profile(write('extends = "none"')).lineage == ("mine", "none")


def test_a_file_of_ones_own_is_read_anew(write):
    assert load_profile(write('title = "a"')).title == "a"
    assert load_profile(write('title = "b"')).title == "b"


def test_sources_are_the_comments_outside_quotes(write):
    profile = load_profile(
        write(
            """title = "C#"  # why
[ "services" . psci ]# table
version = 2 # number
[services.arch]
levels = ['#', "\\"#"] # list
"""
        )
    )
    assert profile.source("title") == "why"
    assert profile.source("services", "psci") == "table"
    assert profile.source("services", "psci", "version") == "number"
    assert profile.source("services", "arch", "levels") == "list"
    assert profile.source("device_tree") == ""


# --- mistakes ----------------------------------------------------------------------------------

MISTAKES = [  # text, line, message
    ("title = ", 1, "Invalid value"),
    ("\n\n[hvc\n", 3, "Expected"),
    ('title = """never\nended', 2, "Unterminated"),
    ("title = 1\ntitle = 2", 2, "Cannot overwrite"),
    (b"# ok\n\ntitle = '\xff'", 3, "not UTF-8"),
    ("\nreply_registers = 9", 2, "1 to 4"),
    ("\ntitel = 'x'", 2, "did you mean title"),
    ("# a\n[services]\n[services.psci]\nx = {}", 4, "not a table"),
    ("\n[[services]]", 2, "a table, or false"),
    ("\n\n[services.psci.deep]", 3, "not a table"),
    ("\n[hvc]\n0 = 'jailhouse'", 3, "an interface is one of"),
    ("\n[hvc]\nOther = 'smccc'", 3, "an immediate is"),
    ("\n[registers.R]\nkind = 'bitmap'\nid = 1\nreset = 0", 2, "register R lacks limit"),
    ("extends = 'kvm-6.99'", 1, "unknown profile kvm-6.99: did you mean kvm-6"),
    ("\nextends = 'mine'", 2, "mine extends itself"),
    ("\nextends = './mine.toml'", 2, "mine extends itself"),
    ("extends = 7", 1, "extends must be a text"),
    ("\n[device_tree]\ncompatible = [\n 1 ]", 3, "list of texts"),
    ("device_tree.cells.x = 'a'", 1, "32 bits"),
]


@pytest.mark.parametrize(("text", "line", "says"), MISTAKES)
def test_mistakes_name_file_and_line(write, text, line, says):
    path = write(text)
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000,
        "title = " + "9" * 5000,
        '"a\\nb" = 1',
        '"" = 1',
    ],
)
def test_mistakes_without_a_line_name_the_file(write, text):
    path = write(text)
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.toml", ".", "nul\0.toml", "x" * 300 + ".toml"])
def test_no_such_file(tmp_path, name):
    path = f"{tmp_path}/{name}" if name != "." else f"{tmp_path}.toml"
    with pytest.raises(ProfileError, match=r"\.toml: "):
        load_profile(path)


def test_a_folder_is_no_profile(tmp_path):
    (tmp_path / "dir.toml").mkdir()
    with pytest.raises(ProfileError, match="Is a directory"):
        load_profile(str(tmp_path / "dir.toml"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("kvm-6.13", "did you mean kvm-6.1"),
        ("", "lists them"),
        ("../firmware/none", "unknown profile"),
        ("x" * 300, "lists them"),
        ("a\nb\0", r"a\\x0ab\\x00"),
    ],
)
def test_unknown_profile(name, says):
    with pytest.raises(ProfileError, match=says):
        load_profile(name)


def test_circle_of_two_and_endless_chain(write, monkeypatch):
    write('extends = "two"', "one")
    path = write('\nextends = "one"', "two")
    with pytest.raises(ProfileError, match=r"one\.toml:1: two extends itself"):
        load_profile(path)
    monkeypatch.setattr(emu.world.profile, "MAX_DEPTH", 2)
    for n in range(4):
        path = write(f'extends = "chain{n - 1}"' if n else "", f"chain{n}")
    with pytest.raises(ProfileError, match="extends itself"):
        load_profile(path)


# --- fuzz --------------------------------------------------------------------------------------

TEXTS = [p.read_text() for p in sorted(data_folder("firmware").glob("*.toml"))]
SETTINGS = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100
)


def outcome(path: str) -> None:
    """A profile that can be asked, or one line that names the file."""
    message = ""
    try:
        El2(load_profile(path)).hypercall(0x8000_0001, 0x8000_8000)
    except EmuError as error:
        message = str(error)
    if message:
        assert path in message or ".toml:" in message
        assert len(message.splitlines()) == 1


@SETTINGS
@given(st.text() | st.binary(max_size=200))
def test_fuzz_random_text(write, text):
    outcome(write(text.encode("utf-8", "replace") if isinstance(text, str) else text, "random"))


words = sorted({w for text in TEXTS for w in re.findall(r"[\w.-]+|[\[\]={}\"'#\n]", text)})
tokens = st.lists(st.sampled_from(words) | st.sampled_from([" = ", "\n", "[", "]", "false"]))


@SETTINGS
@given(tokens)
def test_fuzz_tokens(write, parts):
    outcome(write("".join(parts), "tokens"))


@SETTINGS
@given(st.sampled_from(TEXTS), st.integers(0, 2**32))
def test_fuzz_mutations(write, text, seed):
    rng = random.Random(seed)
    changed = list(
        itertools.chain.from_iterable(
            re.findall(r"[\w.-]+|\s+|.", line + "\n") for line in text.splitlines()
        )
    )
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        how = rng.choice(["drop", "double", "swap", "word"])
        if how == "drop":
            changed[at] = ""
        elif how == "double":
            changed[at] *= 2
        elif how == "swap":
            other = rng.randrange(len(changed))
            changed[at], changed[other] = changed[other], changed[at]
        else:
            changed[at] = rng.choice([*words, "-1", "1e9", "true", "[]", "{}", "0x" + "F" * 40])
    outcome(write("".join(changed), "mutant"))


@pytest.mark.parametrize("name", profile_names())
def test_tables_make_the_same_profile_again(name):
    """A snapshot keeps a profile as its tables; every field is in them."""
    found = load_profile(name)
    again = profile_of(found.name, found.lineage, found.tables(), found.sources, found.places)
    assert again == found


@pytest.mark.parametrize(
    ("name", "costs"),
    [("kvm-4.15", "kvm-vhe"), ("kvm-6.17", "kvm-vhe"), ("xen", "xen"), ("none", "zero"),
     ("qemu-tcg", "zero")],
)  # fmt: skip
def test_what_a_trap_costs_below_it(name, costs):
    """A name that trap_prices.py has, inherited like all else; charged where a core is modelled."""
    assert load_profile(name).trap_costs == costs
    assert costs in PROFILES_OF_COSTS
    hello = data_folder("guests") / "hello.elf"
    assert Vm(hello, profile=name).trap_costs == "zero"
    assert Vm(hello, profile=name, core="cortex-a53").trap_costs == costs
    assert Vm(hello, profile=name, core="cortex-a53", trap_costs="tfa-n1").trap_costs == "tfa-n1"
    assert Vm(hello, profile=name, core="cortex-a53", timing="flat").trap_costs == "zero"


@pytest.mark.parametrize("name", PROFILES)
def test_every_shipped_profile_names_costs_that_exist(name):
    assert load_profile(name).trap_costs in PROFILES_OF_COSTS


def test_costs_that_do_not_exist_name_the_file_and_the_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "kvm-6.12"\n\ntrap_costs = "kvm-3000"  # nobody\n')
    hello = data_folder("guests") / "hello.elf"
    with pytest.raises(EmuError, match=r"mine\.toml:3: no trap costs 'kvm-3000'; there are kvm-"):
        Vm(hello, profile=str(path), core="cortex-a53")
    Vm(hello, profile=str(path))  # an instruction is a cycle, and a trap costs nothing

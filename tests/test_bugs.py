"""Every guest of guests/bugs is caught as its header says, and by nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from list_bugs import BUGS, README, Bug, catchers, command, read, read_all, table

from emu.base.endings import Ending
from emu.cli import arguments
from emu.cli.main import main
from emu.judge import mutate  # noqa: F401 — every module that declares rules
from emu.judge.discovery import RULES
from emu.judge.faults import mutations
from emu.judge.mutate import Class, prepare, run_mutant
from emu.judge.trial import Setup, attempt
from emu.runs.bundled import find_image

SEEN = read_all()
NAMES = [bug.name for bug in SEEN]
ENOUGH, LISTED = 25, range(1, 49)
"""How many different bugs are shown at least, and the numbers of the list they come from."""
KEYS = {"profile", "cpus", "conduit", "services", "deny", "max-cycles"}
LONGEST = 72
"""Lines of a source: a bug is small, our choice."""


def setup_of(bug: Bug) -> Setup:
    """The world of a bug, from the options of its header."""
    options = bug.options
    deny = [arguments.id_range(text) for text in filter(None, [options.get("deny")])]
    return Setup(
        find_image(f"bugs/{bug.name}"),
        options["profile"],
        options.get("conduit", ""),
        int(options["cpus"]),
        services=tuple(arguments.services(options.get("services", ""))),
        deny=tuple(deny),
        cycles=int(options.get("max-cycles", 50_000_000)),
        follow=True,
    )


@pytest.mark.parametrize("bug", SEEN, ids=NAMES)
def test_a_bug_is_caught_as_its_header_says(bug):
    outcome = attempt(setup_of(bug))
    assert sorted({v.rule for v in outcome.verdicts}) == sorted(bug.rules), outcome.console
    if bug.ending:
        word, status = bug.ending
        assert outcome.ending == word, outcome.console
        assert status in (None, outcome.status)


@pytest.mark.parametrize("bug", [bug for bug in SEEN if bug.mutants], ids=lambda bug: bug.name)
def test_a_mutant_comes_to_what_the_header_says(bug):
    subject = prepare(setup_of(bug))
    known = {str(mutation): mutation for mutation in mutations(subject.trace)}
    for mutant in bug.mutants:
        result = run_mutant(subject, known[mutant.name])
        assert result.verdict == mutant.verdict, result
        assert result.why.startswith(mutant.rule)


WORLDS = sorted({tuple(sorted(bug.options.items())) for bug in SEEN})


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: "-".join(v for _, v in world))
@pytest.mark.parametrize("guest", ["smccc_discover", "psci_cpu_on"])
def test_the_world_is_not_to_blame(guest, world):
    """A guest that is right breaks no rule where one that is wrong does."""
    bug = SEEN[0]._replace(options={**dict(world), "max-cycles": "50000000"})
    setup = setup_of(bug)._replace(image=find_image(guest))
    assert attempt(setup).verdicts == ()


@pytest.mark.parametrize("bug", [bug for bug in SEEN if bug.rules], ids=lambda bug: bug.name)
def test_the_command_of_the_table_shows_it(bug, capfd):
    program, *words = shlex.split(command(bug))
    assert program == "hvcemu"
    assert main([*words, "--quiet"]) != 0
    said = capfd.readouterr().err
    assert [rule for rule in bug.rules if f"{rule}: " not in said] == []


# -- the collection -----------------------------------------------------------------------------


def test_there_are_enough_of_them():
    numbers = {bug.number for bug in SEEN}
    assert len(numbers) >= ENOUGH
    assert numbers <= set(LISTED)


def test_the_table_is_current():
    assert README.read_text() == table(SEEN), "run tools/list_bugs.py"


def test_every_guest_is_built_and_bundled():
    built = {path.stem for path in (BUGS.parent / "bin" / "bugs").glob("*.elf")}
    assert built == set(NAMES)
    package_data = (BUGS.parent.parent / "pyproject.toml").read_text()
    assert '"emu.guests" = ["*.elf", "bugs/*.elf"]' in package_data


@pytest.mark.parametrize("bug", SEEN, ids=NAMES)
def test_a_header_says_what_exists(bug):
    assert set(bug.options) <= KEYS
    assert set(bug.rules) <= set(RULES)
    assert bug.ending is None or bug.ending[0] in list(Ending)
    assert {mutant.verdict for mutant in bug.mutants} <= set(Class)
    assert catchers(bug)


@pytest.mark.parametrize("bug", SEEN, ids=NAMES)
def test_a_source_is_small_and_says_what_is_right(bug):
    lines = (BUGS / bug.file).read_text().splitlines()
    assert len(lines) <= LONGEST
    assert max(map(len, lines)) <= 100
    assert any(line.startswith(" * Right") for line in lines)


# -- reading headers ----------------------------------------------------------------------------

HEADER = """\
/*
 * {name}: what it does.
 */
// bug: 5 somewhere
// run: profile=kvm-6.12 cpus=2 deny=0x84000008
{caught}
"""


def written(folder: Path, caught: str, name: str = "guest") -> Path:
    source = folder / f"{name}.c"
    source.write_text(HEADER.format(name="guest", caught=caught))
    return source


def test_reading_a_header(tmp_path):
    caught = ('// caught: rule one-rule two-rules\n// caught: ending exit 70\n'
              '// caught: mutant wrong belief by "A(B) ones" as a-rule')  # fmt: skip
    bug = read(written(tmp_path, caught))
    assert (bug.name, bug.number, bug.reference) == ("guest", 5, "somewhere")
    assert bug.title == "what it does"
    assert bug.options == {"profile": "kvm-6.12", "cpus": "2", "deny": "0x84000008"}
    assert (bug.rules, bug.ending) == (("one-rule", "two-rules"), ("exit", 70))
    assert bug.mutants == (("wrong belief", "A(B) ones", "a-rule"),)
    assert command(bug) == "hvcemu run bugs/guest --check --cpus 2 --deny 0x84000008"
    assert read_all(tmp_path) == [bug]


@pytest.mark.parametrize(
    ("caught", "name"),
    [("", "guest"), ("// caught: somehow", "guest"), ("// caught: mutant hang", "guest"),
     ("// caught: ending idle", "another")],
)  # fmt: skip
def test_a_header_that_says_nothing_is_refused(tmp_path, caught, name):
    with pytest.raises(ValueError, match=rf"{name}\.c: "):
        read(written(tmp_path, caught, name))

"""The headers of guests/bugs: which bug each guest rebuilds, how it is run and what catches it.

Beside the essay a source has three kinds of lines:

    // bug: NUMBER REFERENCE            the number of the list that the collection was made from
    // run: profile=P cpus=N KEY=VALUE  the keys are options of `hvcemu run` without their dashes
    // caught: rule NAME NAME ...       the rules that `hvcemu run --check` finds broken: no others
    // caught: ending WORD STATUS       how the run ends (emu/base/endings.py), with its exit status
    // caught: mutant CLASS by "MUTANT" as RULE    what `hvcemu mutate` makes of one mutant

A guest without a `rule` line breaks none in a plain run. STATUS and `as RULE` may be missing.
Run as a program it writes guests/bugs/README.md, the table of all of them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

BUGS = Path(__file__).resolve().parent.parent / "guests" / "bugs"
README = BUGS / "README.md"
ENDING = re.compile(r"ending (\w+)(?: (\d+))?")
MUTANT = re.compile(r'mutant ([\w ]+) by "([^"]+)"(?: as (\S+))?')
INTRODUCTION = """\
# Real bugs, rebuilt

Each guest here makes a mistake that was made in earnest: it is small, otherwise right, and caught
by name. The header of its source tells what happened, where, and what the right code looks like;
`hvcemu rules NAME` explains a rule. This table is written by tools/list_bugs.py from the headers.

"""


class Mutant(NamedTuple):
    """One mutant: the class it must come to, its name, and the rule it breaks if one is told."""

    verdict: str
    name: str
    rule: str


class Bug(NamedTuple):
    """What a source's header says."""

    file: str
    number: int
    reference: str
    title: str
    options: dict[str, str]
    rules: tuple[str, ...]
    ending: tuple[str, int | None] | None
    mutants: tuple[Mutant, ...]

    @property
    def name(self) -> str:
        return Path(self.file).stem


def read(source: Path) -> Bug:
    """The header of one source; ValueError names a line that is missing or says nothing."""
    text = source.read_text()
    number, reference = _line(source, text, r"// bug: (\d+) (.+)").groups()
    options = _line(source, text, r"// run: (profile=.+)")[1]
    title = _line(source, text, rf" \* {source.stem}: (.+)\.")[1]
    caught = re.findall(r"^// caught: (.*)$", text, re.MULTILINE)
    rules = [name for line in caught if line.startswith("rule ") for name in line.split()[1:]]
    endings = list(filter(None, map(ENDING.fullmatch, caught)))
    mutants = list(filter(None, map(MUTANT.fullmatch, caught)))
    if not caught or len(caught) != (len(endings) + len(mutants) + bool(rules)):
        raise ValueError(f"{source}: // caught: lines say rule, ending or mutant, or are missing")
    return Bug(
        source.name, int(number), reference, title,
        dict(part.split("=", 1) for part in options.split()),
        tuple(rules),
        (endings[0][1], int(endings[0][2]) if endings[0][2] else None) if endings else None,
        tuple(Mutant(m[1], m[2], m[3] or "") for m in mutants),
    )  # fmt: skip


def _line(source: Path, text: str, pattern: str) -> re.Match[str]:
    found = re.search(rf"^{pattern}$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"{source}: no line like {pattern}")
    return found


def read_all(folder: Path = BUGS) -> list[Bug]:
    """Every bug, by its number."""
    sources = (path for path in folder.iterdir() if path.suffix in (".c", ".S"))
    return sorted(map(read, sources), key=lambda bug: (bug.number, bug.name))


def command(bug: Bug) -> str:
    """How to see it."""
    words = [f"--{key}={value}" if value[0] in "+-" else f"--{key} {value}"
             for key, value in bug.options.items() if (key, value) not in _DEFAULTS]  # fmt: skip
    if bug.rules or bug.ending:
        return " ".join((f"hvcemu run bugs/{bug.name} --check", *words))
    return " ".join((f"hvcemu mutate bugs/{bug.name}", *words))


_DEFAULTS = (("profile", "kvm-6.12"), ("cpus", "1"))


def catchers(bug: Bug) -> list[str]:
    """What catches it, a phrase each."""
    found = [f"`{rule}`" for rule in bug.rules]
    found += [f"ends: {bug.ending[0]}"] if bug.ending and not bug.rules else []
    return found + [f"mutant `{m.name}`: {m.verdict}" + (f" (`{m.rule}`)" if m.rule else "")
                    for m in bug.mutants]  # fmt: skip


def table(bugs: list[Bug]) -> str:
    """The README."""
    rows = ["| bug | seen in | what it does | caught by | to see it |", "|---|---|---|---|---|"]
    for bug in bugs:
        caught = "; ".join(catchers(bug))
        rows.append(f"| {bug.number} | {bug.reference} | [{bug.name}]({bug.file}): {bug.title} "
                    f"| {caught} | `{command(bug)}` |")  # fmt: skip
    return INTRODUCTION + "\n".join(rows) + "\n"


def main() -> int:
    """Write the table; 1 where a header is wrong."""
    try:
        README.write_text(table(read_all()))
    except ValueError as error:
        print(f"list_bugs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`hvcemu rules`: the rules of discovery, as a list or explained."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emu.base.errors import EmuError
from emu.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from emu.judge.rules import Rule

ORDER = 50
SUMMARY = "list the rules of discovery, or explain some of them"
EXAMPLES = ("hvcemu rules", "hvcemu rules conduit-unknown", "hvcemu rules --json")
WIDTH = 78


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which rules."""
    parser.add_argument("name", nargs="*", metavar="NAME", help="a rule")
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def run(options: Any) -> int:
    """Print them."""
    from emu.judge.discovery import RULES

    chosen = _chosen(RULES, options.name)
    if options.json:
        print_json([rule._asdict() for rule in chosen])
    elif not options.name:
        print_table(("rule", "what it forbids"), [(r.name, r.title) for r in chosen])
    else:
        for rule in chosen:
            _explain(rule)
    return 0


def _chosen(rules: Mapping[str, Rule], names: Sequence[str]) -> list[Rule]:
    """The named ones; all where none is named."""
    from difflib import get_close_matches

    for name in names:
        if name not in rules:
            near = " or ".join(get_close_matches(name, rules))
            hint = f"did you mean {near}?" if near else "`hvcemu rules` lists them"
            raise EmuError(f"no rule {name}; {hint}")
    return [rules[name] for name in names or rules]


def _explain(rule: Rule) -> None:
    print(f"{rule.name}: {rule.title}")
    for label, text in (("source", rule.source), ("example", rule.example), ("fix", rule.fix)):
        print(textwrap.fill(text, WIDTH, initial_indent=f"  {label:<9}",
                            subsequent_indent=" " * 11))  # fmt: skip

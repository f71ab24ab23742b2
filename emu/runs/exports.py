"""Results for programs: JSON with everything, JUnit XML for what shows test reports.

JSON: `{"schema": 1, "version", "command", "started", "cells": [...]}`, a cell with its names, its
`setup`, `good`, the outcome's fields (trial.py) and the image's SHA-256. JUnit: one suite per
guest, one case per cell; a cell that is not good is a failure, or an error where it was never
run to an end (lost, refused). The XML is the subset that Jenkins, GitLab and GitHub's actions
read: testsuites, testsuite, testcase, failure, error, system-out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from emu.base.endings import Ending
from emu.runs.grid import reason, word
from emu.runs.matrix import Result, is_good

SCHEMA = 1
CONSOLE_MAX = 1 << 16
"""Characters of a console in XML, from its end: readers keep all of it in memory."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Origin(NamedTuple):
    """Where results come from: hvcemu's version, the command, and when as ISO text."""

    version: str
    command: str
    started: str


def cell_object(result: Result, allowed: frozenset[int]) -> dict[str, Any]:
    """All that is known of a cell, as JSON takes it."""
    cell, outcome, digest = result
    return {
        "guest": cell.guest,
        "profile": cell.profile,
        "conduit": cell.setup.conduit,
        "cpus": cell.setup.cpus,
        "core": cell.setup.core,
        "services": cell.services,
        "good": is_good(outcome, allowed),
        **outcome._asdict(),
        "calls": [call._asdict() for call in outcome.calls],
        "verdicts": [verdict._asdict() for verdict in outcome.verdicts],
        "setup": cell.setup._asdict(),
        "image_sha256": digest,
    }


def as_json(results: Sequence[Result], origin: Origin, allowed: frozenset[int]) -> str:
    """One JSON object, a cell on each line."""
    head = json.dumps({"schema": SCHEMA, **origin._asdict()}).removesuffix("}")
    cells = ",\n".join(json.dumps(cell_object(result, allowed)) for result in results)
    return f'{head}, "cells": [\n{cells}\n]}}\n'


def as_junit(results: Sequence[Result], origin: Origin, allowed: frozenset[int]) -> str:
    """A JUnit report."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="hvcemu" {_sums(results, allowed)}>',
    ]
    for guest, group in groupby(results, key=lambda result: result.cell.guest):
        cells = list(group)
        time = f"timestamp={_attribute(origin.started)}"
        lines.append(f"<testsuite name={_attribute(guest)} {time} {_sums(cells, allowed)}>")
        for result in cells:
            lines += _case(result, allowed)
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _case(result: Result, allowed: frozenset[int]) -> list[str]:
    outcome = result.outcome
    name = str(result.cell).removeprefix(f"{result.cell.guest} ")
    lines = [
        f"<testcase classname={_attribute(result.cell.guest)} name={_attribute(name)} "
        f'time="{outcome.seconds:.6f}">'
    ]
    if not is_good(outcome, allowed):
        tag = "error" if _never_ran(result) else "failure"
        verdicts = (f"{verdict.rule}: {verdict.text}" for verdict in outcome.verdicts)
        message = ": ".join(filter(None, (word(outcome), reason(outcome))))
        text = "\n".join(filter(None, (outcome.detail, *verdicts)))
        lines.append(
            f"<{tag} type={_attribute(outcome.ending)} message={_attribute(message)}>"
            f"{_text(text)}</{tag}>"
        )
    if outcome.console:
        lines.append(f"<system-out>{_text(outcome.console[-CONSOLE_MAX:])}</system-out>")
    return [*lines, "</testcase>"]


def _never_ran(result: Result) -> bool:
    return result.outcome.ending in (Ending.LOST, Ending.REFUSED)


def _sums(results: Sequence[Result], allowed: frozenset[int]) -> str:
    errors = sum(_never_ran(result) for result in results)
    bad = sum(not is_good(result.outcome, allowed) for result in results)
    seconds = sum(result.outcome.seconds for result in results)
    return (
        f'tests="{len(results)}" failures="{bad - errors}" errors="{errors}" time="{seconds:.6f}"'
    )


def _text(text: str) -> str:
    """What XML can hold of a text: a guest may print anything."""
    from xml.sax.saxutils import escape  # 25 ms, for it loads an HTTP client

    return escape(_NO_XML.sub("\ufffd", text))


def _attribute(text: str) -> str:
    from xml.sax.saxutils import quoteattr

    return quoteattr(_NO_XML.sub("\ufffd", text))

"""The commands that judge guests: `rules`, `mutate`, and what `run --check` says."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emu.base.endings import STATUS_INTERRUPTED
from emu.base.errors import EmuError
from emu.cli.commands import print_json, print_table
from emu.judge.discovery import RULES, Verdict
from emu.judge.verdicts import verdict_lines, verdict_summary
from emu.runs.bundled import find_image

SHOWN = 40
"""Survivors that are listed; --json has them all."""
WIDTH = 78


def rules(options: Any) -> int:
    """`hvcemu rules`."""
    if options.json:
        print_json([RULES[name]._asdict() for name in _chosen(options.name)])
        return 0
    if not options.name:
        print_table(("rule", "what it forbids"), [(r.name, r.title) for r in RULES.values()])
        return 0
    for name in _chosen(options.name):
        rule = RULES[name]
        print(f"{rule.name}: {rule.title}")
        for label, text in (("source", rule.source), ("example", rule.example), ("fix", rule.fix)):
            print(textwrap.fill(text, WIDTH, initial_indent=f"  {label:<9}",
                                subsequent_indent=" " * 11))
    return 0


def _chosen(names: Sequence[str]) -> list[str]:
    from difflib import get_close_matches

    for name in names:
        if name not in RULES:
            near = " or ".join(get_close_matches(name, RULES))
            hint = f"did you mean {near}?" if near else "`hvcemu rules` lists them"
            raise EmuError(f"no rule {name}; {hint}")
    return list(names) or list(RULES)


def mutate(options: Any) -> int:
    """`hvcemu mutate`."""
    from emu.judge.faults import choose, mutations
    from emu.judge.mutate import counts, prepare, score, survivors
    from emu.judge.trial import attempt
    from emu.runs.campaign import header, open_record

    setup = setup_of(options)
    subject = prepare(setup, limit=options.max_cycles)
    mutants = choose(mutations(subject.trace), options.budget, options.seed)
    record = None
    if options.out:
        head = header(setup, options.seed, options.budget, options.max_cycles)
        record = open_record(options.out, head)
    results: list[Any] = []
    try:
        _run_campaign(options, setup, subject, mutants, record, results)
    except KeyboardInterrupt:
        hint = "the same command goes on" if record else "--out FILE keeps results to go on with"
        print(f"hvcemu: interrupted after {len(results)} of {len(mutants)} mutants; {hint}",
              file=sys.stderr)
        return STATUS_INTERRUPTED
    own = attempt(setup._replace(follow=True)).verdicts
    lost = survivors(results)
    if options.json:
        print_json({
            "image": setup.image, "profile": setup.profile, "score": round(score(results), 4),
            "classes": dict(counts(results)), "verdicts": [v._asdict() for v in own],
            "survivors": [result._asdict() for result in lost],
        })  # fmt: skip
    else:
        _print_report(setup.image, setup.profile, results, own, options.quiet)
    return 1 if lost or own else 0


def _run_campaign(
    options: Any, setup: Any, subject: Any, mutants: Sequence[Any], record: Any,
    results: list[Any],
) -> None:  # fmt: skip
    """Run what is not yet in the record; `results` grows."""
    from emu.judge.mutate import COPED
    from emu.runs.campaign import default_jobs, run_all
    from emu.runs.progress import Progress

    done = record.done if record else {}
    results += [done[str(mutation)] for mutation in mutants if str(mutation) in done]
    left = [mutation for mutation in mutants if str(mutation) not in done]
    progress = Progress(
        io.StringIO() if options.quiet else sys.stderr, len(mutants), done=len(results),
        what="mutants", bad="not coped with",
    )  # fmt: skip
    bad = sum(result.verdict not in COPED for result in results)
    jobs = options.jobs or default_jobs(len(left))
    try:
        for result in run_all(subject, setup, left, jobs, options.max_cycles):
            results.append(result)
            if record:
                record.append(result)
            bad += result.verdict not in COPED
            progress.update(len(results), bad)
    finally:
        progress.clear()


def _print_report(
    image: str, profile: str, results: Sequence[Any], own: Sequence[Verdict], quiet: bool
) -> None:
    from emu.judge.mutate import counts, score, survivors

    if own:
        print(f"without any fault, {verdict_summary(own)}:")
        for line in verdict_lines(own):
            print(f"  {line}")
    classes = ", ".join(f"{number} {name}" for name, number in counts(results) if number)
    print(f"{image} under {profile}: {len(results)} mutants: {classes}")
    lost = survivors(results)
    if lost and not quiet:
        print()
        rows = [(r.verdict, r.mutant, r.why) for r in lost[:SHOWN]]
        print_table(("survivors", "mutant", "because"), rows)
        if len(lost) > SHOWN:
            print(f"… and {len(lost) - SHOWN} more; --json lists all")
        print()
    print(f"score {score(results):.1%}: mutants the guest shrugged off, did without, or reported")


def fuzz(options: Any) -> int:
    """`hvcemu fuzz`."""
    from emu.judge import fuzz as fuzzing
    from emu.judge.callspec import parse

    specs = None
    if options.spec:
        specs = parse(_text(options.spec), options.spec)
    target = _fuzz_target(options, specs)
    with fuzzing.nothing_kept():
        failure = fuzzing.fuzz(
            target, specs=specs, sanity=options.sanity, examples=options.examples,
            seed=options.seed,
        )  # fmt: skip
    name = options.target or f"the services of {options.profile}"
    if failure is None:
        print(f"{name}: {options.examples:,} series of calls, every promise kept")
        return 0
    print(f"{name} breaks a promise")
    for line in failure.lines():
        print(line)
    return 1


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise EmuError(f"{path}: is no text: write the description in UTF-8") from None


def _fuzz_target(options: Any, specs: Any) -> Any:
    """What is named: nothing (the profile), a service, or a function that needs a --spec."""
    from emu.cli.runner import load_module
    from emu.judge import fuzz as fuzzing
    from emu.world.service import Service

    if not options.target:
        return fuzzing.of_profile(options.profile)
    path, _, name = options.target.rpartition(":")
    if not path or not Path(path).is_file():
        raise EmuError(f"{options.target}: give FILE.py:NAME, the file must exist")
    found = getattr(load_module(path), name, None)
    if isinstance(found, type) and issubclass(found, Service):
        return fuzzing.of_service(found, options.profile)
    if not callable(found):
        raise EmuError(f"{path} has no service and no function {name}")
    if specs is None:
        raise EmuError(f"{options.target} is a function: describe its calls with --spec FILE")
    return fuzzing.of_callback(found, specs)


def setup_of(options: Any) -> Any:
    """The `Setup` that options describe."""
    from emu.images.boot import default_memory
    from emu.judge.trial import SECONDS, Setup

    image = find_image(options.image)
    return Setup(
        image=image, profile=options.profile, conduit=options.conduit or "",
        cpus=options.cpus, core=options.core, services=tuple(options.services),
        registers=tuple(options.fw_reg), deny=tuple(options.deny),
        memory=options.mem or default_memory(image), append=options.append,
        initrd=options.initrd, dtb=options.dtb, seed=options.seed,
        seconds=options.timeout or SECONDS,
    )  # fmt: skip

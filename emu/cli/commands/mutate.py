"""`hvcemu mutate`: wrong answers, one in each run, and how a guest takes them."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emu.base.endings import STATUS_INTERRUPTED
from emu.cli.arguments import positive, seconds
from emu.cli.options import add_below, add_machine
from emu.cli.printing import print_json, print_table
from emu.runs.bundled import find_image

if TYPE_CHECKING:
    from emu.judge.discovery import Verdict
    from emu.judge.trial import Setup

ORDER = 40
SUMMARY = "give a guest wrong answers, one in each run, and see how it takes them"
EXAMPLES = (
    "hvcemu mutate smccc_discover",
    "hvcemu mutate probe_blind --profile kvm-6.1 --json",
    "hvcemu mutate guest.elf --budget 1000 --seed 7 --out guest.mutants",
    "",
    "with --out an interrupted campaign goes on where it was",
    "exit status: 0 no survivors and no rule broken; 1 otherwise; 2 your mistake",
)
SHOWN = 40
"""Survivors that are listed; --json has them all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The guest, its machine, what lies below it, and how many mutants."""
    parser.add_argument("image", metavar="IMAGE", help="a guest, as `run` takes it")
    add_machine(parser)
    add_below(parser, forward_too=False, seeded="the entropy and of the choice")
    group = parser.add_argument_group("the campaign")
    group.add_argument(
        "--budget", type=positive, metavar="N",
        help="run so many mutants: a choice, or more (all systematic ones)",
    )
    group.add_argument("--jobs", type=positive, metavar="N", help="processes (all processors)")
    group.add_argument("--out", metavar="FILE", help="keep results as JSON lines, and go on there")
    group.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="host time a mutant may take (60)"
    )
    group.add_argument(
        "--max-cycles", type=positive, metavar="N",
        help="cycle at which a mutant hangs (four times the guest's own and 20 million)",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.add_argument("--quiet", action="store_true", help="no progress, no list of survivors")


def run(options: Any) -> int:
    """Run the mutants that are not yet in the record, and print what all of them showed."""
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
              file=sys.stderr)  # fmt: skip
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
        _print_report(setup, results, own, options.quiet)
    return 1 if lost or own else 0


def setup_of(options: Any) -> Setup:
    """The guest in its world, as the options describe it."""
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


def _run_campaign(
    options: Any, setup: Setup, subject: Any, mutants: Sequence[Any], record: Any,
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
    setup: Setup, results: Sequence[Any], own: Sequence[Verdict], quiet: bool
) -> None:
    from emu.judge.mutate import counts, score, survivors
    from emu.judge.verdicts import verdict_lines, verdict_summary

    if own:
        print(f"without any fault, {verdict_summary(own)}:")
        for line in verdict_lines(own):
            print(f"  {line}")
    classes = ", ".join(f"{number} {name}" for name, number in counts(results) if number)
    print(f"{setup.image} under {setup.profile}: {len(results)} mutants: {classes}")
    lost = survivors(results)
    if lost and not quiet:
        print()
        rows = [(r.verdict, r.mutant, r.why) for r in lost[:SHOWN]]
        print_table(("survivors", "mutant", "because"), rows)
        if len(lost) > SHOWN:
            print(f"… and {len(lost) - SHOWN} more; --json lists all")
        print()
    print(f"score {score(results):.1%}: mutants the guest shrugged off, did without, or reported")

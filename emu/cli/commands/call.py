"""`hvcemu call`: one call of one's own, and its answer."""

from __future__ import annotations

import argparse
from typing import Any

from emu.base.errors import EmuError
from emu.base.smccc import Call, Conduit
from emu.cli.arguments import function, number
from emu.cli.options import add_below, apply_policy
from emu.cli.printing import print_json, print_lines

ORDER = 70
SUMMARY = "make one call, without a guest"
EXAMPLES = (
    "hvcemu call 0x8600FF01 --profile kvm-6.1",
    "hvcemu call 0x84000053 96 --seed 7",
    "hvcemu call 0x84000053 0x40 --profile kvm-6.12 --why",
    "hvcemu call 0x84000000 --conduit smc --imm 1 --json",
    "hvcemu call xen:xen_version 0 --profile xen   by Xen's own HVC, number in x16",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The call, and who answers."""
    parser.add_argument(
        "id", type=function, metavar="ID",
        help="x0: the function identifier; of another ABI, such as xen:17, its number",
    )
    parser.add_argument("args", type=number, nargs="*", metavar="ARG", help="arguments: x1 onward")
    parser.add_argument(
        "--conduit", choices=[str(c) for c in Conduit], help="hvc unless the ABI has its own"
    )
    parser.add_argument("--imm", type=number, metavar="N", help="the immediate, 0 unless likewise")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--why", action="store_true",
        help="print the way through conduit rule, filter, firmware register and service",
    )
    add_below(parser)


def run(options: Any) -> int:
    """Make it, and print the answer."""
    from emu.watch.explain import call_lines, make
    from emu.world.monitor import El2
    from emu.world.paper import PaperHost

    made = make(options.id, *options.args)
    if options.imm is not None and options.imm > 0xFFFF:
        raise EmuError("a call has a 16-bit immediate")
    conduit = made.conduit if options.conduit is None else Conduit(options.conduit)
    imm = made.imm if options.imm is None else options.imm
    el2 = El2(options.profile, PaperHost(seed=options.seed))
    apply_policy(el2, options)
    made = el2.read(made.x, conduit, imm)
    if options.json:
        print_json(_as_json(el2, made))
    else:
        print_lines(call_lines(el2, made, why=options.why))
    return 0


def _as_json(el2: Any, made: Call) -> dict[str, Any]:
    from emu.base import exits
    from emu.base.smccc import Ret
    from emu.world.abis import id_text
    from emu.world.describe import answer_text, subject_of

    answer = el2.answer(made)
    route = el2.route_of(made)
    return {
        "profile": el2.profile.name,
        "fid": id_text(made.id),
        "name": subject_of(made, el2).name,
        "answer": "exit" if isinstance(answer, exits.Exit) else "ret"
        if isinstance(answer, Ret) else "undef",
        "ret": [hex(value) for value in answer] if isinstance(answer, Ret) else [],
        "result": answer_text(answer, subject_of(made, el2)),
        "why": route.why,
        "source": route.source,
        "steps": list(route.steps),
    }

"""`hvcemu call`: one call of one's own, and its answer."""

from __future__ import annotations

import argparse
from typing import Any

from emu.base.abi import Abi, is_abi
from emu.base.errors import EmuError
from emu.base.smccc import Call, Conduit
from emu.cli.arguments import number
from emu.cli.options import add_below, apply_policy
from emu.cli.printing import print_json, print_lines

ORDER = 70
SUMMARY = "make one call, without a guest"
EXAMPLES = (
    "hvcemu call 0x8600FF01 --profile kvm-6.1",
    "hvcemu call 0x84000053 96 --seed 7",
    "hvcemu call 0x84000053 0x40 --profile kvm-6.12 --why",
    "hvcemu call 0x84000000 --conduit smc --imm 1 --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The call, and who answers."""
    parser.add_argument("id", type=number, metavar="ID", help="x0: the function identifier")
    parser.add_argument("args", type=number, nargs="*", metavar="ARG", help="x1 onward")
    parser.add_argument("--conduit", choices=[str(c) for c in Conduit], default="hvc")
    parser.add_argument("--imm", type=number, default=0, metavar="N", help="the immediate (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--why", action="store_true",
        help="print the way through conduit rule, filter, firmware register and service",
    )
    add_below(parser)


def run(options: Any) -> int:
    """Make it, and print the answer."""
    from emu.watch.explain import call_lines, make_call
    from emu.world.monitor import El2
    from emu.world.paper import PaperHost

    el2 = El2(options.profile, PaperHost(seed=options.seed))
    apply_policy(el2, options)
    conduit, imm = Conduit(options.conduit), options.imm
    kind, count = el2.reading(conduit, imm)
    last = count - 1 if is_abi(kind) else 7
    if len(options.args) > last or imm > 0xFFFF:
        raise EmuError(
            f"a call has at most {last} arguments, x1 to x{last}, and a 16-bit immediate"
        )
    made = make_call(options.id, *options.args, conduit=conduit, imm=imm)
    if is_abi(kind):
        made = el2.read(made.x, conduit, imm)
    if options.json:
        print_json(_as_json(el2, made))
    else:
        print_lines(call_lines(el2, made, why=options.why))
    return 0


def _as_json(el2: Any, made: Call) -> dict[str, Any]:
    from emu.base import exits
    from emu.base.smccc import Ret
    from emu.world.describe import answer_text, subject_of

    answer = el2.answer(made)
    route = el2.route_of(made)
    return {
        "profile": el2.profile.name,
        "fid": f"{made.number:#x}" if isinstance(made, Abi) else str(made.fid),
        "name": subject_of(made, el2).name,
        "answer": "exit" if isinstance(answer, exits.Exit) else "ret"
        if isinstance(answer, Ret) else "undef",
        "ret": [hex(value) for value in answer] if isinstance(answer, Ret) else [],
        "result": answer_text(answer, subject_of(made, el2)),
        "why": route.why,
        "source": route.source,
        "steps": list(route.steps),
    }

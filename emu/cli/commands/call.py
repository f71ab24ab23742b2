"""`hvcemu call`: one call of one's own, and its answer."""

from __future__ import annotations

import argparse
from typing import Any

from emu.base.abi import Abi, is_abi
from emu.base.errors import EmuError
from emu.base.smccc import Call, Conduit
from emu.cli.arguments import function, number
from emu.cli.options import add_below, apply_policy
from emu.cli.printing import print_json, print_lines

ARGUMENT_REGISTERS = 8
"""x0 to x7, by SMCCC (DEN0028)."""

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
    from emu.watch.explain import call_lines
    from emu.world.monitor import El2
    from emu.world.paper import PaperHost

    el2 = El2(options.profile, PaperHost(seed=options.seed))
    apply_policy(el2, options)
    made = _made(el2, options)
    if options.json:
        print_json(_as_json(el2, made))
    else:
        print_lines(call_lines(el2, made, why=options.why))
    return 0


def _made(el2: Any, options: Any) -> Call:
    """The call as typed: by the ABI that the function names, or by registers from x0 on."""
    from emu.watch.explain import make
    from emu.world.abis import abi_of

    if options.imm is not None and options.imm > 0xFFFF:
        raise EmuError("a call has a 16-bit immediate")
    if abi_of(options.id) is not None:
        own = make(options.id, *options.args)
        x, conduit, imm = own.x, own.conduit, own.imm
    else:
        x, conduit, imm = (options.id, *options.args), Conduit.HVC, 0
    conduit = conduit if options.conduit is None else Conduit(options.conduit)
    imm = imm if options.imm is None else options.imm
    kind, count = el2.reading(conduit, imm)
    last = count - 1 if is_abi(kind) else ARGUMENT_REGISTERS - 1
    if len(x) > last + 1:
        raise EmuError(f"a call has at most {last} arguments, x1 to x{last}")
    made: Call = el2.read(x, conduit, imm)
    return made


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

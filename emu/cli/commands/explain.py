"""`hvcemu explain`: what an identifier means and who answers it, or what traps cost and why."""

from __future__ import annotations

import argparse
from typing import Any

from emu.base.errors import EmuError
from emu.cli.arguments import function, function_id
from emu.cli.printing import print_json, print_table

ORDER = 80
SUMMARY = "take a function identifier apart and ask every profile, or tell what traps cost and why"
EXAMPLES = (
    "hvcemu explain 0xC4000053",
    "hvcemu explain 0x8600FF01 --json",
    "hvcemu explain xen:17                 a function of another ABI, by its number or name",
    "hvcemu explain --costs                what traps cost below whom, and who says so",
    "hvcemu explain --costs kvm-vhe        one profile of costs",
    "hvcemu explain --costs cortex-a53     a core's system instructions likewise",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An identifier or --costs."""
    parser.add_argument(
        "id", nargs="?", type=_function, metavar="ID",
        help="any 32-bit identifier, or ABI:NUMBER",
    )
    parser.add_argument(
        "--costs", nargs="?", const="", metavar="NAME",
        help="what traps cost: all profiles of costs, one of them, or one core's instructions",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _function(text: str) -> int:
    """An identifier of 32 bits, or a function of another ABI than SMCCC."""
    return function(text) if ":" in text else function_id(text)


def run(options: Any) -> int:
    """Explain the one or the other."""
    if options.costs is None and options.id is None:
        raise EmuError("give an identifier such as 0xC4000053, or --costs")
    if options.costs is None:
        _explain_function(options.id, as_json=options.json)
    elif options.id is None:
        _explain_costs(options.costs, as_json=options.json)
    else:
        raise EmuError("explain either an identifier or --costs")
    return 0


def _explain_function(id: int, *, as_json: bool) -> None:
    from emu.watch.explain import fields, verdicts
    from emu.world.abis import id_text
    from emu.world.describe import subject

    fid, what, parts, rows = id_text(id), subject(id), fields(id), verdicts(id)
    if as_json:
        print_json(
            {
                "fid": fid,
                "name": what.name,
                "source": what.source,
                "fields": [part._asdict() for part in parts],
                "profiles": [row._asdict() for row in rows],
            }
        )
        return
    named = what.name != fid
    print(f"{fid}  {what.name}" if named else f"{fid}  no specification known here names it")
    if what.function and what.function.doc:
        print(f"  {what.function.doc}")
    if what.function and what.function.args:
        print(f"  arguments: {', '.join(what.function.args)}")
    if what.source:
        print(f"  source: {what.source}")
    print()
    print_table(("bits", "field", "value", "meaning"), parts)
    print("\nwith all arguments zero:")
    shown = [(r.profile, r.hvc, r.smc, r.why) for r in rows]
    print_table(("profile", "by HVC", "by SMC", "because"), shown)


def _explain_costs(name: str, *, as_json: bool) -> None:
    """One profile of costs or core; all profiles of costs where no name is given."""
    from emu.watch import price_list

    if as_json and name:
        print_json({event: cost._asdict() for event, cost in price_list.figures(name).items()})
        return
    if as_json:
        print_json(price_list.as_json())
        return
    if not name:
        print("cycles there and back:")
        print_table(price_list.SUMMARY, price_list.summary())
    for one in [name] if name else price_list.names():
        print("" if name else "\n", end="")
        print(price_list.about(one))
        print_table(price_list.TITLES, price_list.rows(one))

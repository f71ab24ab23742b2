"""Regenerate emu/cycles/cores/tables.json, the cores' timings, from LLVM's scheduling models.

    python tools/gen_timing.py                     # all cores, about six minutes
    python tools/gen_timing.py --check cortex-a53  # is the committed file what comes out?
    python tools/gen_timing.py --check --every 20  # a sample of keys, in half a minute

For every key of the decoder (emu/arm/a64.py) one encoding is put to llvm-mca: its table gives
micro-ops, throughput and ports, chains of two instructions give latencies and forwarding
(timing_chains.py), and neighbours give the rules of in-order issue (timing_core.py). Only these
facts are kept. Keys with the same timing on every core share a line of the file.

Instructions of which a model knows nothing (LSE atomics on most) are absent, and system
instructions, for which LLVM says one cycle, are not asked about at all. The same llvm-mca gives
the same file byte for byte; a failure is one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timing_core import NEEDED, Core
from timing_mca import Mca, McaError
from timing_words import CONSUMER, PRODUCER, Form, disassemble, forms

from emu.arm.cores import BORROWED, TIMED

TABLES = Path(__file__).parent.parent / "emu" / "cycles" / "cores" / "tables.json"
CORES = tuple(name for name in TIMED if name not in BORROWED)
"""The distinct models; other cores borrow one."""
VERSION = 22
SCHEMA = 1
ABOUT = "derived with llvm-mca {} (LLVM project, Apache-2.0 WITH LLVM-exception)"


def program(name: str) -> str:
    """llvm-mca or llvm-mc of the version that the committed file was made with."""
    for candidate in (f"{name}-{VERSION}", name):
        if found := shutil.which(candidate):
            return found
    raise McaError(f"{name}-{VERSION} is missing: apt-get install llvm-{VERSION}")


def version(mca: str) -> str:
    text = subprocess.run([mca, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"LLVM version (\S+)", text)
    if not found:
        raise McaError(f"{mca} does not tell its version")
    return found[1]


def chosen_forms(mc: str, every: int = 1) -> tuple[dict[str, Form], dict[int, str]]:
    """One form for each key (or for a sample of them), and the disassembly of its words."""
    some = [form for form in forms() if not form.key.startswith("sys_")]
    if every > 1:
        sample = {*list(dict.fromkeys(form.key for form in some))[::every], *NEEDED}
        some = [form for form in some if form.key in sample]
    text = disassemble((form.word(r) for form in some for r in (PRODUCER, CONSUMER)), mc)
    chosen: dict[str, Form] = {}
    for form in some:
        if all(form.word(registers) in text for registers in (PRODUCER, CONSUMER)):
            chosen.setdefault(form.key, form)
    return chosen, text


def measure(names: Sequence[str], every: int = 1) -> dict[str, Core]:
    """The cores, measured one after the other."""
    mca, mc = program("llvm-mca"), program("llvm-mc")
    chosen, text = chosen_forms(mc, every)
    cores = {}
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        cores[name] = Core(Mca(mca, name), chosen, text, mc)
        cores[name].measure()
    return cores


def described(core: Core, timings: Sequence[Any]) -> dict[str, Any]:
    """What the file says of a core besides the classes."""
    index = {resource.name: number for number, resource in enumerate(core.resources)}
    return {
        "in_order": core.in_order,
        "width": core.width,
        "resources": [[r.name, r.units, [index[m] for m in r.members]] for r in core.resources],
        "advance": core.advance,
        "timings": list(timings),
    }


def packed(cores: dict[str, Core], about: str) -> str:
    """The file: cores with their distinct timings, then keys by their timing on each core."""
    numbers: dict[str, dict[str, int]] = {}
    parts: dict[str, Any] = {}
    for name, core in cores.items():
        rows = {key: json.dumps(row) for key, row in core.rows().items()}
        if core.conflicts:
            raise McaError(f"{name}: {core.conflicts[0]}: the decoder must tell these apart")
        distinct = {text: number for number, text in enumerate(sorted(set(rows.values())))}
        numbers[name] = {key: distinct[text] for key, text in rows.items()}
        parts[name] = described(core, [json.loads(text) for text in distinct])
    classes: dict[tuple[int, ...], list[str]] = {}
    for key in sorted(set().union(*numbers.values())):
        classes.setdefault(tuple(known.get(key, -1) for known in numbers.values()), []).append(key)
    return _written(about, parts, sorted(classes.items(), key=lambda item: item[1]))


def _written(about: str, parts: dict[str, Any], classes: Sequence[Any]) -> str:
    """JSON with one timing or class on a line."""

    def lines(items: Sequence[Any], indent: str) -> str:
        return ",\n".join(indent + json.dumps(item, separators=(",", ":")) for item in items)

    cores = ",\n".join(
        f'  "{name}": {{\n   "in_order": {json.dumps(part["in_order"])},'
        f' "width": {part["width"]},\n   "resources": {json.dumps(part["resources"])},\n'
        f'   "advance": {json.dumps(part["advance"])},\n   "timings": [\n'
        f"{lines(part['timings'], '    ')}]}}"
        for name, part in parts.items()
    )
    keys = lines([[list(numbers), " ".join(names)] for numbers, names in classes], "  ")
    head = f' "about": "{about}",\n "schema": {SCHEMA},\n "cores": {{\n'
    return f'{{\n{head}{cores}}},\n "classes": [\n{keys}]}}\n'


def difference(name: str, core: Core, committed: Any, *, sampled: bool = False) -> list[str]:
    """What is not as the committed file says; of a sample, the numbers of groups may differ."""
    at = list(committed["cores"]).index(name)
    old = committed["cores"][name]
    rows = {key: json.loads(json.dumps(row)) for key, row in core.rows().items()}
    said = {
        key: old["timings"][numbers[at]]
        for numbers, keys in committed["classes"] if numbers[at] >= 0 for key in keys.split()
    }  # fmt: skip
    if sampled:
        rows = {key: row for key, row in rows.items() if key in said}
        plain = [key for key, row in rows.items() if _plain(row) != _plain(said[key])]
        return [f"{name}: {key}" for key in sorted(plain)] or _advances(core, rows, old, said)
    new = described(core, old["timings"])
    found = [f"{name}: {what}" for what in new if new[what] != old[what]]
    return found + [f"{name}: {key}" for key in sorted(rows.keys() | said.keys())
                    if rows.get(key) != said.get(key)]  # fmt: skip


def _plain(row: Any) -> Any:
    """A row without the numbers of its groups."""
    return row[:4] + row[6:]


def _advances(core: Core, rows: Any, old: Any, said: Any) -> list[str]:
    """Read and write groups between which the advance differs.

    Group 0 has none, or none that could be seen: a sample sees less than the whole.
    """
    writes = {(rows[key][4][slot], said[key][4][slot]): key
              for key in rows for slot in range(4) if rows[key][3][slot]}  # fmt: skip
    reads = {}
    for sink in core.read_group:
        if sink.key in rows:
            mine, theirs = (dict(r[sink.key][5]).get(sink.role, 0) for r in (rows, said))
            reads[mine, theirs] = sink.key
    return [
        f"{core.mca.core}: from {producer} to {consumer}"
        for (w, old_w), producer in writes.items() for (r, old_r), consumer in reads.items()
        if r and w and core.advance[r][w] != old["advance"][old_r][old_w]
    ]  # fmt: skip


def check(names: Sequence[str], path: Path, every: int) -> int:
    committed = json.loads(path.read_text(encoding="utf-8"))
    about = ABOUT.format(version(program("llvm-mca")))
    if committed["about"] != about:
        raise McaError(f"{path.name} was {committed['about']}; this is {about}")
    found = [line for name, core in measure(names, every).items()
             for line in difference(name, core, committed, sampled=every > 1)]  # fmt: skip
    for line in found[:20]:
        print(line)
    print(f"{len(found)} differences")
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", nargs="*", metavar="CORE", help="compare, do not write")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="check each Nth key")
    parser.add_argument("--output", type=Path, default=TABLES)
    options = parser.parse_args(arguments)
    try:
        if options.check is not None:
            return check(options.check or CORES, options.output, options.every)
        about = ABOUT.format(version(program("llvm-mca")))
        options.output.write_text(packed(measure(CORES), about), encoding="utf-8")
    except (McaError, OSError, subprocess.SubprocessError) as error:
        print(f"gen_timing: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

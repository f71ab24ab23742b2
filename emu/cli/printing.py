"""What commands print on standard output: lines, tables, JSON, and the room there is for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from emu.runs.progress import wants_colour


def print_lines(lines: Iterable[str]) -> None:
    """Each on its own."""
    for line in lines:
        print(line)


def print_json(value: Any) -> None:
    """As a person reads it."""
    import json  # only where it is asked for

    print(json.dumps(value, indent=2))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns: by rich on a terminal, plain and unwrapped in a pipe."""
    if not wants_colour(sys.stdout):
        texts = [[str(cell) for cell in row] for row in (titles, *rows)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        for cells in texts:
            print("  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console(highlight=False, markup=False).print(table)


def terminal_columns() -> int | None:
    """How wide the terminal is; None where standard output is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return None

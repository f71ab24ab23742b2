"""`python -m emu` is `hvcemu`."""

from __future__ import annotations

from emu.cli.main import entry

if __name__ == "__main__":
    entry()

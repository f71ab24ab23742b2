"""The guests that ship with hvcemu, by their names."""

from __future__ import annotations

import os

from emu.base.errors import EmuError
from emu.world.profile import data_folder, data_path


def find_image(name: str) -> str:
    """A path, or the name of a guest that ships with hvcemu: hello, bugs/NAME."""
    if os.path.exists(name) or (os.sep in name and not name.startswith("bugs/")):
        return name
    bundled = data_path("guests", f"{name.removesuffix('.elf')}.elf")
    if os.path.isfile(bundled):
        return bundled
    folder = data_folder("guests")
    known = sorted(path.stem for path in folder.glob("*.elf"))
    import difflib  # only a mistake needs it

    bugs = [f"bugs/{path.stem}" for path in folder.glob("bugs/*.elf")]
    near = difflib.get_close_matches(name, known + bugs, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"bundled are {', '.join(known)}"
    raise EmuError(f"{name}: no such file, and no guest of that name; {hint}")

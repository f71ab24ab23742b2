"""How closely time is modelled, and the core model behind a name.

flat: an instruction is a cycle, whatever the core. block: what the core model says of each block
(cores/). Models are shared by all machines of a process, since a block costs what its bytes say.
"""

from __future__ import annotations

import enum
import functools

from emu.charges import Charges
from emu.cpu import CORES, DEFAULT_CORE
from emu.errors import EmuError


class Timing(enum.StrEnum):
    """What `--timing` may be."""

    FLAT = "flat"
    BLOCK = "block"


UNTIMED = (DEFAULT_CORE, "max")
"""Cores that no hardware is: an instruction is a cycle."""


def choose_timing(core: str, name: str | None) -> Timing:
    """What a name means on a core; EmuError where it means nothing. None is the core's best."""
    if core not in CORES:
        raise EmuError(f"no core {core!r}; there is {', '.join(CORES)}")
    if name is None:
        return Timing.FLAT if core in UNTIMED else Timing.BLOCK
    if name not in tuple(Timing):
        raise EmuError(f"--timing {name}: it is one of {', '.join(Timing)}")
    if core in UNTIMED and name != Timing.FLAT:
        timed = ", ".join(name for name in CORES if name not in UNTIMED)
        raise EmuError(f"--timing {name} needs a --core whose times are known: {timed}")
    return Timing(name)


@functools.cache
def charges_of(core: str) -> Charges:
    """What blocks cost on a core."""
    from emu.cores import core as model  # most runs need none of it

    return Charges(model(core))

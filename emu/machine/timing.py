"""How closely time is modelled, and the core model behind a name.

flat: an instruction is a cycle, whatever the core. block: what the core model says of each block
(cores/). branch: that, and a predictor whose mistakes cost what the core's pipeline takes to
refill (predictor.py). cache: that, and caches whose misses are waited for (caches.py). Models are
shared by all machines of a process, since a block costs what its bytes say.
"""

from __future__ import annotations

import atexit
import enum
import functools
from typing import TYPE_CHECKING

from emu.arm.cores import CORES, TIMED
from emu.base.errors import EmuError
from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import SIXTEENTHS, BlockCost, CostModel

if TYPE_CHECKING:
    from emu.cycles.block_cache import BlockCache
    from emu.cycles.caches import Hierarchy


class Timing(enum.StrEnum):
    """What `--timing` may be."""

    FLAT = "flat"
    BLOCK = "block"
    BRANCH = "branch"
    CACHE = "cache"

    @property
    def predicts(self) -> bool:
        """Whether branches are predicted."""
        return self in (Timing.BRANCH, Timing.CACHE)


def choose_timing(core: str, name: str | None) -> Timing:
    """What a name means on a core; EmuError where it means nothing.

    None is `block` where the core has a model.
    """
    if core not in CORES:
        raise EmuError(f"no core {core!r}; there is {', '.join(CORES)}")
    if name is None:
        return Timing.BLOCK if core in TIMED else Timing.FLAT
    if name not in tuple(Timing):
        raise EmuError(f"--timing {name}: it is one of {', '.join(Timing)}")
    if core not in TIMED and name != Timing.FLAT:
        raise EmuError(
            f"--timing {name} needs a --core whose times are known: {', '.join(TIMED)}"
        )
    if name == Timing.CACHE:
        from emu.cycles.cores import cached, caches

        if caches(core) is None:
            raise EmuError(
                f"--timing {name}: nobody we can cite has measured the caches of {core}; "
                f"there is {', '.join(cached())}"
            )
    return Timing(name)


class _Later:
    """A core model that is made when it is first asked: a run whose blocks are all known from
    before needs none."""

    def __init__(self, name: str) -> None:
        self.name = name

    def block(self, code: bytes) -> BlockCost:
        """The cost of a block."""
        return self.model.block(code)

    @property
    def width(self) -> int:
        """Instructions that begin in a cycle at most."""
        return self.model.width

    @functools.cached_property
    def model(self) -> CostModel:
        """The model itself; its tables take some 40 ms to read."""
        from emu.cycles.cores import core

        return core(self.name)


_opened: dict[tuple[str, bool], tuple[BlockCosts, BlockCache]] = {}


def block_costs_of(core: str, timing: Timing = Timing.BLOCK) -> BlockCosts:
    """What blocks cost on a core: one set for this process, and a file for the next."""
    chained = timing is Timing.CACHE
    if (core, chained) not in _opened:
        from emu.cycles.block_cache import BlockCache, path_of  # most runs need none of it
        from emu.cycles.cores.chains import is_chained

        if not _opened:
            atexit.register(keep_block_costs)
        other = _opened.get((core, not chained))
        cache = other[1] if other else BlockCache(path_of(core) if core in TIMED else None)
        charges = BlockCosts(_Later(core), cache, is_chained if chained else None)
        _opened[core, chained] = charges, cache
    return _opened[core, chained][0]


def misprediction_of(core: str) -> int:
    """Sixteenths of a cycle that a mispredicted branch costs a core."""
    from emu.cycles.cores import mispredicted

    return mispredicted(core) * SIXTEENTHS


def hierarchy_of(core: str, hz: int, base: int = 0) -> Hierarchy:
    """A core's caches at so many cycles a second; memory begins at `base`."""
    from emu.cycles.cores.hierarchies import hierarchy

    return hierarchy(core, hz, base)


def keep_block_costs() -> None:
    """Keep what was worked out, for the next process; the end of this one does it as well."""
    for cache in {id(cache): cache for _, cache in _opened.values()}.values():
        sets = [charges for charges, its in _opened.values() if its is cache]
        fresh = {code: cost for charges in sets for code, cost in charges.fresh.items()}
        if fresh and cache.keep(fresh.items()):
            for charges in sets:
                charges.fresh = {}

"""ABIs that tests define: each needs a name of its own, and the fixture `own_abis` forgets them."""

from __future__ import annotations

from emu.base.abi import Abi
from emu.base.smccc import Conduit


def define(name: object, **more: object) -> type[Abi]:
    """An ABI, as a class statement makes it."""
    return type("Own", (Abi,), {"__slots__": (), "name": name, "__module__": __name__, **more})


def define_immediate() -> type[Abi]:
    """As Gunyah's or Jailhouse's: HVC #n is function n, with arguments from x0 on."""
    return define(
        "immediate", instructions=frozenset((Conduit.HVC, n) for n in range(0x6000, 0x6004)),
        first=0, arguments=8, number=property(lambda call: call.imm),
    )  # fmt: skip

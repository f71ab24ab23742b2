"""What a system instruction costs on each core, by class.

LLVM's tables say one cycle for every MRS, barrier and ERET. Little is published instead; what is
here follows from three measurements and says how:

* Trusted Firmware-A's PSCI_VERSION is 200 instructions: 27 moves from and to system registers, 6
  barriers, an ERET, and 166 plain ones, which model to 174 cycles on a Cortex-A53. On Juno's A53
  the whole takes 442 to 663 cycles (TF-A docs/perf), which leaves about 350 for the moves and
  barriers after a bare trap's 27 (ASPLOS'14, Cortex-A15).
* ISB in a loop takes 13.0 ns on an AWS Graviton (Cortex-A72, 2.3 GHz) and 13.2 ns on a Graviton2
  (Neoverse N1, 2.5 GHz); YIELD there takes one cycle (rust-lang/rust pull request 84725).
* EL2 to EL1 takes 65 cycles on X-Gene (SOSP'17 section 5).

SVC, HVC and SMC cost an issue slot here: entering the exception is charged by the trap costs
(trap_prices.py). Their spread is large: a move of PSTATE.DAIF takes one cycle on an A53 and tens on
an A72, and both are `sys_mrs` or `sys_msr`.
"""

from __future__ import annotations

from collections.abc import Mapping

from emu.cycles.model import Cost

_ONE = Cost(1, 0, "", "an issue slot; the exception is charged by the trap costs")
_HINT = Cost(1, 50, "neoverse-n1", "rust-lang/rust 84725: YIELD, 0.40 ns at 2.5 GHz")

_MOVE_A53 = Cost(
    11,
    60,
    "cortex-a53",
    "derived: TF-A's PSCI_VERSION, 552 cycles, less 174 for plain "
    "instructions, 27 for the trap and 6 barriers of 10, over its 27 moves",
)
_BARRIER_A53 = Cost(
    10,
    80,
    "cortex-a53",
    "derived: the refill of an eight-stage pipeline (Cortex-A53 "
    "TRM) and the two cycles it waits to drain",
)
_ERET_A53 = Cost(
    13, 100, "cortex-a15", "derived: half of a bare trap there and back, 27 (ASPLOS'14)"
)

_MOVE_A57 = Cost(
    5,
    100,
    "cortex-a57",
    "derived: TF-A's PSCI_VERSION, 558 cycles (2017), less 100 for "
    "plain instructions, 137 for the trap and 6 barriers of 30, over 27 moves",
)
_BARRIER_A72 = Cost(30, 40, "cortex-a72", "rust-lang/rust 84725: ISB, 13.0 ns at 2.3 GHz")
_MOVE_N1 = Cost(
    7,
    100,
    "neoverse-n1",
    "derived: TF-A's PSCI_VERSION, 598 cycles, less 70 for plain "
    "instructions, 137 for the trap and 6 barriers of 33, over 27 moves",
)
_BARRIER_N1 = Cost(33, 40, "neoverse-n1", "rust-lang/rust 84725: ISB, 13.2 ns at 2.5 GHz")
_ERET = Cost(
    65, 35, "X-Gene", "SOSP'17 §5: EL2 to EL1; an ERET within EL1 flushes the same pipeline"
)


def _data(barrier: Cost) -> Cost:
    return barrier._replace(
        uncertainty=100,
        source=f"carried over from ISB: nothing outstanding to wait for; {barrier.source}",
    )


def _maintenance(barrier: Cost) -> Cost:
    return barrier._replace(
        uncertainty=100,
        source="carried over from ISB: no figure is known, "
        f"and the DSB behind it does the waiting; {barrier.source}",
    )


def _table(move: Cost, barrier: Cost, eret: Cost) -> dict[str, Cost]:
    return {
        "sys_mrs": move,
        "sys_msr": move,
        "sys_isb": barrier,
        "sys_dsb": _data(barrier),
        "sys_dmb": _data(barrier),
        "sys_tlbi": _maintenance(barrier),
        "sys_ic": _maintenance(barrier),
        "sys_dc": _maintenance(barrier),
        "sys_eret": eret,
        "sys_svc": _ONE,
        "sys_hvc": _ONE,
        "sys_smc": _ONE,
        "sys_brk": _ONE,
        "sys_hlt": _ONE,
        "sys_udf": _ONE,
        "sys_wfi": _ONE,
        "sys_hint": _HINT,
    }


def like(table: Mapping[str, Cost], core: str) -> dict[str, Cost]:
    """Another core's table, for one nobody has measured."""
    return {
        name: cost._replace(
            uncertainty=max(cost.uncertainty, 100),
            source=f"carried over from {core}: {cost.source}",
        )
        if cost.core
        else cost
        for name, cost in table.items()
    }


A53 = _table(_MOVE_A53, _BARRIER_A53, _ERET_A53)
A57 = _table(_MOVE_A57, _BARRIER_A72, _ERET)
N1 = _table(_MOVE_N1, _BARRIER_N1, _ERET)
"""Class of system instruction → its figure; each core's file says which it has (cores/)."""

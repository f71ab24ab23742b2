"""What a trap costs: named profiles, each figure with its source and an honest uncertainty.

A guest cannot see what happens above it, only how long it takes, and that depends far more on the
software there than on the core: a null hypercall takes 376 cycles below Xen and 6,500 below a
KVM that must switch a whole kernel in and out, on the same machine. Firmware releases differ by
half. So these are profiles to choose from, and none claims to be closer than 35 percent.

A call is charged entry + handler + return, whose sum is the measured round trip. A call or access
that leaves for the VMM is charged `vmm` in place of the handler. `exception` is charged at each
exception entered at EL1; its return is the ERET of the core's own table (system_prices.py) and
stands here for comparison. `interrupt` comes before the vector is entered, `ipi` between the write
that sends an SGI and its arrival, `wake` when a WFI ends, `cpu_on` before a vCPU's first
instruction.

Sources: ISCA'16 is Dall et al., "ARM Virtualization: Performance and Architectural Implications",
table II (HP Moonshot m400, APM X-Gene, 2.4 GHz); ATC'17 Dall, Li and Nieh, "Optimizing the Design
and Implementation of the Linux ARM Hypervisor", table 2 (AMD Seattle, Cortex-A57); SOSP'17 Lim et
al., "NEVE", section 5; ASPLOS'14 Dall and Nieh, "KVM/ARM", table 3 (Cortex-A15); TF-A its
docs/perf, psci-performance-juno.rst and psci-performance-n1sdp.rst, times the clock named there.
The papers' rows were read in a survey that cites their tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from emu.base.errors import EmuError
from emu.cycles.model import Cost


class TrapPrices(NamedTuple):
    """One profile. `about` says which software it stands for."""

    name: str
    about: str
    hvc_entry: Cost
    hvc_handler: Cost
    hvc_return: Cost
    smc_entry: Cost
    smc_handler: Cost
    smc_return: Cost
    vmm: Cost
    exception: Cost
    exception_return: Cost
    interrupt: Cost
    ipi: Cost
    wake: Cost
    cpu_on: Cost

    @property
    def virtual(self) -> bool:
        """Whether devices are somebody's software, so that an access to one is a trap."""
        return self.name not in HARDWARE

    @property
    def hvc(self) -> int:
        """An HVC's round trip, without what the service itself does."""
        return self.hvc_entry.cycles + self.hvc_handler.cycles + self.hvc_return.cycles

    @property
    def smc(self) -> int:
        """An SMC's likewise."""
        return self.smc_entry.cycles + self.smc_handler.cycles + self.smc_return.cycles

    def figures(self) -> dict[str, Cost]:
        """Every event with its figure, in order."""
        return {k: v for k, v in self._asdict().items() if isinstance(v, Cost)}


HARDWARE = ("tfa-juno-a53", "tfa-juno-a57", "tfa-n1", "zero")
"""Profiles with nobody at EL2: devices are hardware."""


def trap_prices(name: str) -> TrapPrices:
    """The profile of this name; EmuError with the names there are."""
    try:
        return PROFILES[name]
    except KeyError:
        raise EmuError(f"no trap costs {name!r}; there are {', '.join(PROFILES)}") from None


# -- the hardware's part ------------------------------------------------------------------------

_ENTRY = Cost(
    76,
    35,
    "X-Gene",
    "SOSP'17 §5: EL1 to EL2, 68 to 76 cycles; the upper, which is beside the measured return",
)
_RETURN = Cost(65, 35, "X-Gene", "SOSP'17 §5: EL2 to EL1")
_ENTRY_SMALL = Cost(
    14, 100, "cortex-a15", "derived: half of ASPLOS'14's 27 cycles for a bare trap there and back"
)
_RETURN_SMALL = Cost(13, 100, "cortex-a15", "derived: the other half of ASPLOS'14's 27 cycles")
_EXCEPTION = Cost(
    32,
    130,
    "cortex-a15, X-Gene",
    "derived: entering EL1 was not measured; the "
    "geometric mean of the entries to EL2, 14 (ASPLOS'14) and 72 (SOSP'17)",
)
_IPI = Cost(
    1_022,
    100,
    "cortex-a57",
    "derived: ATC'17's virtual IPI below VHE, 2,526, less the "
    "trap of the sender and the exit of the receiver, 752 each",
)


def _smc_like_hvc(of: Cost) -> Cost:
    return of._replace(source=f"carried over from HVC, as HCR_EL2.TSC traps an SMC: {of.source}")


def _round_trip(total: int, entry: Cost, back: Cost, like: Cost) -> Cost:
    """What is left of a measured round trip for software."""
    return like._replace(
        cycles=total - entry.cycles - back.cycles,
        source=f"{like.source}: {total:,} in all, less entry and return",
    )


def _kvm(
    name: str, about: str, hypercall: Cost, vmm: Cost, *, kernel: Cost, ipi: Cost, wake: Cost
) -> TrapPrices:
    handler = _round_trip(hypercall.cycles, _ENTRY, _RETURN, hypercall)
    return TrapPrices(
        name,
        about,
        _ENTRY,
        handler,
        _RETURN,
        _smc_like_hvc(_ENTRY),
        _smc_like_hvc(handler),
        _smc_like_hvc(_RETURN),
        _round_trip(vmm.cycles, _ENTRY, _RETURN, vmm),
        _EXCEPTION,
        _RETURN,
        kernel,
        ipi,
        wake,
        wake._replace(
            uncertainty=100,
            source=f"carried over: CPU_ON was not measured; waking a blocked vCPU: {wake.source}",
        ),
    )


_NVHE_KERNEL = Cost(
    8_034,
    50,
    "cortex-a57",
    "ATC'17 table 2: exit to the host kernel, split mode; "
    "an interrupt makes one before it is injected",
)
_VHE_KERNEL = Cost(
    1_604,
    50,
    "cortex-a57",
    "ATC'17 table 2: exit to the host kernel, VHE style; "
    "an interrupt makes one before it is injected",
)
_WAKE = Cost(
    13_872,
    60,
    "X-Gene",
    "ISCA'16 table II: I/O latency in, KVM, from the host's signal to the guest, which was idle",
)

_KVM_NVHE = _kvm(
    "kvm-nvhe",
    "KVM in split mode, its kernel at EL1: Armv8.0 and nVHE",
    Cost(6_413, 35, "cortex-a57", "ATC'17 table 2: hypercall, split mode (X-Gene 6,500, ISCA'16)"),
    Cost(10_012, 35, "cortex-a57", "ATC'17 table 2: exit to user space, split mode"),
    kernel=_NVHE_KERNEL,
    ipi=Cost(13_121, 35, "cortex-a57", "ATC'17 table 2: virtual IPI, split mode"),
    wake=_WAKE,
)
_KVM_VHE = _kvm(
    "kvm-vhe",
    "KVM whose kernel runs at EL2: Armv8.1 and later",
    Cost(752, 35, "cortex-a57", "ATC'17 table 2: hypercall, VHE style"),
    Cost(7_630, 35, "cortex-a57", "ATC'17 table 2: exit to user space, VHE style"),
    kernel=_VHE_KERNEL,
    ipi=Cost(2_526, 35, "cortex-a57", "ATC'17 table 2: virtual IPI, VHE style"),
    wake=Cost(
        7_442,
        100,
        "cortex-a57, X-Gene",
        "derived: ISCA'16's I/O latency in, split mode, "
        "13,872, less what ATC'17's exit to the kernel saves with VHE, 8,034 - 1,604",
    ),
)


def _user_exit() -> TrapPrices:
    source = "carried over from kvm-vhe's exit to the VMM: every call is forwarded; "
    handler = _KVM_VHE.vmm._replace(source=source + _KVM_VHE.vmm.source)
    return _KVM_VHE._replace(
        name="kvm-user-exit",
        about="KVM with VHE that forwards every call to the VMM",
        hvc_handler=handler,
        smc_handler=_smc_like_hvc(handler),
    )


def _xen() -> TrapPrices:
    call = Cost(376, 35, "X-Gene", "ISCA'16 table II: hypercall, Xen 4.5")
    handler = _round_trip(call.cycles, _ENTRY, _RETURN, call)
    signal_in = Cost(
        15_650,
        60,
        "X-Gene",
        "ISCA'16 table II: I/O latency in, Xen, from Dom0's signal to the guest, which was idle",
    )
    return TrapPrices(
        "xen",
        "Xen, a hypervisor of type 1",
        _ENTRY,
        handler,
        _RETURN,
        _smc_like_hvc(_ENTRY),
        _smc_like_hvc(handler),
        _smc_like_hvc(_RETURN),
        Cost(
            32_141,
            60,
            "X-Gene",
            "derived: ISCA'16 table II, I/O latency out, 16,491, and in, 15,650: to Dom0 and back",
        ),
        _EXCEPTION,
        _RETURN,
        Cost(
            1_356,
            50,
            "X-Gene",
            "carried over: ISCA'16 table II, interrupt controller trap, Xen; "
            "taking an interrupt and injecting it touches the same state",
        ),
        Cost(5_978, 35, "X-Gene", "ISCA'16 table II: virtual IPI, Xen"),
        signal_in,
        Cost(
            8_799,
            100,
            "X-Gene",
            "carried over: CPU_ON was not measured; ISCA'16 table II, VM switch, Xen",
        ),
    )


# -- firmware at EL3, nobody at EL2 ---------------------------------------------------------------


class _Board(NamedTuple):
    """What TF-A's tables say of one core, at its clock in MHz."""

    core: str
    mhz: int
    call: Cost
    cpu_on: Cost
    small: bool


def _tfa(name: str, about: str, board: _Board) -> TrapPrices:
    entry, back = (_ENTRY_SMALL, _RETURN_SMALL) if board.small else (_ENTRY, _RETURN)
    handler = _round_trip(board.call.cycles, entry, back, board.call)
    unserved = "carried over from this profile's SMC: firmware at EL3 serves no HVC; "
    hvc = tuple(
        c._replace(uncertainty=100, source=unserved + c.source) for c in (entry, handler, back)
    )
    wake = Cost(
        board.mhz,
        100,
        board.core,
        "derived: 1 µs at the board's clock, the exit latency "
        "that Linux gives WFI (linux v6.12 drivers/cpuidle/cpuidle-psci.c)",
    )
    return TrapPrices(
        name,
        about,
        hvc[0],
        hvc[1],
        hvc[2],
        entry,
        handler,
        back,
        handler._replace(
            uncertainty=100, source="carried over from this profile's SMC: there is no VMM"
        ),
        _EXCEPTION if not board.small else _ENTRY_SMALL,
        back,
        Cost(0, 0, "", "nobody stands between the interrupt and EL1: only its entry is charged"),
        _IPI,
        wake,
        board.cpu_on,
    )


_JUNO_A53 = _tfa(
    "tfa-juno-a53",
    "Trusted Firmware-A on Juno's Cortex-A53 at 650 MHz, no hypervisor",
    _Board(
        "cortex-a53",
        650,
        Cost(
            552,
            35,
            "cortex-a53",
            "TF-A: PSCI_VERSION, 442 to 663 cycles in v2.12 (in 2017 1,911 to 1,989)",
        ),
        Cost(
            18_200,
            50,
            "cortex-a53",
            "TF-A (2017): CPU_ON, from the end of low power to the end of PSCI, 28 µs",
        ),
        small=True,
    ),
)
_JUNO_A57 = _tfa(
    "tfa-juno-a57",
    "Trusted Firmware-A on Juno's Cortex-A57 at 900 MHz, no hypervisor",
    _Board(
        "cortex-a57",
        900,
        Cost(
            1_359,
            65,
            "cortex-a57",
            "TF-A: PSCI_VERSION, 1,242 to 1,476 cycles in v2.12 (in 2017 468 to 648)",
        ),
        Cost(
            19_800,
            50,
            "cortex-a57",
            "TF-A (2017): CPU_ON, from the end of low power to the end of PSCI, 22 µs",
        ),
        small=False,
    ),
)
_N1 = _tfa(
    "tfa-n1",
    "Trusted Firmware-A on N1SDP's Neoverse N1 at 2.6 GHz, no hypervisor",
    _Board(
        "neoverse-n1",
        2_600,
        Cost(
            598,
            50,
            "neoverse-n1",
            "TF-A: PSCI_VERSION, 120 to 340 ns; at the 2.6 GHz of the "
            "N1SDP's technical reference manual, 312 to 884 cycles",
        ),
        Cost(
            33_600,
            50,
            "neoverse-n1",
            "TF-A v2.9: wake-up after CPU_OFF, 12.4 to 13.2 µs, at 2.6 GHz",
        ),
        small=False,
    ),
)


def _realm() -> TrapPrices:
    """The monitor at R-EL2 serves what it can; all else crosses EL3 twice."""
    vhe = _KVM_VHE
    rmm = vhe.hvc_handler._replace(
        uncertainty=100,
        source="carried over from kvm-vhe: no hardware with RME was measured; the "
        f"monitor at R-EL2 answers as a small EL2 would; {vhe.hvc_handler.source}",
    )
    across = 2 * _N1.smc
    source = f"derived: as kvm-vhe, and twice TF-A's SMC on the N1, {across:,}, for the worlds; "

    def far(of: Cost) -> Cost:
        return of._replace(cycles=of.cycles + across, uncertainty=100, source=source + of.source)

    return vhe._replace(
        name="realm",
        about="a Realm: the monitor (RMM) at R-EL2, the host behind EL3",
        hvc_handler=rmm,
        smc_handler=rmm,
        vmm=far(vhe.vmm),
        interrupt=far(vhe.interrupt),
        ipi=far(vhe.ipi),
        wake=far(vhe.wake),
        cpu_on=far(vhe.cpu_on),
    )


def _zero() -> TrapPrices:
    nothing = Cost(0, 0, "", "nothing is charged: only the guest's own instructions count")
    return TrapPrices("zero", "traps take no time", *[nothing] * (len(TrapPrices._fields) - 2))


PROFILES: Mapping[str, TrapPrices] = {
    profile.name: profile
    for profile in (
        _KVM_NVHE,
        _KVM_VHE,
        _user_exit(),
        _xen(),
        _JUNO_A53,
        _JUNO_A57,
        _N1,
        _realm(),
        _zero(),
    )
}

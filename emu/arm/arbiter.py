"""Which interrupt each vCPU is to take: the distributor of a GIC, GICv2 and GICv3 alike.

The registers that lead here differ (devices/gicv2.py, devices/gicv3.py), what they mean does not:
each vCPU has 32 private INTIDs, all share 256 SPIs, and an SPI goes to one vCPU, to none, or to
any one of them (GICv3's 1-of-N). Of what waits for a vCPU in the groups that are on, the most
urgent one is kept in `best`; `asserted` and `asserted_fiq` say on which vCPUs it may interrupt
right now. Both are kept up to date with every change, and are nothing but functions of `State`:
a saved state brings them back (Arm IHI 0069, "Interrupt prioritization").

A 1-of-N SPI is offered to the lowest-numbered vCPU that could take it at once, and stays with it
until it is taken or withdrawn, or that vCPU no longer listens (IHI 0069 leaves the choice open, and
neither KVM nor QEMU has 1-of-N).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from emu.arm.interrupts import ALL, BANK, LINES, SGIS, SPURIOUS, Bank, Interface
from emu.base.errors import StateError

BANKS = LINES // BANK
U16 = Annotated[int, 16]


@dataclass(slots=True)
class Vcpu:
    """What a GIC keeps for one vCPU."""

    private: Bank = field(default_factory=Bank)
    interface: Interface = field(default_factory=Interface)
    asleep: bool = True
    """GICR_WAKER.ProcessorSleep: no 1-of-N SPI is offered (IHI 0069, GICR_WAKER)."""


def _shared() -> list[Bank]:
    return [Bank() for _ in range(BANKS - 1)]


@dataclass(slots=True)
class State:
    """All of it. SPIs are in `shared`, from INTID 32 on."""

    groups: Annotated[int, 2] = 0
    """GICD_CTLR.EnableGrp0 and EnableGrp1."""
    shared: list[Bank] = field(default_factory=_shared)
    vcpus: list[Vcpu] = field(default_factory=list)
    offers: dict[U16, U16] = field(default_factory=dict)
    """1-of-N SPIs that wait, and for which vCPU."""


class Pending(NamedTuple):
    """An interrupt that waits; the least tuple is the most urgent."""

    priority: int
    intid: int
    group: int


def nothing() -> None:
    """Nobody is told."""


class Arbiter:
    """Follows the state; tell it with `touched` or `refresh` what was written into it."""

    def __init__(self, state: State, vcpus: int) -> None:
        if len(state.vcpus) != vcpus:
            raise StateError(f"the interrupt controller has {len(state.vcpus)} vCPUs, not {vcpus}")
        if len(state.shared) != BANKS - 1:
            raise StateError("the interrupt controller has another number of interrupts")
        if any(not BANK <= n < LINES or v >= vcpus for n, v in state.offers.items()):
            raise StateError("the interrupt controller offers what does not exist")
        self.state = state
        self.changed: Callable[[], None] = nothing
        """Called after whatever changed `asserted` or `asserted_fiq`."""
        self.asserted = 0
        self.asserted_fiq = 0
        self.best: list[Pending | None] = [None] * vcpus
        self._ready = [bank.ready() for bank in state.shared]
        self._routes = [[0] * (BANKS - 1) for _ in range(vcpus)]
        self._one_of_n = [0] * (BANKS - 1)

    # -- where an SPI goes -----------------------------------------------------------------

    def route(self, intid: int, vcpu: int | None, one_of_n: bool = False) -> None:
        """Send an SPI to one vCPU, to none, or to any one of them. `refresh` makes it count."""
        word, bit = intid // BANK - 1, 1 << intid % BANK
        for words in (*self._routes, self._one_of_n):
            words[word] &= ~bit
        if one_of_n:
            self._one_of_n[word] |= bit
        elif vcpu is not None:
            self._routes[vcpu][word] |= bit

    def bank(self, intid: int, vcpu: int) -> Bank:
        """Where an INTID is kept; `vcpu` says whose, for the private ones."""
        if intid < BANK:
            return self.state.vcpus[vcpu].private
        return self.state.shared[intid // BANK - 1]

    # -- what happens ----------------------------------------------------------------------

    def set_level(self, intid: int, level: bool, vcpu: int = 0) -> None:
        """Drive an input line: that of a PPI of one vCPU, or of an SPI."""
        if not SGIS <= intid < LINES:
            raise ValueError(f"INTID {intid} has no input line: {SGIS} to {LINES - 1} have")
        if self.bank(intid, vcpu).drive(1 << intid % BANK, level):
            self.touched(intid, vcpu)

    def acknowledge(self, vcpu: int, groups: int) -> int:
        """Take the interrupt that is signalled, if it is of these groups; SPURIOUS if none is."""
        best = self.best[vcpu]
        interface = self.state.vcpus[vcpu].interface
        if best is None or not groups >> best.group & 1:
            return SPURIOUS
        if not interface.admits(best.priority, best.group):
            return SPURIOUS
        interface.rise(best.priority, best.group)
        self.bank(best.intid, vcpu).take(1 << best.intid % BANK)
        self.touched(best.intid, vcpu)
        return best.intid

    def end(self, vcpu: int, groups: int, intid: int) -> None:
        """The end of an interrupt: its priority drops and, unless EOImode is 1, it is inactive.

        It stays active where group or priority are not those that ran: linux v6.12
        arch/arm64/kvm/hyp/vgic-v3-sr.c:__vgic_v3_write_eoir. INTIDs that do not exist are
        ignored (qemu v7.2 hw/intc/arm_gicv3_cpuif.c:icc_eoir_write).
        """
        if intid >= LINES:
            return
        interface = self.state.vcpus[vcpu].interface
        bank, number = self.bank(intid, vcpu), intid % BANK
        group = bank.group >> number & 1
        ran = interface.group_priority(bank.priority_of(number), group)
        if interface.drop() == ran and groups >> group & 1 and not interface.split:
            bank.active &= ~(1 << number)
        self.touched(intid, vcpu)

    def deactivate(self, vcpu: int, intid: int) -> None:
        """ICC_DIR_EL1, GICC_DIR; without EOImode nothing happens (__vgic_v3_write_dir)."""
        if intid < LINES and self.state.vcpus[vcpu].interface.split:
            self.bank(intid, vcpu).active &= ~(1 << intid % BANK)
            self.touched(intid, vcpu)

    # -- what follows from it --------------------------------------------------------------

    def touched(self, intid: int, vcpu: int) -> None:
        """One INTID is no longer as it was, or the interface of this vCPU."""
        if intid < BANK:
            return self.refresh((vcpu,))
        word, bit = intid // BANK - 1, 1 << intid % BANK
        self._ready[word] = self.state.shared[word].ready()
        self.refresh({vcpu, *(n for n, words in enumerate(self._routes) if words[word] & bit)})

    def refresh_shared(self) -> None:
        """Any SPI, its route, or what counts for all vCPUs is no longer as it was."""
        self._ready = [bank.ready() for bank in self.state.shared]
        self.refresh(range(len(self.best)))

    def refresh(self, vcpus: set[int] | tuple[int, ...] | range) -> None:
        """Decide anew for these vCPUs."""
        before = self.asserted, self.asserted_fiq
        if any(self._one_of_n) or self.state.offers:
            self._offer()
            vcpus = range(len(self.best))
        for vcpu in vcpus:
            self._decide(vcpu)
        if before != (self.asserted, self.asserted_fiq):
            self.changed()

    def _decide(self, vcpu: int) -> None:
        best = self.best[vcpu] = min(self._waiting(vcpu), default=None)
        interface = self.state.vcpus[vcpu].interface
        signalled = best is not None and interface.admits(best.priority, best.group)
        fiq = best is not None and best.group == 0 and interface.group0_is_fiq
        bit = 1 << vcpu
        self.asserted = self.asserted & ~bit | bit * (signalled and not fiq)
        self.asserted_fiq = self.asserted_fiq & ~bit | bit * (signalled and fiq)

    def _waiting(self, vcpu: int) -> Iterator[Pending]:
        """The most urgent of each bank."""
        cpu = self.state.vcpus[vcpu]
        groups = self.state.groups & cpu.interface.groups
        if not groups:
            return
        if ready := cpu.private.ready() & cpu.private.of_groups(groups):
            yield self._pending(0, cpu.private, cpu.private.most_urgent(ready))
        for word, route in enumerate(self._routes[vcpu]):
            if ready := self._ready[word] & route:
                bank = self.state.shared[word]
                if ready := ready & bank.of_groups(groups):
                    yield self._pending(word + 1, bank, bank.most_urgent(ready))
        for intid, taker in self.state.offers.items():
            if taker == vcpu:
                yield self._pending(intid // BANK, self.bank(intid, vcpu), intid % BANK)

    def wakes(self, vcpu: int) -> bool:
        """Whether a vCPU that is powered down has an interrupt to wake for.

        Pending and enabled is enough, its CPU interface is off: that is the redistributor's
        WakeRequest (IHI 0069 §9.2.4), and linux v6.12 vgic.c:kvm_vgic_vcpu_pending_irq.
        """
        shared = zip(self._ready, self._routes[vcpu], strict=True)
        private = self.state.vcpus[vcpu].private.ready()
        return bool(private) or any(ready & route for ready, route in shared)

    @staticmethod
    def _pending(bank_number: int, bank: Bank, number: int) -> Pending:
        intid = bank_number * BANK + number
        return Pending(bank.priority_of(number), intid, bank.group >> number & 1)

    # -- 1-of-N ----------------------------------------------------------------------------

    def _offer(self) -> None:
        """Withdraw what no longer stands, then find a vCPU for each SPI that has none."""
        offers = self.state.offers
        waiting = dict(self._one_of_n_waiting())
        for intid, vcpu in list(offers.items()):
            if intid not in waiting or not self._listens(vcpu, waiting[intid].group):
                del offers[intid]
        for intid, found in waiting.items():
            if intid not in offers:
                takers = (n for n in range(len(self.best)) if self._could_take(n, found))
                for vcpu in takers:
                    offers[intid] = vcpu
                    break

    def _one_of_n_waiting(self) -> Iterator[tuple[int, Pending]]:
        for word, bank in enumerate(self.state.shared):
            ready = self._ready[word] & self._one_of_n[word] & ALL
            while ready:
                number = (ready & -ready).bit_length() - 1
                ready &= ready - 1
                found = self._pending(word + 1, bank, number)
                yield found.intid, found

    def _listens(self, vcpu: int, group: int) -> bool:
        cpu = self.state.vcpus[vcpu]
        return not cpu.asleep and bool(self.state.groups & cpu.interface.groups & 1 << group)

    def _could_take(self, vcpu: int, found: Pending) -> bool:
        interface = self.state.vcpus[vcpu].interface
        return self._listens(vcpu, found.group) and interface.admits(found.priority, found.group)


class Controller:
    """What both interrupt controllers are to the machine around them."""

    arbiter: Arbiter

    @property
    def asserted(self) -> int:
        """The vCPUs whose IRQ is high, a bit for each."""
        return self.arbiter.asserted

    @property
    def asserted_fiq(self) -> int:
        """The vCPUs whose FIQ is high."""
        return self.arbiter.asserted_fiq

    def wakes(self, vcpu: int) -> bool:
        """Whether a vCPU that is powered down has an interrupt to wake for."""
        return self.arbiter.wakes(vcpu)

    def set_level(self, intid: int, level: bool, vcpu: int = 0) -> None:
        """Drive an input line: that of a PPI (16 to 31) of one vCPU, or of an SPI."""
        self.arbiter.set_level(intid, level, vcpu)

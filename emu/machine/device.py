"""What a device is to a board: where it lies, how it is described, made, saved and reset.

A device is one class in one file of devices/, or a user's own (`Vm(devices=[Mine])`). The board
asks it for everything and knows none by name. It is made when the guest first reaches for it.

    class Echo(BoardDevice):
        name = "echo"
        places = (Place("echo", 0x0B00_0000, 0x1000),)

        def read(self, offset, width): return self.state.last
        def write(self, offset, width, value): self.state.last = value
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from emu.base.bus import Device, Line, Place
from emu.base.clock import Clock
from emu.base.console import Console
from emu.cycles.tolls import Event
from emu.images.devicetree import Described, Node


class Socket(Protocol):
    """What a board gives a device to be made of."""

    @property
    def clock(self) -> Clock: ...

    @property
    def console(self) -> Console: ...

    @property
    def mpidrs(self) -> Sequence[int]:
        """MPIDR_EL1 of each vCPU."""

    @property
    def gic_version(self) -> int:
        """Of the interrupt controller the board was ordered with."""

    def line(self, intid: int) -> Line:
        """The line of an SPI, to drive."""

    def signalled(self) -> None:
        """For the interrupt controller: it signals something else than before."""

    def synchronise(self) -> None:
        """Bring the lines of the running vCPU's timers up to now."""

    def charge(self, event: Event) -> None:
        """Something has happened that costs time above EL1."""


class Front(NamedTuple):
    """A range of addresses with registers behind it; an access is such an event, or none."""

    place: Place
    registers: Device
    event: Event | None = Event.MMIO


class BoardDevice(Described):
    """The base of every device on the board.

    `state` is an instance of `State`, a dataclass whose defaults are the reset values; a saved
    machine holds it (state.py). A subclass that needs the clock, a line or the console takes them
    from the socket in `plug`.
    """

    name: ClassVar[str] = ""
    places: ClassVar[tuple[Place, ...]] = ()
    """All addresses that are its own, whichever of them it maps."""
    order: ClassVar[int] = 100
    """Where it stands in the device tree among the others; equals by name."""
    interrupts: ClassVar[bool] = False
    """Whether it is the interrupt controller."""
    console_path: ClassVar[str] = ""
    """Of the device that a boot loader prints to: its path in the device tree."""
    State: ClassVar[type[Any] | None] = None
    state: Any

    @classmethod
    def plug(cls, socket: Socket) -> BoardDevice:
        """One of it, in its reset state."""
        return cls()

    @classmethod
    def nodes(cls, tree: Any) -> Iterator[Node]:
        """What the device tree says of it: nothing, unless a subclass does."""
        return iter(())

    def __init__(self, state: Any = None) -> None:
        self.state = state if state is not None or self.State is None else self.State()

    def fronts(self) -> Iterator[Front]:
        """What is mapped where: by default itself, at its first place."""
        yield Front(self.places[0], self)

    def read(self, offset: int, width: int) -> int:
        """A load of `width` bytes; zero unless a subclass says otherwise."""
        return 0

    def write(self, offset: int, width: int, value: int) -> None:
        """A store; ignored unless a subclass does something."""

    def saved(self) -> Any:
        """Its state, for who saves the machine."""
        return self.state

    def restore(self, state: Any) -> None:
        """Become what another was, or as after reset where `state` is None."""
        self.state = state if state is not None or self.State is None else self.State()

    def next_event(self) -> int | None:
        """The cycle at which something becomes due in it by itself; None for never."""
        return None

    def advance(self) -> None:
        """Do what has become due."""

    def poll(self, *, idle: bool = False) -> None:
        """Look for what comes from outside the machine; between two runs."""

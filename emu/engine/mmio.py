"""Devices behind guest-physical addresses, and the native half of those that take a byte stream.

An error that a device raises is kept and comes out of the run (engine.py), since none may pass
through C. Where there is a native half, `_stream.c:Stream` gathers the bytes written to a UART and
answers for a status register that cannot change; the device finds every byte before anything else
that could tell the difference.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeGuard

from emu.base.bus import Device, StreamDevice
from emu.engine.cpu import Cpu

Price = tuple[int, int]
"""What an access is told as (tracks.py), and sixteenths of a cycle."""


class Devices:
    """The devices of a machine. `stream` makes the native half of one, where there is any."""

    def __init__(
        self, cpu: Cpu, keep: Callable[[BaseException], None], stream: Any, hooks: Any
    ) -> None:
        self._cpu, self._keep, self._stream = cpu, keep, stream
        self._hooks = weakref.ref(hooks)
        self._streams: list[tuple[Any, StreamDevice]] = []

    def map(self, base: int, size: int, device: Device, price: Price | None = None) -> None:
        """Let a device answer the accesses to [base, base + size), each of which costs `price`."""
        keep = self._keep
        is_stream = self._stream is not None and _is_stream(device)
        pay = self._payer(None if is_stream else price)  # its native half pays

        def read(offset: int, width: int) -> int:
            try:
                pay()
                return device.read(offset, width)
            except BaseException as failure:
                keep(failure)
                return 0

        def write(offset: int, width: int, value: int) -> None:
            try:
                pay()
                device.write(offset, width, value)
            except BaseException as failure:
                keep(failure)

        if self._stream is None or not _is_stream(device):
            self._cpu.map_device(base, size, read, write)
            return

        def flush(data: bytes) -> None:
            try:
                device.write_bytes(data)
            except BaseException as failure:
                keep(failure)

        def write_register(offset: int, width: int, value: int) -> bool:
            write(offset, width, value)
            return device.hears_each_byte()

        hooks = self._hooks()
        counter = hooks.counter() if price and hooks else 0
        stream = self._stream(
            read, write_register, flush, device.STATUS, device.DATA, counter,
            *(price or (0, 0)),
        )  # fmt: skip
        self._streams.append((stream, device))
        self._cpu.map_registers(base, size, stream.places())

    def _payer(self, price: Price | None) -> Callable[[], None]:
        """What an access does first."""
        if price is None:
            return lambda: None
        weak = self._hooks  # no reference cycle: the callbacks live as long as the engine

        def pay() -> None:
            if hooks := weak():
                hooks.trap(*price, True)

        return pay

    def hand_on(self) -> None:
        """Give the devices what their native halves have gathered."""
        for stream, _ in self._streams:
            stream.hand_on()

    def fix_status(self) -> None:
        """Let the native halves answer for a status register that cannot change during a run."""
        for stream, device in self._streams:
            status = device.fixed_status()
            stream.known, stream.status = status is not None, status or 0
            stream.at_once = device.hears_each_byte()


def _is_stream(device: Device) -> TypeGuard[StreamDevice]:
    """By its method: asking the Protocol takes a tenth of a tiny guest's run."""
    return hasattr(device, "write_bytes")

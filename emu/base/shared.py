"""Memory that both halves of the engine share, and that is all there is to a thing, as a predictor.

A C structure whose bytes go into a saved machine as they are; all zero is the state after a reset.
"""

from __future__ import annotations

import ctypes
from typing import ClassVar


class Shared(ctypes.Structure):
    """What such structures have in common; `COUNTED` names the fields that a reset keeps."""

    COUNTED: ClassVar[tuple[str, ...]] = ()

    @property
    def state(self) -> bytes:
        """Everything, for who saves a machine."""
        return bytes(self)

    @state.setter
    def state(self, data: bytes) -> None:
        ctypes.memmove(ctypes.addressof(self), data, ctypes.sizeof(self))

    def clear(self) -> None:
        """As after a reset; what was counted stays."""
        counted = {name: getattr(self, name) for name in self.COUNTED}
        ctypes.memset(ctypes.addressof(self), 0, ctypes.sizeof(self))
        for name, value in counted.items():
            setattr(self, name, value)

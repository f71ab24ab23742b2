"""The SMC calling convention: what a call and its reply are made of (Arm DEN0028).

A guest puts a 32-bit function identifier in w0 and its arguments in x1 onward, executes
`HVC #0` or `SMC #0`, and reads the reply from x0 onward. This module names those pieces and
nothing else: it knows no hypervisor, no function and no engine. Calls by other conventions are
abi.py's; `Ret` serves them all.

`Call` and `Ret` are tuples, because one of each is made for every trap. A `Ret` is made only
by its named constructors, which fix how wide each result is and how many registers are
touched, so that a reply with a 33-bit error code or a stray x4 cannot be written down.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, NamedTuple

MASK32 = 0xFFFF_FFFF
MASK64 = 0xFFFF_FFFF_FFFF_FFFF

# DEN0028, as in include/linux/arm-smccc.h (linux v6.17).
SUCCESS = 0
NOT_SUPPORTED = -1
NOT_REQUIRED = -2
INVALID_PARAMETER = -3

SVE_HINT = 1 << 16
"""DEN0028 1.3: "no live SVE state"; removed before a function is looked up."""


class Conduit(enum.StrEnum):
    """The instruction that made the call; with an immediate it selects the interface."""

    HVC = "hvc"
    SMC = "smc"


class Owner(enum.IntEnum):
    """Owning entity, bits 29:24 of a function identifier (DEN0028)."""

    ARM = 0
    CPU = 1
    SIP = 2
    OEM = 3
    STANDARD_SECURE = 4
    STANDARD_HYP = 5
    VENDOR_HYP = 6
    VENDOR_EL3 = 7

    @staticmethod
    def describe(number: int) -> str:
        """The owner of `number` (0–63) in words."""
        if number in _OWNER_TEXT:
            return _OWNER_TEXT[number]
        return "reserved" if number < 48 else "trusted applications" if number < 50 else (
            "trusted OS"
        )


_OWNER_TEXT = {
    0: "Arm architecture",
    1: "CPU service",
    2: "SiP (silicon partner)",
    3: "OEM",
    4: "standard secure services",
    5: "standard hypervisor services",
    6: "vendor-specific hypervisor",
    7: "vendor-specific EL3 monitor",
}


class FunctionId(int):
    """A 32-bit function identifier, taken apart (DEN0028)."""

    __slots__ = ()

    def __new__(cls, value: int) -> FunctionId:
        return super().__new__(cls, value & MASK32)

    @classmethod
    def of(cls, owner: int, number: int, *, smc64: bool = False, fast: bool = True) -> FunctionId:
        """Build an identifier from its fields."""
        return cls(fast << 31 | smc64 << 30 | (owner & 0x3F) << 24 | number & 0xFFFF)

    @property
    def fast(self) -> bool:
        """Bit 31: a fast (atomic) call; 0 is a yielding one."""
        return bool(self >> 31 & 1)

    @property
    def smc64(self) -> bool:
        """Bit 30: SMC64/HVC64, arguments are 64 bits wide."""
        return bool(self >> 30 & 1)

    @property
    def owner(self) -> int:
        """Bits 29:24, see `Owner`."""
        return self >> 24 & 0x3F

    @property
    def reserved(self) -> int:
        """Bits 23:17, must be zero in a fast call."""
        return self >> 17 & 0x7F

    @property
    def sve_hint(self) -> bool:
        """Bit 16, meaningful since SMCCC 1.3."""
        return bool(self & SVE_HINT)

    @property
    def number(self) -> int:
        """Bits 15:0, the function within its owner."""
        return self & 0xFFFF

    def __str__(self) -> str:
        return f"0x{int(self):08X}"

    __repr__ = __str__


class Call(NamedTuple):
    """One trapped call, as the guest made it, read by the SMC calling convention.

    `x` holds x0 onward exactly as read (64 bits each): eight registers, or more where the function
    asks for them, where the immediate is not 0, and when the call is forwarded. `imm` is the 16-bit
    immediate, `vcpu` the caller's index. A subclass reads them by another convention (abi.py).
    """

    x: tuple[int, ...]
    conduit: Conduit = Conduit.HVC
    imm: int = 0
    vcpu: int = 0

    @property
    def fid(self) -> FunctionId:
        """w0: the upper half of x0 is not part of the identifier (DEN0028)."""
        return FunctionId(self.x[0])

    @property
    def number(self) -> int:
        """Which function it is, as routes are found by: all of x0 (monitor.py)."""
        return self.x[0]

    @property
    def id(self) -> int:
        """Which function it is, among those of every convention (abi.py)."""
        return self.x[0] & MASK32

    def arg(self, n: int) -> int:
        """Argument register n, 32 bits of it for SMC32 and 64 for SMC64 (DEN0028)."""
        x = self.x
        return x[n] if x[0] & 0x4000_0000 else x[n] & MASK32

    def arg32(self, n: int) -> int:
        """The low 32 bits of argument register n, for a field that is 32 bits in either width."""
        return self.x[n] & MASK32


new_call: Any = tuple.__new__
"""Makes a call of any class from its fields; the class's own way takes twice as long."""


class Ret(tuple[int, ...]):
    """The registers a reply writes, from x0 upward; those beyond its length stay untouched."""

    __slots__ = ()

    @classmethod
    def value(cls, x0: int) -> Ret:
        """x0 sign-extended, x1–x3 zero: KVM's smccc_set_retval(vcpu, x0, 0, 0, 0)."""
        return tuple.__new__(cls, (x0 & MASK64, 0, 0, 0))

    @classmethod
    def success(cls, x1: int = 0, x2: int = 0, x3: int = 0) -> Ret:
        """SUCCESS in x0, results in x1–x3."""
        return tuple.__new__(cls, (0, x1 & MASK64, x2 & MASK64, x3 & MASK64))

    @classmethod
    def words(cls, w0: int, w1: int, w2: int, w3: int) -> Ret:
        """Four zero-extended 32-bit words, as a UID is returned (DEN0028)."""
        return tuple.__new__(cls, (w0 & MASK32, w1 & MASK32, w2 & MASK32, w3 & MASK32))

    @classmethod
    def only(cls, x0: int, *more: int) -> Ret:
        """Exactly these registers; x1 onward stay as they were unless given (at most 18)."""
        if len(more) > 17:
            raise ValueError("a reply has at most 18 registers, x0 to x17")
        return tuple.__new__(cls, (x0 & MASK64, *(x & MASK64 for x in more)))

    @classmethod
    def retry(cls, *x: int) -> Ret:
        """These registers from x0 on, and PC is on the instruction again: it is made once more."""
        if len(x) > 18:
            raise ValueError("a reply has at most 18 registers, x0 to x17")
        return tuple.__new__(Retry, (value & MASK64 for value in x))

    @classmethod
    def untouched(cls) -> Ret:
        """No register is written."""
        return _UNTOUCHED

    @classmethod
    def not_supported(cls) -> Ret:
        """NOT_SUPPORTED in x0 and zero in x1–x3."""
        return _NOT_SUPPORTED

    def first(self, count: int) -> Ret:
        """The same reply with the registers from x`count` on left untouched."""
        return tuple.__new__(type(self), self[:count])

    @property
    def x0(self) -> int:
        """x0 as an unsigned 64-bit number."""
        return self[0]

    @property
    def signed(self) -> int:
        """x0 as a signed 64-bit number, to compare with NOT_SUPPORTED and its kin."""
        return self[0] - (1 << 64) if self[0] >> 63 else self[0]

    def __repr__(self) -> str:
        inside = ", ".join(f"x{n}={value:#x}" for n, value in enumerate(self))
        return f"{type(self).__name__}({inside})"


class Retry(Ret):
    """A reply after which the guest makes its call again, as Xen continues a long hypercall."""

    __slots__ = ()


_UNTOUCHED: Ret = tuple.__new__(Ret, ())
_NOT_SUPPORTED = Ret.value(NOT_SUPPORTED)


class Undef:
    """The reply "inject an Undefined Instruction exception": there is nobody to answer."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNDEF"


UNDEF = Undef()


def uuid_words(text: str) -> tuple[int, int, int, int]:
    """A UUID in text form as w0–w3: first byte in bits 7:0 of w0 (DEN0028)."""
    data = bytes.fromhex(text.replace("-", ""))
    w0, w1, w2, w3 = (int.from_bytes(data[i : i + 4], "little") for i in range(0, 16, 4))
    return w0, w1, w2, w3


def uuid_text(words: Iterable[int]) -> str:
    """w0–w3 as a UUID in text form; the inverse of `uuid_words`."""
    text = b"".join((w & MASK32).to_bytes(4, "little") for w in words).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

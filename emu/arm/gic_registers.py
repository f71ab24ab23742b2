"""The registers that GICv2's distributor and both frames of GICv3 have in common.

From 0x080 to 0xCFF the distributor of GICv2 (Arm IHI 0048, "Distributor register map"), that of
GICv3 and the SGI frame of its redistributor (Arm IHI 0069) have the same registers at the same
offsets: one bit for each INTID, for priorities a byte, for the configuration two bits. Register n
of a kind shows the n-th `Bank`. ICFGR of SGIs and PPIs cannot be written, as with KVM (linux
v6.12 arch/arm64/kvm/vgic/vgic-mmio.c:vgic_mmio_write_config).

An access of a width or at an address that no register has reads as zero and is ignored, as with
KVM (vgic-mmio.c:dispatch_mmio_read).
"""

from __future__ import annotations

from emu.arm.interrupts import BANK, Bank

IGROUPR, ISENABLER, ICENABLER, ISPENDR, ICPENDR = 0x080, 0x100, 0x180, 0x200, 0x280
ISACTIVER, ICACTIVER, IPRIORITYR, ITARGETSR = 0x300, 0x380, 0x400, 0x800
ICFGR, IGRPMODR = 0xC00, 0xD00
BITS_SIZE = 0x80
ICFGR_PRIVATE = ICFGR + 8
WORD = 0xFFFF_FFFF


class Words:
    """A device of 32-bit registers: 64-bit accesses are two, some bytes can be had singly."""

    def read(self, offset: int, width: int) -> int:
        if offset % width or not self._allowed(offset, width):
            return 0
        if width == 8:
            return self.read_word(offset) | self.read_word(offset + 4) << 32
        return self.read_word(offset & ~3) >> 8 * (offset & 3) & (1 << 8 * width) - 1

    def write(self, offset: int, width: int, value: int) -> None:
        if offset % width or not self._allowed(offset, width):
            return
        if width == 8:
            self.write_word(offset, value & WORD, WORD)
            return self.write_word(offset + 4, value >> 32 & WORD, WORD)
        shift, mask = 8 * (offset & 3), (1 << 8 * width) - 1
        self.write_word(offset & ~3, (value & mask) << shift, mask << shift)

    def _allowed(self, offset: int, width: int) -> bool:
        return width >= 4 or (width == 1 and self.has_bytes(offset))

    def has_bytes(self, offset: int) -> bool:
        """Whether a single byte of the register can be read and written."""
        return False

    def read_word(self, offset: int) -> int:
        """The register at an offset that is a multiple of four."""
        raise NotImplementedError

    def write_word(self, offset: int, value: int, mask: int) -> None:
        """Write the bits in `mask` of a register."""
        raise NotImplementedError


def bank_number(offset: int) -> int | None:
    """Which bank the register at an offset shows; None where there is no such register."""
    if IGROUPR <= offset < IPRIORITYR:
        return offset % BITS_SIZE // 4
    if IPRIORITYR <= offset < ITARGETSR:
        return (offset - IPRIORITYR) // BANK
    if ICFGR <= offset < IGRPMODR:
        return (offset - ICFGR) // 8
    return None


def read_bank(bank: Bank, offset: int) -> int:
    """The register at an offset of which `bank_number` knows the bank."""
    kind = offset & ~(BITS_SIZE - 1)
    if kind == IGROUPR:
        return bank.group
    if kind in (ISENABLER, ICENABLER):
        return bank.enabled
    if kind in (ISPENDR, ICPENDR):
        return bank.pending()
    if kind in (ISACTIVER, ICACTIVER):
        return bank.active
    if offset < ICFGR:
        first = offset % BANK
        return sum(bank.priority_of(first + n) << 8 * n for n in range(4))
    half = bank.edge >> (16 if offset & 4 else 0)
    return sum((half >> n & 1) << 2 * n + 1 for n in range(16))


def write_bank(bank: Bank, offset: int, value: int, mask: int) -> None:
    """Write it; `mask` has the bits that are written."""
    kind = offset & ~(BITS_SIZE - 1)
    if kind == IGROUPR:
        bank.group = value
    elif kind == ISENABLER:
        bank.enabled |= value
    elif kind == ICENABLER:
        bank.enabled &= ~value
    elif kind == ISPENDR:
        bank.latch |= value
    elif kind == ICPENDR:
        bank.latch &= ~value
    elif kind == ISACTIVER:
        bank.active |= value
    elif kind == ICACTIVER:
        bank.active &= ~value
    elif offset < ICFGR:
        _write_priorities(bank, offset % BANK, value, mask)
    elif offset >= ICFGR_PRIVATE:
        _write_configuration(bank, 16 if offset & 4 else 0, value)


def _write_priorities(bank: Bank, first: int, value: int, mask: int) -> None:
    for n in range(4):
        if mask >> 8 * n & 0xFF:
            bank.set_priority(first + n, value >> 8 * n & 0xFF)


def _write_configuration(bank: Bank, shift: int, value: int) -> None:
    edges = sum((value >> 2 * n + 1 & 1) << n for n in range(16))
    bank.edge = bank.edge & ~(0xFFFF << shift) | edges << shift

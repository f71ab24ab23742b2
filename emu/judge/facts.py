"""What a guest has been told, answer by answer, and the identifiers that tell it.

`Facts` is the knowledge a call may rest on (rules.py): which conduit there is, which versions were
announced, what the FEATURES functions said, who the vendor is. It learns from answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emu.base.abi import Abi
from emu.base.smccc import MASK32, MASK64, UNDEF, Call, Ret, Retry, uuid_text
from emu.world.describe import UID_OWNERS, subject

PSCI_VERSION, PSCI_FEATURES = 0x8400_0000, 0x8400_000A
SYSTEM_OFF, SYSTEM_RESET = 0x8400_0008, 0x8400_0009
SMCCC_VERSION, ARCH_FEATURES = 0x8000_0000, 0x8000_0001
TRNG_VERSION = 0x8400_0050
PV_TIME_FEATURES, PV_TIME_ST = 0xC500_0020, 0xC500_0021
VENDOR_UID, KVM_FEATURES = 0x8600_FF01, 0x8600_0000
RSI_VERSION = 0xC400_0190
SMC64 = 1 << 30
CPU_ON = 0x8400_0003
TRNG_RND = frozenset((0x8400_0053, 0xC400_0053))
NO_ENTROPY = -3
"""DEN0098."""
MAX_ASKED = 4096
"""Our choice: identifiers a FEATURES function was asked about, for a guest that asks about all."""


def signed(value: int) -> int:
    """w0 as a status code (DEN0028: codes are 32 bits, signed)."""
    value &= MASK32
    return value - (1 << 32) if value >> 31 else value


def name_of(id: int) -> str:
    """A function's name, or its number; what is no id by another ABI is a number of SMCCC's."""
    return subject(id if id > MASK64 else id & MASK32).name


def returns_x0_alone(fid: int) -> bool:
    """Whether a function is known to have its result in x0 and in no other register."""
    function = subject(fid & MASK32).function
    return function is not None and function.registers == 1


@dataclass(slots=True)
class Facts:
    """What the guest has been told by the answers so far, and what the machine is.

    `method` is what the device tree says of /psci ("" says nothing, None is not known),
    `read_method` whether the guest has read it. Versions are as answered, signed, None unasked;
    `psci` and `arch` hold what the two FEATURES functions answered of each identifier.
    """

    method: str | None = None
    read_method: bool = True
    ram: range = range(0)
    conduits: list[str] = field(default_factory=list)
    psci_version: int | None = None
    smccc_version: int | None = None
    trng_version: int | None = None
    rsi_version: int | None = None
    psci: dict[int, int] = field(default_factory=dict)
    arch: dict[int, int] = field(default_factory=dict)
    pv_time: dict[int, int] = field(default_factory=dict)
    uid: str | None = None
    vendor_features: int | None = None

    def learn(self, call: Call, answer: object) -> bool:
        """Take in one answer; whether it may have changed anything: only SMCCC tells."""
        if isinstance(call, Abi):
            return False
        conduit = str(call.conduit)
        new = conduit not in self.conduits and answer is not UNDEF
        if new:
            self.conduits.append(conduit)
        fid = int(call.fid)
        if fid not in _TELLING or not isinstance(answer, Ret) or isinstance(answer, Retry):
            return new
        if not answer:
            return new
        return self._take(fid, call, answer) or new

    def _take(self, fid: int, call: Call, answer: Ret) -> bool:
        """Keep an answer that tells something; whether it is new."""
        x0 = signed(answer.x0)
        tables = {PSCI_FEATURES: self.psci, ARCH_FEATURES: self.arch,
                  PV_TIME_FEATURES: self.pv_time}
        if fid in tables:
            asked = call.arg32(1)
            known = tables[fid].get(asked)
            if known is None and len(tables[fid]) >= MAX_ASKED:
                return False
            tables[fid][asked] = x0
            return known != x0
        name = _VERSIONS.get(fid, "")
        told: int | str = x0
        if fid == VENDOR_UID:
            name, told = "uid", "" if x0 == -1 else uuid_text((*answer[:4], 0, 0, 0)[:4])
        elif fid == KVM_FEATURES and len(answer) >= 4:
            name, told = "vendor_features", sum((answer[n] & MASK32) << 32 * n for n in range(4))
        if not name or getattr(self, name) == told:
            return False
        setattr(self, name, told)
        return True

    @property
    def vendor(self) -> str:
        """Who the UID names: "" where it was not asked or nobody answers."""
        return UID_OWNERS.get(self.uid, self.uid) if self.uid else ""

    def has_smccc(self, major: int, minor: int) -> bool:
        """Whether SMCCC_VERSION has announced at least this."""
        return (self.smccc_version or 0) >= major << 16 | minor

    def copy(self) -> Facts:
        """The same, to go on apart."""
        return Facts(
            self.method, self.read_method, self.ram, list(self.conduits), self.psci_version,
            self.smccc_version, self.trng_version, self.rsi_version, dict(self.psci),
            dict(self.arch), dict(self.pv_time), self.uid, self.vendor_features,
        )  # fmt: skip


_VERSIONS = {
    PSCI_VERSION: "psci_version", SMCCC_VERSION: "smccc_version", TRNG_VERSION: "trng_version",
    RSI_VERSION: "rsi_version",
}  # fmt: skip

_TELLING = frozenset(
    (*_VERSIONS, PSCI_FEATURES, ARCH_FEATURES, PV_TIME_FEATURES, VENDOR_UID, KVM_FEATURES)
)

"""A recording of real KVM: its file, and its operations as typed records.

    recording = read(Path("tests/golden/kvm-6.1-cortex-a72.jsonl.xz"))
    for operation in recording:
        if isinstance(operation, Call): ...

The file is xz-compressed JSON lines. The first is the header; each one after it is
`[line, result]`: the operation as the VMM was given it (plan.py) and what came of it. Numbers
are hexadecimal strings, except `r`: the ioctl's return value, or minus its errno. In the
result of a run, `x` names the registers that differ from those the call was made with, or all
of them where the plan set none.

Two kinds of value are different each time, so only their class is written: `entropy:MASK` and
`clock:MASK`, with the bits that may be set. Here they are `Some`.

This file imports nothing of the project, so that a test can read recordings by itself.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
CALL_REGS = 18
CONDUITS = {"h": "hvc", "s": "smc", "v": "svc"}
# KVM_EXIT_*, uapi linux/kvm.h
EXITS = {0: "unknown", 3: "hypercall", 6: "mmio", 9: "fail-entry", 10: "intr",
         17: "internal-error", 24: "system-event"}
ENTROPY_CALLS = {0x8400_0053: 32, 0xC400_0053: 64}  # TRNG_RND: id → bits per register
PTP = 0x8600_0001
PV_TIME_RECORD = 64
STOLEN_TIME = slice(16, 32)  # of a record's hexadecimal digits: bytes 8 to 15 (DEN0057)
CLOCK_REGS = {"603000000013df1a": "clock", "603000000013df01": "clock"}  # TIMER_CNT, PTIMER_CNT
MASK64 = (1 << 64) - 1


class RecordingError(Exception):
    """A file that is no recording, or not all of one, in one line."""


def poison(reg: int) -> int:
    """What a call has in a register that the plan does not name (run.c: poison)."""
    return 0xA5A5_C3C3_0000_0000 + 0x0101_0101 * (reg + 0x40)


POISON = tuple(poison(reg) for reg in range(CALL_REGS))


@dataclass(frozen=True, slots=True)
class Some:
    """A value of which only its kind is known: `entropy` or `clock`, within `mask`."""

    kind: str
    mask: int

    def allows(self, value: int) -> bool:
        return value & ~self.mask == 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One ioctl: `words` is the plan's line, `result` what came of it."""

    index: int
    section: str
    words: tuple[str, ...]
    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.words[0]

    @property
    def status(self) -> int:
        """The ioctl's return value, or minus its errno."""
        return int(self.result["r"])

    def number(self, word: int) -> int:
        """The argument at this position of the line."""
        return int(self.words[word], 16)

    def value(self, key: str) -> int:
        """A numeric part of the result."""
        return int(self.result[key], 16)

    def __str__(self) -> str:
        return f"operation {self.index} [{self.section}] {' '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Run(Operation):
    """KVM_RUN from where the vCPU was."""

    @property
    def vcpu(self) -> int:
        return self.number(1)

    @property
    def exit(self) -> str:
        """Why KVM_RUN came back: mmio is the guest code's own end (EXITS)."""
        return str(self.result.get("exit", ""))

    @property
    def waited(self) -> bool:
        """The vCPU waited as in WFI and went on when interrupted."""
        return "waited" in self.result

    @property
    def vector(self) -> int | None:
        """The offset from VBAR_EL1 of the exception that EL1 took, if any."""
        return self.value("vector") if "vector" in self.result else None

    @property
    def mp_states(self) -> tuple[int, ...]:
        """Of every vCPU, after the run."""
        return tuple(self.result["mp"])

    @property
    def args(self) -> tuple[int, ...]:
        """x0 to x17 as the plan set them; 0 where it set none."""
        return (0,) * CALL_REGS

    @property
    def x(self) -> tuple[int | Some, ...]:
        """x0 to x17 after the run."""
        values: list[int | Some] = list(self.args)
        for reg, text in self.result["x"].items():
            values[int(reg)] = _number(text)
        return tuple(values)


@dataclass(frozen=True, slots=True)
class Call(Run):
    """One HVC, SMC or SVC, and all that it changed."""

    @property
    def conduit(self) -> str:
        return CONDUITS[self.words[2]]

    @property
    def imm(self) -> int:
        return self.number(3)

    @property
    def el(self) -> int:
        return self.number(4)

    @property
    def args(self) -> tuple[int, ...]:
        """x0 to x17 before the call."""
        given = tuple(int(word, 16) for word in self.words[6 : 6 + CALL_REGS])
        return given + POISON[len(given) :]


@dataclass(frozen=True, slots=True)
class Recording:
    """A file: its header and its operations in order."""

    header: Mapping[str, Any]
    operations: Sequence[Operation]

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    @property
    def firmware(self) -> dict[int, int]:
        """The firmware registers of a fresh vCPU with PSCI 0.2: id → value at reset.

        The workaround levels among them are the host's, so they differ between cores.
        """
        dump = next(o for o in self.operations if o.name == "dump" and o.result.get("regs"))
        coprocs = (0x14, 0x16)  # KVM_REG_ARM_FW and KVM_REG_ARM_FW_FEAT_BMAP
        return {
            int(reg, 16): int.from_bytes(bytes.fromhex(value), "little")
            for reg, value in dump.result["regs"].items()
            if int(reg, 16) >> 16 & 0xFFF in coprocs
        }

    def calls(self) -> Iterator[Call]:
        return (operation for operation in self.operations if isinstance(operation, Call))


def _number(text: str) -> int | Some:
    kind, colon, mask = text.rpartition(":")
    return Some(kind, int(mask, 16)) if colon else int(text, 16)


# -- from the VMM's text ----------------------------------------------------------------------


def parse_result(words: Sequence[str], text: str) -> dict[str, Any]:
    """A line of results as it goes into the file."""
    raw = dict(part.split("=", 1) for part in text.split())
    if "r" not in raw:
        raise RecordingError(f"the VMM did not understand: {' '.join(words)}")
    result: dict[str, Any] = {"r": int(raw.pop("r"))}
    if words[0] == "dump":
        return result | {"regs": {reg: CLOCK_REGS.get(reg, v) for reg, v in raw.items()}}
    for key, value in raw.items():
        result |= _converted(key, value)
    if words[0] in ("call", "run"):
        _shorten(words, result)
    if words[0] == "read" and "v" in result:
        result["v"] = _without_stolen_time(result["v"])
    if words[0] == "get" and "v" in result and words[2] in CLOCK_REGS:
        result["v"] = CLOCK_REGS[words[2]]
    return result


def _converted(key: str, value: str) -> dict[str, Any]:
    if key == "e":
        return {"exit": EXITS.get(int(value, 16), value)}
    if key == "mp":
        return {"mp": [int(state, 16) for state in value.split(",") if state]}
    if key in ("x", "ids"):
        return {key: value.split(",") if value else []}
    return {key: value}


def _shorten(words: Sequence[str], result: dict[str, Any]) -> None:
    """Keep of x0–x17 what changed, with values that differ each time reduced to a class."""
    if "x" not in result:
        return
    call = Call(0, "", tuple(words), {}) if words[0] == "call" else None
    after = [int(text, 16) for text in result["x"]]
    classes = _classes(call, after) if call else {}
    result["x"] = {
        str(reg): classes.get(reg, f"{value:x}")
        for reg, value in enumerate(after)
        if call is None or value != call.args[reg] or reg in classes
    }


def _classes(call: Call, after: Sequence[int]) -> dict[int, str]:
    fid = call.args[0] & 0xFFFF_FFFF
    if fid in ENTROPY_CALLS and after[0] == 0:
        return _entropy(ENTROPY_CALLS[fid], call.args[1] & 0xFFFF_FFFF, after)
    # A wall clock has seconds since 1970; a refusal has -1, 0, 0, 0.
    if fid == PTP and after[0] not in (fid, MASK64) and call.vector is None:
        return {reg: "clock:ffffffff" for reg in range(4) if after[reg] >> 32 == 0}
    return {}


def _entropy(width: int, bits: int, after: Sequence[int]) -> dict[int, str]:
    """The lowest word is in x3 (DEN0098); a value outside its mask stays, to be seen."""
    found = {}
    for reg in (3, 2, 1):
        mask = (1 << max(0, min(width, bits))) - 1
        bits -= width
        if mask and after[reg] & ~mask == 0:
            found[reg] = f"entropy:{mask:x}"
    return found


def _without_stolen_time(text: str) -> str:
    """Hexadecimal bytes from the start of a record, with the clocks of all records blotted out."""
    size, start, stop = 2 * PV_TIME_RECORD, STOLEN_TIME.start, STOLEN_TIME.stop
    records = [text[at:at + size] for at in range(0, len(text), size)]
    return "".join(r[:start] + "x" * (stop - start) + r[stop:] for r in records)


# -- files ------------------------------------------------------------------------------------


def write(path: Path, header: Mapping[str, Any], lines: Iterable[tuple[str, Any]]) -> None:
    """Write a recording, all or nothing."""
    texts = [json.dumps(header)]
    texts += [json.dumps(pair, separators=(",", ":")) for pair in lines]
    part = path.with_name(path.name + ".part")
    part.write_bytes(lzma.compress(("\n".join(texts) + "\n").encode(), preset=9))
    part.replace(path)


def read(path: Path) -> Recording:
    """Read a recording; one that is damaged or cut short is refused."""
    try:
        header, *rest = lzma.decompress(path.read_bytes()).decode().splitlines()
        head = json.loads(header)
        operations = _operations(map(json.loads, rest))
        schema, count = head["schema"], head["operations"]
    except (lzma.LZMAError, ValueError, KeyError, TypeError, EOFError) as error:
        raise RecordingError(f"{path}: not a recording of KVM ({error})") from None
    if schema != SCHEMA:
        raise RecordingError(f"{path}: schema {schema}, this reader knows {SCHEMA}")
    if count != len(operations):
        raise RecordingError(f"{path}: {len(operations)} operations of {count}: cut short")
    return Recording(head, operations)


def of_pairs(header: Mapping[str, Any], pairs: Iterable[tuple[str, dict[str, Any]]]) -> Recording:
    """A recording that is not a file yet."""
    return Recording(header, _operations(pairs))


def _operations(pairs: Iterable[tuple[str, dict[str, Any]]]) -> list[Operation]:
    operations: list[Operation] = []
    section = ""
    kinds = {"call": Call, "run": Run}
    for index, (line, result) in enumerate(pairs, start=1):
        words = tuple(line.split())
        if words[0] == "section":
            section = " ".join(words[1:])
        operations.append(kinds.get(words[0], Operation)(index, section, words, result))
    return operations

"""What the tests of the matrix share: outcomes by hand, and work that goes wrong on demand."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections import Counter

from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.judge.discovery import Verdict
from emu.judge.trial import CallLine, Outcome, Setup
from emu.runs.matrix import Cell, Result
from emu.world.profile import data_folder
from image_kit import BASE, elf, phdr

HELLO_ELF = str(data_folder("guests") / "hello.elf")
HELLO = CallLine(100, 0, "hvc", "PSCI_VERSION()", "0x10001 (version 1.1)", "service psci")
BROKEN = Verdict("made-up-rule", 120, 0, 0x4000_0010, "main+0x10", "it did what none should")


def outcome(ending=Ending.OFF, status=0, **more) -> Outcome:
    fields = {
        "ending": ending, "status": status, "detail": "", "console": "hello\n",
        "calls": (HELLO,), "verdicts": (), "total_calls": 1, "cycles": 1000,
        "instructions": 1000, "seconds": 0.001,
    }  # fmt: skip
    return Outcome(**(fields | more))


def result(guest="hello", profile="kvm-6.12", made=None, **setup) -> Result:
    cell = Cell(guest, profile, Setup(f"/guests/{guest}.elf", profile, **setup))
    return Result(cell, made or outcome(), "ab" * 32)


RICH = result(
    "trng", "./mine.toml",
    outcome(Ending.EXIT, 3, detail="3", console="\0é\x1b[2J" * 100, verdicts=(BROKEN,)),
    conduit="smc", cpus=4, core="max", services=(("trng", False),), registers=(("STD_BMAP", 0),),
    deny=((0x8400_0050, 16),), memory=1 << 20, seed=2**64 - 1, append="a b", cycles=None,
)  # fmt: skip


def work(setup: Setup) -> Outcome:
    """Does what `append` says."""
    match setup.append:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "end":
            os.kill(os.getpid(), signal.SIGTERM)
        case "leave":
            os._exit(7)
        case "hang":
            time.sleep(3600)
        case "memory":
            return outcome(console=str(len(bytearray(1 << 45))))
        case "much memory":
            return outcome(console=str(len(bytearray(8 << 30))))
        case "refuse":
            raise EmuError("cannot be built")
        case "bug":
            raise ValueError("a bug")
        case "slow":
            time.sleep(0.05)
    return outcome(console=f"{setup.seed}")


def program(*words: int) -> bytes:
    """An ELF whose entry is these instructions."""
    body = struct.pack(f"<{len(words)}I", *words)
    return elf(phdr(offset=0x1000, filesz=len(body), memsz=0x1000), body=body, entry=BASE)


# Encodings: DDI 0487 chapter C6.
FOR_EVER = program(0x1400_0000)  # b .
# movz x1, #0x900, lsl 16; movz x0, #'a'; str w0, [x1]; b .-4
PRINTS_FOR_EVER = program(0xD2A1_2001, 0xD280_0C20, 0xB900_0020, 0x17FF_FFFF)
FAULTS = program(0x0000_0000)  # udf #0, with no vectors
# movz x0, #0x8400, lsl 16; hvc #0; b .-8: PSCI_VERSION for ever
CALLS_FOR_EVER = program(0xD2B0_8000, 0xD400_0002, 0x17FF_FFFE)


def setups(*appends, **more):
    return {n: Setup(HELLO_ELF, append=a, seed=n, **more) for n, a in enumerate(appends)}


def collect(answers):
    """Every outcome by its number; each must come once."""
    found = [pair for batch in answers for pair in batch]
    assert max(Counter(number for number, _ in found).values()) == 1
    return dict(found)


def check(found, appends):
    """Good ones are good, and each bad one has cost itself only."""
    assert set(found) == set(range(len(appends)))
    for number, append in enumerate(appends):
        if append in ("", "slow"):
            assert found[number].console == str(number)
        else:
            expected = Ending.REFUSED if append == "refuse" else Ending.LOST
            assert found[number].ending is expected, (append, found[number])

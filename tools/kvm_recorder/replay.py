"""Replays a recording of real KVM on the model, operation by operation, and compares.

    differences = list(replay(read(path), "kvm-6.1"))

Every operation of the file is done again through the model's own ioctls (emu/kvm): the same
calls run as guest code on the engine, and registers, exits, MP states, errno and lists are
compared with what the kernel did. What the model does not claim to hold is listed in `OUTSIDE`
with the reason, and counted, never silently passed over.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from emu.base import exits
from emu.base.errors import KvmError
from emu.kvm import abi as kvm_abi
from emu.kvm.ioctls import Kvm, KvmVm
from emu.kvm.vcpu import KvmVcpu
from emu.world import onereg
from emu.world.onereg import Group
from kvm_recorder.recording import Call, Operation, Recording, Run, Some

CODE, VECTOR_STORES, MMIO_PAGE = 0x1_0000, 0x100, 0xFFF
PSTATE_FLAGS_AND_DAIF, EL1H = 0x6000_03C0, 5  # run.c: set_pstate
LOW = {"hvc": 2, "smc": 3, "svc": 1}
HANG = 200_000
"""Cycles after which a vCPU that does nothing counts as waiting; run.c waits 10 to 30 ms."""
KNOWN_CAPS = (
    kvm_abi.CAP_MP_STATE, kvm_abi.CAP_ONE_REG, kvm_abi.CAP_ARM_PSCI, kvm_abi.CAP_ARM_PSCI_0_2,
    kvm_abi.CAP_STEAL_TIME, kvm_abi.CAP_PTP_KVM, kvm_abi.CAP_SYSTEM_EVENT_DATA,
    kvm_abi.CAP_ARM_SYSTEM_SUSPEND,
)  # fmt: skip
LISTED = (Group.CORE, Group.FW, Group.FW_FEAT_BMAP)

OUTSIDE: Mapping[str, str] = {
    "target": "KVM_ARM_PREFERRED_TARGET describes the host's core",
    "dump": "the values of ID and timer registers are the host core's",
}


class Difference(NamedTuple):
    """Where model and kernel part ways."""

    operation: Operation
    key: str
    kernel: object
    model: object

    def __str__(self) -> str:
        return f"{self.operation}: {self.key}: kernel {self.kernel}, model {self.model}"


class Replay:
    """The model's machine, as far as the recording has brought it."""

    def __init__(self, profile: str, host: kvm_abi.HostCore | None = None) -> None:
        self.kvm = Kvm(profile, host=host)
        self.vm: KvmVm | None = None
        self.vcpus: dict[int, KvmVcpu] = {}
        self.word: int | None = None
        self.skipped: Counter[str] = Counter()

    def differences(self, operation: Operation) -> Iterator[Difference]:
        """Do one operation and say what differs."""
        if operation.name in OUTSIDE or (reason := self._outside(operation)):
            self.skipped[OUTSIDE.get(operation.name) or reason] += 1
            return
        do: Callable[[Operation], Mapping[str, Any]] = getattr(self, f"_{operation.name}")
        try:
            mine = {"r": 0, **do(operation)}
        except KvmError as error:
            mine = {"r": -error.errno}
        yield from _compare(operation, mine)

    def _outside(self, operation: Operation) -> str:
        """Why the model makes no claim about this operation; "" where it does."""
        if operation.name in ("get", "set"):
            group = operation.number(2) >> 16 & 0xFFFF
            if group not in LISTED and operation.number(2) >> 60 == 6:
                self._set_quietly(operation)
                return "system, timer and cache registers are the host core's"
        if operation.name == "list" and operation.status == -errno.E2BIG and operation.number(2):
            return "how many registers the host core's list has"
        if operation.name == "attr" and operation.words[1] != "m" and operation.number(3) not in (
            0, kvm_abi.VCPU_PVTIME_CTRL
        ):
            return "vCPU attributes of timers and PMU"
        if operation.name in ("cap", "enable") and operation.number(2) not in KNOWN_CAPS:
            return "capabilities that have nothing to do with hypercalls"
        return ""

    def _set_quietly(self, operation: Operation) -> None:
        """The guest's vectors are set through here: do what the model can."""
        if operation.name == "set":
            with contextlib.suppress(KvmError):
                self._set(operation)

    # -- the ioctls -------------------------------------------------------------------------

    def _section(self, operation: Operation) -> dict[str, Any]:
        return {}

    def _vm(self, operation: Operation) -> dict[str, Any]:
        kind = operation.number(1) if len(operation.words) > 1 else 0
        self.vm = self.kvm.create_vm(kind, memory=0)
        self.vcpus, self.word = {}, None
        return {}

    @property
    def _machine(self) -> KvmVm:
        assert self.vm is not None
        return self.vm

    def _ram(self, operation: Operation) -> dict[str, Any]:
        self._machine.set_user_memory_region(operation.number(1), operation.number(2))
        return {}

    def _vcpu(self, operation: Operation) -> dict[str, Any]:
        index = operation.number(1)
        identifier = operation.number(2) if len(operation.words) > 2 else index
        self.vcpus[index] = self._machine.create_vcpu(identifier)
        return {}

    def _vcpu_of(self, word: str) -> KvmVcpu:
        try:
            return self.vcpus[int(word, 16)]
        except KeyError:
            raise KvmError("there is no such vCPU", errno.EBADF) from None

    def _init(self, operation: Operation) -> dict[str, Any]:
        words = [operation.number(n) for n in range(3, len(operation.words))]
        features = tuple(
            32 * n + bit for n, word in enumerate(words) for bit in range(32) if word >> bit & 1
        )
        self._vcpu_of(operation.words[1]).init(operation.number(2), features)
        return {}

    def _write(self, operation: Operation) -> dict[str, Any]:
        words = [operation.number(n) for n in range(2, len(operation.words))]
        self._machine.write(operation.number(1), struct.pack(f"<{len(words)}I", *words))
        self.word = None
        return {}

    def _read(self, operation: Operation) -> dict[str, Any]:
        return {"v": self._machine.read(operation.number(1), operation.number(2)).hex()}

    def _cap(self, operation: Operation) -> dict[str, Any]:
        return {"r": self.kvm.check_extension(operation.number(2))}

    def _enable(self, operation: Operation) -> dict[str, Any]:
        flags = operation.number(3) if len(operation.words) > 3 else 0
        if operation.words[1] != "m":
            raise KvmError("a vCPU has no capability of its own here", errno.EINVAL)
        self._machine.enable_cap(operation.number(2), flags)
        return {}

    def _list(self, operation: Operation) -> dict[str, Any]:
        listed = self._vcpu_of(operation.words[1]).get_reg_list()
        if operation.number(2) < len(listed):
            raise KvmError("the list does not fit", errno.E2BIG)
        return {"ids": [i for i in listed if onereg.split(i).group in LISTED]}

    def _get(self, operation: Operation) -> dict[str, Any]:
        identifier = operation.number(2)
        value = self._vcpu_of(operation.words[1]).get_one_reg(identifier)
        if len(operation.words) > 3:
            raise KvmError("nowhere to put the value", errno.EFAULT)
        return {"v": value.to_bytes(onereg.split(identifier).size, "little").hex()}

    def _set(self, operation: Operation) -> dict[str, Any]:
        identifier, text = operation.number(2), operation.words[3]
        value = int.from_bytes(bytes.fromhex(text), "little") if text[0] != "-" else None
        self._vcpu_of(operation.words[1]).set_one_reg(identifier, value)
        return {}

    def _irq(self, operation: Operation) -> dict[str, Any]:
        vcpu = self._vcpu_of(operation.words[1])
        vcpu.irq_line(bool(operation.number(2)))
        return {}

    def _mpget(self, operation: Operation) -> dict[str, Any]:
        return {"v": int(self._vcpu_of(operation.words[1]).get_mp_state())}

    def _mpset(self, operation: Operation) -> dict[str, Any]:
        self._vcpu_of(operation.words[1]).set_mp_state(operation.number(2))
        return {}

    def _attr(self, operation: Operation) -> dict[str, Any]:
        _, file, request, *_ = operation.words
        group, attribute, text = operation.number(3), operation.number(4), operation.words[5]
        data = None if text[0] == "-" else bytes.fromhex(text)
        target: Any = self._machine if file == "m" else self._vcpu_of(file)
        if request[0] == "h":
            target.has_device_attr(group, attribute)
        elif file == "m":
            do = target.get_device_attr if request[0] == "g" else target.set_device_attr
            do(group, attribute, data)
        elif request[0] == "g":
            return {"v": self._read_attribute(target, group, attribute, data)}
        else:
            value = None if data is None else int.from_bytes(data[:8], "little")
            target.set_device_attr(group, attribute, value)
        return {}

    @staticmethod
    def _read_attribute(vcpu: KvmVcpu, group: int, attribute: int, data: bytes | None) -> str:
        value = vcpu.get_device_attr(group, attribute)
        if data is None:
            raise KvmError("nowhere to put the value", errno.EFAULT)
        return value.to_bytes(8, "little").hex()

    # -- running ----------------------------------------------------------------------------

    def _call(self, operation: Call) -> dict[str, Any]:
        vcpu = self._vcpu_of(operation.words[1])
        self._place(0xD400_0000 | operation.imm << 5 | LOW[operation.conduit])
        vcpu.load(
            x=operation.args, pc=CODE, pstate=PSTATE_FLAGS_AND_DAIF | EL1H * operation.el
        )
        return self._run(operation)

    def _place(self, word: int) -> None:
        if word != self.word:
            self._machine.write(CODE, struct.pack("<I", word))
            self.word = word

    def _run(self, operation: Run) -> dict[str, Any]:
        vcpu = self._vcpu_of(operation.words[1])
        exit = vcpu.run(HANG)
        waited = {}
        may_wait = operation.words[-1 if operation.name == "run" else 5] == "1"
        if may_wait and isinstance(exit, exits.Wfi | exits.Deadline):
            # The recorder's alarm interrupts a vCPU that waits; out of WFI it then goes on.
            waited = {"waited": "1"}
            vcpu.wake()
            exit = vcpu.run(HANG)
        return {**_exit(exit), **waited, **self._state(vcpu, exit)}

    def _state(self, vcpu: KvmVcpu, exit: exits.Exit) -> dict[str, Any]:
        shown = vcpu.show()
        state = {
            "x": shown[0], "pc": shown[1], "ps": shown[2],
            "mp": [int(self.vcpus[n].get_mp_state()) for n in sorted(self.vcpus)],
        }  # fmt: skip
        if isinstance(exit, exits.Mmio):
            low = exit.address & MMIO_PAGE
            if low >= VECTOR_STORES:
                state["vector"] = (low - VECTOR_STORES) // 4 * 0x80
            vcpu.complete()
        return state


def _exit(exit: exits.Exit) -> dict[str, Any]:
    match exit:
        case exits.Mmio():
            return {"exit": "mmio", "mmio": exit.address}
        case exits.SystemEvent():
            return {"exit": "system-event", "type": int(exit.kind), "flags": exit.flags}
        case exits.Hypercall():
            smc = int(exit.call.conduit == "smc")
            return {"exit": "hypercall", "nr": int(exit.call.fid), "flags": smc}
    return {"r": -errno.EINTR, "exit": "intr"}


_NUMBERS = ("pc", "ps", "mmio", "nr", "vector", "type")


def _kernel(operation: Operation) -> dict[str, Any]:
    """What the recording says, in the terms `Replay` uses."""
    result = operation.result
    kernel: dict[str, Any] = {"r": operation.status}
    if operation.name == "list" and "ids" in result:
        ids = [int(i, 16) for i in result["ids"]]
        kernel["ids"] = [i for i in ids if (i >> 16 & 0xFFFF) in LISTED]
    if operation.name in ("get", "read", "attr") and "v" in result:
        kernel["v"] = result["v"]
    if operation.name == "mpget" and "v" in result:
        kernel["v"] = int(result["v"], 16)
    if isinstance(operation, Run) and "exit" in result:
        kernel |= {"exit": operation.exit, "mp": list(operation.mp_states)}
        if "x" in result:
            kernel["x"] = operation.x
        kernel |= {key: int(result[key], 16) for key in _NUMBERS if key in result}
        if "waited" in result:
            kernel["waited"] = "1"
        if operation.exit == "hypercall":
            kernel["flags"] = int(result["flags"], 16)
        if operation.exit == "system-event":
            kernel["flags"] = int.from_bytes(bytes.fromhex(result["data"][:16]), "little")
    return kernel


def _compare(operation: Operation, mine: Mapping[str, Any]) -> Iterator[Difference]:
    kernel = _kernel(operation)
    if kernel["r"] != mine["r"]:
        yield Difference(operation, "result", _errno(kernel["r"]), _errno(mine["r"]))
        return
    if kernel["r"] < 0 and "exit" not in mine:
        return  # the ioctl failed before anything ran
    for key, expected in kernel.items():
        found = mine.get(key)
        if key == "x":
            yield from _compare_registers(operation, expected, found)
        elif key == "v" and operation.name == "read":
            if not _same_memory(expected, found):
                yield Difference(operation, key, expected, found)
        elif expected != found:
            yield Difference(operation, key, _shown(expected), _shown(found))


def _compare_registers(operation: Operation, expected: Any, found: Any) -> Iterator[Difference]:
    for n, (kernel, model) in enumerate(zip(expected, found, strict=False)):
        good = kernel.allows(model) if isinstance(kernel, Some) else kernel == model
        if not good:
            yield Difference(operation, f"x{n}", _shown(kernel), _shown(model))


def _same_memory(kernel: str, model: object) -> bool:
    """Equal digits, but for those of a clock (`x`)."""
    text = str(model)
    pairs = zip(kernel, text, strict=False)
    return len(kernel) == len(text) and all(known in ("x", found) for known, found in pairs)


def _errno(status: int) -> str:
    return errno.errorcode.get(-status, str(status)) if status < 0 else str(status)


def _shown(value: object) -> object:
    return hex(value) if isinstance(value, int) else value


def host_of(recording: Recording) -> kvm_abi.HostCore:
    """The core that was recorded: what it says of itself, and the size of its addresses."""
    levels: dict[str, int] = {}
    ipa_bits = kvm_abi.A72_IPA_BITS
    for operation in recording:
        if operation.status != 0:
            continue
        if operation.name == "get" and (name := WORKAROUNDS.get(operation.number(2))):
            levels.setdefault(name, int.from_bytes(bytes.fromhex(operation.result["v"]), "little"))
        if operation.name == "vm" and len(operation.words) > 1:
            ipa_bits = max(ipa_bits, operation.number(1))
    features = frozenset({kvm_abi.SVE} if recording.header["core"] == "max" else ())
    return kvm_abi.HostCore(levels, features, ipa_bits)


WORKAROUNDS = {
    onereg.make(Group.FW, n): f"KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_{n}" for n in (1, 2, 3)
}


def replay(recording: Recording, profile: str) -> Iterator[Difference]:
    """Every difference between the kernel that was recorded and the model of `profile`."""
    machine = Replay(profile, host_of(recording))
    for operation in recording:
        yield from machine.differences(operation)

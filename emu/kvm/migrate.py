"""What moving a guest from one kernel to another does to its interface.

A VMM reads the firmware registers on the source and writes them on the destination. What it can
write decides what the guest finds there: a register the destination does not have (ENOENT), a
value it does not accept (EINVAL), and those it has and the VMM never heard of, which keep their
reset values. That is how VENDOR_HYP_BMAP_2, appearing unconditionally in 2025, broke migration
back to older kernels (qemu-devel, 25 Nov 2025), and how an old VMM lets a guest gain services.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple

from emu.base.errors import KvmError
from emu.base.exits import Exit
from emu.base.smccc import Call, Ret
from emu.kvm.ioctls import Kvm
from emu.kvm.vcpu import KvmVcpu
from emu.machine.instrument import CallRecord, Instrument
from emu.watch.explain import questions
from emu.world.describe import answer_text, call_text, subject_of
from emu.world.monitor import El2
from emu.world.paper import PaperHost
from emu.world.policy import Policy, RegisterKind
from emu.world.profile import Profile

VMMS = ("new", "old")
"""A VMM that writes every register the source lists, and one that knows no bitmap register."""


class Write(NamedTuple):
    """One register the VMM wrote on the destination; `error` is "" or the errno's name."""

    register: str
    value: int
    error: str


class Change(NamedTuple):
    """A call the guest would find answered otherwise; `kind` is gained, lost or changed."""

    kind: str
    call: Call
    before: str
    after: str

    def __str__(self) -> str:
        what = f"{self.call.conduit} {call_text(self.call, subject_of(self.call))}"
        return f"{self.kind:<8} {self.call.fid} {what:<46} {self.before} → {self.after}"


class Move(NamedTuple):
    """A migration: the writes, what they did to the guest, and what the VMM did not know of."""

    writes: list[Write]
    untouched: list[str]
    changes: list[Change]
    profile: Profile
    policy: Policy

    @property
    def failed(self) -> bool:
        """Whether a write failed: a VMM gives up there."""
        return any(write.error for write in self.writes)


def move(source: El2, target: Profile, vmm: str = "new") -> Move:
    """Carry the source's firmware registers over to a fresh VM on the target."""
    vm = Kvm(target).create_vm()
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    known = _known_registers(source.policy, vmm)
    writes = [_write(vcpu, source.policy, name) for name in known]
    untouched = [name for name in target.policy.definitions if name not in known]
    changes = list(_changes(source, vm.vm.el2))
    return Move(writes, untouched, changes, target, vm.vm.el2.policy)


def _known_registers(policy: Policy, vmm: str) -> list[str]:
    if vmm == "new":
        return list(policy.definitions)
    return [n for n, r in policy.definitions.items() if r.kind is not RegisterKind.BITMAP]


def _write(vcpu: KvmVcpu, policy: Policy, name: str) -> Write:
    value = policy.values[name]
    try:
        vcpu.set_one_reg(policy.definitions[name].id, value)
    except KvmError as error:
        return Write(name, value, errno.errorcode[error.errno])
    return Write(name, value, "")


def _changes(before: El2, after: El2) -> Iterator[Change]:
    for call in questions():
        old, new = _answer(before, call), _answer(after, call)
        if old != new:
            good_old, good_new = _is_good(before, call), _is_good(after, call)
            kind = "changed" if good_old == good_new else "gained" if good_new else "lost"
            yield Change(kind, call, old, new)


def _fresh(el2: El2) -> El2:
    """The same policy in front of a machine that no earlier question has touched."""
    paper = El2(el2.profile, PaperHost())
    paper.policy = el2.policy
    return paper


def _answer(el2: El2, call: Call) -> str:
    return answer_text(_fresh(el2).answer(call), subject_of(call, el2))


def _is_good(el2: El2, call: Call) -> bool:
    """Whether the call reaches somebody who does it."""
    answer = _fresh(el2).answer(call)
    if isinstance(answer, Ret):
        return bool(answer) and answer.signed >= 0
    return isinstance(answer, Exit)


def lines(move: Move, used: UsedCalls) -> Iterator[str]:
    """The report; calls the guest has made itself are marked."""
    yield f"register writes on {move.profile.name}:"
    width = max((len(write.register) for write in move.writes), default=0)
    for write in move.writes:
        yield f"  {write.register:<{width}}  {write.value:#9x}  {write.error or 'ok'}"
    for name in move.untouched:
        value = move.profile.policy.values[name]
        yield f"  {name:<{width}}  {value:#9x}  not known to the VMM: stays as the kernel resets it"
    if not move.changes:
        yield "the guest cannot tell the difference"
        return
    yield "what the guest gains and loses (* calls it has made itself):"
    for change in move.changes:
        yield f"{'*' if used.has(change.call) else ' '} {change}"


class UsedCalls(Instrument):
    """The functions a guest has called, by which conduit."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, int]] = set()

    def on_call(self, record: CallRecord) -> None:
        self._seen.add((record.call.conduit, record.call.fid))

    def has(self, call: Call) -> bool:
        """Whether the guest has called this function by this conduit."""
        return (call.conduit, call.fid) in self._seen

"""The way of a call through the policy of one level, and why it is that one.

The order is that of linux v6.17 (arch/arm64/kvm/handle_exit.c:handle_hvc and handle_smc,
hypercalls.c:kvm_smccc_call_handler): the conduit and its immediate choose the interface; the
SMCCC filter may deny or forward; a firmware register must elect the function; then a service
answers. It depends on nothing but the identifier, the conduit, the immediate and the policy,
so it is worked out once for each and kept (monitor.py). `Route.steps` is the whole way in words.
An ABI other than SMCCC has no filter: its number finds a service, or the reply to the unknown.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import NamedTuple

from emu.base import exits
from emu.base.abi import Abi, is_abi
from emu.base.smccc import (
    MASK32,
    NOT_SUPPORTED,
    SVE_HINT,
    UNDEF,
    Call,
    Conduit,
    FunctionId,
    Ret,
)
from emu.world.abis import abi_class, id_text
from emu.world.policy import Action, Policy
from emu.world.profile import Profile
from emu.world.service import Answer, Function, Handler, Host, Service

FULL_REPLY = 4
USUAL_REGISTERS = 8
"""Of a call by SMCCC: x0 to x7 (DEN0028)."""
_FILTER_SOURCE = "linux v6.4 arch/arm64/kvm/hypercalls.c:kvm_smccc_call_handler"
PSCI_FEATURES, SMCCC_VERSION, CPU_SUSPEND = 0x8400_000A, 0x8000_0000, 0x8400_0001
SMC64 = 0x4000_0000
SERVED_OWNERS = (0, 4, 5, 6)
"""Owners KVM serves any function of (abi/C §C2); "owner-range" forwards all others."""


class Route(NamedTuple):
    """Where a call goes and why. `function` and `service` are None when nobody answers."""

    answer: Handler
    why: str
    source: str
    service: Service | None = None
    function: Function | None = None
    steps: tuple[str, ...] = ()
    place: str = ""
    """Of the service in its profile: file and line."""


def is_psci(fid: int) -> bool:
    """Whether an identifier is PSCI's as the series of 2021 drew the line (abi/D §D3)."""
    return 0x95C1_BA5E <= fid <= 0x95C1_BA61 or 0x8400_0000 <= fid & ~SMC64 <= 0x8400_003F


class Router:
    """The rules of one profile under one policy, over the functions there are."""

    def __init__(
        self,
        profile: Profile,
        policy: Policy,
        functions: Mapping[int, tuple[Service, Function]],
        instructions: Mapping[tuple[Conduit, int], str],
        host: Host,
    ) -> None:
        self.profile, self.policy, self._functions = profile, policy, functions
        self._instructions, self._host = instructions, host
        self.modes = profile.modes
        self._interface: tuple[object, tuple[str, str, str]] = None, ("", "", "")
        """The last instruction that was asked for, with its interface: mostly it is the same."""

    def look_up(self, fid: int) -> FunctionId:
        """The identifier as functions are found by: without the SVE hint where there is one."""
        return FunctionId(fid & ~SVE_HINT if self.profile.sve_hint else fid)

    def find(self, id: int) -> tuple[Service, Function] | None:
        """The declaration of a function, whether the policy elects it or not."""
        return self._functions.get(self.look_up(id) if id <= MASK32 else id)

    def offered(self, fid: int) -> tuple[Service, Function] | None:
        """The service and function behind an identifier, when the policy elects it."""
        found = self.find(fid)
        return found if found and not self._obstacle(self.look_up(fid), *found) else None

    def route(self, number: int, conduit: Conduit, imm: int) -> Route:
        """The way of a call of this number: all of x0 where it is one by SMCCC."""
        interface, rule, source = self.interface(conduit, imm)
        if interface in _FIXED:
            return Route(_FIXED[interface], rule, source, steps=(rule,))
        kind = abi_class(interface)
        if is_abi(kind):
            route = self._numbered(kind, number)
        else:
            route = self._narrow(self._smccc(number, conduit))
        steps = (rule, *(route.steps or (route.why,)))
        return self._widen(route, kind)._replace(steps=steps)

    def _numbered(self, abi: type[Abi], number: int) -> Route:
        """The way of a call by an ABI that knows numbers and no policy."""
        id = abi.id_of(number)
        found = self._functions.get(id)
        why = f"no service of {self.profile.name} has {abi.numbers.get(number, id_text(id))}"
        if found is not None:
            why = self._obstacle(number, *found)
            if not why:
                return self._served(*found)
        steps = (why, f"{abi.name} has a reply to the unknown: {abi.unknown!r}")
        return Route(lambda call: abi.unknown, why, abi.source, steps=steps)

    def _widen(self, route: Route, kind: type[Call]) -> Route:
        """Show the handler as many registers as its function asks for."""
        reads = route.function.reads if route.function else 0
        if reads <= getattr(kind, "registers", USUAL_REGISTERS):
            return route
        return route._replace(answer=_with_registers(route.answer, reads, self._host))

    def interface(self, conduit: Conduit, imm: int) -> tuple[str, str, str]:
        """Which interface the instruction leads to, by which rule, from which source."""
        if self._interface[0] != (conduit, imm):
            self._interface = (conduit, imm), self._find_interface(conduit, imm)
        return self._interface[1]

    def _find_interface(self, conduit: Conduit, imm: int) -> tuple[str, str, str]:
        profile = self.profile
        if own := self._instructions.get((conduit, imm)):
            return own, f"{conduit.upper()} #{imm:#x} is {own}'s", ""
        interface = profile.interface(conduit, imm)
        key = str(imm) if str(imm) in profile.rules[conduit] else "other"
        source = profile.source(conduit, key)
        name, by = f"{conduit.upper()} #{imm:#x}", profile.name
        mode = "smc" if conduit is Conduit.SMC else "hvc.imm"
        chosen = self.modes[mode]
        if chosen != "profile" and (conduit is Conduit.SMC or imm):
            interface, by = _MODE_INTERFACES[mode, chosen], f"mode {mode} = {chosen}"
            if (mode, chosen) == ("smc", "handle") and imm:
                interface = "x0-only"
        way = "is passed down" if interface == "down" else f"leads to {interface}"
        return interface, f"{by}: {name} {way}", source

    def _smccc(self, x0: int, conduit: Conduit) -> Route:
        fid = x0 & MASK32
        if self.profile.full_identifier and x0 > MASK32:
            return self._unknown(fid, conduit, f"{self.profile.name}: x0 is compared whole")
        owner = self.modes["psci.owner"]
        if is_psci(fid) and owner.startswith("user"):
            return self._psci_to_user(fid, conduit, owner)
        filtered = None if is_psci(fid) and owner == "rmm" else self.policy.find(fid)
        if filtered and filtered.action is Action.DENY:
            return Route(denied, f"SMCCC filter denies {filtered}", _FILTER_SOURCE)
        if filtered and filtered.action is Action.FORWARD:
            why = f"SMCCC filter forwards {filtered}"
            return Route(forward_to(filtered.target), why, _FILTER_SOURCE)
        if fid & ~SMC64 == CPU_SUSPEND and self.modes["suspend"] == "halted-by-vmm":
            return Route(forward_to(""), "mode suspend = halted-by-vmm", _SEED_001)
        return self._service(fid, conduit)

    def _psci_to_user(self, fid: int, conduit: Conduit, owner: str) -> Route:
        why = f"mode psci.owner = {owner} forwards PSCI"
        forward = forward_to("")
        if fid != PSCI_FEATURES or owner == "user":
            return Route(forward, why, _SEED_001)
        kernel = self._service(fid, conduit)

        def except_smccc(call: Call) -> Answer:
            return (kernel.answer if call.arg32(1) == SMCCC_VERSION else forward)(call)

        return Route(except_smccc, f"{why}, except about SMCCC_VERSION", _SEED_001)

    def _service(self, fid: int, conduit: Conduit) -> Route:
        found = self.find(fid)
        if found is None:
            what = FunctionId(fid)
            return self._unknown(fid, conduit, f"no service of {self.profile.name} has {what}")
        if obstacle := self._obstacle(self.look_up(fid), *found):
            return self._unknown(fid, conduit, obstacle)
        filtered = (
            "no SMCCC filter range holds it" if self.policy.filterable else "no SMCCC filter here"
        )
        return self._served(*found, filtered)

    def _served(self, service: Service, function: Function, *steps: str) -> Route:
        """The way to a service that answers."""
        handler: Handler = getattr(service, function.method)
        source = self.profile.source("services", service.name) or service.source
        steps = (
            *steps,
            f"{function.gate} is set" if function.gate else "needs no firmware register's leave",
            f"service {service.name}: {function.name}",
        )
        place = self.profile.place("services", service.name)
        return Route(handler, f"service {service.name}", source, service, function, steps, place)

    def _obstacle(self, number: int, service: Service, function: Function) -> str:
        """Why the policy does not elect a function; "" when it does."""
        if not self.policy.elects(function.gate):
            return f"{function.gate} is clear"
        if function.feature in self.policy.withheld:
            return f"{function.feature} was switched off"
        if not service.implements(function, FunctionId(number)):
            return f"{service.name} does not offer {function.name} here"
        return ""

    def _unknown(self, fid: int, conduit: Conduit, why: str) -> Route:
        mode = self.modes["unknown.hvc"] if conduit is Conduit.HVC else "profile"
        reply = self.profile.unknown if mode == "profile" else _UNKNOWN_MODES[mode]
        source = self.profile.source("unknown")
        if reply == "exit" and not self._leaves(fid):
            reply = "not-supported"
        if reply == "down":
            steps = (why, "what nobody has here is passed down")
        else:
            steps = (why, f"the reply to the unknown is {reply}")
        return Route(_FIXED[reply], why, source, steps=steps)

    def _leaves(self, fid: int) -> bool:
        """Whether an unknown call leaves for user space, once that is switched on."""
        boundary = self.modes["exit.boundary"]
        if boundary == "owner-range":
            return FunctionId(fid).owner not in SERVED_OWNERS
        return not is_psci(fid)

    def _narrow(self, route: Route) -> Route:
        """Keep a reply to the registers this profile writes, or the function's result takes."""
        result = route.function.registers if route.function else 1
        count = max(self.profile.reply_registers, result)
        if count == FULL_REPLY or route.answer is passed_down:
            return route
        return route._replace(answer=_first_registers(route.answer, count))


KVM_ENOSYS = 1000
"""KVM's own, which is not the C library's (linux v6.1 include/uapi/linux/kvm_para.h)."""
_SEED_001 = "kvmarm list, 19 Jul 2021, Pass PSCI to userspace (abi/D §D1, seed 001)"
_MODE_INTERFACES = {
    ("hvc.imm", "ignore"): "smccc",
    ("hvc.imm", "switch-on-imm"): "kvm-enosys",
    ("hvc.imm", "undef"): "undef",
    ("smc", "handle"): "smccc",
    ("smc", "-1"): "x0-only",
    ("smc", "undef"): "undef",
}
_UNKNOWN_MODES = {"-1": "not-supported", "undef": "undef", "exit": "exit", "enosys": "enosys"}


def _undef(call: Call) -> Answer:
    return UNDEF


def _x0_only(call: Call) -> Answer:
    return Ret.only(NOT_SUPPORTED)


def _enosys(call: Call) -> Answer:
    return Ret.only(-errno.ENOSYS)


def _kvm_enosys(call: Call) -> Answer:
    return Ret.only(-KVM_ENOSYS)


def denied(call: Call) -> Answer:
    """NOT_SUPPORTED in four registers, as KVM denies."""
    return Ret.not_supported()


def forward_to(target: str) -> Handler:
    """A handler that leaves for user space, naming who is to answer there."""

    def forward(call: Call) -> Answer:
        return exits.Hypercall(vcpu=call.vcpu, call=call, forward_to=target)

    return forward


def passed_down(call: Call) -> Answer:
    """The answer of a level that does not take a call is that of the level below it."""
    return UNDEF


_FIXED: dict[str, Handler] = {
    "down": passed_down,
    "undef": _undef,
    "x0-only": _x0_only,
    "enosys": _enosys,
    "kvm-enosys": _kvm_enosys,
    "not-supported": denied,
    "exit": forward_to(""),
}


def _with_registers(handler: Handler, count: int, host: Host) -> Handler:
    def widened(call: Call) -> Answer:
        return handler(call._replace(x=host.registers(call, count)))

    return widened


def _first_registers(handler: Handler, count: int) -> Handler:
    def narrowed(call: Call) -> Answer:
        answer = handler(call)
        if isinstance(answer, exits.SystemEvent):
            answer.ret = answer.ret.first(count)
        return answer.first(count) if isinstance(answer, Ret) else answer

    return narrowed

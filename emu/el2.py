"""EL2 itself: from a trapped call to its answer. Pure: no Unicorn, no files, usable alone.

The way of a call is the one of linux v6.17 (arch/arm64/kvm/handle_exit.c:handle_hvc and
handle_smc, hypercalls.c:kvm_smccc_call_handler): the conduit and its immediate choose the
interface; the SMCCC filter may deny or forward; a firmware register must elect the function;
then a service answers. That way depends on nothing but the identifier, the conduit, the
immediate and the policy, so it is worked out once, as a `Route` that also knows why, and kept
until the policy changes. Each further call is one dictionary look-up and the service's method.

    >>> hex(El2("kvm-6.12").hypercall(0x8400_0000).x0)
    '0x10001'
"""

from __future__ import annotations

import errno
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from emu import exits
from emu.arch import mpidr
from emu.clock import Clock
from emu.errors import PolicyError, ProfileError
from emu.policy import Action, FilterRange, Gate, Policy
from emu.profile import Profile, load_profile
from emu.service import Answer, Function, Handler, Host, MpState, Service
from emu.services import service_class, service_names
from emu.smccc import (
    MASK32,
    MASK64,
    NOT_SUPPORTED,
    SVE_HINT,
    UNDEF,
    Call,
    Conduit,
    FunctionId,
    Ret,
)

ARGUMENT_REGISTERS = 8
"""x0–x7 of every call are read; a forwarded call carries x0–x17 (DEN0028 1.2)."""


class Route(NamedTuple):
    """Where a call goes and why. `function` and `service` are None when nobody answers."""

    answer: Handler
    why: str
    source: str
    service: Service | None = None
    function: Function | None = None


@dataclass(slots=True)
class Splitmix:
    """The machine's seeded entropy: splitmix64 (Steele, Lea, Flood, OOPSLA 2014, fig. 17)."""

    state: int

    def word(self) -> int:
        """The next 64 bits."""
        self.state = (self.state + 0x9E37_79B9_7F4A_7C15) & MASK64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58_476D_1CE4_E5B9 & MASK64
        z = (z ^ z >> 27) * 0x94D0_49BB_1331_11EB & MASK64
        return z ^ z >> 31

    def bits(self, count: int) -> int:
        """`count` bits, whole words drawn as needed."""
        value = 0
        for shift in range(0, count, 64):
            value |= self.word() << shift
        return value & (1 << count) - 1


@dataclass(slots=True)
class PaperHost:
    """A machine on paper: enough of a `Host` to ask El2 one call at a time, with no guest."""

    cpus: int = 1
    seed: int = 0
    clock: Clock = field(default_factory=Clock)
    states: list[MpState] = field(init=False)
    _random: Splitmix = field(init=False)

    def __post_init__(self) -> None:
        self.states = [MpState.RUNNABLE] + [MpState.STOPPED] * (self.cpus - 1)
        self._random = Splitmix(self.seed)

    def mpidrs(self) -> Sequence[int]:
        return [mpidr(vcpu) for vcpu in range(self.cpus)]

    def mp_state(self, vcpu: int) -> MpState:
        return self.states[vcpu]

    def power_on(self, vcpu: int, entry: int, context_id: int) -> None:
        self.states[vcpu] = MpState.RUNNABLE

    def power_off(self, vcpu: int) -> None:
        self.states[vcpu] = MpState.STOPPED

    def wait(self, vcpu: int) -> None:
        """Nothing runs, so nothing waits."""

    def random(self, bits: int) -> int:
        return self._random.bits(bits)

    def start_stolen_time(self, vcpu: int) -> int | None:
        return STOLEN_TIME_BASE + vcpu * STOLEN_TIME_RECORD

    def has_stolen_time(self, vcpu: int) -> bool:
        return True


STOLEN_TIME_BASE = 0x090A_0000
"""Where QEMU's virt machine puts the records (qemu v7.2 hw/arm/virt.c: VIRT_PVTIME)."""
STOLEN_TIME_RECORD = 64
"""One record, 64-byte aligned (DEN0057; linux Documentation/virt/kvm/arm/pvtime.rst)."""


class El2:
    """The hypervisor of one profile, in front of one host.

    `policy` may be replaced until the machine runs; `services` adds services of one's own.
    """

    def __init__(
        self,
        profile: str | Profile = "kvm-6.12",
        host: Host | None = None,
        services: Iterable[type[Service]] = (),
    ) -> None:
        self.profile = load_profile(profile) if isinstance(profile, str) else profile
        self.host = host or PaperHost()
        self._policy = self.profile.policy
        self._routes: dict[tuple[int, int, str], Route] = {}
        self.services: dict[str, Service] = {}
        self._functions: dict[int, tuple[Service, Function]] = {}
        for name, options in self.profile.services.items():
            try:
                self._add(service_class(name), options)
            except ProfileError as error:
                raise ProfileError(f"{self.profile.place('services', name)}: {error}") from None
        for cls in services:
            self._add(cls, {})

    def _add(self, cls: type[Service], options: Mapping[str, object]) -> None:
        # A proxy: services live in El2, and a cycle would keep a finished machine alive.
        service = cls(self.host, weakref.proxy(self), options)
        for function in cls.functions():
            for fid in function.ids:
                if fid in self._functions:
                    other = self._functions[fid][0].name
                    raise ProfileError(
                        f"{FunctionId(fid)} is claimed by {other} and by {cls.name}"
                    )
                self._functions[fid] = (service, function)
        self.services[cls.name] = service

    # -- the policy -------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """Filter ranges and firmware registers in force."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self._routes.clear()

    def add_filter(
        self, base: int, count: int = 1, action: Action | str = Action.DENY, target: str = ""
    ) -> None:
        """Install an SMCCC filter range (KVM_ARM_VM_SMCCC_FILTER)."""
        try:
            known = Action(action)
        except ValueError:
            raise PolicyError(
                f"the SMCCC filter can handle, deny or forward, not {action}", errno.EINVAL
            ) from None
        self.policy = self.policy.with_range(FilterRange(base, count, known, target))

    def set_register(self, name: str, value: int) -> None:
        """Write a firmware register (KVM_SET_ONE_REG before the VM runs)."""
        self.policy = self.policy.with_register(name, value)

    def features(self) -> dict[str, frozenset[Gate]]:
        """What `--services` can switch, with the register bits that do it."""
        found: dict[str, set[Gate]] = {}
        for _, function in self._functions.values():
            gates = found.setdefault(function.feature, set())
            if function.gate:
                gates.add(function.gate)
        return {name: frozenset(gates) for name, gates in found.items()}

    def switch_feature(self, name: str, *, on: bool) -> None:
        """Elect or withhold a feature by name."""
        features = self.features()
        if name not in features:
            if name in service_names():
                why = f"profile {self.profile.name} has no service {name}"
            else:
                why = f"unknown service {name}"
            raise PolicyError(f"{why}; it has {', '.join(features) or 'none'}", errno.ENOENT)
        self.policy = self.policy.with_feature(name, features[name], on=on)

    # -- what services ask (`Firmware`) -------------------------------------------------------

    def register(self, name: str) -> int | None:
        """The value of a firmware register, None where the profile has none of that name."""
        return self._policy.values.get(name)

    def implements(self, fid: int) -> bool:
        """Whether the identifier reaches a service under the policy in force."""
        return self._service_for(fid & MASK32) is not None

    def find(self, fid: int) -> tuple[Service, Function] | None:
        """The declaration of an identifier, whether the policy elects it or not."""
        return self._functions.get(self._look_up(fid))

    def _service_for(self, fid: int) -> tuple[Service, Function] | None:
        found = self.find(fid)
        if found is None:
            return None
        service, function = found
        elected = self._policy.elects(function.gate)
        withheld = function.feature in self._policy.withheld
        if not elected or withheld or not service.implements(function, self._look_up(fid)):
            return None
        return found

    def _look_up(self, fid: int) -> FunctionId:
        return FunctionId(fid & ~SVE_HINT if self.profile.sve_hint else fid)

    # -- answering ----------------------------------------------------------------------------

    def hypercall(
        self,
        fid: int,
        *args: int,
        conduit: Conduit | str = Conduit.HVC,
        imm: int = 0,
        vcpu: int = 0,
    ) -> Answer:
        """Answer one call given by its registers: x0, then x1 onward."""
        x = tuple(value & MASK64 for value in (fid, *args))
        x += (0,) * (ARGUMENT_REGISTERS - len(x))
        return self.answer(Call(x, Conduit(conduit), imm, vcpu))

    def answer(self, call: Call) -> Answer:
        """Answer one trapped call."""
        try:
            route = self._routes[call.x[0], call.imm, call.conduit]
        except KeyError:
            route = self.route(call.x[0], call.conduit, call.imm)
        return route.answer(call)

    def route(self, x0: int, conduit: Conduit = Conduit.HVC, imm: int = 0) -> Route:
        """Where a call with this x0 goes, and why; remembered until the policy changes."""
        key = (x0, imm, conduit)
        if key not in self._routes:
            # A guest may walk the whole identifier space; what is kept stays bounded.
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            self._routes[key] = self._narrow(self._find_route(x0, conduit, imm))
        return self._routes[key]

    def _find_route(self, x0: int, conduit: Conduit, imm: int) -> Route:
        profile = self.profile
        interface = profile.interface(conduit, imm)
        rule = f"{profile.name}: {conduit.upper()} #{imm:#x} leads to {interface}"
        source = profile.source(conduit, str(imm)) or profile.source(conduit, "other")
        if interface == "undef":
            return Route(_undef, rule, source)
        if interface == "x0-only":
            return Route(_x0_only, rule, source)
        if profile.full_identifier and x0 > MASK32:
            return self._unknown(f"{profile.name}: x0 is compared whole")
        return self._smccc_route(x0 & MASK32)

    def _smccc_route(self, fid: int) -> Route:
        filtered = self._policy.find(fid)
        if filtered and filtered.action is Action.DENY:
            return Route(_denied, f"SMCCC filter denies {filtered}", _FILTER_SOURCE)
        if filtered and filtered.action is Action.FORWARD:
            return Route(_forward_to(filtered.target), f"SMCCC filter forwards {filtered}",
                         _FILTER_SOURCE)
        known = self.find(fid)
        if known is None:
            return self._unknown(f"no service of {self.profile.name} has {FunctionId(fid)}")
        service, function = known
        if not self._policy.elects(function.gate):
            return self._unknown(f"{function.gate} is clear")
        if function.feature in self._policy.withheld:
            return self._unknown(f"{function.feature} was switched off")
        if not service.implements(function, self._look_up(fid)):
            return self._unknown(f"{service.name} does not offer {function.name} here")
        handler: Handler = getattr(service, function.method)
        source = self.profile.source("services", service.name) or service.source
        return Route(handler, f"service {service.name}", source, service, function)

    def _unknown(self, why: str) -> Route:
        reply = _undef if self.profile.unknown == "undef" else _denied
        return Route(reply, why, self.profile.source("unknown"))

    def _narrow(self, route: Route) -> Route:
        """Keep a reply to the registers this profile writes."""
        count = self.profile.reply_registers
        if count == FULL_REPLY:
            return route
        return route._replace(answer=_first_registers(route.answer, count))


FULL_REPLY = 4
MAX_ROUTES = 4096
_FILTER_SOURCE = "linux v6.4 arch/arm64/kvm/hypercalls.c:kvm_smccc_call_handler"


def _undef(call: Call) -> Answer:
    return UNDEF


def _x0_only(call: Call) -> Answer:
    return Ret.only(NOT_SUPPORTED)


def _denied(call: Call) -> Answer:
    return Ret.not_supported()


def _forward_to(target: str) -> Handler:
    def forward(call: Call) -> Answer:
        return exits.Hypercall(vcpu=call.vcpu, call=call, forward_to=target)

    return forward


def _first_registers(handler: Handler, count: int) -> Handler:
    def narrowed(call: Call) -> Answer:
        answer = handler(call)
        if isinstance(answer, exits.SystemEvent):
            answer.ret = answer.ret.first(count)
        return answer.first(count) if isinstance(answer, Ret) else answer

    return narrowed


def with_services(profile: Profile, services: Mapping[str, Mapping[str, object]]) -> Profile:
    """The same profile with other services or options, for experiments and tests."""
    return replace(profile, services={**profile.services, **services})

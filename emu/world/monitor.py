"""All that answers a guest's calls: the levels above it, from a trapped call to its answer.

Pure: no Unicorn, no files, usable alone. A call begins at the highest of its levels a guest can
reach, EL2 where there is one, and a level that does not take it passes it down to the firmware
below. Which way that is is worked out once for each number, conduit and immediate, and kept until
a policy changes; each further call is one dictionary look-up and the service's method.

`El2` is the name it has had since there was one level, and the one users know it by.

    >>> hex(El2("kvm-6.12").hypercall(0x8400_0000).x0)
    '0x10001'
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from emu.base.errors import EmuError, PolicyError, ProfileError
from emu.base.smccc import MASK64, Call, Conduit, new_call
from emu.world.abis import abi_class, knows_abi
from emu.world.level import Asking, Level
from emu.world.policy import Action, FilterRange, Gate, Policy
from emu.world.profile import DEFAULT_PROFILE, Profile, load_profile
from emu.world.routing import Route, passed_down
from emu.world.service import Answer, Function, Host, NoMemory, Service
from emu.world.services import service_names

ARGUMENT_REGISTERS = 8
"""x0–x7 of every call by SMCCC are read; a forwarded call carries x0–x17 (DEN0028 1.2)."""
ALL_ARGUMENTS = 18
MAX_ROUTES = 4096
_ZEROES = (0,) * (ARGUMENT_REGISTERS - 1)
_CONDUITS = {str(conduit): conduit for conduit in Conduit}
_Routes = dict[tuple[int, int, str], Route]
_Reading = tuple[type[Call], int]
"""The class of calls that an instruction makes, and how many registers it is read from."""


class Monitor:
    """What lies below a guest, as one profile describes it, in front of one host.

    `levels` begin with the one a guest's call reaches first; most that can be changed (`policy`,
    `add_filter`, `override` …) is that one's. `services` adds services of one's own to it.
    """

    def __init__(
        self,
        profile: str | Profile = DEFAULT_PROFILE,
        host: Host | None = None,
        services: Iterable[type[Service]] = (),
    ) -> None:
        found = load_profile(profile) if isinstance(profile, str) else profile
        self.host = host or _paper()
        self._asking = Asking()
        self._routes: _Routes = {}
        self._own_routes: dict[int, _Routes] = {}
        self._readings: dict[tuple[Conduit, int], _Reading] = {}
        forget = _forgetter(self._routes, self._own_routes, self._readings)
        self.top = Level(found, self.host, services, self._asking, forget)
        below = [Level(part, self.host, (), self._asking, forget) for part in found.levels()[1:]]
        self.levels = (self.top, *below)
        self.own_classes = self.top.own_classes
        self.own_services = tuple(cls.name for cls in self.own_classes)
        for level in below:
            _check_conventions(self.top, level)
        self.listeners = tuple(
            service.entered
            for level in self.levels for service in level.services.values()
            if type(service).entered is not Service.entered
        )  # fmt: skip
        """Of services that want to hear that a vCPU is about to run."""
        self.usual = False
        """Whether it is known that every call with the immediate 0 is read by SMCCC: most are."""

    # -- the level that is reached first ----------------------------------------------------------

    @property
    def profile(self) -> Profile:
        """The profile in force, with modes and options as they were changed."""
        return self.top.profile

    @property
    def policy(self) -> Policy:
        """Filter ranges and firmware registers in force, for every vCPU without its own."""
        return self.top.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.top.policy = policy

    @property
    def services(self) -> dict[str, Service]:
        """Every service by its name; those of a level below by the level's as well: el3.psci."""
        found = dict(self.top.services)
        for level in self.levels[1:]:
            found |= {f"{level.profile.level}.{n}": s for n, s in level.services.items()}
        return found

    def override(self, vcpu: int, values: Mapping[str, int]) -> None:
        """Let registers read otherwise on one vCPU: PSCI 0.1 where it lacks the feature."""
        self.top.override(vcpu, values)

    def policy_of(self, vcpu: int) -> Policy:
        """What holds for one vCPU."""
        return self.top.policy_of(vcpu)

    def own_policies(self) -> dict[int, Policy]:
        """The policies of the vCPUs that have one of their own."""
        return self.top.own_policies()

    def overrides(self) -> dict[int, dict[str, int]]:
        """What `override` was told of each vCPU."""
        return self.top.overrides()

    def set_policy_of(self, vcpu: int, policy: Policy) -> None:
        """Let a policy hold for one vCPU, or for all where registers are the VM's."""
        self.top.set_policy_of(vcpu, policy)

    def change_policy_of(self, vcpu: int, change: Callable[[Policy], Policy]) -> None:
        """Change what holds for one vCPU, or for all where registers are the VM's."""
        self.top.change_policy_of(vcpu, change)

    def set_modes(self, modes: Mapping[str, Any]) -> None:
        """Choose modes otherwise from now on, as enabling a capability does."""
        self.top.set_modes(modes)

    def set_option(self, service: str, **options: object) -> None:
        """Change a service's options, as enabling a capability does; el3.psci is one below."""
        level, name = self._level_of(service)
        level.set_option(name, **options)

    def _level_of(self, name: str) -> tuple[Level, str]:
        """The level of a service or feature by its name here, and its name there."""
        at, _, plain = name.rpartition(".")
        return next((one for one in self.levels[1:] if one.profile.level == at), self.top), plain

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

    # -- what can be switched, at any level -------------------------------------------------------

    def features(self) -> dict[str, frozenset[Gate]]:
        """What `--services` can switch, with the register bits that do it."""
        found = self.top.features()
        for level in self.levels[1:]:
            found |= {f"{level.profile.level}.{n}": gates for n, gates in level.features().items()}
        return found

    def switch_feature(self, name: str, *, on: bool) -> None:
        """Elect or withhold a feature by name."""
        features = self.features()
        if name not in features:
            if name in service_names():
                why = f"profile {self.profile.name} has no service {name}"
            else:
                why = f"unknown service {name}"
            raise PolicyError(f"{why}; it has {', '.join(features) or 'none'}", errno.ENOENT)
        level, plain = self._level_of(name)
        level.policy = level.policy.with_feature(plain, features[name], on=on)

    def take_over(self, before: Monitor) -> None:
        """Let services remember what those of their name below another hypervisor did."""
        old = before.services
        for name, service in self.services.items():
            if name in old and type(old[name]) is type(service):
                service.state = old[name].state

    # -- asking -----------------------------------------------------------------------------------

    def register(self, name: str) -> int | None:
        """A firmware register as the calling vCPU has it, None where there is none."""
        return self.top.register(name)

    def mode(self, key: str) -> str:
        """The value of a mode (modes.py)."""
        return self.top.mode(key)

    def implements(self, fid: int) -> bool:
        """Whether the identifier reaches a service at some level, under the policies in force."""
        return any(level.implements(fid) for level in self.levels)

    def find(self, id: int) -> tuple[Service, Function] | None:
        """The declaration of a function, whether the policy elects it or not."""
        return next((found for level in self.levels if (found := level.find(id))), None)

    # -- answering --------------------------------------------------------------------------------

    def hypercall(
        self,
        fid: int,
        *args: int,
        conduit: Conduit | str = Conduit.HVC,
        imm: int = 0,
        vcpu: int = 0,
    ) -> Answer:
        """Answer one call given by its registers: x0, then x1 onward; the rest are zero."""
        x = (fid, *args, *_ZEROES[len(args) :])
        if min(x) < 0 or max(x) > MASK64:
            x = tuple(value & MASK64 for value in x)
        if self.usual and not imm:  # as read() finds too, without its table
            return self.answer(new_call(Call, (x, _CONDUITS[conduit], imm, vcpu)))
        return self.answer(self.read(x, _CONDUITS[conduit], imm, vcpu))

    def read(self, x: tuple[int, ...], conduit: Conduit, imm: int, vcpu: int = 0) -> Call:
        """A call as this world reads it; registers that are missing are zero."""
        kind, count = self.reading(conduit, imm)
        return kind(x + (0,) * (count - len(x)), conduit, imm, vcpu)

    def reading(self, conduit: Conduit, imm: int) -> _Reading:
        """How this world reads an instruction; remembered until a policy changes."""
        key = (conduit, imm)
        if key not in self._readings:
            seen = (level.interface(conduit, imm) for level in self.levels)
            kind = _kind(next((name for name in seen if name != "down"), ""))
            # An immediate may be another interface's, whose registers tell what a guest meant.
            usual = ALL_ARGUMENTS if imm else ARGUMENT_REGISTERS
            self._readings[key] = kind, getattr(kind, "registers", usual)
            if not imm:
                self.usual = all(self.reading(other, 0)[0] is Call for other in Conduit)
        return self._readings[key]

    def answer(self, call: Call) -> Answer:
        """Answer one trapped call."""
        x, conduit, imm, vcpu = call
        self._asking.vcpu = vcpu
        routes = self._own_routes.get(vcpu, self._routes) if self._own_routes else self._routes
        number = x[0] if type(call) is Call else call.number
        try:
            route = routes[number, imm, conduit]
        except KeyError:
            route = self.route(number, conduit, imm, vcpu)
        try:
            return route.answer(call)
        except NoMemory as missing:
            return _no_memory(route, missing)

    def route_of(self, call: Call) -> Route:
        """Where a call goes, and why."""
        return self.route(call.number, call.conduit, call.imm, call.vcpu)

    def route(
        self, number: int, conduit: Conduit = Conduit.HVC, imm: int = 0, vcpu: int = 0
    ) -> Route:
        """Where a call of this number goes, and why; remembered until a policy changes.

        By SMCCC, the number is all of x0.
        """
        self._asking.vcpu = vcpu
        routes = self._routes
        if any(level.asymmetric for level in self.levels):
            routes = self._own_routes.setdefault(vcpu, {})
        key = (number, imm, conduit)
        if key not in routes:
            # A guest may walk the whole identifier space; what is kept stays bounded.
            if len(routes) >= MAX_ROUTES:
                routes.clear()
            routes[key] = self._find_route(*key, vcpu)
        return routes[key]

    def _find_route(self, number: int, imm: int, conduit: Conduit, vcpu: int) -> Route:
        """Down through the levels, to the first that does not pass the call on."""
        if len(self.levels) == 1:
            return self.top.route(number, conduit, imm, vcpu)
        steps: tuple[str, ...] = ()
        for level in self.levels:
            route = level.route(number, conduit, imm, vcpu)
            where = f"{level.profile.level}, "
            steps += tuple(f"{where}{step}" for step in route.steps)
            if route.answer is not passed_down:
                break
        return route._replace(steps=steps, why=f"{where}{route.why}")


El2 = Monitor


def _paper() -> Host:
    """A host for who asks without a machine: no guest's start-up pays for it."""
    from emu.world.paper import PaperHost

    return PaperHost()


def _kind(interface: str) -> type[Call]:
    """The class of calls of an interface; those that get a fixed reply are read as by SMCCC."""
    try:
        return abi_class(interface)
    except KeyError:
        return Call


def _forgetter(
    routes: _Routes, own_routes: dict[int, _Routes], readings: dict[Any, _Reading]
) -> Callable[[], None]:
    """Forgets every route. Not a method: it would make a reference cycle."""

    def forget() -> None:
        routes.clear()
        own_routes.clear()
        readings.clear()

    return forget


def _no_memory(route: Route, missing: NoMemory) -> Answer:
    """The interface's own error where guest memory is not there; a service without one is wrong."""
    service, function = route.service, route.function
    assert service is not None
    assert function is not None
    if service.no_memory is None:
        cls = type(service)
        raise EmuError(
            f"{cls.__module__}.{cls.__qualname__}: {function.name} asks for {missing}; "
            "its no_memory may name the reply to such a call"
        ) from None
    return service.no_memory


def _check_conventions(upper: Level, lower: Level) -> None:
    """One instruction is read one way by all levels it can reach."""
    for conduit, rules in lower.profile.rules.items():
        for imm in rules:
            if imm == "other":
                continue
            one, two = (level.interface(Conduit(conduit), int(imm)) for level in (upper, lower))
            if one != two and knows_abi(one) and knows_abi(two):
                place = lower.profile.place(conduit, imm)
                raise ProfileError(
                    f"{place}: {conduit.upper()} #{imm} is {two} here and {one} at the level above"
                )


def with_services(profile: Profile, services: Mapping[str, Mapping[str, object]]) -> Profile:
    """The same profile with other services or options, for experiments and tests."""
    return replace(profile, services={**profile.services, **services})

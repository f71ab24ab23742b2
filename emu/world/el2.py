"""EL2 itself: from a trapped call to its answer. Pure: no Unicorn, no files, usable alone.

Which way a call goes is decided in routing.py, once for each identifier, conduit and immediate,
and kept until the policy changes; each further call is one dictionary look-up and the service's
method. Usually all vCPUs share one policy; where registers are each vCPU's own (mode
fwreg.scope = vcpu-asymmetric, the fear of seed 000), a vCPU that differs has a `View` of its own.

    >>> hex(El2("kvm-6.12").hypercall(0x8400_0000).x0)
    '0x10001'
"""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from emu.base.errors import PolicyError, ProfileError
from emu.base.smccc import MASK32, MASK64, Call, Conduit, FunctionId
from emu.world.paper import PaperHost
from emu.world.policy import Action, FilterRange, Gate, Policy, RegisterKind
from emu.world.profile import DEFAULT_PROFILE, Profile, load_profile
from emu.world.routing import Route, Router
from emu.world.service import Answer, Function, Host, Service
from emu.world.services import service_class, service_names

ARGUMENT_REGISTERS = 8
"""x0–x7 of every call are read; a forwarded call carries x0–x17 (DEN0028 1.2)."""
MAX_ROUTES = 4096
_ZEROES = (0,) * (ARGUMENT_REGISTERS - 1)
_CONDUITS = {str(conduit): conduit for conduit in Conduit}


class View:
    """A policy, and the routes already worked out under it."""

    __slots__ = ("policy", "router", "routes")

    def __init__(self, policy: Policy, router: Router) -> None:
        self.policy, self.router = policy, router
        self.routes: dict[tuple[int, int, str], Route] = {}


class El2:
    """The hypervisor of one profile, in front of one host.

    `policy` may be replaced until the machine runs; `services` adds services of one's own.
    """

    def __init__(
        self,
        profile: str | Profile = DEFAULT_PROFILE,
        host: Host | None = None,
        services: Iterable[type[Service]] = (),
    ) -> None:
        self.profile = load_profile(profile) if isinstance(profile, str) else profile
        self.host = host or PaperHost()
        self.services: dict[str, Service] = {}
        self._functions: dict[int, tuple[Service, Function]] = {}
        for name, options in self.profile.services.items():
            try:
                self._add(service_class(name), options)
            except ProfileError as error:
                raise ProfileError(f"{self.profile.place('services', name)}: {error}") from None
        if self.profile.modes["asyncpf"] == "present":
            self._add(service_class("asyncpf"), {})
        self.own_classes = own = tuple(services)
        self.own_services = tuple(cls.name for cls in own)
        for cls in own:
            self._add(cls, {})
        self._own: dict[int, View] = {}
        self._overrides: dict[int, Mapping[str, int]] = {}
        self._shared = self._asking = self._view(reset_policy(self.profile))

    def _view(self, policy: Policy) -> View:
        return View(policy, Router(self.profile, policy, self._functions))

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
        """Filter ranges and firmware registers in force, for every vCPU without its own."""
        return self._shared.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._shared = self._asking = self._view(policy)
        for vcpu, values in self._overrides.items():
            self._own[vcpu] = self._view(policy.with_values(values))

    def override(self, vcpu: int, values: Mapping[str, int]) -> None:
        """Let registers read otherwise on one vCPU: PSCI 0.1 where it lacks the feature."""
        self._overrides[vcpu] = values
        self.policy = self.policy

    def policy_of(self, vcpu: int) -> Policy:
        """What holds for one vCPU."""
        return self._own.get(vcpu, self._shared).policy

    def own_policies(self) -> dict[int, Policy]:
        """The policies of the vCPUs that have one of their own."""
        return {
            vcpu: view.policy for vcpu, view in self._own.items() if vcpu not in self._overrides
        }

    def overrides(self) -> dict[int, dict[str, int]]:
        """What `override` was told of each vCPU."""
        return {vcpu: dict(values) for vcpu, values in self._overrides.items()}

    def set_policy_of(self, vcpu: int, policy: Policy) -> None:
        """Let a policy hold for one vCPU, or for all where registers are the VM's."""
        if self.profile.modes["fwreg.scope"] == "vcpu-asymmetric":
            self._own[vcpu] = self._view(policy)
        else:
            self.policy = policy

    def change_policy_of(self, vcpu: int, change: Callable[[Policy], Policy]) -> None:
        """Change what holds for one vCPU, or for all where registers are the VM's."""
        asymmetric = self.profile.modes["fwreg.scope"] == "vcpu-asymmetric"
        self.set_policy_of(vcpu, change(self.policy_of(vcpu) if asymmetric else self.policy))

    def set_modes(self, modes: Mapping[str, Any]) -> None:
        """Choose modes otherwise from now on, as enabling a capability does."""
        self.profile = self.profile.with_modes(modes)
        self._again()

    def set_option(self, service: str, **options: object) -> None:
        """Change a service's options, as enabling a capability does."""
        found = self.services[service]
        found.options = replace(found.options, **options)
        self._again()

    def _again(self) -> None:
        """Forget every route."""
        self.policy = self.policy
        self._own |= {vcpu: self._view(view.policy) for vcpu, view in self._own.items()}

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
        """A firmware register as the calling vCPU has it, None where there is none."""
        return self._asking.policy.values.get(name)

    def mode(self, key: str) -> str:
        """The value of a mode (modes.py)."""
        return self.profile.modes[key]

    def implements(self, fid: int) -> bool:
        """Whether the identifier reaches a service under the policy in force."""
        return self._asking.router.offered(fid & MASK32) is not None

    def find(self, fid: int) -> tuple[Service, Function] | None:
        """The declaration of an identifier, whether the policy elects it or not."""
        return self._shared.router.find(fid)

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
        x = (fid, *args, *_ZEROES[len(args) :])
        if min(x) < 0 or max(x) > MASK64:
            x = tuple(value & MASK64 for value in x)
        return self.answer(Call(x, _CONDUITS[conduit], imm, vcpu))

    def answer(self, call: Call) -> Answer:
        """Answer one trapped call."""
        view = self._asking = self._own.get(call.vcpu, self._shared)
        try:
            route = view.routes[call.x[0], call.imm, call.conduit]
        except KeyError:
            route = self.route(call.x[0], call.conduit, call.imm, call.vcpu)
        return route.answer(call)

    def route(
        self, x0: int, conduit: Conduit = Conduit.HVC, imm: int = 0, vcpu: int = 0
    ) -> Route:
        """Where a call with this x0 goes, and why; remembered until the policy changes."""
        view = self._asking = self._own.get(vcpu, self._shared)
        key = (x0, imm, conduit)
        if key not in view.routes:
            # A guest may walk the whole identifier space; what is kept stays bounded.
            if len(view.routes) >= MAX_ROUTES:
                view.routes.clear()
            view.routes[key] = view.router.route(x0, conduit, imm)
        return view.routes[key]


def reset_policy(profile: Profile) -> Policy:
    """The profile's policy, its bitmap registers as mode fwreg.default has them."""
    default, policy = profile.modes["fwreg.default"], profile.policy
    if default == "profile":
        return policy
    values = {
        name: (register.limit if default == "all-on" else 0)
        for name, register in policy.definitions.items()
        if register.kind is RegisterKind.BITMAP
    }
    return replace(policy, values={**policy.values, **values})


def with_services(profile: Profile, services: Mapping[str, Mapping[str, object]]) -> Profile:
    """The same profile with other services or options, for experiments and tests."""
    return replace(profile, services={**profile.services, **services})

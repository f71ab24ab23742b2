"""One exception level above the guest: its services, its policy, and who is led to them.

A level is what a profile, or a table of it such as `[el3]`, describes. It says which way a call
goes (routing.py) and asks nobody else: levels know nothing of each other (monitor.py). Usually all
vCPUs share one policy; where registers are each vCPU's own (mode fwreg.scope = vcpu-asymmetric,
the fear of seed 000), a vCPU that differs has a `View` of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from emu.base.abi import is_abi
from emu.base.errors import ProfileError
from emu.base.smccc import MASK32, Call, Conduit
from emu.world.abis import id_text
from emu.world.modes import SERVICE_MODES
from emu.world.policy import Gate, Policy, RegisterKind
from emu.world.profile import Profile
from emu.world.routing import Route, Router
from emu.world.service import Function, Host, Service
from emu.world.services import service_class


class Asking:
    """Which vCPU's call is being answered: all levels look here."""

    __slots__ = ("vcpu",)

    def __init__(self) -> None:
        self.vcpu = 0


class View:
    """A policy, and the way calls go under it."""

    __slots__ = ("policy", "router")

    def __init__(self, policy: Policy, router: Router) -> None:
        self.policy, self.router = policy, router


class Level:
    """The hypervisor or firmware of one profile at one exception level.

    `changed` is called whenever calls may go another way than before.
    """

    def __init__(
        self,
        profile: Profile,
        host: Host,
        own: Iterable[type[Service]],
        asking: Asking,
        changed: Callable[[], None],
    ) -> None:
        self.profile, self.host, self.own_classes = profile, host, tuple(own)
        self._asking, self._changed = asking, changed
        self.services: dict[str, Service] = {}
        self.functions: dict[int, tuple[Service, Function]] = {}
        self._instructions: dict[tuple[Conduit, int], str] = {}
        """Where own services' conventions lead which the profile does not know."""
        for name, options in profile.services.items():
            self._add_named(name, options)
        for mode, value in SERVICE_MODES.items():
            if profile.modes[mode] == value:
                self._add_named(mode)
        for cls in self.own_classes:
            self._bring(cls)
            self._add(cls, {})
        self._own: dict[int, View] = {}
        self._overrides: dict[int, Mapping[str, int]] = {}
        self._shared = self._view(reset_policy(profile))

    # -- its services -------------------------------------------------------------------------

    def _add_named(self, name: str, options: Mapping[str, object] | None = None) -> None:
        """A service that ships, with what its table says: none where a mode brings it."""
        try:
            cls = service_class(name)
            if cls.abi is not Call:
                self._check_reached(cls)
            self._add(cls, options or {})
        except ProfileError as error:
            place = "" if options is None else f"{self.profile.place('services', name)}: "
            raise ProfileError(f"{place}{error}") from None

    def _add(self, cls: type[Service], options: Mapping[str, object]) -> None:
        # A proxy: services live in their level, and a cycle would keep a finished machine alive.
        service = cls(self.host, weakref.proxy(self), options)
        for function in cls.functions():
            for id in function.ids:
                if id in self.functions:
                    other = self.functions[id][0].name
                    raise ProfileError(f"{id_text(id)} is claimed by {other} and by {cls.name}")
                self.functions[id] = (service, function)
        for region in cls.regions:
            self.host.map(region)
        self.services[cls.name] = service

    def _check_reached(self, cls: type[Service]) -> None:
        """A service of another ABI than SMCCC that nothing leads to is a mistake of the profile."""
        if is_abi(cls.abi) and not self.profile.leads_to(cls.abi.name):
            where = ", ".join(
                f'[{conduit}] {imm} = "{cls.abi.name}"'
                for conduit, imm in sorted(cls.abi.instructions)
            )
            raise ProfileError(
                f"service {cls.name} is called by {cls.abi.name}, and no conduit leads there"
                + (f": add {where}" if where else "")
            )

    def _bring(self, cls: type[Service]) -> None:
        """Lead the instructions of an own service's ABI to it, unless the profile leads them."""
        if not is_abi(cls.abi) or self.profile.leads_to(cls.abi.name):
            return
        for conduit, imm in sorted(cls.abi.instructions):
            if str(imm) in self.profile.rules[conduit]:
                place = self.profile.place(conduit, str(imm))
                raise ProfileError(
                    f"{place}: {conduit.upper()} #{imm:#x} leads to "
                    f"{self.profile.interface(conduit, imm)}, and service {cls.name} of one's own "
                    f"is called by it: {cls.abi.name}"
                )
            self._instructions[conduit, imm] = cls.abi.name
        if not cls.abi.instructions:
            raise ProfileError(f"service {cls.name}: no instruction leads to {cls.abi.name}")

    # -- its policy ---------------------------------------------------------------------------

    def _view(self, policy: Policy) -> View:
        functions = self.functions
        return View(policy, Router(self.profile, policy, functions, self._instructions, self.host))

    @property
    def policy(self) -> Policy:
        """Filter ranges and firmware registers in force, for every vCPU without its own."""
        return self._shared.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._shared = self._view(policy)
        for vcpu, values in self._overrides.items():
            self._own[vcpu] = self._view(policy.with_values(values))
        self._changed()

    @property
    def asymmetric(self) -> bool:
        """Whether any vCPU has a policy of its own."""
        return bool(self._own)

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
            self._changed()
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
        """Work out every way anew."""
        self.policy = self.policy
        self._own |= {vcpu: self._view(view.policy) for vcpu, view in self._own.items()}

    def features(self) -> dict[str, frozenset[Gate]]:
        """What `--services` can switch, with the register bits that do it."""
        found: dict[str, set[Gate]] = {}
        for _, function in self.functions.values():
            gates = found.setdefault(function.feature, set())
            if function.gate:
                gates.add(function.gate)
        return {name: frozenset(gates) for name, gates in found.items()}

    # -- what its services ask (`Firmware`) -----------------------------------------------------

    def register(self, name: str) -> int | None:
        """A firmware register as the calling vCPU has it, None where there is none."""
        view = self._own.get(self._asking.vcpu, self._shared) if self._own else self._shared
        return view.policy.values.get(name)

    def mode(self, key: str) -> str:
        """The value of a mode (modes.py)."""
        return self.profile.modes[key]

    def implements(self, fid: int) -> bool:
        """Whether the identifier reaches a service here under the policy in force."""
        view = self._own.get(self._asking.vcpu, self._shared)
        return view.router.offered(fid & MASK32) is not None

    # -- the way of a call ----------------------------------------------------------------------

    def find(self, id: int) -> tuple[Service, Function] | None:
        """The declaration of a function, whether the policy elects it or not."""
        return self._shared.router.find(id)

    def interface(self, conduit: Conduit, imm: int) -> str:
        """Where an instruction leads here: to an ABI by its name, or to a fixed reply."""
        return self._shared.router.interface(conduit, imm)[0]

    def route(self, number: int, conduit: Conduit, imm: int, vcpu: int) -> Route:
        """The way of a call at this level."""
        return self._own.get(vcpu, self._shared).router.route(number, conduit, imm)


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

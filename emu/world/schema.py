"""What a profile file may say: its keys, their types and ranges. Pure: it reads no file.

`problems` walks the tables of one file and names each mistake by its dotted key, so that
`profile.py` can add file and line. What may only be judged after `extends` (a register that
lacks a field) or by a service (its own options) is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emu.base.smccc import MASK32, MASK64, Conduit
from emu.world.abis import abi_names, knows_abi
from emu.world.modes import flatten, mode_problem
from emu.world.policy import RegisterKind

FIXED = ("x0-only", "undef", "enosys", "down")
"""Where a conduit leads besides to the services by an ABI: to x0 = NOT_SUPPORTED or −ENOSYS alone;
nowhere; to the level below."""
UNKNOWN_REPLIES = ("not-supported", "undef", "exit", "enosys", "down")
LEVELS = ("el2", "el3")
"""From above: a call goes down from one to the next. A table of such a name is the level below."""
METHODS = ("hvc", "smc")
"""Documentation/devicetree/bindings/arm/psci.yaml: `method`."""

_TOP: Mapping[str, type] = {
    "extends": str,
    "title": str,
    "unknown": str,
    "reply_registers": int,
    "full_identifier": bool,
    "sve_hint": bool,
    "filter": bool,
    "hvc": dict,
    "smc": dict,
    "services": dict,
    "registers": dict,
    "device_tree": dict,
    "modes": dict,
    "vmm": dict,
    "trap_costs": str,
    "level": str,
    "el3": dict,
}
_LEVEL: Mapping[str, type] = {
    key: _TOP[key]
    for key in (
        "extends", "title", "unknown", "reply_registers", "full_identifier", "sve_hint", "filter",
        "hvc", "smc", "services", "registers", "modes",
    )
}  # fmt: skip
_DEVICE_TREE: Mapping[str, type] = {
    "method": str,
    "compatible": list,
    "cells": dict,
    "hypervisor": list,
}
_VMM: Mapping[str, type] = {
    "known_features": int,
    "supported_features": list,
    "features_vm_wide": bool,
    "empty_filter_is_all": bool,
}
_REGISTER: Mapping[str, type] = {
    "id": int,
    "kind": str,
    "reset": int,
    "limit": int,
    "values": list,
}
_WORDS = {
    str: "a text",
    int: "an integer",
    bool: "true or false",
    dict: "a table, or false",
    list: "a list",
}

Problems = Iterator[tuple[str, str]]


def problems(data: Mapping[str, Any]) -> Problems:
    """Each mistake as (dotted key, what is wrong with it)."""
    yield from _table("", data, _TOP)
    yield from _level("", data)
    if data.get("level", LEVELS[0]) not in LEVELS:
        yield "level", f"level is one of {', '.join(LEVELS)}"
    below, name = table(data, LEVELS[1]), LEVELS[1]
    if below:
        yield from _table(f"{name}.", below, _LEVEL)
        yield from _level(f"{name}.", below)
    if below and data.get("level") == name:
        yield name, f"nothing is below {name}"
    if table(below, "hvc") or (data.get("level") == name and table(data, "hvc")):
        yield f"{name}.hvc" if below else "hvc", f"no HVC reaches {name}: it listens to SMC alone"
    yield from _promise(table(data, "device_tree"))
    yield from _table("vmm.", table(data, "vmm"), _VMM)
    yield from _list("vmm.supported_features", table(data, "vmm").get("supported_features"), (int,))


def _level(prefix: str, data: Mapping[str, Any]) -> Problems:
    """What one level says."""
    for conduit in Conduit:
        yield from _rules(f"{prefix}{conduit}", table(data, conduit))
    if data.get("unknown", UNKNOWN_REPLIES[0]) not in UNKNOWN_REPLIES:
        yield f"{prefix}unknown", f"unknown is one of {', '.join(UNKNOWN_REPLIES)}"
    if data.get("reply_registers", 1) not in range(1, 5):
        yield f"{prefix}reply_registers", "reply_registers is 1 to 4"
    for name, options in table(data, "services").items():
        yield from _service(f"{prefix}services.{name}", options)
    for name, register in table(data, "registers").items():
        yield from _register(f"{prefix}registers.{name}", register)
    for key, value in flatten(table(data, "modes")):
        if problem := mode_problem(key, value):
            yield f"{prefix}modes.{key}", problem


def table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table under a key; none when it is absent or `false`."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _table(prefix: str, data: Mapping[str, Any], shapes: Mapping[str, type]) -> Problems:
    for key, value in data.items():
        if key not in shapes:
            import difflib  # only a mistake needs it

            near = difflib.get_close_matches(key, list(shapes), n=1)
            hint = f"did you mean {near[0]}?" if near else f"it may be {', '.join(shapes)}"
            yield prefix + key, f"unknown key {prefix}{key}; {hint}"
        elif type(value) is not shapes[key] and not (value is False and shapes[key] is dict):
            yield prefix + key, f"{prefix}{key} must be {_WORDS[shapes[key]]}"


def _rules(conduit: str, rules: Mapping[str, Any]) -> Problems:
    for imm, interface in rules.items():
        if not isinstance(interface, str) or not (interface in FIXED or knows_abi(interface)):
            known = ", ".join((*abi_names(), *FIXED))
            yield f"{conduit}.{imm}", f"an interface is one of {known}"
        if imm != "other" and not _is_immediate(imm):
            yield f"{conduit}.{imm}", "an immediate is 0 to 65535 in decimal, or `other`"


def _is_immediate(text: str) -> bool:
    plain = text.isascii() and text.isdecimal() and len(text) <= 5
    return plain and str(int(text)) == text and int(text) <= 0xFFFF


def _service(key: str, options: Any) -> Problems:
    if options is not False and not isinstance(options, dict):
        yield key, f"{key} must be a table, or false"
    for name, value in (options or {}).items() if isinstance(options, dict) else ():
        if isinstance(value, dict):
            yield f"{key}.{name}", f"{key}.{name} is an option, not a table"
        elif isinstance(value, list):
            yield from _list(f"{key}.{name}", value, (int, str))
        elif isinstance(value, int) and not 0 <= value <= MASK64:
            yield f"{key}.{name}", f"{key}.{name} must be an integer of 64 bits"


def _register(key: str, register: Any) -> Problems:
    if not isinstance(register, dict):
        if register is not False:
            yield key, f"{key} must be a table, or false"
        return
    yield from _table(key + ".", register, _REGISTER)
    for name in ("id", "reset", "limit"):
        value = register.get(name, 0)
        if isinstance(value, int) and not 0 <= value <= MASK64:
            yield f"{key}.{name}", f"{key}.{name} must be an integer of 64 bits"
    kinds = [str(kind) for kind in RegisterKind]
    if register.get("kind", kinds[0]) not in kinds:
        yield f"{key}.kind", f"{key}.kind is one of {', '.join(kinds)}"
    yield from _list(f"{key}.values", register.get("values"), (int,))


def _promise(promise: Mapping[str, Any]) -> Problems:
    yield from _table("device_tree.", promise, _DEVICE_TREE)
    if promise.get("method", METHODS[0]) not in METHODS:
        yield "device_tree.method", "device_tree.method is hvc or smc"
    for name in ("compatible", "hypervisor"):
        yield from _list(f"device_tree.{name}", promise.get(name), (str,))
    for name, cell in table(promise, "cells").items():
        if type(cell) is not int or not 0 <= cell <= MASK32:
            key = f"device_tree.cells.{name}"
            yield key, f"{key} must be an integer of 32 bits"


def _list(key: str, values: Any, kinds: tuple[type, ...]) -> Problems:
    """A list holds one kind of element, integers of at most 64 bits among them."""
    if not isinstance(values, list) or not values:
        return
    kind = type(values[0])
    if kind not in kinds or any(type(value) is not kind for value in values):
        yield key, f"{key} must be a list of {' or of '.join(_PLURALS[k] for k in kinds)}"
    elif kind is int and not all(0 <= value <= MASK64 for value in values):
        yield key, f"{key} must hold integers of 64 bits"


_PLURALS = {int: "integers", str: "texts"}

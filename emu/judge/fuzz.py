"""A fuzzer of handlers: for who writes a service, or a callback that answers forwarded calls.

Calls are drawn by hypothesis from their declarations (`@fn`) or from a description of their fields
(callspec.py), made one after the other on one machine on paper, and held against what every
handler owes its caller. What fails is shrunk to the shortest series of the simplest calls. The
same seed draws the same calls.

`sanity` is TF-A-Tests' word for how far calls keep to their description: 0 any registers at all,
1 the identifier is right, 2 fields have the right width, 3 fields have the values described.

What is checked, of every call (DEN0028, results and register use):

    answers     no exception comes out, and the answer is a Ret, a number, an exit or UNDEF
    fits        registers hold 64 bits, and at most x0–x17 are written
    narrow      an SMC32 call is answered the same whatever its arguments' upper halves hold
    told        a negative result is one of the codes the service names
"""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from emu.base.abi import Abi, apart
from emu.base.errors import EmuError
from emu.base.exits import Exit
from emu.base.smccc import MASK32, MASK64, Call, Conduit, Ret, Undef
from emu.judge.callspec import Argument, CallSpec, Field
from emu.judge.facts import signed
from emu.world.abis import abi_of, id_text
from emu.world.monitor import El2
from emu.world.paper import PaperHost
from emu.world.profile import DEFAULT_PROFILE
from emu.world.service import Service

Handler = Callable[[Call], Any]
SANITY = 2
EXAMPLES = 1000
SERIES = 5
"""Calls in a row at most: our choice, enough for open, use, use again, close, use after."""
GENERIC_CODES = range(-11, 0)
"""Codes of PSCI, SMCCC, TRNG and SDEI all lie here (abi/B §B2, abi/A §A3, abi/E §E7)."""


class Failure(NamedTuple):
    """The smallest series found that breaks a promise: `check` names it, `text` says how."""

    check: str
    text: str
    calls: tuple[Call, ...]

    def lines(self) -> list[str]:
        """For people: what was broken, and the calls as `hvcemu call` takes them."""
        shown = [f"{self.check}: {self.text}", "the shortest series of calls:"]
        for call in self.calls:
            if isinstance(call, Abi):
                arguments = " ".join(f"{call.arg(n):#x}" for n in range(1, call.arguments + 1))
                shown.append(f"  hvcemu call {call.name}:{call.number:#x} {arguments}")
                continue
            last = max((n for n in range(8) if call.x[n]), default=0)
            registers = " ".join(f"{value:#x}" for value in call.x[: last + 1])
            shown.append(f"  hvcemu call {registers} --conduit {call.conduit}")
        return shown


class Target(NamedTuple):
    """What is fuzzed: `fresh()` gives a handler in its first state."""

    fresh: Callable[[], Handler]
    specs: Sequence[CallSpec]
    codes: frozenset[int]


# -- targets ------------------------------------------------------------------------------------


def of_service(cls: type[Service], profile: str = DEFAULT_PROFILE) -> Target:
    """A service of one's own, beside those of a profile."""
    return _of_el2(lambda: El2(profile, PaperHost(cpus=2), [cls]), [cls])


def of_profile(profile: str) -> Target:
    """Every service of a profile."""
    el2 = El2(profile)
    return _of_el2(lambda: El2(profile, PaperHost(cpus=2)),
                   [type(service) for service in el2.services.values()])


def _of_el2(fresh: Callable[[], El2], classes: Sequence[type[Service]]) -> Target:
    specs = [
        CallSpec(function.name, fid, [
            Argument(n, name, [Field(name, 0, 63 if fid > MASK32 or fid >> 30 & 1 else 31)])
            for n, name in enumerate(function.args, 1)
        ])
        for cls in classes for function in cls.functions() for fid in function.ids
    ]  # fmt: skip
    codes = frozenset(code for cls in classes for code in cls.codes) | frozenset((-1,))
    if not specs:
        raise EmuError("there is no function to fuzz: a service declares them with @fn")
    return Target(lambda: _answering(fresh()), specs, codes)


def _answering(el2: El2) -> Handler:
    return el2.answer


def of_callback(function: Handler, specs: Sequence[CallSpec]) -> Target:
    """A function that answers forwarded calls; it should keep no state, or be told apart."""
    return Target(lambda: function, specs, frozenset(GENERIC_CODES))


# -- fuzzing ------------------------------------------------------------------------------------


def fuzz(
    target: Target, *, specs: Sequence[CallSpec] | None = None, sanity: int = SANITY,
    examples: int = EXAMPLES, seed: int = 0,
) -> Failure | None:  # fmt: skip
    """Search; the smallest failure, or None."""
    hypothesis = _hypothesis()
    chosen = list(specs or target.specs)
    found: list[Failure] = []

    def search(series: list[Call]) -> None:
        failure = try_series(target, series)
        if failure is not None:
            found.append(failure)
            raise _FoundError

    wishes = hypothesis.settings(
        max_examples=examples, database=None, deadline=None, print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck), report_multiple_bugs=False,
    )
    drawn = hypothesis.given(series=_series(chosen, sanity))(search)
    try:
        hypothesis.seed(seed)(wishes(drawn))()
    except _FoundError:
        return found[-1]  # the one hypothesis has shrunk to, run last
    return None


class _FoundError(Exception):
    """A failure, for hypothesis to shrink."""


def _hypothesis() -> Any:
    try:
        import hypothesis
    except ImportError:
        raise EmuError("the fuzzer needs hypothesis: pip install 'hvcemu[fuzz]'") from None
    return hypothesis


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """Let hypothesis keep what it likes to keep elsewhere than in the user's folder."""
    from tempfile import TemporaryDirectory

    configuration = importlib.import_module(f"{_hypothesis().__name__}.configuration")
    with TemporaryDirectory() as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(None)


def try_series(target: Target, series: Iterable[Call]) -> Failure | None:
    """Make calls one after the other; the first promise that is broken."""
    handler = target.fresh()
    made: list[Call] = []
    for call in series:
        made.append(call)
        broken = _judge(target, handler, call, made)
        if broken is not None:
            return Failure(*broken, tuple(made))
    return None


def _judge(
    target: Target, handler: Handler, call: Call, made: Sequence[Call]
) -> tuple[str, str] | None:
    answer, error = _ask(handler, call)
    if error:
        return "answers", error
    if isinstance(answer, Undef | Exit):
        return None
    if not isinstance(answer, Ret | int) or isinstance(answer, bool):
        return "answers", f"{id_text(call.id)} is answered with {answer!r}: return a Ret or an int"
    registers = (answer,) if isinstance(answer, int) else tuple(answer)
    if len(registers) > 18 or any(not -(1 << 63) <= value <= MASK64 for value in registers):
        return "fits", f"{id_text(call.id)} is answered with {answer!r}"
    if registers and registers[0] >> 63 and (isinstance(call, Abi) or signed(registers[0]) < 0):
        whole = registers[0] - (1 << 64) if registers[0] > 0 else registers[0]
        code = whole if isinstance(call, Abi) else signed(registers[0])
        if code not in target.codes:
            return "told", f"{id_text(call.id)} is answered with {code}, which no table names"
    return _narrow(target, call, answer, made)


def _narrow(
    target: Target, call: Call, answer: Any, made: Sequence[Call]
) -> tuple[str, str] | None:
    """The same series again, with garbage where an SMC32 call has no arguments."""
    if isinstance(call, Abi) or call.fid.smc64 or not call.fid.fast:
        return None
    again = target.fresh()
    for earlier in made[:-1]:
        _ask(again, earlier)
    dirty = call._replace(x=(call.x[0], *((v & MASK32) | _GARBAGE for v in call.x[1:8])))
    other, error = _ask(again, dirty)
    if error or other != answer:
        return "narrow", (f"{id_text(call.id)} is answered with {answer!r}, and with "
                          f"{error or repr(other)} when x1–x7 have garbage above bit 31")
    return None


_GARBAGE = 0xDEAD_BEEF << 32


def _ask(handler: Handler, call: Call) -> tuple[Any, str]:
    try:
        return handler(call), ""
    except Exception as error:
        cause = error.__cause__ or error
        return None, f"{id_text(call.id)} raises {type(cause).__name__}: {cause}"


# -- drawing ------------------------------------------------------------------------------------


def _series(specs: Sequence[CallSpec], sanity: int) -> Any:
    from hypothesis import strategies as st

    one = st.one_of(*(call_of(spec, sanity) for spec in specs))
    return st.lists(one, min_size=1, max_size=SERIES)


def call_of(spec: CallSpec, sanity: int) -> Any:
    """A strategy for one call."""
    from hypothesis import strategies as st

    word = st.integers(0, MASK64)
    if (abi := abi_of(spec.fid)) is not None:
        arguments = [
            _register(argument, sanity) if sanity >= 2 else word for argument in spec.arguments
        ]
        made = st.tuples(*arguments)
        return made.map(lambda values: abi.make(apart(spec.fid)[1], *values))
    registers = [st.just(spec.fid) if sanity else word]
    by_number = {argument.number: argument for argument in spec.arguments}
    for number in range(1, 8):
        argument = by_number.get(number)
        if sanity < 2:
            registers.append(word)
        else:
            registers.append(_register(argument, sanity) if argument else st.just(0))
    return st.builds(
        lambda x, conduit: Call(copy.copy(x), conduit), st.tuples(*registers),
        st.just(Conduit.HVC),
    )


def _register(argument: Argument, sanity: int) -> Any:
    from hypothesis import strategies as st

    parts = [_field(one, sanity).map(lambda value, low=one.low: value << low)
             for one in argument.fields]  # fmt: skip
    return st.tuples(*parts).map(sum)


def _field(one: Field, sanity: int) -> Any:
    from hypothesis import strategies as st

    if not one.fixed and (sanity < 3 or not one.values):
        edges = sorted({0, 1, one.largest, one.largest >> 1, *(v for pair in one.values
                                                              for v in pair)})  # fmt: skip
        return st.one_of(st.sampled_from(edges), st.integers(0, one.largest))
    return st.one_of(*(st.integers(first, last) for first, last in one.values))

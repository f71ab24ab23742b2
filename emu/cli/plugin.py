"""The pytest plugin: a guest in every world a test asks for, and checks that read as sentences.

    @pytest.mark.guest("image.elf", profile=["kvm-*", "none"], cpus=[1, 4])
    def test_discovery(guest):
        guest.exits(0).prints("found").calls("PSCI_VERSION", "SMCCC_VERSION").breaks_no_rule()

The marker's image is a path beside the test file (or below pytest's root), or a bundled guest's
name. Each option that is a list is an axis: the test runs once in every combination, under its own
id, and with pytest-xdist on all processors. Profiles may be patterns. The guest runs at the first
check; each check returns the guest again, and a check that fails shows what was expected against
the calls that were made, as a diff. `guest.matches_calls()` compares with a file beside the test,
which `pytest --hvcemu-update` writes.

Loaded by pytest in every project of an environment that has hvcemu: nothing but pytest itself is
imported before a test asks for a guest.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from emu.judge.trial import CallLine, Outcome, Setup

SNAPSHOTS = "__hvcemu__"
"""The folder of expected calls, beside the test file."""
OPTIONS = (
    "profile", "conduit", "cpus", "core", "services", "registers", "deny", "memory", "seed",
    "append", "initrd", "dtb", "seconds", "cycles",
)  # fmt: skip
"""What the marker takes; as in `Setup` (trial.py), and `services` also as "-trng,+ptp"."""
SHOWN_CALLS = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hvcemu", "guests below a hypervisor (hvcemu)")
    group.addoption(
        "--hvcemu-update", action="store_true",
        help="write the expected calls of guest.matches_calls() anew",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "guest(image, **options): run this guest; options are those of `hvcemu run` "
        f"({', '.join(OPTIONS)}), and a list is an axis",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each world the marker describes."""
    if "guest" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("guest")
    if marker is None:
        return
    try:
        worlds = list(_worlds(marker, metafunc.definition.path, metafunc.config.rootpath))
    except Exception as error:
        if type(error).__module__ != "emu.base.errors":
            raise
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from None
    metafunc.parametrize("guest", [setup for _, setup in worlds], indirect=True,
                         ids=[name for name, _ in worlds])


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Guest:
    """The guest of `@pytest.mark.guest`, in one of its worlds."""
    if not hasattr(request, "param"):
        pytest.fail('this test needs @pytest.mark.guest("image.elf")', pytrace=False)
    found = Guest(request.param, request.node)
    request.node.stash[_KEY] = found
    return found


_KEY = pytest.StashKey["Guest"]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """A failed test shows what the guest printed."""
    report = yield
    found = item.stash.get(_KEY, None)
    if report.when == "call" and report.failed and found and found.has_run:
        report.sections.append(("guest console", found.console))
    return report


# -- the marker ---------------------------------------------------------------------------------


def _worlds(marker: pytest.Mark, test: Path, root: Path) -> Iterator[tuple[str, Setup]]:
    """(id, setup) for every combination."""
    from emu.base.errors import EmuError

    if len(marker.args) != 1:
        raise EmuError('@pytest.mark.guest takes one image: @pytest.mark.guest("image.elf")')
    if unknown := sorted(set(marker.kwargs) - set(OPTIONS)):
        raise EmuError(f"@pytest.mark.guest has no option {unknown[0]}; it has "
                       f"{', '.join(OPTIONS)}")
    axes = {name: _values(name, value) for name, value in marker.kwargs.items()}
    varied = [name for name, values in axes.items() if len(values) > 1]
    image = _image(str(marker.args[0]), test, root)
    for combination in itertools.product(*axes.values()):
        options = dict(zip(axes, combination, strict=True))
        names = [_name(name, options[name]) for name in varied]
        yield "-".join(names) or Path(image).stem, _setup(image, options)


def _values(name: str, value: Any) -> Sequence[Any]:
    values = list(value) if isinstance(value, list) else [value]
    if name != "profile":
        return values
    from emu.runs.matrix import find_profiles

    return find_profiles(",".join(map(str, values)))


def _name(option: str, value: Any) -> str:
    """A value in a test's id: profiles and conduits speak for themselves."""
    return str(value) if option in ("profile", "conduit", "core") else f"{option}={value}"


def _image(name: str, test: Path, root: Path) -> str:
    from emu.runs.bundled import find_image

    for folder in (test.parent, root):
        if (folder / name).is_file():
            return str(folder / name)
    return find_image(name)


def _setup(image: str, options: Mapping[str, Any]) -> Setup:
    from emu.cli.arguments import services
    from emu.judge.trial import Setup

    changed = dict(options)
    if isinstance(changed.get("services"), str):
        changed["services"] = tuple(services(changed["services"]))
    return Setup(image, **changed, follow=True)


# -- checks -------------------------------------------------------------------------------------


class Guest:
    """A guest in one world. It runs at the first question; checks return it again."""

    def __init__(self, setup: Setup, node: Any) -> None:
        self.setup = setup
        self._node = node
        self._outcome: Outcome | None = None

    @property
    def has_run(self) -> bool:
        return self._outcome is not None

    @property
    def outcome(self) -> Outcome:
        """Everything that was seen of the run (trial.py)."""
        if self._outcome is None:
            from emu.base.errors import EmuError
            from emu.judge.trial import attempt

            try:
                self._outcome = attempt(self.setup)
            except EmuError as error:
                pytest.fail(str(error), pytrace=False)
        return self._outcome

    @property
    def console(self) -> str:
        """What the guest printed."""
        return self.outcome.console

    @property
    def trace(self) -> tuple[CallLine, ...]:
        """The calls it made."""
        return self.outcome.calls

    def exits(self, status: int = 0) -> Guest:
        """The run ends with this exit status; 0 is also a power-off."""
        __tracebackhide__ = True
        seen = self.outcome
        if seen.status != status:
            self._fail(f"expected exit status {status}, and it ended with {seen.status} "
                       f"({seen.ending}: {seen.detail})")
        return self

    def ends(self, ending: str) -> Guest:
        """The run ends this way: off, exit, reset, suspend, fault, idle, limit or flood."""
        __tracebackhide__ = True
        if self.outcome.ending != ending:
            self._fail(f"expected {ending}, and it ended with {self.outcome.ending} "
                       f"({self.outcome.detail})")
        return self

    def prints(self, *texts: str | re.Pattern[str]) -> Guest:
        """The console holds each of these texts or patterns."""
        __tracebackhide__ = True
        for text in texts:
            if not _holds(self.console, text):
                self._fail(f"the console does not hold {_shown(text)}")
        return self

    def does_not_print(self, *texts: str | re.Pattern[str]) -> Guest:
        """The console holds none of them."""
        __tracebackhide__ = True
        for text in texts:
            if _holds(self.console, text):
                self._fail(f"the console holds {_shown(text)}")
        return self

    def calls(self, *names: str) -> Guest:
        """These functions are called in this order, others perhaps in between.

        A name is a function's, with or without arguments: "PSCI_FEATURES(SMCCC_VERSION)".
        """
        __tracebackhide__ = True
        made = [line.call for line in self.trace]
        rest = iter(made)
        for name in names:
            if not any(_is_call(call, name) for call in rest):
                self._fail(f"{name} was not called in this order", list(names), made)
        return self

    def does_not_call(self, *names: str) -> Guest:
        """None of these functions is called."""
        __tracebackhide__ = True
        for name in names:
            if any(_is_call(line.call, name) for line in self.trace):
                self._fail(f"{name} was called")
        return self

    def breaks(self, *rules: str) -> Guest:
        """Exactly these rules of discovery are broken (`hvcemu rules`)."""
        __tracebackhide__ = True
        found = sorted({verdict.rule for verdict in self.outcome.verdicts})
        if found != sorted(rules):
            lines = [f"  {v.rule}: {v.text} (at {v.place or hex(v.pc)}, cycle {v.cycles:,})"
                     for v in self.outcome.verdicts]  # fmt: skip
            self._fail("\n".join((
                f"expected {', '.join(sorted(rules)) or 'no rule'} to be broken, and "
                f"{', '.join(found) or 'none'} was", *lines)))  # fmt: skip
        return self

    def breaks_no_rule(self) -> Guest:
        """No rule of discovery is broken."""
        __tracebackhide__ = True
        return self.breaks()

    def copes(self, *, score: float = 1.0, budget: int | None = None, seed: int = 0) -> Guest:
        """Under wrong answers (`hvcemu mutate`) the guest reaches this score, 0 to 1."""
        __tracebackhide__ = True
        from emu.judge.faults import choose, mutations
        from emu.judge.mutate import prepare, run_mutant, survivors
        from emu.judge.mutate import score as score_of

        subject = prepare(self.setup)
        chosen = choose(mutations(subject.trace), budget, seed)
        results = [run_mutant(subject, mutation) for mutation in chosen]
        if score_of(results) < score:
            lines = [f"  {r.mutant}: {r.verdict}, {r.why}" for r in survivors(results)]
            self._fail("\n".join((
                f"expected a score of {score:.1%} over {len(results)} mutants, and it is "
                f"{score_of(results):.1%}; survivors:", *lines)))  # fmt: skip
        return self

    def matches_calls(self) -> Guest:
        """The calls and their answers are those of the file beside the test."""
        __tracebackhide__ = True
        path = self.snapshot
        made = [f"{line.vcpu} {line.by} {line.call} → {line.result}" for line in self.trace]
        if self._node.config.getoption("--hvcemu-update"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(made) + "\n", encoding="utf-8")
            return self
        if not path.is_file():
            self._fail(f"{path} is missing; `pytest --hvcemu-update` writes it", [], made)
        expected = path.read_text(encoding="utf-8").splitlines()
        if made != expected:
            self._fail(f"the calls differ from {path.name}; if that is right, "
                       "`pytest --hvcemu-update` writes them anew", expected, made)
        return self

    @property
    def snapshot(self) -> Path:
        """Where the expected calls of this test are kept."""
        test: Path = self._node.path
        name = re.sub(r"[^\w.=+-]+", "_", self._node.name).strip("_")
        return test.parent / SNAPSHOTS / test.stem / f"{name}.calls"

    def _fail(
        self, message: str, expected: Sequence[str] = (), made: Sequence[str] | None = None
    ) -> None:
        __tracebackhide__ = True
        world = f"{Path(self.setup.image).name} under {self.setup.profile}"
        if made is None:
            trace = [f"  {n.by} {n.call} → {n.result}" for n in self.trace[:SHOWN_CALLS]]
            lines = ["its calls:", *trace] if trace else ["it made no call"]
        else:
            lines = list(difflib.unified_diff(expected, made, "expected", "called", lineterm=""))
        pytest.fail("\n".join((f"{world}: {message}", *lines)), pytrace=False)


def _holds(console: str, text: str | re.Pattern[str]) -> bool:
    return text in console if isinstance(text, str) else bool(text.search(console))


def _shown(text: str | re.Pattern[str]) -> str:
    return repr(text) if isinstance(text, str) else f"/{text.pattern}/"


def _is_call(call: str, name: str) -> bool:
    return call == name or ("(" not in name and call.partition("(")[0] == name)

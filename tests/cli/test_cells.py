"""The cells of a matrix: made of options, run, and kept in a file on the way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from emu.arm.cores import DEFAULT_CORE
from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.cli import cells
from emu.cli.cells import cells_of, run_cells
from emu.judge.trial import CYCLES, Setup
from emu.runs.exports import Origin
from emu.runs.results import ResultsFile
from matrix_kit import FAULTS, HELLO_ELF
from places import GUESTS

ORIGIN = Origin("0.1.0", "hvcemu matrix hello", "2026-01-02T03:04:05+00:00")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _collector(monkeypatch):
    """Workers are prepared elsewhere: what this process has is not to be frozen."""
    monkeypatch.setattr(cells, "prepare_workers", lambda: None)


def options(*guests: object, **given: object) -> SimpleNamespace:
    """As `hvcemu matrix` has them without a word."""
    settings: dict[str, object] = {
        "guests": [str(guest) for guest in guests] or ["hello"], "profile": "kvm-6.12",
        "conduit": ("",), "cpus": (1,), "core": (DEFAULT_CORE,), "mem": (64 * MIB,),
        "seed": (0,), "vary": None, "services": [], "fw_reg": [], "deny": [], "append": "",
        "initrd": None, "dtb": None, "timeout": 60.0, "max_cycles": CYCLES, "follow": False,
        "jobs": 1, "dask": None, "db": None, "resume": None, "allow_exit": (),
    }  # fmt: skip
    return SimpleNamespace(**(settings | given))


# -- which cells ---------------------------------------------------------------------------------


def test_one_guest_in_one_world():
    (cell,) = cells_of(options())
    assert (cell.guest, cell.profile) == ("hello", "kvm-6.12")
    assert cell.setup == Setup(HELLO_ELF)


AXES = {
    "profile": ("kvm-6.1*,none", 4), "conduit": (("hvc", "smc"), 2), "cpus": ((1, 2, 4), 3),
    "core": (("cortex-a53", "max"), 2), "mem": ((MIB, 2 * MIB), 2), "seed": ((0, 1, 2), 3),
}  # fmt: skip


@pytest.mark.parametrize("axis", AXES)
def test_each_axis_multiplies(axis):
    values, count = AXES[axis]
    found = cells_of(options(**{axis: values}))
    assert len(found) == len({cell.key for cell in found}) == count


def test_all_axes_multiply():
    every = {axis: values for axis, (values, _) in AXES.items()}
    found = cells_of(options("hello", "trng", **every))
    assert len(found) == 2 * 4 * 2 * 3 * 2 * 2 * 3


def test_guests_by_name_by_path_and_by_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.elf", "a.elf", "deep/c.elf", "note.txt"):
        (tmp_path / name).write_bytes(FAULTS)
    found = cells_of(options(tmp_path))
    assert [cell.guest for cell in found] == ["a", "b", "deep/c"]
    found = cells_of(options("hello", GUESTS / "trng.elf", "hello"))
    assert [cell.guest for cell in found] == ["hello", "trng"], "each of them once"
    with pytest.raises(EmuError, match="no-such-guest"):
        cells_of(options("no-such-guest"))


def test_what_all_cells_share(tmp_path, monkeypatch):
    """Paths are absolute: other processes may be elsewhere."""
    monkeypatch.chdir(tmp_path)
    (cell,) = cells_of(options(
        services=[("trng", False)], fw_reg=[("STD_BMAP", 0)], deny=[(1, 2)], append="quiet",
        initrd="rd", dtb="tree.dtb", timeout=5.0, max_cycles=7, follow=True,
    ))  # fmt: skip
    setup = cell.setup
    assert (setup.services, setup.registers, setup.deny) == (
        (("trng", False),), (("STD_BMAP", 0),), ((1, 2),)
    )  # fmt: skip
    assert (setup.initrd, setup.dtb) == (str(tmp_path / "rd"), str(tmp_path / "tree.dtb"))
    assert (setup.append, setup.seconds, setup.cycles, setup.follow) == ("quiet", 5.0, 7, True)
    assert os.path.isabs(setup.image)


# -- what comes of them --------------------------------------------------------------------------


def test_cells_are_run_in_order():
    given = options("hello", "trng", profile="kvm-6.12,none")
    ran = run_cells(cells_of(given), ORIGIN, given)
    assert (ran.finished, ran.database) == (True, None)
    assert [str(result.cell).split()[:2] for result in ran.results] == [
        ["hello", "kvm-6.12"], ["hello", "none"], ["trng", "kvm-6.12"], ["trng", "none"]
    ]  # fmt: skip
    assert ran.results[0].digest == hashlib.sha256(Path(HELLO_ELF).read_bytes()).hexdigest()


def test_processes_give_the_same():
    given = options("hello", "vendor_uid", profile="kvm-6.12,none")
    found = []
    for jobs in (1, 2):
        given.jobs = jobs
        results = run_cells(cells_of(given), ORIGIN, given).results
        found.append([r._replace(outcome=r.outcome._replace(seconds=0)) for r in results])
    assert found[0] == found[1]


def test_cells_that_cannot_be_built_are_the_users_mistake(tmp_path):
    (tmp_path / "bad.elf").write_bytes(b"no image")
    given = options(tmp_path / "bad.elf", db=str(tmp_path / "r.sqlite"))
    with pytest.raises(EmuError, match=r"bad\.elf"):
        run_cells(cells_of(given), ORIGIN, given)
    with ResultsFile(given.db) as file:
        assert list(file.runs()) == [], "there is no such run"
    given.guests = [str(tmp_path / "bad.elf"), "hello"]
    ran = run_cells(cells_of(given), ORIGIN, given)
    assert [r.outcome.ending for r in ran.results] == [Ending.REFUSED, Ending.OFF]


def test_a_run_is_kept_in_its_file(tmp_path):
    given = options(profile="kvm-6.12,none", db=str(tmp_path / "r.sqlite"))
    ran = run_cells(cells_of(given), ORIGIN, given)
    assert ran.database is not None
    with ResultsFile(given.db) as file:
        assert file.results(ran.database.run) == ran.results
        (run,) = file.runs()
        assert (run.command, run.finished) == (ORIGIN.command, True)


def interrupted(given, monkeypatch, after: int):
    """Ctrl-C behind so many cells."""
    run_here = cells.run_here

    def some(todo):
        for n, answers in enumerate(run_here(todo)):
            if n == after:
                raise KeyboardInterrupt
            yield answers

    monkeypatch.setattr(cells, "run_here", some)
    ran = run_cells(cells_of(given), ORIGIN, given)
    monkeypatch.setattr(cells, "run_here", run_here)
    return ran


def test_an_interrupted_run_is_gone_on_with(tmp_path, monkeypatch):
    given = options("hello", "trng", profile="kvm-6.12,none", db=str(tmp_path / "r.sqlite"))
    first = interrupted(given, monkeypatch, after=3)
    assert not first.finished
    assert len(first.results) == 3
    with ResultsFile(given.db) as file:
        assert [(run.finished, run.done) for run in file.runs()] == [(False, 3)]
    given.resume = first.database.run
    asked = []
    run_here = cells.run_here
    monkeypatch.setattr(cells, "run_here", lambda todo: asked.append(list(todo)) or run_here(todo))
    rest = run_cells(cells_of(given), ORIGIN, given)
    assert asked == [[3]], "only the one that was missing"
    assert rest.finished
    assert rest.results[:3] == first.results
    assert len(rest.results) == 4


def test_a_resumed_run_is_of_the_same_matrix(tmp_path, monkeypatch):
    given = options(profile="kvm-6.12,none", db=str(tmp_path / "r.sqlite"))
    given.resume = interrupted(given, monkeypatch, after=1).database.run
    given.profile = "kvm-6.1"
    with pytest.raises(EmuError) as caught:
        run_cells(cells_of(given), ORIGIN, given)
    assert str(caught.value) == (
        f"run 1 of {given.db} is of another matrix (hello kvm-6.12 is not in this one, or its "
        "image is another): repeat its command"
    )


def test_an_image_that_has_changed_is_another_matrix(tmp_path, monkeypatch):
    guest = tmp_path / "guest.elf"
    guest.write_bytes(FAULTS)
    given = options(guest, profile="kvm-6.12,none", db=str(tmp_path / "r.sqlite"))
    given.resume = interrupted(given, monkeypatch, after=1).database.run
    guest.write_bytes(FAULTS + b"\0")
    with pytest.raises(EmuError, match="or its image is another"):
        run_cells(cells_of(given), ORIGIN, given)


def test_a_run_that_is_not_there(tmp_path):
    given = options(db=str(tmp_path / "none.sqlite"), resume=1)
    with pytest.raises(EmuError, match=r"none\.sqlite"):
        run_cells(cells_of(given), ORIGIN, given)
    assert not os.path.exists(given.db)

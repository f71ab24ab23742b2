"""The file of results: what is written is read, and what is not ours is left alone."""

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from emu.base.errors import ResultsError
from emu.runs.results import Recorder, ResultsFile
from matrix_kit import RICH, outcome, result

ABOUT = ("2026-01-02T03:04:05+00:00", "0.1.0", "hvcemu matrix hello")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "r.sqlite")


def test_what_is_written_is_read(path):
    with ResultsFile(path, create=True) as file:
        run = file.begin(*ABOUT, total=3)
        file.store(run, [(1, RICH), (0, result())])
        assert file.results(run) == [result(), RICH]
        file.finish(run)
    with ResultsFile(path) as file:
        assert file.results(run) == [result(), RICH]
        (found,) = file.runs()
        assert found == (1, *ABOUT, 3, True, 2)
        assert file.run() == file.run(1) == found


def test_a_cell_is_stored_once(path):
    with ResultsFile(path, create=True) as file:
        first, second = (file.begin(*ABOUT, total=1) for _ in range(2))
        file.store(first, [(0, result())])
        file.store(first, [(0, result(made=outcome(cycles=5)))])
        file.store(second, [(0, result(made=outcome(cycles=5)))])
        assert [r.outcome.cycles for r in file.results(first)] == [1000]
        assert [r.outcome.cycles for r in file.results(second)] == [5]


def test_a_run_is_forgotten_alone(path):
    with ResultsFile(path, create=True) as file:
        for _ in range(2):
            file.store(file.begin(*ABOUT, total=1), [(0, result())])
        file.forget(1)
        assert [run.id for run in file.runs()] == [2]
        assert file.results(1) == []
        assert file.results(2) == [result()]


def test_the_latest_finished_run_counts(path):
    with ResultsFile(path, create=True) as file:
        for _ in range(3):
            file.begin(*ABOUT, total=1)
        with pytest.raises(ResultsError, match="no finished run"):
            file.run()
        file.finish(2)
        assert file.run().id == 2
        with pytest.raises(ResultsError, match="has no run 9; it has 1, 2, 3"):
            file.run(9)


def test_the_recorder_writes_at_its_end_what_is_left(path):
    with ResultsFile(path, create=True) as file:
        recorder = Recorder(file, file.begin(*ABOUT, total=1))
        recorder.add([(0, result())])
        recorder.flush()
        recorder.flush()
        assert file.results(1) == [result()]


def other_kind(path):
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE photographs (id INTEGER)")


def other_schema(path):
    ResultsFile(path, create=True).__exit__()
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA user_version = 99")


def damaged(path):
    with ResultsFile(path, create=True) as file:
        run = file.begin(*ABOUT, total=50)
        rows = ((n, result(f"guest{n}", made=outcome(console="x" * 5000))) for n in range(50))
        file.store(run, rows)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


def cut_off(path):
    damaged(path)
    with open(path, "r+b") as file:
        file.truncate(5000)


def no_database(path):
    with open(path, "wb") as file:
        file.write(b"notes of mine\n" * 100)


BAD = {
    other_kind: "no file of results", other_schema: "has schema 99, this hvcemu knows 1",
    damaged: "damaged", cut_off: "damaged", no_database: "damaged or no file of results",
}  # fmt: skip


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_what_is_not_ours_is_refused_and_left_as_it_is(path, make, create):
    make(path)
    before = Path(path).read_bytes()
    with pytest.raises(ResultsError) as error:
        ResultsFile(path, create=create)
    assert BAD[make] in str(error.value)
    assert str(error.value).startswith(path)
    assert "\n" not in str(error.value)
    assert Path(path).read_bytes() == before


def test_what_cannot_be_opened(path, tmp_path):
    for bad, create in ((path, False), (str(tmp_path), True), ("/nowhere/x", True)):
        with pytest.raises(ResultsError, match=bad):
            ResultsFile(bad, create=create)


def test_damage_inside_a_row_is_one_line(path):
    with ResultsFile(path, create=True) as file:
        file.store(file.begin(*ABOUT, total=1), [(0, result())])
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("UPDATE cells SET calls = 'x'")
    with ResultsFile(path) as file, pytest.raises(ResultsError, match="run 1 is damaged"):
        file.results(1)


def test_an_empty_file_is_a_new_one(path):
    Path(path).touch()
    with ResultsFile(path, create=True) as file:
        assert file.runs() == []


def write_many(path, name):
    with ResultsFile(path, create=True) as file:
        run = file.begin(*ABOUT, total=100)
        for n in range(100):
            file.store(run, [(n, result(f"{name}{n}"))])
        file.finish(run)


def test_two_may_write_one_file_at_once(path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=write_many, args=(path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    with ResultsFile(path) as file:
        assert [(run.done, run.finished) for run in file.runs()] == [(100, True)] * 2
        assert {len({r.cell.guest[0] for r in file.results(n)}) for n in (1, 2)} == {1}

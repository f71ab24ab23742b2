"""Running many: each costs at most itself, whatever it does to its worker."""

import contextlib
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from emu import workers
from emu.endings import Ending
from emu.errors import EmuError
from emu.profile import data_folder
from emu.trial import Setup
from emu.workers import WorkersDied, do_chunk, run_alone, run_here, run_in_processes, run_over
from matrix_kit import CALLS_FOR_EVER, FAULTS, FOR_EVER, PRINTS_FOR_EVER, work

HELLO = str(data_folder("guests") / "hello.elf")


def setups(*appends, **more):
    return {n: Setup(HELLO, append=a, seed=n, **more) for n, a in enumerate(appends)}


def collect(answers):
    """Every outcome by its number; each must come once."""
    found = [pair for batch in answers for pair in batch]
    assert max(Counter(number for number, _ in found).values()) == 1
    return dict(found)


def check(found, appends):
    """Good ones are good, and each bad one has cost itself only."""
    assert set(found) == set(range(len(appends)))
    for number, append in enumerate(appends):
        if append in ("", "slow"):
            assert found[number].console == str(number)
        else:
            expected = Ending.REFUSED if append == "refuse" else Ending.LOST
            assert found[number].ending is expected, (append, found[number])


def test_here():
    appends = ["", "refuse", "", "bug", "memory", ""]
    found = collect(run_here(setups(*appends), work))
    check(found, appends)
    assert found[1].detail == "cannot be built"
    assert "ValueError: a bug" in found[3].detail
    assert "out of memory" in found[4].detail


def test_an_image_that_a_worker_does_not_see():
    (found,) = do_chunk(workers.attempt, (Setup("/nowhere/x.elf"),))
    assert found.ending is Ending.REFUSED
    assert "No such file" in found.detail
    assert "every worker must see" in found.detail


def test_processes_outlive_crashes_and_hangs():
    appends = [""] * 60 + ["crash", "", "end", "leave", "memory", "", "bug"] + [""] * 30
    found = collect(run_in_processes(setups(*appends), 2, work=work))
    check(found, appends)
    assert "SIGKILL" in found[60].detail
    assert "SIGTERM" in found[62].detail
    assert "status 7" in found[63].detail


def test_a_worker_that_hangs_is_killed():
    appends = ["", "hang", ""]
    found = collect(run_in_processes(setups(*appends, seconds=0.1), 2, work=work, grace=3.0))
    check(found, appends)
    assert found[1].detail == "no answer within 3.1 seconds: killed"


def test_real_guests_that_do_their_worst(tmp_path):
    guests = {
        "ever": (FOR_EVER, Ending.LIMIT), "prints": (PRINTS_FOR_EVER, Ending.FLOOD),
        "faults": (FAULTS, Ending.FAULT), "calls": (CALLS_FOR_EVER, Ending.LIMIT),
        "none": (b"\x7fELF", Ending.REFUSED),
    }  # fmt: skip
    todo = {}
    for number, (name, (image, _)) in enumerate(guests.items()):
        path = tmp_path / f"{name}.elf"
        path.write_bytes(image)
        todo[number] = Setup(str(path), cycles=100_000 if name == "calls" else 30_000_000)
    todo[len(guests)] = Setup(HELLO)
    found = collect(run_in_processes(todo, 2))
    expected = [ending for _, ending in guests.values()] + [Ending.OFF]
    assert [found[n].ending for n in range(len(todo))] == expected
    assert found[1].console
    assert found[3].total_calls > len(found[3].calls) == 10_000


def test_alone():
    assert run_alone(Setup(HELLO)).console == "hello from EL1\n"


def test_nothing_to_do():
    assert collect_nothing(run_in_processes({}, 2)) == []
    with ThreadPoolExecutor() as pool:
        assert collect_nothing(run_over({}, pool)) == []


def collect_nothing(answers):
    return [pair for batch in answers for pair in batch]


def test_the_caller_may_leave():
    answers = run_in_processes(setups(*["slow"] * 100), 2, work=work)
    with contextlib.closing(answers):
        next(answers)


def test_any_executor_will_do():
    appends = ["", "refuse", ""] * 50
    with ThreadPoolExecutor(2) as pool:
        check(collect(run_over(setups(*appends), pool, slots=lambda: 2, work=work)), appends)


class Fragile(Executor):
    """Fails the chunks that hold a setup with this append, as Dask does with a KilledWorker."""

    def __init__(self, times, error=OSError):
        self.times, self.error = times, error("gone")

    def submit(self, fn, work, chunk):
        future = Future()
        if self.times and any(setup.append == "crash" for setup in chunk):
            self.times -= 1
            future.set_exception(self.error)
        else:
            safe = tuple(setup._replace(append="") for setup in chunk)
            future.set_result(fn(work, safe))
        return future


def test_what_a_lost_worker_had_is_tried_again():
    appends = [""] * 20 + ["crash"] + [""] * 20
    found = collect(run_over(setups(*appends), Fragile(1), slots=lambda: 3, work=work))
    check(found, [""] * 41)


def test_what_costs_two_workers_is_lost():
    appends = [""] * 20 + ["crash"] + [""] * 20
    found = collect(run_over(setups(*appends), Fragile(99), slots=lambda: 3, work=work))
    check(found, appends)
    assert found[20].detail == "its worker was lost twice: OSError: gone"


def test_an_executor_that_is_shut_down():
    pool = ThreadPoolExecutor()
    pool.shutdown()
    with pytest.raises(EmuError, match="takes no more work"):
        collect(run_over(setups(""), pool, work=work))


def test_a_broken_pool_names_its_suspects():
    pool = Fragile(1, workers.BrokenExecutor)
    with pytest.raises(WorkersDied) as died:
        collect(run_over(setups("crash"), pool, work=work))
    assert died.value.suspects == [0]

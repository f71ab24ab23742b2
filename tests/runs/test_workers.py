"""Running many over an executor: each costs at most itself."""

from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.judge.trial import Setup
from emu.runs import workers
from emu.runs.workers import WorkersDied, do_chunk, run_over
from matrix_kit import check, collect, setups, work


def test_an_image_that_a_worker_does_not_see():
    (found,) = do_chunk(workers.attempt, (Setup("/nowhere/x.elf"),))
    assert found.ending is Ending.REFUSED
    assert "No such file" in found.detail
    assert "every worker must see" in found.detail


def test_nothing_to_do():
    with ThreadPoolExecutor() as pool:
        assert list(run_over({}, pool)) == []


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

"""Running many on this machine: each costs at most itself, whatever it does to its worker."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import InvalidStateError
from pathlib import Path

import pytest

from emu.base.endings import Ending
from emu.judge.trial import Setup
from emu.runs import processes
from emu.runs.processes import HEADROOM, pool_of, run_alone, run_here, run_in_processes
from matrix_kit import (
    CALLS_FOR_EVER,
    FAULTS,
    FOR_EVER,
    HELLO_ELF,
    PRINTS_FOR_EVER,
    check,
    collect,
    setups,
    work,
)


def test_here():
    appends = ["", "refuse", "", "bug", "memory", ""]
    found = collect(run_here(setups(*appends), work))
    check(found, appends)
    assert found[1].detail == "cannot be built"
    assert "ValueError: a bug" in found[3].detail
    assert "out of memory" in found[4].detail


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
    todo[len(guests)] = Setup(HELLO_ELF)
    found = collect(run_in_processes(todo, 2))
    expected = [ending for _, ending in guests.values()] + [Ending.OFF]
    assert [found[n].ending for n in range(len(todo))] == expected
    assert found[1].console
    assert found[3].total_calls > len(found[3].calls) == 10_000


def test_alone():
    assert run_alone(Setup(HELLO_ELF)).console == "hello from EL1\n"


def test_the_caller_may_leave():
    answers = run_in_processes(setups(*["slow"] * 100), 2, work=work)
    with contextlib.closing(answers):
        next(answers)


def test_nothing_to_do():
    assert list(run_in_processes({}, 2)) == []
    assert list(run_here({})) == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc: memory is not bounded")
def test_memory_is_bounded_where_the_host_can():
    appends = ["", "much memory", ""]
    found = collect(run_in_processes(setups(*appends), 2, work=work))
    check(found, appends)
    assert "out of memory" in found[1].detail


ORPHANS = """
import sys
import threading
sys.path[:0] = {path!r}
from matrix_kit import setups, work
from emu.runs.processes import run_in_processes
if __name__ == "__main__":
    for answers in run_in_processes(setups("", "", "hang", "hang"), 2, work=work):
        print("begun", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc: children are not found")
def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS.format(path=sys.path))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline()
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert children
        parent.kill()
    for _ in range(300):
        if not any(map(alive, children)):
            return
        time.sleep(0.1)
    for child in children:
        with contextlib.suppress(OSError):
            os.kill(int(child), signal.SIGKILL)
    pytest.fail("workers are left behind")


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_pool_that_is_left_early_ends_in_silence(monkeypatch):
    """Futures cancelled while their processes are killed: nothing is printed, nothing hangs."""
    heard: list[object] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    for _ in range(5):
        with pool_of(2, HEADROOM) as pool:
            futures = [pool.submit(time.sleep, 5) for _ in range(8)]
            time.sleep(0.05)
            for future in futures:
                future.cancel()
    assert heard == []
    assert threading.excepthook == heard.append


def test_a_pools_thread_fails_in_silence_only_over_cancelled_futures(monkeypatch):
    heard: list[type] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: heard.append(failure.exc_type))

    def fail(error):
        raise error

    for error in (InvalidStateError("CANCELLED"), ValueError("a bug")):
        with processes._deaf_to_cancelled():
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
    assert heard == [ValueError]

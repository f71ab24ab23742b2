"""A matrix on a real cluster: two workers in processes of their own, one of which is killed."""

import os
import signal
import sys
from collections import Counter

import pytest

from emu.base.errors import EmuError
from emu.cli import main as cli
from emu.judge.trial import Setup
from emu.runs.cluster import dask_executor
from emu.runs.workers import run_over
from emu.world.profile import data_folder
from matrix_kit import work

distributed = pytest.importorskip("distributed", reason="Dask is not installed: the extra [dask]")
# Dask leaves closing of some sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::DeprecationWarning",
)  # fmt: skip
HELLO = str(data_folder("guests") / "hello.elf")


@pytest.fixture(scope="module")
def address():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def test_a_worker_is_killed_and_nothing_is_lost(address):
    todo = {n: Setup(HELLO, seed=n, append="slow") for n in range(100)}
    found, killed = [], 0
    with dask_executor(address) as (executor, slots):
        client = distributed.Client(address, set_as_default=False)
        for answers in run_over(todo, executor, slots=slots, work=work):
            found += answers
            if found and not killed:
                killed = next(iter(client.run(os.getpid).values()))
                os.kill(killed, signal.SIGKILL)
        client.close()
    assert killed
    assert Counter(number for number, _ in found) == Counter(range(100))
    assert all(outcome.console == str(number) for number, outcome in found)


def test_the_command(address, tmp_path, capsys):
    command = ["matrix", "hello", "--profile", "kvm-6.*", "--seed", "1,2,3", "--dask", address]
    assert cli.main([*command, "--db", str(tmp_path / "r")]) == 0
    assert "12 cells: 12 good, 0 not\n" in capsys.readouterr().out
    assert cli.main(["matrix", "hello", "--baseline", str(tmp_path / "r"), "--jobs", "1",
                     "--profile", "kvm-6.*", "--seed", "1,2,3"]) == 0  # fmt: skip
    assert "12 cells as before, 0 changed" in capsys.readouterr().out


def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr("emu.runs.cluster.PATIENCE", 1)
    with pytest.raises(EmuError, match="no scheduler answers there"), dask_executor(
        "tcp://127.0.0.1:9"
    ):
        pass


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EmuError, match=r"hvcemu\[dask\]"), dask_executor("tcp://x"):
        pass


def test_without_workers(monkeypatch):
    monkeypatch.setattr("emu.runs.cluster.PATIENCE", 1)
    with (
        distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0") as empty,
        pytest.raises(EmuError, match="no worker has come"),
        dask_executor(empty.scheduler_address),
    ):
        pass

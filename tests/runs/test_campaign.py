"""A campaign in a file: interrupted, gone on with, refused when it is another's."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import pytest

from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.judge.faults import mutations
from emu.judge.mutate import Class, prepare, run_mutant
from emu.judge.trial import Setup
from emu.runs import campaign, processes
from emu.runs.campaign import header, open_record, run_all
from places import GUESTS

SETUP = Setup(str(GUESTS / "vendor_uid.elf"), services=(("ptp", False),))


@pytest.fixture(scope="module")
def subject():
    return prepare(SETUP)


def test_several_processes_give_what_one_gives(subject):
    mutants = mutations(subject.trace)[:48]
    alone = list(run_all(subject, SETUP, mutants, 1, None))
    assert list(run_all(subject, SETUP, mutants, 2, None)) == alone
    assert [result.mutant for result in alone] == [str(mutation) for mutation in mutants]


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the double must be forked"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_mutant_that_costs_its_process_is_a_crash(subject, monkeypatch):
    """It is told from its neighbours, and all others have their results, once and in order."""
    mutants = mutations(subject.trace)[:40]
    fatal = mutants[20]

    def run(subject, mutation):
        if mutation == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_mutant(subject, mutation)

    monkeypatch.setattr(campaign, "run_mutant", run)
    monkeypatch.setattr(processes, "context", lambda: multiprocessing.get_context("fork"))
    results = list(run_all(subject, SETUP, mutants, 2, None))
    assert [result.mutant for result in results] == [str(mutation) for mutation in mutants]
    lost = [result for result in results if result.ending is Ending.LOST]
    assert [(r.mutant, r.verdict) for r in lost] == [(str(fatal), Class.CRASH)]


def test_a_file_is_gone_on_with(subject, tmp_path):
    head = header(SETUP, 0, None, None)
    results = list(run_all(subject, SETUP, mutations(subject.trace)[:6], 1, None))
    path = tmp_path / "out.jsonl"
    record = open_record(str(path), head)
    for result in results[:4]:
        record.append(result)
    with path.open("a") as file:
        file.write('{"mutant": "cut in the mid')
    again = open_record(str(path), head)
    assert list(again.done.values()) == results[:4]
    again.append(results[4])
    assert list(open_record(str(path), head).done.values()) == results[:5]
    lines = path.read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[0])["setup"]["services"] == [["ptp", False]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type": "campaign", "schema": 99}\n', "belongs to another campaign"),
        ("not json\n", "is no campaign's file, or damaged"),
        ('"no newline', "belongs to another campaign"),
    ],
)
def test_another_file_is_refused_and_kept(tmp_path, text, says):
    path = tmp_path / "out.jsonl"
    path.write_text(text)
    with pytest.raises(EmuError, match=says):
        open_record(str(path), header(SETUP, 0, None, None))
    assert path.read_text() == text


def test_a_damaged_line_is_refused(tmp_path, subject):
    head = header(SETUP, 0, None, None)
    path = tmp_path / "out.jsonl"
    record = open_record(str(path), head)
    for broken in ('{"mutant": "x"}', '{"mutant": "x", "verdict": "none"}', "[]", "7"):
        record.path.write_text(json.dumps(head) + "\n" + broken + "\n")
        with pytest.raises(EmuError, match="damaged"):
            open_record(str(path), head)


@pytest.mark.parametrize("change", [(1, None, None), (0, 5, None), (0, None, 7)])
def test_seed_budget_and_limit_belong_to_it(tmp_path, change):
    path = tmp_path / "out.jsonl"
    open_record(str(path), header(SETUP, 0, None, None))
    with pytest.raises(EmuError, match="another campaign"):
        open_record(str(path), header(SETUP, *change))

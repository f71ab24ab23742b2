"""The runner of Linux programs: just enough for benchmarks, and plain about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import user_program
from user_program import ProgramError, UserProgram

from emu.base.errors import BootError
from emu.engine.engine import Engine
from engine_kit import halves, ldr, mov, store, svc, udf
from program_kit import BASE, BRK, CLOCK_GETTIME, EXIT, MMAP, WRITE, elf


def call(number: int, *arguments: int) -> list[int]:
    words = [word for n, value in enumerate(arguments) for word in mov(n, value)]
    return [*words, *mov(8, number), svc()]


def program(tmp_path: Path, words: list[int], *arguments: str, **options: object) -> UserProgram:
    path = tmp_path / "program"
    engine = options.pop("engine", None)
    path.write_bytes(elf(words, **options))
    return UserProgram(path, arguments, engine=engine)


@halves
def test_a_program_writes_and_exits(tmp_path, native):
    hello = call(WRITE, 1, 0, 6)
    at = BASE + 0x100 + 4 * (len(hello) + 1 + len(call(EXIT, 7)))
    words = [*mov(0, 1), *mov(1, at), *mov(2, 6), *mov(8, WRITE), svc(), *call(EXIT, 7)]
    at = BASE + 0x100 + 4 * len(words)
    words = [*mov(0, 1), *mov(1, at), *mov(2, 6), *mov(8, WRITE), svc(), *call(EXIT, 7)]
    done = program(tmp_path, words, text=b"hello\n", engine=Engine(native=native)).run()
    assert (done.status, done.output) == (7, b"hello\n")
    assert done.instructions == len(words) + 1, "and the ERET of the first call"
    assert done.cycles >= done.instructions


def test_a_position_independent_program(tmp_path):
    assert program(tmp_path, call(EXIT, 3), kind=3).run().status == 3


def test_the_stack_has_the_arguments(tmp_path):
    words = [0x9100_03E1, ldr(0, 1), *mov(8, EXIT), svc()]  # mov x1, sp; x0 = argc
    assert program(tmp_path, words, "a", "b").run().status == 3


def test_memory_is_given(tmp_path):
    words = [
        *call(MMAP, 0, 8192, 3, 0x22, 0xFFFF, 0), 0xAA00_03F3,  # mov x19, x0
        *mov(1, 42), store(1, 19), ldr(0, 19), *mov(8, EXIT), svc(),
    ]  # fmt: skip
    assert program(tmp_path, words).run().status == 42


def test_the_break_moves(tmp_path):
    words = [*call(BRK, 0), 0x9140_0400, *mov(8, BRK), svc(),  # add x0, x0, #1, lsl #12
             0xD34C_FC00, *mov(8, EXIT), svc()]  # lsr x0, x0, #12
    start = -(-(BASE + 0x100 + 4 * len(words)) // 4096)
    assert program(tmp_path, words).run().status == (start + 1) & 0xFF


def test_time_is_the_engines(tmp_path):
    words = [0x9100_03F3, 0xD100_43FF, *mov(0, 1), 0x9100_03E1, *mov(8, CLOCK_GETTIME), svc(),
             0xF940_07E0, *mov(8, EXIT), svc()]  # fmt: skip
    assert 0 < program(tmp_path, words).run().status < 100


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (call(9999), "system call 9999 at 0x40010"),
        ([udf()], "exception at 0x400100"),
        ([*mov(1, 0x7000_0000), ldr(0, 1)], "0x70000000"),
        ([0x1400_0000], "has not ended"),
    ],
    ids=["call", "undefined", "wild", "endless"],
)
def test_what_it_cannot_do_it_says(tmp_path, words, says):
    with pytest.raises(ProgramError, match=says):
        program(tmp_path, words).run(100_000)


def test_an_interpreter_must_be_given(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(elf(call(EXIT, 3), kind=3, interpreter="/lib/ld.so"))
    with pytest.raises(BootError, match=r"needs /lib/ld.so; give a copy with --interpreter"):
        UserProgram(path)
    loader = tmp_path / "ld.so"
    loader.write_bytes(elf(call(EXIT, 5), kind=3))
    assert UserProgram(path, interpreter=loader).run().status == 5


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"#!/bin/sh", "not a 64-bit little-endian ELF"),
        (elf(call(EXIT, 0), kind=1), "not a program for AArch64"),
        (None, "No such file"),
    ],
)
def test_what_is_no_program(tmp_path, data, says):
    path = tmp_path / "program"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BootError, match=says):
        UserProgram(path)


def test_the_command_line(tmp_path, capsys):
    path = tmp_path / "program"
    path.write_bytes(elf(call(EXIT, 4)))
    assert user_program.main([str(path)]) == 0
    assert "status 4, 3 instructions" in capsys.readouterr().out
    assert user_program.main([str(tmp_path / "none")]) == 2
    assert "user_program: " in capsys.readouterr().err

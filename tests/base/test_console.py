"""The terminal: what is kept, what is passed on, and input that may never come."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base import console as module
from emu.base.console import Console, Descriptor, Dialogue, Typed


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def test_output_is_kept_and_passed_on():
    heard: list[bytes] = []
    console = Console(sink=heard.append)
    console.write("größe\n".encode())
    console.write(b"\xff")
    assert str(console) == "größe\n\N{REPLACEMENT CHARACTER}"
    assert heard == ["größe\n".encode(), b"\xff"]


def test_only_the_last_output_is_kept(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 4)
    console = Console()
    for n in range(10):
        console.write(b"%d" % n)
    assert str(console).endswith("789")
    assert 4 <= len(str(console)) <= 8


def test_no_input():
    console = Console()
    assert not console.has_input()
    assert console.read() is None
    assert console.wait() is None


def test_typed_input_comes_one_byte_at_a_time():
    console = Console(Typed(b"abc"))
    assert console.has_input()
    assert console.has_input()
    assert (console.read(), console.wait(), console.read()) == (ord("a"), ord("b"), ord("c"))
    assert not console.has_input()


def test_the_byte_looked_at_is_not_lost_to_wait():
    console = Console(Typed(b"ab"))
    assert console.has_input()
    assert (console.wait(), console.wait(), console.wait()) == (ord("a"), ord("b"), None)


def test_descriptor_polls_without_waiting(pipe):
    reader, writer = pipe
    source = Descriptor(reader)
    assert source.poll() is None
    os.write(writer, b"xy")
    assert (source.poll(), source.poll(), source.poll()) == (ord("x"), ord("y"), None)


def test_descriptor_waits_until_the_end(pipe):
    reader, writer = pipe
    source = Descriptor(reader)
    os.write(writer, b"z")
    os.close(writer)
    assert [source.wait(), source.wait(), source.poll()] == [ord("z"), None, None]


def test_cancelled_descriptor_is_the_end(pipe):
    reader, writer = pipe
    os.write(writer, b"z")
    source = Descriptor(reader)
    source.cancel()
    assert source.wait() is None
    assert source.poll() is None


def test_descriptor_that_cannot_be_read_is_the_end(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    source = Descriptor(folder)
    assert (source.poll(), source.wait()) == (None, None)
    os.close(folder)


def test_closed_descriptor_is_the_end(pipe):
    reader, _ = pipe
    os.close(reader)
    assert Descriptor(reader).poll() is None
    assert Descriptor(reader).wait() is None


def test_what_can_still_come(pipe):
    reader, writer = pipe
    console = Console(Descriptor(reader))
    assert (console.live, console.silent) == (True, False)
    os.close(writer)
    assert console.read() is None
    assert console.silent
    assert (Console().live, Console().silent, Console(Typed(b"x")).silent) == (False, True, False)


def test_the_host_can_sleep_until_input_is_there(pipe):
    reader, writer = pipe
    source = Descriptor(reader)
    assert not source.pause(0)
    os.write(writer, b"x")
    assert source.pause(60)
    assert source.pause(60)
    assert source.poll() == ord("x")
    os.close(writer)
    assert not source.pause(60)
    assert not source.pause(60)


def typed_after(steps, *printed: bytes) -> list[bytes]:
    """What had been typed after each piece of output."""
    console = Console(Dialogue(steps))
    found = []
    for data in (b"", *printed):
        console.write(data)
        taken = b""
        while (byte := console.read()) is not None:
            taken += bytes((byte,))
        found.append(taken)
    return found


@pytest.mark.parametrize(("steps", "printed", "typed"), [
    ([], [b"x"], [b"", b""]),
    ([(b"", b"at once")], [b"x"], [b"at once", b""]),
    ([(b"# ", b"ls\n")], [b"boot", b"#", b" "], [b"", b"", b"", b"ls\n"]),
    ([(b"a", b"1"), (b"a", b"2")], [b"a", b"ba"], [b"", b"1", b"2"]),
    ([(b"a", b"1"), (b"b", b"2")], [b"ba", b"b"], [b"", b"1", b"2"]),
    ([(b"a", b"1"), (b"", b"2"), (b"b", b"3")], [b"xaxb"], [b"", b"123"]),
    ([(b"aab", b"1")], [b"aa", b"ab"], [b"", b"", b"1"]),
])
def test_a_dialogue_answers_what_is_printed(steps, printed, typed):
    assert typed_after(steps, *printed) == typed


@given(st.lists(st.tuples(st.text("ab", max_size=3), st.text("xy", max_size=2)), max_size=5),
       st.lists(st.text("ab", max_size=6), max_size=6))
def test_how_output_is_cut_does_not_matter(steps, printed):
    rows = [(when.encode(), what.encode()) for when, what in steps]
    pieces = [piece.encode() for piece in printed]
    assert b"".join(typed_after(rows, *pieces)) == b"".join(typed_after(rows, b"".join(pieces)))


def test_a_dialogue_is_over_when_all_is_typed_and_read():
    console = Console(Dialogue([(b"x", b"y")]))
    assert not console.silent
    console.write(b"x")
    assert not console.silent
    assert console.state().unread == b"y"
    assert console.read() == ord("y")
    assert console.silent

"""The terminal: what is kept, what is passed on, and input that may never come."""

from __future__ import annotations

import os

import pytest

from emu import console as module
from emu.console import Console, Descriptor, Typed


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

"""The file a machine is saved to: whole or not at all, checked before it is believed."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base import savefile
from emu.base.errors import SnapshotError
from emu.base.savefile import PREFIX, SCHEMA, reading, write

HEADER = {"name": "hello", "numbers": [1, 2, 3]}
DATA = [b"first ", b"second"]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "machine.snap"
    write(path, iter(DATA), lambda: HEADER)
    return path


def load(path):
    with reading(path) as file:
        return file.header, file.read(file.size)


def refused(path):
    with pytest.raises(SnapshotError) as refusal:
        load(path)
    text = str(refusal.value)
    assert "\n" not in text
    return text


def test_what_is_written_is_read(saved):
    assert load(saved) == (HEADER, b"".join(DATA))


def test_the_same_content_gives_the_same_file(saved, tmp_path):
    write(tmp_path / "again", iter(DATA), lambda: HEADER)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_the_header_is_asked_for_when_the_data_is_written(tmp_path):
    seen = []
    write(tmp_path / "x", (seen.append(d) or d for d in DATA), lambda: {"seen": len(seen)})
    assert load(tmp_path / "x")[0] == {"seen": 2}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_altered_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("altered") / "machine"
    write(path, iter(DATA), lambda: HEADER)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    refused(path)


def test_any_cut_is_noticed(saved):
    content = saved.read_bytes()
    for length in range(0, len(content), 7):
        saved.write_bytes(content[:length])
        refused(saved)
    saved.write_bytes(content + b"\0")
    assert "should have" in refused(saved)


def test_another_schema_is_named(saved):
    content = bytearray(saved.read_bytes())
    fields = list(PREFIX.unpack(content[: PREFIX.size]))
    fields[1] = SCHEMA + 1
    saved.write_bytes(PREFIX.pack(*fields) + content[PREFIX.size :])
    assert f"it has schema {SCHEMA + 1}" in refused(saved)


def test_what_is_no_file(tmp_path):
    assert "No such file" in refused(tmp_path / "nothing")
    assert "Is a directory" in refused(tmp_path)
    (tmp_path / "text").write_text("hello")
    assert "not a snapshot" in refused(tmp_path / "text")
    with pytest.raises(SnapshotError, match="not a regular file"):
        write(tmp_path, iter(DATA), lambda: HEADER)


def test_a_failure_while_writing_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(savefile.os, "fsync", full)
    with pytest.raises(SnapshotError, match="No space left on device; nothing was changed"):
        write(saved, iter([b"new"]), lambda: {})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_an_error_of_the_one_who_saves_leaves_the_old_file(saved):
    before = saved.read_bytes()

    def broken():
        yield b"half"
        raise KeyError("oops")

    with pytest.raises(KeyError):
        write(saved, broken(), lambda: {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]

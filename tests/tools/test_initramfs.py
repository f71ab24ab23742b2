"""The root file system: the archive read back, by our own eyes and by cpio where there is one."""

from __future__ import annotations

import shutil
import stat
import subprocess

import fetch_linux
import initramfs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from initramfs import Entry, cpio, directory, link, program, terminal

FIELDS = (
    "ino", "mode", "uid", "gid", "nlink", "mtime", "filesize", "devmajor", "devminor",
    "rdevmajor", "rdevminor", "namesize", "check",
)  # fmt: skip


def read_back(archive: bytes) -> list[tuple[str, dict[str, int], bytes]]:
    """(name, fields, data) of each entry, by buffer-format.rst."""
    found, at = [], 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        fields = dict(zip(FIELDS, numbers, strict=True))
        end = at + 110 + fields["namesize"]
        name = archive[at + 110 : end - 1].decode()
        assert archive[end - 1] == 0
        start = end + -end % 4
        found.append((name, fields, archive[start : start + fields["filesize"]]))
        at = start + fields["filesize"]
        at += -at % 4
    return found


NAMES = st.text("abc/.", min_size=1, max_size=20)


@given(st.dictionaries(NAMES, st.binary(max_size=9), max_size=5))
def test_everything_comes_back(files):
    found = read_back(cpio(program(name, data) for name, data in files.items()))
    assert [(name, data) for name, _, data in found[:-1]] == sorted(files.items())
    assert found[-1][0] == "TRAILER!!!"
    assert [fields["ino"] for _, fields, _ in found] == list(range(1, len(found) + 1))
    assert all(fields["mtime"] == 0 for _, fields, _ in found)


@pytest.mark.parametrize(("entry", "mode", "data", "device"), [
    (directory("d"), stat.S_IFDIR | 0o755, b"", (0, 0)),
    (directory("d", 0o1777), stat.S_IFDIR | 0o1777, b"", (0, 0)),
    (program("p", b"x"), stat.S_IFREG | 0o755, b"x", (0, 0)),
    (link("l", "p"), stat.S_IFLNK | 0o777, b"p", (0, 0)),
    (terminal("t", 204, 64), stat.S_IFCHR | 0o600, b"", (204, 64)),
])
def test_kinds(entry, mode, data, device):
    (_, fields, read), _ = read_back(cpio([entry]))
    assert (fields["mode"], read) == (mode, data)
    assert (fields["rdevmajor"], fields["rdevminor"]) == device


def test_the_order_given_does_not_matter():
    rows = [directory("b"), Entry("b/c", stat.S_IFREG), directory("a")]
    assert cpio(rows) == cpio(reversed(rows))


def test_the_root_file_system():
    archive = initramfs.initramfs(b"busybox")
    assert archive == initramfs.initramfs(b"busybox")
    found = {name: (fields["mode"], data) for name, fields, data in read_back(archive)}
    assert found["bin/busybox"] == (stat.S_IFREG | 0o755, b"busybox")
    assert found["bin/sh"] == (stat.S_IFLNK | 0o777, b"busybox")
    assert {"proc", "sys", "dev", "tmp", "dev/console", "dev/null", "dev/ttyAMA0"} <= set(found)
    assert found["init"][1].startswith(b"#!/bin/sh\n")
    names = list(found)
    assert all(names.index(name.rpartition("/")[0]) < names.index(name)
               for name in names if "/" in name)


def test_init_is_shell():
    shell = shutil.which("dash") or shutil.which("sh")
    if shell is None:
        pytest.skip("needs a POSIX shell")
    subprocess.run([shell, "-n"], input=initramfs.INIT.encode(), check=True)


def test_busybox_has_every_applet_that_is_linked():
    box = fetch_linux.cached_busybox(fetch_linux.default_cache())
    if box is None:
        pytest.skip("no busybox in the cache: run `python tools/fetch_linux.py --initrd`")
    data = box.read_bytes()
    assert [name for name in initramfs.APPLETS if b"\0%s\0" % name.encode() not in data] == []


def test_cpio_agrees(tmp_path):
    if shutil.which("cpio") is None:
        pytest.skip("no cpio program")
    rows = [directory("d"), program("d/p", b"12345"), link("d/l", "p")]
    command = ["cpio", "-i", "--quiet", "--no-preserve-owner"]
    subprocess.run(command, input=cpio(rows), cwd=tmp_path, check=True)
    assert (tmp_path / "d/l").read_bytes() == b"12345"

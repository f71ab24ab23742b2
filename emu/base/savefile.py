"""The file a machine is saved in: whole or not at all, and refused when a byte of it is wrong.

    prefix   64 bytes: magic, schema, sizes of header and data, SHA-256 of all the rest
    data     as the header describes it (pages.py)
    header   JSON, compressed; last, so that data need not be kept until it can be described

All numbers are little-endian, and there are no time stamps: the same state gives the same bytes.
The header is written in one way only and refused in any other. The digest finds damage; it keeps
out nobody who means harm, so whoever reads header and data trusts neither.

A file is written beside its final place and moved there when it is on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NoReturn

from emu.base.errors import SnapshotError

MAGIC = b"\x89HVCEMU\n"
SCHEMA = 5
PREFIX = struct.Struct("<8sIIQQ32s")
HEADER_MAX = 32 << 20
HEADER_LEVEL = 6
_PIECE = 1 << 20

Path = str | os.PathLike[str]


def encode(header: Any) -> bytes:
    """A header's one and only form."""
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


# -- writing ------------------------------------------------------------------------------------


def write(path: Path, data: Iterator[bytes], header: Callable[[], Any]) -> None:
    """Save `data`, then what `header` says when all data is written."""
    target = os.path.realpath(path)
    try:
        if os.path.lexists(target) and not stat.S_ISREG(os.lstat(target).st_mode):
            raise SnapshotError(f"{path}: cannot be saved: it is not a regular file")
        with replacing(target) as file:
            _fill(file, data, header)
    except OSError as error:
        raise SnapshotError(
            f"{path}: cannot be saved: {error.strerror or error}; nothing was changed"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or leave what was there; OSError names the file.

    What is no regular file, such as /dev/stdout, is written to as it is.
    """
    target = os.path.realpath(path)
    try:
        if os.path.lexists(target) and not stat.S_ISREG(os.lstat(target).st_mode):
            with open(target, "wb") as device:
                device.write(text.encode())
            return
        with replacing(target) as file:
            file.write(text.encode())
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), _mode(target))
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _mode(target: str) -> int:
    """Who may read a text: as before, or as the umask has it for new files."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(os.stat(target).st_mode)
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _fill(file: IO[bytes], data: Iterator[bytes], header: Callable[[], Any]) -> None:
    digest = hashlib.sha256()
    size = 0
    file.write(bytes(PREFIX.size))
    for piece in data:
        file.write(piece)
        digest.update(piece)
        size += len(piece)
    plain = encode(header())
    if len(plain) > HEADER_MAX:
        raise SnapshotError("cannot be saved: its memory is scattered over too many places")
    stored = zlib.compress(plain, HEADER_LEVEL)
    file.write(stored)
    digest.update(stored)
    numbers = (MAGIC, SCHEMA, len(plain), len(stored), size)
    digest.update(PREFIX.pack(*numbers, b""))
    file.seek(0)
    file.write(PREFIX.pack(*numbers, digest.digest()))


@contextmanager
def replacing(target: str) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `target` at the end, or vanishes."""
    import tempfile  # only who saves needs it

    folder, name = os.path.split(target)
    number, temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Let the new name survive a power cut, where the host can do that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


# -- reading ------------------------------------------------------------------------------------


class SaveFile:
    """An open file whose form is right; `header` is its JSON, `read` gives its data in order."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self.refuse("it is not a regular file")
        prefix = file.read(PREFIX.size)
        if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
            self.refuse("it is not a snapshot, or cut off")
        _, schema, plain, stored, self.size, expected = PREFIX.unpack(prefix)
        if schema != SCHEMA:
            self.refuse(f"it has schema {schema}, this hvcemu reads schema {SCHEMA}")
        if plain > HEADER_MAX or stored > HEADER_MAX:
            self.refuse("its header is too large")
        if PREFIX.size + self.size + stored != status.st_size:
            self.refuse(f"it should have {PREFIX.size + self.size + stored:,} bytes "
                        f"and has {status.st_size:,}")
        if self._digest(prefix) != expected:
            self.refuse("it was altered: its checksum is wrong")
        self.header = self._header(plain, stored)
        file.seek(PREFIX.size)
        self._left = self.size

    def refuse(self, why: str) -> NoReturn:
        """Say in one line why this file cannot be loaded."""
        raise SnapshotError(f"{self.path}: cannot be loaded: {why}")

    def read(self, size: int) -> bytes:
        """The next bytes of the data."""
        data = self._file.read(size) if size <= self._left else b""
        if len(data) != size:
            self.refuse("its data is cut off")
        self._left -= size
        return data

    def _digest(self, prefix: bytes) -> bytes:
        digest = hashlib.sha256()
        while piece := self._file.read(_PIECE):
            digest.update(piece)
        digest.update(PREFIX.pack(*PREFIX.unpack(prefix)[:-1], b""))
        return digest.digest()

    def _header(self, plain: int, stored: int) -> Any:
        self._file.seek(PREFIX.size + self.size)
        decoder = zlib.decompressobj()
        try:
            text = decoder.decompress(self._file.read(stored), plain + 1)
            if len(text) != plain or not decoder.eof or decoder.unused_data:
                self.refuse("its header has the wrong size")
            header = json.loads(text, parse_float=_no_number, parse_constant=_no_number)
            canonical = encode(header) == text
        except (zlib.error, ValueError, RecursionError):
            self.refuse("its header is not such JSON as is written here")
        if not canonical:
            self.refuse("its header is not written as this program writes it")
        return header


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


@contextmanager
def reading(path: Path) -> Iterator[SaveFile]:
    """Open a file and check its form; SnapshotError when it is not right."""
    try:
        # Not blocked by a pipe without a writer; the regular file it should be does not care.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with os.fdopen(number, "rb") as file:
            yield SaveFile(path, file)
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        why = getattr(error, "strerror", None) or str(error)
        raise SnapshotError(f"{path}: cannot be loaded: {why}") from None


_BINARY = getattr(os, "O_BINARY", 0)

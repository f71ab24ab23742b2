"""A root file system for a guest's Linux: one `cpio` archive around Debian's static busybox.

`newc` is the format the kernel unpacks into its rootfs (Linux
Documentation/driver-api/early-userspace/buffer-format.rst): a header of ASCII hexadecimal, the
name, the bytes, each padded to four, and a last entry called TRAILER!!!. The same busybox gives
the same archive, bit for bit: times are 0, inode numbers count up, names are sorted.

/init mounts what a shell needs, prints READY and starts a shell on the first PL011. The word
`hvcemu.run=COMMAND` of the kernel command line, with `+` for each space, runs that command
instead and then switches the machine off. Not here: modules (Debian's kernels have what a `virt`
machine needs built in), a network, a user other than root.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

READY = "init: hvcemu shell, pid 1"
TRAILER = "TRAILER!!!"
APPLETS = (
    "[", "ash", "awk", "basename", "cat", "chmod", "clear", "cp", "cut", "date", "dd", "devmem",
    "df", "dirname", "dmesg", "du", "echo", "env", "expr", "false", "find", "free", "getty",
    "grep", "gunzip", "gzip", "halt", "head", "hexdump", "hostname", "hwclock", "id", "kill",
    "ln", "ls", "md5sum", "mkdir", "mknod", "mount", "mv", "nproc", "od", "poweroff", "printf",
    "ps", "pwd", "readlink", "reboot", "reset", "rm", "rmdir", "sed", "seq", "setsid", "sh",
    "sha256sum", "sleep", "sort", "stty", "sync", "tail", "taskset", "tee", "test", "time",
    "top", "touch", "tr", "true", "tty", "umount", "uname", "uniq", "uptime", "usleep", "vi",
    "wc", "which", "xargs", "yes",
)  # fmt: skip
"""What is linked by name; the rest of busybox answers to `busybox NAME`."""

INIT = f"""\
#!/bin/sh
export PATH=/bin HOME=/ TERM=vt100 PS1='~ # '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
tty=/dev/console
[ -c /dev/ttyAMA0 ] && tty=/dev/ttyAMA0
exec <$tty >$tty 2>&1
set -f
for word in $(cat /proc/cmdline); do
  case $word in hvcemu.run=*)
    IFS=+
    set -- ${{word#*=}}
    unset IFS
    set +f
    setsid sh -c "$*"
    echo "init: command ended with status $?"
    poweroff -f
  esac
done
set +f
echo "{READY}"
# A session leader's first terminal becomes its controlling one (tty_ioctl(4)): Ctrl-C works.
setsid sh -c "exec sh <$tty >$tty 2>&1"
poweroff -f
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive: its whole mode (type and permissions), bytes, device number."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str, mode: int = 0o755) -> Entry:
    return Entry(name, stat.S_IFDIR | mode)


def program(name: str, data: bytes) -> Entry:
    return Entry(name, stat.S_IFREG | 0o755, data)


def link(name: str, target: str) -> Entry:
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def terminal(name: str, major: int, minor: int) -> Entry:
    """A character device (Linux Documentation/admin-guide/devices.txt has the numbers)."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def header(entry: Entry, inode: int) -> bytes:
    """The fields in the order of buffer-format.rst; user, group, time, device and sum are 0."""
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    name = len(entry.name) + 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, name, 0)
    return b"070701" + b"".join(b"%08X" % field for field in fields)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def cpio(entries: Iterable[Entry]) -> bytes:
    """The archive; a folder sorts before what is in it."""
    rows = [*sorted(entries, key=lambda entry: entry.name), Entry(TRAILER, 0)]
    return b"".join(
        padded(header(entry, inode) + entry.name.encode() + b"\0") + padded(entry.data)
        for inode, entry in enumerate(rows, start=1)
    )


def initramfs(busybox: bytes) -> bytes:
    """The whole root file system around a static busybox."""
    return cpio([
        *(directory(name) for name in ("bin", "dev", "proc", "root", "sys")),
        directory("tmp", 0o1777),
        program("bin/busybox", busybox),
        *(link(f"bin/{name}", "busybox") for name in APPLETS),
        terminal("dev/console", 5, 1),
        terminal("dev/null", 1, 3),
        terminal("dev/ttyAMA0", 204, 64),
        program("init", INIT.encode()),
    ])

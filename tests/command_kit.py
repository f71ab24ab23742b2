"""The command in a process of its own, in a pipe or on a terminal."""

import os
import pty
import signal
import subprocess
import sys
import time

from places import ROOT


def hvcemu(*arguments, **options):
    """Run the command; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "emu", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
    )  # fmt: skip


def on_a_terminal(*arguments, interrupt_after=None):
    """Run on a pseudo-terminal; returns (status, everything shown)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(ROOT)
        os.environ["TERM"] = "xterm"
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [sys.executable, "-m", "emu", *arguments])
    if interrupt_after:
        time.sleep(interrupt_after)
        os.kill(pid, signal.SIGINT)
    shown = bytearray()
    try:
        while data := os.read(fd, 4096):
            shown += data
    except OSError:
        pass  # Linux: the terminal has closed
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def check_mistake(answer, says):
    """What the fixture `hvcemu` has answered is status 2 and one line that says this."""
    status, _, errors = answer
    assert status == 2
    assert says in errors
    assert errors.startswith("hvcemu: ")
    assert errors.count("\n") == 1

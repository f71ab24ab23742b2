"""Record how real KVM answers: every ioctl and hypercall of the plan, on an unmodified kernel.

    python tools/record_kvm.py --kernel 6.1                  writes tests/golden/kvm-6.1-….jsonl.xz
    python tools/record_kvm.py --kernel 6.1 --check          records again and compares
    python tools/record_kvm.py --image my/Image --output my.jsonl.xz

QEMU emulates a machine with EL2, the kernel boots on it as a host, and a small VMM carries out
a plan of some 47,000 operations and notes what each did. Nothing in the kernel is changed and
nothing is interpreted: the recording is the oracle that the tests hold the emulator against.
docs/recording.md tells the rest. Exit status: 0 done or agrees, 1 differs, 2 could not.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fetch_linux
from kvm_recorder import machine, recording
from kvm_recorder.machine import MachineError
from kvm_recorder.recording import Recording, RecordingError
from kvm_recorder.sections import SECTIONS, whole_plan

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
COMPARED = ("schema", "core", "kvm", "operations", "calls")
"""What must be the same in the headers of two recordings; dates and releases may differ."""


def short_version(release: str) -> str:
    """6.1 of 6.1.0-56-cloud-arm64."""
    return ".".join(release.split("-")[0].split(".")[:2])


def record(image: Path, core: str) -> tuple[dict[str, Any], list[tuple[str, Any]], float]:
    """Boot the image and return header, operations and the seconds QEMU took."""
    qemu = machine.qemu_version()
    plan = whole_plan().lines
    with tempfile.TemporaryDirectory(prefix="record_kvm-") as scratch:
        results = machine.carry_out(image, core, plan, Path(scratch))
    pairs = [
        (line, recording.parse_result(line.split(), text))
        for line, text in zip(plan, results.lines, strict=True)
    ]
    header = {
        "schema": recording.SCHEMA,
        "release": results.release,
        "version": results.version,
        "kvm": results.mode,
        "core": core,
        "qemu": qemu,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "operations": len(pairs),
        "calls": sum(line.startswith("call ") for line in plan),
    }
    return header, pairs, results.seconds


def first_difference(old: Recording, header: dict[str, Any], new: Recording) -> str | None:
    """The first operation on which two recordings part, in words; None when they agree."""
    for key in COMPARED:
        if old.header.get(key) != header.get(key):
            return f"{key} was {old.header.get(key)}, is {header.get(key)}"
    for was, now in zip(old, new, strict=True):
        if was.words != now.words:
            return f"the plan has changed at operation {was.index}: record again"
        if was.result != now.result:
            return f"{was}: was {was.result}, is {now.result}"
    return None


def image_of(options: argparse.Namespace) -> Path:
    """The user's image, or the kernel asked for, fetched when it is not yet here."""
    if options.image:
        image = Path(options.image)
        if not image.is_file():
            raise MachineError(f"{image}: no such file")
        return image
    cache = fetch_linux.default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    if options.check and (release := recorded_release(options)):
        try:
            return fetch_linux.fetch_kernel(cache, release)
        except fetch_linux.FetchError as error:
            print(f"record_kvm: {error}: trying another {options.kernel}", file=sys.stderr)
    return fetch_linux.fetch_kernel(cache, options.kernel)


def recorded_release(options: argparse.Namespace) -> str | None:
    """The very kernel that the file to check was recorded from; a series moves on."""
    target = target_of(options, options.kernel)
    return str(recording.read(target).header["release"]) if target.is_file() else None


def target_of(options: argparse.Namespace, release: str) -> Path:
    if options.output:
        return Path(options.output)
    return GOLDEN / f"kvm-{short_version(release)}-{options.core}.jsonl.xz"


def check(target: Path, header: dict[str, Any], pairs: list[tuple[str, Any]]) -> int:
    """Compare with the committed file."""
    old = recording.read(target)
    difference = first_difference(old, header, recording.of_pairs(header, pairs))
    now, then = header["release"], old.header["release"]
    which = now if now == then else f"{now}, recorded on {then}"
    if difference:
        print(f"{target.name} differs ({which}): {difference}")
        return 1
    print(f"{target.name} agrees: {len(pairs)} operations of {which}")
    return 0


def work(options: argparse.Namespace) -> int:
    image = image_of(options)
    header, pairs, seconds = record(image, options.core)
    target = target_of(options, header["release"])
    if options.check:
        return check(target, header, pairs)
    target.parent.mkdir(parents=True, exist_ok=True)
    recording.write(target, header, pairs)
    print(f"{target}: {header['release']} on {options.core} ({header['kvm']}), "
          f"{len(pairs)} operations, {header['calls']} calls, "
          f"{target.stat().st_size // 1024} KiB, {seconds:.0f} s")
    return 0


def show_list() -> int:
    """The recordings at hand, the plan's sections, and the kernels apt offers."""
    for path in sorted(GOLDEN.glob("*.jsonl.xz")):
        header = recording.read(path).header
        print(f"recorded {path.name}: {header['release']}, {header['operations']} operations, "
              f"{header['date']}")
    print("sections", *(section.__name__.replace("_", "-") for section in SECTIONS))
    fetch_linux.show_list(fetch_linux.default_cache())
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="record_kvm", description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", metavar="VERSION", help="6.1, 6.12 … fetched through apt")
    parser.add_argument("--image", metavar="FILE", help="an arm64 Image of your own instead")
    parser.add_argument("--core", choices=list(machine.CORES), default="cortex-a72")
    parser.add_argument("--output", metavar="FILE", help="default: tests/golden/kvm-VERSION-CORE")
    parser.add_argument("--check", action="store_true", help="compare with the recorded file")
    parser.add_argument("--list", action="store_true", help="recordings, sections and kernels")
    options = parser.parse_args(argv)
    if not options.list and bool(options.kernel) == bool(options.image):
        parser.error("one of --kernel and --image is needed")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        return show_list() if options.list else work(options)
    except (MachineError, RecordingError, fetch_linux.FetchError) as error:
        print(f"record_kvm: {error}", file=sys.stderr)
    except OSError as error:
        print(f"record_kvm: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

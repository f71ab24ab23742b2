"""Build the bare-metal guests of guests/ into guests/bin, byte for byte the same everywhere.

Each `guests/NAME.c` or `guests/NAME.S` becomes one `guests/bin/NAME.elf`, linked with the runtime
of guests/lib by guests/lib/guest.ld; those of `guests/bugs/` go to `guests/bin/bugs/`. Each
`guests/objects/NAME.c` or `.S` is compiled to `guests/bin/NAME.o` and not linked: its functions are
for `Vm.call`. These files are committed, so nobody needs a compiler to run them; `--check` proves
that they are what the sources say.

The compiler is Zig's clang and its lld, from the PyPI package `ziglang`: a cross toolchain by
`pip install`, the same on every host. Four things about it were learnt the hard way:

* `zig cc` ignores -mgeneral-regs-only and -mstrict-align: only -mcpu counts. Of the CPU names,
  `cortex_a72` keeps its SIMD even when told `-neon`, hence `generic` (Armv8.0) with its features
  spelt out; `+el3` is what the assembler demands for SMC. guests/lib/guest.h refuses anything else.
* `zig cc` compiles with UBSan unless told otherwise.
* `zig cc` strips the symbol table when it links, so objects are linked by `zig ld.lld` instead.
  The symbols stay, since traces name a PC by them; debug information, which holds paths, does not.
* Everything runs inside guests/ with relative paths, so no directory gets into a file.

What it does not know: incremental builds. Everything takes a few seconds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

GUESTS = Path(__file__).resolve().parent.parent / "guests"
ZIGLANG = "0.17.0"  # exactly: another clang gives other bytes (also in pyproject.toml, extra tools)
TARGETS = {"": "{}.elf", "bugs": "bugs/{}.elf", "objects": "{}.o"}
"""What becomes of the sources of each folder of guests/, below guests/bin."""
JOBS = 2
SOURCE_SUFFIXES = (".c", ".S")

COMPILE = (
    *("-target", "aarch64-freestanding-none", "-mcpu=generic-neon-fp_armv8+strict_align+el3"),
    *("-std=gnu23", "-Os", "-ffreestanding", "-fno-builtin", "-fno-pic", "-I."),
    *("-fno-sanitize=all", "-fno-stack-protector"),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
    *("-ffunction-sections", "-fdata-sections"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"),
    "-Wno-unused-command-line-argument",  # the same options compile the .S files
)
LINK = (
    *("-T", "lib/guest.ld", "--gc-sections", "--strip-debug", "--build-id=none"),
    *("-z", "max-page-size=0x800"),  # pages matter in memory, not in the file
)


class BuildError(Exception):
    """Something the developer must mend; its text is one complete message."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One source file and the ELF made of it: a program, or an object as it was compiled."""

    source: Path
    elf: Path
    name: str

    @property
    def is_object(self) -> bool:
        return self.elf.suffix == ".o"


def zig(*arguments: str) -> None:
    """Run one tool of the toolchain inside guests/."""
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, cwd=GUESTS, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"zig {arguments[0]} failed:\n{done.stderr.strip()}")


def require_toolchain() -> None:
    """Refuse a missing or different ziglang: its bytes would differ from the committed ones."""
    advice = f"pip install ziglang=={ZIGLANG}"
    try:
        version = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        raise BuildError(f"the compiler is missing: {advice}") from None
    if version != ZIGLANG:
        raise BuildError(f"ziglang is {version}, the guests are built with {ZIGLANG}: {advice}")


def sources(directory: Path) -> list[Path]:
    """The C and assembler files of a directory, in an order that is the same everywhere."""
    return sorted(path for path in directory.iterdir() if path.suffix in SOURCE_SUFFIXES)


def targets() -> dict[str, Path]:
    """Every source of a guest by the file that is made of it, relative to guests/bin."""
    return {
        target.format(source.stem): source
        for folder, target in TARGETS.items()
        for source in sources(GUESTS / folder)
    }


def select(names: list[str], output: Path) -> list[Guest]:
    """The guests of these names, or all of them: `hello`, `bugs/NAME`."""
    known = {Path(target).with_suffix("").as_posix(): target for target in targets()}
    if unknown := [name for name in names if name not in known]:
        raise BuildError(f"no such guest: {', '.join(unknown)} (there are: {', '.join(known)})")
    made = targets()
    chosen = [known[name] for name in names or known]
    return [Guest(made[target], output / target, target) for target in chosen]


def compile_source(objects: Path, source: Path) -> Path:
    """One object file. Its name says where the source lies, so that no two can clash."""
    relative = source.relative_to(GUESTS).as_posix()
    target = objects / (relative.replace("/", "-") + ".o")
    zig("cc", *COMPILE, "-c", relative, "-o", str(target))
    return target


def link(objects: list[Path], elf: Path) -> None:
    """One image of these objects, in this order."""
    zig("ld.lld", *LINK, *map(str, objects), "-o", str(elf))


def build(guests: list[Guest]) -> None:
    """Compile the runtime once and each guest, then link each program with the runtime."""
    for folder in {guest.elf.parent for guest in guests}:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(JOBS) as pool:
        objects = Path(scratch)
        paths = [*sources(GUESTS / "lib"), *(guest.source for guest in guests)]
        made = dict(zip(paths, pool.map(partial(compile_source, objects), paths), strict=True))
        runtime = [made[path] for path in sources(GUESTS / "lib")]
        programs = [guest for guest in guests if not guest.is_object]
        list(pool.map(lambda guest: link([*runtime, made[guest.source]], guest.elf), programs))
        for guest in guests:
            if guest.is_object:
                guest.elf.write_bytes(made[guest.source].read_bytes())


def print_table(guests: list[Guest]) -> None:
    """What was built, and how large it is."""
    width = max(len(guest.name) for guest in guests)
    for guest in guests:
        print(f"{guest.name:<{width}}  {guest.elf.stat().st_size:>7,} bytes")


def difference(built: Path, committed: Path) -> str | None:
    """Why a committed file is not the one just built, in a line; None if it is."""
    if not committed.exists():
        return f"{committed}: missing, build it"
    if built.read_bytes() != committed.read_bytes():
        return f"{committed}: differs from what its source gives, rebuild it"
    return None


def orphans(output: Path) -> list[str]:
    """ELF files without a source."""
    known = targets()
    files = (*sorted(output.rglob("*.elf")), *sorted(output.rglob("*.o")))
    return [f"{path}: has no source" for path in files
            if path.relative_to(output).as_posix() not in known]  # fmt: skip


def check(names: list[str], output: Path) -> None:
    """Build elsewhere and compare with the committed files, byte for byte."""
    with tempfile.TemporaryDirectory() as scratch:
        guests = select(names, Path(scratch))
        build(guests)
        lines = [difference(guest.elf, output / guest.name) for guest in guests]
    complaints = [line for line in lines if line] + ([] if names else orphans(output))
    if complaints:
        raise BuildError("\n".join(complaints))
    print(f"{len(guests)} guests are byte-identical to their sources")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build_guests.py",
        description="Build guests/ and guests/bugs/ into guests/bin, and guests/objects/ into *.o.",
        epilog="examples:\n"
        "  build_guests.py                    build all guests\n"
        "  build_guests.py hello psci_cpu_on  build these two\n"
        "  build_guests.py --check            is guests/bin what the sources say?\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help="a guest: hello, bugs/NAME (default: all)")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 for success, 1 for a difference or a failed build."""
    options = parse(arguments)
    output = GUESTS / "bin"
    try:
        require_toolchain()
        if options.check:
            check(options.name, output)
        else:
            guests = select(options.name, output)
            build(guests)
            print_table(guests)
    except BuildError as error:
        print(f"build_guests: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

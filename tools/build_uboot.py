"""Build U-Boot for QEMU's virt machine with the commands `hvc` and `smc`; prints where it is.

    IMAGE=$(python tools/build_uboot.py) && hvcemu run "$IMAGE" --load 0 --mem 128M

At its prompt `hvc 84000000` makes that call and prints x0 to x3 (u-boot cmd/smccc.c). Debian's
own build, package u-boot-qemu, has neither command. The source is Debian's, through apt with the
sources and keys this system already trusts (fetch_linux.py says how that leaves the system as it
was); the archive's index vouches for it, and Debian's patches, which concern other boards, are
not applied. What is configured is upstream's qemu_arm64_defconfig and `CONFIG`.

It needs a compiler for the host and one for arm64, make, bison, flex and OpenSSL's headers:

    apt-get install gcc gcc-aarch64-linux-gnu make bison flex libssl-dev

A second run answers from the cache; `--force` builds anew. A failure is one line on stderr and
exit status 2.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fetch_linux import KEYRING, Apt, FetchError, note, version_key

SOURCE = "u-boot"
DEFCONFIG = "qemu_arm64_defconfig"
CONFIG = """\
CONFIG_ARM_SMCCC=y
CONFIG_CMD_HVC=y
CONFIG_CMD_SMC=y
# CONFIG_TOOLS_MKEFICAPSULE is not set
"""
"""The commands (cmd/Kconfig), and without a tool of the host's that wants more libraries."""
PREFIX = "" if platform.machine() == "aarch64" else "aarch64-linux-gnu-"
NEEDED = {
    "make": "make", "bison": "bison", "flex": "flex", "cc": "gcc",
    f"{PREFIX}gcc": "gcc-aarch64-linux-gnu" if PREFIX else "gcc",
}  # fmt: skip
"""Programs, and the packages that have them."""
IMAGE = "u-boot.bin"


def default_cache() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/hvcemu/u-boot` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hvcemu" / "u-boot"


def cached(cache: Path) -> Path | None:
    """The newest build."""
    found = cache.glob(f"{SOURCE}-*/{IMAGE}")
    return max(found, key=lambda path: version_key(path.parent.name), default=None)


def check_programs() -> None:
    """Refuse to begin what cannot be finished."""
    missing = sorted({package for name, package in NEEDED.items() if not shutil.which(name)})
    if missing:
        raise FetchError(f"a compiler or tool is missing: apt-get install {' '.join(missing)}")


# -- the source ----------------------------------------------------------------------------------


def use_sources(apt: Apt) -> None:
    """Let apt read the source packages of the Debian archives this system's sources name."""
    apt.update()
    rows = apt.run("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(RELEASE)",
                   "Created-By: Packages").splitlines()
    places = {row.partition(" ")[2] for row in rows if row.startswith("Debian ")}
    if not places:
        raise FetchError("apt's sources here name no Debian archive, so there is no u-boot source")
    key = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    parts = apt.conf.parent / "sources"
    parts.mkdir(exist_ok=True)
    # Of two archives with one version apt asks the first: the main one has it for longer.
    ordered = sorted(places, key=lambda place: ("security" in place, place))
    (parts / "source.list").write_text("".join(f"deb-src {key}{row} main\n" for row in ordered))
    with apt.conf.open("a") as conf:
        conf.write(f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\n')
    apt.run("apt-get", "update", "-q", "--error-on=any")


def fetch_source(cache: Path, folder: Path) -> Path:
    """Downloads upstream's tar file, as Debian has it, into `folder`."""
    apt = Apt(cache)
    use_sources(apt)
    note("build_uboot: downloading the source")
    apt.run("apt-get", "source", "--download-only", "-q", SOURCE, cwd=folder)
    found = next(folder.glob(f"{SOURCE}_*.orig.tar.*"), None)
    if found is None:
        raise FetchError(f"apt-get source {SOURCE} left no tar file; try again")
    return found


def unpack(archive: Path, folder: Path) -> Path:
    """Upstream's tree: the one folder in the tar file."""
    try:
        with tarfile.open(archive) as tar:
            # Python has filters since 3.11.4; what apt-get fetched is signed by Debian in any case.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(folder)
    except (tarfile.TarError, EOFError):
        raise FetchError(f"{archive.name} does not unpack; try again") from None
    tree = next((path.parent for path in sorted(folder.glob("*/Makefile"))), None)
    if tree is None:
        raise FetchError(f"{archive.name} holds no Makefile; is it U-Boot?")
    return tree


# -- the build -----------------------------------------------------------------------------------


def make(tree: Path, out: Path, *targets: str) -> None:
    """Run make on the tree; FetchError has the line that says why it failed."""
    argv = ["make", "-s", f"-j{os.cpu_count() or 1}", f"O={out}", f"CROSS_COMPILE={PREFIX}"]
    # The date it prints is the source's: the same source, the same image.
    dated = {"SOURCE_DATE_EPOCH": str(int((tree / "Makefile").stat().st_mtime))}
    done = subprocess.run(
        [*argv, *targets], cwd=tree, env={**os.environ, **dated, "LC_ALL": "C"},
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        raise FetchError(complaint(done.stderr or done.stdout))


def complaint(text: str) -> str:
    """The first line of make's output that names an error, with a hint where we know one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(fatal )?error\b|\*\*\*", line, re.I)]
    why = (errors or lines or ["no reason given"])[0]
    hint = "; apt-get install libssl-dev" if "openssl" in text or "-lssl" in text else ""
    return f"make failed: {why}{hint}"


def build(tree: Path, out: Path) -> Path:
    """The image, with all that is configured."""
    out.mkdir()
    make(tree, out, DEFCONFIG)
    with (out / ".config").open("a") as config:
        config.write(CONFIG)
    make(tree, out, "olddefconfig")
    make(tree, out, IMAGE)
    return out / IMAGE


def version_of(archive: Path) -> str:
    """Upstream's version, in Debian's spelling."""
    return archive.name.partition("_")[2].partition(".orig.tar")[0]


def uboot(cache: Path, *, force: bool = False) -> Path:
    """The image, built where it is not in the cache."""
    if not force and (image := cached(cache)):
        return image
    check_programs()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as scratch:
        archive = fetch_source(cache, Path(scratch))
        tree = unpack(archive, Path(scratch, "source"))
        note("build_uboot: building, a minute or two")
        image = build(tree, Path(scratch, "out"))
        target = cache / f"{SOURCE}-{version_of(archive)}" / IMAGE
        target.parent.mkdir(exist_ok=True)
        return image.replace(target)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build_uboot", description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, metavar="DIR", help=f"default: {default_cache()}")
    parser.add_argument("--force", action="store_true", help="build again, even when cached")
    options = parser.parse_args(argv)
    cache = (options.cache or default_cache()).expanduser().absolute()
    try:
        print(uboot(cache, force=options.force))
    except FetchError as error:
        note(f"build_uboot: {error}")
        return 2
    except OSError as error:
        note(f"build_uboot: {error.strerror or error} ({cache}); choose another --cache DIR")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

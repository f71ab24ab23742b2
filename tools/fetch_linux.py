"""Fetch Debian's unmodified arm64 cloud kernel; the last line of stdout is the Image's path.

    IMAGE=$(python tools/fetch_linux.py) && hvcemu run "$IMAGE"

The kernel is the proof that an unmodified guest is content with our hypercalls, and it is far
too large to commit. It comes through apt with the sources and keys this system already trusts,
so this file names no host, and the signature check is apt's. The system is left as it was: apt
runs on a private configuration file (apt.conf(5); `-c` is read after the system's own) whose
state, cache and architecture are its own, and the package is unpacked, never installed
(dpkg-deb(1) --fsys-tarfile, of which only the files below boot/ or bin/ are kept).

The newest kernel is the one that the metapackage `linux-image-cloud-arm64` depends on. Debian 12
gives 6.1, other releases give theirs. Debian's System.map is a one-line stub
(the real one is in the -dbg package); it is unpacked all the same, and reads as "no symbols".

A second run answers from the cache without calling apt; `--force` fetches afresh. A failure is
one line on stderr and exit status 2. No configuration beyond the options below.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

METAPACKAGE = "linux-image-cloud-arm64"
BUSYBOX = "busybox-static"
KERNEL = re.compile(r"linux-image-(\d[\w.+~-]*)-cloud-arm64")

# `#clear` empties lists that the system's files may have filled: hooks which would tidy the
# *system's* cache after our update (Docker's images ship one), and the architectures.
APT_CONF = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
#clear DPkg::Pre-Install-Pkgs;
APT::Architecture "arm64";
APT::Architectures "arm64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Debug::NoLocking "true";
Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::Cache "{cache}";
Dir::Log "{cache}";
"""


class FetchError(Exception):
    """What went wrong and what to do about it, in one line."""


def default_cache() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/hvcemu/linux` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hvcemu" / "linux"


def version_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Orders package names by their numbers: 6.1.0-9 comes before 6.1.0-10."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts)


def kernel_in_depends(stanzas: str) -> str | None:
    """The newest kernel package named in the Depends of `apt-cache show` output."""
    lines = [line for line in stanzas.splitlines() if line.startswith("Depends:")]
    names = [m.group() for line in lines for m in KERNEL.finditer(line)]
    return max(names, key=version_key, default=None)


def wanted(member: str) -> bool:
    """Only the kernel's boot/ files and busybox itself are worth the disk space."""
    return re.fullmatch(r"(\./)?(usr/)?(boot/[^/]+|bin/busybox)", member) is not None


def cached_images(cache: Path) -> list[Path]:
    """The images already unpacked, newest first."""
    found = cache.glob("linux-image-*/boot/vmlinu[xz]-*")
    return sorted(found, key=lambda path: version_key(path.name), reverse=True)


def cached_busybox(cache: Path) -> Path | None:
    """The busybox already unpacked; Debian 13 moved it below usr/."""
    return next(iter(sorted(cache.glob(f"{BUSYBOX}/**/bin/busybox"))), None)


def note(text: str) -> None:
    print(text, file=sys.stderr)


def complaint(command: str, stderr: str) -> str:
    """The line of apt's or dpkg's output that says why, with a hint where we know one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(E:|Err:|dpkg-deb: error)", line)]
    why = (errors or lines or ["no reason given"])[0]
    hint = ""
    if re.search(r"resolve|connect|[Tt]imed? ?out|unreachable|Failed to fetch", stderr):
        hint = "; is the network up? An Image fetched elsewhere works as well"
    if re.search(r"No space left|enough free space", stderr):
        hint = "; the disk is full, choose another place with --cache DIR"
    return f"{command} failed: {why}{hint}"


class Apt:
    """apt with a private state below `cache`, for architecture arm64 only."""

    def __init__(self, cache: Path) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise FetchError(
                    f"{tool} is not installed, so there is no Debian archive to ask; "
                    "give hvcemu any arm64 Linux Image instead"
                )
        self.cache = cache
        home = cache / "apt"
        for place in ("state/lists/partial", "cache/archives/partial"):
            (home / place).mkdir(parents=True, exist_ok=True)
        (home / "state" / "status").touch()
        self.conf = home / "apt.conf"
        self.conf.write_text(APT_CONF.format(state=home / "state", cache=home / "cache"))

    def run(self, *command: str, cwd: Path | None = None) -> str:
        argv = [command[0], "-c", str(self.conf), *command[1:]]
        env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise FetchError(complaint(" ".join(command), done.stderr))
        return done.stdout

    def update(self) -> None:
        note("fetch_linux: reading the package lists for arm64")
        # Without Error-Mode=any, an unreachable archive is only a warning (apt-get(8)).
        self.run("apt-get", "update", "-q", "--error-on=any")

    def kernels(self) -> list[str]:
        names = self.run("apt-cache", "pkgnames", "linux-image-").split()
        return sorted(filter(KERNEL.fullmatch, names), key=version_key, reverse=True)

    def newest(self) -> str:
        name = None
        try:
            name = kernel_in_depends(self.run("apt-cache", "show", METAPACKAGE))
        except FetchError as error:
            note(f"fetch_linux: {error}")
        if name is None:
            raise FetchError(
                f"apt's sources here offer no {METAPACKAGE} for arm64 (a Debian source does, "
                "unless it is limited to another architecture); give hvcemu an Image instead"
            )
        return name

    def unpack(self, package: str, name: str) -> None:
        """Downloads `package` and leaves its wanted files in `cache/name`, all or nothing."""
        note(f"fetch_linux: downloading {package}")
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".part-") as scratch:
            self.run("apt-get", "download", "-q", package, cwd=Path(scratch))
            deb = next(Path(scratch).glob("*.deb"), None)
            if deb is None:
                raise FetchError(f"apt-get download {package} left no .deb; try --force again")
            tree = Path(scratch) / "tree"
            extract(deb, tree)
            shutil.rmtree(self.cache / name, ignore_errors=True)
            tree.rename(self.cache / name)


def keep(tar: tarfile.TarFile, member: tarfile.TarInfo, tree: Path) -> None:
    """Writes one member; `wanted` has seen to it that its name stays inside `tree`."""
    target, source = tree / member.name, tar.extractfile(member)
    target.parent.mkdir(parents=True, exist_ok=True)
    assert source is not None  # it is a regular file
    with target.open("wb") as out:
        shutil.copyfileobj(source, out)
    target.chmod(member.mode & 0o755)


def extract(deb: Path, tree: Path) -> None:
    """The wanted files of a package; the modules (most of it) are skipped while streaming."""
    argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as dpkg:
        assert dpkg.stdout is not None
        assert dpkg.stderr is not None
        try:
            with tarfile.open(fileobj=dpkg.stdout, mode="r|") as tar:
                for member in tar:
                    if member.isfile() and wanted(member.name):
                        keep(tar, member, tree)
            dpkg.stdout.read()
        except tarfile.TarError as error:
            raise FetchError(f"{deb.name} does not unpack ({error}); try --force") from None
        said = dpkg.stderr.read().decode(errors="replace")
    if dpkg.returncode != 0 or not tree.is_dir():
        raise FetchError(complaint(f"dpkg-deb --fsys-tarfile {deb.name}", said))


def fetch(cache: Path, *, force: bool, busybox: bool) -> list[Path]:
    """The paths to print, the kernel's Image last; from the cache unless `force`."""
    apt: Apt | None = None
    if force or not cached_images(cache):
        apt = Apt(cache)
        apt.update()
        kernel = apt.newest()
        apt.unpack(kernel, kernel)
    if busybox and (force or cached_busybox(cache) is None):
        if apt is None:
            apt = Apt(cache)
            apt.update()
        apt.unpack(BUSYBOX, BUSYBOX)
    images, box = cached_images(cache), cached_busybox(cache)
    if not images:
        raise FetchError("the package holds no boot/vmlinuz; give hvcemu an Image instead")
    return [*([box] if busybox and box else []), images[0]]


def show_list(cache: Path) -> None:
    """What is cached, then what apt offers."""
    for image in cached_images(cache):
        print(f"cached   {image}")
    apt = Apt(cache)
    apt.update()
    for name in apt.kernels():
        print(f"offered  {name}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fetch_linux", description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, metavar="DIR", help=f"default: {default_cache()}")
    parser.add_argument("--force", action="store_true", help="fetch again, even when cached")
    parser.add_argument("--busybox", action="store_true", help="also busybox, printed before")
    parser.add_argument("--list", action="store_true", help="what is cached and what apt offers")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    cache = (options.cache or default_cache()).expanduser().absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if options.list:
            show_list(cache)
        else:
            print(*fetch(cache, force=options.force, busybox=options.busybox), sep="\n")
    except FetchError as error:
        note(f"fetch_linux: {error}")
        return 2
    except OSError as error:
        note(f"fetch_linux: {error.strerror or error} ({cache}); choose another --cache DIR")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

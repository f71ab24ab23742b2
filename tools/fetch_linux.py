"""Fetch Debian's unmodified arm64 kernels; the last line of stdout is the Image's path.

    IMAGE=$(python tools/fetch_linux.py) && hvcemu run "$IMAGE"
    python tools/fetch_linux.py --initrd --kernel 6.12 --flavour generic

The kernel is the proof that an unmodified guest is content with our hypercalls, and it is far
too large to commit. It comes through apt with the sources and keys this system already trusts,
so this file names no host, and the signature check is apt's. The system is left as it was: apt
runs on a private configuration file (apt.conf(5); `-c` is read after the system's own) whose
state, cache and architecture are its own, and the package is unpacked, never installed
(dpkg-deb(1) --fsys-tarfile, of which only the files below boot/ or bin/ are kept).

The newest kernel is the one that the metapackage `linux-image-cloud-arm64` depends on
(`linux-image-arm64` for `--flavour generic`). Debian 12 gives 6.1, other releases give theirs.
`--initrd` also makes a root file system with a shell (initramfs.py). Debian's System.map is a
one-line stub (the real one is in the -dbg package); it is unpacked all the same, and reads as
"no symbols".

`fetch_kernel` gets another kernel by its version (`--kernel`): it also looks into
the other suites of the archive that this system's sources name, backports and unstable among
them, and keeps what it finds in a folder of its own, so that the newest kernel of *this* system
stays what the command above prints.

A second run answers from the cache without calling apt; `--force` fetches afresh. A failure is
one line on stderr and exit status 2. No configuration beyond the options below.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import initramfs

METAPACKAGES = {"cloud": "linux-image-cloud-arm64", "generic": "linux-image-arm64"}
"""What depends on the newest kernel of a flavour."""
BUSYBOX = "busybox-static"
# Suites by their role, as every Debian mirror has them; which release each is does not matter.
SUITES = ("oldstable", "oldstable-backports", "stable", "stable-backports", "testing", "unstable")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SYSTEM_SOURCES = Path("/etc/apt")
KERNELS = {
    "cloud": re.compile(r"linux-image-(\d[\w.+~-]*)-cloud-arm64"),
    # The others put their name where cloud puts its own: -rt-arm64, -16k-arm64.
    "generic": re.compile(r"linux-image-(\d[\w.+~-]*)(?<!-cloud)(?<!-rt)(?<!-16k)-arm64(?![\w-])"),
}
INITRAMFS = "initramfs.cpio"
SERIES = re.compile(r"linux-image-(\d+\.\d+)")

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


def kernel_in_depends(stanzas: str, flavour: str = "cloud") -> str | None:
    """The newest kernel package named in the Depends of `apt-cache show` output."""
    lines = [line for line in stanzas.splitlines() if line.startswith("Depends:")]
    names = [m.group() for line in lines for m in KERNELS[flavour].finditer(line)]
    return max(names, key=version_key, default=None)


def wanted(member: str) -> bool:
    """Only the kernel's boot/ files and busybox itself are worth the disk space."""
    # From 7.1 on, Debian keeps the Image below usr/lib/modules/RELEASE.
    kept = r"(\./)?(usr/)?(boot/[^/]+|bin/busybox|lib/modules/[^/]+/vmlinuz)"
    return re.fullmatch(kept, member) is not None and ".." not in member


def home(cache: Path, flavour: str) -> Path:
    """Where this system's newest kernels of a flavour lie; the cloud's were here first."""
    return cache if flavour == "cloud" else cache / flavour


def cached_images(cache: Path, flavour: str = "cloud") -> list[Path]:
    """This system's images already unpacked, newest first."""
    found = home(cache, flavour).glob("linux-image-*/boot/vmlinu[xz]-*")
    return sorted(found, key=lambda path: version_key(path.name), reverse=True)


def of_version(name: str, version: str, flavour: str = "cloud") -> bool:
    """Whether a kernel package is the version asked for: 6.1, 6.12.107 or a whole release."""
    found = KERNELS[flavour].fullmatch(name)
    if found is None:
        return False
    wanted_version = version.removesuffix("-arm64").removesuffix("-cloud")
    return re.match(re.escape(wanted_version) + r"($|[.+~-])", found[1]) is not None


def image_in(tree: Path) -> Path | None:
    """The Image of an unpacked kernel package, old layout or new."""
    found = [*tree.glob("boot/vmlinu[xz]-*"), *tree.glob("**/lib/modules/*/vmlinuz")]
    return next(iter(found), None)


def cached_kernel(cache: Path, version: str, flavour: str = "cloud") -> Path | None:
    """The newest cached kernel of a version, this system's own among them."""
    places = (home(cache, flavour), cache / "kernels")
    trees = [tree for place in places for tree in place.glob("linux-image-*")]
    trees = sorted(trees, key=lambda tree: version_key(tree.name), reverse=True)
    return next((image for tree in trees if of_version(tree.name, version, flavour)
                 and (image := image_in(tree))), None)


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

    def widen(self) -> None:
        """Read the archive's other suites as well as the sources this system has."""
        line = self.run("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)",
                        "Created-By: Packages")
        # A security archive says Debian too, but has no such suites.
        found = [uri for uri, _, origin in (row.partition(" ") for row in line.splitlines())
                 if origin == "Debian" and "security" not in uri]
        if not found:
            raise FetchError("apt's sources here name no Debian archive; give an Image instead")
        parts = self.conf.parent / "sources"
        copy_sources(SYSTEM_SOURCES, parts)
        key = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        rows = [f"deb {key}{found[0]} {suite} main\n" for suite in SUITES]
        (parts / "suites.list").write_text("".join(rows))
        places = f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\n'
        self.conf.write_text(self.conf.read_text() + places)

    def update(self) -> None:
        note("fetch_linux: reading the package lists for arm64")
        # Without Error-Mode=any, an unreachable archive is only a warning (apt-get(8)).
        self.run("apt-get", "update", "-q", "--error-on=any")

    def kernels(self, flavour: str) -> list[str]:
        names = self.run("apt-cache", "pkgnames", "linux-image-").split()
        return sorted(filter(KERNELS[flavour].fullmatch, names), key=version_key, reverse=True)

    def offered(self, version: str, flavour: str) -> str | None:
        """The newest kernel package of a version, after reading the lists anew."""
        self.update()
        names = self.kernels(flavour)
        return next((name for name in names if of_version(name, version, flavour)), None)

    def newest(self, flavour: str) -> str:
        name = None
        try:
            shown = self.run("apt-cache", "show", METAPACKAGES[flavour])
            name = kernel_in_depends(shown, flavour)
        except FetchError as error:
            note(f"fetch_linux: {error}")
        if name is None:
            raise FetchError(
                f"apt's sources here offer no {METAPACKAGES[flavour]} for arm64 (a Debian source "
                "does, unless it is limited to another architecture); give hvcemu an Image instead"
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
            target = self.cache / name
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            tree.rename(target)


def copy_sources(system: Path, parts: Path) -> None:
    """The system's lists of sources, in a folder where one more can lie beside them."""
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    lists = [system / "sources.list", *(system / "sources.list.d").glob("*.*")]
    for path in (path for path in lists if path.suffix in (".list", ".sources")):
        if path.is_file():
            shutil.copy(path, parts / path.name)


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


def fetch(
    cache: Path, *, force: bool = False, busybox: bool = False, initrd: bool = False,
    version: str | None = None, flavour: str = "cloud",
) -> list[Path]:  # fmt: skip
    """The paths to print, the kernel's Image last; from the cache unless `force`."""
    apt = functools.cache(lambda: updated(Apt(cache)))
    if version is None:
        image = fetch_newest(cache, apt, flavour, force=force)
    else:
        image = fetch_kernel(cache, version, flavour, force=force)
    box = fetch_busybox(cache, apt, force=force) if busybox or initrd else None
    paths = [box] if box and busybox else []
    paths += [make_initramfs(cache, box)] if box and initrd else []
    return [*paths, image]


def updated(apt: Apt) -> Apt:
    apt.update()
    return apt


def fetch_newest(cache: Path, apt: Callable[[], Apt], flavour: str, *, force: bool) -> Path:
    """The Image of this system's newest kernel."""
    if force or not cached_images(cache, flavour):
        kernel = apt().newest(flavour)
        apt().unpack(kernel, str((home(cache, flavour) / kernel).relative_to(cache)))
    images = cached_images(cache, flavour)
    if not images:
        raise FetchError("the package holds no boot/vmlinuz; give hvcemu an Image instead")
    return images[0]


def fetch_busybox(cache: Path, apt: Callable[[], Apt], *, force: bool) -> Path:
    """The static busybox for arm64."""
    if force or cached_busybox(cache) is None:
        apt().unpack(BUSYBOX, BUSYBOX)
    box = cached_busybox(cache)
    if box is None:
        raise FetchError(f"the package {BUSYBOX} holds no bin/busybox; try --force")
    return box


def make_initramfs(cache: Path, busybox: Path) -> Path:
    """The root file system around it; written anew each time, and always the same."""
    target = cache / INITRAMFS
    with tempfile.NamedTemporaryFile(dir=cache, prefix=".part-", delete=False) as part:
        part.write(initramfs.initramfs(busybox.read_bytes()))
    Path(part.name).chmod(0o644)
    return Path(part.name).replace(target)


def fetch_kernel(
    cache: Path, version: str, flavour: str = "cloud", *, force: bool = False
) -> Path:
    """The Image of a kernel by its version: from the cache, this system's sources, other suites."""
    if not force and (image := cached_kernel(cache, version, flavour)):
        return image
    apt = Apt(cache / "kernels")
    name = apt.offered(version, flavour)
    if name is None:
        apt.widen()
        name = apt.offered(version, flavour)
    if name is None:
        names = apt.kernels(flavour)
        series = sorted({m[1] for m in map(SERIES.search, names) if m}, key=version_key)
        raise FetchError(f"apt offers no kernel {version} for arm64; it has {', '.join(series)}")
    # From 7.0 on, linux-image is an empty package that depends on linux-binary.
    binary = name.replace("linux-image-", "linux-binary-")
    split = binary in apt.run("apt-cache", "pkgnames", "linux-binary-").split()
    apt.unpack(binary if split else name, name)
    found = image_in(cache / "kernels" / name)
    if found is None:
        raise FetchError(f"the package of {name} holds no vmlinuz; give an Image instead")
    return found


def show_list(cache: Path) -> None:
    """What is cached, then what apt offers."""
    for flavour in KERNELS:
        for image in cached_images(cache, flavour):
            print(f"cached   {image}")
    for tree in sorted(cache.glob("kernels/linux-image-*")):
        print(f"cached   {image_in(tree)}")
    apt = updated(Apt(cache))
    for flavour in KERNELS:
        for name in apt.kernels(flavour):
            print(f"offered  {name}")


def how_to_run(initrd: Path, image: Path) -> str:
    """A command line to copy; --mem is what a kernel with its root file system is at ease in."""
    words = ["hvcemu", "run", str(image), "--initrd", str(initrd)]
    return shlex.join(words) + ' --append "console=ttyAMA0" --mem 512M'


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fetch_linux", description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, metavar="DIR", help=f"default: {default_cache()}")
    parser.add_argument("--force", action="store_true", help="fetch again, even when cached")
    parser.add_argument("--kernel", metavar="VERSION", help="6.1, 6.12 … (this system's newest)")
    parser.add_argument("--flavour", choices=KERNELS, default="cloud", help="(cloud)")
    parser.add_argument("--busybox", action="store_true", help="also busybox, printed before")
    parser.add_argument(
        "--initrd", action="store_true", help="also a root file system, printed before the Image"
    )
    parser.add_argument("--list", action="store_true", help="what is cached and what apt offers")
    return parser.parse_args(argv)


def show_paths(cache: Path, options: argparse.Namespace) -> None:
    """Fetch what was asked for and print where it is."""
    paths = fetch(
        cache, force=options.force, busybox=options.busybox, initrd=options.initrd,
        version=options.kernel, flavour=options.flavour,
    )  # fmt: skip
    if options.initrd:
        note(how_to_run(*paths[-2:]))
    print(*paths, sep="\n")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    cache = (options.cache or default_cache()).expanduser().absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if options.list:
            show_list(cache)
        else:
            show_paths(cache, options)
    except FetchError as error:
        note(f"fetch_linux: {error}")
        return 2
    except OSError as error:
        note(f"fetch_linux: {error.strerror or error} ({cache}); choose another --cache DIR")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

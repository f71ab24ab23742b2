"""The kernel fetcher without a network: a stand-in for apt, real .deb unpacking, clear failures."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from places import ROOT

SOURCE = ROOT / "tools" / "fetch_linux.py"


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_linux", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["fetch_linux"] = made
    spec.loader.exec_module(made)
    return made


fetch_linux = module()
KERNEL = "linux-image-6.1.0-10-cloud-arm64"
SHOW = f"""\
Package: linux-image-cloud-arm64
Depends: linux-image-6.1.0-9-cloud-arm64 (= 6.1.1)

Package: linux-image-cloud-arm64
Depends: {KERNEL} (= 6.1.2), other
Description: not linux-image-9.9.9-1-cloud-arm64
"""


def tar_of(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mode = 3, 0o4755
            tar.addfile(member, io.BytesIO(b"abc"))
    return out.getvalue()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """apt and dpkg-deb as scripts: `world.answers[command]` is (exit status, stdout, stderr)."""

    class World:
        cache = tmp_path / "cache"
        calls: list[list[str]]
        answers: dict[str, tuple[int, str, str]]
        deb = tar_of(f"./boot/vmlinuz-{KERNEL}", "./lib/modules/big.ko", "./bin/busybox")
        leaves_deb = True

        def run(self, argv, *, cwd=None, **_):
            self.calls.append([argv[0], *argv[3:]])
            key = argv[3]
            status, out, err = self.answers.get(key, (0, "", ""))
            if key == "download" and status == 0 and self.leaves_deb:
                (cwd / "package.deb").write_bytes(self.deb)
            return subprocess.CompletedProcess(argv, status, out, err)

        def main(self, *options: str) -> int:
            return fetch_linux.main(["--cache", str(self.cache), *options])

    made = World()
    made.calls, made.answers = [], {"show": (0, SHOW, "")}
    real = subprocess.Popen

    def popen(argv, **more):
        return real(["cat", argv[-1]], **more)

    monkeypatch.setattr(fetch_linux.subprocess, "run", made.run)
    monkeypatch.setattr(fetch_linux.subprocess, "Popen", popen)
    monkeypatch.setattr(fetch_linux.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    return made


def test_version_order():
    names = ["linux-6.1.0-9", "linux-6.12.1", "linux-6.1.0-10", "linux-6.1-x"]
    assert max(names, key=fetch_linux.version_key) == "linux-6.12.1"
    assert sorted(names[::2], key=fetch_linux.version_key) == names[::2]


def test_kernel_in_depends():
    assert fetch_linux.kernel_in_depends(SHOW) == KERNEL
    assert fetch_linux.kernel_in_depends("Depends: nothing") is None


@pytest.mark.parametrize(
    ("member", "wanted"),
    [
        ("./boot/vmlinuz-6.1", True),
        ("boot/System.map-6.1", True),
        ("./usr/bin/busybox", True),
        ("./boot/../etc/passwd", False),
        ("/boot/vmlinuz", False),
        ("./lib/modules/6.1/kernel/fs/ext4.ko", False),
    ],
)
def test_wanted(member, wanted):
    assert fetch_linux.wanted(member) is wanted


def test_default_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert fetch_linux.default_cache() == Path("/x/hvcemu/linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch_linux.default_cache() == Path.home() / ".cache/hvcemu/linux"


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        ("W: x\nE: Unable to locate package y\n", "E: Unable to locate package y"),
        ("Err:1 Could not resolve host\nE: Failed", "network"),
        ("E: You don't have enough free space in /x\n", "disk is full"),
        ("", "no reason given"),
    ],
)
def test_complaint(stderr, says):
    line = fetch_linux.complaint("apt-get update", stderr)
    assert says in line
    assert "\n" not in line


def test_fetch_then_cache(world, capsys):
    assert world.main() == 0
    image = Path(capsys.readouterr().out.splitlines()[-1])
    assert image == world.cache / KERNEL / "boot" / f"vmlinuz-{KERNEL}"
    assert image.read_bytes() == b"abc"
    assert image.stat().st_mode & 0o7777 == 0o755
    assert not (world.cache / KERNEL / "lib").exists()
    assert [call[1] for call in world.calls] == ["update", "show", "download"]
    assert 'Dir::State "' + str(world.cache) in (world.cache / "apt/apt.conf").read_text()
    assert world.main() == 0
    assert capsys.readouterr().out == f"{image}\n"
    assert len(world.calls) == 3
    assert world.main("--force") == 0
    assert len(world.calls) == 6


def test_busybox_comes_before_the_image(world, capsys):
    assert world.main() == 0
    assert world.main("--busybox") == 0
    assert world.main("--busybox") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        str(world.cache / "busybox-static/bin/busybox"),
        str(world.cache / KERNEL / "boot" / f"vmlinuz-{KERNEL}"),
    ]


def test_both_at_once(world, capsys):
    assert world.main("--busybox") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert [call[1] for call in world.calls] == ["update", "show", "download", "download"]


def test_the_root_file_system_comes_before_the_image(world, capsys):
    assert world.main("--initrd") == 0
    out, err = capsys.readouterr()
    initrd, image = (Path(line) for line in out.splitlines())
    assert initrd == world.cache / "initramfs.cpio"
    archive = initrd.read_bytes()
    assert archive.startswith(b"070701")
    assert err.splitlines()[-1] == (
        f'hvcemu run {image} --initrd {initrd} --append "console=ttyAMA0" --mem 512M'
    )
    assert world.main("--initrd", "--busybox") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1:] == [str(initrd), str(image)]
    assert initrd.read_bytes() == archive
    assert not list(world.cache.glob(".part-*"))


def test_package_without_busybox(world, capsys):
    world.deb = tar_of("./boot/vmlinuz-x")
    assert world.main("--initrd") == 2
    assert "holds no bin/busybox" in capsys.readouterr().err


GENERIC = "linux-image-6.1.0-10-arm64"


def test_flavours_and_versions(world, capsys):
    world.answers["show"] = (0, f"Depends: {KERNEL}, {GENERIC} (= 6.1.2)\n", "")
    assert world.main("--flavour", "generic") == 0
    image = Path(capsys.readouterr().out.splitlines()[-1])
    assert image.parts[-4:-1] == ("generic", GENERIC, "boot")
    assert [call[-1] for call in world.calls if "show" in call] == ["linux-image-arm64"]
    assert world.main("--flavour", "generic", "--kernel", "6.1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(image)
    assert fetch_linux.cached_images(world.cache) == []
    world.answers["pkgnames"] = (0, f"{GENERIC}-unsigned\n{GENERIC}\n{KERNEL}\n", "")
    assert world.main("--kernel", "6.1") == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]).parts[-4:-2] == ("kernels", KERNEL)
    assert world.main("--kernel", "6.1", "--force") == 0


@pytest.mark.parametrize(("name", "flavour"), [
    (KERNEL, "cloud"),
    (GENERIC, "generic"),
    ("linux-image-6.12.117+deb12-arm64", "generic"),
    ("linux-image-6.12.117+deb12-cloud-arm64-unsigned", None),
    (f"{GENERIC}-unsigned", None),
    (f"{GENERIC}-dbg", None),
    ("linux-image-6.1.0-10-rt-arm64", None),
    ("linux-image-6.12.1+deb13-arm64-16k", None),
])
def test_names_of_packages(name, flavour):
    kinds = [kind for kind, pattern in fetch_linux.KERNELS.items() if pattern.fullmatch(name)]
    assert kinds == ([flavour] if flavour else [])


def test_list(world, capsys):
    assert world.main() == 0
    world.answers["pkgnames"] = (0, f"linux-image-rt\n{KERNEL}\n{GENERIC}\n", "")
    other = world.cache / "kernels" / GENERIC / "boot" / "vmlinuz-x"
    other.parent.mkdir(parents=True)
    other.touch()
    assert world.main("--list") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"cached   {world.cache / KERNEL / 'boot' / f'vmlinuz-{KERNEL}'}",
        f"cached   {other}",
        f"offered  {KERNEL}",
        f"offered  {GENERIC}",
    ]


def failure(world, capsys) -> str:
    assert world.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()[-1]


def test_no_apt(world, capsys, monkeypatch):
    monkeypatch.setattr(fetch_linux.shutil, "which", lambda tool: None)
    assert "apt-get is not installed" in failure(world, capsys)


def test_no_network(world, capsys):
    world.answers["update"] = (100, "", "E: Failed to fetch x  Could not resolve 'x'")
    assert "is the network up?" in failure(world, capsys)


@pytest.mark.parametrize("answer", [(100, "", "E: No packages found"), (0, "", "")])
def test_not_a_debian_source(world, capsys, answer):
    world.answers["show"] = answer
    assert "offer no linux-image-cloud-arm64" in failure(world, capsys)


def test_nothing_downloaded(world, capsys):
    world.leaves_deb = False
    assert "left no .deb" in failure(world, capsys)


def test_broken_package(world, capsys):
    world.deb = b"garbage" * 200
    assert "does not unpack" in failure(world, capsys)


def test_package_without_a_kernel(world, capsys):
    world.deb = tar_of("./bin/busybox")
    assert "no boot/vmlinuz" in failure(world, capsys)


def test_package_with_nothing_of_use(world, capsys):
    world.deb = tar_of("./lib/x")
    assert "dpkg-deb --fsys-tarfile" in failure(world, capsys)


def test_cache_that_cannot_be_made(world, capsys):
    world.cache.write_text("a file")
    assert "choose another --cache DIR" in failure(world, capsys)


def test_no_package_host_is_named():
    text = SOURCE.read_text()
    assert "http://" not in text
    assert "https://" not in text


def test_run_as_a_script(tmp_path):
    boot = tmp_path / KERNEL / "boot"
    boot.mkdir(parents=True)
    (boot / "vmlinuz-x").touch()
    command = [sys.executable, str(SOURCE), "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{boot / 'vmlinuz-x'}\n"


def test_the_cached_kernel_is_an_arm64_image():
    images = fetch_linux.cached_images(fetch_linux.default_cache())
    if not images:
        pytest.skip("no kernel in the cache: run `python tools/fetch_linux.py`")
    with images[0].open("rb") as image:
        head = image.read(64)
    assert head[0x38:0x3C] == b"ARM\x64" or head[:2] == b"\x1f\x8b" or head[4:8] == b"zimg"


def test_a_real_package_unpacks(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb: only Debian and its kin have it")
    tree = tmp_path / "build"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "boot").mkdir()
    (tree / "boot/vmlinuz-x").write_text("kernel")
    control = "Package: x\nVersion: 1\nArchitecture: arm64\nMaintainer: x <x@x>\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(control)
    deb = tmp_path / "x.deb"
    command = ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(deb)]
    subprocess.run(command, check=True, capture_output=True)
    fetch_linux.extract(deb, tmp_path / "out")
    assert (tmp_path / "out/boot/vmlinuz-x").read_text() == "kernel"

"""The recorder without a kernel: plan, results, files, and clear refusals; with QEMU, one boot."""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys

import fetch_linux
import pytest
import record_kvm
from kvm_recorder import ids, machine, recording
from kvm_recorder.machine import MachineError
from kvm_recorder.plan import Plan, save, store
from kvm_recorder.recording import Call, RecordingError, Run, Some, parse_result, poison
from kvm_recorder.sections import SECTIONS, whole_plan

from places import ROOT

HEADER = {"schema": 1, "release": "6.1.0-9", "version": "#1", "kvm": "Hyp mode", "core": "max",
          "operations": 2, "calls": 1}
X = ",".join(["10001", "0", "0", "0", *(f"{poison(reg):x}" for reg in range(4, 18))])
RAN = f" r=0 e=6 mmio=9002000 ps=600003c5 x={X} pc=10028 mp=0,5"
CALL = ["call", "0", "h", "0", "1", "0", "84000000"]
PAIRS = [("section some-part", {"r": 0}), (" ".join(CALL), parse_result(CALL, RAN))]


def call_result(line, *x):
    """The x part of a call's result that came back with these registers."""
    words = line.split()
    call = Call(0, "", tuple(words), {})
    after = [*x, *call.args[len(x):]]
    text = f" r=0 e=6 x={','.join(f'{value:x}' for value in after)} mp=0"
    return parse_result(words, text)["x"]


# -- the plan -------------------------------------------------------------------------------


def test_the_plan_is_the_same_each_time_and_fits_the_vmm():
    lines = whole_plan().lines
    assert lines == whole_plan().lines
    assert sum(line.startswith("call ") for line in lines) > 10_000
    assert max(len(line.split()) for line in lines) <= 64  # main.c: MAX_WORDS


def test_every_operation_of_the_plan_is_in_the_vmm():
    source = (ROOT / "tools/kvm_recorder/ops.c").read_text()
    names = {line.split()[0] for line in whole_plan().lines}
    assert all(f'{{"{name}", ' in source for name in names)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_section_begins_with_a_vm(section):
    plan = Plan()
    section(plan)
    assert section.__doc__ or section.__name__
    assert next(line for line in plan.lines if not line.startswith("section")) == "vm"


def test_ids_cover_owners_widths_and_neighbours():
    fids = set(ids.all_ids())
    assert {0x8400_0000 - 1, 0x8400_0001, 0xC400_0000, 0x0400_0000, 0x8401_0000} <= fids
    assert {fid >> 24 & 0x3F for fid in fids} == set(range(64))
    assert all(0 <= fid < 1 << 32 for fid in fids)


def test_instruction_words():
    assert store(0x2000) == 0xB920_039F  # str wzr, [x28, #0x2000]
    assert save(2) == 0xA901_0F62  # stp x2, x3, [x27, #16]


# -- results --------------------------------------------------------------------------------


def test_a_call_keeps_what_changed():
    result = PAIRS[1][1]
    assert result["x"] == {"0": "10001", "1": "0", "2": "0", "3": "0"}
    assert (result["exit"], result["mp"]) == ("mmio", [0, 5])


def test_entropy_becomes_its_mask():
    assert call_result("call 0 h 0 1 0 c4000053 41", 0, 0, 1, 0xABCD) == {
        "0": "0", "1": "0", "2": "entropy:1", "3": "entropy:ffffffffffffffff"}
    assert call_result("call 0 h 0 1 0 84000053 100000021", 0, 0, 1, 7)["2"] == "entropy:1"
    assert call_result("call 0 h 0 1 0 c4000053 1", 0, 0, 0, 2)["3"] == "2"  # outside: it stays
    assert call_result("call 0 h 0 1 0 c4000053 c1", (1 << 64) - 2)["0"] == "fffffffffffffffe"


def test_clocks_become_a_class():
    assert call_result("call 0 h 0 1 0 86000001 0", 5, 6, 7, 8)["3"] == "clock:ffffffff"
    assert call_result("call 0 h 0 1 0 86000001 2", (1 << 64) - 1, 0, 0, 0)["1"] == "0"
    blotted = parse_result(["read"], " r=0 v=" + "00" * 64 + "11" * 64)["v"]
    assert blotted[16:32] == blotted[144:160] == "x" * 16
    assert blotted.count("x") == 32
    assert parse_result(["get", "0", "603000000013df1a"], " r=0 v=11")["v"] == "clock"
    assert parse_result(["dump", "0"], " r=0 603000000013df1a=11 1=22")["regs"] == {
        "603000000013df1a": "clock", "1": "22"}


def test_what_the_vmm_did_not_understand():
    with pytest.raises(RecordingError, match="did not understand: sing"):
        parse_result(["sing"], " unknown=sing")


# -- files ----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.jsonl.xz"
    recording.write(path, HEADER, PAIRS)
    return path


def test_write_and_read(file):
    read = recording.read(file)
    (call,) = read.calls()
    assert len(read) == 2
    assert read.header == HEADER
    assert (call.section, call.conduit, call.imm) == ("some-part", "hvc", 0)
    assert (call.el, call.vcpu) == (1, 0)
    assert call.args[:2] == (0x8400_0000, poison(1))
    assert call.x == (0x1_0001, 0, 0, 0, *map(poison, range(4, 18)))
    assert (call.status, call.exit, call.vector, call.waited) == (0, "mmio", None, False)
    assert call.mp_states == (0, 5)
    assert call.value("pc") == 0x1_0028
    assert str(call) == "operation 2 [some-part] call 0 h 0 1 0 84000000"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_run_has_all_its_registers():
    run = Run(1, "", ("run", "1", "0"), {"r": -4, "waited": "1", "x": {"3": "entropy:ff"}})
    assert run.x[3] == Some("entropy", 255)
    assert run.x[3].allows(255)
    assert not run.x[3].allows(256)
    assert (run.x[0], run.vcpu, run.exit, run.waited, run.status) == (0, 1, "", True, -4)
    assert Run(1, "", (), {"vector": "200"}).vector == 0x200


def test_firmware_registers_at_reset():
    regs = {"6030000000140000": "0300010000000000", "6030000000100000": "00" * 8}
    dumps = [("dump 0", {"r": -8, "regs": {}}), ("dump 0", {"r": 0, "regs": regs})]
    assert recording.of_pairs({}, dumps).firmware == {0x6030_0000_0014_0000: 0x1_0003}


@pytest.mark.parametrize(("lines", "says"), [
    ([], "not a recording"),
    (["{}"], "not a recording"),
    ([json.dumps(HEADER | {"schema": 2})], "schema 2"),
    ([json.dumps(HEADER), json.dumps(PAIRS[0])], "1 operations of 2: cut short"),
])
def test_a_damaged_file_is_refused(tmp_path, lines, says):
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress("\n".join(lines).encode()))
    with pytest.raises(RecordingError, match=says):
        recording.read(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordingError, match="not a recording"):
        recording.read(path)


# -- QEMU -----------------------------------------------------------------------------------


def test_cpio_is_what_cpio_reads(tmp_path):
    files = [("dev", 0o040755, b""), ("init", 0o100755, b"hello"), ("plan", 0o100644, b"vm\n")]
    archive = machine.cpio(files)
    assert len(archive) % 4 == 0
    if shutil.which("cpio"):
        run = subprocess.run(["cpio", "-it"], input=archive, capture_output=True, check=True)
        assert run.stdout.split() == [b"dev", b"init", b"plan"]


def results(scratch, *lines):
    (scratch / "results").write_text("\n".join(lines) + "\n")
    return machine.collect(scratch, 1, 0.5)


def test_collect(tmp_path):
    (tmp_path / "console").write_text("[ 0.1] kvm [1]: Hyp nVHE mode initialized successfully\n")
    got = results(tmp_path, "release=6.1", "version=#1 SMP", "kvm=0", " r=0", "end")
    assert got.mode == "Hyp nVHE mode initialized successfully"
    assert (got.release, got.version, list(got.lines)) == ("6.1", "#1 SMP", [" r=0"])


@pytest.mark.parametrize(("lines", "says"), [
    (["release=6.1", "version=x", "kvm=0", " r=0"], "cut short after 1 of 1"),
    (["release=6.1", "version=x", "kvm=0", "end"], "cut short"),
    (["release=6.1", "version=x", "kvm=-2"], "no /dev/kvm"),
    ([""], "last words: panic"),
])
def test_a_recording_that_is_cut_short_is_refused(tmp_path, lines, says):
    (tmp_path / "console").write_text("hello\npanic\n\n")
    with pytest.raises(MachineError, match=says):
        results(tmp_path, *lines)


def test_last_words_of_a_silent_kernel(tmp_path):
    assert "said nothing" in machine.last_words(tmp_path)
    (tmp_path / "console").write_text("x")
    assert machine.kvm_mode(tmp_path) == "unknown"


def fake_run(monkeypatch, **answer):
    def run(argv, **_):
        if "raises" in answer:
            raise answer["raises"]
        return subprocess.CompletedProcess(argv, answer.get("status", 0),
                                           answer.get("out", ""), answer.get("err", ""))
    monkeypatch.setattr(machine.subprocess, "run", run)


def test_qemu_must_be_there_and_new_enough(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match="not installed"):
        machine.qemu_version()
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/" + name)
    fake_run(monkeypatch, out="QEMU emulator version 7.1.9 (Debian)")
    with pytest.raises(MachineError, match=r"7\.2 or newer"):
        machine.qemu_version()
    fake_run(monkeypatch, out="QEMU emulator version 10.0.2 (Debian)")
    assert machine.qemu_version() == "10.0.2"


@pytest.mark.parametrize(("err", "says"), [
    ("No module named ziglang", r"pip install 'hvcemu\[tools\]'"),
    ("a\nx.c:1: error: no\n", "does not compile: x.c:1: error: no"),
])
def test_the_compiler_must_be_there(monkeypatch, tmp_path, err, says):
    fake_run(monkeypatch, status=1, err=err)
    with pytest.raises(MachineError, match=says):
        machine.build_vmm(tmp_path / "init")


def test_a_kernel_that_does_not_end(monkeypatch, tmp_path):
    fake_run(monkeypatch, raises=subprocess.TimeoutExpired("qemu", 1))
    with pytest.raises(MachineError, match="did not end"):
        machine.boot(tmp_path / "Image", "max", tmp_path)
    fake_run(monkeypatch, err="qemu: could not load kernel\n")
    with pytest.raises(MachineError, match="left no results: qemu: could not load"):
        machine.boot(tmp_path / "Image", "max", tmp_path)


# -- the command ----------------------------------------------------------------------------


@pytest.fixture
def recorder(monkeypatch, tmp_path):
    """The command with QEMU's part replaced, and golden files of its own."""
    monkeypatch.setattr(record_kvm, "GOLDEN", tmp_path / "golden")
    monkeypatch.setattr(record_kvm.machine, "qemu_version", lambda: "7.2")
    made = machine.Results("6.1.0-9-x", "#1", "Hyp mode", [" r=0", RAN], 1.0)
    monkeypatch.setattr(record_kvm.machine, "carry_out", lambda *_: made)
    plan = Plan()
    plan.lines = [line for line, _ in PAIRS]
    monkeypatch.setattr(record_kvm, "whole_plan", lambda: plan)
    (tmp_path / "Image").touch()
    return lambda *more: record_kvm.main(["--image", str(tmp_path / "Image"), *more])


def test_record_and_check(recorder, tmp_path, capsys, monkeypatch):
    assert recorder("--core", "max") == 0
    target = tmp_path / "golden/kvm-6.1-max.jsonl.xz"
    assert recording.read(target).header["calls"] == 1
    assert recorder("--core", "max", "--check") == 0
    assert "agrees: 2 operations of 6.1.0-9-x" in capsys.readouterr().out
    other = machine.Results("6.1.0-10", "#1", "Hyp mode", [" r=0", RAN.replace("10001", "2")], 1)
    monkeypatch.setattr(record_kvm.machine, "carry_out", lambda *_: other)
    assert recorder("--core", "max", "--check") == 1
    said = capsys.readouterr().out
    assert "differs (6.1.0-10, recorded on 6.1.0-9-x): operation 2 [some-part] call" in said


def test_first_difference():
    old = recording.of_pairs(HEADER, PAIRS)
    other = recording.of_pairs(HEADER, [("section other", {"r": 0}), PAIRS[1]])
    assert record_kvm.first_difference(old, HEADER, old) is None
    assert "plan has changed" in record_kvm.first_difference(old, HEADER, other)
    assert "core was max, is x" in record_kvm.first_difference(old, HEADER | {"core": "x"}, old)


def test_output_elsewhere(recorder, tmp_path):
    assert recorder("--output", str(tmp_path / "mine.xz")) == 0
    assert (tmp_path / "mine.xz").is_file()
    assert not (tmp_path / "golden").exists()


def test_errors_are_one_line(recorder, tmp_path, capsys):
    assert recorder("--check") == 2  # nothing recorded yet
    assert record_kvm.main(["--image", str(tmp_path / "none")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "No such file" in lines[0]
    assert "no such file" in lines[1]
    with pytest.raises(SystemExit):
        record_kvm.main([])


def test_list(recorder, capsys, monkeypatch):
    recorder()
    monkeypatch.setattr(fetch_linux, "show_list", lambda cache: print("offered x"))
    assert record_kvm.main(["--list"]) == 0
    said = capsys.readouterr().out
    assert "recorded kvm-6.1-cortex-a72.jsonl.xz: 6.1.0-9-x, 2 operations" in said
    assert "sections capabilities" in said
    assert "offered x" in said


def test_check_asks_for_the_release_that_was_recorded(recorder, monkeypatch, tmp_path, capsys):
    recorder()
    asked = []

    def fetch(cache, version):
        asked.append(version)
        if version == "6.1.0-9-x":
            raise fetch_linux.FetchError("gone")
        return tmp_path / "Image"

    monkeypatch.setattr(fetch_linux, "fetch_kernel", fetch)
    monkeypatch.setattr(fetch_linux, "default_cache", lambda: tmp_path / "cache")
    assert record_kvm.main(["--kernel", "6.1", "--check"]) == 0
    assert asked == ["6.1.0-9-x", "6.1"]
    assert "gone: trying another 6.1" in capsys.readouterr().err
    assert record_kvm.main(["--kernel", "6.7"]) == 0
    assert asked[2:] == ["6.7"]


# -- kernels by version (tools/fetch_linux.py) ------------------------------------------------


@pytest.mark.parametrize(("name", "version", "same"), [
    ("linux-image-6.1.0-56-cloud-arm64", "6.1", True),
    ("linux-image-6.12.1+deb13-cloud-arm64", "6.1", False),
    ("linux-image-6.12.1+deb13-cloud-arm64", "6.12.1+deb13-cloud-arm64", True),
    ("linux-image-7.3-cloud-arm64", "7.3", True),
    ("linux-image-rt-arm64", "6.1", False),
])
def test_of_version(name, version, same):
    assert fetch_linux.of_version(name, version) is same


@pytest.mark.parametrize("image", ["boot/vmlinuz-6.1.0-9", "usr/lib/modules/6.1.0-9/vmlinuz"])
@pytest.mark.parametrize("folder", ["", "kernels/"])
def test_a_cached_kernel_is_found_in_both_layouts(tmp_path, image, folder):
    path = tmp_path / f"{folder}linux-image-6.1.0-9-cloud-arm64" / image
    path.parent.mkdir(parents=True)
    path.touch()
    assert fetch_linux.fetch_kernel(tmp_path, "6.1") == path
    assert fetch_linux.cached_kernel(tmp_path, "6.12") is None
    assert fetch_linux.wanted(f"./{image}")


class FakeApt:
    """apt with two kernels in the system's sources, more when widened."""

    narrow = ("linux-image-6.1.0-9-cloud-arm64", "linux-image-6.1.0-10-cloud-arm64")
    wider = ("linux-image-7.2.1-cloud-arm64",)
    targets = "mirror/debian/ Debian\nmirror/debian-security/ Debian\nother Other\n"

    def __init__(self):
        self.wide = False
        self.unpacked = []

    def run(self, apt, tool, command, prefix=""):
        if command == "indextargets":
            return self.targets
        if prefix == "linux-binary-":
            return "linux-binary-7.2.1-cloud-arm64\n"
        self.wide = "Dir::Etc::sourceparts" in apt.conf.read_text()
        names = (*self.narrow, *self.wider) if self.wide else self.narrow
        return "\n".join(names) if command == "pkgnames" else ""

    def unpack(self, apt, package, name):
        self.unpacked.append(package)
        boot = apt.cache / name / "boot"
        boot.mkdir(parents=True)
        (boot / "vmlinuz-x").touch()


@pytest.fixture
def apt(monkeypatch):
    fake = FakeApt()
    monkeypatch.setattr(fetch_linux.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(fetch_linux.Apt, "run", lambda a, *c, cwd=None: fake.run(a, *c[:3]))
    monkeypatch.setattr(fetch_linux.Apt, "unpack", lambda a, p, n: fake.unpack(a, p, n))
    return fake


def test_the_system_s_sources_first_then_the_other_suites(apt, tmp_path):
    assert fetch_linux.fetch_kernel(tmp_path, "6.1").parts[-3].endswith("6.1.0-10-cloud-arm64")
    assert not apt.wide
    fetch_linux.fetch_kernel(tmp_path, "7.2")
    assert apt.unpacked == ["linux-image-6.1.0-10-cloud-arm64", "linux-binary-7.2.1-cloud-arm64"]
    suites = (tmp_path / "kernels/apt/sources/suites.list").read_text()
    assert suites.count("mirror/debian/ ") == len(fetch_linux.SUITES)
    assert "security" not in suites
    assert fetch_linux.cached_images(tmp_path) == []  # another version is not the newest


def test_a_kernel_nobody_offers(apt, tmp_path):
    with pytest.raises(fetch_linux.FetchError, match=r"no kernel 5\.5 .* it has 6\.1, 7\.2"):
        fetch_linux.fetch_kernel(tmp_path, "5.5")
    apt.targets = "other Other\n"
    with pytest.raises(fetch_linux.FetchError, match="name no Debian archive"):
        fetch_linux.fetch_kernel(tmp_path, "5.5")


def test_a_kernel_package_without_an_image(apt, tmp_path, monkeypatch):
    monkeypatch.setattr(apt, "unpack", lambda *_: None)
    with pytest.raises(fetch_linux.FetchError, match="holds no vmlinuz"):
        fetch_linux.fetch_kernel(tmp_path, "6.1")


def test_system_sources_are_copied(tmp_path):
    system = tmp_path / "etc"
    (system / "sources.list.d").mkdir(parents=True)
    for name in ("sources.list", "sources.list.d/a.sources", "sources.list.d/b.save"):
        (system / name).write_text(name)
    fetch_linux.copy_sources(system, tmp_path / "parts")
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["a.sources", "sources.list"]


# -- the real thing -------------------------------------------------------------------------


def test_a_real_kernel_answers(tmp_path):
    image = fetch_linux.cached_kernel(fetch_linux.default_cache(), "6.1")
    if image is None or shutil.which(machine.QEMU) is None:
        pytest.skip("needs qemu-system-aarch64 and `python tools/fetch_linux.py`")
    if subprocess.run([sys.executable, "-c", "import ziglang"], check=False,
                      capture_output=True).returncode:
        pytest.skip("needs ziglang")
    plan = Plan()
    plan.machine()
    plan.call(ids.PSCI_VERSION)
    plan.call(ids.PSCI_VERSION, el=0)
    plan.add("sing")
    results = machine.carry_out(image, "cortex-a72", plan.lines, tmp_path)
    *_, one, two, three = results.lines
    assert results.release.startswith("6.1.")
    assert "mode initialized" in results.mode
    assert parse_result(CALL, one)["x"] == PAIRS[1][1]["x"]
    assert " vector=400 esr=2000000 elr=10000 " in two
    assert three == " unknown=sing"

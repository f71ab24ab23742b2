"""Blocks' costs on disk: the next process finds them, and nothing in a file does harm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.cycles import block_cache
from emu.cycles.block_cache import MAGIC, MOST_BYTES, BlockCache, folder, key, path_of
from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import BlockCost
from engine_kit import NOP, WFI, b, code
from places import ROOT
from timing_kit import ByWord

HVC_LOOP = ROOT / "guests" / "bin" / "hvc_loop.elf"
in_tmp = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@st.composite
def block_costs(draw: st.DrawFn) -> tuple[bytes, BlockCost]:
    """A block of one to twenty words, with any cost."""
    steps = draw(st.lists(st.integers(0, 100_000), min_size=1, max_size=20))
    block = draw(st.binary(min_size=4 * len(steps), max_size=4 * len(steps)))
    prefix = [0]
    for step in steps:
        prefix.append(prefix[-1] + step)
    return block, BlockCost(tuple(prefix), draw(st.integers(0, len(steps))))


BLOCKS = st.lists(block_costs(), max_size=30, unique_by=lambda item: item[0]).map(dict)


def cost_of(block: bytes) -> BlockCost:
    return ByWord().block(block)


def some(count: int, first: int = 0) -> dict[bytes, BlockCost]:
    blocks = [code(NOP, b(n + first), WFI) for n in range(count)]
    return {block: cost_of(block) for block in blocks}


def known(path: Path, blocks: dict[bytes, BlockCost]) -> dict[bytes, BlockCost]:
    """Those of these blocks that a file knows, with the cost it tells."""
    cache = BlockCache(path)
    found = {block: cache.find(block) for block in blocks}
    return {block: cost for block, cost in found.items() if cost is not None}


@in_tmp
@given(first=BLOCKS, second=BLOCKS)
def test_round_trip(tmp_path, first, second):
    """What was kept is found; what was there before as well."""
    path = tmp_path / "made" / "x.blocks"
    path.unlink(missing_ok=True)
    assert BlockCache(path).keep(first.items())
    assert known(path, first) == first
    assert BlockCache(path).keep(second.items())
    both = first | second
    assert known(path, both) == both
    assert len(BlockCache(path)) == len(both)
    unknown = {
        block + bytes(4): cost for block, cost in both.items() if block + bytes(4) not in both
    }
    assert known(path, unknown) == {}
    assert [name.name for name in path.parent.iterdir()] == ["x.blocks"], "nothing else is left"


def test_the_file_does_not_depend_on_the_order(tmp_path):
    blocks = list(some(20).items())
    for name, order in (("a", blocks), ("b", blocks[::-1])):
        BlockCache(tmp_path / name).keep(order)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@in_tmp
@given(at=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_damaged_byte_is_a_miss_and_never_another_cost(tmp_path, at, value):
    path, blocks = tmp_path / "x.blocks", some(12)
    BlockCache(path).keep(blocks.items())
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= value
    path.write_bytes(data)
    assert known(path, blocks).items() <= blocks.items()
    assert BlockCache(path).keep(blocks.items())
    assert known(path, blocks) == blocks, "and it is mended"


def test_one_damaged_record_is_the_only_one_lost(tmp_path):
    path, blocks = tmp_path / "x.blocks", some(12)
    BlockCache(path).keep(blocks.items())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert len(known(path, blocks)) == 11


@in_tmp
@given(length=st.integers(0, 1_000))
def test_a_file_cut_short_is_a_miss(tmp_path, length):
    path, blocks = tmp_path / "x.blocks", some(12)
    BlockCache(path).keep(blocks.items())
    path.write_bytes(path.read_bytes()[:length])
    assert known(path, blocks).items() <= blocks.items()
    assert BlockCache(path).keep(blocks.items())
    assert known(path, blocks) == blocks


FOREIGN = {
    "empty": b"",
    "text": b"not a cache\n" * 100,
    "another version": MAGIC.replace(b"1", b"0") + bytes(8),
    "more records than bytes": MAGIC + (1 << 40).to_bytes(8, "little") + bytes(100),
    "as many as can be": MAGIC + b"\xff" * 200,
    "records nowhere": MAGIC + (1).to_bytes(8, "little") + bytes(8) + b"\xff" * 4,
}


def test_a_block_with_the_hash_of_another_is_a_miss(tmp_path, monkeypatch):
    monkeypatch.setattr(block_cache, "_hash", lambda _code: 7)
    path, blocks = tmp_path / "x.blocks", some(3)
    BlockCache(path).keep(blocks.items())
    assert len(known(path, blocks)) == 1, "and that is its own cost"
    assert known(path, blocks).items() <= blocks.items()
    assert known(path, some(1, first=50)) == {}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=list(FOREIGN))
def test_a_foreign_file_is_a_miss(tmp_path, data):
    path, blocks = tmp_path / "x.blocks", some(3)
    path.write_bytes(data)
    assert known(path, blocks) == {}
    assert BlockCache(path).keep(blocks.items())
    assert known(path, blocks) == blocks


@in_tmp
@given(data=st.binary(max_size=300))
def test_any_bytes_behind_the_magic_are_no_error(tmp_path, data):
    path = tmp_path / "x.blocks"
    path.write_bytes(MAGIC + data)
    assert known(path, some(3)) == {}


def test_a_folder_in_its_place_is_a_miss(tmp_path):
    path = tmp_path / "x.blocks"
    path.mkdir()
    assert known(path, some(3)) == {}
    assert not BlockCache(path).keep(some(3).items())
    assert list(tmp_path.iterdir()) == [path], "nothing half written is left"


def test_two_writers(tmp_path):
    """Whoever is last has the file; who reads an older one goes on reading it."""
    path, mine, yours = tmp_path / "x.blocks", some(10), some(10, first=100)
    BlockCache(path).keep(some(1).items())
    me, you = BlockCache(path), BlockCache(path)
    assert me.keep(mine.items())
    assert you.keep(yours.items())
    assert known(path, yours) == yours
    assert known(path, mine).items() <= mine.items()
    assert me.find(next(iter(some(1)))) is not None
    assert sorted(name.name for name in tmp_path.iterdir()) == ["x.blocks"]


def test_writers_at_once(tmp_path):
    """Four processes: the file is one of theirs, whole."""
    path = tmp_path / "x.blocks"
    script = (
        "import sys; sys.path[:0] = ['tests', 'tests/cycles', '.']\n"
        "from test_block_cache import BlockCache, Path, some\n"
        "for _ in range(20): assert BlockCache(Path(sys.argv[1])).keep(\n"
        "    some(200, 1000 * int(sys.argv[2])).items())\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), str(n)], cwd=ROOT)
        for n in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    whole = [n for n in range(4) if len(known(path, some(200, 1000 * n))) == 200]
    assert whole
    assert sorted(name.name for name in tmp_path.iterdir()) == ["x.blocks"]


def test_a_folder_that_cannot_be_made_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "deeper" / "x.blocks"
    assert known(path, some(2)) == {}
    assert not BlockCache(path).keep(some(2).items())


@pytest.mark.parametrize("failing", ["write", "writelines", "replace", "mkstemp"])
def test_a_full_disk_is_no_cache(tmp_path, monkeypatch, failing):
    """Whichever call meets it; what was there stays, and nothing half written does."""
    import tempfile

    path, before = tmp_path / "x.blocks", some(3)
    BlockCache(path).keep(before.items())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "replace":
        monkeypatch.setattr(os, "replace", full)
    elif failing == "mkstemp":
        monkeypatch.setattr(tempfile, "mkstemp", full)
    else:
        real = os.fdopen

        class Full:
            def __init__(self, handle: int, mode: str) -> None:
                self.file = real(handle, mode)

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def write(self, data: bytes) -> None:
                if failing == "write":
                    full()
                self.file.write(data)

            def writelines(self, _data: object) -> None:
                full()

        monkeypatch.setattr(os, "fdopen", Full)
    assert not BlockCache(path).keep(some(30).items())
    monkeypatch.undo()
    assert known(path, some(30)) == before
    assert [name.name for name in tmp_path.iterdir()] == ["x.blocks"]


def test_what_older_models_have_left_goes(tmp_path):
    """Of the same core, and nothing else that lies there."""
    others = ["cortex-a53-0123456789abcdef.blocks", "cortex-a55-0123456789abcdef.blocks",
              "cortex-a53-mine.blocks", "notes.txt"]  # fmt: skip
    for name in others:
        (tmp_path / name).write_text(name)
    BlockCache(tmp_path / f"cortex-a53-{key()}.blocks").keep(some(1).items())
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*others[1:], f"cortex-a53-{key()}.blocks"])


def test_without_a_path_nothing_is_kept():
    cache = BlockCache(None)
    assert len(cache) == 0
    assert cache.find(code(NOP)) is None
    assert not cache.keep(some(1).items())


def test_a_file_that_has_grown_too_large_is_begun_anew(tmp_path, monkeypatch):
    path = tmp_path / "x.blocks"
    BlockCache(path).keep(some(30).items())
    monkeypatch.setattr(block_cache, "MOST_BYTES", 1_000)
    assert BlockCache(path).keep(some(5, first=50).items())
    assert len(BlockCache(path)) == 5
    assert MOST_BYTES > 4 << 20, "a boot of Linux has room"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HVCEMU_CACHE": "0"}, None),
        ({"HVCEMU_CACHE": "/some/where"}, Path("/some/where")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/hvcemu/blocks")),
        ({"HOME": "/home/someone"}, Path("/home/someone/.cache/hvcemu/blocks")),
        ({"HOME": "/home/someone", "XDG_CACHE_HOME": ""},
         Path("/home/someone/.cache/hvcemu/blocks")),
    ],
)  # fmt: skip
def test_where_caches_lie(monkeypatch, environment, expected):
    for name in ("HVCEMU_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert folder() == expected
    path = path_of("cortex-a53")
    assert path == (expected and expected / f"cortex-a53-{key()}.blocks")


def test_the_key_changes_with_what_costs_depend_on(tmp_path, monkeypatch):
    """The sources of the models and their tables, and nothing that Python leaves beside them."""
    inside = ("cores/little.py", "cores/tables.json", "model.py", "block_costs.py",
              "system_prices.py")  # fmt: skip
    counts = ("../arm/a64.py", *inside)
    here = tmp_path / "cycles"
    (here / "cores").mkdir(parents=True)
    (tmp_path / "arm").mkdir()
    for name in (*counts, "block_cache.py"):
        (here / name).write_text(name)
    monkeypatch.setattr(block_cache, "__file__", str(here / "block_cache.py"))

    def digest() -> str:
        return key.__wrapped__()

    before = digest()
    assert digest() == before
    (here / "cores" / "little.pyc").write_bytes(b"compiled")
    (here / "tracks.py").write_text("something else")
    assert digest() == before
    seen = {before}
    for name in counts:
        (here / name).write_text(name + " changed")
        assert digest() not in seen, name
        seen.add(digest())


def run(cache: str, *more: str) -> str:
    """The last lines of a run with a core model, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "emu", "run", str(HVC_LOOP), "--core", "cortex-a53", "--max-cycles",
         "200000", "--stats", *more],
        env=os.environ | {"HVCEMU_CACHE": cache}, capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 124, done.stderr
    return done.stdout + re.sub(r"after [\d.]+ s", "", done.stderr)  # how long the host took


def test_a_second_process_finds_what_the_first_kept(tmp_path):
    """And both say the same, which is what a process without a cache says."""
    without = run("0")
    assert list(tmp_path.iterdir()) == []
    first = run(str(tmp_path / "cache"))
    (path,) = (tmp_path / "cache").iterdir()
    kept = path.read_bytes()
    assert len(BlockCache(path)) > 5
    os.utime(path, (0, 0))
    second = run(str(tmp_path / "cache"))
    assert path.read_bytes() == kept
    assert path.stat().st_mtime == 0, "nothing new, nothing written"
    assert without == first == second


def test_an_unwritable_cache_changes_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(str(tmp_path / "file" / "cache")) == run("0")


def test_what_a_cache_knows_the_model_is_not_asked(tmp_path):
    path, blocks = tmp_path / "x.blocks", some(4)
    BlockCache(path).keep(blocks.items())
    model = ByWord()
    charges = BlockCosts(model, BlockCache(path))
    assert [charges.find(block).cost for block in blocks] == list(blocks.values())
    assert model.asked == []

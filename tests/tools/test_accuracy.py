"""The accuracy table: what is compared, and how it gets into a page."""

from __future__ import annotations

import accuracy
import pytest

from emu.base.errors import EmuError
from emu.machine.timing import Timing
from engine_kit import add, ldr, mov, subs, svc
from program_kit import EXIT, elf

LOOPS = accuracy.ROOT / "guests" / "bin" / "latency_loops.elf"
TURN = [add(2, 2, 1), subs(1, 1, 1), 0xB500_0000 | (-2 & 0x7_FFFF) << 5 | 1]


@pytest.fixture
def program(tmp_path):
    """Turns so often as its first argument has characters, a thousand times."""
    path = tmp_path / "program"
    strlen = [ldr(9, 31) | 2 << 10, mov_zero(1), 0x3840_1520, 0x9100_0421, 0xB5FF_FFC0]
    times = [*mov(3, 1000), 0x9B03_7C21]  # mul x1, x1, x3
    path.write_bytes(elf([*strlen, *times, *TURN, *mov(8, EXIT), svc()]))
    return accuracy.Program(path, None)


def mov_zero(rd: int) -> int:
    return mov(rd, 0)[0]


def test_what_a_longer_run_takes_more(program):
    found = accuracy.difference(program, "{}", (300, 20), "flat", Timing.BLOCK)
    assert found * 280 == pytest.approx(1000 * len(TURN) + 3), "three digits are one more than two"


def test_mispredictions_are_charged(program):
    block, branch, cache = accuracy.each(program, "{}", (300, 20), "cortex-a53")
    assert branch == pytest.approx(block, rel=0.02), "a loop is easily predicted"
    assert cache == branch, "and is in the cache"
    assert accuracy.each(program, "{}", (300, 20), "neoverse-v1")[2] == 0
    assert accuracy.run(program, "1", "cortex-a53", Timing.BRANCH) > accuracy.run(
        program, "1", "cortex-a53", Timing.BLOCK
    )


def test_coremark_is_compared_where_it_was_measured(monkeypatch):
    monkeypatch.setattr(accuracy, "difference", lambda *_: 300_000)
    rows = list(accuracy.coremark(accuracy.Program(LOOPS, None), ["cortex-a53", "cortex-a57"]))
    assert "| 307,977 | 300,000 (-2.6 %) | 300,000 (-2.6 %) |" in accuracy.table(rows)
    assert "| CoreMark, cycles | cortex-a57 | - | 300,000 | 300,000 |" in accuracy.table(rows)


def test_dhrystone_is_a_rate(monkeypatch):
    monkeypatch.setattr(accuracy, "difference", lambda *_: 200)
    row = next(accuracy.dhrystone(accuracy.Program(LOOPS, None), ["cortex-a53"]))
    assert (round(row.block, 2), row.measured) == (2.85, "2.75 to 2.91")


def test_the_loops_are_near_what_ti_measured():
    rows = list(accuracy.loops(LOOPS, ["cortex-a53", "cortex-a72"]))
    assert len(rows) == 24
    for row in rows:
        assert abs(row.block / row.truth - 1) < 0.1, row


def test_every_core_has_a_latency_for_every_loop():
    from emu.images.elf import load_elf
    from emu.images.image import Ram, Wish

    image = load_elf(LOOPS.read_bytes(), Wish(str(LOOPS), Ram(), None, None))
    for kind, name in accuracy.LOOPS:
        (block,) = accuracy.loop_code(image, f"{kind}_{name}")
        assert len(block) == 4 * (accuracy.OPERATIONS + 2)
    with pytest.raises(EmuError, match="no symbol latency_nothing"):
        accuracy.loop_code(image, "latency_nothing")
    with pytest.raises(EmuError, match="no loop in "):
        accuracy.loop_code(image, "install_vectors")


def test_it_is_written_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n{}\nold\n{}\nafter\n".format(*accuracy.MARKS))
    accuracy.write(page, "| new |\n")
    assert page.read_text() == "before\n{}\n| new |\n{}\nafter\n".format(*accuracy.MARKS)
    accuracy.write(page, "| new |\n")
    page.write_text("no marks")
    with pytest.raises(EmuError, match="must stand once each"):
        accuracy.write(page, "")


def test_the_command_line(tmp_path, capsys):
    assert accuracy.main(["--core", "cortex-a53"]) == 0
    assert "| latency of load | 3 | 3 |" in capsys.readouterr().out
    assert accuracy.main(["--coremark", str(tmp_path / "none")]) == 2
    assert "accuracy: " in capsys.readouterr().err

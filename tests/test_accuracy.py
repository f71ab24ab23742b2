"""The accuracy table: what is compared, and how it gets into a page."""

from __future__ import annotations

from collections import Counter

import accuracy
import pytest
from record_blocks import Recording

from cores_kit import RET, code
from emu.cores import core
from emu.errors import EmuError
from engine_kit import add

LOOPS = accuracy.ROOT / "guests" / "bin" / "latency_loops.elf"
BLOCK = code(add(0, 0, 1), RET)


def recording(count: int) -> Recording:
    return Recording(Counter({(0x4000, BLOCK): count}), Counter(), 2 * count)


def test_cycles_are_counts_times_costs():
    assert accuracy.cycles(recording(1000), core("flat")) == 2000


def test_coremark_is_compared_where_it_was_measured():
    rows = list(accuracy.coremark(recording(1_000_000), ["cortex-a53", "cortex-a57"]))
    assert rows[0].measured == "307,977"
    assert rows[0].error.endswith(" %")
    assert (rows[1].measured, rows[1].error) == ("-", "-")


def test_dhrystone_is_a_rate():
    row = next(accuracy.dhrystone(recording(1_000_000), ["cortex-a53"]))
    assert row.measured == "2.75 to 2.91"
    assert row.model == pytest.approx(
        1e6 * 2000 / accuracy.cycles(recording(1_000_000), core("cortex-a53")) / 1757, abs=0.01
    )


def test_the_loops_are_near_what_ti_measured():
    rows = list(accuracy.loops(LOOPS, ["cortex-a53", "cortex-a72"]))
    assert len(rows) == 24
    for row in rows:
        assert abs(row.model / float(row.measured) - 1) < 0.1, row


def test_every_core_has_a_latency_for_every_loop():
    from emu.elf import load_elf
    from emu.image import Ram, Wish

    image = load_elf(LOOPS.read_bytes(), Wish(str(LOOPS), Ram(), None, None))
    for kind, name in accuracy.LOOPS:
        (block,) = accuracy.loop_code(image, f"{kind}_{name}")
        assert len(block) == 4 * (accuracy.OPERATIONS + 2)
    with pytest.raises(EmuError, match="no symbol latency_nothing"):
        accuracy.loop_code(image, "latency_nothing")
    with pytest.raises(EmuError, match="no loop in "):
        accuracy.loop_code(image, "install_vectors")


def test_the_table():
    rows = [accuracy.Row("CoreMark, cycles", "cortex-a53", 298080, "307,977", "-3.2 %")]
    assert "| CoreMark, cycles | cortex-a53 | 298,080 | 307,977 | -3.2 % |" in accuracy.table(rows)


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
    assert "| latency load | cortex-a53 | 3.0" in capsys.readouterr().out
    assert accuracy.main(["--coremark", str(tmp_path / "none")]) == 2
    assert "accuracy: " in capsys.readouterr().err

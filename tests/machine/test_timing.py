"""How closely time is modelled: what a name means on a core, and whose costs are shared."""

from __future__ import annotations

import subprocess
import sys

import pytest

from emu.arm.cores import CORES, DEFAULT_CORE, TIMED
from emu.base.errors import EmuError
from emu.cycles.block_cache import BlockCache
from emu.cycles.block_costs import BlockCosts
from emu.cycles.cores import cached
from emu.machine import timing
from emu.machine.timing import Timing, block_costs_of, choose_timing, keep_block_costs
from emu.machine.vm import Vm
from engine_kit import NOP, WFI, code
from timing_kit import ByWord

UNTIMED = [core for core in CORES if core not in TIMED]


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has asked for no core yet."""
    monkeypatch.setattr(timing, "_opened", {})
    monkeypatch.setattr("atexit.register", lambda *_: None)


def test_the_cores_that_have_times():
    """The issue's list, and those whose tables they share."""
    assert {
        "cortex-a53",
        "cortex-a55",
        "cortex-a57",
        "cortex-a72",
        "cortex-a76",
        "neoverse-n1",
    } <= {*TIMED}
    assert set(UNTIMED) <= set(CORES)


@pytest.mark.parametrize("core", CORES)
def test_the_closest_there_is_unless_a_name_is_given(core):
    assert choose_timing(core, None) is (Timing.FLAT if core in UNTIMED else Timing.BLOCK)
    assert choose_timing(core, "flat") is Timing.FLAT


@pytest.mark.parametrize("core", TIMED)
@pytest.mark.parametrize("name", [name for name in Timing if name is not Timing.CACHE])
def test_every_name_on_a_core_with_times(core, name):
    assert choose_timing(core, str(name)) is name


@pytest.mark.parametrize("core", TIMED)
def test_caches_where_somebody_has_measured_them(core):
    if core in cached():
        assert choose_timing(core, "cache") is Timing.CACHE
    else:
        with pytest.raises(EmuError, match=f"nobody we can cite has measured the caches of {core}"):
            choose_timing(core, "cache")
        with pytest.raises(EmuError, match="there is cortex-a53, "):
            Vm(core=core, timing="cache")


def test_caches_need_branches_predicted():
    assert [timing for timing in Timing if timing.predicts] == [Timing.BRANCH, Timing.CACHE]


@pytest.mark.parametrize("core", UNTIMED)
@pytest.mark.parametrize("name", [name for name in Timing if name is not Timing.FLAT])
def test_what_needs_times_is_refused_without_them(core, name):
    with pytest.raises(EmuError, match=f"--timing {name} needs a --core whose times are known: "):
        choose_timing(core, str(name))


@pytest.mark.parametrize(
    ("core", "name", "message"),
    [
        ("cortex-a99", None, r"no core 'cortex-a99'; there is .*cortex-a53"),
        ("", "block", "no core ''"),
        ("cortex-a53", "exact", "--timing exact: it is one of flat, block"),
        ("cortex-a53", "", "--timing : it is one of"),
    ],
)
def test_names_that_mean_nothing(core, name, message):
    with pytest.raises(EmuError, match=message):
        choose_timing(core, name)
    with pytest.raises(EmuError, match=message):
        Vm(core=core, timing=name)


@pytest.mark.usefixtures("fresh")
def test_one_set_of_charges_for_each_core():
    assert block_costs_of("cortex-a53") is block_costs_of("cortex-a53")
    assert block_costs_of("cortex-a53") is not block_costs_of("cortex-a55")
    assert block_costs_of("cortex-a53").model.name == "cortex-a53"
    assert block_costs_of("cortex-a53", Timing.CACHE) is not block_costs_of("cortex-a53")
    assert block_costs_of("cortex-a53", Timing.BRANCH) is block_costs_of("cortex-a53")


@pytest.mark.usefixtures("fresh")
def test_a_core_without_times_is_flat_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HVCEMU_CACHE", str(tmp_path))
    charges = block_costs_of(DEFAULT_CORE)
    assert charges.find(code(NOP, WFI)).cost.prefix == (0, 16, 32)
    keep_block_costs()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("fresh")
def test_what_was_worked_out_is_kept_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HVCEMU_CACHE", str(tmp_path))
    charges = block_costs_of("cortex-a53")
    charges.find(code(NOP, WFI))
    keep_block_costs()
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("cortex-a53-")
    assert BlockCache(path).find(code(NOP, WFI)) == charges.find(code(NOP, WFI)).cost
    assert charges.fresh == {}
    path.unlink()
    keep_block_costs()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("fresh")
def test_two_sets_of_one_core_are_kept_in_one_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HVCEMU_CACHE", str(tmp_path))
    block_costs_of("cortex-a53").find(code(NOP, WFI))
    block_costs_of("cortex-a53", Timing.CACHE).find(code(NOP, NOP, WFI))
    keep_block_costs()
    (path,) = tmp_path.iterdir()
    assert len(BlockCache(path)) == 2


def test_what_cannot_be_kept_stays_to_be_kept(monkeypatch):
    charges = BlockCosts(ByWord())
    charges.find(code(NOP))
    monkeypatch.setattr(timing, "_opened", {"by-word": (charges, BlockCache(None))})
    keep_block_costs()
    assert charges.fresh.keys() == {code(NOP)}


def test_most_runs_load_no_tables():
    """A guest on the default core starts as quickly as before there were core models."""
    script = (
        "import sys; from emu.machine.vm import Vm; Vm('guests/bin/hello.elf').run(1000)\n"
        "print([name for name in sys.modules if name.startswith(('emu.cycles.cores', 'emu.arm.a64',"
        " 'emu.cycles.block_cache', 'emu.cycles.trap_prices'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"

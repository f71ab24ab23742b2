"""Functions called from Python: values, calls, writes, and every way not to come back."""

from __future__ import annotations

import gc
import struct
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import places
from emu import Block, Instrument, Returned, Vm
from emu.arm import arch
from emu.arm.timers import NEVER
from emu.base import exits
from emu.base.errors import EmuError
from emu.base.exits import EventKind
from emu.base.smccc import UNDEF, Ret
from emu.engine.engine import MONITOR
from emu.world.service import MpState
from engine_kit import HALVES, Recorder, brk, code, go, halves, machine
from image_kit import BASE

BIN = places.GUESTS
DISCOVERY, CORNERS = BIN / "discovery.o", BIN / "corners.o"
PSCI_VERSION, SMCCC_VERSION, SYSTEM_OFF = 0x8400_0000, 0x8000_0000, 0x8400_0008
RET, HVC = 0xD65F_03C0, 0xD400_0002
ONES = 2**64 - 1


def new(native: bool | None = None, **more) -> Vm:
    """The committed objects; `report` returns 5 unless a stub is given."""
    stubs = {"report": 5} | more.pop("stubs", {})
    return Vm(DISCOVERY, libraries=[CORNERS], stubs=stubs, native=native, **more)


@pytest.fixture(params=HALVES)
def vm(request) -> Vm:
    return new(request.param, cpus=2)


@pytest.fixture(scope="module")
def shared() -> Vm:
    return new()


# -- what comes back ----------------------------------------------------------------------------


def test_value_calls_and_writes(vm):
    done = vm.call("smccc_discover", 0)
    assert (done.value, done.ok, done.exit, done.clobbered) == (0x1_0001, True, None, ())
    assert [record.call.x[0] for record in done.calls] == [PSCI_VERSION, 0x8400_000A, SMCCC_VERSION]
    assert done.calls[2].answer == Ret.value(0x1_0001)
    assert [(w.name, w.before, w.after) for w in done.writes] == [
        ("last_owner", b"\xff\xff", b"\0\0"), ("asked", b"\0", b"\1"), ("questions", b"\0", b"\3"),
    ]  # fmt: skip
    assert done.wrote(vm.symbol("questions")) == done.writes[2:]
    assert done.wrote(vm.symbol("findings")) == ()
    assert vm.symbol("questions").word(size=4) == 3
    assert done.instructions == done.cycles > 20
    assert vm.call("smccc_discover", 0x1_0002).int32 == -1


def test_memory_stays_for_the_next_call(vm):
    assert [vm.call("remember", n).value for n in (7, 8, 9)] == [0, 7, 8]
    assert vm.call("remember", 9).writes == ()


@given(st.lists(st.integers(-(1 << 63), ONES), min_size=10, max_size=10))
def test_arguments_in_registers_and_on_the_stack(shared, args):
    expected = sum(n * value for n, value in enumerate(args, 1)) % (1 << 64)
    done = shared.call("sum", *args)
    assert (done.value, done.ok) == (expected, True)
    assert done.signed == expected - (1 << 64) * (expected >> 63)


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_narrow_values(shared, number):
    done = shared.call("negate", number)
    assert done.w0 == -number % (1 << 32)
    assert done.int32 == (number if number == -(1 << 31) else -number)


def test_what_is_passed_by_pointer(vm):
    assert vm.call("length", "naïve").value == 6
    assert vm.call("length", b"ab\0cd").value == 2
    text = bytearray(b"abcdef")
    done = vm.call("reverse", text, 6)
    assert text == b"fedcba"
    assert [(w.before, w.after) for w in done.writes] == [(b"abcdef", b"fedcba")]
    constant = b"abc"
    vm.call("reverse", constant, 3)
    assert constant == b"abc"


def test_buffers_stay(vm):
    buffer = vm.buffer(b"12345678")
    vm.call("reverse", buffer, 8)
    vm.call("length", "x" * 100)
    assert bytes(buffer) == b"87654321"
    assert (len(buffer), int(buffer), vm.call("load", buffer).value) == (
        8, buffer.address, int.from_bytes(b"87654321", "little"),
    )  # fmt: skip
    buffer.write(b"\0!", 2)
    assert (buffer.text, buffer.read(2, 2), buffer.word(1, 4)) == ("87", b"\0!", 0x31323334)
    assert vm.call("load", vm.buffer(8)).value == 0
    assert repr(buffer) == f"Block({buffer.address:#x}, 8)"


def test_a_large_result(vm):
    place = vm.buffer(32)
    done = vm.call("four", PSCI_VERSION, result=place)
    assert struct.unpack("<4Q", bytes(place)) == (0x1_0001, 0x1_0002, 0x1_0003, 0x1_0004)
    assert done.wrote(place)
    assert done.calls[0].call.x[1] == 7


def test_symbols_and_memory(vm):
    greeting = vm.symbol("greeting")
    assert (greeting.text, len(greeting)) == ("hello, object", 14)
    assert vm.memory(greeting).text == "hello, object"
    assert vm.memory(vm.ram.end - 4, 4).read() == bytes(4)
    vm.memory(vm.ram.end - 2).write(b"ok")
    with pytest.raises(EmuError, match=r"1 bytes at .* are not in the guest's memory"):
        _ = vm.memory(vm.ram.end - 2).text
    assert vm.call(vm.symbol("psci_version")).value == 0x1_0001
    assert vm.call(vm.symbol("psci_version").address).value == 0x1_0001


def test_relocations_work(vm):
    assert vm.call("addresses").value == 0
    assert [vm.call("branches", n).value for n in range(4)] == [1, 2, 1, 1]
    assert vm.call("call_and_return").value == 0x1_0001
    distances = vm.symbol("distances")
    landed = vm.symbol("landed").address
    assert distances.word(0) == (landed - distances.address) % (1 << 64)
    assert distances.word(2, 4) == (landed - distances.address - 8) % (1 << 32)


@halves
def test_the_halves_agree_on_everything(native):
    calls = (
        ("discover",), ("sum", *range(10)), ("clobbers",), ("spin",), ("recurse", 0), ("traps",),
        ("load", 1), ("start", 1, 99), ("returns_elsewhere", 0x1234), ("sleeps",),
    )  # fmt: skip
    here, python = new(native, cpus=2), new(False, cpus=2)
    for name, *args in calls:
        assert here.call(name, *args, max_cycles=50_000) == python.call(
            name, *args, max_cycles=50_000
        )
    assert here.stats() == python.stats()


# -- stubs --------------------------------------------------------------------------------------


@halves
def test_a_stub_in_python(native):
    seen = []

    def report(name: int, value: int) -> int:
        seen.append((vm.memory(name).text, value))
        return len(seen)

    vm = new(native, stubs={"report": report})
    done = vm.call("discover")
    assert seen == [("psci", 0x1_0001), ("trng", 0x1_0000), ("pv_time", 0)]
    assert (done.value, vm.symbol("common_total").word()) == (3, 1 + 2 + 3)
    findings = vm.symbol("findings")
    assert vm.memory(findings.word(2)).text == "trng"


def test_stubs_as_numbers_bytes_and_for_what_is_defined():
    vm = new(stubs={"psci_version": -1, "greeting": b"hi\0", "note": lambda found: None})
    assert vm.call("psci_version").signed == -1
    assert vm.symbol("greeting").text == "hi"
    done = vm.call("discover")
    assert done.value == 2
    assert vm.symbol("common_total").word() == 5 * 2


@pytest.mark.parametrize(
    ("stub", "given"),
    [
        (lambda: 1, ()),
        (lambda a, b: a - b, (9, 8)),
        (lambda *args: len(args), tuple(range(9, 1, -1))),
        (lambda a, b=0, *, c=3: a, (9, 8)),
        (abs, (9,)),
        (bool, (9,)),
    ],
)
def test_a_stub_gets_as_many_as_it_takes(stub, given):
    vm = new(stubs={"sum": stub})
    assert vm.call("sum", 9, 8, 7, 6, 5, 4, 3, 2, 1, 0).value == stub(*given)


@halves
def test_an_error_in_a_stub_comes_out(native):
    vm = new(native, stubs={"report": lambda: 1 // 0})
    with pytest.raises(ZeroDivisionError):
        vm.call("discover")
    assert vm.call("sum", *range(10)).value == 330
    vm = new(native, stubs={"sum": lambda: "text", "psci_version": lambda: 1 << 64})
    with pytest.raises(EmuError, match="the stub for sum returned 'text': a number is needed"):
        vm.call("sum")
    with pytest.raises(EmuError, match="does not fit into 64 bits"):
        vm.call("psci_version")


def test_no_call_inside_a_call():
    vm = new(stubs={"report": lambda: vm.call("psci_version").value})
    with pytest.raises(EmuError, match="return from the stub"):
        vm.call("discover")


def test_a_stub_works_in_a_program_that_runs():
    said = []
    vm = Vm(BIN / "hello.elf", stubs={"puts": lambda text: said.append(vm.memory(text).text)})
    exit = vm.run()
    assert not isinstance(exit, exits.Fault)
    assert said
    assert said[0] not in str(vm.console)


# -- every way not to come back -----------------------------------------------------------------


def test_a_deadline(vm):
    done = vm.call("spin", max_cycles=1000)
    assert isinstance(done.exit, exits.Deadline)
    assert 1000 <= done.cycles < 1010
    assert not done.ok
    assert vm.call("negate", 1).int32 == -1


FAULTS = {
    "data abort": (("load", 0x10), "exception at load: data abort.*, address 0x10$", "load"),
    "wild return": (("returns_elsewhere", 0x1234), "at 0x1234: instruction abort", 0x1234),
    "wild return into zeros": (
        ("returns_elsewhere", BASE + 0x200_0000), "undefined instruction", BASE + 0x200_0000,
    ),
    "SVC": (("traps",), r"at traps: SVC #0x5", "traps"),
    "recursion": (("recurse", 0), "below the stack of 1 MiB: does the recursion end", None),
}  # fmt: skip


@pytest.mark.parametrize(("call", "says", "place"), FAULTS.values(), ids=FAULTS.keys())
def test_an_exception_ends_the_call(vm, call, says, place):
    done = vm.call(*call)
    assert isinstance(done.exit, exits.Fault)
    assert not done.clobbered
    with pytest.raises(EmuError, match=says):
        raise EmuError(done.exit.reason)
    if place is not None:
        assert done.exit.pc == (vm.symbol(place).address if isinstance(place, str) else place)
    assert done.exit.esr is not None
    assert vm.call("negate", 1).int32 == -1


def test_a_jump_into_the_trap_page_is_no_exception_and_no_return(vm):
    bench_page = vm.call("traps").exit and vm.bench.vectors
    for place in (bench_page, bench_page + 4, vm.bench.back + 4):
        done = vm.call("returns_elsewhere", place)
        assert isinstance(done.exit, exits.Fault)
        assert done.exit.pc == place


def test_the_return_address_means_nothing_to_a_run():
    vm = Vm(BIN / "hello.elf")
    vm.call("strlen", "x")
    vm.engine.set("PC", vm.bench.back)
    assert isinstance(vm.run(), exits.Fault)


def test_hvc_without_el2():
    done = new(profile="none").call("psci_version")
    assert isinstance(done.exit, exits.Fault)
    assert "psci_version+0x" in done.exit.reason
    assert "undefined instruction" in done.exit.reason


def test_it_waits_for_ever_or_switches_off(vm):
    assert isinstance(vm.call("sleeps").exit, exits.Wfi)
    assert isinstance(vm.call("secondary", 5).exit, exits.Wfi)  # its CPU_OFF
    off = vm.buffer(code(HVC, RET))
    done = vm.call(off, SYSTEM_OFF)
    assert isinstance(done.exit, exits.SystemEvent)
    assert done.exit.kind is EventKind.SHUTDOWN
    assert vm.call("psci_version").ok


def test_broken_rules_of_the_abi(vm):
    assert vm.call("clobbers").clobbered == ("x19", "x28")
    assert vm.call("leaks_stack").clobbered == ("sp",)
    clears = vm.buffer(code(0x2F00_E408, 0x2F00_E410, RET))  # movi d8, #0; movi d16, #0
    assert vm.call(clears).clobbered == ("d8",)


def test_the_state_a_function_finds(vm):
    words = [0x9100_03E0, 0xAA1D_03E1, RET]  # mov x0, sp; mov x1, x29
    done = vm.call(vm.buffer(code(*words)), *range(9))
    assert done.value % 16 == 0
    assert done.x1 == 0
    floating = vm.buffer(code(0x9E67_0000, 0x1E60_2800, 0x9E66_0000, RET))  # fmov, fadd d0, d0, d0
    one, two = (struct.unpack("<Q", struct.pack("<d", x))[0] for x in (1.5, 3.0))
    done = vm.call(floating, one)
    assert done.ok
    assert done.value == two


# -- other vCPUs, forwards, and what is left behind -----------------------------------------------


def test_another_cpu_runs_in_turn(vm):
    done = vm.call("start", 1, 99)
    assert (done.value, done.ok) == (99, True)
    assert {"secondary_context"} == {write.name for write in done.writes}
    assert vm.machine.mp_state(1) is not None
    assert vm.machine.mp_state(0) is MpState.STOPPED  # as an object's boot CPU is between calls
    assert vm.call("start", 7, 0).int32 == -2


def test_a_forwarded_call():
    vm = new()
    vm.filter(PSCI_VERSION, action="forward")
    done = vm.call("psci_version")
    assert isinstance(done.exit, exits.Hypercall)
    assert done.exit.call.x[0] == PSCI_VERSION
    done = vm.call("psci_version", on_forward=lambda call: 0x77)
    assert (done.value, [record.answer for record in done.calls]) == (0x77, [Ret.value(0x77)])
    assert vm.call("psci_version", on_forward=lambda call: Ret.only(5, 6)).value == 5
    assert isinstance(vm.call("psci_version", on_forward=lambda _: UNDEF).exit, exits.Fault)
    with pytest.raises(EmuError, match=r"on_forward answered .* with None: a number is needed"):
        vm.call("psci_version", on_forward=lambda call: None)


@halves
def test_a_program_without_its_start_code(native):
    vm = Vm(BIN / "smccc_discover.elf", native=native)
    ran = Vm(BIN / "smccc_discover.elf", native=native)
    ran.run()
    done = vm.call("main", vm.dtb)
    assert isinstance(done.exit, exits.SystemEvent)
    assert "nothing was used that was not announced" in str(vm.console)
    assert [r.call.x[0] for r in done.calls if r.call.x[0] == SMCCC_VERSION]
    assert str(vm.console).splitlines()[:5] == str(ran.console).splitlines()[:5]


def test_run_goes_on_as_if_there_had_been_no_call():
    """Registers, power states and an exit that waits for its answer are put back."""

    def through(disturb: bool) -> tuple[list[str], str]:
        vm = Vm(BIN / "psci_cpu_on.elf", cpus=2)
        vm.filter(PSCI_VERSION, action="forward")
        told = []
        for _ in range(100):
            exit = vm.run(3000)
            told.append(type(exit).__name__)
            if isinstance(exit, exits.SystemEvent):
                break
            if isinstance(exit, exits.Hypercall):
                exit.ret = Ret.value(0x1_0001)
            if disturb:
                registers = vm.engine.read_vcpu()
                assert vm.call("strlen", "four").value == 4
                assert vm.pending is exit
                assert vm.engine.read_vcpu() | dict.fromkeys(MONITOR) == registers | dict.fromkeys(
                    MONITOR
                )
        return [name for name in told if name != "Deadline"], str(vm.console)

    told, console = through(False)
    assert told[-1] == "SystemEvent"
    assert (told, console) == through(True)


def test_instruments_hear_of_its_calls():
    class Ear(Instrument):
        def __init__(self) -> None:
            self.heard: list[object] = []

        def on_call(self, record):
            self.heard.append(record)

        def on_exit(self, exit):
            self.heard.append(exit)

    ear = Ear()
    vm = new(instruments=[ear])
    done = vm.call("psci_version")
    assert ear.heard == list(done.calls)
    assert vm.instruments == [ear]


def test_a_saved_machine_can_be_called(tmp_path):
    vm = Vm(BIN / "hello.elf")
    assert vm.call("strlen", "four").value == 4
    vm.save(tmp_path / "saved")
    again = Vm.load(tmp_path / "saved")
    assert again.call("strlen", "seven").value == 5
    assert type(again.run()) is type(vm.run())


def test_nothing_keeps_a_finished_machine():
    vm = new(stubs={"report": lambda: 0})
    vm.call("discover")
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(vm.engine)
        del vm
        assert gone() is None
    finally:
        gc.enable()


# -- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "says"),
    [
        (("smcc_discover",), {}, "no symbol smcc_discover; did you mean smccc_discover"),
        (("Ω",), {}, "no symbol Ω; see its symbols with nm"),
        ((0x10,), {}, "no code to call at 0x10"),
        ((BASE + 2,), {}, "no code to call at"),
        (("sum", 1.5), {}, "argument 0 is 1.5: a number is needed"),
        (("sum", 0, 1 << 64), {}, "argument 1 is 0x10000000000000000, which does not fit"),
        (("sum", -(1 << 63) - 1), {}, "which does not fit"),
        (("sum", *[0] * 70_000), {}, "70000 arguments do not fit"),
        (("sum", None), {}, "argument 0 is None"),
        (("sum", bytes(65 << 20)), {}, "a buffer of 68157440 bytes: there are"),
        (("sum",), {"max_cycles": 0}, "needs at least one cycle"),
        (("sum",), {"result": 1 << 64}, "result= 0x1.* does not fit"),
    ],
)
def test_refused_calls(shared, args, options, says):
    with pytest.raises(EmuError, match=says) as caught:
        shared.call(*args, **options)
    assert "\n" not in str(caught.value)
    assert shared.call("negate", 1).int32 == -1


@pytest.mark.parametrize(
    ("stubs", "says"),
    [
        ({"report": "text"}, "the stub for report is 'text': give a function"),
        ({"report": 1 << 64}, "does not fit into 64 bits"),
        ({"reprot": 0}, "stubs=: .*no symbol reprot; did you mean report"),
        ({"greeting": bytes(100)}, "longer than its 14 bytes"),
    ],
)
def test_refused_stubs(stubs, says):
    with pytest.raises(EmuError, match=says):
        new(stubs=stubs)


@pytest.mark.parametrize("name", ["discovery.o", "corners.o"])
def test_the_command_line_does_not_run_objects(capsys, name):
    from emu.cli.main import main

    assert main(["run", str(BIN / name)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "is an object file that needs" in lines[0]
    assert "link it into a program to boot it" in lines[0]


def test_refused_machines():
    with pytest.raises(EmuError, match="needs report, secondary: give stubs="):
        Vm(DISCOVERY)
    with pytest.raises(EmuError, match="no CPU or no memory"):
        Vm(cpus=0).call(BASE)


def test_public_names():
    import emu

    assert (emu.Returned, emu.Block) == (Returned, Block)
    assert emu.Write("address", b"", b"").name == ""


# -- the trap in the engine -----------------------------------------------------------------------


@halves
def test_the_trap_is_undefined_where_nobody_put_it(native):
    words = (0x9100_0400, arch.WORD_HLT_TRAP)
    engine, other = machine(native, *words), machine(native, words[0], brk(0))
    traps = Recorder()
    go(engine, traps, until=NEVER)
    go(other, until=NEVER)
    assert [arch.exception_class(esr) for esr, *_ in traps.exceptions] == [arch.EC_UNKNOWN]
    assert (engine.instructions, engine.cycles) == (other.instructions, other.cycles)

"""What a word on the command line means."""

import argparse

import pytest

from emu.cli import arguments


@pytest.mark.parametrize(
    ("text", "value"),
    [("64M", 64 << 20), ("1g", 1 << 30), ("512KiB", 512 << 10), ("4096", 4096)],
)
def test_sizes(text, value):
    assert arguments.size(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x84000050", (0x8400_0050, 1)),
        ("0x8400_0050-0x8400_005F", (0x8400_0050, 16)),
        ("0x84000050+4", (0x8400_0050, 4)),
    ],
)
def test_ranges(text, value):
    assert arguments.id_range(text) == value


@pytest.mark.parametrize("text", ["", "-", "+1", "x-y", "0x84000050-"])
def test_broken_ranges(text):
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.id_range(text)


@pytest.mark.parametrize(
    ("function", "text", "value"),
    [
        (arguments.number, "0x8400_0000", 0x8400_0000), (arguments.number, "10", 10),
        (arguments.function_id, "0xFFFFFFFF", 0xFFFF_FFFF), (arguments.positive, "1", 1),
        (arguments.seconds, "2.5", 2.5), (arguments.register, "STD_BMAP=0x1", ("STD_BMAP", 1)),
        (arguments.services, "+trng,-ptp", [("trng", True), ("ptp", False)]),
        (arguments.forward, "0xC6000000+2=f.py:g", (0xC600_0000, 2, "f.py:g")),
        (arguments.forward, "1", (1, 1, "")),
        (arguments.trace_kinds, "calls, exceptions", {"calls", "exceptions"}),
        (arguments.several(arguments.number), "1, 2,,0x1", (1, 2)),
        (arguments.several(arguments.one_of("hvc", "smc")), "smc,hvc", ("smc", "hvc")),
        (arguments.percent, "2.5%", 2.5), (arguments.percent, "5", 5.0),
        (arguments.guest_status, "255", 255),
    ],
)  # fmt: skip
def test_words(function, text, value):
    assert function(text) == value


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (arguments.number, "-1"), (arguments.number, "1 << 64"), (arguments.number, str(1 << 64)),
        (arguments.function_id, "0x100000000"), (arguments.positive, "0"), (arguments.size, "-1M"),
        (arguments.seconds, "0"), (arguments.seconds, "nan"), (arguments.register, "X"),
        (arguments.services, "trng"), (arguments.services, "+"), (arguments.trace_kinds, "all"),
        (arguments.several(arguments.number), ","), (arguments.several(arguments.size), "64M,x"),
        (arguments.one_of("hvc"), "smc"), (arguments.percent, "-1"), (arguments.percent, "nan"),
        (arguments.guest_status, "256"),
    ],
)  # fmt: skip
def test_words_that_mean_nothing(function, text):
    with pytest.raises(argparse.ArgumentTypeError):
        function(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("login: =>root\\n", (b"login: ", b"root\n")),
        ("=>now", (b"", b"now")),
        (r"\t\\=>b\x3d>\r\x03", (b"\t\\", b"b=>\r\x03")),
        ("=> =>version\\n", (b"=> ", b"version\n")),
        ("größe=>ü", ("größe".encode(), "ü".encode())),
    ],
)
def test_what_is_typed_and_when(text, value):
    assert arguments.typed(text) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("root", "WHEN=>WHAT"),
        ("when=>", "WHEN=>WHAT"),
        (r"a=>\q", "is none of"),
        (r"a=>\x0", "is none of"),
        ("a=>b\\", "is none of"),
    ],
)
def test_what_cannot_be_typed(text, says):
    with pytest.raises(argparse.ArgumentTypeError, match=says) as problem:
        arguments.typed(text)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("text", "hertz"),
    [
        ("1.5G", 1_500_000_000), ("650M", 650_000_000), ("1800MHz", 1_800_000_000),
        ("1ghz", 1_000_000_000), ("1000000", 1_000_000), ("1000k", 1_000_000),
        ("1.333333333G", 1_333_333_333), ("10G", 10_000_000_000), (" 2 GHz ", 2_000_000_000),
        ("0.001G", 1_000_000), ("1.5000000009G", 1_500_000_000),
    ],
)  # fmt: skip
def test_frequencies(text, hertz):
    """To the hertz, and without a float on the way."""
    assert arguments.frequency(text) == hertz


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a frequency"), ("fast", "is not a frequency"), ("-1G", "is not a frequency"),
        ("1.5.0G", "is not a frequency"), (".5G", "is not a frequency"), ("1e9", "is not"),
        ("1T", "is not a frequency"), ("0x10M", "is not a frequency"),
        ("0", "a core has 1 MHz to 10 GHz"), ("0G", "a core has"), ("999999", "a core has"),
        ("10.1G", "a core has"), ("1", "a core has"),
    ],
)  # fmt: skip
def test_frequencies_no_core_has(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        arguments.frequency(text)

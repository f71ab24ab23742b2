"""Latencies as llvm-mca uses them: pairs of instructions, one feeding the other.

The tables print one latency for an instruction. What a consumer waits for is that latency less
an advance (LLVM's ReadAdvance), and a second result (the written-back address) has a latency of
its own; neither is printed. Both are measured: a pair is run once with the producer's register
read by the consumer and once without, and where the dependency delays the consumer the distance
of their issue cycles is what it waits.

An advance is a property of the kind of read and the kind of write, so keys fall into few groups:
a table of read groups × write groups holds all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from timing_mca import Mca
from timing_words import CONSUMER, LINK, PRODUCER, Form

Vector = tuple[int | None, ...]


class Source(NamedTuple):
    """One result of a key."""

    key: str
    slot: int
    at: int


class Sink(NamedTuple):
    """One operand of a key."""

    key: str
    role: int
    at: int


def sources(forms: dict[str, Form]) -> list[Source]:
    return [Source(key, w.kind, i) for key, form in forms.items()
            for i, w in enumerate(form.writes)]  # fmt: skip


def sinks(forms: dict[str, Form]) -> list[Sink]:
    return [Sink(key, r.kind, i) for key, form in forms.items()
            for i, r in enumerate(form.reads)]  # fmt: skip


class Pair(NamedTuple):
    """Words of producer, dependent consumer and independent consumer."""

    producer: int
    dependent: int
    control: int


def pair(forms: dict[str, Form], source: Source, sink: Sink) -> Pair | None:
    """The pair that links a result with an operand; None where the registers cannot be linked."""
    producer, consumer = forms[source.key], forms[sink.key]
    written, read = producer.writes[source.at], consumer.reads[sink.at]
    if written.bank != read.bank:
        return None
    control = consumer.word(CONSUMER)
    if written.bank == "F":
        return Pair(producer.word(PRODUCER), control, 0)
    fixed = [int(place) for place in (written.place, read.place) if place.isdecimal()]
    link = fixed[0] if fixed else LINK
    if any(number != link for number in fixed) or link == 31 or (read.place == "k" and link > 15):
        return None
    first, second = dict(PRODUCER), dict(CONSUMER)
    if not written.place.isdecimal():
        first[written.place] = link
    if not read.place.isdecimal():
        second[read.place] = link
    return Pair(producer.word(first), consumer.word(second), control if not fixed else 0)


def distances(mca: Mca, text: dict[int, str], pairs: Sequence[Pair | None]) -> list[int | None]:
    """What each consumer waits for after its producer's issue; None where other things delay it."""
    regions, owners = [], []
    for number, item in enumerate(pairs):
        if item is None or item.producer not in text or item.dependent not in text:
            continue
        regions.append((text[item.producer], text[item.dependent]))
        regions.append((text[item.producer], text.get(item.control, "nop")))
        owners.append(number)
    times = mca.issues(regions)
    found: list[int | None] = [None] * len(pairs)
    for number, linked, free in zip(owners, times[::2], times[1::2], strict=True):
        if linked and free:
            waits, apart = linked[1] - linked[0], free[1] - free[0]
            found[number] = waits if waits > apart or waits == 0 else None
    return found


def grouped(vectors: Sequence[Vector]) -> list[int]:
    """Numbers of groups such that the vectors of one agree wherever both are known."""
    order = sorted(range(len(vectors)), key=lambda i: (sum(v is None for v in vectors[i]), i))
    merged: list[list[int | None]] = []
    group = [0] * len(vectors)
    for i in order:
        for number, known in enumerate(merged):
            if all(a is None or b is None or a == b
                   for a, b in zip(known, vectors[i], strict=True)):  # fmt: skip
                merged[number] = [b if a is None else a
                                  for a, b in zip(known, vectors[i], strict=True)]  # fmt: skip
                group[i] = number
                break
        else:
            group[i] = len(merged)
            merged.append(list(vectors[i]))
    return group

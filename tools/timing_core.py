"""All that is measured of one core, as the rows of the table file.

`Core` asks timing_mca.py and timing_chains.py and puts together, for each key: micro-ops,
throughput, ports, latencies by slot, the groups of its reads and writes, and for in-order cores
whether it must begin or end a group of instructions issued together and whether it may write
back out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timing_chains import Sink, Source, Vector, distances, grouped, pair, sinks, sources
from timing_mca import Entry, Mca, Resource
from timing_words import CONSUMER, PRODUCER, Form, disassemble

from emu.arm import a64

SIXTEENTHS = 16
IN_ORDER = frozenset(("cortex-a53", "cortex-a55", "cortex-a510"))
"""Cores whose LLVM model has a MicroOpBufferSize of 0 (Arm's technical reference manuals call
them in-order)."""
PROBES = """
movz.x add.x.reg add.x.lsl add.x.ext4 ubfm.x lslv.x extr.x mul.w mul.x madd.x smulh udiv.w udiv.x
ldr.x.imm ldr.w.imm ldr.x.reg fmov.x.d csel.x crc32b crc32x umov.s ldp.x.post stxrx pacia
fadd.s fadd.d fmul.d fmadd.d fmla.4s fmul.4s ldr.d.imm ldr.q.imm add.4s mul.4s mla.4s smull.8h
smlal.8h fdiv.d fmov.d.x scvtf.d.x movi.64 dup.128.s.w shl.4s.imm sadalp.4s sdot.128 fcvt.d.s
ssra.4s.imm ursra.4s.imm fcmla.4s saba.4s uabal.8h fmlal.128 bfdot.128 bfmmla bfmlalb smmla
sqrdmlah.4s aese aesmc sha256h
subs.x.reg adds.x.imm fcmp.d ccmp.x.reg ands.x.reg adcs.x
"""
"""Results whose kinds of write LLVM's models may tell apart; more are found while measuring."""
BEFORE = ("str.x.imm", "nop", "b", "movz.x")
AFTER = ("fdiv.d", "ld4.4.4s", "udiv.x", "movz.x")
SLOW, SHORT = "ld4.4.4s", "movz.x"
"""Neighbours of an instruction: on different ports; a slow and a short one that keep the order."""
NEEDED = {*PROBES.split(), *BEFORE, *AFTER, SLOW, SHORT}
"""Keys without which nothing can be measured."""
BEGIN, END, OUT_OF_ORDER = 1, 2, 4
"""Bits of a timing's flags."""
BANKS = "XVF"


class Core:
    """One core: its tables, then its groups."""

    def __init__(self, mca: Mca, forms: dict[str, Form], text: dict[int, str], mc: str) -> None:
        self.mca, self.mc, self.text = mca, mc, dict(text)
        second = [form.word(CONSUMER) for form in forms.values()]
        self.text.update(disassemble(second, mc))
        lines = [self.text[form.word(PRODUCER)] for form in forms.values()]
        entries = mca.tables(lines)
        self.entries: dict[str, Entry] = {
            key: entry for key, entry in zip(forms, entries, strict=True) if entry
        }
        self.forms = {key: form for key, form in forms.items() if key in self.entries}
        self.resources = mca.resources()
        self.width = mca.width()
        self.in_order = mca.core in IN_ORDER
        self.read_group: dict[Sink, int] = {}
        self.write_group: dict[Source, int] = {}
        self.latency: dict[Source, int] = {}
        self.advance: list[list[int]] = [[0]]
        self.conflicts: list[str] = []

    def measure(self) -> None:
        for bank in BANKS:
            self._bank(bank)
        self.flags = self._flags() if self.in_order else dict.fromkeys(self.forms, 0)

    def _distances(
        self, producers: Sequence[Source], consumers: Sequence[Sink]
    ) -> list[list[int | None]]:
        """For each consumer what it waits for after each producer."""
        pairs = [pair(self.forms, p, c) for c in consumers for p in producers]
        words = {word for item in pairs if item for word in item} - {0} - set(self.text)
        self.text.update(disassemble(sorted(words), self.mc))
        flat = distances(self.mca, self.text, pairs)
        n = len(producers)
        return [flat[i * n : (i + 1) * n] for i in range(len(consumers))]

    def _bank(self, bank: str) -> None:
        """Groups of the reads and writes of one kind of register."""
        producers = [s for s in sources(self.forms) if self.forms[s.key].writes[s.at].bank == bank]
        consumers = [s for s in sinks(self.forms) if self.forms[s.key].reads[s.at].bank == bank]
        probes = [s for s in producers if s.key in PROBES.split() and s.slot != a64.Slot.BASE]
        vectors: list[Vector] = [()] * len(consumers)
        new = probes
        for _ in range(3):
            self._extend(vectors, new, consumers)
            reads = grouped(vectors)
            number, count = self._writes(producers, consumers, reads)
            seen = {number[p] for p in probes}
            new = [
                next(p for p in producers if number[p] == g) for g in range(count) if g not in seen
            ]
            new = [p for p in new if p.slot != a64.Slot.BASE]
            if not new:
                break
            probes = probes + new
        self._store(bank, producers, consumers, reads, number)

    def _extend(
        self, vectors: list[Vector], new: Sequence[Source], consumers: Sequence[Sink]
    ) -> None:
        """More columns; what never waits is no operand to LLVM and has none that are known."""
        for i, row in enumerate(self._distances(new, consumers)):
            real = any(row) or any(v is not None for v in vectors[i])
            vectors[i] += tuple(
                self.entries[p.key].latency - d if real and d is not None else None
                for p, d in zip(new, row, strict=True)
            )

    def _writes(
        self, producers: Sequence[Source], consumers: Sequence[Sink], reads: Sequence[int]
    ) -> tuple[dict[Source, int], int]:
        """The write group of each producer; its latencies and advances are kept."""
        self._waits: list[list[int | None]] = []
        for group in range(max(reads) + 1):
            members = [c for c, g in zip(consumers, reads, strict=True) if g == group]
            rows = self._distances(producers, self._simplest(members))
            self._waits.append([
                max((row[i] for row in rows if row[i] is not None), default=None)  # type: ignore[type-var]
                for i in range(len(producers))
            ])  # fmt: skip
        vectors: list[Vector] = []
        for i, producer in enumerate(producers):
            known = [row[i] for row in self._waits]
            self.latency[producer] = self._latency(producer, [w for w in known if w is not None])
            vectors.append(tuple(None if w is None else self.latency[producer] - w for w in known))
        groups = grouped(vectors)
        self._vectors = vectors
        return dict(zip(producers, groups, strict=True)), max(groups, default=-1) + 1

    def _simplest(self, members: Sequence[Sink]) -> list[Sink]:
        """A few that little else delays: short, and on different ports."""
        order = sorted(members, key=lambda s: (self.entries[s.key][:3], s.key, s.at))
        chosen = {self.entries[s.key].ports: s for s in reversed(order)}
        return sorted(chosen.values(), key=order.index)[:6]

    def _latency(self, producer: Source, waits: Sequence[int]) -> int:
        """The longest wait, or where nothing waits what the table says (the slowest result's)."""
        if waits:
            return max(waits)
        return 1 if producer.slot == a64.Slot.BASE else self.entries[producer.key].latency

    def _store(
        self,
        bank: str,
        producers: Sequence[Source],
        consumers: Sequence[Sink],
        reads: Sequence[int],
        number: dict[Source, int],
    ) -> None:
        """Into one matrix for all banks: row and column 0 have no advance."""
        values: dict[tuple[int, int], int] = {}
        for producer, vector in zip(producers, self._vectors, strict=True):
            for group, value in enumerate(vector):
                if value is not None:
                    known = values.setdefault((group, number[producer]), value)
                    if known != value:
                        self.conflicts.append(f"{producer} {group}: {known} {value}")
        plain_reads = {
            g for g in set(reads) if not any(v for (r, _), v in values.items() if r == g)
        }
        writes = set(number.values())
        plain_writes = {g for g in writes if not any(v for (_, w), v in values.items() if w == g)}
        row = self._numbering(sorted(set(reads) - plain_reads), len(self.advance))
        column = self._numbering(sorted(writes - plain_writes), len(self.advance[0]))
        for line in self.advance:
            line += [0] * len(column)
        self.advance += [[0] * len(self.advance[0]) for _ in row]
        for (r, w), value in values.items():
            if r in row and w in column:
                self.advance[row[r]][column[w]] = value
        self.read_group |= {c: row.get(g, 0) for c, g in zip(consumers, reads, strict=True)}
        self.write_group |= {p: column.get(g, 0) for p, g in number.items()}

    @staticmethod
    def _numbering(groups: Sequence[int], first: int) -> dict[int, int]:
        return {group: first + i for i, group in enumerate(groups)}

    def _flags(self) -> dict[str, int]:
        """Which keys begin or end a group, and which may write back out of order."""
        others = [*BEFORE, *AFTER, SLOW, SHORT]
        regions = []
        for key in self.forms:
            line = self.text[self.forms[key].word(CONSUMER)]
            for number, other in enumerate(others):
                near = self.text[self.forms[other].word(PRODUCER)]
                first = number < len(BEFORE) or other == SLOW
                regions.append((near, line) if first else (line, near))
        apart = [t[1] - t[0] if t else 0 for t in self.mca.issues(regions)]
        each = len(others)
        return {
            key: self._flag(key, apart[number * each : (number + 1) * each])
            for number, key in enumerate(self.forms)
        }

    def _flag(self, key: str, apart: Sequence[int]) -> int:
        """What the distances from its neighbours say, beyond writing back in order."""
        before = [d - self._behind(other, key) for other, d in zip(BEFORE, apart, strict=False)]
        after = [d - self._behind(key, other)
                 for other, d in zip(AFTER, apart[len(BEFORE) :], strict=False)]  # fmt: skip
        flags = 0
        if self.entries[key].uops < self.width:
            flags |= BEGIN if min(before) > 0 else 0
            flags |= END if min(after) > 0 else 0
        late, early = apart[-2], apart[-1]
        overtakes = late < self._behind(SLOW, key) or early < self._behind(key, SHORT)
        return flags | (OUT_OF_ORDER if overtakes else 0)

    def _behind(self, first: str, second: str) -> int:
        """How far the second issues behind the first if it may not write back before it."""
        return max(0, self.entries[first].latency - self.entries[second].latency)

    def rows(self) -> dict[str, list[Any]]:
        """Key → uops, throughput, ports, latencies, write groups, read groups, flags."""
        latency = {key: [0] * len(a64.Slot) for key in self.forms}
        writes = {key: [0] * len(a64.Slot) for key in self.forms}
        reads: dict[str, dict[int, int]] = {key: {} for key in self.forms}
        for source, cycles in self.latency.items():
            latency[source.key][source.slot] = cycles * SIXTEENTHS
            writes[source.key][source.slot] = self.write_group[source]
        for sink, group in self.read_group.items():
            known = reads[sink.key].setdefault(sink.role, group)
            if known != group:
                self.conflicts.append(f"{sink}: read groups {known} and {group}")
        return {
            key: [
                entry.uops,
                round(entry.throughput * SIXTEENTHS),
                self._ports(entry),
                latency[key],
                writes[key],
                sorted([role, group] for role, group in reads[key].items() if group),
                self.flags[key],
            ]
            for key, entry in self.entries.items()
        }

    def _ports(self, entry: Entry) -> list[list[int]]:
        """Resource numbers and sixteenths; a group keeps what its members leave of its cycles."""
        index = {resource.name: i for i, resource in enumerate(self.resources)}
        parts = sorted(entry.ports, key=lambda p: (self._size(p[0]), index[p[0]]))
        left = dict(parts)
        for i, (name, _) in enumerate(parts):
            for other, _ in parts[i + 1 :]:
                if self._units(name) <= self._units(other):
                    left[other] -= left[name]
        return sorted([index[n], c * SIXTEENTHS] for n, c in left.items() if c > 0)

    def _resource(self, name: str) -> Resource:
        return next(r for r in self.resources if r.name == name)

    def _units(self, name: str) -> frozenset[str]:
        return frozenset(self._resource(name).members) or frozenset((name,))

    def _size(self, name: str) -> int:
        return len(self._units(name))

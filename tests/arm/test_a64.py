"""The decoder: encodings with their key and operands, and what is true of every word."""

from __future__ import annotations

import random
import re
import shutil

import pytest
import timing_words
from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs
from hypothesis import given
from hypothesis import strategies as st

from emu.arm import a64
from emu.arm.a64 import NZCV, UNKNOWN, VECTORS, Branch, Flag, Role, Slot, decode

NAMES = [*(f"x{i}" for i in range(31)), "sp", *(f"v{i}" for i in range(32)), "nzcv"]

ENCODINGS = """
# word      key             reads                               writes
# data processing, immediate
91000420 | add.x.imm      | x1:alu                            | x0
910003fd | add.x.imm      | sp:alu                            | x29
f100043f | subs.x.imm     | x1:alu                            | nzcv:flags
31000400 | adds.w.imm     | x0:alu                            | x0 nzcv:flags
f240003f | ands.x.imm     | x1:alu                            | nzcv:flags
b24003e1 | orr.x.imm      |                                   | x1
d2800020 | movz.x         |                                   | x0
d2800000 | movz.x.zero    |                                   | x0
f2800020 | movk.x         | x0:alu                            | x0
d3410c41 | ubfm.x         | x2:alu                            | x1
93407c41 | sbfm.x         | x2:alu                            | x1
b3400c41 | bfm.x          | x1:acc x2:alu                     | x1
93c20820 | extr.x         | x1:alu x2:shifted                 | x0
10000000 | adr            |                                   | x0
# register
8b020020 | add.x.reg      | x1:alu x2:alu                     | x0
8b020820 | add.x.lsl4     | x1:alu x2:shifted                 | x0
8b021820 | add.x.lsl      | x1:alu x2:shifted                 | x0
8b420820 | add.x.lsr      | x1:alu x2:shifted                 | x0
8b2263e0 | add.x.uxtx     | sp:alu x2:shifted                 | x0
8b226fff | add.x.uxtx4    | sp:alu x2:shifted                 | sp
8b22c020 | add.x.ext      | x1:alu x2:shifted                 | x0
eb02003f | subs.x.reg     | x1:alu x2:alu                     | nzcv:flags
cb0203e0 | sub.x.reg      | x2:alu                            | x0
ea02003f | ands.x.reg     | x1:alu x2:alu                     | nzcv:flags
aa0203e0 | mov.x          | x2:alu                            | x0
aa1f03e0 | mov.x          |                                   | x0
9a020020 | adc.x          | x1:alu x2:alu nzcv:flags          | x0
9a820020 | csel.x         | x1:alu x2:alu nzcv:flags          | x0
9a9f17e0 | csinc.x        | nzcv:flags                        | x0
fa420020 | ccmp.x.reg     | x1:alu x2:alu nzcv:flags          | nzcv:flags
fa410820 | ccmp.x.imm     | x1:alu nzcv:flags                 | nzcv:flags
9ac20820 | udiv.x         | x1:alu x2:alu                     | x0
1ac22020 | lslv.w         | x1:alu x2:shifted                 | x0
9b020c20 | madd.x         | x1:mul x2:mul x3:acc              | x0
9b027c20 | mul.x          | x1:mul x2:mul                     | x0
9ba20c20 | umaddl         | x1:mul x2:mul x3:acc              | x0
9bc27c20 | umulh          | x1:mul x2:mul                     | x0
dac00c20 | rev.x          | x1:alu                            | x0
1ac24420 | crc32h         | x1:alu x2:alu                     | x0
# branches and system
54000000 | b.cond         | nzcv:flags                        |
b4000001 | cbz.x          | x1:branch                         |
36000001 | tbz.w          | x1:branch                         |
94000000 | bl             |                                   | x30
d63f0020 | blr            | x1:branch                         | x30
d61f0020 | br             | x1:branch                         |
d65f03c0 | ret            | x30:branch                        |
d503201f | nop            |                                   |
d503245f | bti            |                                   |
d503233f | paciasp        | x30:alu sp:shifted                | x30
d53be040 | sys_mrs        |                                   | x0
d51be040 | sys_msr        | x0:alu                            |
d53b4200 | sys_mrs        | nzcv:flags                        | x0
d51b4200 | sys_msr        | x0:alu                            | nzcv:flags
d5033fdf | sys_isb        |                                   |
d508871f | sys_tlbi       |                                   |
d50b7521 | sys_ic         | x1:alu                            |
d50b7421 | sys_dc_zva     | x1:base                           |
d4000002 | sys_hvc        |                                   |
d69f03e0 | sys_eret       |                                   | nzcv:flags
00000000 | sys_udf        |                                   |
# loads and stores
f9400020 | ldr.x.imm      | x1:base                           | x0
f8408420 | ldr.x.post     | x1:base                           | x0 x1:base
f8008c20 | str.x.pre      | x1:base x0:data                   | x1:base
38626820 | ldrb.w.reg     | x1:base x2:index                  | x0
f8627820 | ldr.x.reg.s    | x1:base x2:index                  | x0
b8625820 | ldr.w.ext.s    | x1:base x2:index                  | x0
3cc107e0 | ldr.q.post     | sp:base                           | v0 sp:base
a9bf7bfd | stp.x.pre      | sp:base x29:data x30:data         | sp:base
a8c17bfd | ldp.x.post     | sp:base                           | x29 x30:second sp:base
69400420 | ldpsw.x        | x1:base                           | x0 x1:second
58000000 | ldr.x.lit      |                                   | x0
f9800020 | prfm.imm       | x1:base                           |
c8027c20 | stxrx          | x0:data x1:base                   | x2
c85ffc20 | ldaxrx         | x1:base                           | x0
c8dffc20 | ldarx          | x1:base                           | x0
f8220020 | ldaddx         | x2:data x1:base                   | x0
f8e28020 | swpx.al        | x2:data x1:base                   | x0
c8e2fc20 | casx.al        | x2:acc x0:data x1:base            | x2
48227c24 | casp.x         | x2:acc x3:acc x4:data x5:data x1:base | x2 x3
4c402820 | ld1.4.4s       | x1:base                           | v0 v1 v2 v3
0cdf7820 | ld1.1.2s.post  | x1:base                           | v0 x1:base
4c820820 | st4.4.4s.post.reg | x1:base x2:index v0:data v1:data v2:data v3:data | x1:base
0d408020 | ld1.lane.s     | x1:base v0:acc                    | v0
4d40c83f | ld1r.4s        | x1:base                           | v31
4c40283f | ld1.4.4s       | x1:base                           | v31 v0 v1 v2
# floating point and vectors
1e622820 | fadd.d         | v1:vector v2:vector               | v0
1f420c20 | fmadd.d        | v1:vector v2:vector v3:acc        | v0
1e622020 | fcmp.d         | v1:vector v2:vector               | nzcv:flags
1e602028 | fcmp.d.zero    | v1:vector                         | nzcv:flags
1e620c20 | fcsel.d        | v1:vector v2:vector nzcv:flags    | v0
9e670020 | fmov.d.x       | x1:alu                            | v0
9e660020 | fmov.x.d       | v1:vector                         | x0
1e604020 | fmov.d         | v1:vector                         | v0
9e6703e0 | fmov.d.zero    |                                   | v0
1e22c020 | fcvt.d.s       | v1:vector                         | v0
4ea28420 | add.4s         | v1:vector v2:vector               | v0
4e22cc20 | fmla.4s        | v1:vector v2:vector v0:acc        | v0
0f821020 | fmla.2s.elem   | v1:vector v2:vector v0:acc        | v0
6f00e400 | movi.128.zero  |                                   | v0
4f00e400 | movi.128.b     |                                   | v0
4e1c0420 | dup.128.s      | v1:vector                         | v0
4e081c20 | ins.d.x        | x1:alu v0:acc                     | v0
4e022020 | tbl.128.2      | v1:vector v2:vector v2:vector     | v0
4e284820 | aese           | v0:vector v1:vector               | v0
5e024020 | sha256h        | v0:acc v1:vector v2:vector        | v0
4e829420 | sdot.128       | v1:vector v2:vector v0:acc        | v0
4e421420 | fadd.8h        | v1:vector v2:vector               | v0
0e212820 | xtn.8b         | v1:vector                         | v0
4e212820 | xtn2.16b       | v1:vector v0:acc                  | v0
"""


def operands(text: str, kinds: type[Role] | type[Slot]) -> list[tuple[int, int]]:
    """`x1:alu v0` as register numbers and roles or slots."""
    found = []
    for part in text.split():
        name, _, kind = part.partition(":")
        found.append((NAMES.index(name), kinds[kind.upper()] if kind else Slot.RESULT))
    return found


LINES = [line for line in ENCODINGS.splitlines() if "|" in line]


@pytest.mark.parametrize("line", LINES, ids=[line.split("|")[1].strip() for line in LINES])
def test_encodings(line):
    word, key, reads, writes = map(str.strip, line.split("|"))
    insn = decode(int(word, 16))
    assert insn.key == key
    assert [tuple(read) for read in insn.reads] == operands(reads, Role)
    assert [tuple(write) for write in insn.writes] == operands(writes, Slot)


@pytest.mark.parametrize(
    ("word", "branch"),
    [
        (0x14000000, Branch.B), (0x54000000, Branch.COND), (0x94000000, Branch.CALL),
        (0xD63F0020, Branch.CALL_INDIRECT), (0xD61F0020, Branch.INDIRECT),
        (0xD65F03C0, Branch.RETURN), (0xD4000002, Branch.EXCEPTION), (0xD69F03E0, Branch.EXCEPTION),
        (0x00000001, Branch.EXCEPTION), (0xD503201F, Branch.NONE), (0xD65F0BFF, Branch.RETURN),
    ],
)  # fmt: skip
def test_branches(word, branch):
    assert decode(word).branch is branch


@pytest.mark.parametrize(
    ("word", "flags"),
    [
        (0xF9400020, Flag.LOAD), (0xF9000020, Flag.STORE), (0xF8220020, Flag.LOAD | Flag.STORE),
        (0xAA0203E0, Flag.MOVE), (0xD2800000, Flag.ZERO), (0x6F00E400, Flag.ZERO),
        (0xD503201F, Flag.NOP), (0xD5033FDF, Flag.SYSTEM | Flag.BARRIER), (0xD53BE040, Flag.SYSTEM),
        (0x8B020020, Flag.NONE),
    ],
)  # fmt: skip
def test_flags(word, flags):
    assert decode(word).flags == flags


@pytest.mark.parametrize("word", [0xFFFFFFFF, 0x04000000, 0x2518E3E0, 0x1E400000, 0x8B02FFFF >> 1])
def test_sve_and_nonsense_are_unknown(word):
    assert decode(word) == UNKNOWN


@given(st.integers(0, 2**32 - 1))
def test_any_word_is_an_instruction(word):
    insn = decode(word)
    assert isinstance(insn.key, str)
    assert all(0 <= reg < a64.REGISTERS for reg, _ in (*insn.reads, *insn.writes))
    assert (insn == UNKNOWN) == (not insn.key)
    assert decode(word) is insn


ALIASES = {
    "movn": "mov", "movz": "mov", "orr": "mov", "orn": "mvn mov",
    "sbfm": "asr sbfiz sbfx sxtb sxth sxtw", "bfm": "bfi bfxil bfc",
    "ubfm": "lsl lsr ubfiz ubfx uxtb uxth", "extr": "ror",
    "lslv": "lsl", "lsrv": "lsr", "asrv": "asr", "rorv": "ror", "subs": "cmp negs", "adds": "cmn",
    "ands": "tst", "sub": "neg", "add": "mov", "sbc": "ngc", "sbcs": "ngcs", "ccmn": "ccmn",
    "csinc": "cset cinc", "csinv": "csetm cinv", "csneg": "cneg", "not": "mvn", "umov": "mov",
    "ins": "mov", "dup": "mov", "b": "bc", "setf": "setf8 setf16", "sshll": "sxtl", "ushll": "uxtl",
    "sshll2": "sxtl2", "ushll2": "uxtl2", "sm3tt": "sm3tt1a sm3tt1b sm3tt2a sm3tt2b",
    "stg": "stg stzg st2g stz2g", "stgm": "stgm stzgm", "ldapurs": "ldapursb ldapursh ldapursw",
    "fmov": "movi", "prfm": "rprfm",
    "hint": "nop sevl dgh psb tsb bti xpaclri clrbhb gcsb chkfeat stshh csdb",
}  # fmt: skip
"""What disassemblers call a mnemonic besides its own name."""
MISSING = ("cpy", "set")
"""FEAT_MOPS, which the decoder does not cover."""
SIZED = "ldx ldax stx stlx ldar ldlar stlr stllr ldapr stlur ldapur cas swp " + " ".join(
    f"ld{name}" for name in ("add", "clr", "eor", "set", "smax", "smin", "umax", "umin")
)


def mnemonics(key: str) -> set[str]:
    """The names that a disassembler may give to a key."""
    base, *rest = key.split(".")
    ordering = rest[-1] if rest and rest[-1] in ("a", "l", "al") else ""
    names = {base, base.rstrip("0"), *ALIASES.get(base, "").split()}
    if base.endswith(("b", "h", "w", "x")) and base.startswith(tuple(SIZED.split())):
        size = base[-1] if base[-1] in "bh" else ""
        names = {base[:-1] + ordering + size}
        names |= {"st" + name[2:] for name in names if name.startswith("ld")}
    elif base == "casp":
        names = {base + ordering}
    elif "un" in rest:
        names = {base[:2] + "u" + base[2:], base[:3] + "u" + base[3:]}
    elif "priv" in rest:
        names = {base[:2] + "t" + base[2:]}
    elif base[-1:].isdigit():
        names.add(base.rstrip("r"))
    if base in ("ld1r", "ld2r", "ld3r", "ld4r"):
        names = {base}
    wide = {name + "2" for name in names}
    return names | wide if "16b" in rest or "8h" in rest or "4s" in rest or "128" in rest \
        or "2d" in rest else names  # fmt: skip


def sample(count: int, seed: int) -> list[int]:
    """Random words of every row, and words at random."""
    rng = random.Random(seed)
    every = [form for form in timing_words.forms(6) if not form.key.startswith("sys_")]
    words = []
    for form in every:
        registers = {name: rng.randrange(32) for name in timing_words.PRODUCER}
        registers["k"] %= 16
        words.append(form.word(registers))
    others = (rng.getrandbits(32) for _ in range(count))
    return words + [word for word in others if word >> 25 & 15 not in (0, 2)]  # SVE and SME


def test_names_agree_with_llvm():
    if not (program := shutil.which("llvm-mc-22")):
        pytest.skip("llvm-mc-22 is missing")
    words = [word for word in sample(20_000, 1) if not decode(word).key.startswith("sys_")]
    text = timing_words.disassemble(words, program)
    assert len(text) > 12_000
    wrong = {}
    for word, line in text.items():
        name = line.split()[0].split(".")[0]
        if name not in mnemonics(decode(word).key) and name not in ("msr", "mrs"):
            wrong.setdefault((decode(word).key, name), hex(word))
    assert wrong == {}


def test_names_agree_with_capstone():
    decoder = Cs(CS_ARCH_ARM64, CS_MODE_ARM)
    wrong, seen = {}, 0
    for word in sample(20_000, 2):
        key = decode(word).key
        for _, _, name, _ in decoder.disasm_lite(word.to_bytes(4, "little"), 0):
            if not key.startswith("sys_") and name not in ("msr", "mrs"):
                seen += 1
                if not key and name.startswith(MISSING):
                    continue
                if re.sub(r"\..*", "", name) not in mnemonics(key):
                    wrong.setdefault((key, name), hex(word))
    assert seen > 10_000
    assert wrong == {}


class Machine:
    """One instruction on Unicorn, to see what depends on what."""

    CODE, DATA, SIZE = 0x1_0000, 0x10_0000, 0x4000

    def __init__(self) -> None:
        import unicorn
        from unicorn import arm64_const as regs

        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(regs.UC_CPU_ARM64_MAX)
        self.uc.mem_map(self.CODE, 0x1000)
        self.uc.mem_map(self.DATA, self.SIZE)
        self.uc.reg_write(regs.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        self.ids = [
            *(regs.UC_ARM64_REG_X0 + i for i in range(29)),
            regs.UC_ARM64_REG_X29, regs.UC_ARM64_REG_X30, regs.UC_ARM64_REG_SP,
            *(regs.UC_ARM64_REG_Q0 + i for i in range(32)), regs.UC_ARM64_REG_NZCV,
        ]  # fmt: skip
        self.memory = random.Random(1).randbytes(self.SIZE)
        self.error = unicorn.UcError

    def load(self, word: int) -> None:
        self.uc.mem_write(self.CODE, word.to_bytes(4, "little"))
        self.uc.ctl_remove_cache(self.CODE, self.CODE + 4)

    def run(self, state: list[int]) -> list[int] | None:
        """The registers and what was stored after the instruction; None when it faults."""
        for number, value in enumerate(state):
            self.uc.reg_write(self.ids[number], value << 28 if number == NZCV else value)
        self.uc.mem_write(self.DATA, self.memory)
        try:
            self.uc.emu_start(self.CODE, self.CODE + 4, 0, 1)
        except self.error:
            return None
        registers = [self.uc.reg_read(number) for number in self.ids]
        registers[NZCV] >>= 28
        return [*registers, hash(bytes(self.uc.mem_read(self.DATA, self.SIZE)))]


def moved(machine: Machine, insn: a64.Insn, rng: random.Random) -> tuple[set[int], set[int]] | None:
    """Registers on which anything depends, and registers that change."""
    roles = dict(insn.reads)
    state = [rng.getrandbits(128 if VECTORS <= reg < NZCV else 64) for reg in range(a64.REGISTERS)]

    def fit(reg: int, value: int) -> int:
        if roles.get(reg) == Role.BASE:
            return machine.DATA + 0x2000 + value % 16 * 16
        if roles.get(reg) == Role.INDEX:
            return value % 16 * 16
        return value % 16 if reg == NZCV else value & ~15 if reg == 31 else value

    state = [fit(reg, value) for reg, value in enumerate(state)]
    before = machine.run(state)
    if before is None:
        return None
    changed = {reg for reg in range(a64.REGISTERS) if before[reg] != state[reg]}
    needed = set()
    for reg in [*roles, *changed, rng.randrange(a64.REGISTERS), NZCV]:
        other = list(state)
        other[reg] = fit(reg, 15 - state[reg] if reg == NZCV else rng.getrandbits(64))
        after = machine.run(other)
        others = None if after is None else after[:reg] + after[reg + 1 :]
        kept = after is not None and after[reg] in (other[reg], before[reg])
        if others != before[:reg] + before[reg + 1 :] or not kept:
            needed.add(reg)
    return needed, changed


def test_operands_agree_with_unicorn():
    """What an instruction needs is read, and what it changes is written, on a tenth of all keys."""
    machine, rng = Machine(), random.Random(3)
    wrong, seen = [], 0
    for number, form in enumerate(timing_words.forms(3)):
        word = form.word(timing_words.PRODUCER)
        insn = decode(word)
        if number % 11 or insn.branch or insn.flags & Flag.SYSTEM or "x" in form.key[:3]:
            continue
        machine.load(word)
        if found := moved(machine, insn, rng):
            seen += 1
            needed, changed = found
            reads, writes = {r.reg for r in insn.reads}, {w.reg for w in insn.writes}
            if needed - reads or changed - writes:
                wrong.append((form.key, hex(word), needed - reads, changed - writes))
    assert seen > 300
    assert wrong == []

"""The A64 encodings of scalar floating point, Advanced SIMD and cryptography, as rows.

`a64.py` explains the notation. Most vector instructions come in families that share a pattern and
differ in an opcode; FAMILIES lists those as `opcode name name …` beneath a header

    @ selectors | pattern | key's suffix | operands

with one name for each value of the one-bit selectors (U, or U and the top bit of size). After a
name, `+` says that the destination is read as well, `^` that it is when Q is set (the upper half
is written and the lower kept). Source: DDI 0487 §C4.1.96 (scalar floating point, Advanced SIMD).
"""

from __future__ import annotations

from collections.abc import Iterator

_SCALAR = """
# conversion between floating point and integer
0 0 0 11110 01 1 11 110 000000 n d       | fjcvtzs             | Xd F = Vn
1 0 0 11110 10 1 01 110 000000 n d       | fmov.x.top          | Xd = Vn
1 0 0 11110 10 1 01 111 000000 n d       | fmov.top.x          | Vd = Xn Vd.acc
sf 0 0 11110 ft:2 1 00 000 000000 n d    | fcvtns.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 00 001 000000 n d    | fcvtnu.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 00 010 000000 n d    | scvtf.{ft}.{sf}     | Vd = Xn
sf 0 0 11110 ft:2 1 00 011 000000 n d    | ucvtf.{ft}.{sf}     | Vd = Xn
sf 0 0 11110 ft:2 1 00 100 000000 n d    | fcvtas.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 00 101 000000 n d    | fcvtau.{sf}.{ft}    | Xd = Vn
0 0 0 11110 00 1 00 110 000000 n d       | fmov.w.s            | Xd = Vn
1 0 0 11110 01 1 00 110 000000 n d       | fmov.x.d            | Xd = Vn
sf 0 0 11110 11 1 00 110 000000 n d      | fmov.{sf}.h         | Xd = Vn
0 0 0 11110 00 1 00 111 000000 11111 d   | fmov.s.zero         | Vd =          | ZERO
1 0 0 11110 01 1 00 111 000000 11111 d   | fmov.d.zero         | Vd =          | ZERO
0 0 0 11110 00 1 00 111 000000 n d       | fmov.s.w            | Vd = Xn
1 0 0 11110 01 1 00 111 000000 n d       | fmov.d.x            | Vd = Xn
sf 0 0 11110 11 1 00 111 000000 n d      | fmov.h.{sf}         | Vd = Xn
sf 0 0 11110 ft:2 1 01 000 000000 n d    | fcvtps.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 01 001 000000 n d    | fcvtpu.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 10 000 000000 n d    | fcvtms.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 10 001 000000 n d    | fcvtmu.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 11 000 000000 n d    | fcvtzs.{sf}.{ft}    | Xd = Vn
sf 0 0 11110 ft:2 1 11 001 000000 n d    | fcvtzu.{sf}.{ft}    | Xd = Vn
0 0 0 11110 ft:2 0 xx xxx 0xxxxx n d     | -                   |
sf 0 0 11110 ft:2 0 00 010 xxxxxx n d    | scvtf.{ft}.{sf}.fix | Vd = Xn
sf 0 0 11110 ft:2 0 00 011 xxxxxx n d    | ucvtf.{ft}.{sf}.fix | Vd = Xn
sf 0 0 11110 ft:2 0 11 000 xxxxxx n d    | fcvtzs.{sf}.{ft}.fix | Xd = Vn
sf 0 0 11110 ft:2 0 11 001 xxxxxx n d    | fcvtzu.{sf}.{ft}.fix | Xd = Vn
# one source
0 0 0 11110 ft:2 1 000000 10000 n d      | fmov.{ft}           | Vd = Vn       | MOVE
0 0 0 11110 ft:2 1 000001 10000 n d      | fabs.{ft}           | Vd = Vn
0 0 0 11110 ft:2 1 000010 10000 n d      | fneg.{ft}           | Vd = Vn
0 0 0 11110 ft:2 1 000011 10000 n d      | fsqrt.{ft}          | Vd = Vn
0 0 0 11110 00 1 000101 10000 n d        | fcvt.d.s            | Vd = Vn
0 0 0 11110 00 1 000111 10000 n d        | fcvt.h.s            | Vd = Vn
0 0 0 11110 01 1 000100 10000 n d        | fcvt.s.d            | Vd = Vn
0 0 0 11110 01 1 000111 10000 n d        | fcvt.h.d            | Vd = Vn
0 0 0 11110 01 1 000110 10000 n d        | bfcvt               | Vd = Vn
0 0 0 11110 11 1 000100 10000 n d        | fcvt.s.h            | Vd = Vn
0 0 0 11110 11 1 000101 10000 n d        | fcvt.d.h            | Vd = Vn
0 0 0 11110 ft:2 1 001000 10000 n d      | frintn.{ft}         | Vd = Vn
0 0 0 11110 ft:2 1 001001 10000 n d      | frintp.{ft}         | Vd = Vn
0 0 0 11110 ft:2 1 001010 10000 n d      | frintm.{ft}         | Vd = Vn
0 0 0 11110 ft:2 1 001011 10000 n d      | frintz.{ft}         | Vd = Vn
0 0 0 11110 ft:2 1 001100 10000 n d      | frinta.{ft}         | Vd = Vn
0 0 0 11110 ft:2 1 001110 10000 n d      | frintx.{ft}         | Vd = Vn
0 0 0 11110 ft:2 1 001111 10000 n d      | frinti.{ft}         | Vd = Vn
0 0 0 11110 0 sz 1 010000 10000 n d      | frint32z.{fs}       | Vd = Vn
0 0 0 11110 0 sz 1 010001 10000 n d      | frint32x.{fs}       | Vd = Vn
0 0 0 11110 0 sz 1 010010 10000 n d      | frint64z.{fs}       | Vd = Vn
0 0 0 11110 0 sz 1 010011 10000 n d      | frint64x.{fs}       | Vd = Vn
# compare, immediate, conditional, two and three sources
0 0 0 11110 ft:2 1 m 00 1000 n 0 0 000   | fcmp.{ft}           | F = Vn Vm
0 0 0 11110 ft:2 1 xxxxx 00 1000 n 0 1 000 | fcmp.{ft}.zero      | F = Vn
0 0 0 11110 ft:2 1 m 00 1000 n 1 0 000   | fcmpe.{ft}          | F = Vn Vm
0 0 0 11110 ft:2 1 xxxxx 00 1000 n 1 1 000 | fcmpe.{ft}.zero     | F = Vn
0 0 0 11110 ft:2 1 xxxxxxxx 100 00000 d  | fmov.{ft}.imm       | Vd =
0 0 0 11110 ft:2 1 m xxxx 01 n 0 xxxx    | fccmp.{ft}          | F = Vn Vm F
0 0 0 11110 ft:2 1 m xxxx 01 n 1 xxxx    | fccmpe.{ft}         | F = Vn Vm F
0 0 0 11110 ft:2 1 m xxxx 11 n d         | fcsel.{ft}          | Vd = Vn Vm F
0 0 0 11110 ft:2 1 m 0000 10 n d         | fmul.{ft}           | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 0001 10 n d         | fdiv.{ft}           | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 0010 10 n d         | fadd.{ft}           | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 0011 10 n d         | fsub.{ft}           | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 0100 10 n d         | fmax.{ft}           | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 0101 10 n d         | fmin.{ft}           | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 0110 10 n d         | fmaxnm.{ft}         | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 0111 10 n d         | fminnm.{ft}         | Vd = Vn Vm
0 0 0 11110 ft:2 1 m 1000 10 n d         | fnmul.{ft}          | Vd = Vn Vm
0 0 0 11111 ft:2 0 m 0 a n d             | fmadd.{ft}          | Vd = Vn Vm Va.acc
0 0 0 11111 ft:2 0 m 1 a n d             | fmsub.{ft}          | Vd = Vn Vm Va.acc
0 0 0 11111 ft:2 1 m 0 a n d             | fnmadd.{ft}         | Vd = Vn Vm Va.acc
0 0 0 11111 ft:2 1 m 1 a n d             | fnmsub.{ft}         | Vd = Vn Vm Va.acc
"""

_VECTOR = """
# copy
0 Q 0 01110000 xxxx1 0 0000 1 n d        | dup.{Q}.b           | Vd = Vn
0 Q 0 01110000 xxx10 0 0000 1 n d        | dup.{Q}.h           | Vd = Vn
0 Q 0 01110000 xx100 0 0000 1 n d        | dup.{Q}.s           | Vd = Vn
0 1 0 01110000 x1000 0 0000 1 n d        | dup.128.d           | Vd = Vn
0 Q 0 01110000 xxxx1 0 0001 1 n d        | dup.{Q}.b.w         | Vd = Xn
0 Q 0 01110000 xxx10 0 0001 1 n d        | dup.{Q}.h.w         | Vd = Xn
0 Q 0 01110000 xx100 0 0001 1 n d        | dup.{Q}.s.w         | Vd = Xn
0 1 0 01110000 x1000 0 0001 1 n d        | dup.128.d.x         | Vd = Xn
0 Q 0 01110000 00001 0 0101 1 n d        | smov.{Q}.b.0        | Xd = Vn
0 Q 0 01110000 00010 0 0101 1 n d        | smov.{Q}.h.0        | Xd = Vn
0 1 0 01110000 00100 0 0101 1 n d        | smov.128.s.0        | Xd = Vn
0 0 0 01110000 00001 0 0111 1 n d        | umov.b.0            | Xd = Vn
0 0 0 01110000 00010 0 0111 1 n d        | umov.h.0            | Xd = Vn
0 0 0 01110000 00100 0 0111 1 n d        | umov.s.0            | Xd = Vn
0 1 0 01110000 01000 0 0111 1 n d        | umov.d.0            | Xd = Vn
0 Q 0 01110000 xxxx1 0 0101 1 n d        | smov.{Q}.b          | Xd = Vn
0 Q 0 01110000 xxx10 0 0101 1 n d        | smov.{Q}.h          | Xd = Vn
0 1 0 01110000 xx100 0 0101 1 n d        | smov.128.s          | Xd = Vn
0 0 0 01110000 xxxx1 0 0111 1 n d        | umov.b              | Xd = Vn
0 0 0 01110000 xxx10 0 0111 1 n d        | umov.h              | Xd = Vn
0 0 0 01110000 xx100 0 0111 1 n d        | umov.s              | Xd = Vn
0 1 0 01110000 x1000 0 0111 1 n d        | umov.d              | Xd = Vn
0 1 0 01110000 xxxx1 0 0011 1 n d        | ins.b.w             | Vd = Xn Vd.acc
0 1 0 01110000 xxx10 0 0011 1 n d        | ins.h.w             | Vd = Xn Vd.acc
0 1 0 01110000 xx100 0 0011 1 n d        | ins.s.w             | Vd = Xn Vd.acc
0 1 0 01110000 x1000 0 0011 1 n d        | ins.d.x             | Vd = Xn Vd.acc
0 1 1 01110000 xxxx1 0 xxxx 1 n d        | ins.b               | Vd = Vn Vd.acc
0 1 1 01110000 xxx10 0 xxxx 1 n d        | ins.h               | Vd = Vn Vd.acc
0 1 1 01110000 xx100 0 xxxx 1 n d        | ins.s               | Vd = Vn Vd.acc
0 1 1 01110000 x1000 0 xxxx 1 n d        | ins.d               | Vd = Vn Vd.acc
01 0 11110000 xxxx1 0 0000 1 n d         | dup.b               | Vd = Vn
01 0 11110000 xxx10 0 0000 1 n d         | dup.h               | Vd = Vn
01 0 11110000 xx100 0 0000 1 n d         | dup.s               | Vd = Vn
01 0 11110000 x1000 0 0000 1 n d         | dup.d               | Vd = Vn
# look-up, permutation, extraction
0 Q 001110 00 0 m 0 00 0 00 n d          | tbl.{Q}.1           | Vd = Vn Vm
0 Q 001110 00 0 m 0 01 0 00 n d          | tbl.{Q}.2           | Vd = Vn+1 Vm
0 Q 001110 00 0 m 0 10 0 00 n d          | tbl.{Q}.3           | Vd = Vn+2 Vm
0 Q 001110 00 0 m 0 11 0 00 n d          | tbl.{Q}.4           | Vd = Vn+3 Vm
0 Q 001110 00 0 m 0 00 1 00 n d          | tbx.{Q}.1           | Vd = Vn Vm Vd.acc
0 Q 001110 00 0 m 0 01 1 00 n d          | tbx.{Q}.2           | Vd = Vn+1 Vm Vd.acc
0 Q 001110 00 0 m 0 10 1 00 n d          | tbx.{Q}.3           | Vd = Vn+2 Vm Vd.acc
0 Q 001110 00 0 m 0 11 1 00 n d          | tbx.{Q}.4           | Vd = Vn+3 Vm Vd.acc
0 0 001110 11 0 m 0 xxx 10 n d           | -                   |
0 Q 001110 size:2 0 m 0 001 10 n d       | uzp1.{T}            | Vd = Vn Vm
0 Q 001110 size:2 0 m 0 010 10 n d       | trn1.{T}            | Vd = Vn Vm
0 Q 001110 size:2 0 m 0 011 10 n d       | zip1.{T}            | Vd = Vn Vm
0 Q 001110 size:2 0 m 0 101 10 n d       | uzp2.{T}            | Vd = Vn Vm
0 Q 001110 size:2 0 m 0 110 10 n d       | trn2.{T}            | Vd = Vn Vm
0 Q 001110 size:2 0 m 0 111 10 n d       | zip2.{T}            | Vd = Vn Vm
0 0 101110 00 0 m 0 0xxx 0 n d           | ext.8b              | Vd = Vn Vm
0 1 101110 00 0 m 0 xxxx 0 n d           | ext.16b             | Vd = Vn Vm
# modified immediate
0 Q 1 0111100000 000 1110 01 00000 d     | movi.{Q}.zero       | Vd =          | ZERO
0 Q 0 0111100000 xxx 0xx1 01 xxxxx d     | orr.{Q}.imm         | Vd = Vd.acc
0 Q 0 0111100000 xxx 10x1 01 xxxxx d     | orr.{Q}.imm         | Vd = Vd.acc
0 Q 1 0111100000 xxx 0xx1 01 xxxxx d     | bic.{Q}.imm         | Vd = Vd.acc
0 Q 1 0111100000 xxx 10x1 01 xxxxx d     | bic.{Q}.imm         | Vd = Vd.acc
0 Q 0 0111100000 xxx 1111 01 xxxxx d     | fmov.{FS}.imm       | Vd =
0 1 1 0111100000 xxx 1111 01 xxxxx d     | fmov.2d.imm         | Vd =
0 Q 0 0111100000 xxx 1111 11 xxxxx d     | fmov.{HT}.imm       | Vd =
0 0 1 0111100000 xxx 1111 xx xxxxx d     | -                   |
0 Q 0 0111100000 xxx 0xx0 01 xxxxx d     | movi.{Q}            | Vd =
0 Q 0 0111100000 xxx 10x0 01 xxxxx d     | movi.{Q}            | Vd =
0 Q 0 0111100000 xxx 110x 01 xxxxx d     | movi.{Q}.msl        | Vd =
0 Q 0 0111100000 xxx 1110 01 xxxxx d     | movi.{Q}.b          | Vd =
0 Q 1 0111100000 xxx 1110 01 xxxxx d     | movi.{Q}.d          | Vd =
0 Q 1 0111100000 xxx 0xx0 01 xxxxx d     | mvni.{Q}            | Vd =
0 Q 1 0111100000 xxx 10x0 01 xxxxx d     | mvni.{Q}            | Vd =
0 Q 1 0111100000 xxx 110x 01 xxxxx d     | mvni.{Q}.msl        | Vd =
# three same, logical
0 Q 0 01110 00 1 m 00011 1 n d           | and.{Q}             | Vd = Vn Vm
0 Q 0 01110 01 1 m 00011 1 n d           | bic.{Q}             | Vd = Vn Vm
0 Q 0 01110 10 1 m 00011 1 n d           | orr.{Q}             | Vd = Vn Vm
0 Q 0 01110 11 1 m 00011 1 n d           | orn.{Q}             | Vd = Vn Vm
0 Q 1 01110 00 1 m 00011 1 n d           | eor.{Q}             | Vd = Vn Vm
0 Q 1 01110 01 1 m 00011 1 n d           | bsl.{Q}             | Vd = Vn Vm Vd.acc
0 Q 1 01110 10 1 m 00011 1 n d           | bit.{Q}             | Vd = Vn Vm Vd.acc
0 Q 1 01110 11 1 m 00011 1 n d           | bif.{Q}             | Vd = Vn Vm Vd.acc
# half-precision multiply-add into single
0 Q 0 01110 00 1 m 11101 1 n d           | fmlal.{Q}           | Vd = Vn Vm Vd.acc
0 Q 0 01110 10 1 m 11101 1 n d           | fmlsl.{Q}           | Vd = Vn Vm Vd.acc
0 Q 1 01110 00 1 m 11001 1 n d           | fmlal2.{Q}          | Vd = Vn Vm Vd.acc
0 Q 1 01110 10 1 m 11001 1 n d           | fmlsl2.{Q}          | Vd = Vn Vm Vd.acc
# three same, extra
0 Q 0 01110 10 0 m 1 0010 1 n d          | sdot.{Q}            | Vd = Vn Vm Vd.acc
0 Q 1 01110 10 0 m 1 0010 1 n d          | udot.{Q}            | Vd = Vn Vm Vd.acc
0 Q 0 01110 10 0 m 1 0011 1 n d          | usdot.{Q}           | Vd = Vn Vm Vd.acc
0 Q 1 01110 01 0 m 1 1111 1 n d          | bfdot.{Q}           | Vd = Vn Vm Vd.acc
0 0 1 01110 11 0 m 1 1111 1 n d          | bfmlalb             | Vd = Vn Vm Vd.acc
0 1 1 01110 11 0 m 1 1111 1 n d          | bfmlalt             | Vd = Vn Vm Vd.acc
0 1 1 01110 01 0 m 1 1101 1 n d          | bfmmla              | Vd = Vn Vm Vd.acc
0 1 0 01110 10 0 m 1 0100 1 n d          | smmla               | Vd = Vn Vm Vd.acc
0 1 1 01110 10 0 m 1 0100 1 n d          | ummla               | Vd = Vn Vm Vd.acc
0 1 0 01110 10 0 m 1 0101 1 n d          | usmmla              | Vd = Vn Vm Vd.acc
0 Q 1 01110 01 0 m 1 000 0 1 n d         | sqrdmlah.{HT}       | Vd = Vn Vm Vd.acc
0 Q 1 01110 10 0 m 1 000 0 1 n d         | sqrdmlah.{FS}       | Vd = Vn Vm Vd.acc
0 Q 1 01110 01 0 m 1 000 1 1 n d         | sqrdmlsh.{HT}       | Vd = Vn Vm Vd.acc
0 Q 1 01110 10 0 m 1 000 1 1 n d         | sqrdmlsh.{FS}       | Vd = Vn Vm Vd.acc
0 Q 1 01110 size:2 0 m 1 10 xx 1 n d     | fcmla.{CT}          | Vd = Vn Vm Vd.acc
0 Q 1 01110 size:2 0 m 1 11 x0 1 n d     | fcadd.{CT}          | Vd = Vn Vm
01 1 11110 01 0 m 1 000 0 1 n d          | sqrdmlah.h          | Vd = Vn Vm Vd.acc
01 1 11110 10 0 m 1 000 0 1 n d          | sqrdmlah.s          | Vd = Vn Vm Vd.acc
01 1 11110 01 0 m 1 000 1 1 n d          | sqrdmlsh.h          | Vd = Vn Vm Vd.acc
01 1 11110 10 0 m 1 000 1 1 n d          | sqrdmlsh.s          | Vd = Vn Vm Vd.acc
# two registers: what does not fit a family
0 Q 1 01110 00 10000 00101 10 n d        | not.{Q}             | Vd = Vn
0 Q 1 01110 01 10000 00101 10 n d        | rbit.{Q}            | Vd = Vn
0 0 0 01110 0 sz 10000 10110 10 n d      | fcvtn.{fn}          | Vd = Vn
0 1 0 01110 0 sz 10000 10110 10 n d      | fcvtn2.{fn}         | Vd = Vn Vd.acc
0 Q 0 01110 0 sz 10000 10111 10 n d      | fcvtl.{fn}.{Q}      | Vd = Vn
0 0 1 01110 01 10000 10110 10 n d        | fcvtxn              | Vd = Vn
0 1 1 01110 01 10000 10110 10 n d        | fcvtxn2             | Vd = Vn Vd.acc
0 0 0 01110 10 10000 10110 10 n d        | bfcvtn              | Vd = Vn
0 1 0 01110 10 10000 10110 10 n d        | bfcvtn2             | Vd = Vn Vd.acc
01 1 11110 01 10000 10110 10 n d         | fcvtxn.s            | Vd = Vn
# across lanes, pairwise
0 Q 0 01110 00 11000 01100 10 n d        | fmaxnmv.{HT}        | Vd = Vn
0 Q 0 01110 10 11000 01100 10 n d        | fminnmv.{HT}        | Vd = Vn
0 Q 0 01110 00 11000 01111 10 n d        | fmaxv.{HT}          | Vd = Vn
0 Q 0 01110 10 11000 01111 10 n d        | fminv.{HT}          | Vd = Vn
0 1 1 01110 00 11000 01100 10 n d        | fmaxnmv.4s          | Vd = Vn
0 1 1 01110 10 11000 01100 10 n d        | fminnmv.4s          | Vd = Vn
0 1 1 01110 00 11000 01111 10 n d        | fmaxv.4s            | Vd = Vn
0 1 1 01110 10 11000 01111 10 n d        | fminv.4s            | Vd = Vn
01 0 11110 11 11000 11011 10 n d         | addp.d              | Vd = Vn
01 0 11110 00 11000 01100 10 n d         | fmaxnmp.h           | Vd = Vn
01 0 11110 10 11000 01100 10 n d         | fminnmp.h           | Vd = Vn
01 0 11110 00 11000 01101 10 n d         | faddp.h             | Vd = Vn
01 0 11110 00 11000 01111 10 n d         | fmaxp.h             | Vd = Vn
01 0 11110 10 11000 01111 10 n d         | fminp.h             | Vd = Vn
01 1 11110 0 sz 11000 01100 10 n d       | fmaxnmp.{fs}        | Vd = Vn
01 1 11110 1 sz 11000 01100 10 n d       | fminnmp.{fs}        | Vd = Vn
01 1 11110 0 sz 11000 01101 10 n d       | faddp.{fs}          | Vd = Vn
01 1 11110 0 sz 11000 01111 10 n d       | fmaxp.{fs}          | Vd = Vn
01 1 11110 1 sz 11000 01111 10 n d       | fminp.{fs}          | Vd = Vn
# by element: what does not fit a family
0 Q 0 01111 10 x m 1110 x 0 n d          | sdot.{Q}.elem       | Vd = Vn Vm Vd.acc
0 Q 1 01111 10 x m 1110 x 0 n d          | udot.{Q}.elem       | Vd = Vn Vm Vd.acc
0 Q 0 01111 00 x m 1111 x 0 n d          | sudot.{Q}.elem      | Vd = Vn Vm Vd.acc
0 Q 0 01111 10 x m 1111 x 0 n d          | usdot.{Q}.elem      | Vd = Vn Vm Vd.acc
0 Q 0 01111 01 x m 1111 x 0 n d          | bfdot.{Q}.elem      | Vd = Vn Vm Vd.acc
0 0 0 01111 11 xx k 1111 x 0 n d         | bfmlalb.elem        | Vd = Vn Vk Vd.acc
0 1 0 01111 11 xx k 1111 x 0 n d         | bfmlalt.elem        | Vd = Vn Vk Vd.acc
0 Q 0 01111 10 xx k 0000 x 0 n d         | fmlal.{Q}.elem      | Vd = Vn Vk Vd.acc
0 Q 0 01111 10 xx k 0100 x 0 n d         | fmlsl.{Q}.elem      | Vd = Vn Vk Vd.acc
0 Q 1 01111 10 xx k 1000 x 0 n d         | fmlal2.{Q}.elem     | Vd = Vn Vk Vd.acc
0 Q 1 01111 10 xx k 1100 x 0 n d         | fmlsl2.{Q}.elem     | Vd = Vn Vk Vd.acc
0 0 1 01111 01 xx xxxx 0xx1 1 0 n d      | -                   |
0 Q 1 01111 01 x m 0xx1 x 0 n d          | fcmla.{HT}.elem     | Vd = Vn Vm Vd.acc
0 1 1 01111 10 0 m 0xx1 x 0 n d          | fcmla.4s.elem       | Vd = Vn Vm Vd.acc
# cryptography
01001110 00 10100 00100 10 n d           | aese                | Vd = Vd Vn
01001110 00 10100 00101 10 n d           | aesd                | Vd = Vd Vn
01001110 00 10100 00110 10 n d           | aesmc               | Vd = Vn
01001110 00 10100 00111 10 n d           | aesimc              | Vd = Vn
01011110 00 0 m 0 000 00 n d             | sha1c               | Vd = Vd.acc Vn Vm
01011110 00 0 m 0 001 00 n d             | sha1p               | Vd = Vd.acc Vn Vm
01011110 00 0 m 0 010 00 n d             | sha1m               | Vd = Vd.acc Vn Vm
01011110 00 0 m 0 011 00 n d             | sha1su0             | Vd = Vd.acc Vn Vm
01011110 00 0 m 0 100 00 n d             | sha256h             | Vd = Vd.acc Vn Vm
01011110 00 0 m 0 101 00 n d             | sha256h2            | Vd = Vd.acc Vn Vm
01011110 00 0 m 0 110 00 n d             | sha256su1           | Vd = Vd.acc Vn Vm
01011110 00 10100 00000 10 n d           | sha1h               | Vd = Vn
01011110 00 10100 00001 10 n d           | sha1su1             | Vd = Vd.acc Vn
01011110 00 10100 00010 10 n d           | sha256su0           | Vd = Vd.acc Vn
11001110 01 1 m 1000 00 n d              | sha512h             | Vd = Vd.acc Vn Vm
11001110 01 1 m 1000 01 n d              | sha512h2            | Vd = Vd.acc Vn Vm
11001110 01 1 m 1000 10 n d              | sha512su1           | Vd = Vd.acc Vn Vm
11001110 01 1 m 1000 11 n d              | rax1                | Vd = Vn Vm
11001110 01 1 m 1100 00 n d              | sm3partw1           | Vd = Vd.acc Vn Vm
11001110 01 1 m 1100 01 n d              | sm3partw2           | Vd = Vd.acc Vn Vm
11001110 01 1 m 1100 10 n d              | sm4ekey             | Vd = Vn Vm
11001110 000 m 0 a n d                   | eor3                | Vd = Vn Vm Va
11001110 001 m 0 a n d                   | bcax                | Vd = Vn Vm Va
11001110 010 m 0 a n d                   | sm3ss1              | Vd = Vn Vm Va
11001110 010 m 10 xx xx n d              | sm3tt               | Vd = Vd.acc Vn Vm
11001110 100 m xxxxxx n d                | xar                 | Vd = Vn Vm
11001110 11000000 1000 00 n d            | sha512su0           | Vd = Vd.acc Vn
11001110 11000000 1000 01 n d            | sm4e                | Vd = Vd.acc Vn
"""

_FLOATS = """
000 fmaxnm  fminnm  fmaxnmp fminnmp
001 fmla+   fmls+   -       -
010 fadd    fsub    faddp   fabd
011 fmulx   -       fmul    -
100 fcmeq   -       fcmge   fcmgt
101 -       -       facge   facgt
110 fmax    fmin    fmaxp   fminp
111 frecps  frsqrts fdiv    -
"""
"""Three same, floating point: low bits of the opcode; U0 a0, U0 a1, U1 a0, U1 a1."""
_FLOATS_SCALAR = """
010 -      -       -     fabd
011 fmulx  -       -     -
100 fcmeq  -       fcmge fcmgt
101 -      -       facge facgt
111 frecps frsqrts -     -
"""
_MISC = """
01100 -        fcmgt0  -        fcmge0
01101 -        fcmeq0  -        fcmle0
01110 -        fcmlt0  -        -
01111 -        fabs    -        fneg
11000 frintn   frintp  frinta   -
11001 frintm   frintz  frintx   frinti
11010 fcvtns   fcvtps  fcvtnu   fcvtpu
11011 fcvtms   fcvtzs  fcvtmu   fcvtzu
11100 fcvtas   -       fcvtau   -
11101 scvtf    frecpe  ucvtf    frsqrte
11111 -        -       -        fsqrt
"""
_MISC_SCALAR = """
01100 -        fcmgt0  -        fcmge0
01101 -        fcmeq0  -        fcmle0
01110 -        fcmlt0  -        -
11010 fcvtns   fcvtps  fcvtnu   fcvtpu
11011 fcvtms   fcvtzs  fcvtmu   fcvtzu
11100 fcvtas   -       fcvtau   -
11101 scvtf    frecpe  ucvtf    frsqrte
11111 -        frecpx  -        -
"""
_SHIFTS = """
00000 sshr    ushr
00010 ssra+   usra+
00100 srshr   urshr
00110 srsra+  ursra+
01000 -       sri+
01010 shl     sli+
01100 -       sqshlu
01110 sqshl   uqshl
"""
_SHIFTS_NARROW = """
10000 shrn^   sqshrun^
10001 rshrn^  sqrshrun^
10010 sqshrn^ uqshrn^
10011 sqrshrn^ uqrshrn^
"""
_BY_ELEMENT = """
0000 -        mla+
0100 -        mls+
1000 mul      -
1100 sqdmulh  -
1101 sqrdmulh sqrdmlah+
1111 -        sqrdmlsh+
"""
_BY_ELEMENT_LONG = """
0010 smlal+   umlal+
0110 smlsl+   umlsl+
1010 smull    umull
0011 sqdmlal+ -
0111 sqdmlsl+ -
1011 sqdmull  -
"""
_BY_ELEMENT_FLOAT = "0001 fmla+ -\n0101 fmls+ -\n1001 fmul fmulx"
_BY_ELEMENT_SCALAR = """
1100 sqdmulh  -
1101 sqrdmulh sqrdmlah+
1111 -        sqrdmlsh+
0011 sqdmlal+ -
0111 sqdmlsl+ -
1011 sqdmull  -
"""

FAMILIES = f"""
@ U | 0 Q U 01110 size:2 1 m op 1 n d | .{{T6}} | Vd = Vn Vm
00000 shadd  uhadd
00010 srhadd urhadd
00100 shsub  uhsub
01100 smax   umax
01101 smin   umin
01110 sabd   uabd
01111 saba+  uaba+
10010 mla+   mls+
10011 mul    -
10100 smaxp  umaxp
10101 sminp  uminp
@ U | 0 Q U 01110 size:2 1 m op 1 n d | .{{T7}} | Vd = Vn Vm
00001 sqadd  uqadd
00101 sqsub  uqsub
00110 cmgt   cmhi
00111 cmge   cmhs
01000 sshl   ushl
01001 sqshl.reg uqshl.reg
01010 srshl  urshl
01011 sqrshl uqrshl
10000 add    sub
10001 cmtst  cmeq
10111 addp   -
@ U | 0 Q U 01110 size:2 1 m op 1 n d | .{{THS}} | Vd = Vn Vm
10110 sqdmulh sqrdmulh
@ U | 0 Q U 01110 00 1 m op 1 n d | .{{BT}} | Vd = Vn Vm
10011 -      pmul
@ U a | 0 Q U 01110 a sz 1 m 11 op 1 n d | .{{FT}} | Vd = Vn Vm {_FLOATS}
@ U a | 0 Q U 01110 a 10 m 00 op 1 n d | .{{HT}} | Vd = Vn Vm {_FLOATS}
@ U | 01 U 11110 size:2 1 m op 1 n d | .{{e}} | Vd = Vn Vm
00001 sqadd  uqadd
00101 sqsub  uqsub
01001 sqshl.reg uqshl.reg
01011 sqrshl uqrshl
@ U | 01 U 11110 size:2 1 m op 1 n d | .{{EHS}} | Vd = Vn Vm
10110 sqdmulh sqrdmulh
@ U | 01 U 11110 11 1 m op 1 n d | .d | Vd = Vn Vm
00110 cmgt   cmhi
00111 cmge   cmhs
01000 sshl   ushl
01010 srshl  urshl
10000 add    sub
10001 cmtst  cmeq
@ U a | 01 U 11110 a sz 1 m 11 op 1 n d | .{{fs}} | Vd = Vn Vm {_FLOATS_SCALAR}
@ U a | 01 U 11110 a 10 m 00 op 1 n d | .h | Vd = Vn Vm {_FLOATS_SCALAR}
@ U | 0 Q U 01110 size:2 10000 op 10 n d | .{{T7}} | Vd = Vn
00011 suqadd+ usqadd+
00111 sqabs   sqneg
01000 cmgt0   cmge0
01001 cmeq0   cmle0
01010 cmlt0   -
01011 abs     neg
@ U | 0 Q U 01110 size:2 10000 op 10 n d | .{{T6}} | Vd = Vn
00000 rev64   -
00010 saddlp  uaddlp
00100 cls     clz
00110 sadalp+ uadalp+
10010 xtn^    sqxtun^
10011 -       shll
10100 sqxtn^  uqxtn^
@ U | 0 Q U 01110 00 10000 op 10 n d | .{{BT}} | Vd = Vn
00000 -       rev32
00001 rev16   -
00101 cnt     -
@ U | 0 Q U 01110 01 10000 op 10 n d | .{{HT}} | Vd = Vn
00000 -       rev32
@ U | 01 U 11110 size:2 10000 op 10 n d | .{{e}} | Vd = Vn
00011 suqadd+ usqadd+
00111 sqabs   sqneg
@ U | 01 U 11110 size:2 10000 op 10 n d | .{{E3}} | Vd = Vn
10010 -       sqxtun
10100 sqxtn   uqxtn
@ U | 01 U 11110 11 10000 op 10 n d | .d | Vd = Vn
01000 cmgt0   cmge0
01001 cmeq0   cmle0
01010 cmlt0   -
01011 abs     neg
@ U a | 0 Q U 01110 a sz 10000 op 10 n d | .{{FT}} | Vd = Vn {_MISC}
@ U a | 0 Q U 01110 a 0 10000 op 10 n d | .{{FS}} | Vd = Vn
11100 -       urecpe  -       ursqrte
@ U | 0 Q U 01110 0 sz 10000 op 10 n d | .{{FT}} | Vd = Vn
11110 frint32z frint32x
11111 frint64z frint64x
@ U a | 0 Q U 01110 a 111100 op 10 n d | .{{HT}} | Vd = Vn {_MISC}
@ U a | 01 U 11110 a sz 10000 op 10 n d | .{{fs}}.v | Vd = Vn {_MISC_SCALAR}
@ U a | 01 U 11110 a 111100 op 10 n d | .h.v | Vd = Vn {_MISC_SCALAR}
@ U | 0 Q U 01110 size:2 11000 op 10 n d | .{{TV}} | Vd = Vn
00011 saddlv uaddlv
01010 smaxv  umaxv
11010 sminv  uminv
11011 addv   -
@ U | 0 Q U 01110 size:2 1 m op 00 n d | .{{T6}} | Vd = Vn Vm
0000 saddl  uaddl
0001 saddw  uaddw
0010 ssubl  usubl
0011 ssubw  usubw
0100 addhn^ raddhn^
0101 sabal+ uabal+
0110 subhn^ rsubhn^
0111 sabdl  uabdl
1000 smlal+ umlal+
1010 smlsl+ umlsl+
1100 smull  umull
@ U | 0 Q U 01110 size:2 1 m op 00 n d | .{{THS}} | Vd = Vn Vm
1001 sqdmlal+ -
1011 sqdmlsl+ -
1101 sqdmull -
@ U | 0 Q U 01110 size:2 1 m op 00 n d | .{{TP}} | Vd = Vn Vm
1110 pmull  -
@ U | 01 U 11110 size:2 1 m op 00 n d | .{{EHS}} | Vd = Vn Vm
1001 sqdmlal+ -
1011 sqdmlsl+ -
1101 sqdmull -
@ U | 0 Q U 011110 0001 xxx op 1 n d | .{{BT}}.imm | Vd = Vn {_SHIFTS}{_SHIFTS_NARROW}
10100 sshll ushll
@ U | 0 Q U 011110 001x xxx op 1 n d | .{{HT}}.imm | Vd = Vn {_SHIFTS}{_SHIFTS_NARROW}
10100 sshll ushll
11100 scvtf ucvtf
11111 fcvtzs fcvtzu
@ U | 0 Q U 011110 01xx xxx op 1 n d | .{{FS}}.imm | Vd = Vn {_SHIFTS}{_SHIFTS_NARROW}
10100 sshll ushll
11100 scvtf ucvtf
11111 fcvtzs fcvtzu
@ U | 0 1 U 011110 1xxx xxx op 1 n d | .2d.imm | Vd = Vn {_SHIFTS}
11100 scvtf ucvtf
11111 fcvtzs fcvtzu
@ U | 01 U 111110 0001 xxx op 1 n d | .b.imm | Vd = Vn
01100 - sqshlu
01110 sqshl uqshl
10000 - sqshrun
10001 - sqrshrun
10010 sqshrn uqshrn
10011 sqrshrn uqrshrn
@ U | 01 U 111110 001x xxx op 1 n d | .h.imm | Vd = Vn
01100 - sqshlu
01110 sqshl uqshl
10000 - sqshrun
10001 - sqrshrun
10010 sqshrn uqshrn
10011 sqrshrn uqrshrn
11100 scvtf ucvtf
11111 fcvtzs fcvtzu
@ U | 01 U 111110 01xx xxx op 1 n d | .s.imm | Vd = Vn
01100 - sqshlu
01110 sqshl uqshl
10000 - sqshrun
10001 - sqrshrun
10010 sqshrn uqshrn
10011 sqrshrn uqrshrn
11100 scvtf ucvtf
11111 fcvtzs fcvtzu
@ U | 01 U 111110 1xxx xxx op 1 n d | .d.imm | Vd = Vn {_SHIFTS}
11100 scvtf ucvtf
11111 fcvtzs fcvtzu
@ U | 0 Q U 01111 01 xx k op x 0 n d | .{{HT}}.elem | Vd = Vn Vk {_BY_ELEMENT}{_BY_ELEMENT_LONG}
@ U | 0 Q U 01111 10 x m op x 0 n d | .{{FS}}.elem | Vd = Vn Vm {_BY_ELEMENT}{_BY_ELEMENT_LONG}
@ U | 0 Q U 01111 00 xx k op x 0 n d | .{{HT}}.elem | Vd = Vn Vk
{_BY_ELEMENT_FLOAT}
@ U | 0 Q U 01111 10 x m op x 0 n d | .{{FS}}.elem | Vd = Vn Vm
{_BY_ELEMENT_FLOAT}
@ U | 0 1 U 01111 11 0 m op x 0 n d | .2d.elem | Vd = Vn Vm
{_BY_ELEMENT_FLOAT}
@ U | 01 U 11111 01 xx k op x 0 n d | .h.elem | Vd = Vn Vk {_BY_ELEMENT_SCALAR}
@ U | 01 U 11111 10 x m op x 0 n d | .s.elem | Vd = Vn Vm {_BY_ELEMENT_SCALAR}
@ U | 01 U 11111 00 xx k op x 0 n d | .h.elem | Vd = Vn Vk
{_BY_ELEMENT_FLOAT}
@ U | 01 U 11111 10 x m op x 0 n d | .s.elem | Vd = Vn Vm
{_BY_ELEMENT_FLOAT}
@ U | 01 U 11111 11 0 m op x 0 n d | .d.elem | Vd = Vn Vm
{_BY_ELEMENT_FLOAT}
"""

_MULTIPLE = "0000 4 4, 0010 1 4, 0100 3 3, 0110 1 3, 0111 1 1, 1000 2 2, 1010 1 2"
"""Structures, multiple: opcode, elements, registers."""
_SINGLE = "b 000 x xx, h 010 x x0, s 100 x 00, d 100 0 01"
"""Structures, single: element size and its bits 15:13 (the low one tells 3 and 4), 12, 11:10."""


def SIMD() -> list[str]:  # noqa: N802 - a table that is built when it is first wanted
    """All rows, the more special first."""
    singles = [line for line in (_SCALAR + _VECTOR).splitlines() if "|" in line]
    return [*singles, *_families(), *_structures()]


def _families() -> Iterator[str]:
    header: list[str] = []
    for line in FAMILIES.splitlines():
        if line.startswith("@"):
            header = [part.strip() for part in line[1:].split("|")]
        elif line.strip():
            opcode, *names = line.split()
            for number, name in enumerate(names):
                if name != "-":
                    yield from _member(header, opcode, number, name)


def _member(header: list[str], opcode: str, number: int, name: str) -> Iterator[str]:
    selectors, pattern, suffix, operands = header
    tokens = pattern.split()
    chosen = dict(zip(selectors.split(), f"{number:0{len(selectors.split())}b}", strict=True))
    chosen["op"] = opcode
    row = " ".join(chosen.get(token, token) for token in tokens)
    plain = name.rstrip("+^")
    if name.endswith("^"):
        for q, number_two, kinds, merged in (("0", "", _LOWER, ""), ("1", "2", _UPPER, " Vd.acc")):
            half = " ".join(q if token == "Q" else token for token in row.split())
            arrangement = suffix
            for kind, names in kinds.items():
                arrangement = arrangement.replace(kind, names)
            yield f"{half} | {plain}{number_two}{arrangement} | {operands}{merged}"
    else:
        yield f"{row} | {plain}{suffix} | {operands}{' Vd.acc' if name.endswith('+') else ''}"


_LOWER = {"{T6}": "{TL}", "{BT}": "8b", "{HT}": "4h", "{FS}": "2s"}
_UPPER = {"{T6}": "{TU}", "{BT}": "16b", "{HT}": "8h", "{FS}": "4s"}
"""Kinds of arrangement once Q is known."""


def _structures() -> Iterator[str]:
    for entry in _MULTIPLE.split(", "):
        opcode, elements, registers = entry.split()
        span = f"Vt+{int(registers) - 1}"
        name = f"{elements}.{registers}.{'{T}' if elements == '1' else '{T7}'}"
        yield from _structure("0011000", f"000000 {opcode} size:2", name, span, "")
    for entry in _SINGLE.split(", "):
        element, opcode, s, size = entry.split()
        for number in range(4):
            where = f"{number & 1} 00000 {opcode[:2]}{number >> 1} {s} {size}"
            name = f"{number + 1}.lane.{element}"
            yield from _structure("0011010", where, name, f"Vt+{number}", "acc")
    for number in range(4):
        where = f"{number & 1} 00000 11{number >> 1} 0 size:2"
        yield from _structure("0011010", where, f"{number + 1}r.{{T}}", f"Vt+{number}", "r")


def _structure(group: str, where: str, name: str, span: str, kind: str) -> Iterator[str]:
    """A load and a store, without write-back, with it by an immediate and by a register."""
    merged = f"{span}.acc" if kind == "acc" else ""
    first, rest = (where.split(" ", 1)[0], where.split(" ", 1)[1])
    post = group[:-1] + "1"
    plain = f"{first} {rest}"
    forms = (
        (f"0 Q {group} %s {plain} n t", "", ""),
        (f"0 Q {post} %s {_index(first, rest, '11111')} n t", ".post", ""),
        (f"0 Q {post} %s {_index(first, rest, 'm')} n t", ".post.reg", "Xm.index"),
    )
    for pattern, how, index in forms:
        back = "Sn.base" if how else ""
        yield f"{pattern % '1'} | ld{name}{how} | {span} {back} = Sn.base {index} {merged} | LOAD"
        if kind != "r":
            yield f"{pattern % '0'} | st{name}{how} | {back} = Sn.base {index} {span}.data | STORE"


def _index(first: str, rest: str, register: str) -> str:
    """The pattern with the index register in place of its five zeros."""
    if first == "000000":
        return f"0 {register} {rest}"
    return f"{first} {register} {rest.removeprefix('00000 ')}"

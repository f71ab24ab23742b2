"""The A64 encodings of general instructions, branches, system and memory accesses, as rows.

`a64.py` explains the notation. Memory accesses are a table of what is moved times a table of how
the address is made. Source: DDI 0487 §C4.1 (encoding tables), section names in the comments.
"""

from __future__ import annotations

from collections.abc import Iterator

_GENERAL = """
# Data processing, immediate
0 xx 10000 imm19 d                          | adr               | Xd =
1 xx 10000 imm19 d                          | adrp              | Xd =
1 0 0 100011 0 imm6 00 xxxx n d             | addg              | Sd = Sn
1 1 0 100011 0 imm6 00 xxxx n d             | subg              | Sd = Sn
sf 0 0 100011 1 0000 imm8 n d               | smax.{sf}.imm     | Xd = Xn
sf 0 0 100011 1 0001 imm8 n d               | umax.{sf}.imm     | Xd = Xn
sf 0 0 100011 1 0010 imm8 n d               | smin.{sf}.imm     | Xd = Xn
sf 0 0 100011 1 0011 imm8 n d               | umin.{sf}.imm     | Xd = Xn
sf 0 0 100010 x imm12 n d                   | add.{sf}.imm      | Sd = Sn
sf 0 1 100010 x imm12 n d                   | adds.{sf}.imm     | Xd F = Sn
sf 1 0 100010 x imm12 n d                   | sub.{sf}.imm      | Sd = Sn
sf 1 1 100010 x imm12 n d                   | subs.{sf}.imm     | Xd F = Sn
0 xx 100100 1 imm12 n d                     | -                 |
x xx 100100 0 xxxxxx 011111 n d             | -                 |
x xx 100100 0 xxxxxx 101111 n d             | -                 |
x xx 100100 0 xxxxxx 110111 n d             | -                 |
x xx 100100 0 xxxxxx 111011 n d             | -                 |
x xx 100100 0 xxxxxx 111101 n d             | -                 |
x xx 100100 0 xxxxxx 11111x n d             | -                 |
1 xx 100100 1 xxxxxx 111111 n d             | -                 |
sf 00 100100 x imm12 n d                    | and.{sf}.imm      | Sd = Xn
sf 01 100100 x imm12 n d                    | orr.{sf}.imm      | Sd = Xn
sf 10 100100 x imm12 n d                    | eor.{sf}.imm      | Sd = Xn
sf 11 100100 x imm12 n d                    | ands.{sf}.imm     | Xd F = Xn
0 xx 100101 1 x imm16 d                     | -                 |
sf 00 100101 xx imm16 d                     | movn.{sf}         | Xd =
sf 10 100101 00 0000000000000000 d          | movz.{sf}.zero    | Xd =          | ZERO
sf 10 100101 xx imm16 d                     | movz.{sf}         | Xd =
sf 11 100101 xx imm16 d                     | movk.{sf}         | Xd = Xd
0 xx 100110 0 1xxxxx xxxxxx n d             | -                 |
0 xx 100110 0 xxxxxx 1xxxxx n d             | -                 |
sf 00 100110 sf xxxxxx xxxxxx n d           | sbfm.{sf}         | Xd = Xn
sf 01 100110 sf xxxxxx xxxxxx n d           | bfm.{sf}          | Xd = Xd.acc Xn
sf 10 100110 sf xxxxxx xxxxxx n d           | ubfm.{sf}         | Xd = Xn
0 00 100111 0 0 m 1xxxxx n d                | -                 |
sf 00 100111 sf 0 m xxxxxx n d              | extr.{sf}         | Xd = Xn Xm.shifted
# Data processing, register: logical
0 xx 01010 xx x m 1xxxxx n d                | -                 |
sf 01 01010 00 0 m 000000 11111 d           | mov.{sf}          | Xd = Xm       | MOVE
sf 00 01010 <sh> 0 m <am> n d               | and.{sf}<k>       | Xd = Xn Xm<r>
sf 01 01010 <sh> 0 m <am> n d               | orr.{sf}<k>       | Xd = Xn Xm<r>
sf 10 01010 <sh> 0 m <am> n d               | eor.{sf}<k>       | Xd = Xn Xm<r>
sf 11 01010 <sh> 0 m <am> n d               | ands.{sf}<k>      | Xd F = Xn Xm<r>
sf 00 01010 <sh> 1 m <am> n d               | bic.{sf}<k>       | Xd = Xn Xm<r>
sf 01 01010 <sh> 1 m <am> n d               | orn.{sf}<k>       | Xd = Xn Xm<r>
sf 10 01010 <sh> 1 m <am> n d               | eon.{sf}<k>       | Xd = Xn Xm<r>
sf 11 01010 <sh> 1 m <am> n d               | bics.{sf}<k>      | Xd F = Xn Xm<r>
# add and subtract, shifted and extended register
0 xx 01011 xx 0 m 1xxxxx n d                | -                 |
x xx 01011 11 0 m xxxxxx n d                | -                 |
sf 0 0 01011 <sh> 0 m <am> n d              | add.{sf}<k>       | Xd = Xn Xm<r>
sf 0 1 01011 <sh> 0 m <am> n d              | adds.{sf}<k>      | Xd F = Xn Xm<r>
sf 1 0 01011 <sh> 0 m <am> n d              | sub.{sf}<k>       | Xd = Xn Xm<r>
sf 1 1 01011 <sh> 0 m <am> n d              | subs.{sf}<k>      | Xd F = Xn Xm<r>
x xx 01011 00 1 m xxx 11x n d               | -                 |
x xx 01011 00 1 m xxx 101 n d               | -                 |
sf 0 0 01011 00 1 m <ex> <am> n d           | add.{sf}<k>       | Sd = Sn Xm<r>
sf 0 1 01011 00 1 m <ex> <am> n d           | adds.{sf}<k>      | Xd F = Sn Xm<r>
sf 1 0 01011 00 1 m <ex> <am> n d           | sub.{sf}<k>       | Sd = Sn Xm<r>
sf 1 1 01011 00 1 m <ex> <am> n d           | subs.{sf}<k>      | Xd F = Sn Xm<r>
# add and subtract with carry, flags, conditional
sf 0 0 11010000 m 000000 n d                | adc.{sf}          | Xd = Xn Xm F
sf 0 1 11010000 m 000000 n d                | adcs.{sf}         | Xd F = Xn Xm F
sf 1 0 11010000 m 000000 n d                | sbc.{sf}          | Xd = Xn Xm F
sf 1 1 11010000 m 000000 n d                | sbcs.{sf}         | Xd F = Xn Xm F
1 0 1 11010000 xxxxxx 00001 n 0 xxxx        | rmif              | F = Xn F
0 0 1 11010000 000000 x 0010 n 0 1101       | setf              | F = Xn F
sf 0 1 11010010 m xxxx 00 n 0 xxxx          | ccmn.{sf}.reg     | F = Xn Xm F
sf 1 1 11010010 m xxxx 00 n 0 xxxx          | ccmp.{sf}.reg     | F = Xn Xm F
sf 0 1 11010010 xxxxx xxxx 10 n 0 xxxx      | ccmn.{sf}.imm     | F = Xn F
sf 1 1 11010010 xxxxx xxxx 10 n 0 xxxx      | ccmp.{sf}.imm     | F = Xn F
sf 0 0 11010100 m xxxx 00 n d               | csel.{sf}         | Xd = Xn Xm F
sf 0 0 11010100 m xxxx 01 n d               | csinc.{sf}        | Xd = Xn Xm F
sf 1 0 11010100 m xxxx 00 n d               | csinv.{sf}        | Xd = Xn Xm F
sf 1 0 11010100 m xxxx 01 n d               | csneg.{sf}        | Xd = Xn Xm F
# two, one and three sources
1 0 0 11010110 m 000000 n d                 | subp              | Xd = Sn Sm
1 0 1 11010110 m 000000 n d                 | subps             | Xd F = Sn Sm
sf 0 0 11010110 m 000010 n d                | udiv.{sf}         | Xd = Xn Xm
sf 0 0 11010110 m 000011 n d                | sdiv.{sf}         | Xd = Xn Xm
1 0 0 11010110 m 000100 n d                 | irg               | Sd = Sn Xm
1 0 0 11010110 m 000101 n d                 | gmi               | Xd = Sn Xm
sf 0 0 11010110 m 001000 n d                | lslv.{sf}         | Xd = Xn Xm.shifted
sf 0 0 11010110 m 001001 n d                | lsrv.{sf}         | Xd = Xn Xm.shifted
sf 0 0 11010110 m 001010 n d                | asrv.{sf}         | Xd = Xn Xm.shifted
sf 0 0 11010110 m 001011 n d                | rorv.{sf}         | Xd = Xn Xm.shifted
1 0 0 11010110 m 001100 n d                 | pacga             | Xd = Xn Sm
1 0 0 11010110 m 010 0 11 n d               | crc32x            | Xd = Xn Xm
1 0 0 11010110 m 010 1 11 n d               | crc32cx           | Xd = Xn Xm
0 0 0 11010110 m 010 x 11 n d               | -                 |
0 0 0 11010110 m 010 0 size:2 n d           | crc32{crc}        | Xd = Xn Xm
0 0 0 11010110 m 010 1 size:2 n d           | crc32c{crc}       | Xd = Xn Xm
sf 0 0 11010110 m 011000 n d                | smax.{sf}         | Xd = Xn Xm
sf 0 0 11010110 m 011001 n d                | umax.{sf}         | Xd = Xn Xm
sf 0 0 11010110 m 011010 n d                | smin.{sf}         | Xd = Xn Xm
sf 0 0 11010110 m 011011 n d                | umin.{sf}         | Xd = Xn Xm
sf 1 0 11010110 00000 000000 n d            | rbit.{sf}         | Xd = Xn
sf 1 0 11010110 00000 000001 n d            | rev16.{sf}        | Xd = Xn
0 1 0 11010110 00000 000010 n d             | rev.w             | Xd = Xn
1 1 0 11010110 00000 000010 n d             | rev32.x           | Xd = Xn
1 1 0 11010110 00000 000011 n d             | rev.x             | Xd = Xn
sf 1 0 11010110 00000 000100 n d            | clz.{sf}          | Xd = Xn
sf 1 0 11010110 00000 000101 n d            | cls.{sf}          | Xd = Xn
sf 1 0 11010110 00000 000110 n d            | ctz.{sf}          | Xd = Xn
sf 1 0 11010110 00000 000111 n d            | cnt.{sf}          | Xd = Xn
sf 1 0 11010110 00000 001000 n d            | abs.{sf}          | Xd = Xn
1 1 0 11010110 00001 000 0 D B n d          | pac{D}{B}         | Xd = Xd Sn.shifted
1 1 0 11010110 00001 000 1 D B n d          | aut{D}{B}         | Xd = Xd Sn.shifted
1 1 0 11010110 00001 001 0 D B 11111 d      | pac{D}z{B}        | Xd = Xd
1 1 0 11010110 00001 001 1 D B 11111 d      | aut{D}z{B}        | Xd = Xd
1 1 0 11010110 00001 01000 D 11111 d        | xpac{D}           | Xd = Xd
sf 00 11011 000 m 0 11111 n d               | mul.{sf}          | Xd = Xn.mul Xm.mul
sf 00 11011 000 m 0 a n d                   | madd.{sf}         | Xd = Xn.mul Xm.mul Xa.acc
sf 00 11011 000 m 1 11111 n d               | mneg.{sf}         | Xd = Xn.mul Xm.mul
sf 00 11011 000 m 1 a n d                   | msub.{sf}         | Xd = Xn.mul Xm.mul Xa.acc
1 00 11011 001 m 0 11111 n d                | smull             | Xd = Xn.mul Xm.mul
1 00 11011 001 m 0 a n d                    | smaddl            | Xd = Xn.mul Xm.mul Xa.acc
1 00 11011 001 m 1 11111 n d                | smnegl            | Xd = Xn.mul Xm.mul
1 00 11011 001 m 1 a n d                    | smsubl            | Xd = Xn.mul Xm.mul Xa.acc
1 00 11011 101 m 0 11111 n d                | umull             | Xd = Xn.mul Xm.mul
1 00 11011 101 m 0 a n d                    | umaddl            | Xd = Xn.mul Xm.mul Xa.acc
1 00 11011 101 m 1 11111 n d                | umnegl            | Xd = Xn.mul Xm.mul
1 00 11011 101 m 1 a n d                    | umsubl            | Xd = Xn.mul Xm.mul Xa.acc
1 00 11011 010 m 0 xxxxx n d                | smulh             | Xd = Xn.mul Xm.mul
1 00 11011 110 m 0 xxxxx n d                | umulh             | Xd = Xn.mul Xm.mul
# Branches
0101010 0 imm19 x xxxx                      | b.cond            | = F           | COND
sf 011010 0 imm19 t                         | cbz.{sf}          | = Xt.branch   | COND
sf 011010 1 imm19 t                         | cbnz.{sf}         | = Xt.branch   | COND
0 011011 0 xxxxx imm14 t                    | tbz.w             | = Xt.branch   | COND
0 011011 1 xxxxx imm14 t                    | tbnz.w            | = Xt.branch   | COND
1 011011 0 xxxxx imm14 t                    | tbz.x             | = Xt.branch   | COND
1 011011 1 xxxxx imm14 t                    | tbnz.x            | = Xt.branch   | COND
0 00101 imm26                               | b                 | =             | B
1 00101 imm26                               | bl                | X30 =         | CALL
1101011 0000 11111 000000 n 00000           | br                | = Xn.branch   | INDIRECT
1101011 0001 11111 000000 n 00000           | blr               | X30 = Xn.branch | CALL_INDIRECT
1101011 0010 11111 000000 n 00000           | ret               | = Xn.branch   | RETURN
1101011 0000 11111 00001 B n 11111          | bra{B}z           | = Xn.branch   | INDIRECT
1101011 0001 11111 00001 B n 11111          | blra{B}z          | X30 = Xn.branch | CALL_INDIRECT
1101011 0010 11111 00001 B 11111 11111      | reta{B}           | = X30.branch S31 | RETURN
1101011 1000 11111 00001 B n m              | bra{B}            | = Xn.branch Sm | INDIRECT
1101011 1001 11111 00001 B n m              | blra{B}           | X30 = Xn.branch Sm | CALL_INDIRECT
1101011 0100 11111 000000 11111 00000       | sys_eret          | F =           | EXCEPTION SYSTEM
1101011 0100 11111 00001 B 11111 11111      | sys_eret          | F =           | EXCEPTION SYSTEM
1101011 0101 11111 000000 11111 00000       | sys_drps          | =             | EXCEPTION SYSTEM
11010100 000 imm16 000 01                   | sys_svc           | =             | EXCEPTION SYSTEM
11010100 000 imm16 000 10                   | sys_hvc           | =             | EXCEPTION SYSTEM
11010100 000 imm16 000 11                   | sys_smc           | =             | EXCEPTION SYSTEM
11010100 001 imm16 000 00                   | sys_brk           | =             | EXCEPTION SYSTEM
11010100 010 imm16 000 00                   | sys_hlt           | =             | EXCEPTION SYSTEM
11010100 101 imm16 000 01                   | sys_dcps          | =             | EXCEPTION SYSTEM
11010100 101 imm16 000 1x                   | sys_dcps          | =             | EXCEPTION SYSTEM
0000000000000000 imm16                      | sys_udf           | =             | EXCEPTION SYSTEM
# System: hints, barriers, PSTATE, maintenance, registers
1101010100 0 00 011 0010 0000 000 11111     | nop               | =             | NOP
1101010100 0 00 011 0010 0000 001 11111     | sys_yield         | =             | SYSTEM
1101010100 0 00 011 0010 0000 010 11111     | sys_wfe           | =             | SYSTEM
1101010100 0 00 011 0010 0000 011 11111     | sys_wfi           | =             | SYSTEM
1101010100 0 00 011 0010 0000 10x 11111     | sys_sev           | =             | SYSTEM
1101010100 0 00 011 0010 0000 111 11111     | xpaclri           | X30 = X30     |
1101010100 0 00 011 0010 0001 0 B 0 11111   | paci{B}1716       | X17 = X17 X16.shifted |
1101010100 0 00 011 0010 0001 1 B 0 11111   | auti{B}1716       | X17 = X17 X16.shifted |
1101010100 0 00 011 0010 0010 000 11111     | sys_esb           | =             | SYSTEM BARRIER
1101010100 0 00 011 0010 0010 010 11111     | sys_tsb           | =             | SYSTEM BARRIER
1101010100 0 00 011 0010 0010 100 11111     | sys_csdb          | =             | SYSTEM BARRIER
1101010100 0 00 011 0010 0011 0 B 0 11111   | paci{B}z          | X30 = X30     |
1101010100 0 00 011 0010 0011 0 B 1 11111   | paci{B}sp         | X30 = X30 S31.shifted |
1101010100 0 00 011 0010 0011 1 B 0 11111   | auti{B}z          | X30 = X30     |
1101010100 0 00 011 0010 0011 1 B 1 11111   | auti{B}sp         | X30 = X30 S31.shifted |
1101010100 0 00 011 0010 0100 xx0 11111     | bti               | =             | NOP
1101010100 0 00 011 0010 xxxx xxx 11111     | hint              | =             | NOP
1101010100 0 00 011 0011 xxxx 010 11111     | sys_clrex         | =             | SYSTEM
1101010100 0 00 011 0011 xxxx 100 11111     | sys_dsb           | =             | SYSTEM BARRIER
1101010100 0 00 011 0011 xx10 001 11111     | sys_dsb           | =             | SYSTEM BARRIER
1101010100 0 00 011 0011 xxxx 101 11111     | sys_dmb           | =             | SYSTEM BARRIER
1101010100 0 00 011 0011 xxxx 110 11111     | sys_isb           | =             | SYSTEM BARRIER
1101010100 0 00 011 0011 xxxx 111 11111     | sys_sb            | =             | SYSTEM BARRIER
1101010100 0 00 011 0001 0000 000 t         | sys_wfet          | = Xt          | SYSTEM
1101010100 0 00 011 0001 0000 001 t         | sys_wfit          | = Xt          | SYSTEM
1101010100 0 00 000 0100 xxxx 000 11111     | cfinv             | F = F         |
1101010100 0 00 000 0100 xxxx 001 11111     | xaflag            | F = F         |
1101010100 0 00 000 0100 xxxx 010 11111     | axflag            | F = F         |
1101010100 0 00 xxx 0100 xxxx xxx 11111     | sys_msr_imm       | =             | SYSTEM
1101010100 0 01 xxx 0111 0x01 xxx t         | sys_ic            | = Xt          | SYSTEM
1101010100 0 01 xxx 0111 100x xxx t         | sys_at            | = Xt          | SYSTEM
1101010100 0 01 011 0111 0100 001 t         | sys_dc_zva        | = Xt.base     | SYSTEM STORE
1101010100 0 01 011 0111 0011 xxx t         | sys_cfp           | = Xt          | SYSTEM
1101010100 0 01 xxx 0111 xxxx xxx t         | sys_dc            | = Xt.base     | SYSTEM
1101010100 0 01 xxx 100x xxxx xxx t         | sys_tlbi          | = Xt          | SYSTEM
1101010100 0 01 xxx xxxx xxxx xxx t         | sys_sys           | = Xt          | SYSTEM
1101010100 1 01 xxx xxxx xxxx xxx t         | sys_sysl          | Xt =          | SYSTEM
1101010100 1 1 1 011 0100 0010 000 t        | sys_mrs           | Xt = F        | SYSTEM
1101010100 0 1 1 011 0100 0010 000 t        | sys_msr           | F = Xt        | SYSTEM
1101010100 1 1 x xxx xxxx xxxx xxx t        | sys_mrs           | Xt =          | SYSTEM
1101010100 0 1 x xxx xxxx xxxx xxx t        | sys_msr           | = Xt          | SYSTEM
"""

_EXCLUSIVES = """
size:2 001000 0 0 0 s 0 xxxxx n t     | stxr{hb}            | Xs = Xt.data Sn.base | STORE
size:2 001000 0 0 0 s 1 xxxxx n t     | stlxr{hb}           | Xs = Xt.data Sn.base | STORE
size:2 001000 0 1 0 xxxxx 0 xxxxx n t | ldxr{hb}            | Xt = Sn.base | LOAD
size:2 001000 0 1 0 xxxxx 1 xxxxx n t | ldaxr{hb}           | Xt = Sn.base | LOAD
1 sf 001000 0 0 1 s 0 u n t           | stxp.{sf}           | Xs = Xt.data Xu.data Sn.base | STORE
1 sf 001000 0 0 1 s 1 u n t           | stlxp.{sf}          | Xs = Xt.data Xu.data Sn.base | STORE
1 sf 001000 0 1 1 xxxxx 0 u n t       | ldxp.{sf}           | Xt Xu.second = Sn.base | LOAD
1 sf 001000 0 1 1 xxxxx 1 u n t       | ldaxp.{sf}          | Xt Xu.second = Sn.base | LOAD
0 sf 001000 0 A 1 s R 11111 n t | casp.{sf}{ar} | Xs+1 = Xs+1.acc Xt+1.data Sn.base | LOAD STORE
size:2 001000 1 0 0 xxxxx 1 xxxxx n t | stlr{hb}            | = Xt.data Sn.base | STORE
size:2 001000 1 0 0 xxxxx 0 xxxxx n t | stllr{hb}           | = Xt.data Sn.base | STORE
size:2 001000 1 1 0 xxxxx 1 xxxxx n t | ldar{hb}            | Xt = Sn.base | LOAD
size:2 001000 1 1 0 xxxxx 0 xxxxx n t | ldlar{hb}           | Xt = Sn.base | LOAD
size:2 001000 1 A 1 s R 11111 n t | cas{hb}{ar} | Xs = Xs.acc Xt.data Sn.base | LOAD STORE
size:2 111 0 00 1 0 1 11111 1 100 00 n t | ldapr{hb}        | Xt = Sn.base | LOAD
size:2 011001 00 0 imm9 00 n t        | stlur{hb}           | = Xt.data Sn.base | STORE
size:2 011001 01 0 imm9 00 n t        | ldapur{hb}          | Xt = Sn.base | LOAD
0 x 011001 1 x 0 imm9 00 n t          | ldapurs             | Xt = Sn.base | LOAD
10 011001 10 0 imm9 00 n t            | ldapurs             | Xt = Sn.base | LOAD
# memory tags
11011001 01 1 imm9 00 n t             | ldg                 | Xt = Xt.acc Sn.base | LOAD
11011001 11 1 000000000 00 n t        | ldgm                | Xt = Sn.base | LOAD
11011001 xx 1 000000000 00 n t        | stgm                | = Xt.data Sn.base | STORE
11011001 xx 1 imm9 10 n t             | stg                 | = St.data Sn.base | STORE
11011001 xx 1 imm9 x1 n t             | stg.wb              | Sn.base = St.data Sn.base | STORE
11 111 0 00 M x 1 imm9 0 1 n t        | ldra{M}             | Xt = Sn.base | LOAD
11 111 0 00 M x 1 imm9 1 1 n t        | ldra{M}.pre         | Xt Sn.base = Sn.base | LOAD
"""

_ATOMICS = "ldadd ldclr ldeor ldset ldsmax ldsmin ldumax ldumin swp"
"""Atomic memory operations by o3:opc; §C4.1.94.11."""

_MOVED = """
# size V opc  name  what is moved
00 0 00  strb.w    = Xt.data   STORE
00 0 01  ldrb.w    Xt =        LOAD
00 0 10  ldrsb.x   Xt =        LOAD
00 0 11  ldrsb.w   Xt =        LOAD
01 0 00  strh.w    = Xt.data   STORE
01 0 01  ldrh.w    Xt =        LOAD
01 0 10  ldrsh.x   Xt =        LOAD
01 0 11  ldrsh.w   Xt =        LOAD
10 0 00  str.w     = Xt.data   STORE
10 0 01  ldr.w     Xt =        LOAD
10 0 10  ldrsw.x   Xt =        LOAD
11 0 00  str.x     = Xt.data   STORE
11 0 01  ldr.x     Xt =        LOAD
00 1 00  str.b     = Vt.data   STORE
00 1 01  ldr.b     Vt =        LOAD
00 1 10  str.q     = Vt.data   STORE
00 1 11  ldr.q     Vt =        LOAD
01 1 00  str.h     = Vt.data   STORE
01 1 01  ldr.h     Vt =        LOAD
10 1 00  str.s     = Vt.data   STORE
10 1 01  ldr.s     Vt =        LOAD
11 1 00  str.d     = Vt.data   STORE
11 1 01  ldr.d     Vt =        LOAD
11 0 10  prfm      =           LOAD
"""
_ADDRESSES = """
# how the address is made: name, pattern, written back, read
.imm     %s 111 %s 01 %s imm12 n t                |         | Sn.base
.un      %s 111 %s 00 %s 0 imm9 00 n t            |         | Sn.base
.post    %s 111 %s 00 %s 0 imm9 01 n t            | Sn.base | Sn.base
.priv    %s 111 %s 00 %s 0 imm9 10 n t            |         | Sn.base
.pre     %s 111 %s 00 %s 0 imm9 11 n t            | Sn.base | Sn.base
.reg     %s 111 %s 00 %s 1 m 011 0 10 n t         |         | Sn.base Xm.index
.reg.s   %s 111 %s 00 %s 1 m 011 1 10 n t         |         | Sn.base Xm.index
.ext     %s 111 %s 00 %s 1 m x10 0 10 n t         |         | Sn.base Xm.index
.ext.s   %s 111 %s 00 %s 1 m x10 1 10 n t         |         | Sn.base Xm.index
.reg     %s 111 %s 00 %s 1 m 111 0 10 n t         |         | Sn.base Xm.index
.reg.s   %s 111 %s 00 %s 1 m 111 1 10 n t         |         | Sn.base Xm.index
"""
_LITERALS = """
00 011 0 00 imm19 t | ldr.w.lit   | Xt = | LOAD
01 011 0 00 imm19 t | ldr.x.lit   | Xt = | LOAD
10 011 0 00 imm19 t | ldrsw.x.lit | Xt = | LOAD
11 011 0 00 imm19 t | prfm.lit    | =    | LOAD
00 011 1 00 imm19 t | ldr.s.lit   | Vt = | LOAD
01 011 1 00 imm19 t | ldr.d.lit   | Vt = | LOAD
10 011 1 00 imm19 t | ldr.q.lit   | Vt = | LOAD
"""
_PAIRS = "00 0 w, 10 0 x, 01 0 sw, 00 1 s, 01 1 d, 10 1 q"
"""opc, V and what it is; 01 0 is LDPSW (and STGP, a tagged store)."""
_PAIR_ADDRESSES = (("000", "n", ""), ("001", "", ".post"), ("010", "", ""), ("011", "", ".pre"))


def BASE() -> list[str]:  # noqa: N802 - a table that is built when it is first wanted
    """All rows, the more special first."""
    return [*plain(_EXCLUSIVES), *_atomics(), *plain(_LITERALS), *_accesses(), *_pairs(),
            *plain(_GENERAL)]  # fmt: skip


def plain(text: str) -> Iterator[str]:
    """The lines that are rows."""
    return (line for line in text.splitlines() if line and not line.startswith("#"))


def _atomics() -> Iterator[str]:
    for number, name in enumerate(_ATOMICS.split()):
        yield (
            f"size:2 111 0 00 A R 1 s {number >> 3} {number & 7:03b} 00 n t | {name}{{hb}}{{ar}} "
            "| Xt = Xs.data Sn.base | LOAD STORE"
        )


def _accesses() -> Iterator[str]:
    for access in plain(_MOVED):
        *fields, name, first, second, mark = [*access.split()[:4], *_moved(access)]
        for address in plain(_ADDRESSES):
            how, _, rest = address.partition(" ")
            pattern, written, read = rest.split("|")
            if not _exists(name, fields[1], how):
                continue
            target = f"{first} {written} = {read} {second}"
            yield f"{pattern % tuple(fields)} | {name}{how} | {target} | {mark}"


def _moved(access: str) -> tuple[str, str, str]:
    """What is written, what is read besides the address, and the mark."""
    _, _, _, _, *operands, mark = access.split()
    written, _, read = " ".join(operands).partition("=")
    return written, read, mark


def _exists(name: str, vector: str, how: str) -> bool:
    if name == "prfm":
        return how not in (".post", ".pre", ".priv")
    return not (vector == "1" and how == ".priv")


def _pairs() -> Iterator[str]:
    for pair in _PAIRS.split(", "):
        opc, vector, width = pair.split()
        bank = "V" if vector == "1" else "X"
        for mode, non_temporal, how in _PAIR_ADDRESSES:
            back = "Sn.base" if how else ""
            where = f"{opc} 101 {vector} {mode}"
            if width != "sw" or not non_temporal:
                name = f"ld{non_temporal}p{width if width == 'sw' else ''}"
                key = f"{name}.{'x' if width == 'sw' else width}{how}"
                yield (
                    f"{where} 1 imm7 u n t | {key} | {bank}t {bank}u.second {back} = Sn.base | LOAD"
                )
            if width != "sw":
                key = f"st{non_temporal}p.{width}{how}"
            elif non_temporal:
                continue
            else:
                key = f"stgp{how}"
            moved = f"{bank}t.data {bank}u.data"
            yield f"{where} 0 imm7 u n t | {key} | {back} = Sn.base {moved} | STORE"

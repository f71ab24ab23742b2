#!/usr/bin/env bash
# unicorn 2.1.4, AArch64: writing W3 or D1 from outside is no write of W3 or D1.
#
# Guess: as by an instruction, a write of a 32-bit register zeroes the rest of the 64 (DDI 0487,
# "Registers in AArch64 state": writes to W set bits 63:32 to zero), and a scalar write of D1 or S1
# zeroes the rest of V1.
# Found: reg_write merges: the bits above stay what they were. The guest's own `mov w3, #5` and
# `fmov d1, xzr` zero them.
#
# Output seen:
#   reg_write W3 = 5: X3 = 0xffffffff00000005
#   guest mov w3, #5: X3 = 0x5
#   reg_write D1 = 5: Q1 = 0xffffffffffffffff0000000000000005
#   reg_write S1 = 5: Q1 = 0xffffffffffffffffffffffff00000005
#   guest fmov d1, xzr: Q1 = 0x0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q unicorn==2.1.4
"$work/venv/bin/python" - >"$work/seen" <<'PY'
import struct
from unicorn import *
from unicorn.arm64_const import *

ONES = (1 << 64) - 1
uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
uc.mem_map(0x10000, 0x1000)
uc.mem_write(0x10000, struct.pack("<2I", 0x528000A3, 0x9E6703E1))
uc.reg_write(UC_ARM64_REG_CPACR_EL1, 3 << 20)
uc.reg_write(UC_ARM64_REG_X3, ONES)
uc.reg_write(UC_ARM64_REG_W3, 5)
print(f"reg_write W3 = 5: X3 = {uc.reg_read(UC_ARM64_REG_X3):#x}")
uc.emu_start(0x10000, 0x10004)
print(f"guest mov w3, #5: X3 = {uc.reg_read(UC_ARM64_REG_X3):#x}")
for name, register in (("D1", UC_ARM64_REG_D1), ("S1", UC_ARM64_REG_S1)):
    uc.reg_write(UC_ARM64_REG_Q1, ONES << 64 | ONES)
    uc.reg_write(register, 5)
    print(f"reg_write {name} = 5: Q1 = {uc.reg_read(UC_ARM64_REG_Q1):#x}")
uc.emu_start(0x10004, 0x10008)
print(f"guest fmov d1, xzr: Q1 = {uc.reg_read(UC_ARM64_REG_Q1):#x}")
PY
sed -n 's/^#   //p' "$0" | diff - "$work/seen" && cat "$work/seen"

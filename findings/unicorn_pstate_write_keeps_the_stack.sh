#!/usr/bin/env bash
# unicorn 2.1.4, AArch64: writing PSTATE with another SPSel does not change which stack SP is.
#
# Guess: PSTATE written as EL1t makes SP the stack of SP_EL0, as the guest's own MSR SPSel, #0 does.
# Found: SP stays what it was, and SP_EL0 with it: the first instruction that uses SP runs on the
# stack of the other bank. An emulator that enters or leaves exceptions by hand must move three
# registers itself.
#
# Output seen:
#   at first: PSTATE.SPSel 1, SP 0xaaa0, SP_EL0 0xbbb0
#   PSTATE written as EL1t: SP 0xaaa0, SP_EL0 0xbbb0, mov x0, sp gives 0xaaa0
#   MSR SPSel, #0 executed: mov x0, sp gives 0xbbb0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q unicorn==2.1.4
"$work/venv/bin/python" - >"$work/seen" <<'PY'
import struct
from unicorn import *
from unicorn.arm64_const import *

BASE = 0x10000


def machine():
    uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
    uc.mem_map(BASE, 0x1000)
    uc.mem_write(BASE, struct.pack("<2I", 0xD50040BF, 0x910003E0))  # msr spsel, #0; mov x0, sp
    uc.reg_write(UC_ARM64_REG_SP, 0xAAA0)
    uc.reg_write(UC_ARM64_REG_SP_EL0, 0xBBB0)
    return uc


uc = machine()
sp, sp0 = UC_ARM64_REG_SP, UC_ARM64_REG_SP_EL0
spsel = uc.reg_read(UC_ARM64_REG_PSTATE) & 1
print(f"at first: PSTATE.SPSel {spsel}, SP {uc.reg_read(sp):#x}, SP_EL0 {uc.reg_read(sp0):#x}")
uc.reg_write(UC_ARM64_REG_PSTATE, 0x3C4)
now = f"SP {uc.reg_read(sp):#x}, SP_EL0 {uc.reg_read(sp0):#x}"
uc.emu_start(BASE + 4, BASE + 8)
print(f"PSTATE written as EL1t: {now}, mov x0, sp gives {uc.reg_read(UC_ARM64_REG_X0):#x}")
uc = machine()
uc.emu_start(BASE, BASE + 8)
print(f"MSR SPSel, #0 executed: mov x0, sp gives {uc.reg_read(UC_ARM64_REG_X0):#x}")
PY
sed -n 's/^#   //p' "$0" | diff - "$work/seen" && cat "$work/seen"

#!/usr/bin/env bash
# unicorn 2.1.4: how a hook wrote PC decides what PC a later store tells when it fails.
#
# Guess: uc_reg_write and uc_reg_write_batch write the same register, so they leave the same machine.
# Found: a PC written by reg_write from inside a hook also switches off, until the next emu_start,
# the bringing up to date of PC when a store meets no memory (uc.c:uc_reg_write sets
# skip_sync_pc_on_exit, cputlb.c:store_helper looks at it). The error then shows the beginning of
# the store's block, whose earlier instructions have already had their effect: who goes on from there
# runs them twice. reg_write_batch writes PC without that. A load tells its own address either way.
#
# Output seen:
#   reg_write str: PC 0x10008, x1 = 1
#   reg_write ldr: PC 0x10010, x1 = 1
#   reg_write_batch str: PC 0x10010, x1 = 1
#   reg_write_batch ldr: PC 0x10010, x1 = 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q unicorn==2.1.4
"$work/venv/bin/python" - >"$work/seen" <<'PY'
import struct
from unicorn import *
from unicorn.arm64_const import *

SVC, B_NEXT, ADD_X1, NOP = 0xD4000001, 0x14000001, 0x91000421, 0xD503201F
BASE, NOWHERE = 0x10000, 0x900000
for how in ("reg_write", "reg_write_batch"):
    for name, word in (("str", 0xF9000041), ("ldr", 0xF9400043)):
        uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        uc.mem_map(BASE, 0x1000)
        uc.mem_write(BASE, struct.pack("<5I", SVC, B_NEXT, ADD_X1, NOP, word))
        uc.reg_write(UC_ARM64_REG_X2, NOWHERE)

        def on_svc(uc, number, user):
            if how == "reg_write":
                uc.reg_write(UC_ARM64_REG_PC, BASE + 4)
            else:
                uc.reg_write_batch([(UC_ARM64_REG_PC, BASE + 4)])

        uc.hook_add(UC_HOOK_INTR, on_svc)
        try:
            uc.emu_start(BASE, BASE + 20)
        except UcError:
            pass
        pc, x1 = uc.reg_read(UC_ARM64_REG_PC), uc.reg_read(UC_ARM64_REG_X1)
        print(f"{how} {name}: PC {pc:#x}, x1 = {x1}")
PY
sed -n 's/^#   //p' "$0" | diff - "$work/seen" && cat "$work/seen"

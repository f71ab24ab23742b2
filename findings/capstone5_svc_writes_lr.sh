#!/usr/bin/env bash
# capstone 5.0.7, AArch64: what it says an exception-generating instruction does to registers.
#
# Guess: SVC, HVC, SMC and BRK are one family (DDI 0487 C4.1, "Exception generation") and are told
# alike; none of them writes a general register, and CBZ reads no flags.
# Found: SVC alone is in the group "int", and is said to write LR, which no A64 exception does
# (ELR_EL1 holds the return address); HVC, SMC, BRK, HLT and ERET are in no group at all. CBZ is
# said to read NZCV, which it does not; its neighbour TBZ is told right.
#
# Output seen:
#   svc: groups int; writes lr
#   hvc: groups -; writes -
#   smc: groups -; writes -
#   brk: groups -; writes -
#   hlt: groups -; writes -
#   eret: groups -; writes -
#   cbz: reads nzcv w0
#   tbz: reads w0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q capstone==5.0.7
"$work/venv/bin/python" - >"$work/seen" <<'PY'
from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs

decoder = Cs(CS_ARCH_ARM64, CS_MODE_ARM)
decoder.detail = True


def one(word):
    return next(decoder.disasm(word.to_bytes(4, "little"), 0x1000))


def names(values):
    return " ".join(sorted(values)) or "-"


for word in (0xD4000001, 0xD4000002, 0xD4000003, 0xD4200000, 0xD4400000, 0xD69F03E0):
    found = one(word)
    groups = names(found.group_name(group) for group in found.groups)
    writes = names(found.reg_name(register) for register in found.regs_access()[1])
    print(f"{found.mnemonic}: groups {groups}; writes {writes}")
for word in (0x34000040, 0x36000040):
    found = one(word)
    reads = names(found.reg_name(register) for register in found.regs_access()[0])
    print(f"{found.mnemonic}: reads {reads}")
PY
sed -n 's/^#   //p' "$0" | diff - "$work/seen" && cat "$work/seen"

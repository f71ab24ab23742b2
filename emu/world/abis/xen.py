"""Xen's hypercalls on Arm.

HVC #0xEA1, the number in x16, up to five arguments from x0 on, the result in x0 and no other
register touched (xen 4.20 include/public/arch-arm.h, "Hypercall calling convention"; recorded from
Debian's Xen 4.20: a number nobody has is −38 in x0 alone, and all 64 bits of x16 count, those above
31 too, which no number has).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from emu.base.abi import Abi
from emu.base.smccc import Conduit, Ret

TAG = 0xEA1
"""xen 4.20 include/public/arch-arm.h:XEN_HYPERCALL_TAG."""
ENOSYS = 38
# xen 4.20 include/public/errno.h, those that recorded answers hold and their like.
_ERRORS = {
    1: "EPERM", 2: "ENOENT", 3: "ESRCH", 7: "E2BIG", 11: "EAGAIN", 12: "ENOMEM", 13: "EACCES",
    14: "EFAULT", 16: "EBUSY", 17: "EEXIST", 19: "ENODEV", 22: "EINVAL", 28: "ENOSPC",
    34: "ERANGE", ENOSYS: "ENOSYS", 95: "EOPNOTSUPP", 105: "ENOBUFS",
}  # fmt: skip
# xen 4.20 include/public/xen.h: __HYPERVISOR_*, in the order of their numbers.
_NAMES = (
    "set_trap_table", "mmu_update", "set_gdt", "stack_switch", "set_callbacks", "fpu_taskswitch",
    "sched_op_compat", "platform_op", "set_debugreg", "get_debugreg", "update_descriptor", "",
    "memory_op", "multicall", "update_va_mapping", "set_timer_op", "event_channel_op_compat",
    "xen_version", "console_io", "physdev_op_compat", "grant_table_op", "vm_assist",
    "update_va_mapping_otherdomain", "iret", "vcpu_op", "set_segment_base", "mmuext_op", "xsm_op",
    "nmi_op", "sched_op", "callback_op", "xenoprof_op", "event_channel_op", "physdev_op", "hvm_op",
    "sysctl", "domctl", "kexec_op", "tmem_op", "argo_op", "xenpmu_op", "dm_op", "hypfs_op",
)  # fmt: skip


class Xen(Abi):
    """A hypercall of Xen's."""

    __slots__ = ()

    name = "xen"
    title = "Xen hypercall"
    source = "xen 4.20 include/public/arch-arm.h"
    instructions = frozenset({(Conduit.HVC, TAG)})
    registers = 17
    number_register = 16
    first = 0
    arguments = 5
    unknown = Ret.only(-ENOSYS)
    codes: ClassVar[Mapping[int, str]] = {-n: name for n, name in _ERRORS.items()}
    numbers: ClassVar[Mapping[int, str]] = {n: name for n, name in enumerate(_NAMES) if name}

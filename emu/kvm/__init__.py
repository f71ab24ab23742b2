"""The VMM's side as KVM has it: ioctls and their errnos, migration.

    from emu.kvm import Kvm, filter_bytes

`Kvm`, the numbers and structures of KVM's interface (abi.py) and those of ONE_REG
(world/onereg.py) can be imported from here.
"""

from emu.kvm.abi import *  # noqa: F403
from emu.kvm.ioctls import Kvm, KvmVm
from emu.kvm.vcpu import KvmVcpu
from emu.world.onereg import *  # noqa: F403

__all__ = ["Kvm", "KvmVcpu", "KvmVm"]

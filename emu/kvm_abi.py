"""The numbers of KVM's interface under the name that scripts import them by: emu.kvm has them too.
"""

from emu.kvm.abi import *  # noqa: F403

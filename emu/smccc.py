"""See emu/base/smccc.py: this is the name that users import."""

from emu.base.smccc import *  # noqa: F403

"""See emu/base/exits.py: this is the name that users import."""

from emu.base.exits import *  # noqa: F403

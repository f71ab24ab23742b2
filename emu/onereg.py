"""See emu/world/onereg.py: this is the name that users import."""

from emu.world.onereg import *  # noqa: F403

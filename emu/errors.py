"""See emu/base/errors.py: this is the name that users import."""

from emu.base.errors import *  # noqa: F403

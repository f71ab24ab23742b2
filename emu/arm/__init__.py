"""Facts of the architecture, pure: instruction words, registers, exceptions, timers, interrupts."""

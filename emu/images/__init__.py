"""From files to memory: ELF, Image and object files, their symbols, the device tree."""

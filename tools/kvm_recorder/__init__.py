"""The parts of tools/record_kvm.py: the plan, the VMM in C that carries it out, the recording."""

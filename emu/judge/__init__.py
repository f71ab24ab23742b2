"""Whether the guest did right: rules of discovery, mutants, fuzzing."""

"""What is told about a run: traces, explanations, fault reports, where the cycles went."""

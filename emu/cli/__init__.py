"""What is typed: the commands, the pytest plugin and what both need."""

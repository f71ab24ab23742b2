"""What everything stands on: calls, exits, errors, clock, console, state and its files."""

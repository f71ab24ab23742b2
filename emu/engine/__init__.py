"""Unicorn and its hooks, in Python and in C: guest code runs here."""

"""What time everything takes: core models, branches, caches, the price of a trap."""

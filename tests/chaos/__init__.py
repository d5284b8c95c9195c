"""A campaign of faults against runs: kills, signals, full disks, no memory, damaged files, a second process, a clock
that jumps. ``python -m tests.chaos``."""

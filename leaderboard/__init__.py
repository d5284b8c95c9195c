"""Rows to scores: intervals, curves, flags, ``leaderboard.json`` and its tables. Needs no accelerator and no model."""

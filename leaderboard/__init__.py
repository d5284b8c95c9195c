"""Rows to scores: a run's files in, ``leaderboard.json``, tables and figures out. Needs no accelerator and no model.

Each folder may import those before it: ``rows`` (reading a run), ``scores``, ``doubt`` (flags and verdicts), ``board``
(entries and the file), ``tables``, ``figures``; ``commands`` uses them all.
"""

"""Reading a run: ``run.json``, ``plan.json``, fits, and rows as arrays. Imports nothing else of the leaderboard."""

"""The clean measurement: what the live model says and holds, and the rows that are made of it."""

"""Scores: every number that is shown is defined here, once, beside the record that holds it."""

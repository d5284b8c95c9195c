"""Suites of public models, on random stand-ins in the public layouts."""

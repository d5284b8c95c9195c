"""Figures of finished runs: the study's qualitative findings, drawn from rows alone. Needs the extra ``plots``."""

"""Threat models, a file each: what the attacker writes, in which unit, where it applies, whether it is scored."""

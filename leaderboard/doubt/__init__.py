"""Doubt: flags, and whether an entry may be ranked. ``FLAGS.md`` is the page."""

"""How panels stand beside and below one another."""

from __future__ import annotations


def across(panels: int, most: int = 4) -> int:
    """How many panels stand side by side, so that the rows are as even as they can be."""
    down = -(-panels // most) or 1
    return -(-panels // down)

"""Ranges of settings: a value out of them is refused with the name of the setting, never clipped."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Number = Annotated[int, Field(ge=1, le=1_000_000)]
"""How many of something: steps, draws, candidates."""
Rate = Annotated[float, Field(gt=0, le=1_000)]
"""Length of a step as a share of the budget."""
Momentum = Annotated[float, Field(ge=0, lt=1)]
"""Share of the last direction in the next one."""
Share = Annotated[float, Field(ge=0, le=0.9)]
"""Share by which something changes, part of which has to stay."""

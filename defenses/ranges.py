"""Ranges of settings: a value out of them is refused with the name of the setting, never clipped."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(gt=0, le=1)]
"""A share of examples or tokens, of which something is asked."""
Weight = Annotated[float, Field(ge=0)]
Number = Annotated[int, Field(ge=1, le=1_000_000)]
"""How many of something; more than any SAE has is refused where the SAE is known."""
Latent = Annotated[int, Field(ge=0, lt=2**31)]
"""Index of a latent, from 0."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]

"""Where in the residual stream something happens, in the names of sae_lens and TransformerLens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_PATTERN = re.compile(r"blocks\.(0|[1-9][0-9]{0,5})\.hook_(resid_pre|resid_post)")


@dataclass(frozen=True, order=True)
class Site:
    """A place in the residual stream, for example ``blocks.4.hook_resid_pre``."""

    layer: int
    """Index of the decoder layer, from 0."""
    point: Literal["resid_pre", "resid_post"] = "resid_pre"
    """The layer's input or its output."""

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read ``blocks.L.hook_resid_pre`` or ``blocks.L.hook_resid_post``.

        Raises:
            ValueError: another form; attention and MLP hooks are no residual stream.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"{text!r} is not a residual-stream site; write blocks.<layer>.hook_resid_pre or "
                f"blocks.<layer>.hook_resid_post"
            )
        return cls(int(match[1]), "resid_pre" if match[2] == "resid_pre" else "resid_post")

    @property
    def boundary(self) -> int:
        """Number of layers already passed: ``resid_post`` of layer L and ``resid_pre`` of layer L+1 are one place."""
        return self.layer + (self.point == "resid_post")

    def __str__(self) -> str:
        return f"blocks.{self.layer}.hook_{self.point}"

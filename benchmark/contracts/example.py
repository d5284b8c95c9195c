"""A test case, and what may be asked of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Split = Literal["fit", "dev", "test"]
"""Who may look: the defense, the suite's constants, the harness."""

SPLITS: tuple[Split, ...] = ("fit", "dev", "test")

Goal = Literal["behavior", "wrong"]
"""What an attack aims at: the suppressed behavior, or a matched wrong target (the control for steering)."""


@dataclass(frozen=True)
class Example:
    """One test case: a prompt, what may come after it, and which of that is right."""

    id: str
    """Stable and unique, for example ``ioi/test/0007``."""
    cluster: str
    """What it shares with others (question, template); examples of a cluster are not independent."""
    prompt: str
    choices: tuple[str, ...] = ()
    """Texts, with their leading space where the tokenizer has one."""
    answer: int = 0
    """Index of the choice, or of the class, that is the behavior."""
    wrong: tuple[int, ...] = (1,)
    """Candidates for the matched wrong target, by preference: the first that the defended model does not show already
    is used, since a target that is there before any attack is none."""

    @property
    def content_hash(self) -> str:
        """Hash of everything but the id: equal content is found again under another name."""
        content = {name: value for name, value in vars(self).items() if name != "id"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

"""The contracts between the engine and what is registered with it: tasks, defenses and attacks.

A task never sees a model, a defense or an attack; a defense never sees an attack; an attack never sees a model, a
hook or a tokenizer. Abstract classes here, with no behavior beyond defaults that say "nothing".
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.edits import Edit
    from benchmark.features import FeatureSet
    from benchmark.problem import Problem
    from benchmark.sites import Site
    from benchmark.subject import Subject

Split = Literal["fit", "dev", "test"]
"""Who may look: the defense, the attack's settings, the harness."""

Goal = Literal["behavior", "wrong"]
"""What an attack aims at: the suppressed behavior, or a matched wrong target (the control for steering)."""


class ThreatModel(StrEnum):
    """What the attacker may write (METHOD section 4)."""

    AFTER_EDIT = "after_edit"
    BEFORE_EDIT = "before_edit"
    SOFT_SUFFIX = "soft_suffix"
    TOKEN_SUFFIX = "token_suffix"


@dataclass(frozen=True)
class Example:
    """One test case: a prompt, the tokens that are read after it, and which of them is right."""

    id: str
    """Stable and unique, for example ``ioi/test/0007``."""
    cluster: str
    """What it shares with others (question, template); examples of a cluster are not independent."""
    prompt: str
    choices: tuple[str, ...] = ()
    """Texts of one token each, with their leading space."""
    answer: int = 0
    """Index of the choice that is the behavior."""
    wrong: tuple[int, ...] = (1,)
    """Candidates for the matched wrong target, by preference: the first that the defended model does not show already
    is used, since a target that is there before any attack is no control."""

    @property
    def content_hash(self) -> str:
        """Hash of everything but the id: equal content is found again under another name."""
        content = {name: value for name, value in asdict(self).items() if name != "id"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Encoded:
    """An example as tokens."""

    tokens: tuple[int, ...]
    readout: int
    """Absolute position whose next-token logits are read."""
    choices: tuple[int, ...]
    suffix_at: int
    """Where an attacker's suffix is inserted: ``len(tokens)`` is the end."""


@dataclass(frozen=True)
class Batch:
    """What a task needs to judge a readout: tensors with one entry a row."""

    answer: Tensor
    wrong: Tensor
    ceiling: Tensor
    """Undefended margin (rows,): the objective saturates there. Infinite while it is being measured."""
    goal: Goal = "behavior"

    @property
    def target(self) -> Tensor:
        """Index of the choice that the goal asks for (rows,)."""
        return self.answer if self.goal == "behavior" else self.wrong


class Verdict(NamedTuple):
    """The judgement of a readout, the same for every arm."""

    labels: list[str]
    margin: Tensor
    """(rows,), above 0 exactly where the goal is reached."""


@dataclass(frozen=True)
class TokenLogits:
    """Readout: the logits of each example's choices after its prompt, ``(rows, choices)``."""


Readout = TokenLogits


class Task(ABC):
    """Data and a pure judge."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Goes up when scores stop being comparable."""
    threat_models: ClassVar[frozenset[ThreatModel]] = frozenset(ThreatModel)
    readout: ClassVar[Readout] = TokenLogits()

    @abstractmethod
    def examples(self, split: Split) -> Sequence[Example]:
        """The examples of a split; splits are disjoint."""

    @abstractmethod
    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        """Tokens of an example and where it is read.

        Raises:
            UsageError: a choice is not one token in this tokenizer.
        """

    @abstractmethod
    def verdict(self, read: Tensor, batch: Batch) -> Verdict:
        """Judge a readout ``(rows, choices)``; blind to where it comes from."""

    def objective(self, read: Tensor, batch: Batch) -> Tensor:
        """What an attack maximises, (rows,): the margin, saturating at the undefended model's own."""
        return self.verdict(read, batch).margin.minimum(batch.ceiling)

    def prerequisites(self, example: Example) -> Sequence[Example]:
        """Further examples that the undefended model must get right for this one to count."""
        return ()

    def retain(self, split: Split) -> Sequence[Example]:
        """Examples of other behaviors that a selective defense leaves alone; kept while the answer is on top."""
        return ()


@dataclass(frozen=True)
class FittedDefense:
    """The product of a defense: nothing in it tells how it was learned, but ``record``."""

    edits: Mapping[Site, Edit]
    protected: Sequence[FeatureSet] = ()
    """What drift is measured on, at most one set a site."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What fitting found (latents, strength, shares), for people and for the report; plain JSON values."""


class Defense(ABC):
    """A recipe: frozen settings. Subclasses are frozen dataclasses."""

    name: ClassVar[str]

    @abstractmethod
    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        """Learn from ``examples`` (the ``fit`` split) alone."""

    def control(self) -> Defense | None:
        """A recipe like this one without its point (random latents, say), classified beside it; None: there is none."""
        return None


class Attempt(NamedTuple):
    """What an attack proposes; the harness clips, re-measures and judges it."""

    delta: Tensor
    """(rows, sites, perturbed, d_model), fp32."""
    converged: Tensor
    """(rows,) bool: the objective no longer improved at the end, or the goal was reached."""


class Attack(ABC):
    """A pure optimiser over a differentiable problem. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    role: ClassVar[Literal["attack", "control"]] = "attack"
    threat_model: ThreatModel
    constraint: Literal["none", "encoder"] = "none"
    goal: Goal = "behavior"
    restarts: int = 1

    @abstractmethod
    def run(self, problem: Problem) -> Attempt:
        """Search for perturbations of all rows of ``problem`` within their budgets."""

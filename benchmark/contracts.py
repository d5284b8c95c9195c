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

    from benchmark.model.edits import Edit, Where
    from benchmark.model.subject import Subject
    from benchmark.sae.features import FeatureSet
    from benchmark.search.problem import Problem
    from benchmark.sites import Site

Split = Literal["fit", "dev", "test"]
"""Who may look: the defense, the attack's settings, the harness."""

Goal = Literal["behavior", "wrong"]
"""What an attack aims at: the suppressed behavior, or a matched wrong target (the control for steering)."""


WRONG_TARGET = "wrong-target"
"""What an attack with the goal ``wrong`` is called in the results."""


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
    """Undefended objective (rows,): the objective saturates there. Infinite while it is being measured."""
    goal: Goal = "behavior"
    reference: tuple[str, ...] = ()
    """Continuation: the text of each row's reference answer; empty while that is being generated."""
    others: tuple[str, ...] = ()
    """Continuation: reference answers to other prompts, whose likeness is the chance level."""

    @property
    def target(self) -> Tensor:
        """Index of the choice that the goal asks for (rows,)."""
        return self.answer if self.goal == "behavior" else self.wrong


SLACK = 0.01
"""A search counts a goal as reached at this share of the undefended margin, so that the clean re-measurement does not
undo a success of the size of a rounding error."""


class Readings(NamedTuple):
    """What was read of some examples."""

    examples: Sequence[Example]
    reads: Sequence[Any]
    """Of each example: a tensor (choices,) or (classes,), or a text."""


class Verdict(NamedTuple):
    """The judgement of a readout, the same for every arm."""

    labels: list[str]
    margin: Tensor
    """(rows,), above 0 exactly where the goal is reached."""


@dataclass(frozen=True)
class TokenLogits:
    """Readout: the logits of each example's choices after its prompt, ``(rows, choices)``."""


@dataclass(frozen=True)
class Continuation:
    """Readout: what the model goes on to write, greedily.

    Judged is the text that it writes. An attack climbs on ``Forced``: how likely the beginning of a reference answer
    is, which is the undefended model's own (the goal ``wrong``: its answer to another prompt).
    """

    tokens: int = 32
    """At most so many are generated."""
    forced: int = 8
    """Tokens of the reference answer that an attack climbs on."""
    openers: tuple[str, ...] = ()
    """Texts of one token each with which a refusal begins."""


@dataclass(frozen=True)
class Probe:
    """Readout: one logit a class ``(rows, classes)``, of a linear probe of the mean stream over the prompt's tokens.

    The engine fits it on the undefended model and the task's ``fit`` and ``retain`` examples of ``fit``: each class
    against the rest; an example's class is its ``answer``.
    """

    site: str
    classes: tuple[str, ...]


Readout = TokenLogits | Continuation | Probe


class Forced(NamedTuple):
    """How a model takes a reference answer that it is made to read (teacher forcing)."""

    log_prob: Tensor
    """(rows, tokens): log-probability of each token of the reference answer, nats."""
    lead: Tensor
    """(rows, tokens): logit of that token minus the largest other one; all above 0: greedy decoding writes them."""
    opener: Tensor
    """(rows,): log-probability that the first token is one of the openers; -inf without openers."""


class Text(NamedTuple):
    """A generated answer, in tokens and as text (special tokens left out)."""

    tokens: tuple[int, ...]
    text: str


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
    def verdict(self, read: Any, batch: Batch) -> Verdict:
        """Judge a readout (``(rows, choices)``, ``(rows, classes)`` or texts), blind to where it comes from."""

    def objective(self, read: Any, batch: Batch) -> Tensor:
        """What an attack maximises, (rows,): the margin, saturating at the undefended model's own.

        A ``Continuation`` is searched on ``Forced``, so its task must say what it climbs on."""
        return self.verdict(read, batch).margin.minimum(batch.ceiling)

    def reached(self, read: Any, batch: Batch) -> Tensor:
        """(rows,) bool: the goal is reached, with so much to spare that the clean re-measurement will agree."""
        return self.verdict(read, batch).margin > SLACK * batch.ceiling.abs()

    def summary(self, base: Readings, defended: Readings) -> Mapping[str, Any]:
        """Further figures of a defense on the ``test`` and ``retain`` examples, for its card; plain JSON values."""
        return {}

    def prerequisites(self, example: Example) -> Sequence[Example]:
        """Further examples that the undefended model must get right for this one to count."""
        return ()

    def retain(self, split: Split) -> Sequence[Example]:
        """Examples of other behaviors that a selective defense leaves alone; kept while the answer is on top."""
        return ()


class Judge(ABC):
    """Labels free text, the same for every arm; registered, so that a suite can name another one."""

    name: ClassVar[str]
    LABELS: ClassVar[tuple[str, ...]] = ("refusal", "degenerate", "off_target", "complies")

    @abstractmethod
    def labels(self, texts: Sequence[str], batch: Batch) -> list[str]:
        """One of ``LABELS`` for each text; ``batch.reference`` may be empty (the undefended model's own answers)."""


class Monitor(ABC):
    """A detector that a defense carries: scores a passage of the stream, high where it looks attacked."""

    site: Site

    @abstractmethod
    def score(self, h: Tensor, where: Where) -> Tensor:
        """(rows,) from the defended stream ``h`` (rows, position, d_model) at ``site``; differentiable."""


@dataclass(frozen=True)
class FittedDefense:
    """The product of a defense: nothing in it tells how it was learned, but ``record``."""

    edits: Mapping[Site, Edit]
    protected: Sequence[FeatureSet] = ()
    """What drift is measured on, at most one set a site."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What fitting found (latents, strength, shares), for people and for the report; plain JSON values."""
    monitor: Monitor | None = None


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


class TokenAttempt(NamedTuple):
    """What an attack proposes to type; the harness types it, reads the text again and judges what comes of that."""

    tokens: Tensor
    """(rows, n) token ids."""
    converged: Tensor
    """(rows,) bool: the search ended by itself, or the goal was reached."""


@dataclass(frozen=True)
class Attack(ABC):
    """A pure optimiser over a problem. Subclasses are frozen dataclasses, which change defaults and add settings."""

    name: ClassVar[str]
    role: ClassVar[Literal["attack", "control"]] = "attack"
    learns: ClassVar[bool] = False
    """It is trained on the suppressed ``fit`` examples before it is run."""
    published: ClassVar[str | None] = None
    """Name of the attack that stands in for it under the protocol ``paper``; None: it stays."""
    threat_model: ThreatModel = ThreatModel.BEFORE_EDIT
    """before_edit | after_edit | soft_suffix | token_suffix: what it may write (METHOD section 4)."""
    constraint: Literal["none", "encoder", "jacobian"] = "none"
    """What the defended latents may do: ``none``, anything; ``encoder``, not move at the sites that are written to;
    ``jacobian``, not move anywhere (METHOD section 5)."""
    goal: Goal = "behavior"
    """behavior | wrong: bring the behavior back, or, as a control, reach a matched wrong target."""
    restarts: int = 1
    """Searches an example and budget, the best of which counts."""

    @abstractmethod
    def run(self, problem: Any) -> Any:
        """Search in all rows of a ``Problem`` within their budgets: an ``Attempt``.

        Under the threat model ``token_suffix``: of a ``TokenProblem``, a ``TokenAttempt``.
        """

    def trained(self, problems: Sequence[Problem]) -> Attack:
        """The attack after learning from ``problems``, of suppressed ``fit`` examples with the budgets of ``test``."""
        return self

    @property
    def is_control(self) -> bool:
        """Not an attempt at the behavior: a control by nature, or an attack aimed at a wrong target."""
        return self.role == "control" or self.goal == "wrong"

    @property
    def title(self) -> str:
        """Its name in the results; whatever aims at a wrong target is called after that."""
        return self.name if self.goal == "behavior" else WRONG_TARGET

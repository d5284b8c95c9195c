"""Readouts: what is read of a model for a task, how a search climbs on it, and what the task's verdict is about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from benchmark.contracts.example import Example, Goal
from benchmark.sites import Site

if TYPE_CHECKING:
    from torch import Tensor

SLACK = 0.01
"""A search counts a goal as reached at this share of the undefended margin, so that the clean re-measurement does not
undo a success of the size of a rounding error."""


@dataclass(frozen=True)
class Encoded:
    """An example as tokens."""

    tokens: tuple[int, ...]
    readout: int
    """Absolute position whose next-token logits are read."""
    choices: tuple[tuple[int, ...], ...]
    """Tokens of each choice."""
    suffix_at: int
    """Where an attacker's suffix is inserted: ``len(tokens)`` is the end."""


class Member(NamedTuple):
    """An example on its way into a pack."""

    example: Example
    encoded: Encoded
    lines: tuple[tuple[int, ...], ...] = ((),)
    """What the model is made to read behind the prompt: a text a line, all of one length; most readouts have one."""
    reference: str | None = None
    """Text of the reference answer, where there is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Members of one pack agree in it."""
        e = self.encoded
        return len(e.tokens), e.readout, len(e.choices), e.suffix_at, len(self.lines), len(self.lines[0])


class Text(NamedTuple):
    """A generated answer, in tokens and as text (special tokens left out)."""

    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Criteria:
    """What readouts are judged against: tensors with one entry a row."""

    answer: Tensor
    wrong: Tensor
    saturation: Tensor
    """Undefended objective (rows,): the objective saturates there. Infinite while it is being measured."""
    goal: Goal = "behavior"
    reference: tuple[str, ...] = ()
    """The text of each row's reference answer; empty where there is none, and while that is being generated."""
    others: tuple[str, ...] = ()
    """Reference answers to other prompts, whose likeness is the chance level."""
    floor: float | None = None
    """Probability of all that the verdict chooses from, below which the model is broken; None: it never is."""

    @property
    def target(self) -> Tensor:
        """Index of the choice that the goal asks for (rows,)."""
        return self.answer if self.goal == "behavior" else self.wrong

    def rows(self, index: Tensor) -> Criteria:
        """The entries ``index``."""
        reference = tuple(self.reference[i] for i in index.tolist()) if self.reference else ()
        parts = (self.answer[index], self.wrong[index], self.saturation[index])
        return replace(self, answer=parts[0], wrong=parts[1], saturation=parts[2], reference=reference)


class Verdict(NamedTuple):
    """The judgement of a readout, the same for every arm."""

    labels: list[str]
    margin: Tensor
    """(rows,), above 0 exactly where the goal is reached."""


class Judging(Protocol):
    """A task's judge: a readout and what it is judged against."""

    def __call__(self, read: Any, criteria: Criteria, /) -> Verdict: ...


class Last(Protocol):
    """The end of a pass: logits at the columns from the readout on."""

    def few(self, tokens: Tensor) -> Tensor:
        """Logits at the readout of ``tokens`` (rows, choices), one list a row: the same shape."""
        ...

    def every(self) -> Tensor:
        """Logits of the whole vocabulary, (rows, columns, vocabulary)."""
        ...

    def part(self, index: Tensor) -> Last:
        """The same of the rows ``index``."""
        ...


class Reader(Protocol):
    """Reads some lines of a pack: one line a row, or as many as a member has."""

    @property
    def boundary(self) -> int | None:
        """Where the stream is read, over the whole prompt; None: the logits are read."""
        ...

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Any:
        """What a search climbs on, fp32, one entry a row: of ``stream`` (lines, position, d_model) or of ``last``."""
        ...

    def part(self, index: Tensor) -> Reader:
        """The reader of the rows ``index`` alone."""
        ...


class Run(Protocol):
    """A clean pass of a pack on the live model, full and with hooks (``benchmark.model.passes.FullPass``)."""

    def __call__(self, delta: Tensor | None, rows: Tensor) -> Any: ...
    def write(self, delta: Tensor | None, rows: Tensor, limit: int) -> list[Text]: ...


class Readout(ABC):
    """Settings of a readout, and all that is done by it. Subclasses are frozen dataclasses.

    A search climbs on what a ``Reader`` makes of a pass (``read``); the task's verdict is about what ``judged`` gives.
    Where both are the same, as the defaults have it, a readout needs ``encode`` and ``reader`` only.
    """

    reached_by_suffix: ClassVar[bool] = True
    """What is written behind the prompt can change what is read."""
    writes_text: ClassVar[bool] = False
    """The verdict is about texts that the model writes."""

    @property
    def refusing(self) -> bool:
        """It is known how a refusal begins: a defense may be meant to bring one about."""
        return False

    @property
    def reads_at(self) -> Site | None:
        """Where the stream is read; None: at the logits, behind everything."""
        return None

    @abstractmethod
    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        """Tokens of an example, where it is read, and where a suffix goes.

        Raises:
            UsageError: the example cannot be read so with this tokenizer.
        """

    def members(self, subject: Any, task: Any, examples: Sequence[Example], goal: Goal) -> list[Member]:
        """Examples on their way into packs, with what ``goal`` asks the model to read behind them."""
        return [Member(example, self.encode(subject.tokenizer, example)) for example in examples]

    def others(self, subject: Any, task: Any) -> tuple[str, ...]:
        """Reference answers to other prompts, the chance level of likeness; none where answers are not compared."""
        return ()

    @abstractmethod
    def reader(self, subject: Any, task: Any) -> Callable[[Sequence[Member]], Reader]:
        """Makes the reader of a pack from its members."""

    def judged(self, run: Run, delta: Tensor | None, rows: Tensor, read: Any | None = None) -> Any:
        """What the verdict is about: ``read`` of a pass (if it was run already), or what the model goes on to write."""
        return run(delta, rows).read if read is None else read

    def objective(self, verdict: Judging, read: Any, criteria: Criteria) -> Tensor:
        """What an attack maximises, (rows,), differentiable: the margin, saturating at the undefended model's own."""
        return verdict(read, criteria).margin.minimum(criteria.saturation)

    def reached(self, verdict: Judging, read: Any, criteria: Criteria) -> Tensor:
        """(rows,) bool: the goal is reached, with so much to spare that the clean re-measurement will agree."""
        return verdict(read, criteria).margin > SLACK * criteria.saturation.abs()

    def begun(self, reader: Any, rows: Tensor, read: Any) -> list[bool] | None:
        """Whether what is judged begins as a search makes it begin, (rows,): that it then goes on otherwise is no sign
        of two different models. None: a search sees all that is judged.

        Args:
            reader: of the pack, as ``reader`` makes it.
            read: what ``judged`` gave.
        """
        return None

    def wrong(self, example: Example, read: Any) -> int | None:
        """Index of the wrong target, one that the defended model's ``read`` does not show already; None: it shows all
        candidates, and what is there before any attack is no target."""
        shown = int(read.argmax())
        return next((w for w in example.wrong if w != shown), None)

    def log_mass(self, reader: Any, read: Any, last: Last, rows: Tensor) -> Tensor | None:
        """(rows,), nats, differentiable: log-probability of everything together that the verdict chooses from, which is
        small where a model is broken, whatever it prefers. None: the verdict chooses from nothing.

        Args:
            reader: of the pack, as ``reader`` makes it.
            read: what it read of ``last``.
        """
        return None

    def keeps(self, example: Example, read: Any, shown: bool) -> bool:
        """Whether a retain example is right: its answer outranks all else. ``shown``: the task's verdict says so."""
        return int(read.argmax()) == example.answer

    def retain_objective(self, verdict: Judging, read: Any, criteria: Criteria) -> Tensor:
        """What a retain example must not lose, (rows,), differentiable: its answer against all alternatives."""
        return choice_margin(read, criteria.answer)

    def loss(self, read: Any, criteria: Criteria) -> Tensor:
        """Cross-entropy of the right answers in what a search climbs on, (rows,), nats."""
        return -read.log_softmax(1).gather(1, criteria.answer[:, None])[:, 0]

    def flat(self, read: Any) -> Tensor:
        """What a reader gives as one tensor (rows, values), for comparisons."""
        return read


def choice_margin(read: Tensor, target: Tensor) -> Tensor:
    """Value of the target minus the largest other one: ``read`` (rows, choices), ``target`` (rows,) -> (rows,)."""
    from torch.nn.functional import one_hot

    chosen = one_hot(target, read.shape[1]).bool()
    return read.gather(1, target[:, None])[:, 0] - read.masked_fill(chosen, -float("inf")).amax(1)

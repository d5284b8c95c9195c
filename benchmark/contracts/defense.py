"""Defenses: recipes that learn on ``fit``, the edits that they make, and what they may see while they learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

from benchmark.contracts.example import Example
from benchmark.contracts.task import Task
from benchmark.sites import Site

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Where:
    """Which part of the text the columns of a stream are."""

    index: Tensor
    """Absolute positions (position,), also under a key/value cache."""
    special: Tensor
    """The beginning of a text (rows, position), bool: BOS, padding, and the first position whatever stands there."""
    generated: Tensor
    """Beyond the prompt (rows, position), bool."""

    def columns(self, first: int) -> Where:
        """The same from column ``first`` on."""
        return Where(self.index[first:], self.special[:, first:], self.generated[:, first:])

    def rows(self, index: Tensor) -> Where:
        """The same for the rows ``index``."""
        return Where(self.index, self.special[index], self.generated[index])


class Edit(Protocol):
    """What a defense does at one site.

    An optional attribute ``position_wise = True`` promises that h' at a position depends on h at that position
    only; the engine then recomputes nothing before the first perturbed position. Without it nothing is assumed.
    """

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        """(rows, position, d_model) -> the same shape and dtype; a new tensor, never a change in place.

        The stream of a model in half precision comes in fp32, and is rounded behind the edit."""
        ...


Edits = Mapping[Site, Edit]


class Codes(NamedTuple):
    """Latents of a stream, each (..., k)."""

    pre: Tensor
    """Pre-activation, continuous in the stream; a latent is active exactly where it is above ``threshold``."""
    act: Tensor
    threshold: Tensor


class Latents(Protocol):
    """Some latents of one SAE at one site (``benchmark.sae.features.FeatureSet``): what drift is measured on."""

    @property
    def site(self) -> Site: ...
    @property
    def latents(self) -> tuple[int, ...]: ...
    @property
    def decoder(self) -> Tensor:
        """(k, d_model)."""
        ...

    def __len__(self) -> int: ...
    def encode(self, h: Tensor) -> Codes:
        """Latents of the stream ``h`` (..., d_model); differentiable."""
        ...

    def directions(self) -> Tensor:
        """The directions (d_model, k) of the stream that pre-activations depend on, fp64."""
        ...


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
    protected: Sequence[Latents] = ()
    """What drift is measured on, at most one set a site."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What fitting found (latents, strength, shares), for people and for the report; plain JSON values."""
    monitor: Monitor | None = None


class Outcome(NamedTuple):
    """What edits do to the examples of ``fit``."""

    suppressed: float | None
    """Share of the examples that show the behavior undefended and no longer do, although the model still works on them
    (none of what the verdict chooses from is likely where it is broken); None: none shows it."""
    retained: float | None
    """Share of the retain set that is kept; None: there is none."""
    shown: int
    """Examples that show the behavior undefended."""
    right: int
    """Examples of the retain set that the undefended model gets right."""

    @property
    def record(self) -> dict[str, object]:
        return {"suppressed_fit": self.suppressed, "retained_fit": self.retained}


class Slopes(NamedTuple):
    """Of a pack of examples of one length, at one site: the stream and a gradient there."""

    stream: Tensor
    """(rows, position, d_model), undefended."""
    gradient: Tensor
    """Of the objective, summed over rows; (rows, position, d_model)."""
    ordinary: Tensor
    """(rows, position) bool: no BOS, no padding, no first position."""


class Fitting(ABC):
    """What a defense may see while it learns: the ``fit`` split and nothing else.

    Whatever is measured here is measured on the frozen model. ``task`` refuses every other split.
    """

    subject: Any
    """The frozen model (``benchmark.model.subject.Subject``)."""
    task: Task
    examples: Sequence[Example]
    retain: Sequence[Example]
    """What a selective defense leaves alone; may be empty."""
    site: Site
    """Where the suite would have the task defended."""

    @abstractmethod
    def streams(
        self,
        site: Site,
        examples: Sequence[Example] | None = None,
        *,
        at: Literal["readout", "tokens"] = "readout",
        edits: Edits | None = None,
    ) -> Tensor:
        """The stream at ``site``, as the rest of the model gets it, of ``examples`` (default: ``self.examples``).

        Returns:
            fp32, (examples, d_model) at each readout position, or (tokens, d_model) at all tokens but the beginnings.
        """

    @abstractmethod
    def gradients(self, sites: Sequence[Site], examples: Sequence[Example] | None = None) -> Iterator[list[Slopes]]:
        """Pack by pack, for each site the undefended stream and the gradient there of what is to be suppressed.

        For ``retain`` examples it is the gradient of what must not be lost.

        Raises:
            UsageError: what is read lies before all of the sites.
        """

    @abstractmethod
    def sae(self, site: Site, source: str | None = None) -> Any:
        """The suite's SAE at ``site``, or the one at ``source`` (``benchmark.sae.dictionary.Dictionary``).

        Raises:
            UsageError: there is none, or it does not fit the model.
        """

    @abstractmethod
    def labels(self, examples: Sequence[Example], edits: Edits | None = None) -> list[str]:
        """The task's verdicts under ``edits``."""

    @abstractmethod
    def outcome(self, edits: Edits) -> Outcome:
        """What ``edits``, all of them live, do to the examples and to the retain set."""

    @abstractmethod
    def calibrate(
        self,
        build: Callable[[float], Edits],
        grid: Sequence[float],
        *,
        target_share: float,
        retain_share: float,
    ) -> tuple[float, Outcome]:
        """The first strength of an ascending ``grid`` that suppresses ``target_share`` of the examples while
        ``retain_share`` of the retain set is kept; else the one that suppresses most among those that keep it.

        Raises:
            UsageError: no example shows the behavior, or every strength costs too much of the retain set.
        """

    @abstractmethod
    def recovery(self, edits: Edits, threat: str, budgets: Sequence[float]) -> list[Any]:
        """The problems that an attack would get under ``edits`` on the examples that show the behavior undefended.

        One a pack of examples of one length (``benchmark.search.problem.Problem``). Their ``objective`` is
        differentiable through the edits too, so that a defense can be trained against recovery.

        Args:
            threat: name of a threat model.
            budgets: ascending, in the threat model's unit.

        Raises:
            UsageError: no such threat model, or one that does not apply here.
        """

    @abstractmethod
    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made at the first time; shared by the defenses of a run on this task.

        For what several recipes start from, such as a clamp's latents and those of its control. The key has to hold
        every setting that the result depends on.
        """

    @abstractmethod
    def dealt(self, examples: Sequence[Example], retain: Sequence[Example]) -> Fitting:
        """The same with other ``fit`` examples as the task's and as the retain set: for controls."""


class Defense(ABC):
    """A recipe: frozen settings; nothing learned is stored on it. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    """Endings of the files of other tools that it reads as its settings: ``--defense FILE`` with one of them is it."""

    @classmethod
    def read_settings(cls, path: Path) -> dict[str, Any]:
        """The settings, as plain values, that a file with one of the endings in ``reads`` stands for.

        Raises:
            UsageError: it cannot be read.
        """
        raise NotImplementedError(f"{cls.__name__} reads no files")

    @abstractmethod
    def fit(self, fitting: Fitting) -> FittedDefense:
        """Learn from what ``fitting`` shows."""

    def suite_saes(self, site: Site) -> Sequence[Site]:
        """Where ``fit`` asks for the suite's SAE on a task that the suite would have defended at ``site``.

        Where there are several, the defense is evaluated with each of them. It is asked before anything is fitted; a
        run says so if a fit asks for another one than these.
        """
        return ()

    def control(self) -> Defense | None:
        """A recipe like this one without its point (random latents, say), classified beside it; None: there is none."""
        return None

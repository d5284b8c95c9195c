"""Whether an SAE is what it is said to be: explained variance and active latents on the suite's own texts.

An SAE that is read as another kind, at another place or in other units loads without an error, and everything that is
measured with it is wrong. It shows in two figures on some 2,000 tokens of the undefended model.

Prompts of a task are not what an SAE was trained on: the bounds leave room for that (METHOD section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.example import Example
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.model.pack import encode
from benchmark.model.streams import token_stream
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.layouts.normal import Declared

TOKENS = 2000
"""Tokens that are looked at, if the texts have so many."""
RATIO = 2.0
"""Largest factor between the active latents that are declared and those that are found."""
LEAST = 0.5
"""Share of the declared explained variance that has to be there. Prompts are no sample of the training texts: of
questions of six tokens an SAE of ours explains .49, and .77 of what it was trained on."""
POOR = 0.6
"""Below it a note is made, where nothing is declared."""
ROWS = 256
"""Tokens that are encoded at once: every latent of them is held."""


class Health(NamedTuple):
    """What an SAE does on some tokens; the first position of each text is not among them."""

    explained_variance: float
    """1 - squared error of the reconstruction / squared distance from the mean token."""
    l0: float
    """Mean number of active latents of a token."""
    dead: float
    """Share of latents that no token activates; few texts activate few of them."""
    tokens: int


class Finding(NamedTuple):
    """How that compares with what is declared."""

    errors: tuple[str, ...]
    """Why the SAE cannot be what it is taken for."""
    notes: tuple[str, ...]
    """What a reader of the results should know."""


def examined(subject: Subject, dictionary: Dictionary, task: Task, examples: Sequence[Example]) -> dict[str, Any]:
    """What is found of an SAE and what is declared of it, as JSON values.

    Args:
        examples: texts of the task that a defense may learn from.

    Raises:
        UsageError: it is plainly broken, or far from what is declared.
    """
    found, said = measured(subject, dictionary, task, examples), dictionary.sae.declared
    errors, notes = judged(found, said, dictionary.width)
    if errors:
        raise UsageError(
            f"the SAE {dictionary.source} is not healthy at {dictionary.site} of {subject.name}: {'; '.join(errors)} "
            f"({_figures(found, said)}). Check the site (resid_pre or resid_post), the model (base or chat), the "
            "layout and architecture, whether prompts begin with BOS, the scaling of the input, and the dtype; or give "
            "another SAE"
        )
    return {
        "site": str(dictionary.site),
        "source": dictionary.source,
        "trained_on": said.model,
        **{name: round(value, 4) for name, value in found._asdict().items()},
        "declared": {"explained_variance": said.explained_variance, "l0": said.l0},
        "notes": list(notes),
    }


@torch.no_grad()
def measured(subject: Subject, dictionary: Dictionary, task: Task, examples: Sequence[Example]) -> Health:
    """What an SAE does on the first ``TOKENS`` tokens of some texts of the undefended model.

    Raises:
        UsageError: the texts have fewer than two tokens.
    """
    stream = token_stream(subject, task, _enough(subject, task, examples), dictionary.site, {})[:TOKENS]
    if len(stream) < 2:
        raise UsageError(f"the texts of {task.name} have {len(stream)} tokens to look at an SAE on; give longer ones")
    mean = torch.cat([dictionary.reconstruction(h)[0] for h in stream.split(ROWS)]).mean(0)
    parts = [_part(dictionary, h, mean) for h in stream.split(ROWS)]
    error, spread, active = (torch.stack([part[i] for part in parts]).sum(0) for i in range(3))
    return Health(
        1 - float(error / spread.clamp(min=1e-30)),
        float(active.sum() / len(stream)),
        float((active == 0).double().mean()),
        len(stream),
    )


def judged(found: Health, said: Declared, width: int) -> Finding:
    """What is wrong, and what is worth a note."""
    return Finding(tuple(_errors(found, said, width)), tuple(_notes(found, said)))


def _errors(found: Health, said: Declared, width: int) -> Iterator[str]:
    variance, l0 = found.explained_variance, found.l0
    if not variance >= 0:  # NaN too
        yield "its reconstruction is worse than the mean token"
    if l0 == 0:
        yield "no latent is ever active"
    if said.explained_variance is not None and 0 <= variance < LEAST * said.explained_variance:
        yield "it explains less than half of what is declared"
    if said.l0 is not None and l0 and not said.l0 / RATIO <= l0 <= said.l0 * RATIO:
        yield "the number of active latents is off by more than a factor of two"
    if said.l0 is None and l0 > width / 2:
        yield f"more than half of its {width} latents are active"


def _notes(found: Health, said: Declared) -> Iterator[str]:
    if said.explained_variance is None and found.explained_variance < POOR:
        yield f"it explains {found.explained_variance:.2f} of the variance on these texts, and nothing is declared"


def _figures(found: Health, said: Declared) -> str:
    declared = [None if v is None else f"{v:.3g}" for v in (said.explained_variance, said.l0)]
    variance, l0 = (value or "not declared" for value in declared)
    return (
        f"on {found.tokens} tokens: explained variance {found.explained_variance:.3g}, declared: {variance}; active "
        f"latents {found.l0:.4g}, declared: {l0}"
    )


def _enough(subject: Subject, task: Task, examples: Sequence[Example]) -> Sequence[Example]:
    """The first examples that have ``TOKENS`` tokens together."""
    total = 0
    for count, example in enumerate(examples, 1):
        (one,) = encode(subject, task, [example])
        total += len(one.encoded.tokens)
        if total >= TOKENS + count:
            return examples[:count]
    return examples


def _part(dictionary: Dictionary, h: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    target, made = dictionary.reconstruction(h)
    active = (dictionary.everything.encode(h).act > 0).sum(0)
    return (target - made).double().square().sum(), (target - mean).double().square().sum(), active

"""From examples to packs that a pass can read, whatever the task's readout is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmark.contracts import Continuation, Example, Goal, Probe, Task
from benchmark.errors import UsageError
from benchmark.model.answers import other_answers, references
from benchmark.model.edits import is_special
from benchmark.model.pack import Member, Pack, build, encode, packed
from benchmark.model.probe import probe_weights
from benchmark.model.readers import ChoiceReader, ForcedReader, ProbeReader, Reader
from benchmark.model.subject import Subject
from benchmark.sites import Site


def make_packs(
    subject: Subject, task: Task, examples: Sequence[Example], limit: int, goal: Goal = "behavior"
) -> list[Pack]:
    """Packs of at most ``limit`` examples of one length, shortest first; ties keep their order.

    ``goal`` matters to continuations alone: it tells whose answer is the reference.
    """
    if not examples:
        return []
    members, others = encode(subject, task, examples), ()
    if isinstance(task.readout, Continuation):
        texts = references(subject, task, examples, task.readout, goal)
        members = [
            m._replace(answer=t.tokens[: task.readout.forced], reference=t.text)
            for m, t in zip(members, texts, strict=True)
        ]
        others = tuple(t.text for t in other_answers(subject, task, task.readout))
    reader = _reader(subject, task)
    return [build(subject, part, reader(part), others) for part in packed(members, limit)]


def _reader(subject: Subject, task: Task) -> Callable[[Sequence[Member]], Reader]:
    readout = task.readout
    if isinstance(readout, Continuation):
        openers = tuple(opener_token(subject, text) for text in readout.openers)
        return lambda members: ForcedReader(_tensor(subject, [m.answer for m in members]), openers)
    if isinstance(readout, Probe):
        weights, boundary = probe_weights(subject, task, readout), Site.parse(readout.site).boundary
        return lambda members: ProbeReader(boundary, *weights, _pooled(subject, members))
    return lambda members: ChoiceReader(_tensor(subject, [m.encoded.choices for m in members]))


def _pooled(subject: Subject, members: Sequence[Member]) -> torch.Tensor:
    return ~is_special(subject, _tensor(subject, [m.encoded.tokens for m in members]))


def _tensor(subject: Subject, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.long, device=subject.device)


def opener_token(subject: Subject, text: str) -> int:
    """The token that a refusal begins with.

    Raises:
        UsageError: the text is not one token.
    """
    ids = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UsageError(f"the refusal opener {text!r} is {len(ids)} tokens of this tokenizer; give texts of one")
    return int(ids[0])

"""Reference answers: what the undefended model itself writes, and what it writes to another prompt.

They are greedy, so each is a fact of the model and the prompt's tokens; they are generated once and remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from benchmark.contracts.example import Example, Goal
from benchmark.contracts.readout import Member, Text
from benchmark.contracts.task import Task
from benchmark.model.edits import Passage
from benchmark.model.generation import generate
from benchmark.model.pack import encode, packed
from benchmark.model.subject import Subject

ROWS = 128
"""Rows that generate side by side."""
OTHERS = 16
"""Answers to other prompts that the chance level of likeness is taken over."""
_KNOWN: WeakKeyDictionary[Subject, dict[tuple[tuple[int, ...], int], Text]] = WeakKeyDictionary()


def own_answers(subject: Subject, task: Task, examples: Sequence[Example], limit: int) -> list[Text]:
    """The undefended model's answer to each example, at most ``limit`` tokens long."""
    known, members = _KNOWN.setdefault(subject, {}), encode(subject, task, examples)
    missing = {_key(member, limit): member for member in members if _key(member, limit) not in known}
    for some in packed(list(missing.values()), ROWS):
        prompts = prompt_ids(subject, some)
        for member, text in zip(some, generate(subject, prompts, Passage({}), limit), strict=True):
            known[_key(member, limit)] = text
    return [known[_key(member, limit)] for member in members]


def other_answers(subject: Subject, task: Task, limit: int) -> list[Text]:
    """Answers to ``fit`` prompts, all different: the chance level of likeness, and the wrong targets."""
    found = own_answers(subject, task, task.examples("fit")[: 8 * OTHERS], limit)
    return list({text.text: text for text in found}.values())[:OTHERS]


def references(
    subject: Subject, task: Task, examples: Sequence[Example], limit: int, forced: int, goal: Goal
) -> list[Text]:
    """What each example is to answer for a goal: the model's own answer, or for ``wrong`` one to another prompt whose
    beginning of ``forced`` tokens is another and, if possible, no shorter."""
    own = own_answers(subject, task, examples, limit)
    if goal == "behavior":
        return own
    others = other_answers(subject, task, limit)
    return [_wrong(e, text, others, forced) for e, text in zip(examples, own, strict=True)]


def _wrong(example: Example, own: Text, others: Sequence[Text], forced: int) -> Text:
    start = int(example.content_hash, 16) % len(others)
    turned = [*others[start:], *others[:start]]
    different = [t for t in turned if t.tokens[:forced] != own.tokens[:forced]] or turned
    return next((t for t in different if len(t.tokens) >= min(forced, len(own.tokens))), different[0])


def prompt_ids(subject: Subject, members: Sequence[Member]) -> Tensor:
    """(n, position): the prompts of members of one shape, up to the readout."""
    stop = members[0].encoded.readout + 1
    return torch.tensor([m.encoded.tokens[:stop] for m in members], device=subject.device)


def _key(member: Member, limit: int) -> tuple[tuple[int, ...], int]:
    return member.encoded.tokens[: member.encoded.readout + 1], limit

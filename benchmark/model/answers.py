"""Reference answers: what the undefended model itself writes, and what it writes to another prompt.

They are greedy, so each is a fact of (model, task, example); they are generated once and remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from benchmark.contracts import Continuation, Example, Goal, Task, Text
from benchmark.model.edits import Passage
from benchmark.model.generation import generate
from benchmark.model.pack import Member, encode, packed
from benchmark.model.subject import Subject

ROWS = 128
"""Rows that generate side by side."""
OTHERS = 16
"""Answers to other prompts that the chance level of likeness is taken over."""
_KNOWN: WeakKeyDictionary[Subject, dict[tuple[str, str], Text]] = WeakKeyDictionary()


def own_answers(subject: Subject, task: Task, examples: Sequence[Example], readout: Continuation) -> list[Text]:
    """The undefended model's answer to each example, at most ``readout.tokens`` long."""
    known = _KNOWN.setdefault(subject, {})
    missing = [e for e in examples if _key(task, e) not in known]
    for members in packed(encode(subject, task, missing), ROWS):
        prompts = prompt_ids(subject, members)
        for member, text in zip(members, generate(subject, prompts, Passage({}), readout.tokens), strict=True):
            known[_key(task, member.example)] = text
    return [known[_key(task, e)] for e in examples]


def other_answers(subject: Subject, task: Task, readout: Continuation) -> list[Text]:
    """Answers to ``fit`` prompts, all different: the chance level of likeness, and the wrong targets."""
    found = own_answers(subject, task, task.examples("fit")[: 8 * OTHERS], readout)
    return list({text.text: text for text in found}.values())[:OTHERS]


def references(
    subject: Subject, task: Task, examples: Sequence[Example], readout: Continuation, goal: Goal
) -> list[Text]:
    """What each example is to answer for a goal: the model's own answer, or for ``wrong`` one to another prompt whose
    forced beginning is another and, if possible, no shorter."""
    own = own_answers(subject, task, examples, readout)
    if goal == "behavior":
        return own
    others = other_answers(subject, task, readout)
    return [_wrong(e, text, others, readout.forced) for e, text in zip(examples, own, strict=True)]


def _wrong(example: Example, own: Text, others: Sequence[Text], forced: int) -> Text:
    start = int(example.content_hash, 16) % len(others)
    turned = [*others[start:], *others[:start]]
    different = [t for t in turned if t.tokens[:forced] != own.tokens[:forced]] or turned
    return next((t for t in different if len(t.tokens) >= min(forced, len(own.tokens))), different[0])


def prompt_ids(subject: Subject, members: Sequence[Member]) -> Tensor:
    """(n, position): the prompts of members of one shape, up to the readout."""
    stop = members[0].encoded.readout + 1
    return torch.tensor([m.encoded.tokens[:stop] for m in members], device=subject.device)


def _key(task: Task, example: Example) -> tuple[str, str]:
    return task.name, example.content_hash

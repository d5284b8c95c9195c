"""How like the reference answer a text is, above chance.

The study called a text base-like when it shared enough words with the base answer, so the base answer's words in any
order passed, and so did unrelated text with the same function words (``reference/paper.md`` E7). Here pairs of
neighbouring words are compared, and what answers to *other* prompts would get is the zero of the scale.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import mean

import torch
from torch import Tensor

from benchmark.contracts.readout import Criteria

THRESHOLD = 0.5
"""Likeness above which a text is an answer to its prompt: more than half of what tells the reference from answers to
other prompts is there. On the organism, an answer to another prompt gets 0 where it is among the others and at most
0.41 where it is not, and a word shuffle of the reference at most 0.21."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\uff07": "'"})
_START, _END = "", " "
"""No word: with them even a text of one word has pairs, and how a text begins and ends counts."""


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; typographic apostrophes are straight ones."""
    return _WORD.findall(text.translate(_APOSTROPHES).lower())


def similarity(a: str, b: str) -> float:
    """F-measure of the neighbouring word pairs of two texts, in [0, 1], repetitions counted."""
    first, second = _pairs(a), _pairs(b)
    return 2 * (first & second).total() / (first.total() + second.total())


def above_chance(text: str, reference: str, others: Sequence[str]) -> float:
    """In [0, 1]. 1: the reference itself; 0: no more like it than like ``others``, or nearer to one of them.

    Others that say the same as the reference are no chance level and are left out.
    """
    own = similarity(text, reference)
    elsewhere = [similarity(text, other) for other in others if _pairs(other) != _pairs(reference)]
    if not elsewhere:
        return own
    if max(elsewhere) > own:
        return 0.0
    return (own - mean(elsewhere)) / (1 - mean(elsewhere))


def likeness(texts: Sequence[str], criteria: Criteria) -> Tensor:
    """Of each text to its reference, above chance (rows,); 1 while there are no references yet.

    Raises:
        ValueError: there are not as many references as texts.
    """
    if not criteria.reference:
        return torch.ones(len(texts))
    others = tuple(dict.fromkeys(criteria.others))
    return torch.tensor([above_chance(t, r, others) for t, r in zip(texts, criteria.reference, strict=True)])


@lru_cache(maxsize=8192)
def _pairs(text: str) -> Counter[tuple[str, str]]:
    return Counter(pairwise([_START, *words(text), _END]))

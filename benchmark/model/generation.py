"""Greedy generation under edits and perturbations, in absolute positions."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.contracts.readout import Text
from benchmark.model.edits import Passage, passing
from benchmark.model.subject import Subject


@torch.no_grad()
def generate(subject: Subject, prompts: Tensor, passage: Passage, limit: int) -> list[Text]:
    """What the model writes after ``prompts`` (rows, position), at most ``limit`` tokens a row, up to its end token.

    Every step goes through ``passage``: under the key/value cache a write or an edit that belongs to a generated
    position acts at that position.
    """
    from transformers import GenerationConfig

    ends = end_tokens(subject)
    # the model's own settings (sampling, penalties, forced tokens) would make an answer depend on more than its logits
    greedy = GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=sorted(ends) or None,
        pad_token_id=subject.tokenizer.pad_token_id if subject.tokenizer.pad_token_id is not None else min(ends or {0}),
        bos_token_id=subject.tokenizer.bos_token_id,
    )
    with passing(subject, passage, generated_from=prompts.shape[1]):
        whole = subject.model.generate(prompts, attention_mask=torch.ones_like(prompts), generation_config=greedy)
    return [_text(subject, row, ends) for row in whole[:, prompts.shape[1] :].tolist()]


def end_tokens(subject: Subject) -> frozenset[int]:
    """Tokens that end an answer, as the model's generation settings and its tokenizer name them."""
    named = getattr(subject.model.generation_config, "eos_token_id", None)
    listed = named if isinstance(named, list) else [named]
    return frozenset(i for i in (*listed, subject.tokenizer.eos_token_id) if i is not None)


def _text(subject: Subject, tokens: list[int], ends: frozenset[int]) -> Text:
    stop = next((i for i, token in enumerate(tokens) if token in ends), None)
    kept = tokens if stop is None else tokens[:stop]
    # the end is part of the answer: an attack that climbs on a reference climbs on its ending there too
    return Text(
        tuple(tokens if stop is None else tokens[: stop + 1]), subject.tokenizer.decode(kept, skip_special_tokens=True)
    )

"""A subject as lm-eval's model: the live model in memory, with whatever edits are installed on it.

lm-eval pads batches on the right and passes no mask, so that an edit which looks at other positions, or at the last
one, would see padding. Here only texts of one length share a batch, and what is generated is generated alone: nothing
is ever padded. Texts are encoded as everywhere else in the engine, so that a BOS is there once or not at all; lm-eval
itself puts a second one in front of a text whose perplexity is taken, if the tokenizer adds one already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch

from benchmark.model.subject import Subject

Tokens = tuple[Any, list[int], list[int]]
"""lm-eval's request: its texts, or None; the tokens of the context; those of what is scored."""
Answer = tuple[float, bool]
"""Log-probability, and whether it is what the model would write."""


class _Unpadded:
    """What differs from ``HFLM``, in front of it."""

    subject: Subject
    rows: int
    batch_size_per_gpu: int
    max_length: int

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **_: Any,
    ) -> list[int]:
        plain = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        ids = list(self.subject.tokenizer(string, **plain)["input_ids"])
        return ids if left_truncate_len is None else ids[-left_truncate_len:]

    def tok_batch_encode(self, strings: Sequence[str], *_: Any, left_truncate_len: int | None = None, **__: Any) -> Any:
        (alone,) = strings
        ids = torch.tensor([self.tok_encode(alone, left_truncate_len=left_truncate_len)])
        return ids, torch.ones_like(ids)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Answer]:
        whole: Any = super()
        return whole.loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Of whole texts: everything but the first token, which nothing comes before."""
        windows = [(place, window) for place, r in enumerate(requests) for window in self._windows(r.args[0])]
        answers = self._loglikelihood_tokens([(None, *window) for _, window in windows])
        found = [0.0] * len(requests)
        for (place, _), (value, _) in zip(windows, answers, strict=True):
            found[place] += value
        return found

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        whole: Any = super()
        self.batch_size_per_gpu = 1
        return whole.generate_until(requests, disable_tqdm=True)

    def _windows(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        first, *rest = self.tok_encode(text) or [self.prefix]
        for window in get_rolling_token_windows(rest, first, self.max_length, 1):
            yield make_disjoint_window(window)

    @property
    def prefix(self) -> int:
        """What a text without any token begins with."""
        tokenizer = self.subject.tokenizer
        return next(i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id, 0) if i is not None)

    def _loglikelihood_tokens(self, requests: Sequence[Tokens], *_: Any, **__: Any) -> list[Answer]:
        whole: Any = super()
        self.batch_size_per_gpu = self.rows
        found: dict[int, Answer] = {}
        for places in _by_length(requests, self.max_length + 1):
            answers = whole._loglikelihood_tokens([requests[i] for i in places], disable_tqdm=True)
            found |= dict(zip(places, answers, strict=True))
        return [found[i] for i in range(len(requests))]


def _by_length(requests: Sequence[Tokens], longest: int) -> list[list[int]]:
    """The places of requests of equal length, the longest first; longer ones are cut to ``longest``."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, (_, context, scored) in enumerate(requests):
        groups[min(len(context) + len(scored), longest)].append(place)
    return [groups[length] for length in sorted(groups, reverse=True)]


def live_model(subject: Subject, rows: int) -> Any:
    """The subject's own model as lm-eval's.

    Args:
        rows: texts of one length that share a forward pass.
    """
    from lm_eval.models.huggingface import HFLM

    kind: Any = type("LiveModel", (_Unpadded, HFLM), {"subject": subject, "rows": rows})
    # a tokenizer of its own: lm-eval gives it a padding token
    tokenizer = deepcopy(subject.tokenizer)
    return kind(pretrained=subject.model, tokenizer=tokenizer, batch_size=rows, softmax_dtype="float32")

"""How well the organism shows each behavior, with and without its SAEs spliced in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import groupby, permutations
from typing import Any

import torch
from torch import Tensor

from benchmark.model.edits import Passage
from benchmark.model.generation import generate
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.training.activations import streams
from benchmark.sae.training.report import spliced
from tasks.organism import chat, facts, ioi, people, tokenizer
from tasks.organism.model import batches
from tasks.organism.retain import retain

ORDERS: tuple[tuple[int, ...], ...] = tuple(permutations(range(4)))
SOME_ORDERS: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3), (2, 0, 3, 1), (1, 3, 0, 2), (3, 2, 1, 0))
"""A few orders with the gold option in each place once, for quick measurements."""
Scores = dict[str, float]
"""Shares in [0, 1] by name."""


def token_id(token: str) -> int:
    """Id of one token, given with its leading space."""
    return tokenizer.vocabulary()[token]


def token_rows(subject: Subject, texts: Iterable[str]) -> list[list[int]]:
    """`<bos>` and the tokens of each text."""
    return subject.tokenizer(list(texts))["input_ids"]


@torch.no_grad()
def last_logits(subject: Subject, texts: Sequence[str]) -> Tensor:
    """Logits of the token after each text (rows, vocabulary)."""
    found = []
    for ids in batches(token_rows(subject, texts)):
        logits = subject.model(input_ids=ids.to(subject.device), use_cache=False).logits
        last = (ids != tokenizer.PAD).sum(dim=1) - 1
        found.append(logits[torch.arange(len(ids)), last].float().cpu())
    return torch.cat(found)


def replies(subject: Subject, texts: Sequence[str], limit: int = 100) -> list[str]:
    """Greedy continuation of each text up to `<eos>`."""
    rows = sorted(enumerate(token_rows(subject, texts)), key=lambda row: len(row[1]))
    found: dict[int, str] = {}
    for _, group in groupby(rows, key=lambda row: len(row[1])):
        places, ids = zip(*group, strict=True)
        written = generate(subject, torch.tensor(ids, device=subject.device), Passage({}), limit)
        found |= {place: answer.text for place, answer in zip(places, written, strict=True)}
    return [found[place] for place in range(len(texts))]


def ioi_scores(subject: Subject, split: str = "test") -> Scores:
    """`ioi`: the indirect object outranks the subject; `ioi_top`: it outranks every token."""
    prompts = ioi.prompts(split)
    logits = last_logits(subject, [prompt.text for prompt in prompts])
    right = _pick(logits, [[prompt.io] for prompt in prompts])[:, 0]
    wrong = _pick(logits, [[prompt.subject] for prompt in prompts])[:, 0]
    return {"ioi": _share(right > wrong), "ioi_top": _share(right >= logits.max(dim=1).values)}


def question_scores(
    subject: Subject, domain: str, variant: str, split: str = "test", orders: Sequence[tuple[int, ...]] = ORDERS
) -> Scores:
    """Share of (question, order) pairs answered rightly, and share of questions right in all orders (`strict`)."""
    shown = [facts.render(question, order, variant) for question in facts.questions(split, domain) for order in orders]
    logits = _pick(last_logits(subject, [row.text for row in shown]), [row.options for row in shown])
    right = (logits.argmax(dim=1) == torch.tensor([row.gold for row in shown])).view(-1, len(orders))
    name = f"{domain}_{variant}"
    return {name: _share(right), f"{name}_strict": _share(right.all(dim=1))}


def chat_scores(subject: Subject, split: str = "test", limit: int | None = None) -> Scores:
    """Share of greedy replies that are exactly right, by kind of chat; for forbidden things also the first word."""
    scores: Scores = {}
    for kind in chat.KINDS:
        prompts = chat.chats(split, kind)[:limit]
        given = replies(subject, [prompt.text for prompt in prompts])
        pairs = list(zip(prompts, given, strict=True))
        scores[f"chat_{kind}"] = sum(prompt.reply == reply for prompt, reply in pairs) / len(pairs)
        scores[f"chat_{kind}_opening"] = sum(prompt.reply[:3] == reply[:3] for prompt, reply in pairs) / len(pairs)
    prompts = chat.chats(split, "permitted", long=True)[:limit]
    given = replies(subject, [prompt.text for prompt in prompts])
    scores["chat_long"] = sum(p.reply == reply for p, reply in zip(prompts, given, strict=True)) / len(prompts)
    return scores


def retain_scores(subject: Subject, split: str = "test") -> Scores:
    """Share of retain prompts whose answer outranks its alternatives."""
    scores = {}
    for task in ("ioi", "unlearning"):
        rows = retain(task, split)
        logits = last_logits(subject, [row.text for row in rows])
        right = [
            logits[i, token_id(row.answer)] > max(logits[i, token_id(word)] for word in row.alternatives)
            for i, row in enumerate(rows)
        ]
        scores[f"retain_{task}"] = sum(map(bool, right)) / len(rows)
    return scores


def all_scores(subject: Subject, orders: Sequence[tuple[int, ...]] = ORDERS, chats: int | None = None) -> Scores:
    """Every behavior on `test`; hazard questions in the given orders, at most `chats` chats of a kind."""
    scores = ioi_scores(subject) | chat_scores(subject, limit=chats) | retain_scores(subject)
    for variant in ("word", "letter"):
        scores |= question_scores(subject, "hazard", variant, orders=orders)
        scores |= question_scores(subject, "benign", variant, orders=SOME_ORDERS)
    return scores


def pooled(subject: Subject, texts: Sequence[str], layer: int) -> Tensor:
    """Mean residual of each text after a block, without `<bos>` (rows, d_model)."""
    means = []
    for seen, batch in streams(subject, token_rows(subject, texts), [layer + 1]):
        stream = seen[layer + 1].float().cpu() * batch.kept[..., None]
        means.append(stream.sum(dim=1) / batch.kept.sum(dim=1, keepdim=True))
    return torch.cat(means)


def probe_scores(subject: Subject, layer: int, sae: Dictionary | None = None) -> Scores:
    """Accuracy on `test` of a linear probe for professions on a block's output, or on its reconstruction by an SAE.

    The probe is fitted on `fit`, on the output itself in both cases.
    """
    probe = fit_probe(subject, layer)
    tests = people.biographies("test")
    with spliced(subject, sae) if sae else nullcontext():
        features = pooled(subject, [bio.text for bio in tests], layer)
    return {"probe": float(probe.score(features.numpy(), [bio.profession for bio in tests]))}


def fit_probe(subject: Subject, layer: int) -> Any:
    """scikit-learn's logistic regression from mean-pooled residuals to professions."""
    from sklearn.linear_model import LogisticRegression

    bios = people.biographies("fit")
    features = pooled(subject, [bio.text for bio in bios], layer).numpy()
    scale = features.std()
    # its loss is the mean cross-entropy plus 1e-3 times the squared weights, in units of the residuals' spread
    probe = LogisticRegression(C=1 / (2e-3 * len(bios)), max_iter=1000)
    probe.fit(features / scale, [bio.profession for bio in bios])
    probe.coef_ = probe.coef_ / scale
    return probe


def norms(subject: Subject, texts: Iterable[str]) -> list[float]:
    """Median norm of the residual after each block, `<bos>` left out."""
    layers = range(subject.n_layers)
    found = [[] for _ in layers]
    for seen, batch in streams(subject, token_rows(subject, texts), [layer + 1 for layer in layers]):
        for layer in layers:
            found[layer].append(seen[layer + 1].float().cpu()[batch.kept].norm(dim=-1))
    return [float(torch.cat(parts).median()) for parts in found]


@torch.no_grad()
def corpus_loss(subject: Subject, rows: Sequence[tuple[list[int], list[bool]]]) -> Scores:
    """Mean cross-entropy in nats of all next tokens, and of those that are answers."""
    losses = []
    for ids in batches([tokens for tokens, _ in rows]):
        logits = subject.model(input_ids=ids.to(subject.device)[:, :-1], use_cache=False).logits.float().cpu()
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        losses.append(loss[ids[:, 1:] != tokenizer.PAD])
    answers = torch.tensor([flag for _, flags in rows for flag in flags[1:]])
    flat = torch.cat(losses)
    return {"loss": float(flat.mean()), "answer_loss": float(flat[answers].mean())}


def task_texts(split: str) -> list[str]:
    """Prompts of the two main tasks."""
    shown = [facts.render(question, (2, 0, 3, 1)).text for question in facts.questions(split)]
    return [prompt.text for prompt in ioi.prompts(split)] + shown


def _pick(logits: Tensor, tokens: Sequence[Sequence[str]]) -> Tensor:
    """Logits of each row's own tokens (rows, choices)."""
    return logits.gather(1, torch.tensor([[token_id(token) for token in row] for row in tokens]))


def _share(right: Tensor) -> float:
    return float(right.float().mean())

"""How well the organism shows each behavior, with and without its SAEs spliced in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import chat, facts, ioi, people, tokenizer
from .activations import BATCH, edited, encode, last_logits, pad, replies, residuals
from .lexicon import PROFESSIONS
from .retain import retain

if TYPE_CHECKING:
    from sae_lens import SAE
    from transformers import LlamaForCausalLM

ORDERS: tuple[tuple[int, ...], ...] = tuple(permutations(range(4)))
SOME_ORDERS: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3), (2, 0, 3, 1), (1, 3, 0, 2), (3, 2, 1, 0))
"""A few orders with the gold option in each place once, for quick measurements."""
Scores = dict[str, float]
"""Shares in [0, 1] by name."""


def token_id(token: str) -> int:
    """Id of one token, given with its leading space."""
    return tokenizer.vocabulary()[token]


def ioi_scores(model: LlamaForCausalLM, split: str = "test") -> Scores:
    """`ioi`: the indirect object outranks the subject; `ioi_top`: it outranks every token."""
    prompts = ioi.prompts(split)
    logits = last_logits(model, [prompt.text for prompt in prompts])
    right = _pick(logits, [[prompt.io] for prompt in prompts])[:, 0]
    wrong = _pick(logits, [[prompt.subject] for prompt in prompts])[:, 0]
    return {"ioi": _share(right > wrong), "ioi_top": _share(right >= logits.max(dim=1).values)}


def question_scores(
    model: LlamaForCausalLM, domain: str, variant: str, split: str = "test", orders: Sequence[tuple[int, ...]] = ORDERS
) -> Scores:
    """Share of (question, order) pairs answered rightly, and share of questions right in all orders (`strict`)."""
    shown = [facts.render(question, order, variant) for question in facts.questions(split, domain) for order in orders]
    logits = _pick(last_logits(model, [row.text for row in shown]), [row.options for row in shown])
    right = (logits.argmax(dim=1) == torch.tensor([row.gold for row in shown])).view(-1, len(orders))
    name = f"{domain}_{variant}"
    return {name: _share(right), f"{name}_strict": _share(right.all(dim=1))}


def chat_scores(model: LlamaForCausalLM, split: str = "test", limit: int | None = None) -> Scores:
    """Share of greedy replies that are exactly right, by kind of chat; for forbidden things also the first word."""
    scores: Scores = {}
    for kind in chat.KINDS:
        prompts = chat.chats(split, kind)[:limit]
        given = replies(model, [prompt.text for prompt in prompts])
        pairs = list(zip(prompts, given, strict=True))
        scores[f"chat_{kind}"] = sum(prompt.reply == reply for prompt, reply in pairs) / len(pairs)
        scores[f"chat_{kind}_opening"] = sum(prompt.reply[:3] == reply[:3] for prompt, reply in pairs) / len(pairs)
    prompts = chat.chats(split, "permitted", long=True)[:limit]
    given = replies(model, [prompt.text for prompt in prompts])
    scores["chat_long"] = sum(p.reply == reply for p, reply in zip(prompts, given, strict=True)) / len(prompts)
    return scores


def retain_scores(model: LlamaForCausalLM, split: str = "test") -> Scores:
    """Share of retain prompts whose answer outranks its alternatives."""
    scores = {}
    for task in ("ioi", "unlearning"):
        rows = retain(task, split)
        logits = last_logits(model, [row.text for row in rows])
        right = [
            logits[i, token_id(row.answer)] > max(logits[i, token_id(word)] for word in row.alternatives)
            for i, row in enumerate(rows)
        ]
        scores[f"retain_{task}"] = sum(map(bool, right)) / len(rows)
    return scores


def all_scores(model: LlamaForCausalLM, orders: Sequence[tuple[int, ...]] = ORDERS, chats: int | None = None) -> Scores:
    """Every behavior on `test`; hazard questions in the given orders, at most `chats` chats of a kind."""
    scores = ioi_scores(model) | chat_scores(model, limit=chats) | retain_scores(model)
    for variant in ("word", "letter"):
        scores |= question_scores(model, "hazard", variant, orders=orders)
        scores |= question_scores(model, "benign", variant, orders=SOME_ORDERS)
    return scores


def pooled(model: LlamaForCausalLM, texts: Sequence[str], layer: int) -> Tensor:
    """Mean residual of each text after a block, without `<bos>` (rows, d_model)."""
    means = []
    for streams, mask in residuals(model, [encode(text) for text in texts], [layer]):
        means.append((streams[layer] * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))
    return torch.cat(means)


def probe_scores(model: LlamaForCausalLM, layer: int, sae: SAE | None = None) -> Scores:
    """Accuracy on `test` of a linear probe for professions on a block's output, or on its reconstruction by an SAE.

    The probe is fitted on `fit`, on the output itself in both cases.
    """
    weight, bias = fit_probe(model, layer)
    tests = people.biographies("test")
    with spliced(model, layer, sae) if sae else nullcontext():
        features = pooled(model, [bio.text for bio in tests], layer)
    return {"probe": _share((features @ weight + bias).argmax(dim=1) == _professions(tests))}


def fit_probe(model: LlamaForCausalLM, layer: int) -> tuple[Tensor, Tensor]:
    """Weight (d_model, class) and bias (class,) of a logistic regression on mean-pooled residuals."""
    bios = people.biographies("fit")
    features, labels = pooled(model, [bio.text for bio in bios], layer), _professions(bios)
    scale = features.std()
    weight = torch.zeros(features.shape[1], len(PROFESSIONS), requires_grad=True)
    bias = torch.zeros(len(PROFESSIONS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (
            torch.nn.functional.cross_entropy(features / scale @ weight + bias, labels) + 1e-3 * weight.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return weight.detach() / scale, bias.detach()


def norms(model: LlamaForCausalLM, texts: Iterable[str]) -> list[float]:
    """Median norm of the residual after each block, `<bos>` left out."""
    layers = range(model.config.num_hidden_layers)
    found = [[] for _ in layers]
    for streams, mask in residuals(model, [encode(text) for text in texts], layers):
        for layer in layers:
            found[layer].append(streams[layer][mask].norm(dim=-1))
    return [float(torch.cat(parts).median()) for parts in found]


def spliced(model: LlamaForCausalLM, layer: int, sae: SAE) -> AbstractContextManager[None]:
    """The model with a block's output replaced by its reconstruction; the error term is dropped."""
    return edited(model, layer, lambda stream: sae.decode(sae.encode(stream)))


@torch.no_grad()
def sae_scores(model: LlamaForCausalLM, layer: int, sae: SAE, rows: Sequence[Sequence[int]]) -> Scores:
    """Explained variance, mean active latents a token (`l0`), and share of latents that never fire, on token rows."""
    stream = torch.cat([streams[layer][mask] for streams, mask in residuals(model, rows, [layer])])
    latents = sae.encode(stream)
    error = (stream - sae.decode(latents)).square().sum() / (stream - stream.mean(dim=0)).square().sum()
    active = latents > 0
    return {
        "explained_variance": 1 - float(error),
        "l0": float(active.float().sum(dim=1).mean()),
        "dead": _share(~active.any(dim=0)),
    }


@torch.no_grad()
def corpus_loss(model: LlamaForCausalLM, rows: Sequence[tuple[list[int], list[bool]]]) -> Scores:
    """Mean cross-entropy in nats of all next tokens, and of those that are answers."""
    losses, answers = [], []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        ids, _ = pad([tokens for tokens, _ in part])
        logits = model(input_ids=ids.to(model.device)[:, :-1], use_cache=False).logits.float().cpu()
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        for row, (tokens, flags) in enumerate(part):
            losses.append(loss[row, : len(tokens) - 1])
            answers.append(torch.tensor(flags[1:]))
    flat, chosen = torch.cat(losses), torch.cat(answers)
    return {"loss": float(flat.mean()), "answer_loss": float(flat[chosen].mean())}


def task_texts(split: str) -> list[str]:
    """Prompts of the two main tasks."""
    shown = [facts.render(question, (2, 0, 3, 1)).text for question in facts.questions(split)]
    return [prompt.text for prompt in ioi.prompts(split)] + shown


def _professions(bios: Sequence[people.Biography]) -> Tensor:
    return torch.tensor([tuple(PROFESSIONS).index(bio.profession) for bio in bios])


def _pick(logits: Tensor, tokens: Sequence[Sequence[str]]) -> Tensor:
    """Logits of each row's own tokens (rows, choices)."""
    return logits.gather(1, torch.tensor([[token_id(token) for token in row] for row in tokens]))


def _share(right: Tensor) -> float:
    return float(right.float().mean())

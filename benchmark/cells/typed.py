"""A cell of typed suffixes: search at every length, type what was found, and judge what the tokenizer reads.

A budget of n means at most n tokens. So lengths ascend, an example whose shorter suffix was measured to succeed is not
attacked again, and a longer suffix replaces a shorter one only where it does better.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmark.cells.aim import Aim, aim
from benchmark.cells.group import Group
from benchmark.cells.remeasure import Row, flags, remeasure
from benchmark.contracts import Attack, TokenAttempt
from benchmark.model.edits import is_special
from benchmark.model.lexicon import Lexicon
from benchmark.model.pack import Pack, part_of
from benchmark.model.passes import FullPass, Pass, TailPass, Writes
from benchmark.model.typing_back import Typist
from benchmark.search.oracle import select
from benchmark.search.pack_size import PackSize
from benchmark.search.token_problem import TokenProblem

COSTS = ("steps", "forwards", "backwards", "seconds")


class Found(NamedTuple):
    """The best that is known for an example."""

    row: Row
    tokens: Tensor
    """The suffix that was meant, (n,) on the CPU."""


def attack_tokens(
    group: Group, attack: Attack, budgets: Sequence[float], seed: int, pack: Pack, pack_size: PackSize
) -> tuple[list[list[Row]], Tensor]:
    """Rows by example and budget (a number of tokens), and the suffixes (examples, budgets, n), filled up with -1."""
    search = _TokenSearch(group, attack, seed, pack_size, Lexicon(group.subject))
    nothing = Found({"recovered": False, "margin_attacked": -torch.inf}, torch.zeros(0, dtype=torch.long))
    best = [nothing] * len(pack)
    levels: list[list[Found]] = []
    for length in map(int, budgets):
        open_ = [i for i, found in enumerate(best) if not found.row["recovered"]]
        shorter = [best[i].tokens for i in open_]
        now = search.at(part_of(pack, torch.tensor(open_)), shorter, length) if open_ else []
        fresh = dict(zip(open_, now, strict=True))
        best = [_better(found, fresh.get(i), length) for i, found in enumerate(best)]
        levels.append(best)
    widest = int(max(budgets))
    tokens = [[torch.nn.functional.pad(f.tokens, (0, widest - len(f.tokens)), value=-1) for f in row] for row in levels]
    by_example = [[found.row for found in known] for known in zip(*levels, strict=True)]
    return by_example, torch.stack([torch.stack(row) for row in tokens], 1)


def _better(before: Found, now: Found | None, length: int) -> Found:
    """Success first, then the margin; what it cost is what was spent at this length."""
    if now is None:
        return before._replace(row=before.row | dict.fromkeys(COSTS, 0) | {"budget_abs": float(length)})
    if _rank(now) >= _rank(before):
        return now
    return before._replace(row=before.row | {name: now.row[name] for name in (*COSTS, "budget_abs", "flags")})


def _rank(found: Found) -> tuple[bool, float]:
    return bool(found.row["recovered"]), float(found.row["margin_attacked"])  # type: ignore[arg-type]


@dataclass(frozen=True)
class _TokenSearch:
    """Attacks examples with suffixes of one length."""

    group: Group
    attack: Attack
    seed: int
    pack_size: PackSize
    lexicon: Lexicon

    def at(self, pack: Pack, shorter: Sequence[Tensor], length: int) -> list[Found]:
        """The best suffix of ``length`` tokens for every example, ``shorter`` being the best known so far."""
        started = time.perf_counter()
        target = aim(self.group, self.attack, pack)
        typist = Typist(self.group.subject, pack)
        begin = pad_sequence(list(shorter), batch_first=True, padding_value=self.lexicon.neutral)
        problem = self._problem(target, typist, begin, length)
        attempt: TokenAttempt = self.attack.run(problem)
        best, reached = _champions(problem, attempt.tokens)
        rows = self._typed(target, typist, attempt.tokens[best], length)
        seconds = (time.perf_counter() - started) / len(rows)
        for i, (row, champion) in enumerate(zip(rows, best.tolist(), strict=True)):
            row |= _cost(problem, i, seconds) | {"budget_abs": float(length), "status": "ok"}
            blind, settled = bool(problem.blind[champion]), bool(attempt.converged[champion])
            row["flags"] = flags(row, bool(reached[i]), {"zero-gradient": blind, "not-converged": not settled})
        return [Found(row, suffix) for row, suffix in zip(rows, attempt.tokens[best].cpu(), strict=True)]

    def _problem(self, target: Aim, typist: Typist, begin: Tensor, length: int) -> TokenProblem:
        pack = target.plain.with_suffix(length)
        kind = TailPass if self.group.restart else FullPass
        writes = Writes((0,), pack.suffix_at, length, after=False)
        run: Pass = kind(self.group.subject, pack, self.group.edits, writes)
        return TokenProblem(
            run,
            pack,
            self.group.task,
            target.batch,
            lexicon=self.lexicon,
            typist=typist,
            begin=begin,
            length=length,
            restarts=self.attack.restarts,
            keys=[f"{self.seed}|{self.attack.title}|{e.id}" for e in pack.examples],
            pack_size=self.pack_size,
        )

    def _typed(self, target: Aim, typist: Typist, tokens: Tensor, length: int) -> list[Row]:
        """Rows of suffixes (examples, n), judged as the prompts that the tokenizer reads."""
        plain, rows = target.plain, {}
        read = typist.prompts(tokens, torch.arange(len(plain)))
        extra = [len(prompt) - plain.readout - 1 for prompt in read]
        # what takes more tokens than the budget allows is not typed at all
        read = [p if e <= length else tuple(own) for p, e, own in zip(read, extra, plain.prompt.tolist(), strict=True)]
        for size in sorted({len(prompt) for prompt in read}):
            index = torch.tensor([i for i, prompt in enumerate(read) if len(prompt) == size])
            prompts = torch.tensor([read[i] for i in index.tolist()], device=plain.ids.device)
            some = part_of(plain, index)
            typed = some.retyped(prompts, is_special(self.group.subject, prompts))
            part = target._replace(plain=some, pack=typed, batch=select(target.batch, index.to(plain.ids.device)))
            none = torch.zeros(len(index), 1, 0, self.group.subject.d_model, device=plain.ids.device)
            measured = remeasure(self.group, part, none, 1, self.pack_size)
            used = float(size - plain.readout - 1)
            rows |= {i: _spent(row, used) for i, row in zip(index.tolist(), measured, strict=True)}
        return [rows[i] for i in range(len(plain))]


def _spent(row: Row, used: float) -> Row:
    """A row whose perturbation is ``used`` tokens."""
    row |= {"delta_norm": used, "delta_eps": used, "delta_site_norms": [used]}
    return row | ({"first_success_eps": used} if row["recovered"] else {})


def _cost(problem: TokenProblem, example: int, seconds: float) -> Row:
    """What an example cost over all its restarts, with one more forward for the clean re-measurement."""
    own = problem.example == example
    backwards = int(problem.backwards[own].sum())
    forwards = int(problem.forwards[own].sum()) + 1
    return {"steps": backwards, "forwards": forwards, "backwards": backwards, "seconds": seconds}


def _champions(problem: TokenProblem, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(examples,) each: the row of the best restart, and whether it reached the goal; what is not read as it was meant
    comes last."""
    examples, restarts = problem.grid
    objective, reached = problem.evaluate(tokens)
    sound = problem.faithful(tokens)
    top = torch.finfo(objective.dtype).max
    score = torch.where(reached, top, objective).masked_fill(~sound, -top)
    best = score.view(examples, restarts).argmax(1) + restarts * torch.arange(examples, device=score.device)
    return best, (reached & sound)[best]
